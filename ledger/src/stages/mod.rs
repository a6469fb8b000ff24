//! Stages: what they are, why they run, and how they are run.

pub(crate) mod earlier_shards;
pub(crate) mod executor;
pub(crate) mod freshness;
pub(crate) mod inputs;
pub(crate) mod journal;
pub(crate) mod map_shards;
pub(crate) mod registry;
pub(crate) mod rerun;
pub(crate) mod shard_records;
pub(crate) mod stage;
pub(crate) mod status;
