//! AdamW (Loshchilov & Hutter 2019, algorithm 2) over the named parameters, with sparse updates of tables.
//!
//! With gradient g at step t: `m ← β₁m + (1−β₁)g`, `v ← β₂v + (1−β₂)g²`,
//! `θ ← θ − η·(m̂ / (√v̂ + ε) + λθ)`, where `m̂ = m/(1−β₁ᵗ)`, `v̂ = v/(1−β₂ᵗ)`, or m and v themselves without
//! `bias-correction` (as in the original BERT and in the predecessor). λ is 0 for biases, norms and the scale.
//!
//! A row of a table is updated only in the steps whose batch reads it: its moments, its decay and its t count these steps only (as in
//! PyTorch's `SparseAdam`, with t for each row).

use std::{collections::BTreeMap, path::Path};

use ledger::ensure;
use rayon::prelude::*;
use safetensors::{Dtype, SafeTensors, tensor::TensorView};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    error::{Context, Result},
    graph::parameters::{Parameters, Role, floats, read_safetensors},
};

/// Section `optimizer`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct OptimizerConfig {
    /// η after the warm-up.
    pub learning_rate: f64,
    /// λ
    pub weight_decay: f64,
    /// β₁ and β₂
    pub betas: [f64; 2],
    /// ε
    pub epsilon: f64,
    /// Divide the moments by 1 − βᵗ.
    pub bias_correction: bool,
    /// Maximum length of the gradient of all parameters together; longer gradients are scaled down. Null: no maximum.
    pub max_gradient_norm: Option<f64>,
}

impl OptimizerConfig {
    /// Checks the settings.
    pub fn check(&self) -> Result<()> {
        ensure!(self.learning_rate > 0.0 && self.learning_rate.is_finite(), "learning-rate is {}: it must be positive", self.learning_rate);
        ensure!(self.weight_decay >= 0.0 && self.epsilon > 0.0, "weight-decay must not be negative and epsilon positive");
        ensure!(self.betas.iter().all(|beta| (0.0..1.0).contains(beta)), "betas are {:?}: they must be at least 0 and below 1", self.betas);
        ensure!(self.max_gradient_norm.is_none_or(|norm| norm > 0.0), "max-gradient-norm must be positive, or null for no maximum");
        Ok(())
    }
}

/// Gradients of a step: of a table, only those of the rows that the step reads.
#[derive(Debug, Default)]
pub struct Gradients {
    pub dense: BTreeMap<String, Vec<f32>>,
    /// For each table, row numbers ascending and their gradients, `[rows, width]`.
    pub rows: BTreeMap<String, (Vec<u32>, Vec<f32>)>,
}

impl Gradients {
    /// Adds the gradients of another batch.
    pub fn add(&mut self, other: Self) {
        for (name, values) in other.dense {
            match self.dense.get_mut(&name) {
                Some(sum) => sum.iter_mut().zip(&values).for_each(|(sum, value)| *sum += value),
                None => drop(self.dense.insert(name, values)),
            }
        }
        for (name, (rows, values)) in other.rows {
            let sum = match self.rows.remove(&name) {
                Some(sum) => merge(sum, (rows, values)),
                None => (rows, values),
            };
            self.rows.insert(name, sum);
        }
    }

    fn all(&self) -> impl Iterator<Item = &Vec<f32>> {
        self.dense.values().chain(self.rows.values().map(|(_, values)| values))
    }

    /// Euclidean length over all parameters.
    pub fn norm(&self) -> f64 {
        self.all().map(|values| values.iter().map(|&value| f64::from(value).powi(2)).sum::<f64>()).sum::<f64>().sqrt()
    }

    /// Multiplies all gradients by a factor.
    pub fn scale(&mut self, factor: f32) {
        let rows = self.rows.values_mut().map(|(_, values)| values);
        self.dense.values_mut().chain(rows).for_each(|values| values.iter_mut().for_each(|value| *value *= factor));
    }
}

