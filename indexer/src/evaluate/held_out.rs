//! The held-out split as questions: a function's documentation (its summary) asks for the function among all of the
//! split. The documentation itself is left out: BM25 searches name and code only, and where the bundle's encoder read it,
//! the split is encoded again without it.

use std::collections::{BTreeSet, HashMap};

use anyhow::{Result, ensure};
use ledger::{Split, Syntax, table};
use rayon::prelude::*;

use super::ranks::{batches, rank};
use super::{Answer, Ranked};
use crate::{
    asked::Asked,
    bundle::OpenBundle,
    embed,
    encoder::BATCH_TOKENS,
    fusion::Scored,
    lexical::{Boosts, Filter},
    vectors::best_first,
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

/// All functions of the split.
pub struct HeldOut<'a> {
    bundle: &'a OpenBundle,
    split: Split,
    pub candidates: Vec<Candidate>,
    rows: BTreeSet<u32>,
    /// Vectors without documentation in the order of the candidates, where the bundle's are with it.
    anew: Option<Vec<f32>>,
}

impl<'a> HeldOut<'a> {
    pub fn read(bundle: &'a OpenBundle, syntax: &Syntax, split: Split) -> Result<Self> {
        ensure!(split != Split::Train, "the training split is not held out: set evaluate.split to valid or test");
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
        ensure!(!candidates.is_empty(), "the {split} split is empty: set evaluate.split = valid, or harvest more repositories");
        let anew = if bundle.manifest().vectors.documentation { Some(encode_anew(bundle, syntax, split, &candidates)?) } else { None };
        let rows = candidates.iter().map(|candidate| candidate.row).collect();
        Ok(Self { bundle, split, candidates, rows, anew })
    }

    /// The documented functions, at most so many, evenly taken.
    pub fn queries(&self, max: Option<usize>) -> Result<Vec<&Candidate>> {
        let queries = evenly(self.candidates.iter().filter(|candidate| !candidate.summary.is_empty()).collect(), max);
        ensure!(!queries.is_empty(), "no documented functions in the {} split to ask for", self.split);
        Ok(queries)
    }

    /// Inner products of the query with every function of the split, best first.
    fn vector_scores(&self, query: &[f32]) -> Vec<Scored> {
        let Some(anew) = &self.anew else {
            return self.bundle.vectors().search_exact(query, self.rows.len(), |row| self.rows.contains(&row));
        };
        let dot = |vector: &[f32]| vector.iter().zip(query).map(|(a, b)| a * b).sum();
        let mut scores: Vec<Scored> =
            self.candidates.iter().zip(anew.chunks_exact(query.len())).map(|(candidate, vector)| (candidate.row, dot(vector))).collect();
        scores.sort_by(best_first);
        scores
    }

    /// Asks all queries; `size` is that of CodeSearchNet's batches.
    pub fn answer(&self, queries: &[&Candidate], size: usize, done: impl Fn() + Sync) -> Result<(Vec<Answer>, usize)> {
        let groups = batches(&queries.iter().map(|query| query.row).collect::<Vec<_>>(), size);
        let batch_of: HashMap<u32, &Vec<u32>> = groups.iter().flat_map(|group| group.iter().map(move |&row| (row, group))).collect();
        let asked: Vec<Asked> = queries.iter().map(|query| self.bundle.words_of(&query.summary)).collect();
        let vectors = self.bundle.encode_queries(&asked)?;
        let rows: Vec<u32> = self.rows.iter().copied().collect();
        let answers = queries
            .par_iter()
            .zip(&asked)
            .zip(vectors.par_chunks(self.bundle.manifest().vectors.dimension))
            .map(|((query, asked), vector)| {
                let answer = self.ask(query, asked, vector, &rows, batch_of.get(&query.row).copied())?;
                done();
                Ok(answer)
            })
            .collect::<Result<_>>()?;
        Ok((answers, groups.first().map_or(0, Vec::len)))
    }

    fn ask(&self, query: &Candidate, asked: &Asked, vector: &[f32], rows: &[u32], batch: Option<&Vec<u32>>) -> Result<Answer> {
        let mut boosts: Boosts = self.bundle.manifest().lexical.boosts;
        boosts.documentation = 0.0;
        let filter = Filter { split: Some(self.split.to_string()), ..Filter::default() };
        let lexical = self.bundle.lexical().search(asked, &filter, Some(boosts), rows.len())?;
        let vectors = self.vector_scores(vector);
        let among = |rows: &[u32], lexical: &[Scored], vectors: &[Scored]| -> (Ranked, Vec<u32>) {
            let systems = self.bundle.systems(lexical, vectors);
            let best = systems[2].iter().take(5).map(|&(row, _)| row).collect();
            (systems.map(|list| rank(&list.into_iter().collect(), query.row, rows)), best)
        };
        let (corpus, found) = among(rows, &lexical, &vectors);
        let batch = batch.map(|batch| {
            let within: BTreeSet<u32> = batch.iter().copied().collect();
            let only = |list: &[Scored]| list.iter().filter(|(row, _)| within.contains(row)).copied().collect::<Vec<Scored>>();
            among(batch, &only(&lexical), &only(&vectors)).0
        });
        let exact = self.bundle.vectors().search_exact(vector, 10, |row| self.rows.contains(&row));
        let quantised = self.bundle.vectors().search(vector, 10, |row| self.rows.contains(&row));
        let recalled = quantised.iter().filter(|(row, _)| exact.iter().any(|(other, _)| other == row)).count();
        Ok(Answer { corpus, batch, found, recalled: (recalled, exact.len()) })
    }
}

/// The split's vectors without documentation, checked to be of the same functions.
fn encode_anew(bundle: &OpenBundle, syntax: &Syntax, split: Split, candidates: &[Candidate]) -> Result<Vec<f32>> {
    let encoder = bundle.encoder();
    let (mut vectors, mut place) = (Vec::new(), 0);
    for shard in syntax.shards.of(split) {
        let batches = table::read(&shard.path, &embed::columns(encoder))?.collect::<Result<Vec<_>>>()?;
        for batch in &batches {
            let own = table::texts(batch, "id")?;
            let same = own.iter().flatten().eq(candidates.iter().skip(place).take(batch.num_rows()).map(|candidate| candidate.id.as_str()));
            ensure!(same, "the bundle was made of other functions than those recorded now: run `make index`");
            place += batch.num_rows();
        }
        let encoded: Vec<Vec<f32>> =
            batches.par_iter().map(|batch| embed::vectors_of(encoder, batch, false, BATCH_TOKENS)).collect::<Result<_>>()?;
        encoded.into_iter().for_each(|part| vectors.extend(part));
    }
    ensure!(place == candidates.len(), "the bundle was made of other functions than those recorded now: run `make index`");
    Ok(vectors)
}

/// At most `max` items, evenly spread.
fn evenly<T: Copy>(items: Vec<T>, max: Option<usize>) -> Vec<T> {
    match max {
        Some(max) if items.len() > max && max > 0 => (0..max).map(|index| items[index * items.len() / max]).collect(),
        _ => items,
    }
}
