//! Scores of rows by the words of a query, in one pass over the postings of the words.
//!
//! tantivy's own scorer computes BM25 only with k1 1.2 and b 0.75, for one field, and not by group of fields. Lengths are tantivy's
//! field norms: exact up to 40 words, then in steps of about 10 %. [`Scoring`] has the formulas.

use std::collections::BTreeMap;

use tantivy::{
    DocSet, Searcher, SegmentReader, Term,
    columnar::Column,
    fieldnorm::FieldNormReader,
    postings::Postings,
    query::Bm25StatisticsProvider,
    schema::{Field, IndexRecordOption},
};

use super::{fields::Part, selection::Selection, settings::Scoring};
use crate::{
    Result,
    deadline::Deadline,
    error::Context,
    ranking::{Best, Scored, best_first},
};

/// Scores of a row by the words of a query.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct TermScores {
    /// The lexical score.
    pub score: f32,
    /// Sum of the idf of the words that any searched field contains.
    pub covered: f32,
    /// Bit i: does any searched field contain the i-th word? Words beyond the 64th have no bit.
    pub words: u64,
    /// By [`Part`]: the sum of the idf of the words that a field of the group contains. In formats 3 and 4: the score of the group.
    pub parts: [f32; Part::ALL.len()],
}

/// Statistics of the words of a query in an index.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct QueryStats {
    /// Distinct words that are scored.
    pub terms: usize,
    /// Sum of the idf of the words. In formats 3 and 4 a word's idf is that of the field that contains it in most rows.
    pub idf: f32,
    /// Sum over the words of the largest score that a word can add; in formats 3 and 4, in one field.
    pub max_score: f32,
}

/// A text field of an open index.
pub(super) struct TextField {
    pub name: String,
    pub field: Field,
    part: Part,
    weight: f32,
    /// `1 − b + b · length / mean length` by the id of tantivy's field norm.
    norms: [f32; 256],
}

impl TextField {
    /// The text fields of an index, in the order of [`Scoring::fields`].
    pub fn open_all(searcher: &Searcher, scoring: &Scoring) -> Result<Vec<Self>> {
        let mut opened = Vec::new();
        for (position, (name, weight)) in scoring.fields().into_iter().enumerate() {
            let field = searcher.schema().get_field(name)?;
            let (b, mean) = match scoring {
                Scoring::Bm25f(bm25f) => (bm25f.fields[position].b as f32, bm25f.fields[position].mean_length() as f32),
                Scoring::Sum(sum) => (sum.b as f32, searcher.total_num_tokens(field)? as f32 / searcher.total_num_docs()?.max(1) as f32),
            };
            let mut norms = [0.0; 256];
            for (id, norm) in (0..=u8::MAX).zip(&mut norms) {
                let length = FieldNormReader::id_to_fieldnorm(id) as f32;
                *norm = 1.0 - b + if mean > 0.0 { b * length / mean } else { 0.0 };
            }
            opened.push(Self { name: name.to_owned(), field, part: Part::of(name), weight: weight as f32, norms });
        }
        Ok(opened)
    }
}

/// A word with its weights.
struct WeightedTerm {
    term: String,
    /// By field: the factor of the word's count (BM25F), or of the word's score (sum). 0: not searched.
    by_field: Vec<f32>,
    idf: f32,
    /// Is it a word of the query, and not a compound?
    is_word: bool,
}

/// A row while it is scored.
#[derive(Clone, Copy, Default)]
struct Cell {
    scores: TermScores,
    /// Weighted count of the current word (BM25F).
    count: f32,
    /// Number (from 1) of the current word.
    term: u16,
    /// Bit by [`Part`]: does a field of the group contain the current word?
    seen: u8,
}

/// Scores one query in all segments.
pub(super) struct Scorer<'a> {
    searcher: &'a Searcher,
    fields: &'a [TextField],
    terms: Vec<WeightedTerm>,
    k1: f32,
    is_sum: bool,
    pub stats: QueryStats,
}

/// Result of a lexical search.
#[derive(Debug, Clone)]
pub struct LexicalList {
    /// Rows with their score, best first.
    pub ranked: Vec<Scored>,
    /// Scores by word of the ranked rows, and of the other rows that the caller named.
    pub term_scores: Vec<(u32, TermScores)>,
    /// The scored words of the query and their idf.
    pub words: Vec<(String, f32)>,
}

