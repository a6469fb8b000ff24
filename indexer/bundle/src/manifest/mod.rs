//! `manifest.json` of a bundle.

mod describe;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    ops::RangeInclusive,
    path::Path,
};

use ledger::{Digest, EncoderSpec};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{
    Error, Result,
    diversity::Diversity,
    error::Context,
    fusion::Fusion,
    lexical::{LexicalSettings, Scoring},
    reranking::Reranker,
    vectors::HnswInfo,
};

/// Bundle format that this version writes.
pub const FORMAT: u32 = 6;
/// Bundle formats that this version reads.
pub const FORMATS_READ: RangeInclusive<u32> = 3..=FORMAT;
/// Name of the manifest in a bundle.
pub const MANIFEST: &str = "manifest.json";
/// Name of the table of functions in a bundle.
pub const DOCS: &str = "docs.parquet";
/// Column of [`DOCS`] with a digest of the code of each function, without spaces, comments and documentation; not in formats 3 and 4.
pub const CONTENT: &str = "content";

/// `manifest.json` of a bundle: what it holds and how it is searched.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct BundleManifest {
    /// Layout version, one of [`FORMATS_READ`].
    #[serde(rename = "bundle_format")]
    pub format: u32,
    /// Number of functions.
    pub rows: u64,
    /// Functions by language.
    pub languages: BTreeMap<String, u64>,
    pub lexical: LexicalInfo,
    pub vectors: VectorInfo,
    /// The contents of `encoder/encoder.json`.
    pub encoder: EncoderSpec,
    /// Does the encoder come from another source (`adopt.from`), so that no row of the bundle was used to train it in this data folder?
    #[serde(default)]
    pub adopted_encoder: bool,
    pub fusion: Fusion,
    /// Best rows of the lexical and of the vector list that are fused.
    pub candidates: usize,
    /// How results of hybrid search are diversified; not in formats 3 and 4.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub diversity: Option<Diversity>,
    /// Number of functions with the code tokens and the documentation of another one; not in formats 3 and 4.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub aliases: Option<u64>,
    /// Length of the file with the names of the rows; not in formats 3 and 4.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub names: Option<u64>,
    /// The model that ranks the fused candidates again; none: they stay as they are fused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reranker: Option<Reranker>,
    /// Digests of the artifacts that the bundle was built from, by kind.
    pub inputs: BTreeMap<String, Digest>,
    /// Bundle that this one extends; none for a full build.
    pub parent: Option<String>,
    /// Written when the bundle is published: id, commit, scores by protocol, times of the stages.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub published: Option<Value>,
}

/// The lexical index of a bundle.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct LexicalInfo {
    /// Program and version that wrote the index.
    pub engine: String,
    /// Tokenizer of the text fields: `en_stem` or `whitespace`.
    pub tokenizer: String,
    /// The formula, its parameters and the statistics of the fields.
    #[serde(flatten)]
    pub scoring: Scoring,
    /// Ignored when scoring, unless a query has only stop words.
    #[serde(default)]
    pub stop_words: BTreeSet<String>,
    /// Number of tantivy segments.
    pub segments: u64,
    /// Number of documents of the segments: the functions, and functions of earlier builds that were changed or deleted since. Not in
    /// formats 3 to 5.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub documents: Option<u64>,
    /// Length of the file with the counts of words; not in formats 3 and 4.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub counts: Option<u64>,
}

impl LexicalInfo {
    /// How the index is searched.
    pub fn settings(&self) -> LexicalSettings {
        LexicalSettings { scoring: self.scoring.clone(), stop_words: self.stop_words.clone() }
    }
}

/// The vectors of a bundle.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct VectorInfo {
    /// `exact`: every row is compared; `hnsw`: graphs of near neighbours are searched.
    pub index: String,
    /// The graphs, where `index` is `hnsw`.
    #[serde(default, rename = "graphs", skip_serializing_if = "Option::is_none")]
    pub hnsw: Option<HnswInfo>,
    pub metric: String,
    pub dimension: usize,
    pub dtype: String,
    /// Did the encoder read the documentation of the functions?
    #[serde(default)]
    pub documentation: bool,
    /// Where the vectors were computed.
    pub execution_provider: String,
}

impl BundleManifest {
    /// Reads the manifest of a bundle.
    ///
    /// # Errors
    /// [`Error::NotABundle`], [`Error::UnknownFormat`], and [`Error::Damaged`] where the file is no manifest.
    pub fn read(dir: &Path) -> Result<Self> {
        let path = dir.join(MANIFEST);
        let bytes = fs::read(&path).map_err(|source| Error::NotABundle { dir: dir.to_owned(), source })?;
        let value: Value = serde_json::from_slice(&bytes).map_err(|error| Error::damaged(&path, error))?;
        let found = value.get("bundle_format").and_then(Value::as_u64).unwrap_or_default();
        if !u32::try_from(found).is_ok_and(|format| FORMATS_READ.contains(&format)) {
            return Err(Error::UnknownFormat { file: path, found, read: FORMATS_READ });
        }
        let manifest: Self = serde_json::from_value(value).map_err(|error| Error::damaged(&path, error))?;
        manifest.fusion.check().with_context(|| path.display().to_string())?;
        manifest.diversity.map_or(Ok(()), |diversity| diversity.check()).map_err(|error| Error::damaged(&path, error))?;
        manifest.reranker.as_ref().map_or(Ok(()), Reranker::check).map_err(|error| Error::damaged(&path, error))?;
        manifest.lexical.scoring.check().map_err(|error| Error::damaged(&path, error))?;
        Ok(manifest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_without_manifest_is_not_a_bundle() {
        let dir = tempfile::tempdir().unwrap();
        assert!(matches!(BundleManifest::read(dir.path()), Err(Error::NotABundle { dir: found, .. }) if found == dir.path()));
    }

    #[test]
    fn an_unknown_format_is_an_error_that_names_both() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join(MANIFEST), r#"{"bundle_format": 99}"#).unwrap();
        let error = BundleManifest::read(dir.path()).unwrap_err();
        assert!(matches!(error, Error::UnknownFormat { found: 99, .. }));
        assert!(error.to_string().contains("format 99, this version reads 3 to 6"), "{error}");
    }

    #[test]
    fn a_manifest_that_is_not_json_is_damaged() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join(MANIFEST), "{").unwrap();
        assert!(matches!(BundleManifest::read(dir.path()), Err(Error::Damaged { file, .. }) if file.ends_with(MANIFEST)));
    }
}
