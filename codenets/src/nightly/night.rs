//! The record of a night, and what of it a person reads first.

use std::collections::BTreeMap;

use indexer::bundle_diff::BundleDiff;
use serde::{Deserialize, Serialize};

use super::{drift::Drift, sources::KeptRepository};
use crate::releases::score_of;

/// How a night ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Ending {
    /// A new bundle is published.
    Published,
    /// The published bundle is that of the sources.
    Unchanged,
    /// The new bundle did not pass a gate: the published one stays.
    HeldBack,
    /// A step failed: the published bundle stays.
    Failed,
}

/// One stage of a night.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StageRun {
    pub stage: String,
    /// Did it run, or was it up to date?
    pub ran: bool,
    /// Why it ran.
    pub why: String,
    pub wall_s: f64,
    /// CPU time of its process.
    pub cpu_s: f64,
}

/// The record of a night: a line of `reports/nights.jsonl`, and `reports/nightly.json` of the last one.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Night {
    pub started_unix_s: u64,
    pub wall_s: f64,
    pub cpu_s: f64,
    pub ending: Ending,
    /// What stopped it, or held the bundle back.
    pub why: Option<String>,
    /// Reason for which a bundle was published without gates.
    pub forced: Option<String>,
    /// Release of the encoder.
    pub release: Option<String>,
    /// What happened to the encoder, where one was trained.
    pub training: Option<String>,
    /// Bundle that is published now.
    pub published: Option<String>,
    pub stages: Vec<StageRun>,
    /// Empty where no bundle was published before, or nothing changed.
    #[serde(flatten)]
    pub change: BundleDiff,
    /// Functions of the published bundle.
    pub rows: u64,
    /// Repositories that were not read.
    #[serde(default)]
    pub kept: Vec<KeptRepository>,
    /// What harvest and ingest left out, by reason.
    pub left_out: BTreeMap<String, u64>,
    /// Scores of the recorded bundle.
    pub scores: BTreeMap<String, f64>,
    /// Drift since the first night with the release; none where it was not measured.
    #[serde(default)]
    pub drift: Option<Drift>,
    /// The published bundle that the next publication deletes.
    #[serde(default)]
    pub deleted_next: Option<String>,
    /// Unreferenced artifacts that were deleted.
    pub deleted: u64,
    pub deleted_bytes: u64,
    pub warnings: Vec<String>,
    /// Was the published bundle damaged when the night began?
    #[serde(default)]
    pub is_published_damaged: bool,
}

impl std::fmt::Display for Ending {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Published => "published",
            Self::Unchanged => "unchanged",
            Self::HeldBack => "held back",
            Self::Failed => "failed",
        })
    }
}

impl Night {
    /// A night that begins, and that has failed until its last step.
    pub fn begin(started_unix_s: u64) -> Self {
        Self {
            started_unix_s,
            wall_s: 0.0,
            cpu_s: 0.0,
            ending: Ending::Failed,
            why: None,
            forced: None,
            release: None,
            training: None,
            published: None,
            stages: Vec::new(),
            change: BundleDiff::default(),
            rows: 0,
            kept: Vec::new(),
            left_out: BTreeMap::new(),
            scores: BTreeMap::new(),
            drift: None,
            deleted_next: None,
            deleted: 0,
            deleted_bytes: 0,
            warnings: Vec::new(),
            is_published_damaged: false,
        }
    }

    /// What stopped it; empty where nothing did.
    pub fn why(&self) -> &str {
        self.why.as_deref().unwrap_or_default()
    }

    /// The score of hybrid search over all languages.
    pub fn score(&self) -> Option<f64> {
        score_of(&self.scores)
    }

