//! The waist of the house: what stages hand to each other, and the store that makes and remembers it.
//!
//! A **stage** ([`Stage`]) is a pure function of its configuration and its inputs. What it leaves is
//! a **recordable** ([`Recordable`]): a directory that reopens by type. An **artifact**
//! ([`Artifact`]) is a typed handle on one sealed directory, and the **store** ([`Store`]) runs
//! stages, seals their output and says why it did.
//!
//! What lives here is only what two crates exchange. It is deliberately not a home for helpers:
//! no polars, no tree-sitter, no burn, no ort, no tantivy.

mod artifacts;
mod clock;
pub mod conf;
mod context;
mod damage;
mod digest;
mod error;
mod events;
mod executor;
pub mod fault;
mod freshness;
mod journal;
mod language;
mod lock;
mod manifest;
mod progress;
mod record;
mod registry;
mod reports;
mod restore_marker;
mod runs;
mod runtime;
mod score_key;
mod seal;
mod serve;
mod shards;
mod stage;
mod status;
mod store;
pub mod table;
mod units;
pub mod words;

pub use artifacts::{
    ARTIFACT_KINDS, Bundle, Checkpoint, CodeText, Embeddings, Encoder, EncoderSpec, Functions, GraphForm, Raw, Scores, Syntax,
    TokenPooling, Tokens, Vocabulary,
};
pub use clock::{rfc3339, unix_now, utc_stamp};
pub use context::{Checkout, Metrics, Retracted, Settings};
pub use digest::{Digest, Hasher};
pub use error::{BoxError, Error, Invalid, Result, chain};
pub use events::{append_event, event_file};
pub use executor::RerunOutcome;
pub use freshness::{Freshness, InputChange, differing_keys};
pub use journal::journal;
pub use language::{Language, Split, UnknownName};
pub use lock::Lock;
pub use manifest::{Commit, FileRecord, Host, InputRecord, Manifest, Rows, ShardRecord};
pub use progress::{Bar, Progress, cpu_seconds, peak_rss_mib, reset_peak_rss};
pub use record::{AnyRecord, ArtifactRef, Content, Files, Folder, RECORD, VALUE, is_plain, json_files, load, open_json, save};
pub use registry::{AnyStage, Recorded, Registry, StageSelection};
pub use reports::{report_path, write_report, write_report_file};
pub use restore_marker::RestoreMarker;
pub use runs::{WorkDir, runs_dir};
pub use runtime::onnxruntime_library;
pub use score_key::{ALL_LANGUAGES, NotAScoreKey, ScoreKey};
pub use seal::{files_below, fsync_dir, fsync_tree, open_to_all, publish_link, write_atomically};
pub use serve::{BundleId, Serve, UNPUBLISHED};
pub use shards::{Shard, Shards};
pub use stage::{Inputs, Recordable, Report, Run, Stage};
pub use status::{StageStatus, render_status};
pub use store::{Artifact, ArtifactId, SCRATCH, Store, is_key};
pub use units::{Mrr, OutOfRange, TokenCount};

/// The page about records, whose examples are run.
#[cfg(doctest)]
#[doc = include_str!("../../docs/records.md")]
pub struct RecordsPage;
