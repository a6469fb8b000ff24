//! Compares the fused with the composed operations, in value and in every gradient, and the gradients of the composed ones with
//! differences of their values in f64.

use std::sync::Arc;

use burn::tensor::{DType, Tensor, TensorData, backend::AutodiffBackend};
use kernels::{Bags, Cpu, Dropout, Layout, hash_bits};

use super::{fused::Fused, ops::Ops, stock::Stock};

type Matrix = Tensor<Cpu, 2>;

/// Numbers between -1 and 1.
fn noise(count: usize, salt: u32) -> Vec<f32> {
    (0..count).map(|position| hash_bits(position as u32 * 3 + salt * 7919) as f32 / u32::MAX as f32 * 2.0 - 1.0).collect()
}

/// Sequences longer than a SIMD vector, of one token, and without tokens at the start, in the middle and at the end.
fn layouts() -> Vec<Layout> {
    [&[5, 1, 33][..], &[0, 7, 0, 0, 18, 2, 0], &[1], &[300, 40], &[0, 0]]
        .map(|lengths| Layout::of_lengths(lengths.iter().copied()))
        .to_vec()
}

/// An operation and the shapes of its inputs; a shape with one row is a vector.
struct Case {
    name: String,
    shapes: Vec<[usize; 2]>,
    run: Run,
}

type Run = Box<dyn Fn(&dyn Ops<Cpu>, &[Matrix]) -> Matrix>;

fn vector(x: &Matrix) -> Tensor<Cpu, 1> {
    let [rows, columns] = x.dims();
    x.clone().reshape([rows * columns])
}

fn cases(layout: &Layout) -> Vec<Case> {
    let n = layout.tokens();
    let case = |name: &str, shapes: Vec<[usize; 2]>, run: Run| Case { name: format!("{name} over {layout:?}"), shapes, run };
    let of = |layout: &Layout| layout.clone();
    let slots: Arc<[u32]> = (0..n as u32).map(|position| hash_bits(position) % 11).collect();
    let bags = Bags { layout: layout.clone(), slots: slots.clone() };
    let (l1, l2, l3, l4, l5, l6, l7, l8) = (of(layout), of(layout), of(layout), of(layout), of(layout), of(layout), of(layout), of(layout));
    let (bags_one, bags_weighed) = (bags.clone(), bags);
    let dropout = Dropout { probability: 0.3, seed: 12 };
    vec![
        case("linear", vec![[n, 20], [20, 7], [1, 7]], Box::new(|ops, x| ops.linear(x[0].clone(), x[1].clone(), vector(&x[2])))),
        case("gelu", vec![[n, 19]], Box::new(|ops, x| ops.gelu(x[0].clone() * 4.0))),
        case(
            "norm",
            vec![[n, 37], [1, 37], [1, 37]],
            Box::new(|ops, x| ops.add_norm(x[0].clone(), None, vector(&x[1]), vector(&x[2]), 1e-5)),
        ),
        case(
            "add_norm",
            vec![[n, 37], [n, 37], [1, 37], [1, 37]],
            Box::new(|ops, x| ops.add_norm(x[0].clone(), Some(x[1].clone()), vector(&x[2]), vector(&x[3]), 1e-3)),
        ),
        case("select", vec![[11, 18]], Box::new(move |ops, x| ops.select(x[0].clone(), &slots))),
        case("attention", vec![[n, 3 * 24]], Box::new(move |ops, x| ops.attention(x[0].clone(), &l1, 3, None))),
        case("attention, dropped", vec![[n, 3 * 24]], Box::new(move |ops, x| ops.attention(x[0].clone(), &l2, 4, Some(dropout)))),
        case(
            "convolution",
            vec![[n, 6], [4 * 6, 5], [1, 5]],
            Box::new(move |ops, x| ops.convolution(x[0].clone(), x[1].clone(), vector(&x[2]), &l3)),
        ),
        case("lstm", vec![[n, 4 * 9], [9, 4 * 9]], Box::new(move |ops, x| ops.lstm(x[0].clone(), x[1].clone(), &l4, false))),
        case("lstm, backwards", vec![[n, 4 * 9], [9, 4 * 9]], Box::new(move |ops, x| ops.lstm(x[0].clone(), x[1].clone(), &l5, true))),
        case("mean", vec![[n, 21]], Box::new(move |ops, x| ops.mean(x[0].clone(), None, &l6))),
        case("weighted mean", vec![[n, 21], [n, 1]], Box::new(move |ops, x| ops.mean(x[0].clone(), Some(vector(&x[1]) + 1.5), &l7))),
        case("max", vec![[n, 21]], Box::new(move |ops, x| ops.max(x[0].clone(), &l8))),
        case("bag", vec![[11, 17]], Box::new(move |ops, x| ops.bag(x[0].clone(), None, &bags_one))),
        case(
            "weighed bag",
            vec![[11, 17], [11, 1]],
            Box::new(move |ops, x| ops.bag(x[0].clone(), Some(vector(&x[1]) + 1.5), &bags_weighed)),
        ),
        case("dropout", vec![[n, 21]], Box::new(move |ops, x| ops.dropout(x[0].clone(), dropout))),
    ]
}

