//! A split as questions: a function's documentation (its summary) asks for the function among all of the split. The
//! documentation itself is left out: BM25 searches name and code only, and where the bundle's encoder read it, the split is
//! encoded again without it. Evaluation asks so of a held-out split, and a fusion is learnt so.

use std::collections::HashMap;

use anyhow::{Result, ensure};
use arrow::{array::BooleanArray, compute::filter_record_batch};
use ledger::{Split, Syntax, table};
use rayon::prelude::*;

use crate::{
    asked::Asked,
    bundle::{Answers, Mode, OpenBundle},
    embed,
    encoder::BATCH_TOKENS,
    ranking::{Scored, best_first},
};

/// A function of the split.
#[derive(Debug)]
pub struct Candidate {
    pub row: u32,
    pub id: String,
    pub language: String,
    pub name: String,
    pub summary: String,
}

/// Functions of a split.
pub struct Questions<'a> {
    bundle: &'a OpenBundle,
    split: Split,
    /// By row.
    pub candidates: Vec<Candidate>,
    allowed: Vec<bool>,
    /// Vectors without documentation in the order of the candidates, where the bundle's are with it.
    anew: Option<Vec<f32>>,
}

impl<'a> Questions<'a> {
    /// At most `most` functions of the split, evenly taken.
    pub fn read(bundle: &'a OpenBundle, syntax: &Syntax, split: Split, most: Option<usize>) -> Result<Self> {
        let mut candidates = Vec::new();
        let mut row = 0u32;
        for batch in table::read(&bundle.dir().join("docs.parquet"), &["id", "split", "language", "func_name", "summary"])? {
            let batch = batch?;
            let text = |name: &str| table::texts(&batch, name);
            let (id, splits, languages, names, summaries) =
                (text("id")?, text("split")?, text("language")?, text("func_name")?, text("summary")?);
            for place in 0..batch.num_rows() {
                if splits.value(place) == split.name() {
                    candidates.push(Candidate {
                        row,
                        id: id.value(place).to_owned(),
                        language: languages.value(place).to_owned(),
                        name: names.value(place).to_owned(),
                        summary: summaries.value(place).to_owned(),
                    });
                }
                row += 1;
            }
        }
        let candidates = evenly(candidates, most);
        let mut allowed = vec![false; row as usize];
        candidates.iter().for_each(|candidate| allowed[candidate.row as usize] = true);
        let mut questions = Self { bundle, split, candidates, allowed, anew: None };
        if bundle.manifest().vectors.documentation {
            questions.anew = Some(questions.encode_anew(syntax)?);
        }
        Ok(questions)
    }

    /// The documented functions, at most so many, evenly taken.
    pub fn queries(&self, most: Option<usize>) -> Vec<&Candidate> {
        evenly(self.candidates.iter().filter(|candidate| !candidate.summary.is_empty()).collect(), most)
    }

    /// Asks all queries, in parallel; `with` gets each query, what both sides say of all functions, and the cosines.
    pub fn ask<T: Send>(
        &self,
        queries: &[&Candidate],
        with: impl Fn(&Candidate, &Answers, &dyn Fn(u32) -> f32) -> Result<T> + Sync,
    ) -> Result<Vec<T>> {
        let asked: Vec<Asked> = queries.iter().map(|query| self.bundle.words_of(&query.summary)).collect();
        let vectors = self.bundle.encode_queries(&asked)?;
        let mut boosts = self.bundle.manifest().lexical.boosts;
        boosts.documentation = 0.0;
        queries
            .par_iter()
            .zip(&asked)
            .zip(vectors.par_chunks(self.bundle.manifest().vectors.dimension))
            .map(|((query, asked), vector)| {
                let nearest = self.vector_scores(vector);
                let cosines: HashMap<u32, f32> = nearest.iter().copied().collect();
                let answers = self.bundle.answers(asked, Mode::Hybrid, self.allowed.len(), Some(&self.allowed), boosts, nearest)?;
                with(query, &answers, &|row| cosines.get(&row).copied().unwrap_or_default())
            })
            .collect()
    }

    /// Inner products of the query with every function, best first.
    fn vector_scores(&self, query: &[f32]) -> Vec<Scored> {
        let Some(anew) = &self.anew else {
            return self.bundle.vectors().search_exact(query, self.candidates.len(), Some(&self.allowed));
        };
        let dot = |vector: &[f32]| vector.iter().zip(query).map(|(a, b)| a * b).sum();
        let mut scores: Vec<Scored> =
            self.candidates.iter().zip(anew.chunks_exact(query.len())).map(|(candidate, vector)| (candidate.row, dot(vector))).collect();
        scores.sort_by(best_first);
        scores
    }

    /// The functions' vectors without documentation.
    fn encode_anew(&self, syntax: &Syntax) -> Result<Vec<f32>> {
        let encoder = self.bundle.encoder();
        let (mut vectors, mut place) = (Vec::new(), 0);
        for shard in syntax.shards.of(self.split) {
            let mut batches = Vec::new();
            for batch in table::read(&shard.path, &embed::columns(encoder))? {
                let batch = batch?;
                let kept: BooleanArray = table::texts(&batch, "id")?
                    .iter()
                    .map(|id| {
                        let taken = self.candidates.get(place).is_some_and(|candidate| id == Some(candidate.id.as_str()));
                        place += usize::from(taken);
                        Some(taken)
                    })
                    .collect();
                let batch = filter_record_batch(&batch, &kept)?;
                batches.push(batch);
            }
            let encoded: Vec<Vec<f32>> =
                batches.par_iter().map(|batch| embed::vectors_of(encoder, batch, false, BATCH_TOKENS)).collect::<Result<_>>()?;
            encoded.into_iter().for_each(|part| vectors.extend(part));
        }
        ensure!(place == self.candidates.len(), "the bundle was made of other functions than those recorded now: run `make index`");
        Ok(vectors)
    }
}

/// At most `most` items, evenly spread.
fn evenly<T>(items: Vec<T>, most: Option<usize>) -> Vec<T> {
    match most {
        Some(most) if items.len() > most => {
            let (len, mut next) = (items.len(), 0);
            let mut taken = Vec::with_capacity(most);
            for (place, item) in items.into_iter().enumerate() {
                if next < most && place == next * len / most {
                    taken.push(item);
                    next += 1;
                }
            }
            taken
        }
        _ => items,
    }
}
