//! `encoder.json`: how text is tokenized, encoded and pooled.

use std::{
    fs,
    path::{Path, PathBuf},
};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    ensure,
    error::{Context, Error, Result},
    text::language::Language,
};

/// `encoder.json`: how text becomes a vector. Tokens are `prefix + tokenizer(text) + suffix`; the text is truncated so that
/// they fit the length. The graph reads `input_ids` and `attention_mask` (i64, `[batch, length]`) and returns
/// `embedding` (f32, `[batch, dimension]`).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EncoderSpec {
    /// Width of the vectors.
    pub dimension: usize,
    /// How the graph pools token vectors, for people.
    pub pooling: String,
    /// Do the vectors have length 1?
    pub normalised: bool,
    pub pad_token: String,
    /// Tokens before a query.
    pub query_prefix: Vec<String>,
    /// Tokens after a query.
    #[serde(default)]
    pub query_suffix: Vec<String>,
    /// Tokens before code; `{language}` is replaced by the language of the row.
    pub code_prefix: Vec<String>,
    /// Tokens after code.
    #[serde(default)]
    pub code_suffix: Vec<String>,
    /// Maximum number of tokens of a query, prefix and suffix included.
    pub query_tokens: usize,
    /// Maximum number of tokens of code, prefix and suffix included.
    pub code_tokens: usize,
    /// The text of a function that is encoded.
    pub code_text: CodeText,
    /// File of the graph for queries.
    #[serde(default = "one_graph")]
    pub query_graph: String,
    /// File of the graph for code; `{language}` is replaced by the language of the row.
    #[serde(default = "one_graph")]
    pub code_graph: String,
    /// How the graph is called. The default is the form of the graphs that this project exports.
    #[serde(default, skip_serializing_if = "GraphForm::is_ours")]
    pub graph: GraphForm,
    /// Quantisation of the graphs. None: the reader of the graphs looks for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quantisation: Option<Quantisation>,
}

/// How a graph quantises numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Quantisation {
    /// Not at all.
    None,
    /// By the range of the values in each call: the vector of a row depends on the other rows of the call.
    Dynamic,
}

/// How a graph from another source is called. Most published sentence encoders return token vectors.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GraphForm {
    /// Name of the output.
    #[serde(default = "embedding")]
    pub output: String,
    /// Does it have an input `token_type_ids` (zeros)?
    #[serde(default)]
    pub token_types: bool,
    /// How the reader pools token vectors. None: the output is `[batch, dimension]` with vectors of length 1.
    #[serde(default)]
    pub pooling: Option<TokenPooling>,
}

/// How token vectors `[batch, length, dimension]` become one vector, which is then normalised to length 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum TokenPooling {
    /// The mean of the tokens in the mask.
    Mean,
    /// The vector of the first token.
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
    /// Is it the form of the graphs that this project exports?
    pub fn is_ours(&self) -> bool {
        *self == Self::default()
    }

    /// The vectors of a batch, `[rows, dimension]`.
    ///
    /// `output`: the output of the graph for ids `[rows, length]`. `mask`: the attention mask `[rows, length]`.
    ///
    /// # Errors
    /// The output has another size.
    pub fn vectors(&self, output: &[f32], mask: &[i64], length: usize, dimension: usize) -> Result<Vec<f32>> {
        let rows = mask.len() / length.max(1);
        let expected = if self.pooling.is_some() { mask.len() * dimension } else { rows * dimension };
        ensure!(
            output.len() == expected,
            "the graph returned {} numbers for {rows} rows of {length} ids: encoder.json has {dimension} for each {}",
            output.len(),
            if self.pooling.is_some() { "token" } else { "row" }
        );
        let Some(pooling) = self.pooling else { return Ok(output.to_vec()) };
        let mut vectors = Vec::with_capacity(rows * dimension);
        for (tokens, mask) in output.chunks_exact(length * dimension).zip(mask.chunks_exact(length)) {
            let mut vector = vec![0f32; dimension];
            match pooling {
                TokenPooling::Cls => vector.copy_from_slice(&tokens[..dimension]),
                TokenPooling::Mean => {
                    for (token, _) in tokens.chunks_exact(dimension).zip(mask).filter(|(_, mask)| **mask == 1) {
                        vector.iter_mut().zip(token).for_each(|(sum, value)| *sum += value);
                    }
                }
            }
            // Normalisation also divides by the number of tokens.
            let norm = vector.iter().map(|value| value * value).sum::<f32>().sqrt().max(1e-12);
            vectors.extend(vector.into_iter().map(|value| value / norm));
        }
        Ok(vectors)
    }
}

fn one_graph() -> String {
    "encoder.onnx".to_owned()
}

/// The text of a function from which the vocabulary is learned, and which the encoder encodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum CodeText {
    /// Name, then code, both split into words: `read jsonl def read jsonl path …`.
    Words,
    /// The code tokens of CodeSearchNet.
    Tokens,
    /// Code tokens, identifiers split into words: `def read jsonl </id> ( path </id> )`.
    Subtokens,
    /// The linearised syntax tree.
    Ast,
    /// Name, class, parameters and calls: `function read jsonl in class loader , parameters path , calls open`.
    Structure,
}

