//! The nouns: what stages hand to each other, and the column names of their tables.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    Content, Files, Language, RECORD, Recordable, Shards, Split, ensure,
    error::{Context, Result},
    manifest::MANIFEST,
    restore_marker::RESTORE_MARKER,
};

/// The built-in artifact kinds, in the order in which they are made.
pub const ARTIFACT_KINDS: [&str; 10] = [
    Raw::KIND,
    Functions::KIND,
    Syntax::KIND,
    Vocabulary::KIND,
    Tokens::KIND,
    Checkpoint::KIND,
    Encoder::KIND,
    Embeddings::KIND,
    Bundle::KIND,
    Scores::KIND,
];

/// Raw records in CodeSearchNet's folder layout, as harvested or as found.
#[derive(Debug)]
pub struct Raw {
    /// Every file, relative to the artifact, sorted.
    pub files: Vec<PathBuf>,
    pub dir: PathBuf,
}

/// `functions`: validated rows without near-duplicates, cut by split and bucket.
///
/// Columns: `id, language, repo, path, func_name, code, code_tokens, docstring, docstring_tokens,
/// url, line_start, line_end, licence`; beside them `rejects.parquet` and `duplicates.parquet`.
#[derive(Debug)]
pub struct Functions {
    pub shards: Shards,
    pub dir: PathBuf,
}

/// `syntax`: the columns of `functions` and those of the parse, row for row.
///
/// Added columns: `name_words, code_words, doc_words, query_words` (words joined by spaces), `signature`; lists of
/// texts `identifiers, ast_tokens, subtokens, parameters, calls, imports, strings, comments, structure`; numbers
/// `nodes, depth, cyclomatic`; and `parse_error`.
#[derive(Debug)]
pub struct Syntax {
    pub shards: Shards,
    /// Special tokens of the linearised trees, over all rows, sorted.
    pub ast_specials: Vec<String>,
    pub dir: PathBuf,
}

/// One complete `tokenizer.json`.
#[derive(Debug)]
pub struct Vocabulary {
    pub tokenizer: PathBuf,
}

/// `tokens`: `id, language` and the id columns `query, code, name` (name: the function's name as a
/// query, empty when it is too short; `code_unnamed`: the code with the name masked).
#[derive(Debug)]
pub struct Tokens {
    shards: Shards,
    pub dir: PathBuf,
}

/// A training context, saved whole: weights, configuration, metrics.
#[derive(Debug)]
pub struct Checkpoint {
    pub weights: PathBuf,
    pub context: PathBuf,
    pub tokenizer: PathBuf,
    pub spec: EncoderSpec,
    pub dir: PathBuf,
}

/// An encoder that any ONNX runtime runs: the graphs that its spec names.
#[derive(Debug)]
pub struct Encoder {
    pub dir: PathBuf,
    /// File names, sorted.
    pub graphs: Vec<String>,
    pub tokenizer: PathBuf,
    pub spec: EncoderSpec,
}

/// `encoder.json`: how text becomes a vector. Tokens are `prefix + tokenizer(text) + suffix`, the text cut so that
/// they fit the length; the graph takes `input_ids` and `attention_mask` (i64, `[batch, length]`) and gives
/// `embedding` (f32, `[batch, dimension]`).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EncoderSpec {
    pub dimension: usize,
    pub pooling: String,
    pub normalised: bool,
    pub pad_token: String,
    /// Tokens put before a query.
    pub query_prefix: Vec<String>,
    /// Tokens put behind a query.
    #[serde(default)]
    pub query_suffix: Vec<String>,
    /// Tokens put before code, `{language}` standing for the row's language.
    pub code_prefix: Vec<String>,
    /// Tokens put behind code.
    #[serde(default)]
    pub code_suffix: Vec<String>,
    pub query_tokens: usize,
    pub code_tokens: usize,
    /// Which text of a function is encoded.
    pub code_text: CodeText,
    /// File of the graph that reads queries.
    #[serde(default = "one_graph")]
    pub query_graph: String,
    /// File of the graph that reads code, `{language}` standing for the row's language.
    #[serde(default = "one_graph")]
    pub code_graph: String,
    /// What its reader does around the graph: nothing, for one that this project made.
    #[serde(default, skip_serializing_if = "GraphForm::is_ours")]
    pub graph: GraphForm,
}

