//! The bundle's own files: `manifest.json`, `CHECKSUMS`, `schema.md`.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail, ensure};
use ledger::{Digest, EncoderSpec, TokenPooling};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{
    fusion::{EXPLAINED, Fusion},
    lexical::{Bm25, Boosts, Settings},
    vectors::GraphFacts,
};

/// Version of the layout, and the oldest that is read: N and N − 1.
pub const BUNDLE_FORMAT: u32 = 4;
pub const OLDEST_READABLE: u32 = 3;

pub const MANIFEST: &str = "manifest.json";
pub const CHECKSUMS: &str = "CHECKSUMS";

/// `manifest.json` of a bundle.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct BundleManifest {
    pub bundle_format: u32,
    pub rows: u64,
    pub languages: BTreeMap<String, u64>,
    pub lexical: LexicalFacts,
    pub vectors: VectorFacts,
    pub encoder: EncoderSpec,
    pub fusion: Fusion,
    /// Best rows of each side that are fused.
    pub candidates: usize,
    /// Digests of what the bundle was made of.
    pub inputs: BTreeMap<String, Digest>,
    /// Bundle that this one was made from by a delta; none for a full build.
    pub parent: Option<String>,
    /// Filled in when the bundle is published: commit, scores with their protocols, times a stage.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub published: Option<Value>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct LexicalFacts {
    pub engine: String,
    pub tokenizer: String,
    pub k1: f64,
    pub b: f64,
    pub boosts: Boosts,
    /// Words that a query is not scored by, unless it has no others.
    #[serde(default)]
    pub stop_words: BTreeSet<String>,
    pub segments: u64,
}