/// Merges the rows of two gradients of a table; rows of both are added.
fn merge((a_rows, a): (Vec<u32>, Vec<f32>), (b_rows, b): (Vec<u32>, Vec<f32>)) -> (Vec<u32>, Vec<f32>) {
    let width = if a_rows.is_empty() { b.len() / b_rows.len().max(1) } else { a.len() / a_rows.len() };
    let (mut rows, mut values) = (Vec::new(), Vec::new());
    let (mut i, mut j) = (0, 0);
    while i < a_rows.len() || j < b_rows.len() {
        let from_a = j == b_rows.len() || (i < a_rows.len() && a_rows[i] <= b_rows[j]);
        let from_b = i == a_rows.len() || (j < b_rows.len() && b_rows[j] <= a_rows[i]);
        rows.push(if from_a { a_rows[i] } else { b_rows[j] });
        let start = values.len();
        values.resize(start + width, 0.0);
        for (taken, index, source) in [(from_a, &mut i, &a), (from_b, &mut j, &b)] {
            if taken {
                values[start..].iter_mut().zip(&source[*index * width..]).for_each(|(sum, value)| *sum += value);
                *index += 1;
            }
        }
    }
    (rows, values)
}

/// Moments of one parameter.
#[derive(Debug, Clone, PartialEq)]
struct Moments {
    first: Vec<f32>,
    second: Vec<f32>,
    /// Number of steps of each row of a table; one number for another parameter.
    steps: Vec<u32>,
}

/// The optimizer and its state.
#[derive(Debug, Clone, PartialEq)]
pub struct AdamW {
    config: OptimizerConfig,
    moments: BTreeMap<String, Moments>,
}

impl AdamW {
    /// An optimizer before its first step.
    pub fn new(config: &OptimizerConfig, parameters: &Parameters) -> Self {
        let initial = parameters.0.iter().map(|(name, parameter)| {
            let zeros = vec![0.0; parameter.values.len()];
            let steps = if parameter.role == Role::Table { parameter.shape[0] } else { 1 };
            (name.clone(), Moments { first: zeros.clone(), second: zeros, steps: vec![0; steps] })
        });
        Self { config: config.clone(), moments: initial.collect() }
    }

    /// Updates the parameters with this learning rate.
    pub fn step(&mut self, rate: f64, parameters: &mut Parameters, gradients: &Gradients) {
        for (name, gradient) in &gradients.dense {
            let (Some(parameter), Some(moments)) = (parameters.0.get_mut(name), self.moments.get_mut(name)) else { continue };
            moments.steps[0] += 1;
            let decay = if parameter.role == Role::Vector { 0.0 } else { self.config.weight_decay };
            let update = Update::new(&self.config, rate, decay, moments.steps[0]);
            const BLOCK: usize = 16 << 10;
            let values = parameter.values.par_chunks_mut(BLOCK).zip(gradient.par_chunks(BLOCK));
            let state = moments.first.par_chunks_mut(BLOCK).zip(moments.second.par_chunks_mut(BLOCK));
            values.zip(state).for_each(|((values, gradient), (first, second))| update.apply(values, gradient, first, second));
        }
        for (name, (rows, gradient)) in &gradients.rows {
            let (Some(parameter), Some(moments)) = (parameters.0.get_mut(name), self.moments.get_mut(name)) else { continue };
            let width = parameter.shape[1];
            for (&row, gradient) in rows.iter().zip(gradient.chunks_exact(width)) {
                let row = row as usize;
                moments.steps[row] += 1;
                let update = Update::new(&self.config, rate, self.config.weight_decay, moments.steps[row]);
                let at = row * width..(row + 1) * width;
                update.apply(&mut parameter.values[at.clone()], gradient, &mut moments.first[at.clone()], &mut moments.second[at]);
            }
        }
    }

