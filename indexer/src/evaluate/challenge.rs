//! The CodeSearchNet challenge's measure of a predictions file: NDCG against human judgments, as `relevanceeval.py` of
//! github/CodeSearchNet computes it.
//!
//! ```text
//! DCG = Σ (2^relevance − 1) / log2(rank + 1), over the judged URLs of a query's ranking
//! NDCG = DCG / DCG of the judgments, best first
//! ```
//! *Within* counts only judged URLs in a rank; *All* counts every URL. The relevance of a (query, language, URL) is the mean of its
//! judgments. Queries and languages are compared in lower case, URLs exactly. The first 300 URLs of a ranking count, a repeated URL each
//! time. A query without a relevant URL is not part of the mean.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    path::Path,
};

use ledger::ensure;
use serde::Serialize;

use crate::{Result, error::Context};

/// URLs of a ranking that count.
pub(super) const DEPTH: usize = 300;

/// Language to query to URL to mean relevance.
pub(super) type Judgments = BTreeMap<String, BTreeMap<String, BTreeMap<String, f64>>>;
/// Language to query to URLs, best first.
type Rankings = BTreeMap<String, HashMap<String, Vec<String>>>;

/// Score of one language.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ChallengeScore {
    pub language: String,
    /// Judged queries with a relevant URL.
    pub queries: usize,
    pub ndcg_within: f64,
    pub ndcg_all: f64,
    /// Share of the judged URLs that were predicted.
    pub coverage: f64,
    /// Share of the relevant URLs that were predicted.
    pub coverage_relevant: f64,
}

/// Reads a CSV with a header; `row` receives the line number and the texts of these columns.
fn read<const N: usize>(path: &Path, columns: [&str; N], mut row: impl FnMut(u64, [&str; N]) -> Result<()>) -> Result<()> {
    let context = || format!("reading {}", path.display());
    let mut reader = csv::Reader::from_path(path).with_context(context)?;
    let header = reader.headers().with_context(context)?.clone();
    let mut positions = [0; N];
    for (position, column) in positions.iter_mut().zip(columns) {
        *position = header.iter().position(|name| name.trim() == column).with_context(|| {
            format!("{} has no column `{column}`, only {}", path.display(), header.iter().collect::<Vec<_>>().join(", "))
        })?;
    }
    for record in reader.records() {
        let record = record.with_context(context)?;
        let line = record.position().map_or(0, csv::Position::line);
        row(line, positions.map(|position| record.get(position).unwrap_or_default()))
            .with_context(|| format!("{}:{line}", path.display()))?;
    }
    Ok(())
}

/// The judgments of a file.
pub(super) fn judgments(path: &Path) -> Result<Judgments> {
    // Sorted as written, as pandas sorts before the reference lower-cases: of two spellings of a query, the mean of the later one counts.
    let mut sums: BTreeMap<[String; 3], (f64, f64)> = BTreeMap::new();
    read(path, ["Query", "Language", "GitHubUrl", "Relevance"], |_, [query, language, url, relevance]| {
        if relevance.trim().is_empty() {
            return Ok(());
        }
        let relevance: f64 = relevance.trim().parse().with_context(|| format!("`Relevance` is not a number: {relevance:?}"))?;
        ensure!((0.0..=64.0).contains(&relevance), "`Relevance` is {relevance}, expected 0 to 3");
        let (sum, count) = sums.entry([query, language, url].map(str::to_owned)).or_default();
        *sum += relevance;
        *count += 1.0;
        Ok(())
    })?;
    let mut judged = Judgments::new();
    for ([query, language, url], (sum, count)) in sums {
        judged.entry(language.to_lowercase()).or_default().entry(query.to_lowercase()).or_default().insert(url, sum / count);
    }
    Ok(judged)
}

fn rankings(path: &Path) -> Result<Rankings> {
    let mut ranked = Rankings::new();
    read(path, ["language", "query", "url"], |_, [language, query, url]| {
        let ranking = ranked.entry(language.to_lowercase()).or_default().entry(query.to_lowercase()).or_default();
        if ranking.len() < DEPTH {
            ranking.push(url.to_owned());
        }
        Ok(())
    })?;
    Ok(ranked)
}

