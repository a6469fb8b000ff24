//! Folders of a data folder that hold no artifacts. Each has one module that knows its layout.

pub(crate) mod releases;
pub(crate) mod reports;
pub(crate) mod retracted;
pub(crate) mod runs;
pub(crate) mod score_key;
pub(crate) mod serve;
