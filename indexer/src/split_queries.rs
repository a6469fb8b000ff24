//! Queries from documentation: the summary of a function is the query, the function is the answer, and all functions of the split are
//! searched. Functions that duplicate another one are left out.
//!
//! The documentation is not searched: BM25 reads the other fields, and where the bundle's encoder read the documentation, the functions
//! are encoded again without it. `evaluate` scores a held-out split with these queries, and `index` learns a fusion from another split.

use std::collections::HashMap;

use arrow::{
    array::{Array, BooleanArray},
    compute::filter_record_batch,
};
use bundle::{
    Bundle, CandidateLists, Mode, ParsedQuery,
    lexical::{Part, Selection},
    manifest::DOCS,
    ranking::{Scored, best_first},
};
use inference::BATCH_TOKENS;
use ledger::{Split, Syntax, ensure, table};
use rayon::prelude::*;

use crate::{Result, embed};

/// A function of the split.
#[derive(Debug)]
pub struct SplitFunction {
    pub row: u32,
    pub id: String,
    pub language: String,
    pub repo: String,
    pub path: String,
    pub name: String,
    pub summary: String,
}

/// A query about a function of a split.
#[derive(Debug)]
pub struct SplitQuery<'f> {
    pub text: String,
    /// The function that the text is about.
    pub function: &'f SplitFunction,
    /// Is the text made of the documentation, which is then not searched?
    pub hides_documentation: bool,
    /// Are only the functions of the function's repository searched?
    pub within_repository: bool,
}

impl<'f> SplitQuery<'f> {
    /// The summary of a function, which searches the whole split.
    pub fn of_summary(function: &'f SplitFunction) -> Self {
        Self { text: function.summary.clone(), function, hides_documentation: true, within_repository: false }
    }
}

/// The functions of a split, and the search among them.
pub struct SplitQueries<'a> {
    bundle: &'a Bundle,
    split: Split,
    /// In order of their rows.
    pub functions: Vec<SplitFunction>,
    /// By row of the bundle: is it one of the functions?
    allowed: Vec<bool>,
    /// Vectors without documentation in the order of the functions, where the bundle's vectors contain the documentation.
    vectors: Option<Vec<f32>>,
}

impl<'a> SplitQueries<'a> {
    /// Reads at most `limit` functions of the split, evenly spread.
    pub fn read(bundle: &'a Bundle, syntax: &Syntax, split: Split, limit: Option<usize>) -> Result<Self> {
        let mut functions = Vec::new();
        let mut row = 0u32;
        for batch in
            table::read(&bundle.dir().join(DOCS), &["id", "split", "language", "repo", "path", "func_name", "summary", "duplicate_of"])?
        {
            let batch = batch?;
            let text = |name: &str| table::texts(&batch, name);
            let (id, splits, languages, names, summaries) =
                (text("id")?, text("split")?, text("language")?, text("func_name")?, text("summary")?);
            let (repos, paths, duplicate_of) = (text("repo")?, text("path")?, text("duplicate_of")?);
            for index in 0..batch.num_rows() {
                if splits.value(index) == split.name() && duplicate_of.is_null(index) {
                    functions.push(SplitFunction {
                        row,
                        id: id.value(index).to_owned(),
                        language: languages.value(index).to_owned(),
                        repo: repos.value(index).to_owned(),
                        path: paths.value(index).to_owned(),
                        name: names.value(index).to_owned(),
                        summary: summaries.value(index).to_owned(),
                    });
                }
                row += 1;
            }
        }
        let functions = evenly(functions, limit);
        let mut allowed = vec![false; row as usize];
        functions.iter().for_each(|function| allowed[function.row as usize] = true);
        let mut queries = Self { bundle, split, functions, allowed, vectors: None };
        if bundle.manifest().vectors.documentation {
            queries.vectors = Some(queries.encode_without_documentation(syntax)?);
        }
        Ok(queries)
    }

    /// Is a row of the bundle one of the functions?
    pub fn contains(&self, row: u32) -> bool {
        self.allowed.get(row as usize).copied().unwrap_or_default()
    }

    /// The documented functions, at most `limit`, evenly spread.
    pub fn documented(&self, limit: Option<usize>) -> Vec<&SplitFunction> {
        evenly(self.functions.iter().filter(|function| !function.summary.is_empty()).collect(), limit)
    }

    /// Searches with the summaries of these functions, in parallel; `with` receives the function, both lists over all functions of
    /// the split, and the cosines by row.
    pub fn search<T: Send>(
        &self,
        queries: &[&SplitFunction],
        with: impl Fn(&SplitFunction, &CandidateLists, &dyn Fn(u32) -> f32) -> Result<T> + Sync,
    ) -> Result<Vec<T>> {
        let queries: Vec<SplitQuery<'_>> = queries.iter().map(|function| SplitQuery::of_summary(function)).collect();
        self.search_with(&queries.iter().collect::<Vec<_>>(), |index, lists, cosine| with(queries[index].function, lists, cosine))
    }