/// DCG of one ranking; `within`: ranks count judged URLs only.
fn gain(ranking: &[String], judged: &BTreeMap<String, f64>, within: bool) -> f64 {
    let (mut rank, mut sum) = (1.0f64, 0.0);
    for url in ranking {
        let relevance = judged.get(url);
        if let Some(relevance) = relevance {
            sum += (relevance.exp2() - 1.0) / (rank + 1.0).log2();
        }
        if relevance.is_some() || !within {
            rank += 1.0;
        }
    }
    sum
}

/// NDCG of one ranking; 0 where no URL is relevant.
pub(super) fn ndcg(ranking: &[String], judged: &BTreeMap<String, f64>, within: bool) -> f64 {
    let mut best: Vec<f64> = judged.values().copied().collect();
    best.sort_by(|a, b| b.total_cmp(a));
    let ideal: f64 = best.iter().enumerate().map(|(index, relevance)| (relevance.exp2() - 1.0) / (index as f64 + 2.0).log2()).sum();
    if ideal > 0.0 { gain(ranking, judged, within) / ideal } else { 0.0 }
}

/// Score of one language; none where no query has a relevant URL.
fn score_of(
    language: &str,
    judged: &BTreeMap<String, BTreeMap<String, f64>>,
    ranked: &HashMap<String, Vec<String>>,
) -> Option<ChallengeScore> {
    let (mut within, mut all, mut queries) = (0.0, 0.0, 0usize);
    let (mut urls, mut covered, mut relevant, mut covered_relevant) = (0usize, 0usize, 0usize, 0usize);
    for (query, judged) in judged {
        let ranking = ranked.get(query).map_or(&[] as &[String], Vec::as_slice);
        let predicted: HashSet<&str> = ranking.iter().map(String::as_str).collect();
        for (url, &relevance) in judged {
            let (hit, good) = (predicted.contains(url.as_str()), relevance > 0.0);
            urls += 1;
            covered += usize::from(hit);
            relevant += usize::from(good);
            covered_relevant += usize::from(hit && good);
        }
        if judged.values().any(|&relevance| relevance > 0.0) {
            queries += 1;
            within += ndcg(ranking, judged, true);
            all += ndcg(ranking, judged, false);
        }
    }
    let share = |part: usize, whole: usize| part as f64 / whole.max(1) as f64;
    (queries > 0).then(|| ChallengeScore {
        language: language.to_owned(),
        queries,
        ndcg_within: within / queries as f64,
        ndcg_all: all / queries as f64,
        coverage: share(covered, urls),
        coverage_relevant: share(covered_relevant, relevant),
    })
}

/// Scores `predictions` (CSV with columns language, query, url) with the judgments in `annotations` (Language, Query, GitHubUrl,
/// Relevance): one score for each language that was predicted and judged, then their `mean`.
///
/// # Errors
/// A missing column, a relevance that is not a number, and predictions without any judged language.
pub fn score(predictions: &Path, annotations: &Path) -> Result<Vec<ChallengeScore>> {
    let (judged, ranked) = (judgments(annotations)?, rankings(predictions)?);
    let mut scores: Vec<ChallengeScore> =
        ranked.iter().filter_map(|(language, ranked)| score_of(language, judged.get(language)?, ranked)).collect();
    ensure!(
        !scores.is_empty(),
        "{} predicts for {:?}, {} judges relevant urls of {:?}: nothing to compare",
        predictions.display(),
        ranked.keys().collect::<Vec<_>>(),
        annotations.display(),
        judged.keys().collect::<Vec<_>>()
    );
    let mean = |of: fn(&ChallengeScore) -> f64| scores.iter().map(of).sum::<f64>() / scores.len() as f64;
    let mean = ChallengeScore {
        language: "mean".to_owned(),
        queries: scores.iter().map(|score| score.queries).sum(),
        ndcg_within: mean(|score| score.ndcg_within),
        ndcg_all: mean(|score| score.ndcg_all),
        coverage: mean(|score| score.coverage),
        coverage_relevant: mean(|score| score.coverage_relevant),
    };
    scores.push(mean);
    Ok(scores)
}

