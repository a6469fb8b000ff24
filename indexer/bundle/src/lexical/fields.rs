//! Fields of the lexical index.

use tantivy::schema::{IndexRecordOption, STORED, STRING, Schema, TextFieldIndexing, TextOptions};

/// Text fields of format 5. Each holds words joined by spaces.
///
/// | field | words of |
/// |---|---|
/// | `name` | the last part of the function's name |
/// | `class` | the parts before it |
/// | `qualified` | the whole name: neighbouring words joined (`mysql` of `connectMySQL`), and all words joined |
/// | `signature` | parameters and types |
/// | `brief` | the first sentence of the documentation |
/// | `documentation` | the rest of the documentation |
/// | `code` | the code |
/// | `comments` | comments in the code |
/// | `strings` | string literals in the code |
/// | `file` | folders and file name of the path |
pub const TEXT_FIELDS: [&str; 10] =
    ["name", "class", "qualified", "signature", "brief", "documentation", "code", "comments", "strings", "file"];
/// Text fields of formats 3 and 4, in the order of [`Boosts::list`](super::Boosts::list).
pub const SUM_FIELDS: [&str; 5] = ["name", "signature", "file", "code", "documentation"];
/// Field with the words of all text fields, without frequencies: how many rows have a word.
pub const ANY_FIELD: &str = "any";
/// Field with the exact names by which a function is found: see [`symbol_key`](super::symbol_key).
pub const SYMBOL_FIELD: &str = "symbol";
/// Fields of the document store, for showing a hit; filters also search those of `EXACT_FIELDS`.
pub const STORED_FIELDS: [&str; 8] = ["id", "repo", "path", "func_name", "url", "lines", "summary", "source"];
const EXACT_FIELDS: [&str; 3] = ["id", "repo", "path"];

/// Group of text fields, whose words are counted together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    Name,
    Path,
    Documentation,
    Code,
}

impl Part {
    /// All groups.
    pub const ALL: [Part; 4] = [Self::Name, Self::Path, Self::Documentation, Self::Code];

    /// The group of a text field.
    pub fn of(field: &str) -> Self {
        match field {
            "name" | "class" | "qualified" => Self::Name,
            "file" => Self::Path,
            "brief" | "documentation" => Self::Documentation,
            _ => Self::Code,
        }
    }
}

/// Name of the matrix `[rows, text fields]` of tantivy's field norms in a bundle.
pub const LENGTHS: &str = "lengths.npy";

/// A function in the lexical index.
#[derive(Debug, Default, Clone)]
pub struct Document {
    pub language: String,
    pub split: String,
    /// Values of [`STORED_FIELDS`].
    pub stored: [String; STORED_FIELDS.len()],
    /// Words of [`TEXT_FIELDS`], joined by spaces.
    pub words: [String; TEXT_FIELDS.len()],
    /// Values of [`SYMBOL_FIELD`].
    pub symbols: Vec<String>,
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
    let any = TextFieldIndexing::default().set_tokenizer(tokenizer).set_index_option(IndexRecordOption::Basic).set_fieldnorms(false);
    builder.add_text_field(ANY_FIELD, TextOptions::default().set_indexing_options(any));
    builder.add_text_field(SYMBOL_FIELD, STRING);
    builder.build()
}
