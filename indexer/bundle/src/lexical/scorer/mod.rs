//! Scores of rows by the words of a query. [`Scoring`] has the formulas.
//!
//! tantivy's own scorer computes BM25 only with k1 1.2 and b 0.75, for one field, and not by group of fields. Lengths are tantivy's
//! field norms: exact up to 40 words, then in steps of about 10 %.

mod by_count;
mod by_field;

use std::collections::BTreeMap;

use tantivy::{
    DocAddress, DocSet, Searcher, SegmentReader, Term,
    fieldnorm::FieldNormReader,
    postings::Postings,
    query::Bm25StatisticsProvider,
    schema::{Field, IndexRecordOption},
};

use super::{counts::Counts, fields::Part, rows::DocumentRows, selection::Selection, settings::Scoring};
use crate::{Result, ranking::Scored};

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
#[derive(Debug)]
pub struct TextField {
    pub name: String,
    pub field: Field,
    pub part: Part,
    /// 0: not searched.
    pub weight: f32,
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

    /// `1 − b + b · length / mean length` of a field norm.
    fn norm(&self, norm_id: u8) -> f32 {
        self.norms[usize::from(norm_id)]
    }

    /// The part of [`Bm25f`](super::Bm25f)'s count that a word adds which is `frequency` times in this field of a row.
    pub fn count(&self, frequency: u32, norm_id: u8) -> f32 {
        self.weight * frequency as f32 / self.norm(norm_id)
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

/// What a query is scored by.
#[derive(Clone, Copy)]
pub(super) struct TermIndex<'a> {
    pub searcher: &'a Searcher,
    pub fields: &'a [TextField],
    pub rows: &'a DocumentRows,
    /// The field that has the words of all fields, in format 5.
    pub any: Option<Field>,
    pub counts: Option<&'a Counts>,
}

/// Scores one query in all segments.
pub(super) struct Scorer<'a> {
    index: TermIndex<'a>,
    terms: Vec<WeightedTerm>,
    k1: f32,
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
    /// the others are compounds. `hidden`: a group of fields that is not searched.
    pub fn new(index: TermIndex<'a>, scoring: &Scoring, terms: &[String], words: usize, hidden: Option<Part>) -> Result<Self> {
        let TermIndex { searcher, fields, any, .. } = index;
        let documents = searcher.total_num_docs()?;
        let saturation = scoring.k1() as f32 + 1.0;
        let mut stats = QueryStats { terms: words, ..QueryStats::default() };
        let mut weighted = Vec::with_capacity(terms.len());
        for (number, term) in terms.iter().enumerate() {
            let is_word = number < words;
            let mut weighted_term = WeightedTerm { term: term.clone(), by_field: vec![0.0; fields.len()], idf: 0.0, is_word };
            let searched = |field: &TextField| field.weight > 0.0 && Some(field.part) != hidden;
            let doc_freq = |field| searcher.doc_freq(&Term::from_field_text(field, term));
            if let Some(any) = any {
                weighted_term.idf = idf(doc_freq(any)?, documents);
                for (field, weight) in fields.iter().zip(&mut weighted_term.by_field).filter(|(field, _)| searched(field)) {
                    *weight = field.weight;
                }
                stats.max_score += weighted_term.idf * saturation;
            } else {
                let mut frequency = 0;
                for (field, weight) in fields.iter().zip(&mut weighted_term.by_field).filter(|(field, _)| searched(field)) {
                    let having = doc_freq(field.field)?;
                    *weight = if having > 0 { field.weight * idf(having, documents) * saturation } else { 0.0 };
                    frequency = frequency.max(having);
                }
                weighted_term.idf = idf(frequency, documents);
                stats.max_score += weighted_term.by_field.iter().copied().fold(0.0, f32::max);
            }
            stats.idf += if is_word { weighted_term.idf } else { 0.0 };
            weighted.push(weighted_term);
        }
        Ok(Self { index, terms: weighted, k1: scoring.k1() as f32, stats })
    }

