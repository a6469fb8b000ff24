//! Addresses that are no MLflow server, and servers that refuse.

use std::{
    fs,
    io::{Read, Write},
    net::{SocketAddr, TcpListener},
    sync::mpsc,
    thread,
};

use crate::{
    mlflow::{SYNC, TRAIN, command, succeed},
    workspace::{Workspace, texts},
};

#[test]
fn an_address_that_is_no_server_is_refused_before_a_training() {
    let workspace = Workspace::tokenized();
    for (arguments, address, expected) in [
        (&SYNC[..], "", "MLFLOW_TRACKING_URI"),
        (&SYNC, "databricks", "MLFLOW_TRACKING_URI"),
        (&TRAIN, "file:./mlruns", "MLFLOW_TRACKING_URI"),
        (&TRAIN, "sqlite:///a.db", "MLFLOW_TRACKING_URI"),
    ] {
        let output = command(&workspace, arguments, address).output().unwrap();
        let error = texts(&output).1;
        assert!(!output.status.success() && error.contains(expected) && !error.contains("panicked"), "{address}: {error}");
    }
    assert!(!workspace.path("data/checkpoint/CURRENT").exists());
}

#[test]
fn sync_without_runs_uploads_nothing() {
    let workspace = Workspace::empty();
    assert!(succeed(&command(&workspace, &SYNC, "http://127.0.0.1:9").output().unwrap()).0.contains("nothing to"));
}

/// A run on disk whose spool has lines that are no records.
fn with_damaged_spool() -> Workspace {
    let workspace = Workspace::empty();
    let spool = workspace.path("data/runs/train-a/mlflow/spool.jsonl");
    fs::create_dir_all(spool.parent().unwrap()).unwrap();
    let begin = r#"{"op":"begin","id":"a","name":"train-a","time":1,"params":{},"tags":{}}"#;
    let garbage = "\u{0}\nnull\n{\"op\":\"metrics\"}\n";
    fs::write(&spool, format!("{begin}\n{garbage}{{\"op\":\"end\",\"status\":\"FINISHED\",\"time\":2}}\n")).unwrap();
    workspace
}

/// A server that answers every request with 401; its address, and the requests in lower case.
fn refusing_server() -> (SocketAddr, mpsc::Receiver<String>) {
    let (send, requests) = mpsc::channel();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut request = vec![0; 4096];
            let read = stream.read(&mut request).unwrap();
            send.send(String::from_utf8_lossy(&request[..read]).to_lowercase()).unwrap();
            stream.write_all(b"HTTP/1.1 401 Unauthorized\r\ncontent-length: 4\r\nconnection: close\r\n\r\nwho?").unwrap();
        }
    });
    (address, requests)
}

/// Credentials are sent to the server, and shown nowhere.
#[test]
fn credentials_go_to_the_server_only() {
    let workspace = with_damaged_spool();
    let (address, requests) = refusing_server();
    let refuse = |address: String, name: &str, secret: &str| {
        let mut command = command(&workspace, &SYNC, &address);
        let output = command.env(name, secret).env("MLFLOW_TRACKING_PASSWORD", "se-cret").output().unwrap();
        let (out, err) = texts(&output);
        assert!(!output.status.success() && err.contains("401") && err.contains("MLFLOW_TRACKING_TOKEN"), "{err}");
        assert!(!err.contains("cret") && !out.contains("cret"), "{err}");
        requests.recv().unwrap()
    };
    assert!(refuse(format!("http://{address}"), "MLFLOW_TRACKING_TOKEN", "tok-se-cret").contains("authorization: bearer tok-se-cret"));
    // me:se-cret, in lower case.
    let basic = "authorization: basic bwu6c2uty3jldA==".to_lowercase();
    assert!(refuse(format!("http://{address}"), "MLFLOW_TRACKING_USERNAME", "me").contains(&basic));
    assert!(refuse(format!("http://me:se-cret@{address}/"), "UNRELATED", "").contains(&basic));
}
