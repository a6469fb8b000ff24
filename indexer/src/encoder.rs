//! Text to unit vectors: `tokenizer.json` and an ONNX graph, as `encoder.json` says.

use std::{collections::BTreeMap, fmt, path::Path, str::FromStr, sync::Mutex};

use anyhow::{Context, Result, anyhow, bail};
use ledger::{EncoderSpec, words};
use ort::{
    ep,
    memory::{AllocationDevice, AllocatorType, MemoryInfo, MemoryType},
    session::{Session, SessionInputValue},
    value::Tensor,
};
use serde::{Deserialize, Serialize};
use tokenizers::Tokenizer;

/// Padded ids in one call, where no configuration says how many.
pub const BATCH_TOKENS: usize = 1024;

/// Where the graph runs. There is no silent fallback: a provider that is missing is an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Provider {
    Cpu,
    Cuda,
    Tensorrt,
}

impl Provider {
    pub const ALL: [Provider; 3] = [Self::Cpu, Self::Cuda, Self::Tensorrt];

    /// As it stands in a configuration.
    pub fn key(self) -> &'static str {
        match self {
            Self::Cpu => "cpu",
            Self::Cuda => "cuda",
            Self::Tensorrt => "tensorrt",
        }
    }

    /// onnxruntime's name of it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Cpu => "CPUExecutionProvider",
            Self::Cuda => "CUDAExecutionProvider",
            Self::Tensorrt => "TensorrtExecutionProvider",
        }
    }
}

impl FromStr for Provider {
    type Err = anyhow::Error;
    fn from_str(text: &str) -> Result<Self> {
        match Self::ALL.into_iter().find(|provider| provider.key() == text) {
            Some(provider) => Ok(provider),
            None => bail!("unknown provider {text:?}, expected cpu, cuda or tensorrt"),
        }
    }
}

impl fmt::Display for Provider {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Rows are padded to a multiple of this many ids (or to the most that the encoder reads), and only rows of one width share a
/// call: so on a processor a row's vector depends on its own ids alone, bit for bit ([`TextEncoder::rows_are_alone`]).
const WIDTH: usize = 8;

/// An encoder with several sessions: rows are what runs in parallel, so that each needs but one thread.
pub struct TextEncoder {
    spec: EncoderSpec,
    tokenizer: Tokenizer,
    /// One a worker, by the file of the graph.
    sessions: BTreeMap<String, Vec<Mutex<Session>>>,
    pad: u32,
    alone: bool,
    /// Where outputs are to be put, where calls go through a binding: a device's own copies are awaited only there.
    bound: Option<MemoryInfo<'static>>,
}

fn ort_error(error: ort::Error) -> anyhow::Error {
    anyhow!("onnxruntime: {error}")
}

fn session(graph: &Path, provider: Provider, threads: usize) -> Result<Session> {
    let mut builder = Session::builder(inference::environment()?).map_err(ort_error)?;
    builder = builder.with_intra_threads(threads).map_err(|error| anyhow!("onnxruntime: {error}"))?;
    let provided = match provider {
        Provider::Cpu => None,
        Provider::Cuda => Some(ep::CUDA::default().build()),
        Provider::Tensorrt => Some(ep::TensorRT::default().build()),
    };
    if let Some(provided) = provided {
        builder =
            builder.with_execution_providers([provided.error_on_failure()]).map_err(|error| anyhow!("{error}")).with_context(|| {
                format!(
                    "{} was asked for, but this onnxruntime cannot provide {provider}: run `make setup-gpu`, or set provider = cpu",
                    provider.key()
                )
            })?;
    }
    builder.commit_from_file(graph).map_err(ort_error).with_context(|| format!("loading {}", graph.display()))
}

/// Does a graph take the range of its inputs from the whole call?
fn quantises(graph: &Path) -> Result<bool> {
    const OPERATOR: &[u8] = b"DynamicQuantize";
    let bytes = std::fs::read(graph).with_context(|| format!("reading {}", graph.display()))?;
    Ok(bytes.windows(OPERATOR.len()).any(|window| window == OPERATOR))
}

/// Memory of the host that the device of a provider copies to without another copy; none where there is no device.
fn outputs_of(provider: Provider) -> Result<Option<MemoryInfo<'static>>> {
    match provider {
        Provider::Cpu => Ok(None),
        Provider::Cuda | Provider::Tensorrt => {
            MemoryInfo::new(AllocationDevice::CUDA_PINNED, 0, AllocatorType::Device, MemoryType::CPUOutput).map(Some).map_err(ort_error)
        }
    }
}

impl TextEncoder {
    /// Opens `encoder.json`, `tokenizer.json` and the graphs of a folder, with so many sessions of a thread each.
    pub fn open(dir: &Path, provider: Provider, workers: usize) -> Result<Self> {
        Self::open_with(dir, provider, workers, 1)
    }

    /// [`TextEncoder::open`] with so many threads a session.
    pub fn open_with(dir: &Path, provider: Provider, workers: usize, threads: usize) -> Result<Self> {
        let spec = EncoderSpec::read(&dir.join("encoder.json"))?;
        let path = dir.join("tokenizer.json");
        let tokenizer =
            Tokenizer::from_file(&path).map_err(|error| anyhow!("{error}")).with_context(|| format!("loading {}", path.display()))?;
        let sessions: BTreeMap<String, Vec<Mutex<Session>>> = spec
            .graphs(dir)?
            .into_iter()
            .map(|graph| {
                let sessions =
                    (0..workers.max(1)).map(|_| Ok(Mutex::new(session(&dir.join(&graph), provider, threads)?))).collect::<Result<_>>()?;
                Ok((graph, sessions))
            })
            .collect::<Result<_>>()?;
        let pad = tokenizer.token_to_id(&spec.pad_token).with_context(|| format!("the tokenizer has no token {}", spec.pad_token))?;
        let mut alone = provider == Provider::Cpu;
        for graph in sessions.keys() {
            alone &= !quantises(&dir.join(graph))?;
        }
        Ok(Self { spec, tokenizer, sessions, pad, alone, bound: outputs_of(provider)? })
    }

