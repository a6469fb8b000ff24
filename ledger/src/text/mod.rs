//! Words, languages and units.

pub(crate) mod language;
pub(crate) mod units;
pub mod words;
