//! Parquet tables.

pub(crate) mod shards;
pub mod table;