impl<'a> Scorer<'a> {
    /// `terms` are distinct and in a fixed order: scores are added in their order. The first `words` of them are the words of the query,
    /// the others are compounds. `any`: the field that has the words of all fields, in format 5. `hidden`: a group of fields that is not
    /// searched.
    pub fn new(
        searcher: &'a Searcher,
        fields: &'a [TextField],
        scoring: &Scoring,
        any: Option<Field>,
        terms: &[String],
        words: usize,
        hidden: Option<Part>,
    ) -> Result<Self> {
        let rows = searcher.total_num_docs()?;
        let saturation = scoring.k1() as f32 + 1.0;
        let mut stats = QueryStats { terms: words, ..QueryStats::default() };
        let mut weighted = Vec::with_capacity(terms.len());
        for (number, term) in terms.iter().enumerate() {
            let is_word = number < words;
            let mut weighted_term = WeightedTerm { term: term.clone(), by_field: vec![0.0; fields.len()], idf: 0.0, is_word };
            let searched = |field: &TextField| field.weight > 0.0 && Some(field.part) != hidden;
            let doc_freq = |field| searcher.doc_freq(&Term::from_field_text(field, term));
            if let Some(any) = any {
                weighted_term.idf = idf(doc_freq(any)?, rows);
                for (field, weight) in fields.iter().zip(&mut weighted_term.by_field).filter(|(field, _)| searched(field)) {
                    *weight = field.weight;
                }
                stats.max_score += weighted_term.idf * saturation;
            } else {
                let mut frequency = 0;
                for (field, weight) in fields.iter().zip(&mut weighted_term.by_field).filter(|(field, _)| searched(field)) {
                    let having = doc_freq(field.field)?;
                    *weight = if having > 0 { field.weight * idf(having, rows) * saturation } else { 0.0 };
                    frequency = frequency.max(having);
                }
                weighted_term.idf = idf(frequency, rows);
                stats.max_score += weighted_term.by_field.iter().copied().fold(0.0, f32::max);
            }
            stats.idf += if is_word { weighted_term.idf } else { 0.0 };
            weighted.push(weighted_term);
        }
        Ok(Self { searcher, fields, terms: weighted, k1: scoring.k1() as f32, is_sum: any.is_none(), stats })
    }

    /// The best rows that the selection accepts and that contain a word (`unmatched`: also rows without any word), and the scores by word
    /// of these rows and of `others`, which are sorted.
    pub fn search(&self, selection: &Selection<'_>, unmatched: bool, others: &[u32]) -> Result<LexicalList> {
        let mut best = Best::new(selection.limit, selection.distinct);
        let mut term_scores = Vec::with_capacity(others.len());
        let mut cells = Vec::new();
        for segment in self.searcher.segment_readers() {
            self.accumulate(segment, &mut cells, selection.deadline)?;
            let rows = segment.fast_fields().u64("row")?;
            let start = row_of(&rows, 0)?;
            for (doc, cell) in cells.iter_mut().enumerate() {
                self.close(cell);
                let score = cell.scores.score;
                if (score > 0.0 || unmatched) && score > best.threshold() {
                    let row = start + doc as u32;
                    if selection.accepts(row) {
                        best.offer((row, score), cell.scores);
                    }
                }
            }
            let from = others.partition_point(|&row| row < start);
            for &row in others[from..].iter().take_while(|&&row| ((row - start) as usize) < cells.len()) {
                term_scores.push((row, cells[(row - start) as usize].scores));
            }
        }
        let mut found = best.into_rows();
        found.sort_by(|a, b| best_first(&a.0, &b.0));
        term_scores.extend(found.iter().map(|&((row, _), scores)| (row, scores)));
        let words = self.terms.iter().filter(|term| term.is_word).map(|term| (term.term.clone(), term.idf)).collect();
        Ok(LexicalList { ranked: found.into_iter().map(|(scored, _)| scored).collect(), term_scores, words })
    }

    /// Adds the current word of a cell to the score.
    fn close(&self, cell: &mut Cell) {
        if cell.count > 0.0 {
            let term = &self.terms[usize::from(cell.term) - 1];
            cell.scores.score += term.idf * (self.k1 + 1.0) * cell.count / (self.k1 + cell.count);
            cell.count = 0.0;
        }
    }

