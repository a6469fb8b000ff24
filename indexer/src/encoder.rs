//! Text to unit vectors: `tokenizer.json` and an ONNX graph, as `encoder.json` says.

use std::{collections::BTreeMap, path::Path, sync::Mutex};

use anyhow::{Context, Result, anyhow};
use ledger::{EncoderSpec, words};
use ort::{ep, session::Session, value::Tensor};
use serde::{Deserialize, Serialize};
use tokenizers::Tokenizer;

use crate::runtime;

/// Padded ids in one call, where no configuration says how many.
pub const BATCH_TOKENS: usize = 8192;

/// Where the graph runs. There is no silent fallback: a provider that is missing is an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Provider {
    Cpu,
    Cuda,
}

impl Provider {
    /// onnxruntime's name of it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Cpu => "CPUExecutionProvider",
            Self::Cuda => "CUDAExecutionProvider",
        }
    }
}

/// An encoder with one session a worker, each on one thread: rows are what runs in parallel.
pub struct TextEncoder {
    spec: EncoderSpec,
    tokenizer: Tokenizer,
    /// One a worker, by the file of the graph.
    sessions: BTreeMap<String, Vec<Mutex<Session>>>,
    pad: u32,
}

fn ort_error(error: ort::Error) -> anyhow::Error {
    anyhow!("onnxruntime: {error}")
}

fn session(graph: &Path, provider: Provider) -> Result<Session> {
    let mut builder = Session::builder(runtime::environment()?).map_err(ort_error)?;
    builder = builder.with_intra_threads(1).map_err(|error| anyhow!("onnxruntime: {error}"))?;
    if provider == Provider::Cuda {
        builder = builder
            .with_execution_providers([ep::CUDA::default().build().error_on_failure()])
            .map_err(|error| anyhow!("{error}"))
            .context("cuda was asked for, but this onnxruntime cannot provide it: run `make setup-gpu`, or set provider = cpu")?;
    }
    builder.commit_from_file(graph).map_err(ort_error).with_context(|| format!("loading {}", graph.display()))
}

impl TextEncoder {
    /// Opens `encoder.json`, `tokenizer.json` and the graphs of a folder.
    pub fn open(dir: &Path, provider: Provider, workers: usize) -> Result<Self> {
        let spec = EncoderSpec::read(&dir.join("encoder.json"))?;
        let path = dir.join("tokenizer.json");
        let tokenizer =
            Tokenizer::from_file(&path).map_err(|error| anyhow!("{error}")).with_context(|| format!("loading {}", path.display()))?;
        let sessions = spec
            .graphs(dir)?
            .into_iter()
            .map(|graph| {
                let sessions = (0..workers.max(1)).map(|_| Ok(Mutex::new(session(&dir.join(&graph), provider)?))).collect::<Result<_>>()?;
                Ok((graph, sessions))
            })
            .collect::<Result<_>>()?;
        let pad = tokenizer.token_to_id(&spec.pad_token).with_context(|| format!("the tokenizer has no token {}", spec.pad_token))?;
        Ok(Self { spec, tokenizer, sessions, pad })
    }

    pub fn spec(&self) -> &EncoderSpec {
        &self.spec
    }

    /// Ids of a query: its words, framed.
    pub fn query_ids(&self, text: &str) -> Result<Vec<u32>> {
        let (before, after) = (&self.spec.query_prefix, &self.spec.query_suffix);
        self.ids(before, &words::joined(text), after, "", self.spec.query_tokens)
    }

    /// Ids of the text of a function, framed as its language is.
    pub fn code_ids(&self, language: &str, text: &str) -> Result<Vec<u32>> {
        self.ids(&self.spec.code_prefix, text, &self.spec.code_suffix, language, self.spec.code_tokens)
    }

    fn ids(&self, before: &[String], text: &str, after: &[String], language: &str, max: usize) -> Result<Vec<u32>> {
        let id = |token: &String| {
            let token = token.replace("{language}", language);
            self.tokenizer.token_to_id(&token).with_context(|| format!("the tokenizer has no token {token}"))
        };
        let encoding = self.tokenizer.encode_fast(text, false).map_err(|error| anyhow!("{error}"))?;
        let mut ids = before.iter().map(id).collect::<Result<Vec<_>>>()?;
        ids.extend(encoding.get_ids().iter().take(max.saturating_sub(before.len() + after.len())));
        for token in after {
            ids.push(id(token)?);
        }
        Ok(ids)
    }

