//! The gates of `publish`: a bundle that is worse than configured, or than the published one, is not published.

use std::{collections::BTreeMap, fs, path::Path};

use bundle::{Mode, manifest::MANIFEST};
use ledger::{ALL_LANGUAGES, MRR_AT_CORPUS, Recordable, ScoreKey, Scores, Serve, Stage, is_key};
use serde_json::Value;

use super::Config;
use crate::{
    Error, Evaluate, Result,
    evaluate::{
        compare::differences,
        significance::{Interval, interval},
    },
};

const WITHOUT: &str = "set publish { min-mrr = 0, min-share-of-current = 0 } to publish without scores";
const REMEDY: &str = "set publish.min-share-of-current = 0 to publish without comparing";

/// Least number of queries that both bundles have, from which their ranks decide and not the scores of both samples.
const LEAST_COMMON: usize = 50;

/// Checks the scores of a bundle. Scores of two bundles are compared only under one key: same split, same protocol.
///
/// The queries of two nights differ. So the ranks of the queries that both evaluations have decide: the bundle is refused where the 95 %
/// interval of the mean difference lies below what the configuration allows. Returns what the comparison says, where it was made.
pub fn check(data: &Path, serve: &Serve, config: &Config, scores: &Scores) -> Result<Option<String>> {
    let Some((key, score)) = gating_score(&scores.flat) else {
        if config.min_mrr <= 0.0 && config.min_share_of_current <= 0.0 {
            return Ok(None);
        }
        return Err(Error::NotPublished(format!("the evaluation had no queries: harvest more repositories, or {WITHOUT}")));
    };
    if score.is_nan() || score < config.min_mrr {
        return Err(Error::NotPublished(format!("{key} is {score:.4}, publish.min-mrr is {:.4}", config.min_mrr)));
    }
    if config.min_share_of_current <= 0.0 || !serve.current().exists() {
        return Ok(None);
    }
    let before = published_score(serve, &key)?;
    let least = before * config.min_share_of_current;
    let is_refused;
    let comparison = match common_differences(data, serve, &key, scores) {
        Some(differences) => {
            let Interval { low, high } = interval(&differences);
            let mean = differences.iter().sum::<f64>() / differences.len() as f64;
            is_refused = before + high < least;
            format!(
                "; on the {} queries of both bundles it changed by {mean:+.4} (95 % interval {low:+.4} to {high:+.4})",
                differences.len()
            )
        }
        None => {
            is_refused = score < least;
            String::new()
        }
    };
    let change = format!("{key} {} from {before:.4} to {score:.4}{comparison}", if score < before { "fell" } else { "changed" });
    if is_refused {
        return Err(Error::NotPublished(format!("{change}: less than publish.min-share-of-current allows ({least:.4})")));
    }
    Ok((!comparison.is_empty()).then_some(change))
}

