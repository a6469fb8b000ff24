//! Comparison of exported graphs with the trainer, on real rows.

use std::collections::BTreeMap;

use inference::{Graph, PaddedRows};
use kernels::Cpu;
use ledger::{GraphForm, ensure};

use crate::{
    data::samples::Samples,
    error::{Context, Result},
    graph::{
        fused::Fused,
        model::{Model, Side},
        parameters::Parameters,
    },
    training::validation::{Evaluated, ranks},
};

/// Rows in one call of a graph.
const CALL: usize = 50;

/// A model, its graphs, and the samples that both encode.
pub struct Parity<'a> {
    pub model: &'a Model,
    pub parameters: &'a Parameters,
    /// By the prefix of the parameters of an encoder.
    pub graphs: BTreeMap<String, Graph>,
    pub samples: &'a Samples,
    /// Id of the padding token.
    pub pad: u32,
}

/// Vectors of one side, `[rows, D]`.
pub struct Vectors {
    pub trainer: Vec<f32>,
    pub graph: Vec<f32>,
    width: usize,
}

/// Result of the comparison.
#[derive(Debug, Clone, Copy)]
pub struct Comparison {
    pub max_difference: f64,
    /// mrr of the vectors of the trainer, and of the graph.
    pub mrr: f64,
    pub graph_mrr: f64,
}

impl Vectors {
    /// Largest difference between the vectors in the first rows.
    fn max_difference(&self, rows: usize) -> f64 {
        let pairs = self.trainer.iter().zip(&self.graph).take(rows * self.width);
        pairs.map(|(a, b)| f64::from((a - b).abs())).fold(0.0, f64::max)
    }
}

impl Parity<'_> {
    /// Compares the mrr of the first `ranked` pairs, and the vectors of the first `rows` pairs.
    ///
    /// # Errors
    /// A graph cannot be run, or gives a value that is not finite.
    pub fn compare(&mut self, ranked: usize, rows: usize) -> Result<Comparison> {
        let (query, code) = (self.vectors(Side::Query, ranked)?, self.vectors(Side::Code, ranked)?);
        Ok(Comparison {
            max_difference: query.max_difference(rows).max(code.max_difference(rows)),
            mrr: mrr(&query.trainer, &code.trainer, ranked),
            graph_mrr: mrr(&query.graph, &code.graph, ranked),
        })
    }

    fn vectors(&mut self, side: Side, count: usize) -> Result<Vectors> {
        let width = self.model.width();
        let device = Default::default();
        let evaluated = Evaluated::<Cpu> { model: self.model, parameters: self.parameters, ops: &Fused, device: &device };
        let trainer = evaluated.vectors(side, self.samples, 0..count)?;
        let mut graph = vec![0.0; count * width];
        let mut by_scope: BTreeMap<String, Vec<usize>> = BTreeMap::new();
        for row in 0..count {
            let tower = self.model.tower(side, self.samples.language[row]);
            by_scope.entry(self.model.towers[tower].scope.clone()).or_default().push(row);
        }
        for (scope, rows) in by_scope {
            for rows in rows.chunks(CALL) {
                for (&row, vector) in rows.iter().zip(self.run(&scope, side, rows)?.chunks_exact(width)) {
                    graph[row * width..][..width].copy_from_slice(vector);
                }
            }
        }
        ensure!(graph.iter().all(|value| value.is_finite()), "the exported graph gave a value that is not finite");
        Ok(Vectors { trainer, graph, width })
    }

    fn run(&mut self, scope: &str, side: Side, rows: &[usize]) -> Result<Vec<f32>> {
        let ids = |&row: &usize| self.samples.read_one(row).map(|sample| if side == Side::Query { sample.query } else { sample.code });
        let rows = PaddedRows::new(&rows.iter().map(ids).collect::<Result<Vec<_>>>()?, self.pad);
        let graph = self.graphs.get_mut(scope).with_context(|| format!("the encoder {scope} was not exported"))?;
        Ok(graph.encode(&rows, &GraphForm::default(), self.model.width())?)
    }
}

/// Mean reciprocal rank of the own code of each query among all codes; codes with the same cosine rank before it.
fn mrr(query: &[f32], code: &[f32], count: usize) -> f64 {
    let width = query.len() / count;
    let cosines: Vec<f32> = query
        .chunks_exact(width)
        .flat_map(|query| code.chunks_exact(width).map(move |code| query.iter().zip(code).map(|(a, b)| a * b).sum()))
        .collect();
    ranks(&cosines, count).map(|rank| 1.0 / rank as f64).sum::<f64>() / count as f64
}