/// How a graph of others is asked: sentence encoders are mostly published as far as their token vectors.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GraphForm {
    /// Name of the output.
    #[serde(default = "embedding")]
    pub output: String,
    /// Does it also ask for `token_type_ids` (zeros)?
    #[serde(default)]
    pub token_types: bool,
    /// None: the output is `[batch, dimension]`, of length 1.
    #[serde(default)]
    pub pooling: Option<TokenPooling>,
}

/// Token vectors `[batch, length, dimension]` to one vector, which is then made one of length 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum TokenPooling {
    /// The mean over the mask.
    Mean,
    /// The first token's.
    Cls,
}

fn embedding() -> String {
    "embedding".to_owned()
}

impl Default for GraphForm {
    fn default() -> Self {
        Self { output: embedding(), token_types: false, pooling: None }
    }
}

impl GraphForm {
    pub fn is_ours(&self) -> bool {
        *self == Self::default()
    }

    /// The vectors of a batch out of what the graph gave for ids of `[rows, length]`.
    pub fn vectors(&self, given: &[f32], mask: &[i64], length: usize, dimension: usize) -> Result<Vec<f32>> {
        let rows = mask.len() / length.max(1);
        let expected = if self.pooling.is_some() { mask.len() * dimension } else { rows * dimension };
        ensure!(
            given.len() == expected,
            "the graph gave {} numbers for {rows} rows of {length} ids, encoder.json says {dimension} a {}",
            given.len(),
            if self.pooling.is_some() { "token" } else { "row" }
        );
        let Some(pooling) = self.pooling else { return Ok(given.to_vec()) };
        let mut vectors = Vec::with_capacity(rows * dimension);
        for (tokens, mask) in given.chunks_exact(length * dimension).zip(mask.chunks_exact(length)) {
            let mut vector = vec![0f32; dimension];
            match pooling {
                TokenPooling::Cls => vector.copy_from_slice(&tokens[..dimension]),
                TokenPooling::Mean => {
                    for (token, _) in tokens.chunks_exact(dimension).zip(mask).filter(|(_, mask)| **mask == 1) {
                        vector.iter_mut().zip(token).for_each(|(sum, value)| *sum += value);
                    }
                }
            }
            // The number of tokens falls out with the length.
            let norm = vector.iter().map(|value| value * value).sum::<f32>().sqrt().max(1e-12);
            vectors.extend(vector.into_iter().map(|value| value / norm));
        }
        Ok(vectors)
    }
}

fn one_graph() -> String {
    "encoder.onnx".to_owned()
}

/// The text of a function that the vocabulary learns, the encoder reads and the index embeds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum CodeText {
    /// Name, then code, both cut into words: `read jsonl def read jsonl path …`.
    Words,
    /// The code tokens of CodeSearchNet.
    Tokens,
    /// Code tokens, identifiers cut into words: `def read jsonl </id> ( path </id> )`.
    Subtokens,
    /// The linearised syntax tree.
    Ast,
    /// What the function says of itself: `function read jsonl in class loader , parameters path , calls open`.
    Structure,
}

/// `embeddings`: `id` and `embedding` (`[dimension]` f32), row for row with `syntax`.
#[derive(Debug)]
pub struct Embeddings {
    pub shards: Shards,
    pub dir: PathBuf,
}

/// A search bundle; its files lie in `bundle/`, described by their own manifest.
#[derive(Debug)]
pub struct Bundle {
    pub dir: PathBuf,
}

/// `scores.json` and `report.html`.
#[derive(Debug)]
pub struct Scores {
    pub scores: PathBuf,
    pub report: PathBuf,
    /// `<split>_<protocol>_<language>_<system>` to score.
    pub flat: BTreeMap<String, f64>,
    pub dir: PathBuf,
}