/// The table for a terminal.
pub fn render(scores: &[ChallengeScore]) -> String {
    let mut text = format!(
        "{:<12} {:>7} {:>12} {:>8} {:>9} {:>18}\n",
        "language", "queries", "NDCG Within", "NDCG All", "predicted", "relevant predicted"
    );
    for of in scores {
        text += &format!(
            "{:<12} {:>7} {:>12.4} {:>8.4} {:>8.1}% {:>17.1}%\n",
            of.language,
            of.queries,
            of.ndcg_within,
            of.ndcg_all,
            of.coverage * 100.0,
            of.coverage_relevant * 100.0
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn score_texts(annotations: &str, predictions: &str) -> Result<Vec<ChallengeScore>> {
        let dir = tempfile::tempdir().unwrap();
        let (judged, ranked) = (dir.path().join("a.csv"), dir.path().join("p.csv"));
        fs::write(&judged, annotations).unwrap();
        fs::write(&ranked, predictions).unwrap();
        score(&ranked, &judged)
    }

    // The expected numbers were printed by relevanceeval.py's own functions (pandas 3.1.1, numpy 2.4.6) on the same two files.
    const ANNOTATIONS: &str = "Language,Query,GitHubUrl,Relevance,Notes
Python,Read File,u/a,3,
Python,Read File,u/a,1,twice judged
Python,Read File,u/b,0,
Python,read file,u/b,2,another spelling
Python,Read File,u/c,3,
Python,sort list,u/d,0,nothing relevant
Python,quick sort,u/e,2,not predicted
Go,read file,u/x,1,
Go,read file,u/y,3,
";
    const PREDICTIONS: &str = "query,language,identifier,url
READ FILE,python,f,u/z
read file,Python,f,u/b
read file,python,f,u/c
read file,python,f,u/c
read file,python,f,u/a
sort list,python,f,u/d
read file,go,f,u/y
read file,go,f,u/q
read file,go,f,u/x
unknown query,go,f,u/x
read file,ruby,f,u/x
";

    #[test]
    fn scores_equal_the_reference_with_ties_duplicates_spellings_and_unknown_urls() {
        let scores = score_texts(ANNOTATIONS, PREDICTIONS).unwrap();
        let close = |a: f64, b: f64| assert!((a - b).abs() < 1e-9, "{a} {b}");
        let [go, python, mean] = &scores[..] else { panic!("{scores:?}") };
        assert_eq!((go.language.as_str(), go.queries, python.queries), ("go", 1, 2));
        close(python.ndcg_within, 0.587_356_177_584_091_5);
        close(python.ndcg_all, 0.460_323_179_317_217_5);
        close(go.ndcg_within, 1.0);
        close(go.ndcg_all, 0.982_842_227_906_739_7);
        assert_eq!((python.coverage, python.coverage_relevant, go.coverage), (0.8, 0.75, 1.0));
        close(mean.ndcg_all, (go.ndcg_all + python.ndcg_all) / 2.0);
    }

    #[test]
    fn the_first_three_hundred_urls_count() {
        let mut predictions = String::from("language,query,url\n");
        (0..299).for_each(|number| predictions += &format!("go,q,u/{number}\n"));
        let at = |place: &str| {
            score_texts("Query,Language,GitHubUrl,Relevance\nq,Go,u/good,3\n", &format!("{predictions}{place}")).unwrap()[0].ndcg_all
        };
        assert!((at("go,q,u/good\n") - 1.0 / 301f64.log2()).abs() < 1e-12);
        assert_eq!(at("go,q,u/299\ngo,q,u/good\n"), 0.0);
    }

    #[test]
    fn an_unreadable_column_or_number_is_named() {
        let error = |annotations, predictions| format!("{:#}", score_texts(annotations, predictions).unwrap_err());
        assert!(error(ANNOTATIONS, "query,language\na,b\n").contains("no column `url`, only query, language"));
        assert!(error("Query,Language,GitHubUrl,Relevance\nq,Go,u,high\n", PREDICTIONS).contains("a.csv:2"));
        assert!(error("Query,Language,GitHubUrl,Relevance\nq,Go,u,0\n", PREDICTIONS).contains("nothing to compare"));
    }
}
