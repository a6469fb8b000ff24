//! Artifacts: what stages read and write, and how it is recorded.

pub(crate) mod artifact;
pub(crate) mod checkout;
pub(crate) mod commit;
pub(crate) mod encoder_spec;
pub(crate) mod folder;
pub(crate) mod kinds;
pub(crate) mod manifest;
pub(crate) mod recordable;
pub(crate) mod reference;
pub(crate) mod restore_marker;
pub(crate) mod values;
