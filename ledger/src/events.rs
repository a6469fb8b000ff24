//! OpenLineage run events (`OpenLineage.json` of the public specification, version 2-0-2), a JSON line each, in
//! `events/openlineage.jsonl` of the data folder: when a stage starts, and how it ends. `archive events` sends them on.
//!
//! Best effort: a stage never fails because its event could not be written.

use std::{
    collections::BTreeMap,
    fs::{self, OpenOptions},
    io::Write,
    path::{Path, PathBuf},
    time::{SystemTime, UNIX_EPOCH},
};

use serde_json::{Value, json};

use crate::{
    Digest, Error, Manifest, Store, chain,
    clock::{rfc3339, unix_now},
    error::{Context, Result},
    manifest::InputRecord,
};

const SPECIFICATION: &str = "https://openlineage.io/spec/2-0-2/OpenLineage.json#/$defs/";
const FACETS: &str = "https://openlineage.io/spec/facets/";
/// Of jobs and of datasets.
const NAMESPACE: &str = "codenets";

/// Where events are kept.
pub fn event_file(data: &Path) -> PathBuf {
    data.join("events").join("openlineage.jsonl")
}

/// A run of a stage that has begun.
#[derive(Debug)]
pub(crate) struct Run {
    id: String,
    stage: String,
    config: Value,
    inputs: Vec<Value>,
}

/// How it ended.
#[derive(Debug)]
pub(crate) enum Outcome<'a> {
    Complete(&'a Manifest),
    Failed(&'a Error),
}

impl Run {
    pub(crate) fn start(store: &Store, stage: &str, key: &str, config: &Value, inputs: &BTreeMap<String, InputRecord>) -> Self {
        let nanos = SystemTime::now().duration_since(UNIX_EPOCH).map(|elapsed| elapsed.as_nanos()).unwrap_or_default();
        let id = run_id(&[stage, key, &nanos.to_string(), &std::process::id().to_string()]);
        let run = Self { id, stage: stage.to_owned(), config: config.clone(), inputs: datasets(inputs) };
        run.write(store, &run.event("START", unix_now(), json!({}), Vec::new()));
        run
    }

    pub(crate) fn end(&self, store: &Store, outcome: &Outcome<'_>) {
        let event = match outcome {
            Outcome::Complete(manifest) => {
                self.event("COMPLETE", manifest.host.finished_unix_s, run_facets(manifest), vec![output(manifest)])
            }
            Outcome::Failed(error) => {
                let message = json!({ "message": chain(error), "programmingLanguage": "Rust" });
                let facets = json!({ "errorMessage": facet(message, "1-0-1/ErrorMessageRunFacet.json#/$defs/ErrorMessageRunFacet") });
                self.event("FAIL", unix_now(), facets, Vec::new())
            }
        };
        self.write(store, &event);
    }

    fn event(&self, kind: &str, unix_s: u64, mut facets: Value, outputs: Vec<Value>) -> Value {
        facets["codenets_config"] = custom_run_facet(json!({ "config": self.config }));
        event(kind, unix_s, &self.id, &self.stage, facets, &self.inputs, outputs)
    }

    fn write(&self, store: &Store, event: &Value) {
        if let Err(error) = append_event(&event_file(store.root()), event) {
            store.progress().message(&format!("{:<9} its OpenLineage event is lost: {}", self.stage, chain(&error)));
        }
    }
}

fn event(kind: &str, unix_s: u64, id: &str, stage: &str, facets: Value, inputs: &[Value], outputs: Vec<Value>) -> Value {
    let job_type = json!({ "processingType": "BATCH", "integration": "CODENETS", "jobType": "STAGE" });
    json!({
        "eventType": kind,
        "eventTime": rfc3339(unix_s),
        "run": { "runId": id, "facets": facets },
        "job": { "namespace": NAMESPACE, "name": stage, "facets": { "jobType": facet(job_type, "2-0-3/JobTypeJobFacet.json#/$defs/JobTypeJobFacet") } },
        "inputs": inputs,
        "outputs": outputs,
        "producer": producer(),
        "schemaURL": format!("{SPECIFICATION}RunEvent"),
    })
}

fn producer() -> String {
    concat!("urn:codenets:", env!("CARGO_PKG_VERSION")).to_owned()
}

fn facet(mut members: Value, schema: &str) -> Value {
    members["_producer"] = producer().into();
    members["_schemaURL"] = format!("{FACETS}{schema}").into();
    members
}

fn custom_run_facet(mut members: Value) -> Value {
    members["_producer"] = producer().into();
    members["_schemaURL"] = format!("{SPECIFICATION}RunFacet").into();
    members
}

fn run_facets(manifest: &Manifest) -> Value {
    let host = &manifest.host;
    json!({ "codenets_run": custom_run_facet(json!({
        "key": manifest.key, "revision": manifest.revision, "tool": host.tool, "commit": host.commit.id, "dirty": host.commit.dirty,
        "wallSeconds": host.wall_s, "peakRssMib": host.peak_rss_mib, "threads": host.threads,
        "rowsRead": manifest.rows.read, "rowsRejected": manifest.rows.rejected,
    })) })
}

fn version(digest: Digest) -> Value {
    let version = json!({ "datasetVersion": digest });
    json!({ "version": facet(version, "1-0-1/DatasetVersionDatasetFacet.json#/$defs/DatasetVersionDatasetFacet") })
}

fn datasets(inputs: &BTreeMap<String, InputRecord>) -> Vec<Value> {
    inputs.iter().map(|(name, input)| json!({ "namespace": NAMESPACE, "name": name, "facets": version(input.digest) })).collect()
}

fn output(manifest: &Manifest) -> Value {
    let facets = manifest.digest().map_or_else(|_| json!({}), version);
    let statistics = json!({ "rowCount": manifest.rows.written, "size": manifest.bytes_out(), "fileCount": manifest.outputs.len() });
    let schema = "1-0-2/OutputStatisticsOutputDatasetFacet.json#/$defs/OutputStatisticsOutputDatasetFacet";
    json!({
        "namespace": NAMESPACE, "name": manifest.kind, "facets": facets,
        "outputFacets": { "outputStatistics": facet(statistics, schema) },
    })
}

/// A UUID (RFC 9562, version 8) out of a digest of these texts.
fn run_id(parts: &[&str]) -> String {
    let digest = Digest::of_bytes(parts.join("\n").as_bytes()).to_string();
    // The 13th digit is the version, the 17th begins with the bits 10.
    let variant = ["8", "9", "a", "b"][usize::from(digest.as_bytes()[16]) % 4];
    format!("{}-{}-8{}-{variant}{}-{}", &digest[..8], &digest[8..12], &digest[13..16], &digest[17..20], &digest[20..32])
}

/// Adds an event to a file: one write, so that two processes' lines do not mix.
pub fn append_event(path: &Path, event: &Value) -> Result<()> {
    fs::create_dir_all(path.parent().context("a file lies in a folder")?)?;
    let mut file = OpenOptions::new().create(true).append(true).open(path)?;
    file.write_all(format!("{event}\n").as_bytes())?;
    Ok(())
}