    /// Lets calls go through a binding on a processor too, as they do on a device.
    pub fn bind_outputs(mut self) -> Result<Self> {
        let memory = MemoryInfo::new(AllocationDevice::CPU, 0, AllocatorType::Device, MemoryType::Default).map_err(ort_error)?;
        self.bound.get_or_insert(memory);
        Ok(self)
    }

    pub fn spec(&self) -> &EncoderSpec {
        &self.spec
    }

    /// Is a row's vector the same to the bit whatever else is in its call? Not on a device, and not where a graph quantises what it is
    /// given by the range of the whole call (`DynamicQuantizeLinear`, in int8 graphs).
    pub fn rows_are_alone(&self) -> bool {
        self.alone
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
        self.encode(&self.spec.query_graph, self.spec.query_tokens, rows, batch_tokens)
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
            for (&row, vector) in members.iter().zip(self.encode(&graph, self.spec.code_tokens, &ids, batch_tokens)?.chunks(dimension)) {
                vectors[row * dimension..][..dimension].copy_from_slice(vector);
            }
        }
        Ok(vectors)
    }

    /// Vectors of rows of ids, `[rows, dimension]` flat, in the order given. Rows are sorted by width and cut into calls of at
    /// most `batch_tokens` padded ids.
    fn encode(&self, graph: &str, most: usize, rows: &[Vec<u32>], batch_tokens: usize) -> Result<Vec<f32>> {
        let dimension = self.spec.dimension;
        let width = |row: usize| rows[row].len().max(1).next_multiple_of(WIDTH).min(most.max(rows[row].len()).max(1));
        let mut order: Vec<usize> = (0..rows.len()).collect();
        order.sort_by_key(|&row| (width(row), row));
        let mut vectors = vec![0f32; rows.len() * dimension];
        let mut start = 0;
        while start < order.len() {
            let own = width(order[start]);
            let room = (batch_tokens / own).max(1);
            let alike = order[start..].iter().take(room).take_while(|&&row| width(row) == own).count();
            let end = start + alike;
            let batch = &order[start..end];
            let encoded = self.run(graph, own, &batch.iter().map(|&row| rows[row].as_slice()).collect::<Vec<_>>())?;
            for (&row, vector) in batch.iter().zip(encoded.chunks(dimension)) {
                vectors[row * dimension..][..dimension].copy_from_slice(vector);
            }
            start = end;
        }
        Ok(vectors)
    }

    fn run(&self, graph: &str, width: usize, rows: &[&[u32]]) -> Result<Vec<f32>> {
        let mut ids = vec![i64::from(self.pad); rows.len() * width];
        let mut mask = vec![0i64; rows.len() * width];
        for (index, row) in rows.iter().enumerate() {
            for (place, &id) in row.iter().enumerate() {
                ids[index * width + place] = i64::from(id);
                mask[index * width + place] = 1;
            }
        }
        let shape = [rows.len(), width];
        let mut inputs: Vec<(&str, Tensor<i64>)> = vec![
            ("input_ids", Tensor::from_array((shape, ids)).map_err(ort_error)?),
            ("attention_mask", Tensor::from_array((shape, mask.clone())).map_err(ort_error)?),
        ];
        if self.spec.graph.token_types {
            inputs.push(("token_type_ids", Tensor::from_array((shape, vec![0i64; mask.len()])).map_err(ort_error)?));
        }
        let sessions =
            self.sessions.get(graph).with_context(|| format!("there is no graph {graph}: the encoder was not trained on this language"))?;
        let worker = rayon::current_thread_index().unwrap_or_default() % sessions.len();
        let mut session = sessions[worker].lock().map_err(|_| anyhow!("an encoder session failed before"))?;
        let name = self.spec.graph.output.as_str();
        let mut binding = None;
        let outputs = match &self.bound {
            None => {
                let inputs: Vec<(&str, SessionInputValue)> = inputs.into_iter().map(|(name, tensor)| (name, tensor.into())).collect();
                session.run(inputs).map_err(ort_error)?
            }
            Some(memory) => {
                let binding = binding.insert(session.create_binding().map_err(ort_error)?);
                for (name, tensor) in &inputs {
                    binding.bind_input(*name, tensor).map_err(ort_error)?;
                }
                binding.bind_output_to_device(name, memory).map_err(ort_error)?;
                session.run_binding(binding).map_err(ort_error)?
            }
        };
        let output = outputs.get(name).with_context(|| format!("the graph has no output `{name}`"))?;
        let (_, vectors) = output.try_extract_tensor::<f32>().map_err(ort_error)?;
        self.spec.graph.vectors(vectors, &mask, width, self.spec.dimension)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn providers_have_one_name() {
        for provider in Provider::ALL {
            assert_eq!(serde_json::to_value(provider).unwrap(), provider.key());
            assert_eq!(provider.key().parse::<Provider>().unwrap(), provider);
        }
        assert!("gpu".parse::<Provider>().unwrap_err().to_string().contains("cpu, cuda or tensorrt"));
    }
}
