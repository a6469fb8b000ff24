//! An ONNX encoder that another encoder learns from.

use std::path::Path;

use inference::{EncoderTokenizer, Graph, GraphOptions, PaddedRows};
use ledger::{Digest, EncoderSpec, ensure};

use crate::error::{Context, Result};

/// A sentence encoder in a folder as stage `export` writes it.
#[derive(Debug)]
pub struct TeacherEncoder {
    graph: Graph,
    tokenizer: EncoderTokenizer,
    /// Maximum number of ids of a text.
    tokens: usize,
}

impl TeacherEncoder {
    /// Digests of the files that are read; their names begin with `reader`.
    pub fn files(folder: &Path, reader: &str) -> Result<Vec<(String, Digest)>> {
        let digest = |file: &str| {
            let path = folder.join(file);
            Ok((format!("{reader}:{file}"), Digest::of_file(&path).with_context(|| format!("reading {}", path.display()))?))
        };
        ["encoder.onnx", "tokenizer.json", EncoderSpec::FILE].into_iter().map(digest).collect()
    }

    /// Opens a folder; texts are cut to `tokens` tokens.
    ///
    /// # Errors
    /// A file is missing, or its encoder gives no vectors of length 1, or has one graph for queries and another one for code.
    pub fn open(folder: &Path, tokens: usize) -> Result<Self> {
        let tokenizer = EncoderTokenizer::open(folder)?;
        let (spec, name) = (tokenizer.spec(), folder.display());
        ensure!(spec.normalised, "{name} has normalised = false in encoder.json: the vectors of a teacher must be normalised");
        ensure!(spec.graph.is_ours(), "{name} has a graph whose output needs pooling: the graph of a teacher must pool it");
        ensure!(spec.query_graph == spec.code_graph, "{name} has different graphs for queries and code: a teacher must have one for both");
        let graph = Graph::open(&folder.join(&spec.query_graph), GraphOptions::default())?;
        // The graph has no more positions than these.
        let tokens = tokens.min(spec.query_tokens.max(spec.code_tokens));
        Ok(Self { graph, tokenizer, tokens })
    }

    /// Width of the vectors.
    pub fn dimension(&self) -> usize {
        self.tokenizer.spec().dimension
    }

    /// Vectors of length 1 of queries, `[texts, dimension]`.
    pub fn encode_queries(&mut self, texts: &[String]) -> Result<Vec<f32>> {
        let rows = texts.iter().map(|text| self.tokenizer.query_ids(text, self.tokens)).collect::<Result<Vec<_>, _>>()?;
        self.encode(&rows)
    }

    /// Vectors of length 1 of code in these languages, `[texts, dimension]`.
    pub fn encode_codes(&mut self, texts: &[String], languages: &[&str]) -> Result<Vec<f32>> {
        let row = |(text, language): (&String, &&str)| self.tokenizer.code_ids(language, text, self.tokens);
        let rows = texts.iter().zip(languages).map(row).collect::<Result<Vec<_>, _>>()?;
        self.encode(&rows)
    }

    fn encode(&mut self, rows: &[Vec<u32>]) -> Result<Vec<f32>> {
        let spec = self.tokenizer.spec();
        let vectors = self.graph.encode(&PaddedRows::new(rows, self.tokenizer.pad()), &spec.graph, spec.dimension)?;
        ensure!(vectors.iter().all(|value| value.is_finite()), "the graph of the teacher gave a value that is not finite");
        Ok(vectors)
    }
}
