//! The stages: [`train`] and [`export`], or [`adopt`]; and where a training starts ([`start`]).

pub mod adopt;
pub mod export;
mod parity;
pub mod start;
pub mod train;
pub mod training_context;
