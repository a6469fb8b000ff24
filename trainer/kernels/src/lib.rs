//! Fused CPU kernels for training encoders: each operation is one pass forward and one pass backward, in f32.
//!
//! The functions take and return tensors of [`Cpu`], burn's CPU backend with automatic differentiation. They work on *packed* rows: the
//! sequences of a batch are concatenated without padding, and a [`Layout`] tells where each sequence begins and ends. `docs/fused-ops.md`
//! lists the formulas of both passes.
//!
//! Results are deterministic: work is cut into blocks of a fixed number of rows, and partial sums are added in the order of the blocks, so
//! that the bits do not depend on the number of threads.
//!
//! ```
//! use burn::tensor::Tensor;
//! use kernels::{Cpu, Layout};
//!
//! // Two sequences of two tokens and one token, two numbers a token.
//! let tokens = Tensor::<Cpu, 2>::from_data([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]], &Default::default());
//! let means = kernels::mean(tokens, None, &Layout::of_lengths([2, 1]));
//! assert_eq!(means.into_data().to_vec::<f32>().unwrap(), [2.0, 3.0, 5.0, 6.0]);
//! ```

mod attention;
mod autodiff;
mod dense;
mod dropout;
mod layout;
mod matrix;
mod operations;
mod pooling;
mod product;
mod recurrent;
mod vector;

pub use autodiff::{Cpu, CpuDevice};
pub use dropout::{Dropout, hash_bits};
pub use layout::{Bags, Layout};
pub use operations::{add_norm, attention, bag, convolution, dropout, gelu, linear, lstm, max, mean, select};
pub use pooling::WEIGHT_EPSILON;
