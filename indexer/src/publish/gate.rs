//! The gates of `publish`: a bundle that is worse than configured, or than the published one, is not published.

use std::{collections::BTreeMap, fs};

use bundle::Mode;
use ledger::{ALL_LANGUAGES, MRR_AT_CORPUS, ScoreKey, Scores, Serve};

use super::Config;
use crate::{Error, Result};

const WITHOUT: &str = "set publish { min-mrr = 0, min-share-of-current = 0 } to publish without scores";
const REMEDY: &str = "set publish.min-share-of-current = 0 to publish without comparing";

/// Checks the scores of a bundle. Scores of two bundles are compared only under one key: same split, same protocol.
pub fn check(serve: &Serve, config: &Config, scores: &Scores) -> Result<()> {
    let Some((key, score)) = gating_score(&scores.flat) else {
        if config.min_mrr <= 0.0 && config.min_share_of_current <= 0.0 {
            return Ok(());
        }
        return Err(Error::NotPublished(format!("the evaluation had no queries: harvest more repositories, or {WITHOUT}")));
    };
    if score.is_nan() || score < config.min_mrr {
        return Err(Error::NotPublished(format!("{key} is {score:.4}, publish.min-mrr is {:.4}", config.min_mrr)));
    }
    if config.min_share_of_current <= 0.0 || !serve.current().exists() {
        return Ok(());
    }
    let before = published_score(serve, &key)?;
    let least = before * config.min_share_of_current;
    if score.is_nan() || score < least {
        return Err(Error::NotPublished(format!(
            "{key} fell from {before:.4} to {score:.4}, less than publish.min-share-of-current allows ({least:.4})"
        )));
    }
    Ok(())
}

/// The score that gates: hybrid search, all languages, the whole split.
fn gating_score(scores: &BTreeMap<String, f64>) -> Option<(ScoreKey, f64)> {
    scores.iter().find_map(|(name, score)| {
        let key: ScoreKey = name.parse().ok()?;
        let is_gate = key.protocol == MRR_AT_CORPUS && key.language == ALL_LANGUAGES && key.system == Mode::Hybrid.name();
        is_gate.then_some((key, *score))
    })
}

/// The scores of the published bundle.
fn published_scores(serve: &Serve) -> Result<BTreeMap<String, f64>> {
    let path = serve.current().join(Scores::FILE);
    let bytes = fs::read(&path).map_err(|error| Error::NotPublished(format!("{} cannot be read ({error}): {REMEDY}", path.display())))?;
    serde_json::from_slice(&bytes).map_err(|error| Error::NotPublished(format!("{} is damaged ({error}): {REMEDY}", path.display())))
}

/// Can the scores of the published bundle be read?
pub fn has_scores(serve: &Serve) -> bool {
    published_scores(serve).is_ok()
}

fn published_score(serve: &Serve, key: &ScoreKey) -> Result<f64> {
    let scores = published_scores(serve)?;
    scores.get(&key.to_string()).copied().ok_or_else(|| Error::NotPublished(format!("the published bundle has no score {key}: {REMEDY}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scores(hybrid: f64) -> Scores {
        let flat = [("test_mrr@corpus_all_bm25", 0.9), ("test_mrr@corpus_all_hybrid", hybrid), ("test_mrr@corpus_go_hybrid", 0.1)];
        let flat = flat.into_iter().map(|(name, score)| (name.to_owned(), score)).collect();
        Scores { scores: "scores.json".into(), report: "report.html".into(), flat, dir: "".into() }
    }

    fn config(min_mrr: f64, min_share_of_current: f64) -> Config {
        Config { min_mrr, min_share_of_current, max_lost_functions: 1.0, max_lost_repositories: 1.0, smoke_queries: None, keep: 1 }
    }

    /// A data folder whose published bundle has this score.
    fn published(hybrid: f64) -> (tempfile::TempDir, Serve) {
        let dir = tempfile::tempdir().unwrap();
        let serve = Serve::of(dir.path());
        fs::create_dir_all(serve.current()).unwrap();
        fs::write(serve.current().join(Scores::FILE), serde_json::to_vec(&scores(hybrid).flat).unwrap()).unwrap();
        (dir, serve)
    }

    fn error(serve: &Serve, config: &Config, hybrid: f64) -> String {
        check(serve, config, &scores(hybrid)).unwrap_err().to_string()
    }

    #[test]
    fn a_score_below_the_minimum_is_not_published() {
        let (_dir, serve) = published(0.5);
        check(&serve, &config(0.5, 0.0), &scores(0.5)).unwrap();
        assert!(error(&serve, &config(0.6, 0.0), 0.5).contains("not published: test_mrr@corpus_all_hybrid is 0.5000, publish.min-mrr"));
        assert!(error(&serve, &config(0.6, 0.0), f64::NAN).contains("publish.min-mrr"));
    }

    #[test]
    fn a_bundle_without_scores_is_published_only_where_both_gates_are_off() {
        let (_dir, serve) = published(0.5);
        let none = Scores { flat: BTreeMap::new(), ..scores(0.5) };
        check(&serve, &config(0.0, 0.0), &none).unwrap();
        for gate in [config(0.1, 0.0), config(0.0, 0.9)] {
            let error = check(&serve, &gate, &none).unwrap_err().to_string();
            assert!(error.contains("had no queries") && error.contains("min-mrr = 0, min-share-of-current = 0"), "{error}");
        }
    }

    #[test]
    fn a_score_below_the_share_of_the_published_one_is_not_published() {
        let (_dir, serve) = published(0.5);
        check(&serve, &config(0.0, 0.9), &scores(0.46)).unwrap();
        assert!(error(&serve, &config(0.0, 0.9), 0.44).contains("fell from 0.5000 to 0.4400, less than publish.min-share-of-current"));
    }

    #[test]
    fn scores_of_another_split_are_not_compared() {
        let (_dir, serve) = published(0.5);
        fs::write(serve.current().join(Scores::FILE), r#"{"valid_mrr@corpus_all_hybrid": 0.1}"#).unwrap();
        assert!(error(&serve, &config(0.0, 0.9), 0.44).contains("has no score test_mrr@corpus_all_hybrid"));
    }
}
