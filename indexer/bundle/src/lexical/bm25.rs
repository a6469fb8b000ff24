//! BM25 with configurable k1 and b, field by field, in one pass over the postings of a query's terms.
//!
//! ```text
//! score(row) = Σ boost(field) · idf(term, field) · (k1 + 1) · tf / (tf + k1 · (1 − b + b · length / mean length))
//! idf = ln(1 + (N − n + 0.5) / (n + 0.5))     N rows, n of them with the term in the field
//! ```
//! tantivy's own scorer computes the same score, but only with k1 1.2 and b 0.75, and not by field. Lengths are tantivy's field norms:
//! exact up to 40 words, then in steps of about 10 %.

use tantivy::{
    Searcher, SegmentReader, Term, columnar::Column, fieldnorm::FieldNormReader, query::Bm25StatisticsProvider, schema::Field,
    schema::IndexRecordOption,
};

use super::fields::{Bm25, Boosts, TEXT_FIELDS};
use crate::{
    Result,
    error::Context,
    ranking::{Best, Scored, best_first},
};

/// The scores of a row by the terms of a query.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct TermScores {
    /// BM25 by field, boosts included, in the order of [`TEXT_FIELDS`].
    pub fields: [f32; TEXT_FIELDS.len()],
    /// Sum of the idf of the terms that any searched field contains.
    pub covered: f32,
    /// Number (from 1) of the last term that was added to `covered`.
    last: u32,
}

impl TermScores {
    /// BM25 over all fields.
    pub fn score(&self) -> f32 {
        self.fields.iter().sum()
    }

    /// A score in the field `code` only.
    #[cfg(test)]
    pub(crate) fn of(score: f32) -> Self {
        Self { fields: [0.0, 0.0, 0.0, score, 0.0], ..Self::default() }
    }
}

/// Statistics of a query's terms in an index.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct QueryStats {
    /// Distinct terms that are scored.
    pub terms: usize,
    /// Sum of the idf of the terms; a term's idf is that of the field that contains it in most rows.
    pub idf: f32,
    /// Sum over the terms of the largest score that one field could add.
    pub max_score: f32,
}

/// A text field of an open index.
pub(super) struct TextField {
    /// Position in [`TEXT_FIELDS`].
    pub position: usize,
    pub field: Field,
    /// `k1 · (1 − b + b · length / mean length)` by the id of tantivy's field norm.
    norms: [f32; 256],
}

impl TextField {
    pub fn open(searcher: &Searcher, position: usize, field: Field, bm25: Bm25) -> Result<Self> {
        let (tokens, rows) = (searcher.total_num_tokens(field)?, searcher.total_num_docs()?);
        let (mean, k1, b) = (tokens as f32 / rows.max(1) as f32, bm25.k1 as f32, bm25.b as f32);
        let mut norms = [0.0; 256];
        for (id, norm) in (0..=u8::MAX).zip(&mut norms) {
            let length = FieldNormReader::id_to_fieldnorm(id) as f32;
            *norm = k1 * (1.0 - b + if mean > 0.0 { b * length / mean } else { 0.0 });
        }
        Ok(Self { position, field, norms })
    }
}

/// A term with its weight in each field.
struct WeightedTerm {
    term: String,
    /// By [`TextField`]; 0 where the field is not searched.
    by_field: Vec<f32>,
    idf: f32,
}

/// Scores one query in all segments.
pub(super) struct Scorer<'a> {
    searcher: &'a Searcher,
    fields: &'a [TextField],
    terms: Vec<WeightedTerm>,
    pub stats: QueryStats,
}

/// Result of a lexical search.
#[derive(Debug, Clone)]
pub struct LexicalList {
    /// Rows with their BM25 score, best first.
    pub ranked: Vec<Scored>,
    /// Scores by term of the ranked rows, and of the other rows that the caller named.
    pub term_scores: Vec<(u32, TermScores)>,
}

