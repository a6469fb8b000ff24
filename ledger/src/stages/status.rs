//! The state of every stage: the rows of `codenets status` and `codenets plan`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{
    freshness::Freshness,
    inputs::Inputs,
    stage::{Report, Stage},
};
use crate::{artifacts::recordable::Recordable, clock::unix_now, error::Result, store::artifact_store::Store};

/// One row of `codenets status`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StageStatus {
    /// Name of the stage.
    pub stage: String,
    /// Artifact kind that it writes.
    pub kind: String,
    /// Artifact kinds that it reads.
    pub inputs: Vec<String>,
    /// `up to date`, `missing`, `after`, …
    pub state: String,
    /// The reason.
    pub why: String,
    /// Would a run of all stages run it?
    pub will_run: bool,
    /// Key of the current artifact.
    pub key: Option<String>,
    /// Seconds since the artifact was written.
    pub age_s: Option<u64>,
    pub rows: Option<u64>,
    pub bytes: Option<u64>,
    /// What the stage left out, by reason.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub left_out: BTreeMap<String, u64>,
}

impl StageStatus {
    /// The status of a stage, given the status of the stages before it.
    pub fn of<S: Stage>(store: &Store, config: &S::Config, before: &[StageStatus]) -> Result<Self> {
        let own = store.freshness::<S>(config)?;
        let inputs: Vec<String> = S::Inputs::kinds().into_iter().map(str::to_owned).collect();
        let pending = before.iter().find(|stage| stage.will_run && inputs.contains(&stage.kind));
        let (state, why) = match (&own, pending) {
            (Freshness::UpToDate | Freshness::InputsChanged { .. } | Freshness::Waiting { .. }, Some(stage)) => {
                ("after".to_owned(), format!("{} will run first; this stage runs if the bytes of its inputs change", stage.stage))
            }
            _ => (own.word().to_owned(), own.to_string()),
        };
        let manifest = store.current_manifest(S::Output::KIND).map(|(_, manifest)| manifest);
        Ok(Self {
            stage: S::NAME.to_owned(),
            kind: S::Output::KIND.to_owned(),
            inputs,
            will_run: !own.is_up_to_date() || pending.is_some(),
            state,
            why,
            key: manifest.as_ref().map(|manifest| manifest.key.clone()),
            age_s: manifest.as_ref().map(|manifest| unix_now().saturating_sub(manifest.host.finished_unix_s)),
            rows: manifest.as_ref().map(|manifest| manifest.rows.written),
            bytes: manifest.as_ref().map(|manifest| manifest.bytes_out()),
            left_out: manifest
                .and_then(|manifest| Some(serde_json::from_value::<S::Report>(manifest.report).ok()?.left_out()))
                .unwrap_or_default(),
        })
    }

    /// The status of a stage that writes no artifact. `target`: what it updates; `freshness`: state and reason.
    pub fn without_artifact(name: &str, target: &str, inputs: &[&str], freshness: (&str, &str), will_run: bool) -> Self {
        Self {
            stage: name.to_owned(),
            kind: target.to_owned(),
            inputs: inputs.iter().map(|&input| input.to_owned()).collect(),
            state: freshness.0.to_owned(),
            why: freshness.1.to_owned(),
            will_run,
            key: None,
            age_s: None,
            rows: None,
            bytes: None,
            left_out: BTreeMap::new(),
        }
    }
}

/// The stages as a tree: a stage is below the stage that writes its deepest input.
pub fn render_status(stages: &[StageStatus]) -> String {
    let branch = |index: usize| match depth(stages, index) {
        0 => String::new(),
        depth => format!("{}└─ ", "  ".repeat(depth - 1)),
    };
    let names: Vec<String> =
        stages.iter().enumerate().map(|(index, stage)| format!("{}{} -> {}", branch(index), stage.stage, stage.kind)).collect();
    let width = names.iter().map(|name| name.chars().count()).max().unwrap_or_default();
    let line = |cells: [&str; 6]| {
        let [name, key, age, rows, size, state] = cells;
        format!("{name:<width$} {key:<12} {age:>5} {rows:>9} {size:>8}  {state}\n")
    };
    let mut text = line(["stage -> kind", "key", "age", "rows", "MiB", "state"]);
    for (stage, name) in stages.iter().zip(&names) {
        let shown = |value: Option<String>| value.unwrap_or_else(|| "-".to_owned());
        // Many reasons begin with the state.
        let state = if stage.why.starts_with(&stage.state) { stage.why.clone() } else { format!("{}: {}", stage.state, stage.why) };
        text += &line([
            name,
            &shown(stage.key.clone()),
            &shown(stage.age_s.map(age)),
            &shown(stage.rows.map(|rows| rows.to_string())),
            &shown(stage.bytes.map(|bytes| format!("{:.1}", bytes as f64 / (1 << 20) as f64))),
            &state,
        ]);
    }
    text + &stages.iter().filter_map(left_out).collect::<String>()
}

/// Reasons in the line of what a stage left out.
const REASONS: usize = 8;

/// A line with what a stage left out, the most frequent reasons first.
fn left_out(stage: &StageStatus) -> Option<String> {
    let mut reasons: Vec<(&String, &u64)> = stage.left_out.iter().collect();
    reasons.sort_by_key(|(reason, count)| (u64::MAX - **count, *reason));
    let more: u64 = reasons.iter().skip(REASONS).map(|(_, count)| **count).sum();
    let mut shown: Vec<String> = reasons.iter().take(REASONS).map(|(reason, count)| format!("{reason} {count}")).collect();
    shown.extend((more > 0).then(|| format!("other reasons {more}")));
    (!shown.is_empty()).then(|| format!("{} left out: {}\n", stage.stage, shown.join(", ")))
}

fn depth(stages: &[StageStatus], index: usize) -> usize {
    let parents = stages[index].inputs.iter().filter_map(|kind| stages[..index].iter().position(|other| other.kind == *kind));
    parents.map(|parent| depth(stages, parent) + 1).max().unwrap_or_default()
}

fn age(seconds: u64) -> String {
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3600 => format!("{}m", seconds / 60),
        3600..172_800 => format!("{}h", seconds / 3600),
        _ => format!("{}d", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tree_gives_the_reason() {
        let stage = |stage: &str, kind: &str, inputs: &[&str], state: &str, why: &str| StageStatus {
            stage: stage.into(),
            kind: kind.into(),
            inputs: inputs.iter().map(|&kind| kind.into()).collect(),
            state: state.into(),
            why: why.into(),
            will_run: state != "up to date",
            key: (state != "missing").then(|| "0123456789ab".into()),
            age_s: (state != "missing").then_some(7200),
            rows: (state != "missing").then_some(1400),
            bytes: (state != "missing").then_some(3 << 20),
            left_out: if stage == "ingest" { (1..12).map(|count| (format!("reason {count}"), count)).collect() } else { BTreeMap::new() },
        };
        insta::assert_snapshot!(render_status(&[
            stage("ingest", "functions", &["raw"], "up to date", "up to date"),
            stage("parse", "syntax", &["functions"], "config changed", "config changed: max-tokens"),
            stage("vocab", "vocabulary", &["syntax"], "missing", "not recorded yet"),
        ]));
    }
}
