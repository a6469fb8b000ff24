//! The built-in artifact kinds with their files and columns.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use super::{
    encoder_spec::{EncoderSpec, file},
    manifest::MANIFEST,
    recordable::{Content, Files, RECORD, Recordable},
    restore_marker::RESTORE_MARKER,
};
use crate::{
    durable::files_below,
    ensure,
    error::{Context, Result},
    tables::shards::{Shard, Shards},
    text::language::Split,
};

/// The built-in artifact kinds, each after the kinds that its stage reads.
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

/// `raw`: functions in CodeSearchNet's folder layout, as harvested or as found.
#[derive(Debug)]
pub struct Raw {
    /// Every file, relative to the artifact, sorted.
    pub files: Vec<PathBuf>,
    pub dir: PathBuf,
}

/// `functions`: validated rows in shards by split and bucket.
///
/// Columns: `id, language, repo, path, func_name, code, code_tokens, docstring, docstring_tokens,
/// url, line_start, line_end, licence`; `duplicate_of`: id of the earlier row that this row equals or nearly equals; `alias_of`: id of the
/// first row with equal code tokens and equal documentation. Other files: `rejects.parquet`; `sketches/<split>/<bucket>.parquet`, from which
/// a later run finds duplicates of the rows without reading them.
#[derive(Debug)]
pub struct Functions {
    pub shards: Shards,
    pub dir: PathBuf,
}

/// `syntax`: the rows of `functions` in the same order, with the columns of the parser added.
///
/// Added columns: `name_words, code_words, doc_words, query_words` (words joined by spaces) and `signature`; lists of
/// texts `identifiers, ast_tokens, subtokens, parameters, calls, imports, strings, comments, structure`; numbers
/// `nodes, depth, cyclomatic`; `parse_error`; and `digest`, of the columns that the others are computed from.
#[derive(Debug)]
pub struct Syntax {
    pub shards: Shards,
    /// Special tokens of the linearised trees of all rows, sorted.
    pub ast_specials: Vec<String>,
    pub dir: PathBuf,
}

/// `vocabulary`: one complete `tokenizer.json`.
#[derive(Debug)]
pub struct Vocabulary {
    pub tokenizer: PathBuf,
}

/// `tokens`: the rows of `syntax` that duplicate no other row. Columns `id, language` and token ids `query, code, name, code_unnamed`. `name`: the function's name as a query, empty when
/// it is too short. `code_unnamed`: the code with the name masked.
#[derive(Debug)]
pub struct Tokens {
    shards: Shards,
    pub dir: PathBuf,
}

/// `checkpoint`: a trained encoder with weights, configuration and metrics.
#[derive(Debug)]
pub struct Checkpoint {
    pub weights: PathBuf,
    pub context: PathBuf,
    pub tokenizer: PathBuf,
    pub spec: EncoderSpec,
    pub dir: PathBuf,
}

/// `encoder`: an encoder as ONNX graphs.
#[derive(Debug)]
pub struct Encoder {
    pub dir: PathBuf,
    /// File names of the graphs, sorted.
    pub graphs: Vec<String>,
    pub tokenizer: PathBuf,
    pub spec: EncoderSpec,
}

/// `embeddings`: columns `id`, `digest` of what the encoder reads, and `embedding` (`[dimension]` f32), in the order of the rows of `syntax`.
#[derive(Debug)]
pub struct Embeddings {
    pub shards: Shards,
    pub dir: PathBuf,
}

/// `bundle`: a search index. Its files are in the folder `bundle`, which has a manifest of its own.
#[derive(Debug)]
pub struct Bundle {
    pub dir: PathBuf,
}

/// `scores`: the files `scores.json` and `report.html`.
#[derive(Debug)]
pub struct Scores {
    pub scores: PathBuf,
    pub report: PathBuf,
    /// Scores by name `<split>_<protocol>_<language>_<system>` ([`ScoreKey`](crate::ScoreKey)).
    pub flat: BTreeMap<String, f64>,
    pub dir: PathBuf,
}

impl Scores {
    /// Name of the file of scores by name.
    pub const FILE: &str = "scores.json";
    /// Name of the page.
    pub const REPORT: &str = "report.html";
}

impl Tokens {
    /// The shards that training may read: of the training split, and of the validation split.
    pub fn for_training(&self) -> (Vec<&Shard>, Vec<&Shard>) {
        (self.shards.of(Split::Train), self.shards.of(Split::Valid))
    }
}

/// Is the file part of the record instead of the artifact?
fn is_label(path: &Path) -> bool {
    [MANIFEST, RECORD, RESTORE_MARKER].iter().any(|name| path == Path::new(name))
}

fn own_files(dir: &Path) -> Result<Files> {
    let paths = files_below(dir)?.into_iter().filter(|path| !is_label(path));
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
        let files: Vec<_> = files_below(dir)?.into_iter().filter(|path| !is_label(path)).collect();
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
            spec: EncoderSpec::read(&file(dir, EncoderSpec::FILE)?)?,
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
        let spec = EncoderSpec::read(&file(dir, EncoderSpec::FILE)?)?;
        Ok(Self { dir: dir.to_owned(), graphs: spec.graphs(dir)?, tokenizer: file(dir, "tokenizer.json")?, spec })
    }
    fn files(&self) -> Result<Files> {
        let graphs = self.graphs.iter().map(|graph| (graph.as_str(), self.dir.join(graph)));
        let own = [("tokenizer.json", self.tokenizer.clone()), (EncoderSpec::FILE, self.dir.join(EncoderSpec::FILE))];
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
        own_files(self.dir.parent().context("the folder of a bundle needs a parent")?)
    }
}

impl Recordable for Scores {
    const KIND: &'static str = "scores";
    fn open(dir: &Path) -> Result<Self> {
        let scores = file(dir, Self::FILE)?;
        let flat = serde_json::from_slice(&fs::read(&scores)?).context("scores.json is not a map of numbers")?;
        Ok(Self { scores, report: file(dir, Self::REPORT)?, flat, dir: dir.to_owned() })
    }
    fn files(&self) -> Result<Files> {
        own_files(&self.dir)
    }
}