    /// Writes moments and numbers of steps as a safetensors file.
    pub fn save(&self, path: &Path) -> Result<()> {
        let floats = |values: &[f32]| values.iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<u8>>();
        let mut tensors = Vec::new();
        for (name, moments) in &self.moments {
            tensors.push((format!("first.{name}"), Dtype::F32, moments.first.len(), floats(&moments.first)));
            tensors.push((format!("second.{name}"), Dtype::F32, moments.second.len(), floats(&moments.second)));
            let steps = moments.steps.iter().flat_map(|step| step.to_le_bytes()).collect();
            tensors.push((format!("steps.{name}"), Dtype::U32, moments.steps.len(), steps));
        }
        let views = tensors
            .iter()
            .map(|(name, dtype, length, bytes)| Ok((name.as_str(), TensorView::new(*dtype, vec![*length], bytes)?)))
            .collect::<Result<Vec<_>>>()?;
        safetensors::serialize_to_file(views, None, path).with_context(|| format!("writing {}", path.display()))
    }

    /// Reads a file that [`AdamW::save`] wrote for the same parameters.
    ///
    /// # Errors
    /// A tensor is missing or has another shape.
    pub fn load(config: &OptimizerConfig, parameters: &Parameters, path: &Path) -> Result<Self> {
        let context = || format!("{} is not the optimizer state of this training", path.display());
        let bytes = read_safetensors(path)?;
        let file = SafeTensors::deserialize(&bytes).with_context(context)?;
        let mut optimizer = Self::new(config, parameters);
        for (name, moments) in &mut optimizer.moments {
            let tensor = |part: &str| file.tensor(&format!("{part}.{name}")).with_context(context);
            let (first, second, steps) = (tensor("first")?, tensor("second")?, tensor("steps")?);
            let fits = first.shape() == [moments.first.len()] && second.shape() == [moments.second.len()];
            ensure!(
                fits && steps.shape() == [moments.steps.len()] && steps.dtype() == Dtype::U32,
                "{}: the optimizer state of {name} has another shape than the parameter",
                path.display()
            );
            moments.first = floats(name, &first)?;
            moments.second = floats(name, &second)?;
            moments.steps = steps.data().as_chunks::<4>().0.iter().map(|&bytes| u32::from_le_bytes(bytes)).collect();
        }
        Ok(optimizer)
    }
}

/// The factors of one step.
struct Update {
    betas: [f32; 2],
    /// η / (1 − β₁ᵗ)
    rate: f32,
    /// 1 / √(1 − β₂ᵗ)
    root: f32,
    epsilon: f32,
    /// 1 − ηλ
    keep: f32,
}

impl Update {
    fn new(config: &OptimizerConfig, rate: f64, decay: f64, step: u32) -> Self {
        let [first, second] = config.betas;
        let (mean, variance) =
            if config.bias_correction { (1.0 - first.powf(f64::from(step)), 1.0 - second.powf(f64::from(step))) } else { (1.0, 1.0) };
        Self {
            betas: [first as f32, second as f32],
            rate: (rate / mean) as f32,
            root: (1.0 / variance.sqrt()) as f32,
            epsilon: config.epsilon as f32,
            keep: (1.0 - rate * decay) as f32,
        }
    }

