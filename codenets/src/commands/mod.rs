//! The commands, one module a group.

pub mod build;
pub mod fetch;
pub mod inspect;
pub mod models;
pub mod records;
pub mod reproducing;
pub mod search;