/// Differences of the reciprocal ranks of the queries that the new and the published bundle were both scored with, if there are enough. The
/// ranks of the published bundle are in the artifact that its manifest names, while that is here.
fn common_differences(data: &Path, serve: &Serve, key: &ScoreKey, scores: &Scores) -> Option<Vec<f64>> {
    let manifest: Value = serde_json::from_slice(&fs::read(serve.current().join(MANIFEST)).ok()?).ok()?;
    let before = manifest.pointer(&format!("/published/stages/{}/key", Evaluate::NAME))?.as_str().filter(|key| is_key(key))?;
    let before = data.join(Scores::KIND).join(before);
    let differences = differences(&scores.dir, &before, &key.split, Mode::Hybrid).ok()?;
    Some(differences).filter(|differences| differences.len() >= LEAST_COMMON)
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
        check(Path::new(""), serve, config, &scores(hybrid)).unwrap_err().to_string()
    }

    fn pass(serve: &Serve, config: &Config, scores: &Scores) {
        assert_eq!(check(Path::new(""), serve, config, scores).unwrap(), None);
    }

    #[test]
    fn a_score_below_the_minimum_is_not_published() {
        let (_dir, serve) = published(0.5);
        pass(&serve, &config(0.5, 0.0), &scores(0.5));
        assert!(error(&serve, &config(0.6, 0.0), 0.5).contains("not published: test_mrr@corpus_all_hybrid is 0.5000, publish.min-mrr"));
        assert!(error(&serve, &config(0.6, 0.0), f64::NAN).contains("publish.min-mrr"));
    }

    #[test]
    fn a_bundle_without_scores_is_published_only_where_both_gates_are_off() {
        let (_dir, serve) = published(0.5);
        let none = Scores { flat: BTreeMap::new(), ..scores(0.5) };
        pass(&serve, &config(0.0, 0.0), &none);
        for gate in [config(0.1, 0.0), config(0.0, 0.9)] {
            let error = check(Path::new(""), &serve, &gate, &none).unwrap_err().to_string();
            assert!(error.contains("had no queries") && error.contains("min-mrr = 0, min-share-of-current = 0"), "{error}");
        }
    }

    #[test]
    fn a_score_below_the_share_of_the_published_one_is_not_published() {
        let (_dir, serve) = published(0.5);
        pass(&serve, &config(0.0, 0.9), &scores(0.46));
        assert!(error(&serve, &config(0.0, 0.9), 0.44).contains("fell from 0.5000 to 0.4400: less than publish.min-share-of-current"));
    }

    #[test]
    fn scores_of_another_split_are_not_compared() {
        let (_dir, serve) = published(0.5);
        fs::write(serve.current().join(Scores::FILE), r#"{"valid_mrr@corpus_all_hybrid": 0.1}"#).unwrap();
        assert!(error(&serve, &config(0.0, 0.9), 0.44).contains("has no score test_mrr@corpus_all_hybrid"));
    }

    /// Writes the ranks of hybrid search of an evaluation.
    fn write_ranks(dir: &Path, ranks: impl Iterator<Item = usize>) {
        fs::create_dir_all(dir).unwrap();
        let line = |(query, rank)| format!(r#"{{"set": "test", "query": "{query}", "ranks": [1, 1, {rank}]}}"#);
        fs::write(dir.join("ranks.jsonl"), ranks.enumerate().map(line).collect::<Vec<_>>().join("\n")).unwrap();
    }

    #[test]
    fn the_queries_of_both_bundles_decide_where_there_are_enough() {
        let (dir, serve) = published(0.5);
        fs::write(serve.current().join(MANIFEST), r#"{"published": {"stages": {"evaluate": {"key": "abcdef"}}}}"#).unwrap();
        let new = dir.path().join("new");
        let outcome = |queries: usize, before: fn(usize) -> usize, now: fn(usize) -> usize, hybrid: f64| {
            write_ranks(&dir.path().join("scores/abcdef"), (0..queries).map(before));
            write_ranks(&new, (0..queries).map(now));
            check(dir.path(), &serve, &config(0.0, 0.9), &Scores { dir: new.clone(), ..scores(hybrid) }).map_err(|error| error.to_string())
        };
        // The sample has harder queries now: those of both bundles are as they were.
        let same = outcome(60, |query| query % 2 + 1, |query| query % 2 + 1, 0.3).unwrap().unwrap();
        assert!(same.contains("fell from 0.5000 to 0.3000; on the 60 queries of both bundles it changed by +0.0000"), "{same}");
        // Easier queries hide that the others are found later.
        let worse = outcome(60, |_| 1, |query| query % 2 + 1, 0.6).unwrap_err();
        assert!(worse.contains("it changed by -0.2500 (95 % interval -0.3") && worse.contains("min-share-of-current"), "{worse}");
        // A chance fall.
        outcome(60, |query| query % 2 + 1, |query| (query + usize::from(query < 6)) % 2 + 1, 0.44).unwrap();
        assert!(outcome(49, |_| 1, |_| 1, 0.44).unwrap_err().contains("fell from 0.5000 to 0.4400: less"));
    }
}