    /// The best rows that the selection accepts and that contain a word (`unmatched`: also rows without any word), and the scores by word
    /// of these rows and of `others`, which are sorted.
    pub fn search(&self, selection: &Selection<'_>, unmatched: bool, others: &[u32]) -> Result<LexicalList> {
        let (ranked, term_scores) = match (self.index.counts, self.index.any) {
            // The counts are sums over all fields.
            (Some(counts), Some(any)) if selection.hidden.is_none() => self.search_by_count((counts, any), selection, unmatched, others)?,
            _ => self.search_by_field(selection, unmatched, others)?,
        };
        let words = self.terms.iter().filter(|term| term.is_word).map(|term| (term.term.clone(), term.idf)).collect();
        Ok(LexicalList { ranked, term_scores, words })
    }

    /// Are the scores of the fields added, as in formats 3 and 4?
    fn is_sum(&self) -> bool {
        self.index.any.is_none()
    }

    /// Score of a word in one field, in formats 3 and 4.
    fn sum_score(&self, weight: f32, frequency: u32, norm: f32) -> f32 {
        let frequency = frequency as f32;
        weight * (frequency / (frequency + self.k1 * norm))
    }

    /// Score of a word by its count in all fields.
    fn saturated(&self, term: &WeightedTerm, count: f32) -> f32 {
        term.idf * (self.k1 + 1.0) * count / (self.k1 + count)
    }

    /// The part of the score of a document that each field adds; fields that add nothing are left out.
    ///
    /// With BM25F a field's part of a word's score is its part of the word's count.
    pub fn field_scores(&self, segment: &SegmentReader, doc: u32) -> Result<BTreeMap<String, f32>> {
        let mut scores: BTreeMap<String, f32> = BTreeMap::new();
        for term in &self.terms {
            let mut counts = vec![0.0; self.index.fields.len()];
            for ((field, &weight), count) in
                self.index.fields.iter().zip(&term.by_field).zip(&mut counts).filter(|((_, weight), _)| **weight > 0.0)
            {
                let key = Term::from_field_text(field.field, &term.term);
                let Some(mut postings) = segment.inverted_index(field.field)?.read_postings(&key, IndexRecordOption::WithFreqs)? else {
                    continue;
                };
                if postings.doc() < doc {
                    postings.seek(doc);
                }
                if postings.doc() == doc {
                    let norm_id = segment.get_fieldnorms_reader(field.field)?.fieldnorm_id(doc);
                    *count = if self.is_sum() {
                        self.sum_score(weight, postings.term_freq(), field.norm(norm_id))
                    } else {
                        field.count(postings.term_freq(), norm_id)
                    };
                }
            }
            let sum: f32 = counts.iter().sum();
            let factor = if self.is_sum() { 1.0 } else { term.idf * (self.k1 + 1.0) / (self.k1 + sum) };
            for (field, count) in self.index.fields.iter().zip(counts).filter(|(_, count)| *count > 0.0) {
                *scores.entry(field.name.clone()).or_default() += factor * count;
            }
        }
        Ok(scores)
    }
}

/// Rows with their score, best first, and the scores by word of these and of other rows.
type Found = (Vec<Scored>, Vec<(u32, TermScores)>);

fn idf(doc_freq: u64, documents: u64) -> f32 {
    (1.0 + (documents.saturating_sub(doc_freq) as f32 + 0.5) / (doc_freq as f32 + 0.5)).ln()
}

/// Rows with their documents, in the order of the documents.
fn by_address(rows: &DocumentRows, of: &[u32]) -> Result<Vec<(DocAddress, u32)>> {
    let mut found = of.iter().map(|&row| Ok((rows.address(row)?, row))).collect::<Result<Vec<_>>>()?;
    found.sort_unstable();
    Ok(found)
}
