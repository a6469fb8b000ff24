//! Tracking of trainings: TensorBoard event files and a spool for MLflow in the work directory, and the page of the learning curve in the
//! checkpoint. Event files and spool contain times, and are never part of an artifact.

pub(crate) mod curve;
mod events;
mod mlflow;
pub(crate) mod projector;
pub(crate) mod tracker;

pub use mlflow::{
    record::{record_checkpoint, record_encoder},
    spool::is_unsent,
    sync::{Sent, Synced, UploadedRun, sync},
};
