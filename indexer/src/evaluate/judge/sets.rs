//! Files of judged queries.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    str::FromStr,
};

use bundle::{Bundle, Language, Query, manifest::DOCS};
use ledger::{ensure, table};
use serde::Deserialize;

use super::super::{
    challenge,
    judgment_files::{self, CosqaQuery, JsonlQuery},
};
use crate::Result;

/// Format of a file of judged queries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum JudgmentFormat {
    /// CodeSearchNet's annotationStore.csv: Query, Language, GitHubUrl, Relevance (0 to 3). Each query is searched in each language.
    Csn,
    /// CoSQA's JSON: a list of `{"doc": query, "retrieval_idx": number}`; a URL of the bundle ends with `:number`.
    Cosqa,
    /// JSON `{"tasks": [{"repo", "query", "relevant_files", "relevant_count", "category"}]}`: files of a repository that answer a question.
    Files,
    /// One query a line: `{"query": text, "relevant": [id or url, …]}`.
    Jsonl,
}

/// A name that no format has.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown format of judgments {0:?}: expected csn, cosqa, files or jsonl")]
pub struct UnknownFormat(pub String);

impl FromStr for JudgmentFormat {
    type Err = UnknownFormat;

    fn from_str(name: &str) -> std::result::Result<Self, UnknownFormat> {
        match name {
            "csn" => Ok(Self::Csn),
            "cosqa" => Ok(Self::Cosqa),
            "files" => Ok(Self::Files),
            "jsonl" => Ok(Self::Jsonl),
            _ => Err(UnknownFormat(name.to_owned())),
        }
    }
}

/// What answers a query.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Relevant {
    /// Grade by URL.
    Grades(BTreeMap<String, f64>),
    /// Ids or URLs.
    Rows(BTreeSet<String>),
    /// The end of a URL.
    UrlEnd(String),
    /// Ends of paths, and how many files are relevant.
    Files(Vec<String>, usize),
}

/// A query with its answers.
#[derive(Debug, Clone)]
pub(super) struct JudgedQuery {
    /// Language or category.
    pub group: String,
    pub query: Query,
    pub relevant: Relevant,
}

/// Judged queries that the bundle can answer, and the number of those of other languages or repositories.
pub(super) struct JudgedSet {
    pub queries: Vec<JudgedQuery>,
    pub left_out: usize,
}

/// Reads the judged queries of a file.
pub(super) fn judged_set(bundle: &Bundle, format: JudgmentFormat, path: &Path) -> Result<JudgedSet> {
    let set = match format {
        JudgmentFormat::Csn => csn(bundle, path)?,
        JudgmentFormat::Cosqa => cosqa(path)?,
        JudgmentFormat::Files => files(bundle, path)?,
        JudgmentFormat::Jsonl => jsonl(path)?,
    };
    ensure!(
        !set.queries.is_empty(),
        "{}: none of its {} queries is about a language or repository of the bundle",
        path.display(),
        set.left_out
    );
    Ok(set)
}

fn csn(bundle: &Bundle, path: &Path) -> Result<JudgedSet> {
    let mut set = JudgedSet { queries: Vec::new(), left_out: 0 };
    for (name, judged) in challenge::judgments(path)? {
        let language = name.parse::<Language>().ok().filter(|language| bundle.manifest().languages.contains_key(language.name()));
        let Some(language) = language else {
            set.left_out += judged.len();
            continue;
        };
        // A query without a relevant URL has no score.
        for (text, grades) in judged.into_iter().filter(|(_, grades)| grades.values().any(|grade| *grade > 0.0)) {
            let query = Query::new(text).language(language);
            set.queries.push(JudgedQuery { group: name.clone(), query, relevant: Relevant::Grades(grades) });
        }
    }
    Ok(set)
}

fn cosqa(path: &Path) -> Result<JudgedSet> {
    let judged = |query: CosqaQuery| JudgedQuery {
        group: "cosqa".to_owned(),
        query: Query::new(query.doc),
        relevant: Relevant::UrlEnd(format!(":{}", query.retrieval_idx)),
    };
    Ok(JudgedSet { queries: judgment_files::cosqa(path)?.into_iter().map(judged).collect(), left_out: 0 })
}

#[derive(Debug, Deserialize)]
struct Tasks {
    tasks: Vec<Task>,
}

#[derive(Debug, Deserialize)]
struct Task {
    repo: String,
    query: String,
    relevant_files: Vec<String>,
    relevant_count: usize,
    #[serde(default)]
    category: String,
}

fn files(bundle: &Bundle, path: &Path) -> Result<JudgedSet> {
    let tasks: Tasks = judgment_files::json(path, "an object with the list \"tasks\"")?;
    let mut repositories = BTreeMap::new();
    for batch in table::read(&bundle.dir().join(DOCS), &["repo"])? {
        for name in table::texts(&batch?, "repo")?.iter().flatten() {
            let short = name.rsplit('/').next().unwrap_or(name);
            repositories.entry(short.to_owned()).or_insert_with(|| name.to_owned());
        }
    }
    let mut set = JudgedSet { queries: Vec::new(), left_out: 0 };
    for task in tasks.tasks {
        let Some(repo) = repositories.get(&task.repo) else {
            set.left_out += 1;
            continue;
        };
        let relevant = Relevant::Files(task.relevant_files, task.relevant_count);
        set.queries.push(JudgedQuery { group: task.category, query: Query::new(task.query).repo(repo), relevant });
    }
    Ok(set)
}

fn jsonl(path: &Path) -> Result<JudgedSet> {
    let judged = |line: JsonlQuery| JudgedQuery {
        group: "jsonl".to_owned(),
        query: Query::new(line.query),
        relevant: Relevant::Rows(line.relevant.into_iter().collect()),
    };
    Ok(JudgedSet { queries: judgment_files::jsonl(path)?.into_iter().map(judged).collect(), left_out: 0 })
}
