//! OpenLineage run events (`OpenLineage.json` of the public specification, version 2-0-2): one JSON line when a stage starts and one when
//! it ends, in `events/openlineage.jsonl` of the data folder. `codenets events` sends them to a server.
//!
//! An event that cannot be written never fails a stage.

use std::{
    collections::BTreeMap,
    fs::{self, OpenOptions},
    io::{self, Read, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
    time::{SystemTime, UNIX_EPOCH},
};

use serde_json::{Value, json};
use uuid::Uuid;

use crate::{
    artifacts::manifest::{InputRecord, Manifest},
    clock::{rfc3339, unix_now},
    digest::Digest,
    error::{Context, Error, Result, chain},
    store::artifact_store::Store,
};

const SPECIFICATION: &str = "https://openlineage.io/spec/2-0-2/OpenLineage.json#/$defs/";
const FACETS: &str = "https://openlineage.io/spec/facets/";
/// Namespace of jobs and of datasets.
const NAMESPACE: &str = "codenets";

/// File of the events of a data folder.
pub fn event_file(data: &Path) -> PathBuf {
    data.join("events").join("openlineage.jsonl")
}

/// A run of a stage that has started.
#[derive(Debug)]
pub(crate) struct Run {
    id: Uuid,
    stage: String,
    config: Value,
    inputs: Vec<Value>,
}

/// How a run ended.
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
        event(kind, unix_s, self.id, &self.stage, facets, &self.inputs, outputs)
    }

    fn write(&self, store: &Store, event: &Value) {
        if let Err(error) = append_event(&event_file(store.root()), event) {
            store.progress().message(&format!("{:<9} OpenLineage event not written: {}", self.stage, chain(&error)));
        }
    }
}

fn event(kind: &str, unix_s: u64, id: Uuid, stage: &str, facets: Value, inputs: &[Value], outputs: Vec<Value>) -> Value {
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

/// A UUID (RFC 9562, version 8) of a digest of these texts.
fn run_id(parts: &[&str]) -> Uuid {
    let digest = Digest::of_bytes(parts.join("\n").as_bytes());
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&digest.as_bytes()[..16]);
    uuid::Builder::from_custom_bytes(bytes).into_uuid()
}

/// Adds an event to a file with one write, so that the lines of two processes do not mix. A line that a full disk cut off is ended first.
pub fn append_event(path: &Path, event: &Value) -> Result<()> {
    let folder = path.parent().context("a file path needs a folder")?;
    fs::create_dir_all(folder).map_err(Error::io("creating", folder))?;
    append_line(path, event).map_err(Error::io("writing", path))
}

fn append_line(path: &Path, event: &Value) -> io::Result<()> {
    let mut file = OpenOptions::new().read(true).create(true).append(true).open(path)?;
    let mut last = [b'\n'];
    if file.metadata()?.len() > 0 {
        file.seek(SeekFrom::End(-1))?;
        file.read_exact(&mut last)?;
    }
    let end = if last == *b"\n" { "" } else { "\n" };
    file.write_all(format!("{end}{event}\n").as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_id_is_a_uuid_of_version_8_and_depends_on_the_texts_only() {
        let id = run_id(&["parse", "0123456789ab", "1"]);
        assert_eq!((id.get_version_num(), id.get_variant()), (8, uuid::Variant::RFC4122));
        assert_eq!(id, run_id(&["parse", "0123456789ab", "1"]));
        assert_ne!(id, run_id(&["parse", "0123456789ab", "2"]));
    }

    #[test]
    fn an_event_after_a_line_that_was_cut_off_begins_a_new_line() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("events/file.jsonl");
        append_event(&path, &json!(1)).unwrap();
        append_event(&path, &json!(2)).unwrap();
        fs::write(&path, "1\n2\n{\"cut").unwrap();
        append_event(&path, &json!(3)).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "1\n2\n{\"cut\n3\n");
    }
}