impl<'a> Scorer<'a> {
    /// `terms` are distinct and sorted: scores are added in their order.
    pub fn new(searcher: &'a Searcher, fields: &'a [TextField], terms: &[String], boosts: Boosts, bm25: Bm25) -> Result<Self> {
        let rows = searcher.total_num_docs()?;
        let (boosts, saturation) = (boosts.list(), bm25.k1 as f32 + 1.0);
        let mut stats = QueryStats { terms: terms.len(), ..QueryStats::default() };
        let mut weighted = Vec::with_capacity(terms.len());
        for term in terms {
            let mut weighted_term = WeightedTerm { term: term.clone(), by_field: vec![0.0; fields.len()], idf: 0.0 };
            let mut frequency = 0;
            for (field, weight) in fields.iter().zip(&mut weighted_term.by_field).filter(|(field, _)| boosts[field.position] > 0.0) {
                let doc_freq = searcher.doc_freq(&Term::from_field_text(field.field, term))?;
                *weight = if doc_freq > 0 { boosts[field.position] as f32 * idf(doc_freq, rows) * saturation } else { 0.0 };
                frequency = frequency.max(doc_freq);
            }
            weighted_term.idf = idf(frequency, rows);
            stats.idf += weighted_term.idf;
            stats.max_score += weighted_term.by_field.iter().copied().fold(0.0, f32::max);
            weighted.push(weighted_term);
        }
        Ok(Self { searcher, fields, terms: weighted, stats })
    }

    /// The best `limit` of the rows that `keep` accepts and that contain a term (`unmatched`: also rows without any term), and the
    /// scores by term of these rows and of `others`, which are sorted.
    pub fn search(&self, limit: usize, keep: impl Fn(u32) -> bool, unmatched: bool, others: &[u32]) -> Result<LexicalList> {
        let mut best = Best::new(limit);
        let mut term_scores = Vec::with_capacity(others.len());
        let mut cells = Vec::new();
        for segment in self.searcher.segment_readers() {
            self.accumulate(segment, &mut cells)?;
            let rows = segment.fast_fields().u64("row")?;
            let start = row_of(&rows, 0)?;
            for (doc, cell) in cells.iter().enumerate() {
                let score = cell.score();
                if (score > 0.0 || unmatched) && score > best.threshold() {
                    let row = start + doc as u32;
                    if keep(row) {
                        best.offer((row, score), *cell);
                    }
                }
            }
            let from = others.partition_point(|&row| row < start);
            for &row in others[from..].iter().take_while(|&&row| ((row - start) as usize) < cells.len()) {
                term_scores.push((row, cells[(row - start) as usize]));
            }
        }
        let mut found = best.into_rows();
        found.sort_by(|a, b| best_first(&a.0, &b.0));
        term_scores.extend(found.iter().map(|&((row, _), cell)| (row, cell)));
        Ok(LexicalList { ranked: found.into_iter().map(|(scored, _)| scored).collect(), term_scores })
    }

    /// Scores of every document of a segment.
    fn accumulate(&self, segment: &SegmentReader, cells: &mut Vec<TermScores>) -> Result<()> {
        cells.clear();
        cells.resize(segment.max_doc() as usize, TermScores::default());
        let inverted = self.fields.iter().map(|field| segment.inverted_index(field.field)).collect::<tantivy::Result<Vec<_>>>()?;
        let lengths = self.fields.iter().map(|field| segment.get_fieldnorms_reader(field.field)).collect::<tantivy::Result<Vec<_>>>()?;
        for (number, term) in self.terms.iter().enumerate() {
            for (index, field) in self.fields.iter().enumerate().filter(|(index, _)| term.by_field[*index] > 0.0) {
                let key = Term::from_field_text(field.field, &term.term);
                let Some(mut postings) = inverted[index].read_block_postings(&key, IndexRecordOption::WithFreqs)? else { continue };
                let (weight, lengths) = (term.by_field[index], &lengths[index]);
                while postings.block_len() > 0 {
                    for (&doc, &frequency) in postings.docs().iter().zip(postings.freqs()) {
                        let cell =
                            cells.get_mut(doc as usize).context("the lexical index is damaged: a posting lies beyond its segment")?;
                        let frequency = frequency as f32;
                        cell.fields[field.position] +=
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

fn idf(doc_freq: u64, rows: u64) -> f32 {
    (1.0 + (rows.saturating_sub(doc_freq) as f32 + 0.5) / (doc_freq as f32 + 0.5)).ln()
}

/// The row of a document.
pub(super) fn row_of(rows: &Column<u64>, doc: u32) -> Result<u32> {
    Ok(u32::try_from(rows.first(doc).context("the lexical index is damaged: a document has no row")?)?)
}
