//! BM25 with k1 and b of our own, field by field, in one pass over the postings of a query's terms.
//!
//! ```text
//! score(row) = Σ boost(field) · idf(term, field) · (k1 + 1) · tf / (tf + k1 · (1 − b + b · length / mean length))
//! idf = ln(1 + (N − n + 0.5) / (n + 0.5))     N rows, n of them with the term in the field
//! ```
//! tantivy's own scorer computes the same, but with k1 1.2 and b 0.75 only, and without saying what a field adds. Lengths are
//! tantivy's field norms: exact up to 40 words, then in steps of some 10 %.

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use tantivy::{
    Searcher, SegmentReader, Term, columnar::Column, fieldnorm::FieldNormReader, query::Bm25StatisticsProvider, schema::Field,
    schema::IndexRecordOption,
};

use super::{Boosts, TEXT_FIELDS};
use crate::ranking::{Best, Scored, best_first};

/// How fast repetition saturates, and how much a long field counts less (Robertson & Zaragoza 2009).
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Bm25 {
    pub k1: f64,
    pub b: f64,
}

/// What a row has of a query's terms.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Evidence {
    /// BM25 by field, boosts included, in the order of [`TEXT_FIELDS`].
    pub fields: [f32; TEXT_FIELDS.len()],
    /// Sum of the idf of the terms that are in any field searched.
    pub covered: f32,
    /// The last term that was counted as covered, from 1.
    last: u32,
}

impl Evidence {
    /// BM25 over all fields.
    pub fn score(&self) -> f32 {
        self.fields.iter().sum()
    }

    #[cfg(test)]
    pub fn of(score: f32) -> Self {
        Self { fields: [0.0, 0.0, 0.0, score, 0.0], ..Self::default() }
    }
}

/// What the terms of a query weigh in this index.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Weights {
    pub terms: usize,
    /// Sum of the terms' idf, each that of the field where most rows have it.
    pub idf: f32,
    /// Sum over the terms of the most that one field could add.
    pub most: f32,
}

/// One field as it is searched.
pub struct TextField {
    /// In [`TEXT_FIELDS`].
    pub place: usize,
    pub field: Field,
    /// `k1 · (1 − b + b · length / mean length)` by the id of a length.
    norms: [f32; 256],
}

impl TextField {
    pub fn open(searcher: &Searcher, place: usize, field: Field, bm25: Bm25) -> Result<Self> {
        let (tokens, rows) = (searcher.total_num_tokens(field)?, searcher.total_num_docs()?);
        let (mean, k1, b) = (tokens as f32 / rows.max(1) as f32, bm25.k1 as f32, bm25.b as f32);
        let mut norms = [0.0; 256];
        for (id, norm) in (0..=u8::MAX).zip(&mut norms) {
            let length = FieldNormReader::id_to_fieldnorm(id) as f32;
            *norm = k1 * (1.0 - b + if mean > 0.0 { b * length / mean } else { 0.0 });
        }
        Ok(Self { place, field, norms })
    }
}

/// A term, and what its repetitions weigh in each of the fields.
struct Weighed {
    term: String,
    /// By [`TextField`]; 0 where it is not searched.
    by_field: Vec<f32>,
    idf: f32,
}

/// What is asked of all segments.
pub struct Scorer<'a> {
    searcher: &'a Searcher,
    fields: &'a [TextField],
    terms: Vec<Weighed>,
    pub weights: Weights,
}

/// The best rows, best first, and what is known of each and of the rows that were asked for besides.
pub struct Found {
    pub ranked: Vec<Scored>,
    pub evidence: Vec<(u32, Evidence)>,
}

