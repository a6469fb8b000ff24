//! Training with another encoder: [`grades`] are similarities of a teacher, [`token_start`] initialises token vectors, and [`encoder`] runs
//! the other encoder.

pub mod config;
pub mod encoder;
pub mod grades;
pub mod token_start;
