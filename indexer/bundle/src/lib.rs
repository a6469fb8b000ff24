//! Opens a published code search bundle and searches it.
//!
//! ```text
//! data/serve/current/       a published bundle
//!   manifest.json           format, rows, languages, settings of each index
//!   CHECKSUMS               blake3 of every file
//!   docs.parquet            the functions, one a row; row numbers join all files
//!   tombstones.parquet      ids of deleted functions
//!   tantivy/                lexical index (BM25)
//!   vectors/                one vector a row, and HNSW graphs in large bundles
//!   encoder/                ONNX graphs and tokenizer: text to vectors
//! ```
//!
//! # Searching
//!
//! A bundle is opened once and searched from any number of threads. Vector and hybrid search need ONNX Runtime 1.24 or newer:
//! `codenets setup` installs it, or name a library with [`BundleOptions::onnxruntime`] or in the environment variable `ORT_DYLIB_PATH`.
//! Set `ORT_DISABLE_TELEMETRY=1`, or ONNX Runtime 1.30 sends telemetry. BM25 search needs no library.
//!
//! ```no_run
//! use bundle::{Bundle, Language, Provider, Query};
//!
//! # fn main() -> bundle::Result<()> {
//! let bundle = Bundle::options()
//!     .provider(Provider::Cpu)
//!     .workers(4)
//!     .open("data/serve/current")?;
//! let query = Query::new("parse an iso date").language(Language::Python).limit(10);
//! for (number, hit) in bundle.search(&query)?.iter().enumerate() {
//!     print!("{}", hit.render(number + 1, false));
//! }
//! # Ok(())
//! # }
//! ```
//!
//! A query says where to search and how; a hit says where the function is:
//!
//! ```
//! use bundle::{Bundle, Language, Mode, Query};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let folder = tempfile::tempdir()?;
//! # let folder = folder.path();
//! # let archive = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/fixtures/bundle-format-4.tar.gz");
//! # assert!(std::process::Command::new("tar").arg("-xzf").arg(archive).arg("-C").arg(folder).status()?.success());
//! let bundle = Bundle::options().open(folder)?;
//! let query = Query::new("edit distance between two strings").mode(Mode::Bm25).language(Language::Python).path("**/*.py").limit(3);
//! let hits = bundle.search(&query)?;
//! assert!(!hits.is_empty() && hits.len() <= 3);
//! assert!(hits.iter().all(|hit| hit.path.ends_with(".py")));
//! # Ok(())
//! # }
//! ```
//!
//! # Describing
//!
//! [`BundleManifest::read`] reads the manifest alone.
//!
//! ```no_run
//! let manifest = bundle::BundleManifest::read("data/serve/current".as_ref())?;
//! println!("{} functions\n{}", manifest.rows, manifest.describe());
//! # Ok::<(), bundle::Error>(())
//! ```
//!
//! # Errors
//!
//! Every function returns [`Error`], whose variants tell apart what a caller can act on:
//!
//! ```
//! use bundle::{Bundle, Error};
//!
//! let empty = std::env::temp_dir();
//! match Bundle::options().open(&empty) {
//!     Err(Error::NotABundle { dir, .. }) => assert_eq!(dir, empty),
//!     other => panic!("{:?}", other.map(|_| ())),
//! }
//! ```
//!
//! # Parts
//!
//! The modules [`lexical`], [`vectors`], [`fusion`], [`reranking`], [`groups`], [`diversity`], [`checksums`] and [`tombstones`] are the parts that a program which writes or
//! evaluates bundles needs.

mod bundle;
pub mod checksums;
pub mod deadline;
pub mod diversity;
mod error;
pub mod fusion;
pub mod groups;
pub mod guard;
mod hit;
mod learned;
pub mod lexical;
pub mod manifest;
mod options;
mod parsed_query;
mod paths;
mod query;
pub mod ranking;
pub mod repositories;
pub mod reranking;
mod search;
mod snippet;
pub mod tombstones;
pub mod vectors;

pub use crate::{
    bundle::Bundle,
    search::{CandidateLists, MAX_QUERY_BYTES},
};
pub use error::{Error, Result};
pub use hit::{Explanation, Hit, ListEntry, Place};
pub use inference::{Error as RuntimeError, Provider, TextEncoder};
pub use ledger::{Digest, EncoderSpec, Error as FileError, Invalid, Language};
pub use manifest::{BundleManifest, FORMAT, FORMATS_READ, LexicalInfo, VectorInfo};
pub use options::BundleOptions;
pub use parsed_query::ParsedQuery;
pub use query::{Mode, Query, UnknownMode};
pub use snippet::Line;

/// The README, whose Rust example is compiled.
#[cfg(doctest)]
#[doc = include_str!("../../../README.md")]
pub struct Readme;
