//! Token columns to batches: `samples` (pairs on disk) -> `plan` (their order) -> `batches` (packed, one ahead).

pub mod batches;
pub mod plan;
pub mod samples;
