//! A teacher: a sentence encoder as ONNX, whose similarities grade the pairs of a batch.
//!
//! Texts are the ids of query and code, decoded by the vocabulary (without its special tokens: of a linearised
//! tree only the leaves are left) and encoded again by the teacher's own tokenizer.
//! The vectors of all pairs are made once, into a file beside the run.

use std::{
    fs::{self, File},
    io::Write,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, anyhow, ensure};
use ledger::{Digest, EncoderSpec, Run};
use ort::{session::Session, value::Tensor};
use serde::{Deserialize, Serialize};
use tokenizers::Tokenizer;

use crate::data::samples::Samples;

/// Section `teacher`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct TeacherConfig {
    /// A folder with `encoder.onnx`, `tokenizer.json` and `encoder.json`, as `export` leaves it.
    pub encoder: PathBuf,
    pub between: Between,
    /// Tokens of a text, at most.
    pub tokens: usize,
    /// Similarities up to this count as none; those above are stretched to 0..1. For graded losses; a distillation
    /// takes the cosines as they are.
    pub floor: f32,
}

/// What is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Between {
    /// Query i with query j: what is asked for is alike.
    Queries,
    /// Query i with code j.
    QueryAndCode,
}

impl TeacherConfig {
    pub fn check(&self) -> Result<()> {
        ensure!((1..=8192).contains(&self.tokens), "tokens must be between 1 and 8192, got {}", self.tokens);
        ensure!((0.0..1.0).contains(&self.floor), "floor must be at least 0 and below 1, got {}", self.floor);
        Ok(())
    }

    /// Digests of what is read.
    pub fn files(&self) -> Result<Vec<(String, Digest)>> {
        Network::files(&self.encoder, "teacher")
    }
}

/// Vectors of all pairs, of length 1.
#[derive(Debug)]
pub struct Teacher {
    query: Vec<f32>,
    /// The other side; none: the queries themselves.
    code: Option<Vec<f32>>,
    width: usize,
    floor: f32,
    raw: bool,
}

impl Teacher {
    /// Makes the vectors, or takes them from a run that was stopped. `raw`: cosines as they are.
    pub fn make(config: &TeacherConfig, samples: &Samples, tokenizer: &Path, raw: bool, run: &Run<'_>) -> Result<Self> {
        let ours = Tokenizer::from_file(tokenizer).map_err(|error| anyhow!("{}: {error}", tokenizer.display()))?;
        let mut encoder = Network::open(&config.encoder, config.tokens)?;
        let width = encoder.dimension();
        fs::create_dir_all(&run.work_dir).with_context(|| format!("creating {}", run.work_dir.display()))?;
        let mut side = |name: &str, ids: &dyn Fn(usize) -> Result<Vec<u32>>| -> Result<Vec<f32>> {
            let is_code = name == "code";
            let path = run.work_dir.join(format!("teacher-{name}.f32"));
            if let Some(vectors) = read(&path, samples.len() * width)? {
                return Ok(vectors);
            }
            let bar = run.progress.bar(&format!("teacher {name}"), samples.len() as u64, "texts");
            let mut vectors = Vec::with_capacity(samples.len() * width);
            for start in (0..samples.len()).step_by(64) {
                let end = samples.len().min(start + 64);
                let texts = (start..end)
                    .map(|row| ours.decode(&ids(row)?, true).map_err(|error| anyhow!("decoding a {name}: {error}")))
                    .collect::<Result<Vec<_>>>()?;
                let languages: Vec<&str> =
                    samples.language[start..end].iter().map(|&language| samples.languages[usize::from(language)].as_str()).collect();
                vectors.extend(encoder.encode(&texts, is_code.then_some(&languages[..]))?);
                bar.add((end - start) as u64);
            }
            bar.finish();
            write(&path, &vectors)?;
            Ok(vectors)
        };
        let query = side("query", &|row| Ok(samples.read_one(row)?.query))?;
        let code = match config.between {
            Between::Queries => None,
            Between::QueryAndCode => Some(side("code", &|row| Ok(samples.read_one(row)?.code))?),
        };
        Ok(Self { query, code, width, floor: config.floor, raw })
    }

    /// Similarities of these pairs, `[B, B]`: graded between 0 and 1 with 1 on the diagonal, or raw cosines.
    pub fn grades(&self, pairs: &[u32]) -> Vec<f32> {
        let row = |vectors: &[f32], pair: u32| -> Vec<f32> { vectors[pair as usize * self.width..][..self.width].to_vec() };
        let queries: Vec<Vec<f32>> = pairs.iter().map(|&pair| row(&self.query, pair)).collect();
        let codes: Vec<Vec<f32>> = pairs.iter().map(|&pair| row(self.code.as_deref().unwrap_or(&self.query), pair)).collect();
        let mut grades = Vec::with_capacity(pairs.len() * pairs.len());
        for (i, query) in queries.iter().enumerate() {
            for (j, code) in codes.iter().enumerate() {
                let cosine: f32 = query.iter().zip(code).map(|(a, b)| a * b).sum();
                let graded = ((cosine - self.floor) / (1.0 - self.floor)).clamp(0.0, 1.0);
                grades.push(if self.raw {
                    cosine
                } else if i == j {
                    1.0
                } else {
                    graded
                });
            }
        }
        grades
    }
}

fn read(path: &Path, count: usize) -> Result<Option<Vec<f32>>> {
    let Ok(bytes) = fs::read(path) else { return Ok(None) };
    if bytes.len() != count * 4 {
        return Ok(None);
    }
    Ok(Some(bytes.as_chunks::<4>().0.iter().map(|&bytes| f32::from_le_bytes(bytes)).collect()))
}

