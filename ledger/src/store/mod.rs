//! The artifact store: a data folder with artifacts of every kind.

pub(crate) mod artifact_store;
pub(crate) mod damage;
pub(crate) mod lock;
pub(crate) mod pins;
