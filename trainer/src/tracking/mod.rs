//! What a person watches: TensorBoard's files, beside the run and never part of its artifact (they hold clock times).

mod events;
mod projector;

pub use events::EventFile;
pub use projector::write_projector;
