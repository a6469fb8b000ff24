//! Queries that people judged: each names the rows that answer it, and is ranked among all rows of the bundle.

use std::{
    collections::{HashMap, HashSet},
    fs,
    io::Read,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, ensure};
use ledger::{Digest, table};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::{Ranked, ranks::rank};
use crate::{
    asked::Asked,
    bundle::{Mode, OpenBundle},
};

/// One file of judged queries; its name stands where a language stands in the table of scores.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", rename_all_fields = "kebab-case", deny_unknown_fields)]
pub enum Judgments {
    /// `{"query": text, "relevant": [id or url, …]}` a line.
    Jsonl { name: String, path: PathBuf },
    /// CoSQA's: a list of `{"doc": query, "retrieval_idx": number}`, packed or not; the answer's url is `repo:number`.
    Cosqa { name: String, path: PathBuf, repo: String },
}

#[derive(Debug, Deserialize)]
struct Line {
    query: String,
    relevant: Vec<String>,
}

#[derive(Debug, Deserialize)]
struct CosqaQuery {
    doc: String,
    retrieval_idx: u64,
}

/// A query and the rows that answer it.
#[derive(Debug)]
struct Judged {
    asked: Asked,
    relevant: Vec<u32>,
}

/// The ranks of all queries, and how many answers are not in the bundle.
#[derive(Debug)]
pub struct JudgedRanks {
    pub queries: Vec<String>,
    pub ranks: Vec<Ranked>,
    pub unknown: u64,
}

/// Bytes of a file, unpacked, at most.
const MOST_BYTES: u64 = 1 << 30;

impl Judgments {
    pub fn name(&self) -> &str {
        match self {
            Self::Jsonl { name, .. } | Self::Cosqa { name, .. } => name,
        }
    }

    fn path(&self) -> &Path {
        match self {
            Self::Jsonl { path, .. } | Self::Cosqa { path, .. } => path,
        }
    }

    pub fn digest(&self) -> Result<(String, Digest)> {
        let digest = Digest::of_file(self.path()).with_context(|| format!("reading {}", self.path().display()))?;
        Ok((format!("judgments:{}", self.name()), digest))
    }

    fn read(&self) -> Result<Vec<(String, Vec<String>)>> {
        let path = self.path().display();
        let file = fs::File::open(self.path()).with_context(|| format!("opening {path}"))?;
        let packed = self.path().extension().is_some_and(|end| end == "gz");
        let reader: Box<dyn Read> = if packed { Box::new(flate2::read::MultiGzDecoder::new(file)) } else { Box::new(file) };
        let mut text = String::new();
        reader.take(MOST_BYTES + 1).read_to_string(&mut text).with_context(|| format!("reading {path}"))?;
        ensure!(text.len() as u64 <= MOST_BYTES, "{path} holds more than {MOST_BYTES} bytes of judgments");
        let judged: Vec<(String, Vec<String>)> = match self {
            Self::Jsonl { .. } => text
                .lines()
                .enumerate()
                .filter(|(_, line)| !line.trim().is_empty())
                .map(|(number, line)| {
                    let line: Line = serde_json::from_str(line)
                        .with_context(|| format!("{path}:{}: expected {{\"query\", \"relevant\"}}", number + 1))?;
                    Ok((line.query, line.relevant))
                })
                .collect::<Result<_>>()?,
            Self::Cosqa { repo, .. } => serde_json::from_str::<Vec<CosqaQuery>>(&text)
                .with_context(|| format!("{path} is not a list of {{\"doc\", \"retrieval_idx\"}}"))?
                .into_iter()
                .map(|query| (query.doc, vec![format!("{repo}:{}", query.retrieval_idx)]))
                .collect(),
        };
        ensure!(!judged.is_empty(), "{path} holds no judged queries");
        Ok(judged)
    }

    /// Ranks the best placed of each query's answers; none where no answer was found.
    pub fn rank(&self, bundle: &OpenBundle, done: impl Fn() + Sync) -> Result<JudgedRanks> {
        let judged = self.read()?;
        let named: HashSet<&str> = judged.iter().flat_map(|(_, relevant)| relevant.iter().map(String::as_str)).collect();
        let mut rows: HashMap<String, u32> = HashMap::new();
        let mut count = 0u32;
        for batch in table::read(&bundle.dir().join("docs.parquet"), &["id", "url"])? {
            let batch = batch?;
            let (ids, urls) = (table::texts(&batch, "id")?, table::texts(&batch, "url")?);
            for place in 0..batch.num_rows() {
                for name in [ids.value(place), urls.value(place)] {
                    if named.contains(name) {
                        rows.entry(name.to_owned()).or_insert(count);
                    }
                }
                count += 1;
            }
        }
        let unknown = judged.iter().flat_map(|(_, relevant)| relevant).filter(|name| !rows.contains_key(*name)).count() as u64;
        ensure!(!rows.is_empty(), "no answer of {} is in the bundle: are its ids or urls those of another build?", self.path().display());
        let queries = judged.iter().map(|(query, _)| query.clone()).collect();
        let judged: Vec<Judged> = judged
            .into_iter()
            .map(|(query, relevant)| Judged {
                asked: bundle.words_of(&query),
                relevant: relevant.iter().filter_map(|name| rows.get(name).copied()).collect(),
            })
            .collect();
        let vectors = bundle.encode_queries(judged.iter().map(|judged| &judged.asked))?;
        let all: Vec<u32> = (0..count).collect();
        let ranks = judged
            .par_iter()
            .zip(vectors.par_chunks(bundle.manifest().vectors.dimension))
            .map(|(judged, vector)| {
                let nearest = bundle.vectors().search_exact(vector, all.len(), bundle.alive());
                let cosines: HashMap<u32, f32> = nearest.iter().copied().collect();
                let boosts = bundle.manifest().lexical.boosts;
                let answers = bundle.answers(&judged.asked, Mode::Hybrid, all.len(), bundle.alive(), boosts, nearest)?;
                let systems = bundle.systems(&answers, &|row| cosines.get(&row).copied().unwrap_or_default());
                let ranked = systems.map(|list| {
                    let scores = list.into_iter().collect();
                    judged.relevant.iter().filter_map(|&row| rank(&scores, row, &all)).min()
                });
                done();
                Ok(ranked)
            })
            .collect::<Result<_>>()?;
        Ok(JudgedRanks { queries, ranks, unknown })
    }
}
