//! `nbow`: neural bag of words (CodeSearchNet's baseline of that name), with weighted-mean pooling.
//!
//! B = batch, T = tokens, D = embedding. `h = E[ids]: [B, T, D]`, `w = sigmoid(h·a + b) · mask: [B, T]`,
//! `e = Σ_t w_t h_t / Σ_t w_t`, and the vector is `e / ‖e‖₂`.

use std::{collections::HashMap, path::Path};

use anyhow::{Context, Result, ensure};
use burn::{
    module::{Module, Param},
    nn::{Embedding, EmbeddingConfig, Linear, LinearConfig},
    tensor::{Int, Tensor, TensorData, activation::sigmoid, backend::Backend},
};
use safetensors::{Dtype, SafeTensors, tensor::TensorView};

use crate::batches::Padded;

/// Keeps the division defined for a row without tokens.
pub const EPSILON: f64 = 1e-12;

/// The parameters.
#[derive(Module, Debug)]
pub struct Nbow<B: Backend> {
    embedding: Embedding<B>,
    weigher: Linear<B>,
    /// Logarithm of the score scale (the inverse temperature).
    log_scale: Param<Tensor<B, 1>>,
}

/// Plain numbers of a trained `nbow`.
#[derive(Debug, Clone, PartialEq)]
pub struct Weights {
    pub vocabulary: usize,
    pub dimension: usize,
    /// `[vocabulary, dimension]`
    pub embedding: Vec<f32>,
    /// `[dimension]`
    pub weigher: Vec<f32>,
    pub weigher_bias: f32,
    pub log_scale: f32,
}

impl<B: Backend> Nbow<B> {
    /// Initialises every parameter now, in this order, from the backend's seeded generator.
    pub fn new(vocabulary: usize, dimension: usize, scale: f64, device: &B::Device) -> Self {
        let embedding = EmbeddingConfig::new(vocabulary, dimension).init(device);
        let weigher = LinearConfig::new(dimension, 1).init(device);
        let log_scale = Param::from_tensor(Tensor::from_floats([scale.ln() as f32], device));
        let model = Self { embedding, weigher, log_scale };
        let _ = (model.embedding.weight.val(), model.weigher.weight.val(), model.weigher.bias.as_ref().map(Param::val));
        model
    }

    /// Unit vectors `[B, D]` of padded ids.
    pub fn forward(&self, batch: &Padded) -> Tensor<B, 2> {
        let device = &self.embedding.weight.device();
        let shape = [batch.rows, batch.width];
        let ids = Tensor::<B, 2, Int>::from_data(TensorData::new(batch.ids.clone(), shape), device);
        let mask = Tensor::<B, 2>::from_data(TensorData::new(batch.mask.clone(), shape), device);
        let [rows, width] = shape;
        let hidden = self.embedding.forward(ids);
        let dimension = hidden.dims()[2];
        let scores = self.weigher.forward(hidden.clone().reshape([rows * width, dimension])).reshape([rows, width]);
        let weights = sigmoid(scores) * mask;
        let total = weights.clone().sum_dim(1) + EPSILON;
        // Pooling as one batched product, [B, 1, T] × [B, T, D]: three times as fast as multiply and sum.
        let pooled = weights.reshape([rows, 1, width]).matmul(hidden).reshape([rows, dimension]) / total;
        let norm = (pooled.clone().powi_scalar(2).sum_dim(1) + EPSILON).sqrt();
        pooled / norm
    }

    pub fn scale(&self) -> Tensor<B, 1> {
        self.log_scale.val().exp()
    }

    pub fn weights(&self) -> Result<Weights> {
        let floats = |data: TensorData| data.to_vec::<f32>().map_err(|error| anyhow::anyhow!("{error:?}"));
        let [vocabulary, dimension] = self.embedding.weight.val().dims();
        let bias = self.weigher.bias.as_ref().context("the weigher has a bias")?;
        Ok(Weights {
            vocabulary,
            dimension,
            embedding: floats(self.embedding.weight.val().into_data())?,
            weigher: floats(self.weigher.weight.val().into_data())?,
            weigher_bias: floats(bias.val().into_data())?[0],
            log_scale: floats(self.log_scale.val().into_data())?[0],
        })
    }
}

impl Weights {
    /// The forward pass of [`Nbow::forward`] for one row, in plain f32: the reference for the export.
    pub fn embed(&self, ids: &[u32]) -> Vec<f32> {
        let mut sum = vec![0f64; self.dimension];
        for &id in ids {
            let row = &self.embedding[id as usize * self.dimension..][..self.dimension];
            let score: f64 = row.iter().zip(&self.weigher).map(|(x, a)| f64::from(x * a)).sum::<f64>() + f64::from(self.weigher_bias);
            let weight = 1.0 / (1.0 + (-score).exp());
            sum.iter_mut().zip(row).for_each(|(sum, x)| *sum += weight * f64::from(*x));
        }
        let norm = sum.iter().map(|x| x * x).sum::<f64>().sqrt().max(EPSILON);
        sum.iter().map(|x| (x / norm) as f32).collect()
    }