impl CodeText {
    /// The column of `syntax` with the tokens of this text. [`CodeText::Words`] does not need it.
    pub fn token_column(self) -> &'static str {
        match self {
            Self::Words | Self::Tokens => "code_tokens",
            Self::Subtokens => "subtokens",
            Self::Ast => "ast_tokens",
            Self::Structure => "structure",
        }
    }

    /// The text of one row. Vocabulary, training and index use exactly this text. Documentation, where it is not empty, comes before
    /// the code, so that truncation removes code.
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
    /// Name of the file in the folder of an encoder.
    pub const FILE: &str = "encoder.json";

    /// Reads and checks `encoder.json`.
    pub fn read(path: &Path) -> Result<Self> {
        let bytes = fs::read(path).map_err(Error::io("reading", path))?;
        let spec: Self = serde_json::from_slice(&bytes).with_context(|| format!("{} is not an encoder specification", path.display()))?;
        ensure!((1..=65_536).contains(&spec.dimension), "{}: dimension {} is out of range", path.display(), spec.dimension);
        for graph in [&spec.query_graph, &spec.code_graph] {
            let plain = graph.ends_with(".onnx") && !graph.starts_with('.') && !graph.contains(['/', '\\']);
            ensure!(plain, "{}: {graph:?} is not the name of an .onnx file without a folder", path.display());
        }
        Ok(spec)
    }

    /// File names of the graphs in a folder, sorted. Graphs of languages that are not there are left out.
    ///
    /// # Errors
    /// The graph for queries, or the only graph for code, is missing.
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

/// The path of a file that must exist.
pub(crate) fn file(dir: &Path, name: &str) -> Result<PathBuf> {
    let path = dir.join(name);
    ensure!(path.is_file(), "{} is missing", path.display());
    Ok(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SPEC: &str = r#"{"dimension":8,"pooling":"mean","normalised":true,"pad_token":"[PAD]","query_prefix":[],"query_suffix":[],"code_prefix":[],"code_suffix":[],"query_tokens":4,"code_tokens":4,"code_text":"words","query_graph":"encoder.onnx","code_graph":"encoder.onnx"}"#;

    #[test]
    fn quantisation_that_is_not_known_adds_no_bytes() {
        let spec: EncoderSpec = serde_json::from_str(SPEC).unwrap();
        assert_eq!(serde_json::to_string(&spec).unwrap(), SPEC);
        let quantised = EncoderSpec { quantisation: Some(Quantisation::Dynamic), ..spec };
        assert!(serde_json::to_string(&quantised).unwrap().ends_with(r#","quantisation":"dynamic"}"#));
    }

    #[test]
    fn a_graph_that_is_no_plain_name_of_a_file_and_a_dimension_out_of_range_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(EncoderSpec::FILE);
        let read = |from: &str, to: &str| {
            std::fs::write(&path, SPEC.replace(from, to)).unwrap();
            EncoderSpec::read(&path)
        };
        assert_eq!(read("", "").unwrap(), serde_json::from_str(SPEC).unwrap());
        for name in ["encoder.bin", ".onnx", "../encoder.onnx", "a\\\\b.onnx", "/encoder.onnx"] {
            let error = read("encoder.onnx", name).unwrap_err().to_string();
            assert!(error.contains("is not the name of an .onnx file"), "{name}: {error}");
        }
        for dimension in ["0", "65537"] {
            let error = read("\"dimension\":8", &format!("\"dimension\":{dimension}")).unwrap_err().to_string();
            assert!(error.contains("out of range"), "{error}");
        }
    }

    #[test]
    fn graphs_of_languages_are_those_that_exist_and_the_graph_of_queries_must_exist() {
        let dir = tempfile::tempdir().unwrap();
        let spec: EncoderSpec =
            serde_json::from_str(&SPEC.replace("\"code_graph\":\"encoder.onnx\"", "\"code_graph\":\"code-{language}.onnx\"")).unwrap();
        std::fs::write(dir.path().join("code-go.onnx"), "").unwrap();
        assert!(spec.graphs(dir.path()).unwrap_err().to_string().contains("encoder.onnx is missing"));
        std::fs::write(dir.path().join("encoder.onnx"), "").unwrap();
        assert_eq!(spec.graphs(dir.path()).unwrap(), ["code-go.onnx", "encoder.onnx"]);
        let one: EncoderSpec = serde_json::from_str(SPEC).unwrap();
        assert_eq!(one.graphs(dir.path()).unwrap(), ["encoder.onnx"]);
    }

    #[test]
    fn vectors_of_tokens_are_pooled_as_the_form_says() {
        let form = |json: &str| serde_json::from_str::<GraphForm>(json).unwrap();
        assert_eq!(form(r#"{"token_types": true}"#).output, "embedding", "the default");
        // Two rows of two tokens of two numbers; the last token is padding.
        let (output, mask) = ([3.0, 4.0, 3.0, -4.0, 0.0, 2.0, 9.0, 9.0], [1, 1, 1, 0]);
        let close = |form: GraphForm, expected: [f32; 4]| {
            let vectors = form.vectors(&output, &mask, 2, 2).unwrap();
            assert!(vectors.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-6) && vectors.len() == 4, "{vectors:?}");
        };
        close(form(r#"{"pooling": "cls"}"#), [0.6, 0.8, 0.0, 1.0]);
        close(form(r#"{"pooling": "mean"}"#), [1.0, 0.0, 0.0, 1.0]);
        assert_eq!(form("{}").vectors(&[3.0, 4.0], &[1, 1], 2, 2).unwrap(), [3.0, 4.0], "the graph pools");
        assert!(form("{}").vectors(&output, &mask, 2, 2).unwrap_err().to_string().contains("8 numbers for 2 rows"));
    }
}
