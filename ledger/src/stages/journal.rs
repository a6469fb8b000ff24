//! The journal: rows, bytes, time and memory of each stage, from the current manifests.

use serde_json::{Map, Value, json};

use crate::{artifacts::manifest::Manifest, store::artifact_store::Store};

/// What the last run of each stage did: a table, and the same numbers as flat keys (`ingest_rows_per_s`).
pub fn journal(store: &Store) -> (String, Map<String, Value>) {
    let manifests: Vec<Manifest> =
        store.kinds().iter().filter_map(|kind| store.current_manifest(kind).map(|(_, manifest)| manifest)).collect();
    let mut text = format!(
        "{:<9} {:>9} {:>9} {:>9} {:>9} {:>9} {:>8} {:>8} {:>9} {:>8} {:>7}\n",
        "stage", "rows in", "rows out", "rejected", "MiB in", "MiB out", "seconds", "MB/s", "rows/s", "RSS MiB", "reused"
    );
    let mut flat = Map::new();
    for manifest in manifests {
        let (host, rows) = (&manifest.host, manifest.rows);
        let seconds = host.wall_s.max(1e-6);
        // The throughput of a stage that reads no artifact is measured by its output.
        let bytes = if manifest.bytes_in() > 0 { manifest.bytes_in() } else { manifest.bytes_out() };
        let (mb_per_s, rows_per_s) = (bytes as f64 / 1e6 / seconds, rows.read as f64 / seconds);
        let mib = |bytes: u64| bytes as f64 / (1 << 20) as f64;
        text += &format!(
            "{:<9} {:>9} {:>9} {:>9} {:>9.1} {:>9.1} {:>8.1} {:>8.1} {:>9.0} {:>8} {:>7}\n",
            manifest.stage,
            rows.read,
            rows.written,
            rows.rejected,
            mib(manifest.bytes_in()),
            mib(manifest.bytes_out()),
            seconds,
            mb_per_s,
            rows_per_s,
            host.peak_rss_mib,
            format!("{}/{}", host.shards_reused, host.shards_reused + host.shards_run),
        );
        for (key, value) in [
            ("rows_in", json!(rows.read)),
            ("rows_out", json!(rows.written)),
            ("rows_rejected", json!(rows.rejected)),
            ("bytes_in", json!(manifest.bytes_in())),
            ("bytes_out", json!(manifest.bytes_out())),
            ("wall_s", json!(host.wall_s)),
            ("mb_per_s", json!(mb_per_s)),
            ("rows_per_s", json!(rows_per_s)),
            ("peak_rss_mib", json!(host.peak_rss_mib)),
            ("threads", json!(host.threads)),
            ("shards_reused", json!(host.shards_reused)),
        ] {
            flat.insert(format!("{}_{key}", manifest.stage), value);
        }
    }
    (text, flat)
}