    pub fn save(&self, path: &Path) -> Result<()> {
        let bytes = |values: &[f32]| values.iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<u8>>();
        let (embedding, weigher) = (bytes(&self.embedding), bytes(&self.weigher));
        let (bias, scale) = (bytes(&[self.weigher_bias]), bytes(&[self.log_scale]));
        let tensors = [
            ("embedding.weight", vec![self.vocabulary, self.dimension], &embedding),
            ("weigher.weight", vec![self.dimension], &weigher),
            ("weigher.bias", vec![1], &bias),
            ("log_scale", vec![1], &scale),
        ];
        let views = tensors
            .into_iter()
            .map(|(name, shape, bytes)| Ok((name, TensorView::new(Dtype::F32, shape, bytes)?)))
            .collect::<Result<Vec<_>>>()?;
        safetensors::serialize_to_file(views, None, path).with_context(|| format!("writing {}", path.display()))
    }

    /// Reads a weights file; shapes are checked before anything is used.
    pub fn load(path: &Path) -> Result<Self> {
        let bytes = std::fs::read(path).with_context(|| format!("reading {}", path.display()))?;
        let context = || format!("{} does not hold an nbow", path.display());
        let file = SafeTensors::deserialize(&bytes).with_context(context)?;
        let mut tensors = HashMap::new();
        for (name, tensor) in file.tensors() {
            ensure!(tensor.dtype() == Dtype::F32, "{}: {name} is not f32", path.display());
            let values = tensor.data().chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect::<Vec<f32>>();
            tensors.insert(name, (tensor.shape().to_vec(), values));
        }
        let mut take = |name: &str| tensors.remove(name).with_context(|| format!("no tensor {name}")).with_context(context);
        let (shape, embedding) = take("embedding.weight")?;
        let (weigher_shape, weigher) = take("weigher.weight")?;
        let (bias, scale) = (take("weigher.bias")?.1, take("log_scale")?.1);
        ensure!(
            shape.len() == 2 && weigher_shape == [shape[1]] && bias.len() == 1 && scale.len() == 1,
            "{}: tensor shapes do not fit together",
            path.display()
        );
        Ok(Self { vocabulary: shape[0], dimension: shape[1], embedding, weigher, weigher_bias: bias[0], log_scale: scale[0] })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::backend::Flex;

    fn model() -> Nbow<Flex> {
        let device = Default::default();
        Flex::seed(&device, 7);
        Nbow::new(50, 16, 14.0, &device)
    }

    fn vectors(model: &Nbow<Flex>, rows: &[&[u32]]) -> Vec<Vec<f32>> {
        let out: Vec<f32> = model.forward(&Padded::new(rows, 0)).into_data().to_vec().unwrap();
        out.chunks(16).map(<[f32]>::to_vec).collect()
    }

    #[test]
    fn padding_and_company_do_not_change_a_vector() {
        let model = model();
        let alone = vectors(&model, &[&[3, 4, 5]]).remove(0);
        let together = vectors(&model, &[&[9; 30], &[3, 4, 5], &[1]]).remove(1);
        assert!(alone.iter().zip(&together).all(|(a, b)| (a - b).abs() < 1e-6));
        assert!((alone.iter().map(|x| x * x).sum::<f32>() - 1.0).abs() < 1e-5);
    }

    #[test]
    fn the_plain_forward_is_the_same_function_and_weights_survive_the_file() {
        let model = model();
        let weights = model.weights().unwrap();
        let vector = vectors(&model, &[&[3, 4, 5, 3]]).remove(0);
        assert!(vector.iter().zip(weights.embed(&[3, 4, 5, 3])).all(|(a, b)| (a - b).abs() < 1e-6));
        let file = std::env::temp_dir().join(format!("nbow-{}.safetensors", std::process::id()));
        weights.save(&file).unwrap();
        assert_eq!(Weights::load(&file).unwrap(), weights);
        std::fs::write(&file, b"not a weights file").unwrap();
        assert!(Weights::load(&file).is_err());
        std::fs::remove_file(&file).unwrap();
    }

    #[test]
    fn a_row_without_tokens_is_no_nan() {
        assert!(vectors(&model(), &[&[], &[1]]).iter().flatten().all(|x| x.is_finite()));
    }
}