    /// Scores of every document of a segment, each to be [closed](Self::close).
    fn accumulate(&self, segment: &SegmentReader, cells: &mut Vec<Cell>, deadline: Deadline) -> Result<()> {
        cells.clear();
        cells.resize(segment.max_doc() as usize, Cell::default());
        let inverted = self.fields.iter().map(|field| segment.inverted_index(field.field)).collect::<tantivy::Result<Vec<_>>>()?;
        let lengths = self.fields.iter().map(|field| segment.get_fieldnorms_reader(field.field)).collect::<tantivy::Result<Vec<_>>>()?;
        for (number, term) in self.terms.iter().enumerate() {
            deadline.check()?;
            let number = u16::try_from(number + 1)?;
            for (index, field) in self.fields.iter().enumerate().filter(|(index, _)| term.by_field[*index] > 0.0) {
                let key = Term::from_field_text(field.field, &term.term);
                let Some(mut postings) = inverted[index].read_block_postings(&key, IndexRecordOption::WithFreqs)? else { continue };
                let (weight, lengths) = (term.by_field[index], &lengths[index]);
                while postings.block_len() > 0 {
                    for (&doc, &frequency) in postings.docs().iter().zip(postings.freqs()) {
                        let cell =
                            cells.get_mut(doc as usize).context("the lexical index is damaged: a posting lies beyond its segment")?;
                        if cell.term != number {
                            self.close(cell);
                            (cell.term, cell.seen) = (number, 0);
                            if term.is_word {
                                cell.scores.covered += term.idf;
                                cell.scores.words |= 1u64.checked_shl(u32::from(number - 1)).unwrap_or_default();
                            }
                        }
                        let norm = field.norms[usize::from(lengths.fieldnorm_id(doc))];
                        self.add(cell, field.part, term.idf, weight, frequency as f32, norm);
                    }
                    postings.advance();
                }
            }
        }
        Ok(())
    }

    /// Adds occurrences of a word in a field.
    fn add(&self, cell: &mut Cell, part: Part, idf: f32, weight: f32, frequency: f32, norm: f32) {
        if self.is_sum {
            let score = weight * (frequency / (frequency + self.k1 * norm));
            cell.scores.score += score;
            cell.scores.parts[part as usize] += score;
            return;
        }
        cell.count += weight * frequency / norm;
        if cell.seen & (1 << part as u8) == 0 {
            cell.seen |= 1 << part as u8;
            cell.scores.parts[part as usize] += idf;
        }
    }

    /// The part of the score of a document that each field adds; fields that add nothing are left out.
    ///
    /// With BM25F a field's part of a word's score is its part of the word's count.
    pub fn field_scores(&self, segment: &SegmentReader, doc: u32) -> Result<BTreeMap<String, f32>> {
        let mut scores: BTreeMap<String, f32> = BTreeMap::new();
        for term in &self.terms {
            let mut counts = vec![0.0; self.fields.len()];
            for ((field, &weight), count) in
                self.fields.iter().zip(&term.by_field).zip(&mut counts).filter(|((_, weight), _)| **weight > 0.0)
            {
                let key = Term::from_field_text(field.field, &term.term);
                let Some(mut postings) = segment.inverted_index(field.field)?.read_postings(&key, IndexRecordOption::WithFreqs)? else {
                    continue;
                };
                if postings.doc() < doc {
                    postings.seek(doc);
                }
                if postings.doc() == doc {
                    let norm = field.norms[usize::from(segment.get_fieldnorms_reader(field.field)?.fieldnorm_id(doc))];
                    let frequency = postings.term_freq() as f32;
                    *count = if self.is_sum { weight * (frequency / (frequency + self.k1 * norm)) } else { weight * frequency / norm };
                }
            }
            let sum: f32 = counts.iter().sum();
            let factor = if self.is_sum { 1.0 } else { term.idf * (self.k1 + 1.0) / (self.k1 + sum) };
            for (field, count) in self.fields.iter().zip(counts).filter(|(_, count)| *count > 0.0) {
                *scores.entry(field.name.clone()).or_default() += factor * count;
            }
        }
        Ok(scores)
    }
}

fn idf(doc_freq: u64, rows: u64) -> f32 {
    (1.0 + (rows.saturating_sub(doc_freq) as f32 + 0.5) / (doc_freq as f32 + 0.5)).ln()
}

/// The row of a document.
pub(super) fn row_of(rows: &Column<u64>, doc: u32) -> Result<u32> {
    Ok(u32::try_from(rows.first(doc).context("the lexical index is damaged: a document has no row")?)?)
}
