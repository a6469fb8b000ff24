//! How a lexical index is searched.

use std::collections::BTreeSet;

use ledger::ensure;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::fields::{SUM_FIELDS, TEXT_FIELDS};
use crate::Result;

/// How a lexical index is searched.
#[derive(Debug, Clone, PartialEq)]
pub struct LexicalSettings {
    pub scoring: Scoring,
    /// Ignored when scoring, unless a query has only stop words.
    pub stop_words: BTreeSet<String>,
}

/// The formula of the lexical score.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Scoring {
    /// BM25F: counts of all fields are added, then the sum saturates once. Format 5.
    Bm25f(Bm25f),
    /// The sum of BM25 over the fields. Formats 3 and 4.
    Sum(SumOfFields),
}

/// BM25F (Robertson & Zaragoza 2009, section 3.5). For each word w of the query and each row:
///
/// ```text
/// count(w) = Σ over fields of weight · tf(w, field) / (1 − b + b · length / mean length)
/// score    = Σ over words of idf(w) · (k1 + 1) · count(w) / (k1 + count(w))
/// idf(w)   = ln(1 + (N − n + 0.5) / (n + 0.5))     N rows, n of them with the word in any field
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Bm25f {
    /// How slowly repetitions of a word saturate; 0 counts a word once.
    pub k1: f64,
    /// The fields, in the order of [`TEXT_FIELDS`].
    pub fields: Vec<FieldSettings>,
}

/// A field of [`Bm25f`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FieldSettings {
    pub name: String,
    /// 0 leaves the field out.
    pub weight: f64,
    /// How much a long field counts less, from 0 (not at all) to 1.
    pub b: f64,
    /// Number of words in the field over all rows.
    pub words: u64,
    /// Number of rows whose field is not empty.
    pub rows: u64,
}

impl FieldSettings {
    /// Mean length over the rows where the field is not empty; 0 where all are empty.
    pub fn mean_length(&self) -> f64 {
        self.words as f64 / self.rows.max(1) as f64
    }
}

/// The score of formats 3 and 4.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct SumOfFields {
    pub k1: f64,
    pub b: f64,
    pub boosts: Boosts,
}

/// Weight of the BM25 score of each text field; 0 leaves a field out.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Boosts {
    pub name: f64,
    #[serde(default)]
    pub signature: f64,
    #[serde(default)]
    pub file: f64,
    pub code: f64,
    pub documentation: f64,
}

impl Boosts {
    /// The boosts in the order of [`SUM_FIELDS`].
    pub fn list(self) -> [f64; SUM_FIELDS.len()] {
        [self.name, self.signature, self.file, self.code, self.documentation]
    }
}

impl Scoring {
    /// Names and weights of the text fields, in the order of their positions.
    pub fn fields(&self) -> Vec<(&str, f64)> {
        match self {
            Self::Bm25f(bm25f) => bm25f.fields.iter().map(|field| (field.name.as_str(), field.weight)).collect(),
            Self::Sum(sum) => SUM_FIELDS.into_iter().zip(sum.boosts.list()).collect(),
        }
    }

    /// `k1` of the formula.
    pub fn k1(&self) -> f64 {
        match self {
            Self::Bm25f(bm25f) => bm25f.k1,
            Self::Sum(sum) => sum.k1,
        }
    }

    /// Checks that the numbers are in range and that the fields are those of the format.
    pub fn check(&self) -> Result<()> {
        ensure!(self.k1().is_finite() && self.k1() >= 0.0, "k1 of the lexical index is {}, expected 0 or more", self.k1());
        for (name, weight) in self.fields() {
            ensure!(weight.is_finite() && weight >= 0.0, "the weight of the field {name} is {weight}, expected 0 or more");
        }
        match self {
            Self::Sum(sum) => ensure!((0.0..=1.0).contains(&sum.b), "b of the lexical index is {}, expected 0 to 1", sum.b),
            Self::Bm25f(bm25f) => {
                let names: Vec<&str> = bm25f.fields.iter().map(|field| field.name.as_str()).collect();
                ensure!(names == TEXT_FIELDS, "the lexical index has the fields {names:?}, expected {TEXT_FIELDS:?}");
                for field in &bm25f.fields {
                    ensure!((0.0..=1.0).contains(&field.b), "b of the field {} is {}, expected 0 to 1", field.name, field.b);
                }
            }
        }
        Ok(())
    }
}
