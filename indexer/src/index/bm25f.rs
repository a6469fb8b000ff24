//! Keys `index.bm25f`: weights of the text fields.

use bundle::lexical::{Bm25f, FieldSettings, Scoring, TEXT_FIELDS};
use ledger::ensure;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{Result, lexical::FieldStatistics};

/// Key `index.bm25f`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Config {
    /// How slowly repetitions of a word saturate; 0 counts a word once.
    pub k1: f64,
    /// Weights of the text fields.
    pub fields: Fields,
}

/// Key `index.bm25f.fields`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Fields {
    /// The last part of the function's name.
    pub name: Field,
    /// The parts of the name before the last one: classes and modules.
    pub class: Field,
    /// The whole name, neighbouring words joined.
    pub qualified: Field,
    /// Parameters and types.
    pub signature: Field,
    /// The first sentence of the documentation.
    pub brief: Field,
    /// The rest of the documentation.
    pub documentation: Field,
    /// The code.
    pub code: Field,
    /// Comments in the code.
    pub comments: Field,
    /// String literals in the code.
    pub strings: Field,
    /// Folders and file name of the path.
    pub file: Field,
}

/// Weight of a text field.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Field {
    /// Factor of the counts of a word in the field; 0 leaves the field out.
    pub weight: f64,
    /// How much a long field counts less, from 0 (not at all) to 1.
    pub b: f64,
}

impl Fields {
    /// In the order of [`TEXT_FIELDS`].
    fn list(self) -> [Field; TEXT_FIELDS.len()] {
        [
            self.name,
            self.class,
            self.qualified,
            self.signature,
            self.brief,
            self.documentation,
            self.code,
            self.comments,
            self.strings,
            self.file,
        ]
    }
}

impl Config {
    /// Checks that the numbers are in range.
    pub(super) fn check(&self) -> Result<()> {
        ensure!(self.k1.is_finite() && self.k1 >= 0.0, "index.bm25f.k1 is {}: it must be 0 or more", self.k1);
        for (name, Field { weight, b }) in TEXT_FIELDS.iter().zip(self.fields.list()) {
            ensure!(weight.is_finite() && weight >= 0.0, "index.bm25f.fields.{name}.weight is {weight}: it must be 0 or more");
            ensure!((0.0..=1.0).contains(&b), "index.bm25f.fields.{name}.b is {b}: it must be 0 to 1");
        }
        Ok(())
    }

    /// The formula for an index with these statistics of its fields.
    pub(super) fn scoring(&self, statistics: &[FieldStatistics; TEXT_FIELDS.len()]) -> Scoring {
        let fields = TEXT_FIELDS.iter().zip(self.fields.list()).zip(statistics).map(|((name, field), statistics)| FieldSettings {
            name: (*name).to_owned(),
            weight: field.weight,
            b: field.b,
            words: statistics.words,
            rows: statistics.rows,
        });
        Scoring::Bm25f(Bm25f { k1: self.k1, fields: fields.collect() })
    }
}