impl<'a> Scorer<'a> {
    /// `terms` are distinct and sorted: sums are made in their order.
    pub fn new(searcher: &'a Searcher, fields: &'a [TextField], terms: &[String], boosts: Boosts, bm25: Bm25) -> Result<Self> {
        let rows = searcher.total_num_docs()?;
        let (boosts, saturation) = (boosts.list(), bm25.k1 as f32 + 1.0);
        let mut weights = Weights { terms: terms.len(), ..Weights::default() };
        let mut weighed = Vec::with_capacity(terms.len());
        for term in terms {
            let mut own = Weighed { term: term.clone(), by_field: vec![0.0; fields.len()], idf: 0.0 };
            let mut frequency = 0;
            for (field, weight) in fields.iter().zip(&mut own.by_field).filter(|(field, _)| boosts[field.place] > 0.0) {
                let having = searcher.doc_freq(&Term::from_field_text(field.field, term))?;
                *weight = if having > 0 { boosts[field.place] as f32 * idf(having, rows) * saturation } else { 0.0 };
                frequency = frequency.max(having);
            }
            own.idf = idf(frequency, rows);
            weights.idf += own.idf;
            weights.most += own.by_field.iter().copied().fold(0.0, f32::max);
            weighed.push(own);
        }
        Ok(Self { searcher, fields, terms: weighed, weights })
    }

    /// The best `limit` of the rows that `keep` accepts and that have any of the terms (`all`: or none of them), and evidence of
    /// these and of the rows `besides`, which are sorted.
    pub fn search(&self, limit: usize, keep: impl Fn(u32) -> bool, all: bool, besides: &[u32]) -> Result<Found> {
        let mut best = Best::new(limit);
        let mut evidence = Vec::with_capacity(besides.len());
        let mut cells = Vec::new();
        for segment in self.searcher.segment_readers() {
            self.accumulate(segment, &mut cells)?;
            let rows = segment.fast_fields().u64("row")?;
            let start = row_of(&rows, 0)?;
            for (doc, cell) in cells.iter().enumerate() {
                let score = cell.score();
                if (score > 0.0 || all) && score > best.least {
                    let row = start + doc as u32;
                    if keep(row) {
                        best.offer((row, score), *cell);
                    }
                }
            }
            let from = besides.partition_point(|&row| row < start);
            for &row in besides[from..].iter().take_while(|&&row| ((row - start) as usize) < cells.len()) {
                evidence.push((row, cells[(row - start) as usize]));
            }
        }
        let mut found = best.rows();
        found.sort_by(|a, b| best_first(&a.0, &b.0));
        evidence.extend(found.iter().map(|&((row, _), cell)| (row, cell)));
        Ok(Found { ranked: found.into_iter().map(|(scored, _)| scored).collect(), evidence })
    }

    /// Evidence of every document of a segment.
    fn accumulate(&self, segment: &SegmentReader, cells: &mut Vec<Evidence>) -> Result<()> {
        cells.clear();
        cells.resize(segment.max_doc() as usize, Evidence::default());
        let inverted = self.fields.iter().map(|field| segment.inverted_index(field.field)).collect::<tantivy::Result<Vec<_>>>()?;
        let lengths = self.fields.iter().map(|field| segment.get_fieldnorms_reader(field.field)).collect::<tantivy::Result<Vec<_>>>()?;
        for (number, term) in self.terms.iter().enumerate() {
            for (place, field) in self.fields.iter().enumerate().filter(|(place, _)| term.by_field[*place] > 0.0) {
                let asked = Term::from_field_text(field.field, &term.term);
                let Some(mut postings) = inverted[place].read_block_postings(&asked, IndexRecordOption::WithFreqs)? else { continue };
                let (weight, lengths) = (term.by_field[place], &lengths[place]);
                while postings.block_len() > 0 {
                    for (&doc, &frequency) in postings.docs().iter().zip(postings.freqs()) {
                        let cell = cells.get_mut(doc as usize).context("a posting beyond its segment: the index is damaged")?;
                        let frequency = frequency as f32;
                        cell.fields[field.place] +=
                            weight * (frequency / (frequency + field.norms[usize::from(lengths.fieldnorm_id(doc))]));
                        if cell.last != number as u32 + 1 {
                            cell.last = number as u32 + 1;
                            cell.covered += term.idf;
                        }
                    }
                    postings.advance();
                }
            }
        }
        Ok(())
    }
}

fn idf(having: u64, rows: u64) -> f32 {
    (1.0 + (rows.saturating_sub(having) as f32 + 0.5) / (having as f32 + 0.5)).ln()
}

/// The row of a document: those of a segment are consecutive.
pub fn row_of(rows: &Column<u64>, doc: u32) -> Result<u32> {
    Ok(u32::try_from(rows.first(doc).context("a document without row: the index is damaged")?)?)
}
