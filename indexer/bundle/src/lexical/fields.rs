//! Fields of the lexical index.

use std::collections::BTreeSet;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tantivy::schema::{FAST, INDEXED, IndexRecordOption, STORED, STRING, Schema, TextFieldIndexing, TextOptions};

/// Text fields, in the order of [`Boosts::list`].
pub const TEXT_FIELDS: [&str; 5] = ["name", "signature", "file", "code", "documentation"];
/// Fields of the document store, for showing a hit; filters also search those of `EXACT_FIELDS`.
pub const STORED_FIELDS: [&str; 8] = ["id", "repo", "path", "func_name", "url", "lines", "summary", "source"];
const EXACT_FIELDS: [&str; 3] = ["id", "repo", "path"];

/// Weight of the BM25 score of each text field; 0 leaves a field out.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Boosts {
    /// Name of the function.
    pub name: f64,
    /// Parameters and types.
    #[serde(default)]
    pub signature: f64,
    /// Folders and file name of the path.
    #[serde(default)]
    pub file: f64,
    /// Body of the function.
    pub code: f64,
    /// Documentation of the function.
    pub documentation: f64,
}

/// Parameters of BM25 (Robertson & Zaragoza 2009).
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Bm25 {
    /// How slowly repetitions of a term saturate; 0 counts a term once.
    pub k1: f64,
    /// How much a long field counts less, from 0 (not at all) to 1.
    pub b: f64,
}

impl Boosts {
    /// The boosts in the order of [`TEXT_FIELDS`].
    pub fn list(self) -> [f64; TEXT_FIELDS.len()] {
        [self.name, self.signature, self.file, self.code, self.documentation]
    }
}

/// How a lexical index is searched.
#[derive(Debug, Clone, PartialEq)]
pub struct LexicalSettings {
    pub bm25: Bm25,
    pub boosts: Boosts,
    /// Ignored when scoring, unless a query has only stop words.
    pub stop_words: BTreeSet<String>,
}

/// A function in the lexical index.
#[derive(Debug, Default, Clone)]
pub struct Document {
    /// Row of the bundle.
    pub row: u64,
    pub language: String,
    pub split: String,
    /// Values of [`STORED_FIELDS`].
    pub stored: [String; STORED_FIELDS.len()],
    /// Words of [`TEXT_FIELDS`], joined by spaces.
    pub words: [String; TEXT_FIELDS.len()],
}

/// Restricts a search to some functions; an empty filter restricts nothing.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Filter {
    pub language: Option<String>,
    /// Full name of the repository.
    pub repo: Option<String>,
    /// Glob over the whole path: see [`Query::path`](crate::Query::path).
    pub path: Option<String>,
}

/// Name of tantivy's tokenizer for the text fields.
pub fn tokenizer(stemming: bool) -> &'static str {
    if stemming { "en_stem" } else { "whitespace" }
}

/// The tantivy schema of a lexical index with a [`tokenizer`].
pub fn schema(tokenizer: &str) -> Schema {
    let mut builder = Schema::builder();
    builder.add_u64_field("row", FAST | INDEXED | STORED);
    builder.add_text_field("language", STRING | STORED);
    builder.add_text_field("split", STRING);
    for name in STORED_FIELDS {
        if EXACT_FIELDS.contains(&name) {
            builder.add_text_field(name, STRING | STORED);
        } else {
            builder.add_text_field(name, STORED);
        }
    }
    let indexing = TextFieldIndexing::default().set_tokenizer(tokenizer).set_index_option(IndexRecordOption::WithFreqsAndPositions);
    for name in TEXT_FIELDS {
        builder.add_text_field(name, TextOptions::default().set_indexing_options(indexing.clone()));
    }
    builder.build()
}