    /// Vectors of queries' ids, `[rows, dimension]` flat.
    pub fn encode_queries(&self, rows: &[Vec<u32>], batch_tokens: usize) -> Result<Vec<f32>> {
        self.encode(&self.spec.query_graph, rows, batch_tokens)
    }

    /// Vectors of code's ids, `[rows, dimension]` flat; each row in its language.
    pub fn encode_codes(&self, languages: &[&str], rows: &[Vec<u32>], batch_tokens: usize) -> Result<Vec<f32>> {
        let dimension = self.spec.dimension;
        let mut by_graph: BTreeMap<String, Vec<usize>> = BTreeMap::new();
        for (row, language) in languages.iter().enumerate() {
            by_graph.entry(self.spec.code_graph.replace("{language}", language)).or_default().push(row);
        }
        let mut vectors = vec![0f32; rows.len() * dimension];
        for (graph, members) in by_graph {
            let ids: Vec<Vec<u32>> = members.iter().map(|&row| rows[row].clone()).collect();
            for (&row, vector) in members.iter().zip(self.encode(&graph, &ids, batch_tokens)?.chunks(dimension)) {
                vectors[row * dimension..][..dimension].copy_from_slice(vector);
            }
        }
        Ok(vectors)
    }

    /// Vectors of rows of ids, `[rows, dimension]` flat, in the order given. Rows are sorted by
    /// length and cut into calls of at most `batch_tokens` padded ids: the cut does not depend on
    /// threads, so neither do the bytes.
    fn encode(&self, graph: &str, rows: &[Vec<u32>], batch_tokens: usize) -> Result<Vec<f32>> {
        let dimension = self.spec.dimension;
        let mut order: Vec<usize> = (0..rows.len()).collect();
        order.sort_by_key(|&row| (rows[row].len(), row));
        let mut vectors = vec![0f32; rows.len() * dimension];
        let mut start = 0;
        while start < order.len() {
            let mut end = start + 1;
            while end < order.len() && rows[order[end]].len() * (end + 1 - start) <= batch_tokens {
                end += 1;
            }
            let batch = &order[start..end];
            let encoded = self.run(graph, &batch.iter().map(|&row| rows[row].as_slice()).collect::<Vec<_>>())?;
            for (&row, vector) in batch.iter().zip(encoded.chunks(dimension)) {
                vectors[row * dimension..][..dimension].copy_from_slice(vector);
            }
            start = end;
        }
        Ok(vectors)
    }

    fn run(&self, graph: &str, rows: &[&[u32]]) -> Result<Vec<f32>> {
        let width = rows.iter().map(|row| row.len()).max().unwrap_or_default().max(1);
        let mut ids = vec![i64::from(self.pad); rows.len() * width];
        let mut mask = vec![0i64; rows.len() * width];
        for (index, row) in rows.iter().enumerate() {
            for (place, &id) in row.iter().enumerate() {
                ids[index * width + place] = i64::from(id);
                mask[index * width + place] = 1;
            }
        }
        let shape = [rows.len(), width];
        let ids = Tensor::from_array((shape, ids)).map_err(ort_error)?;
        let mut inputs =
            ort::inputs!["input_ids" => ids, "attention_mask" => Tensor::from_array((shape, mask.clone())).map_err(ort_error)?];
        if self.spec.graph.token_types {
            inputs.push(("token_type_ids".into(), Tensor::from_array((shape, vec![0i64; mask.len()])).map_err(ort_error)?.into()));
        }
        let sessions =
            self.sessions.get(graph).with_context(|| format!("there is no graph {graph}: the encoder was not trained on this language"))?;
        let worker = rayon::current_thread_index().unwrap_or_default() % sessions.len();
        let mut session = sessions[worker].lock().map_err(|_| anyhow!("an encoder session failed before"))?;
        let outputs = session.run(inputs).map_err(ort_error)?;
        let name = self.spec.graph.output.as_str();
        let output = outputs.get(name).with_context(|| format!("the graph has no output `{name}`"))?;
        let (_, vectors) = output.try_extract_tensor::<f32>().map_err(ort_error)?;
        self.spec.graph.vectors(vectors, &mask, width, self.spec.dimension)
    }
}