impl CodeText {
    /// The column of `syntax` that holds the tokens of this text ([`CodeText::Words`] needs none of them).
    pub fn token_column(self) -> &'static str {
        match self {
            Self::Words | Self::Tokens => "code_tokens",
            Self::Subtokens => "subtokens",
            Self::Ast => "ast_tokens",
            Self::Structure => "structure",
        }
    }

    /// The text of one row. Vocabulary, training and index must agree on it to the letter. The documentation, where it is
    /// not left out (empty), stands before the code, which is long: it is not what is cut.
    pub fn of_row<'a>(self, name_words: &'a str, doc_words: &'a str, code_words: &'a str, tokens: impl Iterator<Item = &'a str>) -> String {
        let mut parts = Vec::new();
        if self == Self::Words {
            parts.push(name_words);
        }
        if !doc_words.is_empty() {
            parts.push(doc_words);
        }
        match self {
            Self::Words => parts.push(code_words),
            Self::Tokens | Self::Subtokens | Self::Ast | Self::Structure => parts.extend(tokens),
        }
        parts.join(" ")
    }
}

impl EncoderSpec {
    pub fn read(path: &Path) -> Result<Self> {
        let bytes = fs::read(path).with_context(|| format!("reading {}", path.display()))?;
        let spec: Self = serde_json::from_slice(&bytes).with_context(|| format!("{} is not an encoder spec", path.display()))?;
        ensure!((1..=65_536).contains(&spec.dimension), "{}: dimension {} is out of range", path.display(), spec.dimension);
        for graph in [&spec.query_graph, &spec.code_graph] {
            let plain = graph.ends_with(".onnx") && !graph.starts_with('.') && !graph.contains(['/', '\\']);
            ensure!(plain, "{}: {graph:?} is not the plain name of an .onnx file", path.display());
        }
        Ok(spec)
    }

    /// The files of the graphs that are in a folder, sorted: of the languages, those it has.
    pub fn graphs(&self, dir: &Path) -> Result<Vec<String>> {
        let mut graphs = vec![self.query_graph.clone()];
        for language in Language::ALL {
            graphs.push(self.code_graph.replace("{language}", language.name()));
        }
        graphs.sort_unstable();
        graphs.dedup();
        let by_language = self.code_graph.contains("{language}");
        graphs.retain(|graph| !by_language || *graph == self.query_graph || dir.join(graph).is_file());
        for graph in &graphs {
            file(dir, graph)?;
        }
        Ok(graphs)
    }
}

impl Tokens {
    /// What training may see: the training shards and the validation shards.
    pub fn for_training(&self) -> (Vec<&crate::Shard>, Vec<&crate::Shard>) {
        (self.shards.of(Split::Train), self.shards.of(Split::Valid))
    }
}

fn file(dir: &Path, name: &str) -> Result<PathBuf> {
    let path = dir.join(name);
    ensure!(path.is_file(), "{} is missing", path.display());
    Ok(path)
}

/// Files that say what a folder is, beside those that it consists of.
fn is_label(path: &Path) -> bool {
    [MANIFEST, RECORD, RESTORE_MARKER].iter().any(|name| path == Path::new(name))
}

fn own_files(dir: &Path) -> Result<Files> {
    let paths = crate::seal::files_below(dir)?.into_iter().filter(|path| !is_label(path));
    let mut files = Files::default();
    paths.for_each(|path| files.insert(path.clone(), Content::File(dir.join(path), None)));
    Ok(files)
}

fn named_files<'a>(named: impl IntoIterator<Item = (&'a str, PathBuf)>) -> Files {
    let mut files = Files::default();
    named.into_iter().for_each(|(name, path)| files.insert(name, Content::File(path, None)));
    files
}

impl Recordable for Raw {
    const KIND: &'static str = "raw";
    fn open(dir: &Path) -> Result<Self> {
        let files: Vec<_> = crate::seal::files_below(dir)?.into_iter().filter(|path| !is_label(path)).collect();
        ensure!(!files.is_empty(), "no raw files in {}", dir.display());
        Ok(Self { files, dir: dir.to_owned() })
    }
    fn files(&self) -> Result<Files> {
        own_files(&self.dir)
    }
}

