//! Judged queries: each query has relevant functions, which are ranked among all functions of the bundle.

use std::{
    collections::{HashMap, HashSet},
    path::{Path, PathBuf},
};

use bundle::{Bundle, Mode, ParsedQuery, lexical::Selection, manifest::DOCS};
use ledger::{Digest, ensure, table};
use rayon::prelude::*;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    judgment_files,
    ranks::{Ranks, rank},
};
use crate::{Result, error::Context};

/// A file of judged queries. Its name takes the place of the language in the table of scores.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "kebab-case", rename_all_fields = "kebab-case", deny_unknown_fields)]
pub enum Judgments {
    /// One query a line: `{"query": text, "relevant": [id or url, …]}`; a name that ends with `.gz` is read as gzip.
    Jsonl {
        /// Name of the set in tables and score keys.
        name: String,
        /// The file.
        path: PathBuf,
    },
    /// CoSQA's format: a list of `{"doc": query, "retrieval_idx": number}`; a name that ends with `.gz` is read as gzip. The URL of the
    /// relevant function is `repo:number`.
    Cosqa {
        /// Name of the set in tables and score keys.
        name: String,
        /// The file.
        path: PathBuf,
        /// Repository name in the URLs of the functions.
        repo: String,
    },
}

/// A query and its relevant rows.
#[derive(Debug)]
struct JudgedQuery {
    text: String,
    parsed: ParsedQuery,
    relevant: Vec<u32>,
}

/// The ranks of all queries.
#[derive(Debug)]
pub(super) struct JudgedRanks {
    pub queries: Vec<String>,
    /// Of the best relevant function of each query.
    pub ranks: Vec<Ranks>,
    /// Number of relevant functions that are not in the bundle.
    pub unknown: u64,
}

impl Judgments {
    /// Name of the set.
    pub fn name(&self) -> &str {
        match self {
            Self::Jsonl { name, .. } | Self::Cosqa { name, .. } => name,
        }
    }

    fn path(&self) -> &Path {
        match self {
            Self::Jsonl { path, .. } | Self::Cosqa { path, .. } => path,
        }
    }

    /// Name and digest of the file, as an external input.
    pub(super) fn digest(&self) -> Result<(String, Digest)> {
        let digest = Digest::of_file(self.path()).with_context(|| format!("reading {}", self.path().display()))?;
        Ok((format!("judgments:{}", self.name()), digest))
    }

    /// Queries with the ids or URLs of their relevant functions.
    fn read(&self) -> Result<Vec<(String, Vec<String>)>> {
        let judged: Vec<(String, Vec<String>)> = match self {
            Self::Jsonl { path, .. } => judgment_files::jsonl(path)?.into_iter().map(|line| (line.query, line.relevant)).collect(),
            Self::Cosqa { path, repo, .. } => {
                let url = |index: u64| vec![format!("{repo}:{index}")];
                judgment_files::cosqa(path)?.into_iter().map(|query| (query.doc, url(query.retrieval_idx))).collect()
            }
        };
        ensure!(!judged.is_empty(), "{} holds no judged queries", self.path().display());
        Ok(judged)
    }

    /// Ranks the relevant functions of each query; `done` is called after each query.
    pub(super) fn rank(&self, bundle: &Bundle, done: impl Fn() + Sync) -> Result<JudgedRanks> {
        let judged = self.read()?;
        let names: HashSet<&str> = judged.iter().flat_map(|(_, relevant)| relevant.iter().map(String::as_str)).collect();
        let mut rows: HashMap<String, u32> = HashMap::new();
        let mut count = 0u32;
        for batch in table::read(&bundle.dir().join(DOCS), &["id", "url"])? {
            let batch = batch?;
            let (ids, urls) = (table::texts(&batch, "id")?, table::texts(&batch, "url")?);
            for index in 0..batch.num_rows() {
                for name in [ids.value(index), urls.value(index)] {
                    if names.contains(name) {
                        rows.entry(name.to_owned()).or_insert(count);
                    }
                }
                count += 1;
            }
        }
        let unknown = judged.iter().flat_map(|(_, relevant)| relevant).filter(|name| !rows.contains_key(*name)).count() as u64;
        ensure!(
            !rows.is_empty(),
            "no relevant function of {} is in the bundle: check that its ids or URLs are of this corpus",
            self.path().display()
        );
        let queries = judged.iter().map(|(query, _)| query.clone()).collect();
        let judged: Vec<JudgedQuery> = judged
            .into_iter()
            .map(|(query, relevant)| JudgedQuery {
                parsed: bundle.parse_words(&query),
                text: query,
                relevant: relevant.iter().filter_map(|name| rows.get(name).copied()).collect(),
            })
            .collect();
        let vectors = bundle.encode_queries(judged.iter().map(|judged| &judged.parsed))?;
        let rows = count as usize;
        let ranks = judged
            .par_iter()
            .zip(vectors.par_chunks(bundle.manifest().vectors.dimension))
            .map(|(judged, vector)| {
                let nearest = bundle.vectors().search_exact(vector, rows, bundle.live_rows())?;
                let cosines: HashMap<u32, f32> = nearest.iter().copied().collect();
                let selection = Selection { limit: rows, allowed: bundle.live_rows(), ..Selection::default() };
                let lists = bundle.candidate_lists(&judged.parsed, Mode::Hybrid, &selection, nearest)?;
                let rankings = bundle.rankings(&judged.text, &lists, &|row| cosines.get(&row).copied().unwrap_or_default());
                let ranks = rankings.map(|list| judged.relevant.iter().filter_map(|&row| rank(&list, row, |_| true)).min());
                done();
                Ok(ranks)
            })
            .collect::<Result<_>>()?;
        Ok(JudgedRanks { queries, ranks, unknown })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_formats_give_queries_with_the_names_of_their_functions() {
        let dir = tempfile::tempdir().unwrap();
        let file = |name: &str, text: &str| {
            std::fs::write(dir.path().join(name), text).unwrap();
            dir.path().join(name)
        };
        let lines = file("a.jsonl", "\u{feff}{\"query\": \"sort a list\", \"relevant\": [\"1\", \"2\"]}\n\n");
        let jsonl = Judgments::Jsonl { name: "own".to_owned(), path: lines };
        assert_eq!((jsonl.name(), jsonl.read().unwrap()), ("own", vec![("sort a list".to_owned(), vec!["1".to_owned(), "2".to_owned()])]));
        let list = file("b.json", r#"[{"doc": "open a file", "retrieval_idx": 7, "code": "f()"}]"#);
        let cosqa = Judgments::Cosqa { name: "web".to_owned(), path: list, repo: "cosqa".to_owned() };
        assert_eq!((cosqa.name(), cosqa.read().unwrap()), ("web", vec![("open a file".to_owned(), vec!["cosqa:7".to_owned()])]));
        let none = Judgments::Jsonl { name: "none".to_owned(), path: file("c.jsonl", "\n") };
        assert!(none.read().unwrap_err().to_string().contains("c.jsonl holds no judged queries"));
    }
}
