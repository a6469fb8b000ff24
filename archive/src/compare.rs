//! Compares two builds kind by kind: code, configuration keys, inputs, rows, scores.

use std::{collections::BTreeMap, fmt::Write};

use ledger::{ArtifactId, Manifest, differing_keys};
use serde::Serialize;
use serde_json::Value;

use crate::lineage::{Lineage, commit};

/// A value that differs: in `a` and in `b`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Change {
    pub what: String,
    pub a: Value,
    pub b: Value,
}

/// The differences in one artifact kind.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct KindDiff {
    pub kind: String,
    /// Are the output bytes equal? None where only one of the builds has such an artifact.
    pub same_bytes: Option<bool>,
    pub changes: Vec<Change>,
}

/// The differences between two lineages.
///
/// * `kinds`: the artifact kinds to compare, in the order of the result ([`Store::kinds`](ledger::Store::kinds)).
///
/// Where a lineage has several artifacts of a kind, the one nearest to the target is compared.
pub fn diff(a: &Lineage, b: &Lineage, kinds: &[&'static str]) -> Vec<KindDiff> {
    let (of_a, of_b) = (by_kind(a), by_kind(b));
    let kinds = kinds.iter().filter(|&&kind| of_a.contains_key(kind) || of_b.contains_key(kind));
    kinds.map(|&kind| kind_diff(kind, of_a.get(kind).map(|&id| &a.artifacts[id]), of_b.get(kind).map(|&id| &b.artifacts[id]))).collect()
}

/// The artifact of a kind that [`diff`] compares.
pub fn nearest(lineage: &Lineage, kind: &str) -> Option<ArtifactId> {
    by_kind(lineage).remove(kind).cloned()
}

/// The artifact of each kind that is nearest to the target.
fn by_kind(lineage: &Lineage) -> BTreeMap<&str, &ArtifactId> {
    let mut ids: Vec<&ArtifactId> = lineage.artifacts.keys().collect();
    // Later entries replace earlier ones of the same kind.
    ids.sort_by_key(|id| (lineage.depth(id), **id == lineage.target));
    ids.into_iter().map(|id| (id.kind.as_str(), id)).collect()
}

fn kind_diff(kind: &str, a: Option<&Manifest>, b: Option<&Manifest>) -> KindDiff {
    let mut changes = Vec::new();
    let Some((a, b)) = a.zip(b) else {
        let key = |manifest: Option<&Manifest>| manifest.map_or(Value::Null, |manifest| manifest.key.clone().into());
        return KindDiff {
            kind: kind.to_owned(),
            same_bytes: None,
            changes: vec![Change { what: "key".to_owned(), a: key(a), b: key(b) }],
        };
    };
    let mut compare = |what: String, a: Value, b: Value| {
        if a != b {
            changes.push(Change { what, a, b });
        }
    };
    compare("stage".to_owned(), a.stage.clone().into(), b.stage.clone().into());
    compare("revision".to_owned(), a.revision.into(), b.revision.into());
    compare("commit".to_owned(), commit(a).into(), commit(b).into());
    compare("tool".to_owned(), a.host.tool.clone().into(), b.host.tool.clone().into());
    let mut keys = Vec::new();
    differing_keys("", &a.config, &b.config, &mut keys);
    for key in keys {
        compare(format!("config {key}"), at(&a.config, &key), at(&b.config, &key));
    }
    for (name, value) in union(&a.inputs, &b.inputs) {
        let digest = |input: Option<&ledger::InputRecord>| input.map_or(Value::Null, |input| input.digest.short().into());
        compare(format!("input {name}"), digest(value.0), digest(value.1));
    }
    for (name, a, b) in [
        ("rows read", a.rows.read, b.rows.read),
        ("rows written", a.rows.written, b.rows.written),
        ("rows rejected", a.rows.rejected, b.rows.rejected),
        ("bytes", a.bytes_out(), b.bytes_out()),
    ] {
        compare(name.to_owned(), a.into(), b.into());
    }
    let (scores_a, scores_b) = (numbers(&a.report), numbers(&b.report));
    for (name, (a, b)) in union(&scores_a, &scores_b) {
        let value = |number: Option<&f64>| number.map_or(Value::Null, |&number| number.into());
        compare(format!("report {name}"), value(a), value(b));
    }
    let same = a.digest().ok().zip(b.digest().ok()).map(|(a, b)| a == b);
    KindDiff { kind: kind.to_owned(), same_bytes: same, changes }
}

/// The names of both maps, each with its two values.
fn union<'a, T>(a: &'a BTreeMap<String, T>, b: &'a BTreeMap<String, T>) -> BTreeMap<&'a String, (Option<&'a T>, Option<&'a T>)> {
    a.keys().chain(b.keys()).map(|name| (name, (a.get(name), b.get(name)))).collect()
}

fn at(value: &Value, path: &str) -> Value {
    path.split('.').try_fold(value, |value, key| value.get(key)).cloned().unwrap_or(Value::Null)
}

/// The numbers of a report by their path. Durations are left out: they depend on the machine.
fn numbers(report: &Value) -> BTreeMap<String, f64> {
    fn walk(path: &str, value: &Value, into: &mut BTreeMap<String, f64>) {
        match value {
            Value::Number(number) => drop(into.insert(path.to_owned(), number.as_f64().unwrap_or_default())),
            Value::Object(members) => {
                for (name, value) in members {
                    walk(&if path.is_empty() { name.clone() } else { format!("{path}.{name}") }, value, into);
                }
            }
            // Lists (learning curves, values of single rows) are not compared number by number.
            _ => {}
        }
    }
    let mut numbers = BTreeMap::new();
    walk("", report, &mut numbers);
    numbers.retain(|name, _| !["_s", "_ms", "wait_share", "per_s"].iter().any(|time| name.ends_with(time)));
    numbers
}

/// One block for each kind, for people.
pub fn text(kinds: &[KindDiff]) -> String {
    let mut text = String::new();
    for one in kinds {
        let state = match (one.same_bytes, one.changes.is_empty()) {
            (Some(true), _) => "same bytes",
            (Some(false), _) => "other bytes",
            (None, _) => "only in one of the two",
        };
        let _ = writeln!(text, "{:<11} {state}", one.kind);
        for change in &one.changes {
            let _ = write!(text, "  {:<44} {} -> {}", change.what, shown(&change.a), shown(&change.b));
            if let (Some(a), Some(b)) = (change.a.as_f64(), change.b.as_f64())
                && change.what.starts_with("report ")
            {
                let _ = write!(text, "  ({:+.4})", b - a);
            }
            text.push('\n');
        }
    }
    text
}

fn shown(value: &Value) -> String {
    match value {
        Value::Null => "nothing".to_owned(),
        Value::String(text) => text.clone(),
        Value::Number(number) if number.is_f64() => format!("{:.4}", number.as_f64().unwrap_or_default()),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn numbers_are_named_by_their_path_and_durations_are_ignored() {
        let report = json!({"rows": {"read": 3}, "mrr": 0.5, "wall_s": 2.0, "curve": [1, 2], "name": "x"});
        assert_eq!(numbers(&report), BTreeMap::from([("rows.read".to_owned(), 3.0), ("mrr".to_owned(), 0.5)]));
    }

    #[test]
    fn a_diff_is_one_block_for_each_kind() {
        let change = |what: &str, a: Value, b: Value| Change { what: what.to_owned(), a, b };
        insta::assert_snapshot!(text(&[
            KindDiff { kind: "raw".into(), same_bytes: Some(true), changes: vec![] },
            KindDiff {
                kind: "scores".into(),
                same_bytes: Some(false),
                changes: vec![
                    change("config judged", Value::Null, json!("cosqa")),
                    change("rows written", json!(10), json!(12)),
                    change("report mrr", json!(0.25), json!(0.5)),
                ],
            },
        ]));
    }
}
