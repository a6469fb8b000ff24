//! The encoders of a training context, and which rows of a batch each encoder reads.

use std::collections::{BTreeMap, BTreeSet};

use burn::tensor::{Int, Tensor, TensorData, backend::Backend};
use ledger::{Language, ensure};
use serde::{Deserialize, Serialize};

use super::{
    ops::Ops,
    parameters::{Init, ParameterSpec, Role, Specs},
    tape::{DeviceParameters, ForwardPass, Packed},
};
use crate::{
    config::EncoderContext,
    encoders::{
        architecture::Architecture,
        encoder::{Encoder, InputSize},
        pooler::Pooler,
    },
    error::Result,
};

/// Name of the parameter that is the logarithm of the factor of the cosines.
pub const LOG_SCALE: &str = "log_scale";

/// One encoder, and the prefix of the names of its parameters.
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
    context: EncoderContext,
    pub towers: Vec<Tower>,
    pub pooler: Pooler,
    pub input: InputSize,
    scale: f64,
}

/// Description of a model, as a checkpoint records it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct ModelShape {
    pub context: EncoderContext,
    pub encoder: Architecture,
    pub query_encoder: Option<Architecture>,
    pub pooler: Pooler,
    /// Index = number of the language in a batch.
    pub languages: Vec<String>,
    /// Factor of the cosines at the start of the training.
    pub scale: f64,
}

/// One side of a batch: its rows, and the number of the language of each row.
#[derive(Debug, Clone, PartialEq)]
pub struct Rows {
    pub packed: Packed,
    pub languages: Vec<u8>,
}

impl ModelShape {
    /// Checks a description that was read from a file: sizes, and languages, which become file names.
    ///
    /// # Errors
    /// The first value that is out of range.
    pub fn check(&self) -> Result<()> {
        self.encoder.check()?;
        if let Some(query) = &self.query_encoder {
            query.check()?;
            ensure!(
                query.width() == self.encoder.width(),
                "the query encoder has width {}, the code encoder {}: they must be equal",
                query.width(),
                self.encoder.width()
            );
        }
        for language in &self.languages {
            language.parse::<Language>()?;
        }
        ensure!(self.scale > 0.0 && self.scale.is_finite(), "scale {} must be positive", self.scale);
        Ok(())
    }
}

impl Model {
    pub fn new(shape: &ModelShape, input: InputSize) -> Self {
        let tower = |scope: String, encoder: &Architecture| Tower { scope, encoder: encoder.clone() };
        let query = || tower("query.".to_owned(), shape.query_encoder.as_ref().unwrap_or(&shape.encoder));
        let towers = match shape.context {
            EncoderContext::Siamese => vec![tower("encoder.".to_owned(), &shape.encoder)],
            EncoderContext::Query1Code1 => vec![query(), tower("code.".to_owned(), &shape.encoder)],
            EncoderContext::Query1CodeN => {
                let codes = shape.languages.iter().map(|language| tower(format!("code.{language}."), &shape.encoder));
                std::iter::once(query()).chain(codes).collect()
            }
        };
        Self { context: shape.context, towers, pooler: shape.pooler, input, scale: shape.scale }
    }

    /// Parameters of all towers, and the scale.
    pub fn specs(&self) -> Vec<ParameterSpec> {
        let mut specs = Specs::default();
        for tower in &self.towers {
            specs.scoped(&tower.scope, |specs| {
                tower.encoder.specs(self.input, specs);
                self.pooler.specs(tower.encoder.width(), specs);
            });
        }
        specs.add(LOG_SCALE, &[1], Role::Vector, Init::Constant(self.scale.ln() as f32));
        specs.specs
    }

    /// Width of the vectors.
    pub fn width(&self) -> usize {
        self.towers[0].encoder.width()
    }

    /// Index of the tower that reads a row.
    pub fn tower(&self, side: Side, language: u8) -> usize {
        match (self.context, side) {
            (EncoderContext::Siamese, _) | (_, Side::Query) => 0,
            (EncoderContext::Query1Code1, Side::Code) => 1,
            (EncoderContext::Query1CodeN, Side::Code) => 1 + usize::from(language),
        }
    }

    /// Rows of a side, by tower.
    fn by_tower(&self, side: Side, rows: &Rows) -> BTreeMap<usize, Vec<usize>> {
        let mut groups: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
        for (row, &language) in rows.languages.iter().enumerate() {
            groups.entry(self.tower(side, language)).or_default().push(row);
        }
        groups
    }

    /// For each embedding table, the rows that these sides read, ascending.
    pub fn table_rows(&self, sides: &[(Side, &Rows)]) -> BTreeMap<String, Vec<u32>> {
        let mut tables: BTreeMap<String, BTreeSet<u32>> = BTreeMap::new();
        let mut seen = vec![false; self.input.vocabulary];
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

    /// Vectors of length 1, `[B, D]`, in the order of the rows.
    pub fn encode<B: Backend>(
        &self,
        parameters: &DeviceParameters<B>,
        ops: &dyn Ops<B>,
        side: Side,
        rows: &Rows,
        dropout: Option<u64>,
    ) -> Tensor<B, 2> {
        let groups = self.by_tower(side, rows);
        let encode = |tower: usize, batch: &Packed| {
            let tower_of = &self.towers[tower];
            let mut math = ForwardPass { parameters, ops, batch, scope: &tower_of.scope, dropout, dropouts: (tower as u64) << 32 };
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
        let mut position = vec![0i32; rows.languages.len()];
        groups.values().flatten().enumerate().for_each(|(at, &row)| position[row] = at as i32);
        let count = position.len();
        let position = Tensor::<B, 1, Int>::from_data(TensorData::new(position, [count]), &all.device());
        all.select(0, position)
    }
}
