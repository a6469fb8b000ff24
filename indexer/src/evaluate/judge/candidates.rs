//! The candidates of judged queries with their features and grades, for choosing the weights of reranking.

use std::{
    fs::File,
    io::{BufWriter, Write},
    path::Path,
};

use bundle::{Bundle, reranking::QueryClass};
use rayon::prelude::*;
use serde::Serialize;

use super::{
    files_of,
    sets::{JudgedQuery, JudgmentFormat, Relevant, judged_set},
};
use crate::{Result, error::Context};

/// A judged query with its candidates: one line of the file.
#[derive(Debug, Serialize)]
struct Line<'a> {
    /// How the set is scored: `csn` (NDCG, mean of the languages), `files` (NDCG by file) or `mrr`.
    measure: &'static str,
    group: &'a str,
    query: &'a str,
    class: QueryClass,
    repo: Option<&'a str>,
    /// Grades of all relevant functions; for files a 1 for each relevant file.
    relevant: Vec<f64>,
    rows: Vec<Row>,
}

#[derive(Debug, Serialize)]
struct Row {
    /// Number of the file in the bundle.
    file: u32,
    /// Grade of the function, 0 or more; for files the number of the relevant file from 1, or 0.
    grade: f64,
    features: Vec<f64>,
}

/// Writes a JSON line for each query of the file; returns the number of queries.
pub fn write(bundle: &Bundle, format: JudgmentFormat, judgments: &Path, out: &Path) -> Result<usize> {
    let set = judged_set(bundle, format, judgments)?;
    let lines: Vec<String> = set.queries.par_iter().map(|judged| line(bundle, judged)).collect::<Result<_>>()?;
    let mut file = BufWriter::new(File::create(out).with_context(|| format!("creating {}", out.display()))?);
    lines.iter().try_for_each(|line| writeln!(file, "{line}"))?;
    file.flush()?;
    Ok(lines.len())
}

fn line(bundle: &Bundle, judged: &JudgedQuery) -> Result<String> {
    let groups = bundle.groups().context("bundles of formats 3 and 4 have no features: build the bundle again with `codenets run`")?;
    let mut rows = Vec::new();
    for (row, features) in bundle.reranking_features(&judged.query)? {
        let [id, _, path, _, url, ..] = bundle.lexical().document(row)?.stored;
        let grade = grade(&judged.relevant, &id, &path, &url);
        rows.push(Row { file: groups.of(row, bundle::groups::Group::File), grade, features: features.to_vec() });
    }
    let (measure, relevant) = match &judged.relevant {
        Relevant::Grades(grades) => ("csn", grades.values().copied().collect()),
        Relevant::Rows(rows) => ("mrr", vec![1.0; rows.len()]),
        Relevant::UrlEnd(_) => ("mrr", vec![1.0]),
        Relevant::Files(_, count) => ("files", vec![1.0; *count]),
    };
    let query = &judged.query;
    let line = Line {
        measure,
        group: &judged.group,
        query: &query.text,
        class: QueryClass::of(&query.text),
        repo: query.repo.as_deref(),
        relevant,
        rows,
    };
    Ok(serde_json::to_string(&line)?)
}

/// Grade of a function, as [`Row::grade`] says.
fn grade(relevant: &Relevant, id: &str, path: &str, url: &str) -> f64 {
    match relevant {
        Relevant::Grades(grades) => grades.get(url).copied().unwrap_or_default(),
        Relevant::Rows(rows) => f64::from(u8::from(rows.contains(id) || rows.contains(url))),
        Relevant::UrlEnd(end) => f64::from(u8::from(url.ends_with(end))),
        Relevant::Files(files, _) => files_of(path, files).next().map_or(0.0, |index| index as f64 + 1.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_function_of_a_relevant_file_has_the_number_of_the_file() {
        let files = Relevant::Files(vec!["src/dates.py".to_owned(), "src/clock.py".to_owned()], 2);
        let grade_of = |path| grade(&files, "id", path, "url");
        assert_eq!([grade_of("pkg/src/dates.py"), grade_of("src/clock.py"), grade_of("src/other.py")], [1.0, 2.0, 0.0]);
    }

    #[test]
    fn a_relevant_function_is_named_by_its_id_its_url_or_the_end_of_its_url() {
        let rows = Relevant::Rows(["a".to_owned(), "https://one".to_owned()].into());
        let graded = [("a", "https://two"), ("b", "https://one"), ("b", "https://two")].map(|(id, url)| grade(&rows, id, "path", url));
        assert_eq!(graded, [1.0, 1.0, 0.0]);
        assert_eq!(grade(&Relevant::UrlEnd("one#L3".to_owned()), "a", "path", "https://one#L3"), 1.0);
        assert_eq!(grade(&Relevant::Grades([("https://one".to_owned(), 3.0)].into()), "a", "path", "https://one"), 3.0);
    }
}
