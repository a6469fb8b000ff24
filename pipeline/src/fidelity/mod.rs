//! Compares the harvest with CodeSearchNet: derives every field again that a record's own code determines, and compares it
//! with the record.

mod compare;
mod report;

pub use report::{Fidelity, measure};