impl LexicalFacts {
    pub fn settings(&self) -> Settings {
        Settings { bm25: Bm25 { k1: self.k1, b: self.b }, boosts: self.boosts, stop_words: self.stop_words.clone() }
    }
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct VectorFacts {
    /// `exact`: all rows are scanned; `hnsw`: graphs are followed.
    pub index: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub graphs: Option<GraphFacts>,
    pub metric: String,
    pub dimension: usize,
    pub dtype: String,
    /// Did the encoder read the documentation of the functions?
    #[serde(default)]
    pub documentation: bool,
    pub execution_provider: String,
}

impl BundleManifest {
    /// Reads the manifest and refuses a format that this tool does not know.
    pub fn read(dir: &Path) -> Result<Self> {
        let path = dir.join(MANIFEST);
        let bytes = fs::read(&path).with_context(|| format!("{} is no bundle", dir.display()))?;
        let value: Value = serde_json::from_slice(&bytes).with_context(|| format!("{} is damaged", path.display()))?;
        let format = value.get("bundle_format").and_then(Value::as_u64).unwrap_or_default();
        ensure!(
            (u64::from(OLDEST_READABLE)..=u64::from(BUNDLE_FORMAT)).contains(&format),
            "{} has bundle format {format}, this tool reads {OLDEST_READABLE} to {BUNDLE_FORMAT}: build the bundle again, or use the tool that made it",
            path.display()
        );
        let manifest: Self = serde_json::from_value(value).with_context(|| format!("{} is damaged", path.display()))?;
        manifest.fusion.check().with_context(|| path.display().to_string())?;
        Ok(manifest)
    }
}

/// Every file below `dir`, relative and sorted, but `CHECKSUMS` itself and what a killed writer left beside it (`.name`).
fn files(dir: &Path) -> Result<Vec<PathBuf>> {
    fn walk(root: &Path, below: &Path, found: &mut Vec<PathBuf>) -> Result<()> {
        for entry in fs::read_dir(root.join(below))? {
            let entry = entry?;
            let path = below.join(entry.file_name());
            if entry.file_type()?.is_dir() { walk(root, &path, found)? } else { found.push(path) }
        }
        Ok(())
    }
    let mut found = Vec::new();
    walk(dir, Path::new(""), &mut found)?;
    found.retain(|path| path.as_os_str() != CHECKSUMS && !path.to_string_lossy().starts_with('.'));
    found.sort();
    Ok(found)
}

/// Writes `CHECKSUMS`: blake3 and path, a line a file, as `b3sum --check` reads it.
pub fn write_checksums(dir: &Path) -> Result<()> {
    let mut text = String::new();
    for path in files(dir)? {
        text += &format!("{}  {}\n", Digest::of_file(&dir.join(&path))?, path.display());
    }
    ledger::write_atomically(&dir.join(CHECKSUMS), text.as_bytes())
}

/// Writes the line of one file anew, where it does not say what the file is.
pub fn renew_checksum(dir: &Path, name: &str) -> Result<()> {
    let path = dir.join(CHECKSUMS);
    let text = fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
    let own = format!("{}  {name}\n", Digest::of_file(&dir.join(name))?);
    if text.contains(&own) {
        return Ok(());
    }
    let mut lines: Vec<String> =
        text.lines().filter(|line| line.split_once("  ").is_none_or(|(_, path)| path != name)).map(|line| format!("{line}\n")).collect();
    lines.push(own);
    lines.sort_by_key(|line| line.split_once("  ").map(|(_, path)| path.to_owned()));
    ledger::write_atomically(&path, lines.concat().as_bytes())
}

/// Compares every file with `CHECKSUMS` and names what differs, is missing or was added.
pub fn verify_checksums(dir: &Path) -> Result<()> {
    let text = fs::read_to_string(dir.join(CHECKSUMS)).with_context(|| format!("{} has no {CHECKSUMS}", dir.display()))?;
    let expected: BTreeMap<&str, &str> =
        text.lines().filter_map(|line| line.split_once("  ")).map(|(digest, path)| (path, digest)).collect();
    let present = files(dir)?;
    for path in &present {
        let name = path.display().to_string();
        match expected.get(name.as_str()) {
            None => bail!("{name} is not in {CHECKSUMS} of {}", dir.display()),
            Some(digest) => ensure!(
                *digest == Digest::of_file(&dir.join(path))?.to_string(),
                "{} is damaged: its bytes are not those of {CHECKSUMS}",
                dir.join(path).display()
            ),
        }
    }
    ensure!(present.len() == expected.len(), "{} lacks {} files of its {CHECKSUMS}", dir.display(), expected.len() - present.len());
    Ok(())
}

/// `schema.md`: how to read the bundle without our code.
pub fn schema_page(manifest: &BundleManifest) -> String {
    let boosts = manifest.lexical.boosts;
    let fusion = match &manifest.fusion {
        Fusion::MinMax { weight } => format!(
            "scale each list to 0..1 over itself, `(s - min) / (max - min)` (1 if all are equal); a row's score is `{:.4} * lexical + {weight:.4} * vector`, 0 for a list that lacks it",
            1.0 - weight
        ),
        Fusion::Sum { weight } => format!(
            "of every row of either list, `{:.4} * lexical / (largest lexical) + {weight:.4} * cosine`, each as it is, in the list or not",
            1.0 - weight
        ),
        Fusion::Learned { .. } => {
            "of every row of either list, the sum of the features below by their weights in `fusion.json`; its BM25 (0 without a term) and cosine are its own, in that side's list or not".to_owned()
        }
        Fusion::Rrf { k } => format!("a row's score is the sum over both lists of `1 / ({k} + rank)`, ranks from 1"),
    };
    let form = &manifest.encoder.graph;
    let types = if form.token_types { ", `token_type_ids` (zeros)" } else { "" };
    let pooled = match form.pooling {
        None => "f32, unit vectors",
        Some(TokenPooling::Mean) => "f32 [batch, length, dimension]; take the mean over the mask, and make its length 1",
        Some(TokenPooling::Cls) => "f32 [batch, length, dimension]; take the first token's, and make its length 1",
    };
    let graphs = match &manifest.vectors.graphs {
        None => String::new(),
        Some(graphs) => format!(
            "; graphs of near neighbours by {} (i8, inner product of `round(x * {})`), {} files that manifest.json names, keys are rows, recall@10 {:.4}",
            graphs.engine,
            graphs.scale,
            graphs.files.len(),
            graphs.recall_at_10
        ),
    };
    let stop_words = match &manifest.lexical.stop_words {
        words if words.is_empty() => String::new(),
        words => {
            let words = words.iter().map(|word| format!("`{word}`")).collect::<Vec<_>>().join(" ");
            format!(" (without {words}, unless there are no others)")
        }
    };
    format!(
        r#"# Bundle format {format}

{rows} functions. Row numbers join all files: row r is the r-th row of `docs.parquet`, the r-th row of the matrices, and
the document of `tantivy/` whose fast field `row` is r.

- `docs.parquet`: id, split, language, repo, path, func_name, line_start, line_end, url, licence, summary, docstring, code.
- `tombstones.parquet`: ids that were retracted; leave them out of results. It changes, by rename, while the bundle is served.
- `tantivy/`: {engine}, text fields `name`, `signature`, `file`, `code`, `documentation` (tokenizer `{tokenizer}`, words joined by spaces), filters
  `language`, `split`, `id`, `repo`, `path`. BM25 with k1 {k1}, b {b}.
- `vectors/`: `embeddings.npy` f32 [{rows}, {dimension}] of unit vectors, `embeddings.i8.npy` and `scales.npy` (x = i8 * scale){graphs}.
- `encoder/`: {query_graph} for queries, {code_graph} for code (`input_ids`, `attention_mask`{types} i64 [batch, length] ->
  `{output}` {pooled}), `tokenizer.json`, `encoder.json`.

## Words
A query is cut as the fields were: at everything that is neither letter nor digit, at camelCase and HTTPServer humps,
between letters and digits; lower case. For ASCII: `[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[0-9]+`. Where one language is searched, its
name is left out of the query, unless nothing else is asked.

## Search
1. Lexical: what the tokenizer `{tokenizer}` makes of the words{stop_words}, each distinct term in each field; the score is the sum of BM25 by field times its boost
   (name {name}, signature {signature}, file {file}, code {code}, documentation {documentation}; 0 leaves a field out). The best {candidates}.
2. Vector: ids = ids of {query_prefix:?} + tokenizer(words joined by spaces) + {query_suffix:?}, the words cut so that there are
   at most {query_tokens}; the inner product of the graph's output with every row. The best {candidates}.
3. Fusion: {fusion}. Equal scores by row.
{features}"#,
        features = match &manifest.fusion {
            Fusion::Learned { .. } => format!("\n## Features\n{EXPLAINED}"),
            _ => String::new(),
        },
        format = manifest.bundle_format,
        rows = manifest.rows,
        engine = manifest.lexical.engine,
        tokenizer = manifest.lexical.tokenizer,
        k1 = manifest.lexical.k1,
        b = manifest.lexical.b,
        dimension = manifest.vectors.dimension,
        name = boosts.name,
        signature = boosts.signature,
        file = boosts.file,
        code = boosts.code,
        documentation = boosts.documentation,
        candidates = manifest.candidates,
        output = form.output,
        query_graph = manifest.encoder.query_graph,
        code_graph = manifest.encoder.code_graph,
        query_prefix = manifest.encoder.query_prefix,
        query_suffix = manifest.encoder.query_suffix,
        query_tokens = manifest.encoder.query_tokens,
    )
}
