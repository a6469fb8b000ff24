//! Tests with stages of their own: this crate knows no artifact kind.

mod artifact_kinds;
mod garbage;
mod hostile_snapshots;
mod snapshot_layout;
pub(crate) mod toy;
