//! MLflow: every training is spooled on disk ([`spool`]), with or without a server. If `MLFLOW_TRACKING_URI` names a server, the spool is
//! uploaded ([`upload`]) while the training runs ([`background_upload`]), after it ([`record`]), and by `codenets mlflow sync` ([`sync`]).
//! That a server does not answer is reported once ([`outage`]) and never fails a stage.

mod background_upload;
mod destination;
mod model;
mod outage;
pub(crate) mod record;
mod server;
pub(crate) mod spool;
pub(crate) mod sync;
pub(crate) mod tracked_run;
mod upload;