impl Recordable for Functions {
    const KIND: &'static str = "functions";
    fn open(dir: &Path) -> Result<Self> {
        file(dir, "rejects.parquet")?;
        Ok(Self { shards: Shards::open(dir)?, dir: dir.to_owned() })
    }
    fn files(&self) -> Result<Files> {
        own_files(&self.dir)
    }
}

impl Recordable for Syntax {
    const KIND: &'static str = "syntax";
    fn open(dir: &Path) -> Result<Self> {
        let specials = fs::read(file(dir, "ast_specials.json")?)?;
        Ok(Self { shards: Shards::open(dir)?, ast_specials: serde_json::from_slice(&specials)?, dir: dir.to_owned() })
    }
    fn files(&self) -> Result<Files> {
        own_files(&self.dir)
    }
}

impl Recordable for Vocabulary {
    const KIND: &'static str = "vocabulary";
    fn open(dir: &Path) -> Result<Self> {
        Ok(Self { tokenizer: file(dir, "tokenizer.json")? })
    }
    fn files(&self) -> Result<Files> {
        Ok(named_files([("tokenizer.json", self.tokenizer.clone())]))
    }
}

impl Recordable for Tokens {
    const KIND: &'static str = "tokens";
    fn open(dir: &Path) -> Result<Self> {
        Ok(Self { shards: Shards::open(dir)?, dir: dir.to_owned() })
    }
    fn files(&self) -> Result<Files> {
        own_files(&self.dir)
    }
}

impl Recordable for Checkpoint {
    const KIND: &'static str = "checkpoint";
    fn open(dir: &Path) -> Result<Self> {
        Ok(Self {
            weights: file(dir, "model.safetensors")?,
            context: file(dir, "context.json")?,
            tokenizer: file(dir, "tokenizer.json")?,
            spec: EncoderSpec::read(&file(dir, "encoder.json")?)?,
            dir: dir.to_owned(),
        })
    }
    fn files(&self) -> Result<Files> {
        own_files(&self.dir)
    }
}

impl Recordable for Encoder {
    const KIND: &'static str = "encoder";
    fn open(dir: &Path) -> Result<Self> {
        let spec = EncoderSpec::read(&file(dir, "encoder.json")?)?;
        Ok(Self { dir: dir.to_owned(), graphs: spec.graphs(dir)?, tokenizer: file(dir, "tokenizer.json")?, spec })
    }
    fn files(&self) -> Result<Files> {
        let graphs = self.graphs.iter().map(|graph| (graph.as_str(), self.dir.join(graph)));
        let own = [("tokenizer.json", self.tokenizer.clone()), ("encoder.json", self.dir.join("encoder.json"))];
        Ok(named_files(own.into_iter().chain(graphs)))
    }
}

impl Recordable for Embeddings {
    const KIND: &'static str = "embeddings";
    fn open(dir: &Path) -> Result<Self> {
        Ok(Self { shards: Shards::open(dir)?, dir: dir.to_owned() })
    }
    fn files(&self) -> Result<Files> {
        own_files(&self.dir)
    }
}

impl Recordable for Bundle {
    const KIND: &'static str = "bundle";
    fn open(dir: &Path) -> Result<Self> {
        let dir = dir.join("bundle");
        for name in ["manifest.json", "CHECKSUMS", "docs.parquet"] {
            file(&dir, name)?;
        }
        Ok(Self { dir })
    }
    fn files(&self) -> Result<Files> {
        own_files(self.dir.parent().context("a bundle lies in a folder")?)
    }
}

impl Recordable for Scores {
    const KIND: &'static str = "scores";
    fn open(dir: &Path) -> Result<Self> {
        let scores = file(dir, "scores.json")?;
        let flat = serde_json::from_slice(&fs::read(&scores)?).context("scores.json is not a flat map of numbers")?;
        Ok(Self { scores, report: file(dir, "report.html")?, flat, dir: dir.to_owned() })
    }
    fn files(&self) -> Result<Files> {
        own_files(&self.dir)
    }
}
