//! Compares every encoder and pooler with PyTorch's modules (tests/reference/encoders.py), and tests what must not change a vector.

use std::collections::BTreeMap;

use burn::tensor::{DType, Tensor, TensorData};
use kernels::{Cpu, hash_bits};
use serde::Deserialize;

use super::{
    albert,
    architecture::Architecture,
    bert, birnn, conv_attention, conv1d,
    encoder::{Encoder, InputSize},
    nbow,
    pooler::Pooler,
};
use crate::graph::{
    fused::Fused,
    ops::Ops,
    parameters::{Parameters, Role, Specs},
    stock::Stock,
    tape::{DeviceParameters, ForwardPass, Packed},
};

#[derive(Deserialize)]
struct Reference {
    lengths: Vec<usize>,
    recorded: BTreeMap<String, Recorded>,
}

#[derive(Deserialize)]
struct Recorded {
    vectors: Vec<f64>,
    gradients: BTreeMap<String, Gradient>,
}

#[derive(Deserialize)]
struct Gradient {
    norm: f64,
    first: Vec<f64>,
    last: Vec<f64>,
}

const INPUT: InputSize = InputSize { vocabulary: 30, length: 12 };

fn reference() -> Reference {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/reference/encoders.json");
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

/// The encoders of the script, with its sizes.
fn encoders() -> Vec<(&'static str, Architecture)> {
    let (dropout, norm_epsilon) = (0.0, 1e-12);
    vec![
        ("nbow", Architecture::Nbow(nbow::Nbow { dimension: 8 })),
        ("conv1d", Architecture::Conv1d(conv1d::Conv1d { dimension: 8, layers: 3, kernel: 4, dropout })),
        ("birnn", Architecture::Birnn(birnn::Birnn { dimension: 6, hidden: 5, layers: 2, dropout })),
        ("bert", Architecture::Bert(bert::Bert { dimension: 8, intermediate: 12, layers: 2, heads: 2, dropout, norm_epsilon })),
        (
            "albert",
            Architecture::Albert(albert::Albert {
                embedding: 6,
                dimension: 8,
                intermediate: 12,
                layers: 3,
                heads: 4,
                dropout,
                norm_epsilon,
            }),
        ),
        (
            "conv-attention",
            Architecture::ConvAttention(conv_attention::ConvAttention {
                dimension: 8,
                convolutions: 2,
                kernel: 3,
                intermediate: 12,
                layers: 1,
                heads: 2,
                dropout,
                norm_epsilon,
            }),
        ),
    ]
}

const POOLERS: [Pooler; 4] = [Pooler::Mean, Pooler::Max, Pooler::WeightedMean, Pooler::Cls];

/// The script's `noise`: by FNV-1a of the name.
fn noise(name: &str, count: usize) -> Vec<f32> {
    let salt = name.bytes().fold(0x811c_9dc5u32, |value, byte| (value ^ u32::from(byte)).wrapping_mul(0x0100_0193));
    (0..count).map(|place| (f64::from(hash_bits((place as u32 * 3).wrapping_add(salt))) / f64::from(u32::MAX) - 0.5) as f32).collect()
}

fn parameters(encoder: &Architecture, pooler: Pooler) -> Parameters {
    let mut specs = Specs::default();
    encoder.specs(INPUT, &mut specs);
    pooler.specs(encoder.width(), &mut specs);
    let mut parameters = Parameters::initialise(&specs.specs, 0);
    for (name, parameter) in &mut parameters.0 {
        parameter.values = noise(name, parameter.values.len());
    }
    parameters
}

fn rows(lengths: &[usize]) -> Vec<Vec<u32>> {
    let row = |(row, length): (usize, &usize)| (0..*length).map(|place| hash_bits((row * 100 + place) as u32) % 30).collect();
    lengths.iter().enumerate().map(row).collect()
}

struct Pass {
    vectors: Vec<f64>,
    gradients: BTreeMap<String, Vec<f64>>,
}

/// Computes vectors, and gradients of `Σ vectors · noise("slope")`.
fn pass(
    encoder: &Architecture,
    pooler: Pooler,
    parameters: &Parameters,
    rows: &[Vec<u32>],
    ops: &dyn Ops<Cpu>,
    dropout: Option<u64>,
) -> Pass {
    let batch = Packed::of_rows(rows);
    let mut ids = batch.ids.clone();
    ids.sort_unstable();
    ids.dedup();
    let device = Default::default();
    let on_device = DeviceParameters::<Cpu>::new(parameters, [("tokens".to_owned(), ids.clone())].into(), true, DType::F32, &device);
    let mut math = ForwardPass { parameters: &on_device, ops, batch: &batch, scope: "", dropout, dropouts: 0 };
    let vectors = pooler.vectors(encoder, &mut math);
    let shape = vectors.dims();
    let slope = Tensor::<Cpu, 2>::from_data(TensorData::new(noise("slope", shape[0] * shape[1]), shape), &device);
    let tape = (vectors.clone() * slope).sum().backward();
    let mut gradients = BTreeMap::new();
    for (name, parameter) in &parameters.0 {
        let numbers = |data: TensorData| data.convert::<f64>().to_vec::<f64>().unwrap();
        let gradient = match on_device.vectors.get(name) {
            Some(tensor) => tensor.grad(&tape).map(|gradient| numbers(gradient.into_data())),
            None => on_device.matrices[name].grad(&tape).map(|gradient| numbers(gradient.into_data())),
        };
        let Some(gradient) = gradient else { continue };
        let whole = if parameter.role == Role::Table {
            let width = parameter.shape[1];
            let mut whole = vec![0.0; parameter.values.len()];
            for (slot, &id) in ids.iter().enumerate() {
                whole[id as usize * width..][..width].copy_from_slice(&gradient[slot * width..][..width]);
            }
            whole
        } else {
            gradient
        };
        gradients.insert(name.clone(), whole);
    }
    Pass { vectors: vectors.into_data().convert::<f64>().to_vec().unwrap(), gradients }
}

fn close(what: &str, a: &[f64], b: &[f64], tolerance: f64) {
    assert_eq!(a.len(), b.len(), "{what}");
    for (place, (a, b)) in a.iter().zip(b).enumerate() {
        assert!((a - b).abs() < tolerance, "{what} at {place}: {a} and {b}");
    }
}

#[test]
fn vectors_and_gradients_equal_pytorch() {
    let reference = reference();
    let rows = rows(&reference.lengths);
    for (name, encoder) in encoders() {
        for pooler in POOLERS {
            let recorded = &reference.recorded[&format!("{name}/{}", pooler.name())];
            let parameters = parameters(&encoder, pooler);
            for (ops, path) in [(&Fused as &dyn Ops<Cpu>, "fused"), (&Stock, "stock")] {
                let what = format!("{name} {} {path}", pooler.name());
                let pass = pass(&encoder, pooler, &parameters, &rows, ops, None);
                close(&what, &pass.vectors, &recorded.vectors, 1e-5);
                // A parameter without a gradient in PyTorch has none here either.
                for (parameter, gradient) in &pass.gradients {
                    assert!(recorded.gradients.contains_key(parameter), "{what}: {parameter}");
                    let truth = &recorded.gradients[parameter];
                    let size = 1e-5 + 3e-5 * truth.norm;
                    let norm = gradient.iter().map(|value| value * value).sum::<f64>().sqrt();
                    assert!((norm - truth.norm).abs() < size, "{what}: {parameter} has length {norm}, not {}", truth.norm);
                    close(&format!("{what}: {parameter}"), &gradient[..truth.first.len()], &truth.first, size);
                    close(&format!("{what}: {parameter}"), &gradient[gradient.len() - truth.last.len()..], &truth.last, size);
                }
                assert_eq!(pass.gradients.len(), recorded.gradients.len(), "{what}");
            }
        }
    }
}

#[test]
fn other_rows_do_not_change_a_vector_and_absent_tokens_get_no_gradient() {
    for (name, encoder) in encoders() {
        for pooler in POOLERS {
            let parameters = parameters(&encoder, pooler);
            let all = rows(&[5, 1, 12, 3, 7]);
            for ops in [&Fused as &dyn Ops<Cpu>, &Stock] {
                let together = pass(&encoder, pooler, &parameters, &all, ops, None);
                for (row, ids) in all.iter().enumerate() {
                    let alone = pass(&encoder, pooler, &parameters, std::slice::from_ref(ids), ops, None);
                    let width = encoder.width();
                    close(name, &alone.vectors, &together.vectors[row * width..][..width], 1e-6);
                }
                let width = parameters.get("tokens").shape[1];
                for (id, gradient) in together.gradients["tokens"].chunks(width).enumerate() {
                    if !all.iter().flatten().any(|&seen| seen as usize == id) {
                        assert!(gradient.iter().all(|&slope| slope == 0.0), "{name}: token {id} is in no row");
                    }
                }
            }
        }
    }
}

/// Dropout depends on seed and position only, so that both implementations drop the same numbers.
#[test]
fn dropout_is_the_same_in_both_implementations() {
    for (name, mut encoder) in encoders() {
        match &mut encoder {
            Architecture::Bert(it) => it.dropout = 0.3,
            Architecture::Albert(it) => it.dropout = 0.3,
            Architecture::Conv1d(it) => it.dropout = 0.3,
            Architecture::Birnn(it) => it.dropout = 0.3,
            Architecture::ConvAttention(it) => it.dropout = 0.3,
            Architecture::Nbow(_) => continue,
        }
        let parameters = parameters(&encoder, Pooler::Mean);
        let rows = rows(&[5, 1, 12, 3]);
        let run = |ops: &dyn Ops<Cpu>, seed| pass(&encoder, Pooler::Mean, &parameters, &rows, ops, seed);
        let (fused, stock) = (run(&Fused, Some(4)), run(&Stock, Some(4)));
        close(name, &fused.vectors, &stock.vectors, 1e-5);
        for (parameter, gradient) in &fused.gradients {
            close(&format!("{name}: {parameter}"), gradient, &stock.gradients[parameter], 1e-4);
        }
        assert_ne!(fused.vectors, run(&Fused, Some(5)).vectors, "{name}: another seed drops other numbers");
        assert_ne!(fused.vectors, run(&Fused, None).vectors, "{name}: outside training nothing is dropped");
    }
}

#[test]
fn rows_without_tokens_are_defined() {
    for (name, encoder) in encoders() {
        for pooler in POOLERS {
            let parameters = parameters(&encoder, pooler);
            for ops in [&Fused as &dyn Ops<Cpu>, &Stock] {
                let pass = pass(&encoder, pooler, &parameters, &[vec![], vec![3, 4], vec![]], ops, None);
                let finite = pass.vectors.iter().chain(pass.gradients.values().flatten()).all(|value| value.is_finite());
                assert!(finite, "{name} {}", pooler.name());
                assert!(pass.vectors[..encoder.width()].iter().all(|&value| value == 0.0), "{name} {}", pooler.name());
            }
        }
    }
}

#[test]
fn sizes_out_of_range_are_refused() {
    let refusal = |encoder: Architecture| encoder.check().unwrap_err().to_string();
    let bert = |dimension, heads, dropout| {
        Architecture::Bert(bert::Bert { dimension, intermediate: 4, layers: 1, heads, dropout, norm_epsilon: 1e-12 })
    };
    assert_eq!(refusal(Architecture::Nbow(nbow::Nbow { dimension: 0 })), "encoder.dimension is 0: it must be between 1 and 65536");
    assert_eq!(refusal(bert(10, 3, 0.0)), "encoder.dimension 10 is not a multiple of encoder.heads 3");
    assert_eq!(refusal(bert(9, 3, 1.0)), "encoder.dropout is 1: it must be a probability below 1");
}