    fn apply(&self, values: &mut [f32], gradient: &[f32], first: &mut [f32], second: &mut [f32]) {
        let [b1, b2] = self.betas;
        pulp::Arch::new().dispatch(|| {
            for (((value, &g), m), v) in values.iter_mut().zip(gradient).zip(first).zip(second) {
                *m = b1 * *m + (1.0 - b1) * g;
                *v = b2 * *v + (1.0 - b2) * g * g;
                *value = *value * self.keep - self.rate * *m / ((*v).sqrt() * self.root + self.epsilon);
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::parameters::{Init, Specs};

    fn config() -> OptimizerConfig {
        OptimizerConfig {
            learning_rate: 0.1,
            weight_decay: 0.01,
            betas: [0.9, 0.999],
            epsilon: 1e-8,
            bias_correction: true,
            max_gradient_norm: None,
        }
    }

    fn parameters() -> Parameters {
        let mut specs = Specs::default();
        specs.add("bias", &[2], Role::Vector, Init::Constant(1.0));
        specs.add("matrix", &[1, 2], Role::Matrix, Init::Constant(1.0));
        specs.add("table", &[3, 2], Role::Table, Init::Constant(1.0));
        Parameters::initialise(&specs.specs, 0)
    }

    /// The published algorithm, in f64.
    fn reference(gradients: &[f64], decay: f64, correct: bool) -> f64 {
        let (mut value, mut m, mut v) = (1.0, 0.0, 0.0);
        for (step, g) in gradients.iter().enumerate() {
            let t = step as i32 + 1;
            m = 0.9 * m + 0.1 * g;
            v = 0.999 * v + 0.001 * g * g;
            let (mh, vh) = if correct { (m / (1.0 - 0.9f64.powi(t)), v / (1.0 - 0.999f64.powi(t))) } else { (m, v) };
            value -= 0.1 * (mh / (vh.sqrt() + 1e-8) + decay * value);
        }
        value
    }

    #[test]
    fn steps_equal_the_published_algorithm_and_rows_count_their_own_steps() {
        for correct in [true, false] {
            let mut parameters = parameters();
            let mut optimizer = AdamW::new(&OptimizerConfig { bias_correction: correct, ..config() }, &parameters);
            for step in 0..4 {
                let mut gradients = Gradients::default();
                gradients.dense.insert("bias".into(), vec![0.5, -0.1]);
                gradients.dense.insert("matrix".into(), vec![0.5, -0.1]);
                // Every second step reads row 2.
                let rows = if step % 2 == 0 { vec![0, 2] } else { vec![0] };
                gradients.rows.insert("table".into(), (rows.clone(), vec![0.3; rows.len() * 2]));
                optimizer.step(0.1, &mut parameters, &gradients);
            }
            let close = |name: &str, place: usize, truth: f64| {
                let value = f64::from(parameters.get(name).values[place]);
                assert!((value - truth).abs() < 2e-5, "{name} {place}: {value}, not {truth}");
            };
            close("bias", 0, reference(&[0.5; 4], 0.0, correct));
            close("matrix", 1, reference(&[-0.1; 4], 0.01, correct));
            close("table", 0, reference(&[0.3; 4], 0.01, correct));
            close("table", 4, reference(&[0.3; 2], 0.01, correct));
            assert_eq!(parameters.get("table").values[2..4], [1.0, 1.0], "a row that no batch reads does not change");
        }
    }

    #[test]
    fn the_state_is_read_as_written() {
        let mut parameters = parameters();
        let mut optimizer = AdamW::new(&config(), &parameters);
        let mut gradients = Gradients::default();
        gradients.dense.insert("bias".into(), vec![0.5, -0.1]);
        gradients.rows.insert("table".into(), (vec![1], vec![0.3, 0.2]));
        optimizer.step(0.1, &mut parameters, &gradients);
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("optimizer.safetensors");
        optimizer.save(&path).unwrap();
        assert_eq!(AdamW::load(&config(), &parameters, &path).unwrap(), optimizer);
        parameters.0.get_mut("bias").unwrap().values.push(0.0);
        assert!(AdamW::load(&config(), &parameters, &path).unwrap_err().to_string().contains("bias has another shape"));
    }

    #[test]
    fn gradients_of_batches_add_up_by_row() {
        let of = |rows: &[u32], values: &[f32]| {
            let mut gradients = Gradients::default();
            gradients.rows.insert("table".into(), (rows.to_vec(), values.to_vec()));
            gradients.dense.insert("bias".into(), vec![3.0]);
            gradients
        };
        let mut sum = of(&[1, 4], &[1.0, 1.0, 2.0, 2.0]);
        sum.add(of(&[0, 4, 9], &[5.0, 5.0, 6.0, 6.0, 7.0, 7.0]));
        assert_eq!(sum.rows["table"], (vec![0, 1, 4, 9], vec![5.0, 5.0, 1.0, 1.0, 8.0, 8.0, 7.0, 7.0]));
        assert_eq!(sum.dense["bias"], [6.0]);
        assert!((sum.norm().powi(2) - (36.0 + 50.0 + 2.0 + 128.0 + 98.0)).abs() < 1e-9);
    }
}