/// Written beside and renamed, so that a file that is there is whole.
fn write(path: &Path, vectors: &[f32]) -> Result<()> {
    let part = path.with_extension("part");
    let mut file = File::create(&part).with_context(|| format!("writing {}", part.display()))?;
    let bytes: Vec<u8> = vectors.iter().flat_map(|value| value.to_le_bytes()).collect();
    file.write_all(&bytes).and_then(|()| file.sync_all()).with_context(|| format!("writing {}", part.display()))?;
    fs::rename(&part, path).with_context(|| format!("writing {}", path.display()))
}

/// A sentence encoder that others learn from.
pub struct Network {
    session: Session,
    tokenizer: Tokenizer,
    spec: EncoderSpec,
    pad: u32,
    tokens: usize,
}

impl Network {
    /// Digests of what is read, their names beginning with that of the reader.
    pub fn files(folder: &Path, reader: &str) -> Result<Vec<(String, Digest)>> {
        let digest = |file: &str| {
            let path = folder.join(file);
            Ok((format!("{reader}:{file}"), Digest::of_file(&path).with_context(|| format!("reading {}", path.display()))?))
        };
        ["encoder.onnx", "tokenizer.json", "encoder.json"].into_iter().map(digest).collect()
    }

    pub fn dimension(&self) -> usize {
        self.spec.dimension
    }

    /// Opens a folder as `export` leaves it; of a text, so many tokens count.
    pub fn open(folder: &Path, tokens: usize) -> Result<Self> {
        let spec = EncoderSpec::read(&folder.join("encoder.json"))?;
        let path = folder.join("tokenizer.json");
        let tokenizer = Tokenizer::from_file(&path).map_err(|error| anyhow!("{}: {error}", path.display()))?;
        ensure!(spec.normalised, "{} gives vectors of any length: a teacher's must be normalised", folder.display());
        ensure!(spec.graph.is_ours(), "{} gives token vectors: a teacher's graph must pool them", folder.display());
        ensure!(spec.query_graph == spec.code_graph, "{} has an encoder for each side: a teacher has one for both", folder.display());
        let pad = tokenizer.token_to_id(&spec.pad_token).with_context(|| format!("{} has no token {}", path.display(), spec.pad_token))?;
        let graph = folder.join(&spec.query_graph);
        let error = |error: ort::Error| anyhow!("onnxruntime: {error}");
        let session = Session::builder(inference::environment()?)
            .map_err(error)?
            .commit_from_file(&graph)
            .map_err(error)
            .with_context(|| format!("loading {}", graph.display()))?;
        Ok(Self {
            pad,
            // The graph has no positions beyond these.
            tokens: tokens.min(spec.query_tokens.max(spec.code_tokens)),
            session,
            tokenizer,
            spec,
        })
    }

    /// Ids of a frame's tokens.
    fn frame(&self, tokens: &[String], language: &str) -> Result<Vec<u32>> {
        let id = |token: &String| {
            let token = token.replace("{language}", language);
            self.tokenizer.token_to_id(&token).with_context(|| format!("the teacher's tokenizer has no token {token}"))
        };
        tokens.iter().map(id).collect()
    }

    /// Vectors of length 1, behind each other; with languages, the texts are code.
    pub fn encode(&mut self, texts: &[String], languages: Option<&[&str]>) -> Result<Vec<f32>> {
        let error = |error: ort::Error| anyhow!("onnxruntime: {error}");
        let rows = texts
            .iter()
            .enumerate()
            .map(|(row, text)| {
                let (before, after) = match languages {
                    None => (self.frame(&self.spec.query_prefix, "")?, self.frame(&self.spec.query_suffix, "")?),
                    Some(languages) => {
                        (self.frame(&self.spec.code_prefix, languages[row])?, self.frame(&self.spec.code_suffix, languages[row])?)
                    }
                };
                let room = self.tokens.saturating_sub(before.len() + after.len());
                let encoding = self.tokenizer.encode_fast(text.as_str(), false).map_err(|error| anyhow!("teacher's tokenizer: {error}"))?;
                let ids = &encoding.get_ids()[..encoding.get_ids().len().min(room)];
                Ok([&before[..], ids, &after].concat())
            })
            .collect::<Result<Vec<Vec<u32>>>>()?;
        let width = rows.iter().map(Vec::len).max().unwrap_or_default().max(1);
        let at = |row: &Vec<u32>, place: usize| row.get(place).map_or((i64::from(self.pad), 0), |&id| (i64::from(id), 1));
        let (ids, mask): (Vec<i64>, Vec<i64>) = rows.iter().flat_map(|row| (0..width).map(move |place| at(row, place))).unzip();
        let ids = Tensor::from_array(([rows.len(), width], ids)).map_err(error)?;
        let mask = Tensor::from_array(([rows.len(), width], mask)).map_err(error)?;
        let outputs = self.session.run(ort::inputs!["input_ids" => ids, "attention_mask" => mask]).map_err(error)?;
        let (_, vectors) = outputs["embedding"].try_extract_tensor::<f32>().map_err(error)?;
        ensure!(vectors.len() == rows.len() * self.spec.dimension, "the teacher gave {} numbers for {} texts", vectors.len(), rows.len());
        ensure!(vectors.iter().all(|value| value.is_finite()), "the teacher gave a number that is not finite");
        Ok(vectors.to_vec())
    }
}
