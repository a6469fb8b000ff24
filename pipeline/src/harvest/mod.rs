//! `harvest`: functions with their documentation, extracted from source code and written as CodeSearchNet jsonl.gz in
//! CodeSearchNet's folder layout, split by repository. A folder of CodeSearchNet files is copied as it is.
//!
//! ```text
//! source ── reader (packages, folders) ── extraction (content, functions) ── layout::Writer
//!                                      ── earlier (unchanged files)       ──
//!        ── copy (csn, urls) · snippets · perturbed
//! ```

mod archive;
mod checkout;
mod config;
mod content;
mod copy;
mod download;
mod earlier;
mod encoding;
mod external;
mod extraction;
mod folder;
mod ignore_rules;
mod layout;
mod left_out;
mod licence;
mod list;
mod package_files;
mod packages;
mod perturbed;
mod reader;
mod report;
mod repository_names;
mod revision;
mod sha256;
mod snippets;
mod source;
mod source_file;
mod stage;
mod survey;

pub use archive::{EntrySelection, read as read_archive};
pub use config::{Config, Exclude, Kept, SplitShares};
pub(crate) use earlier::member_entries;
pub use left_out::LeftOut;
pub use list::{FileDecision, list_files};
pub use report::HarvestReport;
pub use source::{Package, Registry, Remote, Source};
pub use stage::Harvest;
pub use survey::{RecordedRepository, Surveyed, UnreadableSource, lists_files, recorded_repositories, survey};
