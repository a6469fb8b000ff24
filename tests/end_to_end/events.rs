//! OpenLineage events: what a run writes, and how `events` sends each of them once.

use std::{
    fs,
    io::{Read, Write},
    net::TcpStream,
    sync::LazyLock,
    thread,
};

use serde_json::Value;

use crate::workspace::Workspace;

const EVENTS: &str = "data/events/openlineage.jsonl";

/// A workspace in which five stages ran and one failed: twelve events.
static RUN: LazyLock<Workspace> = LazyLock::new(|| {
    let workspace = Workspace::shared("events");
    workspace.replace_with(&Workspace::new());
    workspace.run_until("tokenize");
    workspace.configure("vocab { size = 3 }");
    workspace.fail(&["run", "--until", "tokenize"]);
    workspace
});

fn copy() -> Workspace {
    Workspace::copy_of(&RUN)
}

fn events() -> Vec<Value> {
    fs::read_to_string(RUN.path(EVENTS)).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Requires the members that OpenLineage.json 2-0-2 requires of RunEvent, Run, Job, Dataset and BaseFacet.
fn require_event(event: &Value) {
    for member in ["eventTime", "producer", "schemaURL"] {
        assert!(event[member].is_string(), "{member} in {event}");
    }
    assert!(event["producer"].as_str().unwrap().contains(':'));
    assert!(event["schemaURL"].as_str().unwrap().starts_with("https://openlineage.io/spec/"));
    let time = event["eventTime"].as_str().unwrap();
    assert!(time.len() == 20 && time.ends_with('Z') && &time[10..11] == "T", "{time}");
    assert!(["START", "COMPLETE", "FAIL"].contains(&event["eventType"].as_str().unwrap()));
    let id: Vec<&str> = event["run"]["runId"].as_str().unwrap().split('-').collect();
    assert!(id.iter().map(|part| part.len()).eq([8, 4, 4, 4, 12]) && id.concat().bytes().all(|byte| byte.is_ascii_hexdigit()), "{id:?}");
    assert!(event["job"]["namespace"].is_string() && event["job"]["name"].is_string());
    let facets = |value: &Value| value.as_object().into_iter().flatten().map(|(_, facet)| facet.clone()).collect::<Vec<_>>();
    let mut all = [facets(&event["run"]["facets"]), facets(&event["job"]["facets"])].concat();
    for dataset in event["inputs"].as_array().unwrap().iter().chain(event["outputs"].as_array().unwrap()) {
        assert!(dataset["namespace"].is_string() && dataset["name"].is_string());
        all.extend([facets(&dataset["facets"]), facets(&dataset["outputFacets"])].concat());
    }
    for facet in all {
        assert!(facet["_producer"].is_string() && facet["_schemaURL"].as_str().unwrap().starts_with("https://openlineage.io/"), "{facet}");
    }
}

#[test]
fn every_run_of_a_stage_has_a_start_and_an_end() {
    let events = events();
    events.iter().for_each(require_event);
    let found: Vec<(&str, &str)> =
        events.iter().map(|event| (event["job"]["name"].as_str().unwrap(), event["eventType"].as_str().unwrap())).collect();
    let complete =
        ["harvest", "ingest", "parse", "vocab", "tokenize"].into_iter().flat_map(|stage| [(stage, "START"), (stage, "COMPLETE")]);
    let expected: Vec<_> = complete.chain([("vocab", "START"), ("vocab", "FAIL")]).collect();
    assert_eq!(found, expected);
    for pair in events.chunks(2) {
        assert_eq!(pair[0]["run"]["runId"], pair[1]["run"]["runId"]);
    }
}

#[test]
fn an_event_has_the_versions_of_its_inputs_and_the_rows_of_its_outputs() {
    let events = events();
    let (parse, syntax) = (&events[5], RUN.manifest("syntax"));
    let version = |dataset: &Value| dataset["facets"]["version"]["datasetVersion"].as_str().unwrap().to_owned();
    assert_eq!(version(&parse["inputs"][0]), syntax["inputs"]["functions"]["digest"].as_str().unwrap());
    assert_eq!(parse["outputs"][0]["outputFacets"]["outputStatistics"]["rowCount"], syntax["rows"]["written"]);
    assert!(events.last().unwrap()["run"]["facets"]["errorMessage"]["message"].is_string());
}

#[test]
fn events_are_appended_to_a_file_once_and_an_incomplete_line_is_not_sent() {
    let workspace = copy();
    let lines = fs::read_to_string(workspace.path(EVENTS)).unwrap();
    fs::write(workspace.path(EVENTS), format!("{lines}{{\"torn")).unwrap();
    let send = || workspace.run(&["events", "--to", "received.jsonl"]).0;
    assert!(send().starts_with("12 events sent"));
    assert!(send().starts_with("0 events sent"));
    assert_eq!(fs::read_to_string(workspace.path("received.jsonl")).unwrap().lines().count(), 12);
}

/// The server answers the sixth request with an error.
#[test]
fn a_server_that_fails_once_gets_each_event_once() {
    let workspace = copy();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let server = thread::spawn(move || {
        let (mut bodies, mut requests) = (Vec::new(), 0);
        while bodies.len() < 12 {
            let (mut stream, _) = listener.accept().unwrap();
            let body = read_post(&mut stream);
            requests += 1;
            let answer = if requests == 6 { "503 Service Unavailable" } else { "201 Created" };
            if requests != 6 {
                bodies.push(body);
            }
            write!(stream, "HTTP/1.1 {answer}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n").unwrap();
        }
        bodies
    });
    let error = workspace.fail(&["events", "--to", &address]);
    assert!(error.contains("503") && error.contains("5 events were sent"), "{error}");
    let (text, _) = workspace.run(&["events", "--to", &address]);
    assert!(text.starts_with("7 events sent"), "{text}");
    assert_eq!(server.join().unwrap(), events());
}

/// The body of one request.
fn read_post(stream: &mut TcpStream) -> Value {
    let mut bytes = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        let count = stream.read(&mut buffer).unwrap();
        bytes.extend_from_slice(&buffer[..count]);
        let text = String::from_utf8_lossy(&bytes);
        let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
        assert!(head.starts_with("POST /api/v1/lineage "), "{head}");
        let length = head
            .lines()
            .find_map(|line| line.to_ascii_lowercase().strip_prefix("content-length: ").map(|text| text.parse::<usize>().unwrap()));
        if body.len() >= length.unwrap() {
            return serde_json::from_str(body).unwrap();
        }
    }
}

/// A run with a server that cannot be reached is complete, and keeps its events.
#[test]
fn a_run_sends_its_events_to_the_server_of_the_environment() {
    let workspace = copy();
    workspace.configure("");
    let run = |to: &str| {
        let output = workspace.command(&["run", "--until", "tokenize"]).env("OPENLINEAGE_URL", to).output().unwrap();
        assert!(output.status.success());
        String::from_utf8_lossy(&output.stderr).into_owned()
    };
    assert!(run("http://127.0.0.1:9").contains("codenets events"));
    run(workspace.path("received.jsonl").to_str().unwrap());
    assert_eq!(fs::read_to_string(workspace.path("received.jsonl")).unwrap().lines().count(), 12);
}
