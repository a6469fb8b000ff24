//! `diff`: what changed between two builds, stage by stage: code, configuration keys, inputs, rows, scores.

use std::{collections::BTreeMap, fmt::Write};

use ledger::{ARTIFACT_KINDS, Manifest, differing_keys};
use serde::Serialize;
use serde_json::Value;

use crate::lineage::{Lineage, commit};

/// Before and after.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Change {
    pub what: String,
    pub a: Value,
    pub b: Value,
}

/// What differs in one kind of artifact.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct KindDiff {
    pub kind: String,
    /// Are the output's bytes the same? None: one of the two has no such artifact.
    pub same_bytes: Option<bool>,
    pub changes: Vec<Change>,
}

/// Of two lineages, in the order of the road. Of several artifacts of one kind the one nearest to the target counts.
pub fn diff(a: &Lineage, b: &Lineage) -> Vec<KindDiff> {
    let of = |lineage: &Lineage| -> BTreeMap<String, Manifest> {
        let mut ids: Vec<_> = lineage.artifacts.iter().collect();
        ids.sort_by_key(|(id, _)| (lineage.depth(id), **id == lineage.target));
        ids.into_iter().map(|(id, manifest)| (id.kind.clone(), manifest.clone())).collect()
    };
    let (a, b) = (of(a), of(b));
    let kinds = ARTIFACT_KINDS.iter().filter(|&&kind| a.contains_key(kind) || b.contains_key(kind));
    kinds.map(|&kind| kind_diff(kind, a.get(kind), b.get(kind))).collect()
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

/// What either has, with what both have under it.
fn union<'a, T>(a: &'a BTreeMap<String, T>, b: &'a BTreeMap<String, T>) -> BTreeMap<&'a String, (Option<&'a T>, Option<&'a T>)> {
    a.keys().chain(b.keys()).map(|name| (name, (a.get(name), b.get(name)))).collect()
}

fn at(value: &Value, path: &str) -> Value {
    path.split('.').try_fold(value, |value, key| value.get(key)).cloned().unwrap_or(Value::Null)
}

/// Numbers of a report that say how good or how many, by their path; times are of the machine.
fn numbers(report: &Value) -> BTreeMap<String, f64> {
    fn walk(path: &str, value: &Value, into: &mut BTreeMap<String, f64>) {
        match value {
            Value::Number(number) => drop(into.insert(path.to_owned(), number.as_f64().unwrap_or_default())),
            Value::Object(members) => {
                for (name, value) in members {
                    walk(&if path.is_empty() { name.clone() } else { format!("{path}.{name}") }, value, into);
                }
            }
            // Learning curves and per-row lists are not compared number by number.
            _ => {}
        }
    }
    let mut numbers = BTreeMap::new();
    walk("", report, &mut numbers);
    numbers.retain(|name, _| !["_s", "_ms", "wait_share", "per_s"].iter().any(|time| name.ends_with(time)));
    numbers
}

/// A table a kind.
pub fn text(kinds: &[KindDiff]) -> String {
    let mut text = String::new();
    for one in kinds {
        let state = match (one.same_bytes, one.changes.is_empty()) {
            (Some(true), _) => "same bytes",
            (Some(false), _) => "other bytes",
            (None, _) => "only in one of them",
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
    fn numbers_are_found_by_their_path_and_times_are_left_out() {
        let report = json!({"rows": {"read": 3}, "mrr": 0.5, "wall_s": 2.0, "curve": [1, 2], "name": "x"});
        assert_eq!(numbers(&report), BTreeMap::from([("rows.read".to_owned(), 3.0), ("mrr".to_owned(), 0.5)]));
    }

    #[test]
    fn a_diff_reads_as_a_table() {
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
