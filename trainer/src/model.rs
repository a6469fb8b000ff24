//! A context's encoders, and which rows each of them reads.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Result, ensure};
use burn::tensor::{Int, Tensor, TensorData, backend::Backend};
use ledger::Language;
use serde::{Deserialize, Serialize};

use crate::{
    config::Context,
    encoders::{Architecture, Encoder, Extent},
    ops::Ops,
    parameters::{Init, Role, Spec, Specs},
    poolers::Pooler,
    tape::{Bound, Eager, Packed},
};

/// Logarithm of the scores' scale.
pub const LOG_SCALE: &str = "log_scale";

/// One encoder and the scope of its names.
#[derive(Debug, Clone)]
pub struct Tower {
    pub scope: String,
    pub encoder: Architecture,
}

/// Which side of a pair.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    Query,
    Code,
}

/// The encoders of a training context.
#[derive(Debug, Clone)]
pub struct Model {
    context: Context,
    pub towers: Vec<Tower>,
    pub pooler: Pooler,
    pub extent: Extent,
    scale: f64,
}

/// All that a model is made of; a checkpoint records it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct ModelShape {
    pub context: Context,
    pub encoder: Architecture,
    pub query_encoder: Option<Architecture>,
    pub pooler: Pooler,
    /// In the order of their numbers in a batch.
    pub languages: Vec<String>,
    /// At the start.
    pub scale: f64,
}

/// One side of a batch: its rows and the number of each one's language.
#[derive(Debug, Clone, PartialEq)]
pub struct Rows {
    pub packed: Packed,
    pub languages: Vec<u8>,
}

impl ModelShape {
    /// Of a file: sizes as they must be, languages that are languages (they become names of files).
    pub fn check(&self) -> Result<()> {
        self.encoder.check()?;
        if let Some(query) = &self.query_encoder {
            query.check()?;
            ensure!(query.width() == self.encoder.width(), "the encoders of queries and of code differ in width");
        }
        for language in &self.languages {
            language.parse::<Language>()?;
        }
        ensure!(self.scale > 0.0 && self.scale.is_finite(), "scale {} is not positive", self.scale);
        Ok(())
    }
}

impl Model {
    pub fn new(shape: &ModelShape, extent: Extent) -> Self {
        let tower = |scope: String, encoder: &Architecture| Tower { scope, encoder: encoder.clone() };
        let query = || tower("query.".to_owned(), shape.query_encoder.as_ref().unwrap_or(&shape.encoder));
        let towers = match shape.context {
            Context::Siamese => vec![tower("encoder.".to_owned(), &shape.encoder)],
            Context::Query1Code1 => vec![query(), tower("code.".to_owned(), &shape.encoder)],
            Context::Query1CodeN => {
                let codes = shape.languages.iter().map(|language| tower(format!("code.{language}."), &shape.encoder));
                std::iter::once(query()).chain(codes).collect()
            }
        };
        Self { context: shape.context, towers, pooler: shape.pooler, extent, scale: shape.scale }
    }

    pub fn specs(&self) -> Vec<Spec> {
        let mut specs = Specs::default();
        for tower in &self.towers {
            specs.scoped(&tower.scope, |specs| {
                tower.encoder.specs(self.extent, specs);
                self.pooler.specs(tower.encoder.width(), specs);
            });
        }
        specs.add(LOG_SCALE, &[1], Role::Vector, Init::Constant(self.scale.ln() as f32));
        specs.specs
    }

    pub fn width(&self) -> usize {
        self.towers[0].encoder.width()
    }

    /// The encoder of a row.
    pub fn tower(&self, side: Side, language: u8) -> usize {
        match (self.context, side) {
            (Context::Siamese, _) | (_, Side::Query) => 0,
            (Context::Query1Code1, Side::Code) => 1,
            (Context::Query1CodeN, Side::Code) => 1 + usize::from(language),
        }
    }

    /// The rows of a side by encoder.
    fn by_tower(&self, side: Side, rows: &Rows) -> BTreeMap<usize, Vec<usize>> {
        let mut groups: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
        for (row, &language) in rows.languages.iter().enumerate() {
            groups.entry(self.tower(side, language)).or_default().push(row);
        }
        groups
    }

    /// Which rows of which table these batches name.
    pub fn table_rows(&self, sides: &[(Side, &Rows)]) -> BTreeMap<String, Vec<u32>> {
        let mut tables: BTreeMap<String, BTreeSet<u32>> = BTreeMap::new();
        let mut seen = vec![false; self.extent.vocabulary];
        for &(side, rows) in sides {
            for (tower, members) in self.by_tower(side, rows) {
                seen.fill(false);
                for row in members {
                    rows.packed.ids[rows.packed.layout.range(row)].iter().for_each(|&id| seen[id as usize] = true);
                }
                let ids = seen.iter().enumerate().filter(|(_, seen)| **seen).map(|(id, _)| id as u32);
                tables.entry(format!("{}tokens", self.towers[tower].scope)).or_default().extend(ids);
            }
        }
        tables.into_iter().map(|(name, rows)| (name, rows.into_iter().collect())).collect()
    }

    /// Unit vectors `[B, D]`, in the order of the rows.
    pub fn encode<B: Backend>(&self, bound: &Bound<B>, ops: &dyn Ops<B>, side: Side, rows: &Rows, dropout: Option<u64>) -> Tensor<B, 2> {
        let groups = self.by_tower(side, rows);
        let encode = |tower: usize, batch: &Packed| {
            let tower_of = &self.towers[tower];
            let mut math = Eager { bound, ops, batch, scope: &tower_of.scope, dropout, streams: (tower as u64) << 32 };
            self.pooler.vectors(&tower_of.encoder, &mut math)
        };
        if groups.len() == 1 {
            let tower = *groups.keys().next().unwrap_or(&0);
            return encode(tower, &rows.packed);
        }
        let parts = groups.iter().map(|(&tower, members)| {
            let ids = members.iter().map(|&row| &rows.packed.ids[rows.packed.layout.range(row)]);
            encode(tower, &Packed::of_rows(ids))
        });
        let all = Tensor::cat(parts.collect(), 0);
        let mut place = vec![0i32; rows.languages.len()];
        groups.values().flatten().enumerate().for_each(|(at, &row)| place[row] = at as i32);
        let count = place.len();
        let place = Tensor::<B, 1, Int>::from_data(TensorData::new(place, [count]), &all.device());
        all.select(0, place)
    }
}
