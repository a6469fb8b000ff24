//! The computation of an encoder: [`math`] is what encoders are written in, [`tape`] runs it on tensors with the operations of [`ops`],
//! over the weights of [`parameters`]. [`model`] combines the encoders of a training context.

pub mod fused;
pub mod math;
pub mod model;
pub mod ops;
pub mod parameters;
pub mod stock;
pub mod tape;

#[cfg(test)]
mod ops_tests;