    /// Three lines: what is published, what changed, what it cost. `before`: the last night that was published.
    pub fn text(&self, before: Option<&Self>) -> String {
        let bundle = self.published.as_deref().unwrap_or("nothing");
        let why = self.why();
        let first = match self.ending {
            Ending::Published => format!("published {bundle}: {} functions", self.rows),
            Ending::Unchanged => format!("unchanged: {bundle} is published, {} functions", self.rows),
            Ending::HeldBack => format!("held back: {why}; {bundle} stays published"),
            Ending::Failed => format!("failed: {why}; {bundle} stays published"),
        };
        let forced = self.forced.as_ref().map(|reason| format!(" without gates ({reason})")).unwrap_or_default();
        let release = self.release.as_deref().unwrap_or("none");
        let training = self.training.as_ref().map(|training| format!("; {training}")).unwrap_or_default();
        let ran: Vec<&str> = self.stages.iter().filter(|stage| stage.ran).map(|stage| stage.stage.as_str()).collect();
        let ran = if ran.is_empty() { "no stage ran".to_owned() } else { format!("ran {}", ran.join(", ")) };
        let warnings: String = self.warnings.iter().map(|warning| format!("\nwarning: {warning}")).collect();
        format!(
            "{first}{forced}\nchange: {}{}; release {release}{training}\ncost: {:.1} s, {:.1} CPU seconds; {ran}; {} deleted ({:.1} MiB){warnings}",
            self.change,
            self.score_change(before),
            self.wall_s,
            self.cpu_s,
            self.deleted,
            self.deleted_bytes as f64 / (1 << 20) as f64
        )
    }

    fn score_change(&self, before: Option<&Self>) -> String {
        match (before.and_then(Self::score), self.score()) {
            (Some(old), Some(new)) => format!(", mrr@corpus {old:.4} -> {new:.4}"),
            (None, Some(new)) => format!(", mrr@corpus {new:.4}"),
            _ => String::new(),
        }
    }
}

#[cfg(test)]
pub mod tests {
    use crate::{nightly::drift::tests::drift, releases::SCORE};
    use indexer::bundle_diff::FunctionsDiff;

    use super::*;

    pub fn night(ending: Ending, score: f64) -> Night {
        let stage = |name: &str, ran: bool| StageRun { stage: name.to_owned(), ran, why: "why".to_owned(), wall_s: 1.0, cpu_s: 2.0 };
        let functions = FunctionsDiff { language: "go".to_owned(), a: 400, b: 672, added: 312, removed: 40, changed: 7 };
        Night {
            started_unix_s: 1_795_372_800,
            wall_s: 12.34,
            cpu_s: 20.0,
            ending,
            why: matches!(ending, Ending::HeldBack | Ending::Failed).then(|| "disk full".to_owned()),
            forced: None,
            release: Some("r1".to_owned()),
            training: None,
            published: Some("b2".to_owned()),
            stages: vec![stage("harvest", true), stage("ingest", false), stage("embed", true)],
            change: BundleDiff { functions: vec![functions], ..BundleDiff::default() },
            rows: 672,
            kept: Vec::new(),
            left_out: BTreeMap::from([("folder <tests>".to_owned(), 3)]),
            scores: BTreeMap::from([(format!("test_{SCORE}"), score)]),
            drift: Some(drift()),
            deleted_next: Some("<b0>".to_owned()),
            deleted: 2,
            deleted_bytes: 3 << 20,
            warnings: Vec::new(),
            is_published_damaged: false,
        }
    }

    #[test]
    fn three_lines_say_what_is_published_what_changed_and_what_it_cost() {
        let text = night(Ending::Published, 0.62).text(Some(&night(Ending::Published, 0.61)));
        let expected = "published b2: 672 functions\n\
                        change: +312 -40 functions, 7 changed, mrr@corpus 0.6100 -> 0.6200; release r1\n\
                        cost: 12.3 s, 20.0 CPU seconds; ran harvest, embed; 2 deleted (3.0 MiB)";
        assert_eq!(text, expected);
        let failed = Night { warnings: vec!["no licence".to_owned()], ..night(Ending::Failed, 0.62) }.text(None);
        assert!(failed.starts_with("failed: disk full; b2 stays published\n") && failed.ends_with("\nwarning: no licence"), "{failed}");
    }
}
