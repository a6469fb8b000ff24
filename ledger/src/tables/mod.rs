//! Parquet tables.

pub mod row_groups;
pub(crate) mod shards;
pub mod table;
