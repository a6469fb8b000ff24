//! Similarities of a teacher, an encoder as ONNX: they grade the pairs of a batch.
//!
//! The texts are the ids of query and code, decoded with the vocabulary and encoded again with the tokenizer of the teacher. Special tokens
//! are left out; of a linearised syntax tree only the leaves remain. The vectors of all pairs are computed once, and are stored in the work
//! directory.

use std::{
    fs::{self, File},
    io::Write,
    path::Path,
};

use ledger::Run;
use tokenizers::Tokenizer;

use super::{
    config::{Between, TeacherConfig},
    encoder::TeacherEncoder,
};
use crate::{
    data::samples::{Sample, Samples},
    error::{Context, Result},
};

/// Texts in one call of the encoder.
const CALL: usize = 64;

/// Vectors of length 1 of all pairs.
#[derive(Debug)]
pub struct Teacher {
    query: Vec<f32>,
    /// The codes; none: queries are compared with each other.
    code: Option<Vec<f32>>,
    width: usize,
    floor: f32,
    raw: bool,
}

impl Teacher {
    /// Computes the vectors of all pairs, or reads them from the work directory of a stopped run. With `raw`, grades are the cosines.
    ///
    /// # Errors
    /// The teacher or the vocabulary cannot be read, or the vectors cannot be computed or stored.
    pub fn open(config: &TeacherConfig, samples: &Samples, tokenizer: &Path, raw: bool, run: &Run<'_>) -> Result<Self> {
        let ours = Tokenizer::from_file(tokenizer).with_context(|| format!("reading {}", tokenizer.display()))?;
        let mut encoder = TeacherEncoder::open(&config.encoder, config.tokens)?;
        let width = encoder.dimension();
        fs::create_dir_all(&run.work_dir).with_context(|| format!("creating {}", run.work_dir.display()))?;
        let mut texts = Texts { samples, tokenizer: &ours, encoder: &mut encoder, run };
        let query = texts.vectors("query", |sample| sample.query)?;
        let code = match config.between {
            Between::Queries => None,
            Between::QueryAndCode => Some(texts.vectors("code", |sample| sample.code)?),
        };
        Ok(Self { query, code, width, floor: config.floor, raw })
    }

    /// Similarities of pairs, `[B, B]`: grades from 0 to 1 with 1 on the diagonal, or cosines.
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

/// The texts of all pairs, and the encoder that reads them.
struct Texts<'a> {
    samples: &'a Samples,
    tokenizer: &'a Tokenizer,
    encoder: &'a mut TeacherEncoder,
    run: &'a Run<'a>,
}

impl Texts<'_> {
    /// Vectors of one side, from the work directory if they are there.
    fn vectors(&mut self, side: &str, ids: impl Fn(Sample) -> Vec<u32>) -> Result<Vec<f32>> {
        let (samples, width) = (self.samples, self.encoder.dimension());
        let path = self.run.work_dir.join(format!("teacher-{side}.f32"));
        if let Some(vectors) = read(&path, samples.len() * width) {
            return Ok(vectors);
        }
        let bar = self.run.progress.bar(&format!("teacher {side}"), samples.len() as u64, "texts");
        let mut vectors = Vec::with_capacity(samples.len() * width);
        for start in (0..samples.len()).step_by(CALL) {
            let rows = start..samples.len().min(start + CALL);
            let decode = |row: usize| -> Result<String> {
                let ids = ids(samples.read_one(row)?);
                self.tokenizer.decode(&ids, true).with_context(|| format!("decoding a {side}"))
            };
            let texts = rows.clone().map(decode).collect::<Result<Vec<_>>>()?;
            let language = |&language: &u8| samples.languages[usize::from(language)].as_str();
            let languages: Vec<&str> = samples.language[rows.clone()].iter().map(language).collect();
            vectors.extend(if side == "code" {
                self.encoder.encode_codes(&texts, &languages)?
            } else {
                self.encoder.encode_queries(&texts)?
            });
            bar.add(rows.len() as u64);
        }
        bar.finish();
        write(&path, &vectors)?;
        Ok(vectors)
    }
}

/// The numbers of a file; none where it does not have `count` numbers.
fn read(path: &Path, count: usize) -> Option<Vec<f32>> {
    let bytes = fs::read(path).ok().filter(|bytes| bytes.len() == count * 4)?;
    Some(bytes.as_chunks::<4>().0.iter().map(|&bytes| f32::from_le_bytes(bytes)).collect())
}

/// Writes another file and renames it, so that a file with this name is always complete.
fn write(path: &Path, vectors: &[f32]) -> Result<()> {
    let part = path.with_extension("part");
    let mut file = File::create(&part).with_context(|| format!("writing {}", part.display()))?;
    let bytes: Vec<u8> = vectors.iter().flat_map(|value| value.to_le_bytes()).collect();
    file.write_all(&bytes).and_then(|()| file.sync_all()).with_context(|| format!("writing {}", part.display()))?;
    fs::rename(&part, path).with_context(|| format!("writing {}", path.display()))
}
