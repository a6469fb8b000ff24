//! An ONNX encoder that another encoder learns from.

use std::path::Path;

use ledger::{Digest, EncoderSpec, ensure};
use ort::{session::Session, value::Tensor};
use tokenizers::Tokenizer;

use crate::error::{Context, Result};

/// A sentence encoder in a folder as stage `export` writes it.
pub struct TeacherEncoder {
    session: Session,
    tokenizer: Tokenizer,
    spec: EncoderSpec,
    pad: u32,
    tokens: usize,
}

impl TeacherEncoder {
    /// Digests of the files that are read; their names begin with `reader`.
    pub fn files(folder: &Path, reader: &str) -> Result<Vec<(String, Digest)>> {
        let digest = |file: &str| {
            let path = folder.join(file);
            Ok((format!("{reader}:{file}"), Digest::of_file(&path).with_context(|| format!("reading {}", path.display()))?))
        };
        ["encoder.onnx", "tokenizer.json", "encoder.json"].into_iter().map(digest).collect()
    }

    /// Width of the vectors.
    pub fn dimension(&self) -> usize {
        self.spec.dimension
    }

    /// Opens a folder; texts are cut to `tokens` tokens.
    ///
    /// # Errors
    /// A file is missing, or its encoder gives no vectors of length 1, or has one graph for queries and another one for code.
    pub fn open(folder: &Path, tokens: usize) -> Result<Self> {
        let spec = EncoderSpec::read(&folder.join("encoder.json"))?;
        let path = folder.join("tokenizer.json");
        let tokenizer = Tokenizer::from_file(&path).with_context(|| format!("reading {}", path.display()))?;
        ensure!(spec.normalised, "{} has normalised = false in encoder.json: the vectors of a teacher must be normalised", folder.display());
        ensure!(spec.graph.is_ours(), "{} has a graph whose vectors need pooling: the graph of a teacher must pool them", folder.display());
        ensure!(spec.query_graph == spec.code_graph, "{} has different graphs for queries and code: a teacher must have one for both", folder.display());
        let pad = tokenizer.token_to_id(&spec.pad_token).with_context(|| format!("{} has no token {}", path.display(), spec.pad_token))?;
        let graph = folder.join(&spec.query_graph);
        let builder = Session::builder(inference::environment()?).with_context(|| format!("loading {}", graph.display()))?;
        let session = { builder }.commit_from_file(&graph).with_context(|| format!("loading {}", graph.display()))?;
        Ok(Self {
            pad,
            // The graph has no positions beyond these.
            tokens: tokens.min(spec.query_tokens.max(spec.code_tokens)),
            session,
            tokenizer,
            spec,
        })
    }

    /// Vectors of length 1 of queries, `[texts, dimension]`.
    pub fn encode_queries(&mut self, texts: &[String]) -> Result<Vec<f32>> {
        let (prefix, suffix) = (self.special_ids(&self.spec.query_prefix, "")?, self.special_ids(&self.spec.query_suffix, "")?);
        let rows = texts.iter().map(|text| self.ids(text, &prefix, &suffix)).collect::<Result<Vec<_>>>()?;
        self.run(&rows)
    }

    /// Vectors of length 1 of code in these languages, `[texts, dimension]`.
    pub fn encode_codes(&mut self, texts: &[String], languages: &[&str]) -> Result<Vec<f32>> {
        let row = |(text, language): (&String, &&str)| {
            let (prefix, suffix) = (self.special_ids(&self.spec.code_prefix, language)?, self.special_ids(&self.spec.code_suffix, language)?);
            self.ids(text, &prefix, &suffix)
        };
        let rows = texts.iter().zip(languages).map(row).collect::<Result<Vec<_>>>()?;
        self.run(&rows)
    }

    fn special_ids(&self, tokens: &[String], language: &str) -> Result<Vec<u32>> {
        let id = |token: &String| {
            let token = token.replace("{language}", language);
            self.tokenizer.token_to_id(&token).with_context(|| format!("the tokenizer of the teacher has no token {token}"))
        };
        tokens.iter().map(id).collect()
    }

    fn ids(&self, text: &str, prefix: &[u32], suffix: &[u32]) -> Result<Vec<u32>> {
        let free = self.tokens.saturating_sub(prefix.len() + suffix.len());
        let encoding = self.tokenizer.encode_fast(text, false).context("the tokenizer of the teacher")?;
        let ids = &encoding.get_ids()[..encoding.get_ids().len().min(free)];
        Ok([prefix, ids, suffix].concat())
    }

    fn run(&mut self, rows: &[Vec<u32>]) -> Result<Vec<f32>> {
        let vectors = run_ids(&mut self.session, rows, self.pad)?;
        ensure!(vectors.len() == rows.len() * self.spec.dimension, "the teacher gave {} numbers for {} texts", vectors.len(), rows.len());
        ensure!(vectors.iter().all(|value| value.is_finite()), "the teacher gave a number that is not finite");
        Ok(vectors)
    }
}

/// Runs a graph of stage `export` on rows of ids, which are padded to the longest row.
pub fn run_ids(session: &mut Session, rows: &[Vec<u32>], pad: u32) -> Result<Vec<f32>> {
    let width = rows.iter().map(Vec::len).max().unwrap_or_default().max(1);
    let at = |row: &Vec<u32>, place: usize| row.get(place).map_or((i64::from(pad), 0), |&id| (i64::from(id), 1));
    let (ids, mask): (Vec<i64>, Vec<i64>) = rows.iter().flat_map(|row| (0..width).map(move |place| at(row, place))).unzip();
    let ids = Tensor::from_array(([rows.len(), width], ids))?;
    let mask = Tensor::from_array(([rows.len(), width], mask))?;
    let outputs = session.run(ort::inputs!["input_ids" => ids, "attention_mask" => mask])?;
    let (_, vectors) = outputs["embedding"].try_extract_tensor::<f32>()?;
    Ok(vectors.to_vec())
}