    /// Searches with these queries, in parallel; `with` receives the index of the query, both lists over the functions that it searches, and the
    /// cosines by row.
    pub fn search_with<T: Send>(
        &self,
        queries: &[&SplitQuery<'_>],
        with: impl Fn(usize, &CandidateLists, &dyn Fn(u32) -> f32) -> Result<T> + Sync,
    ) -> Result<Vec<T>> {
        let parsed: Vec<ParsedQuery> = queries.iter().map(|query| self.bundle.parse_words(&query.text)).collect();
        let vectors = self.bundle.encode_queries(&parsed)?;
        queries
            .par_iter()
            .zip(&parsed)
            .zip(vectors.par_chunks(self.bundle.manifest().vectors.dimension))
            .enumerate()
            .map(|(index, ((query, parsed), vector))| {
                let own = query.within_repository.then(|| self.of_repository(&query.function.repo));
                let allowed = own.as_deref().unwrap_or(&self.allowed);
                let nearest = self.vector_scores(vector, allowed, query.hides_documentation)?;
                let cosines: HashMap<u32, f32> = nearest.iter().copied().collect();
                let hidden = query.hides_documentation.then_some(Part::Documentation);
                let selection = Selection { limit: allowed.len(), allowed: Some(allowed), hidden, ..Selection::default() };
                let lists = self.bundle.candidate_lists(parsed, Mode::Hybrid, &selection, nearest)?;
                with(index, &lists, &|row| cosines.get(&row).copied().unwrap_or_default())
            })
            .collect()
    }

    /// By row of the bundle: is it one of the functions of this repository?
    fn of_repository(&self, repo: &str) -> Vec<bool> {
        let mut allowed = vec![false; self.allowed.len()];
        self.functions.iter().filter(|function| function.repo == repo).for_each(|function| allowed[function.row as usize] = true);
        allowed
    }

    /// Inner products of the query with every allowed function, best first.
    fn vector_scores(&self, query: &[f32], allowed: &[bool], hides_documentation: bool) -> Result<Vec<Scored>> {
        let Some(vectors) = self.vectors.as_ref().filter(|_| hides_documentation) else {
            return Ok(self.bundle.vectors().search_exact(query, self.functions.len(), Some(allowed))?);
        };
        let dot = |vector: &[f32]| vector.iter().zip(query).map(|(a, b)| a * b).sum();
        let mut scores: Vec<Scored> = self
            .functions
            .iter()
            .zip(vectors.chunks_exact(query.len()))
            .filter(|(function, _)| allowed[function.row as usize])
            .map(|(function, vector)| (function.row, dot(vector)))
            .collect();
        scores.sort_by(best_first);
        Ok(scores)
    }

    /// The functions' vectors without documentation.
    fn encode_without_documentation(&self, syntax: &Syntax) -> Result<Vec<f32>> {
        let encoder = self.bundle.encoder()?;
        let (mut vectors, mut next) = (Vec::new(), 0);
        for shard in syntax.shards.of(self.split) {
            let mut batches = Vec::new();
            for batch in table::read(&shard.path, &embed::columns(encoder))? {
                let batch = batch?;
                let kept: BooleanArray = table::texts(&batch, "id")?
                    .iter()
                    .map(|id| {
                        let is_next = self.functions.get(next).is_some_and(|function| id == Some(function.id.as_str()));
                        next += usize::from(is_next);
                        Some(is_next)
                    })
                    .collect();
                let batch = filter_record_batch(&batch, &kept)?;
                batches.push(batch);
            }
            let encoded: Vec<Vec<f32>> =
                batches.par_iter().map(|batch| embed::vectors_of(encoder, batch, false, BATCH_TOKENS)).collect::<Result<_>>()?;
            encoded.into_iter().for_each(|part| vectors.extend(part));
        }
        ensure!(
            next == self.functions.len(),
            "the bundle was built from other functions than those recorded now: run `codenets run --only index`"
        );
        Ok(vectors)
    }
}

/// At most `limit` items, evenly spread.
pub fn evenly<T>(items: Vec<T>, limit: Option<usize>) -> Vec<T> {
    match limit {
        Some(limit) if items.len() > limit => {
            let (len, mut next) = (items.len(), 0);
            let mut taken = Vec::with_capacity(limit);
            for (index, item) in items.into_iter().enumerate() {
                if next < limit && index == next * len / limit {
                    taken.push(item);
                    next += 1;
                }
            }
            taken
        }
        _ => items,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn items_are_taken_evenly_up_to_the_limit() {
        let take = |limit: Option<usize>| evenly((0..10).collect(), limit);
        assert_eq!(take(None), (0..10).collect::<Vec<_>>());
        assert_eq!(take(Some(10)), (0..10).collect::<Vec<_>>());
        assert_eq!(take(Some(4)), [0, 2, 5, 7]);
        assert_eq!(take(Some(1)), [0]);
        assert_eq!(take(Some(0)), [0; 0]);
    }
}
