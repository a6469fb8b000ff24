//! Second-stage ranking: a linear model orders the fused candidates again, by their names, files and scores.
//!
//! Each [`QueryClass`] has weights that are added to those of all queries. The score of a candidate is the sum over [`FEATURES`] of weight times value.

mod features;
pub mod names;
mod query;

use std::{
    collections::{BTreeMap, HashMap},
    fmt,
    path::Path,
};

use ledger::{Digest, Split, bail, ensure};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use self::{
    features::{Candidates, FEATURES, FEATURES_EXPLAINED, features},
    query::{QueryClass, QueryNames},
};
use crate::{Result, error::Context, learned::require_encoder};

/// File with the model in a bundle.
pub const RERANKER: &str = "reranker.json";
/// Version of the features.
pub const VERSION: u32 = 1;

/// Weights of the features: those of all queries, and what each class of queries adds to them.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Weights {
    /// Weights by feature, for all queries.
    pub all: BTreeMap<String, f64>,
    /// Added for a query that is one identifier.
    pub symbol: BTreeMap<String, f64>,
    /// Added for a query of a few words.
    pub keywords: BTreeMap<String, f64>,
    /// Added for questions and for texts of many words.
    pub question: BTreeMap<String, f64>,
}

impl Weights {
    /// The weights by name of the class; `all` first.
    pub fn by_class(&self) -> [(&'static str, &BTreeMap<String, f64>); 4] {
        [("all", &self.all), ("symbol", &self.symbol), ("keywords", &self.keywords), ("question", &self.question)]
    }

    /// Checks that every weight is a number and belongs to a known feature.
    pub fn check(&self) -> Result<()> {
        for (class, name, weight) in
            self.by_class().into_iter().flat_map(|(class, weights)| weights.iter().map(move |(name, weight)| (class, name, weight)))
        {
            if !FEATURES.contains(&name.as_str()) {
                bail!("reranking weighs `{name}`, which is no feature: the features are {}", FEATURES.join(", "));
            }
            ensure!(weight.is_finite(), "the reranking weight of `{name}` ({class}) is not a number");
        }
        Ok(())
    }

    /// The weights of a class of queries in the order of [`FEATURES`].
    pub fn of_class(&self, class: QueryClass) -> [f64; FEATURES.len()] {
        let own = match class {
            QueryClass::Symbol => &self.symbol,
            QueryClass::Keywords => &self.keywords,
            QueryClass::Question => &self.question,
        };
        let of = |weights: &BTreeMap<String, f64>, name: &str| weights.get(name).copied().unwrap_or_default();
        FEATURES.map(|name| of(&self.all, name) + of(own, name))
    }
}

/// The model of a bundle.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Reranker {
    /// Version of the features.
    pub version: u32,
    /// Digest of the encoder whose vectors the weights were learned with; none for weights of the configuration.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub encoder: Option<Digest>,
    /// The split of this bundle that the weights were learned from; none for weights of the configuration or of another bundle.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub split: Option<Split>,
    pub weights: Weights,
}

impl Reranker {
    /// Reads the model of another bundle.
    ///
    /// # Errors
    /// Where the file is no model of this version, or belongs to another encoder than `encoder` and not `any_encoder`.
    pub fn read(path: &Path, encoder: &Digest, any_encoder: bool) -> Result<Self> {
        let text = std::fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))?;
        let mut model: Self = serde_json::from_str(&text).with_context(|| format!("{} is not a reranking model", path.display()))?;
        model.check().with_context(|| path.display().to_string())?;
        require_encoder(path, model.encoder.as_ref(), encoder, any_encoder)?;
        model.split = None;
        Ok(model)
    }

    /// Checks the version, and that every weight is a number and belongs to a known feature.
    pub fn check(&self) -> Result<()> {
        ensure!(
            self.version == VERSION,
            "the reranking model has version {}, this version of codenets has {VERSION}: learn it again with `codenets run --only index`",
            self.version
        );
        self.weights.check()
    }

    /// The fused candidates, best first; equal scores keep their order.
    pub fn rerank(&self, candidates: &Candidates<'_>) -> Vec<(u32, f64)> {
        let weights = self.weights.of_class(candidates.query.class);
        let score = |values: [f64; FEATURES.len()]| values.iter().zip(&weights).map(|(value, weight)| value * weight).sum::<f64>();
        let rows = candidates.fused.iter().map(|(row, _)| *row);
        let mut ranked: Vec<(u32, f64)> = rows.zip(features(candidates).into_iter().map(score)).collect();
        ranked.sort_by(|a, b| b.1.total_cmp(&a.1));
        ranked
    }

    /// What each feature adds to the score of each candidate.
    pub fn parts(&self, candidates: &Candidates<'_>) -> HashMap<u32, BTreeMap<&'static str, f64>> {
        let weights = self.weights.of_class(candidates.query.class);
        let rows = candidates.fused.iter().map(|(row, _)| *row);
        let of_row = |values: [f64; FEATURES.len()]| {
            let parts = FEATURES.into_iter().zip(values.iter().zip(&weights).map(|(value, weight)| value * weight));
            parts.filter(|(_, part)| *part != 0.0).collect()
        };
        rows.zip(features(candidates).into_iter().map(of_row)).collect()
    }
}

impl fmt::Display for Reranker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.split {
            Some(split) => write!(f, "learned from the {split} split"),
            None => f.write_str("weights of the configuration or of another bundle"),
        }
    }
}
