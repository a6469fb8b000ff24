//! The functions of a bundle, as retractions choose them.

use std::{collections::HashSet, path::Path};

use arrow::array::Array;
use bundle::{
    guard::guarded,
    manifest::{CONTENT, DOCS},
};
use ledger::{Retracted, Retraction, table};
use serde::Serialize;

use crate::{Result, error::Context};

/// A function of a bundle.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Function {
    pub id: String,
    pub repo: String,
    pub path: String,
    pub func_name: String,
    /// Digest of its code; none in formats 3 and 4.
    #[serde(skip)]
    pub content: Option<String>,
}

/// Calls `take` with each function of the bundle in a folder, in row order.
pub fn each(folder: &Path, take: impl FnMut(Function)) -> Result<()> {
    let docs = folder.join(DOCS);
    guarded(&docs, || each_row(&docs, take))
}

fn each_row(docs: &Path, mut take: impl FnMut(Function)) -> Result<()> {
    let has_content = table::column_names(docs)?.iter().any(|name| name == CONTENT);
    let mut columns = vec!["id", "repo", "path", "func_name"];
    columns.extend(has_content.then_some(CONTENT));
    for batch in table::read(docs, &columns).with_context(|| format!("reading {}", docs.display()))? {
        let batch = batch?;
        let texts = columns.iter().map(|name| Ok(table::texts(&batch, name)?)).collect::<Result<Vec<_>>>()?;
        for row in 0..batch.num_rows() {
            let text = |column: usize| texts[column].value(row).to_owned();
            let content = texts.get(4).filter(|contents| contents.is_valid(row)).map(|contents| contents.value(row).to_owned());
            take(Function { id: text(0), repo: text(1), path: text(2), func_name: text(3), content });
        }
    }
    Ok(())
}

/// What a list deletes, for fast comparison with many functions.
#[derive(Debug, Default)]
pub struct Selection {
    ids: HashSet<String>,
    contents: HashSet<String>,
    files: HashSet<(String, String)>,
    repositories: HashSet<String>,
}

impl Selection {
    /// The selection of a list.
    pub fn of(list: &Retracted) -> Self {
        let mut selection = Self::default();
        for retraction in list.retractions() {
            match retraction {
                Retraction::Function(id) | Retraction::Id(id) => selection.ids.insert(id),
                Retraction::Content(digest) => selection.contents.insert(digest),
                Retraction::File { repo, path } => selection.files.insert((repo, path)),
                Retraction::Repository(repo) => selection.repositories.insert(repo),
            };
        }
        selection
    }

    /// Does the list delete the function?
    pub fn has(&self, function: &Function) -> bool {
        self.ids.contains(&function.id)
            || function.content.as_ref().is_some_and(|content| self.contents.contains(content))
            || self.repositories.contains(&function.repo)
            || !self.files.is_empty() && self.files.contains(&(function.repo.clone(), function.path.clone()))
    }

    /// The functions of a bundle that the list deletes, sorted by id.
    pub fn in_bundle(&self, folder: &Path) -> Result<Vec<Function>> {
        let mut found = Vec::new();
        each(folder, |function| {
            if self.has(&function) {
                found.push(function);
            }
        })?;
        found.sort();
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_function_is_selected_by_its_id_its_content_its_file_or_its_repository() {
        let function = |id: &str, content: Option<&str>| Function {
            id: id.to_owned(),
            repo: "team/a".to_owned(),
            path: "b.go".to_owned(),
            func_name: "F".to_owned(),
            content: content.map(str::to_owned),
        };
        let own = function("1", Some("c1"));
        let has = |line: &str| Selection::of(&Retracted::of_lines(line)).has(&own);
        for line in ["1", "id\t1", "content\tc1", "path\tteam/a\tb.go", "repo\tteam/a"] {
            assert!(has(line), "{line}");
        }
        for line in ["", "c1", "id\tc1", "content\t1", "path\tteam/a\tc.go", "path\tteam/b\tb.go", "repo\tteam"] {
            assert!(!has(line), "{line}");
        }
        assert!(!Selection::of(&Retracted::of_lines("content\tc1")).has(&function("1", None)));
    }
}