fn inputs(shapes: &[[usize; 2]], dtype: DType) -> Vec<Matrix> {
    let device = Default::default();
    let input = |(salt, shape): (usize, &[usize; 2])| {
        let values: Vec<f64> = noise(shape[0] * shape[1], salt as u32 + 1).into_iter().map(f64::from).collect();
        Tensor::from_data(TensorData::new(values, *shape), (&device, dtype)).require_grad()
    };
    shapes.iter().enumerate().map(input).collect()
}

fn numbers(x: Matrix) -> Vec<f64> {
    x.into_data().convert::<f64>().to_vec().unwrap()
}

/// Value, and the gradient of `Σ output · noise` by each input.
fn outcome(case: &Case, ops: &dyn Ops<Cpu>) -> (Vec<f64>, Vec<Vec<f64>>) {
    let inputs = inputs(&case.shapes, DType::F32);
    let output = (case.run)(ops, &inputs);
    let [rows, columns] = output.dims();
    let weights = Tensor::<Cpu, 2>::from_data(TensorData::new(noise(rows * columns, 77), [rows, columns]), &Default::default());
    let tape = (output.clone() * weights).sum().backward();
    let gradient = |(input, shape): (&Matrix, &[usize; 2])| match input.grad(&tape) {
        Some(gradient) => gradient.into_data().convert::<f64>().to_vec().unwrap(),
        None => vec![0.0; shape[0] * shape[1]],
    };
    (numbers(output), inputs.iter().zip(&case.shapes).map(gradient).collect())
}

fn close(what: &str, a: &[f64], b: &[f64], tolerance: f64) {
    assert_eq!(a.len(), b.len(), "{what}");
    let size = a.iter().map(|x| x.abs()).fold(1.0, f64::max);
    for (position, (a, b)) in a.iter().zip(b).enumerate() {
        assert!((a - b).abs() < tolerance * size, "{what} at {position}: {a} and {b}");
    }
}

#[test]
fn fused_operations_equal_composed_ones_in_value_and_gradient() {
    for layout in layouts().iter().filter(|layout| layout.tokens() > 0) {
        for case in cases(layout) {
            let (stock, fused) = (outcome(&case, &Stock), outcome(&case, &Fused));
            close(&case.name, &stock.0, &fused.0, 2e-6);
            assert_eq!((stock.1.len(), fused.1.len()), (case.shapes.len(), case.shapes.len()), "{}", case.name);
            for (input, (stock, fused)) in stock.1.iter().zip(&fused.1).enumerate() {
                close(&format!("{} by input {input}", case.name), stock, fused, 1e-5);
            }
        }
    }
}

/// Compares the gradients of the reference with differences of its values, in f64.
#[test]
fn gradients_of_composed_operations_equal_differences_in_f64() {
    let layout = Layout::of_lengths([3, 0, 1, 5]);
    for case in cases(&layout) {
        let inputs = inputs(&case.shapes, DType::F64);
        let loss = |inputs: &[Matrix]| {
            let output = (case.run)(&Stock, inputs);
            let [rows, columns] = output.dims();
            let weights: Vec<f64> = noise(rows * columns, 77).into_iter().map(f64::from).collect();
            let weights = Tensor::<Cpu, 2>::from_data(TensorData::new(weights, [rows, columns]), (&Default::default(), DType::F64));
            (output * weights).sum()
        };
        let tape = loss(&inputs).backward();
        for (number, input) in inputs.iter().enumerate() {
            let shape = case.shapes[number];
            let given: Vec<f64> = input.grad(&tape).unwrap().into_data().convert::<f64>().to_vec().unwrap();
            let at = numbers(input.clone());
            // Every seventh number, because all numbers take minutes.
            for position in (0..at.len()).step_by(7) {
                let moved = |by: f64| {
                    let mut values = at.clone();
                    values[position] += by;
                    let mut inputs = inputs.clone();
                    inputs[number] = Tensor::from_data(TensorData::new(values, shape), (&Default::default(), DType::F64));
                    loss(&inputs).into_data().convert::<f64>().to_vec::<f64>().unwrap()[0]
                };
                let slope = (moved(1e-5) - moved(-1e-5)) / 2e-5;
                assert!(
                    (slope - given[position]).abs() < 1e-6 * (1.0 + slope.abs()),
                    "{} by {number} at {position}: {slope}, {}",
                    case.name,
                    given[position]
                );
            }
        }
    }
}

#[test]
fn fused_bits_do_not_depend_on_threads() {
    let layout = Layout::of_lengths((0..40).map(|row| hash_bits(row) as usize % 60));
    let all = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| cases(&layout).iter().map(|case| outcome(case, &Fused)).collect::<Vec<_>>())
    };
    let one = all(1);
    assert!(one == all(2) && one == all(3));
}

/// Without f64 the test with differences would compare nothing.
#[test]
fn the_backend_computes_in_f64() {
    fn third<B: AutodiffBackend>(device: &B::Device) -> f64 {
        let x = Tensor::<B, 1>::from_data(TensorData::new(vec![1.0f64], [1]), (device, DType::F64));
        (x / 3.0).into_data().convert::<f64>().to_vec::<f64>().unwrap()[0]
    }
    assert!((third::<Cpu>(&Default::default()) - 1.0 / 3.0).abs() < 1e-15);
}
