//! Stages, recorded artifacts, and the store that runs stages and keeps artifacts.
//!
//! A **stage** ([`Stage`]) is a pure function of its configuration and its inputs. It reads artifacts and writes one **artifact**
//! ([`Artifact`]): a sealed folder with a manifest, whose files open as one type ([`Recordable`]). The **store** ([`Store`]) is a data
//! folder. It runs a stage when its artifact is not up to date, and knows the reason ([`Freshness`]).
//!
//! # Layout of a data folder
//!
//! ```text
//! data/
//! ├── <kind>/CURRENT                key of the current artifact of a kind
//! ├── <kind>/<key>/                 one artifact: its files and manifest.json
//! ├── pins/<name>                   artifacts that garbage collection keeps
//! ├── runs/<stage>-<key>/           work directories: checkpoints, event files     [`WorkDir`]
//! ├── serve/bundles/<utc>-<key>/    published bundles; serve/current -> one of them  [`Serve`]
//! ├── models/<utc>-<key>/           releases of the encoder; models/current -> one of them    [`Releases`]
//! ├── reports/                      pages and numbers for people                   [`report_path`]
//! ├── events/openlineage.jsonl      starts and ends of stages                      [`event_file`]
//! ├── diffs/<digest>.diff           uncommitted changes of the tool                [`Commit`]
//! ├── cache/                        downloads
//! ├── damaged.json                  files that `verify` found damaged
//! └── .lock                         the process that writes                        [`Lock`]
//! ```
//!
//! # Reading
//!
//! ```
//! use ledger::{Progress, Store, Syntax, table};
//!
//! fn functions(data: &std::path::Path) -> ledger::Result<u64> {
//!     let store = Store::at(data, Progress::new(true), 1);
//!     let syntax = store.current::<Syntax>()?;
//!     println!("{} rows, recorded by stage {}", syntax.manifest().rows.written, syntax.manifest().stage);
//!     let shards = syntax.open()?.shards;
//!     for shard in shards.iter() {
//!         for batch in table::read(&shard.path, &["id", "code"])? {
//!             let ids = table::texts(&batch?, "id")?;
//!             println!("{:?}", ids.iter().next());
//!         }
//!     }
//!     shards.rows()
//! }
//!
//! // A data folder without artifacts gives a typed error.
//! # let dir = tempfile::tempdir().unwrap();
//! # let data = dir.path();
//! assert!(matches!(functions(data), Err(ledger::Error::NotRecorded { .. })));
//! ```
//!
//! # Writing
//!
//! ```
//! use std::path::Path;
//!
//! use ledger::{Error, Metrics, Progress, Report, Rows, Run, Stage, Store, save};
//! use schemars::JsonSchema;
//! use serde::{Deserialize, Serialize};
//!
//! /// Counts to a number.
//! struct Count;
//!
//! #[derive(Serialize, Deserialize, JsonSchema)]
//! struct Config { to: u64 }
//!
//! #[derive(Serialize, Deserialize)]
//! struct CountReport { rows: u64 }
//!
//! impl Report for CountReport {
//!     fn rows(&self) -> Rows {
//!         Rows { read: self.rows, written: self.rows, rejected: 0 }
//!     }
//! }
//!
//! impl Stage for Count {
//!     const NAME: &'static str = "count";
//!     const ABOUT: &'static str = "Count to a number";
//!     const REVISION: u32 = 1;
//!     type Config = Config;
//!     type Inputs = ();
//!     type Output = Metrics;
//!     type Report = CountReport;
//!     type Error = Error;
//!
//!     fn run(config: &Config, (): &(), run: &Run<'_>) -> Result<CountReport, Error> {
//!         std::fs::write(run.out.join(ledger::VALUE), format!("{{\"last\": {}}}", config.to))?;
//!         Ok(CountReport { rows: config.to })
//!     }
//! }
//!
//! # let dir = tempfile::tempdir().unwrap();
//! # let data = dir.path();
//! let store = Store::at(data, Progress::new(true), 1);
//! let config = Config { to: 3 };
//! assert_eq!(store.freshness::<Count>(&config)?.word(), "missing");
//! let artifact = store.make::<Count>(&config)?;
//! assert_eq!(artifact.open()?.0["last"], 3.0);
//! assert!(store.freshness::<Count>(&config)?.is_up_to_date());
//! # Ok::<(), Error>(())
//! ```
//!
//! A program with several stages lists them in a [`Registry`], and reads their configuration with [`conf::Conf`].

mod artifacts;
mod clock;
pub mod conf;
mod digest;
mod durable;
mod error;
mod events;
pub mod fault;
mod layout;
mod progress;
mod stages;
mod store;
mod tables;
mod text;
mod untrusted_folder;

pub use artifacts::{
    artifact::{Artifact, ArtifactId},
    checkout::Checkout,
    commit::Commit,
    encoder_spec::{CodeText, EncoderSpec, GraphForm, Quantisation, TokenPooling},
    folder::Folder,
    kinds::{ARTIFACT_KINDS, Bundle, Checkpoint, Embeddings, Encoder, Functions, Raw, Scores, Syntax, Tokens, Vocabulary},
    manifest::{FileRecord, Host, InputRecord, Manifest, Rows, ShardRecord},
    recordable::{AnyRecord, Content, Files, RECORD, Recordable, VALUE, json_files, load, open_json, save},
    reference::ArtifactRef,
    restore_marker::RestoreMarker,
    values::{Metrics, Settings},
};
pub use clock::{rfc3339, unix_now, utc_stamp};
pub use digest::{Digest, Hasher, is_key};
pub use durable::{files_below, fsync_dir, fsync_tree, is_plain, publish_link, scratch_file, scratch_folder, write_atomically};
pub use error::{BoxError, Error, Invalid, Result, chain};
pub use events::{append_event, event_file};
pub use layout::{
    releases::{Release, ReleaseId, Releases},
    reports::{report_path, write_report, write_report_file},
    retracted::{Retracted, Retraction},
    runs::{WorkDir, runs_dir},
    score_key::{ALL_LANGUAGES, MRR_AT_CORPUS, NotAScoreKey, ScoreKey},
    serve::{BundleId, PublishedStage, Serve, UNPUBLISHED},
};
pub use progress::{Bar, Progress, cpu_seconds, cpu_seconds_of_children, peak_rss_mib, plain, print_line, reset_peak_rss};
pub use stages::{
    earlier_shards::EarlierShards,
    freshness::{Freshness, InputChange, differing_keys},
    inputs::Inputs,
    journal::journal,
    registry::{AnyStage, Recorded, Registry, StageSelection},
    rerun::RerunOutcome,
    stage::{Report, Run, Stage},
    status::{StageStatus, render_status},
};
pub use store::{
    artifact_store::{SCRATCH, Store},
    lock::{Lock, open_lock},
};
pub use tables::{
    row_groups,
    shards::{Shard, Shards},
    table,
};
pub use text::{
    language::{Language, Split, UnknownName},
    units::{Mrr, OutOfRange, TokenCount},
    words,
};
pub use untrusted_folder::{Refusal, UntrustedFolder};

/// The page about records, whose examples are compiled and run.
#[cfg(doctest)]
#[doc = include_str!("../../docs/records.md")]
pub struct RecordsPage;
