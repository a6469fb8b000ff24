//! Times one part of an index: the lexical index, the vector index, the embeddings. benches/index.py runs other tools on the same rows.

use std::{
    fs::{self, File},
    io::Read,
    path::{Path, PathBuf},
    time::Instant,
};

use anyhow::{Context, Result, anyhow, bail, ensure};
use arrow::array::RecordBatch;
use bundle::{
    lexical::{schema, tokenizer},
    ranking::Scored,
    vectors::Vectors,
};
use clap::{Subcommand, ValueEnum};
use indexer::{
    embed,
    index::{
        Plan, documents,
        segments::{self, SegmentOptions},
    },
    lexical::tantivy_document,
    vectors::{Hnsw, MatrixWriter, build},
};
use inference::{BATCH_TOKENS, Provider, TextEncoder};
use ledger::{Digest, Shard, Shards, cpu_seconds, peak_rss_mib, table};
use rayon::prelude::*;
use serde_json::{Value, json};
use tantivy::Index;

/// A part of an index.
#[derive(Debug, Subcommand)]
pub enum Part {
    /// Write a lexical index
    Lexical {
        /// Folder of an artifact of kind syntax
        #[arg(long)]
        syntax: PathBuf,
        /// Writer of the index
        #[arg(long, value_enum, default_value = "ours")]
        engine: Engine,
        /// Number of rows, from the first
        #[arg(long, default_value_t = u64::MAX)]
        rows: u64,
    },
    /// Build HNSW graphs of unit vectors, and search them on one thread
    Vectors {
        /// f32 [rows, dimension], .npy
        #[arg(long)]
        matrix: PathBuf,
        /// f32 [queries, dimension], .npy
        #[arg(long)]
        queries: PathBuf,
    },
    /// Encode functions
    Embed {
        /// Folder of an artifact of kind encoder
        #[arg(long)]
        encoder: PathBuf,
        /// Folder of an artifact of kind syntax
        #[arg(long)]
        syntax: PathBuf,
        /// Number of rows, from the first
        #[arg(long, default_value_t = u64::MAX)]
        rows: u64,
        /// Sessions that share the threads [default: one for each thread]
        #[arg(long)]
        sessions: Option<usize>,
        /// Execution provider: cpu, cuda or tensorrt
        #[arg(long, default_value = "cpu")]
        provider: Provider,
        /// Largest number of padded ids in one call of the encoder
        #[arg(long, default_value_t = BATCH_TOKENS)]
        batch_tokens: usize,
        /// Bind outputs to memory, as on a GPU
        #[arg(long)]
        bind: bool,
    },
}

/// A writer of the lexical index.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum Engine {
    /// The writer of the stage `index`
    Ours,
    /// The writer of tantivy with its threads and merges, on the same schema
    Bare,
}

/// Measures a part on `threads` threads. `data` is where ONNX Runtime is looked for.
pub fn run(part: &Part, threads: usize) -> Result<Value> {
    match part {
        Part::Lexical { syntax, engine, rows } => lexical_index(&Shards::open(syntax)?, *engine, *rows, threads),
        Part::Vectors { matrix, queries } => vectors(matrix, queries),
        Part::Embed { encoder, syntax, rows, sessions, provider, batch_tokens, bind } => {
            inference::load_installed()?;
            let sessions = sessions.unwrap_or(threads).max(1);
            let mut encoder = TextEncoder::open_with(encoder, *provider, sessions, (threads / sessions).max(1))?;
            if *bind {
                encoder = encoder.bind_outputs()?;
            }
            embedding(&encoder, &Shards::open(syntax)?, *rows, threads, *batch_tokens)
        }
    }
}

/// The values of conf/base.conf.
const SEGMENTS: SegmentOptions = SegmentOptions { rows: 50_000, megabytes: 200, stemming: true };
const HNSW: Hnsw = Hnsw { from_rows: 0, graph_rows: 250_000, connectivity: 16, expansion_add: 128, expansion_search: 128 };

fn lexical_index(shards: &Shards, engine: Engine, rows: u64, threads: usize) -> Result<Value> {
    let dir = tempfile::tempdir()?;
    let target = dir.path().join("tantivy");
    let rows = u32::try_from(rows.min(shards.rows()?))?;
    let shards: Vec<&Shard> = shards.iter().collect();
    let (clock, cpu) = (Instant::now(), cpu_seconds());
    match engine {
        Engine::Ours => {
            segments::write(&SEGMENTS, &shards, &Plan::all_rows(rows), (dir.path(), &dir.path().join("segments")), || ())?;
        }
        Engine::Bare => {
            fs::create_dir(&target)?;
            let schema = schema(tokenizer(SEGMENTS.stemming));
            let index = Index::create_in_dir(&target, schema.clone())?;
            let mut writer = index.writer_with_num_threads(threads, SEGMENTS.megabytes * 1_000_000)?;
            let all: Vec<u32> = (0..rows).collect();
            all.par_chunks(all.len().div_ceil(threads).max(1)).try_for_each(|part| {
                documents::documents(&shards, part, |document| {
                    writer.add_document(tantivy_document(&schema, &document)?)?;
                    Ok(())
                })
            })?;
            writer.commit()?;
            writer.wait_merging_threads()?;
        }
    }
    let (seconds, cpu_seconds) = (clock.elapsed().as_secs_f64(), cpu_seconds() - cpu);
    let searcher = Index::open_in_dir(&target)?.reader()?.searcher();
    ensure!(searcher.num_docs() == u64::from(rows), "the index holds {} rows of {rows}", searcher.num_docs());
    Ok(json!({
        "rows": rows, "seconds": seconds, "cpu_seconds": cpu_seconds, "bytes": bytes_below(&target)?,
        "segments": searcher.segment_readers().len(), "peak_mib": peak_rss_mib(),
    }))
}

fn vectors(matrix: &Path, queries: &Path) -> Result<Value> {
    let dir = tempfile::tempdir()?;
    let ((rows, dimension, numbers), (count, width, queries)) = (read_npy(matrix)?, read_npy(queries)?);
    ensure!(rows > 0 && count > 0 && dimension == width, "{rows} rows of {dimension} numbers and {count} queries of {width}");
    let mut writer = MatrixWriter::create(dir.path(), rows, dimension)?;
    numbers.chunks_exact(dimension).try_for_each(|row| writer.write(row))?;
    writer.finish()?;
    drop(numbers);
    let open = || Vectors::open(dir.path(), rows, dimension);
    let clock = Instant::now();
    let exact = open()?;
    let exact_open_ms = clock.elapsed().as_secs_f64() * 1e3;
    let (clock, cpu) = (Instant::now(), cpu_seconds());
    let info = build(&exact, &HNSW, dir.path(), || ())?;
    let (build_seconds, build_cpu_seconds) = (clock.elapsed().as_secs_f64(), cpu_seconds() - cpu);
    let clock = Instant::now();
    let approximate = open()?.with_hnsw(dir.path(), &info, 1)?;
    let open_ms = clock.elapsed().as_secs_f64() * 1e3;
    let graphs = approximate.hnsw().context("no graphs were built")?;
    let queries: Vec<&[f32]> = queries.chunks_exact(dimension).collect();
    let truth: Vec<Vec<u32>> = queries.par_iter().map(|query| Ok(rows_of(exact.search_exact(query, 10, None)?))).collect::<Result<_>>()?;
    let quantised = on_one_thread(&queries, &truth, |query| Ok(exact.search_quantised(query, 10, None)?))?;
    // The files are mapped: one search of each query reads them into memory, as other libraries read their whole files.
    queries.iter().try_for_each(|query| approximate.search_hnsw(graphs, query, 400, None).map(|_| ()))?;
    let points = [16, 24, 32, 48, 64, 96, 128, 192, 256, 384].into_iter().map(|expansion| {
        graphs.set_expansion(expansion);
        let (recall, qps) = on_one_thread(&queries, &truth, |query| Ok(approximate.search_hnsw(graphs, query, 10, None)?))?;
        Ok(json!({ "ef": expansion, "recall": recall, "qps": qps }))
    });
    // Every search ranks its best rows again by their f32 numbers.
    let matrix = rows as u64 * dimension as u64 * 4;
    Ok(json!({
        "rows": rows, "dimension": dimension,
        "hnsw": {
            "build_seconds": build_seconds, "build_cpu_seconds": build_cpu_seconds, "open_ms": open_ms,
            "bytes": info.files.iter().map(|file| file.bytes).sum::<u64>() + matrix, "points": points.collect::<Result<Vec<Value>>>()?,
        },
        // A row has its codes, its scale and its f32 numbers.
        "exact": { "bytes": (rows * (dimension + 4)) as u64 + matrix, "open_ms": exact_open_ms, "recall": quantised.0, "qps": quantised.1 },
    }))
}

fn rows_of(scored: Vec<Scored>) -> Vec<u32> {
    scored.into_iter().map(|(row, _)| row).collect()
}

/// Recall@10 and queries a second.
fn on_one_thread(queries: &[&[f32]], truth: &[Vec<u32>], search: impl Fn(&[f32]) -> Result<Vec<Scored>>) -> Result<(f64, f64)> {
    let clock = Instant::now();
    let found = queries.iter().map(|query| Ok(rows_of(search(query)?))).collect::<Result<Vec<_>>>()?;
    let seconds = clock.elapsed().as_secs_f64();
    let met: usize = found.iter().zip(truth).map(|(found, truth)| truth.iter().filter(|row| found.contains(row)).count()).sum();
    Ok((met as f64 / truth.iter().map(Vec::len).sum::<usize>() as f64, queries.len() as f64 / seconds))
}

fn embedding(encoder: &TextEncoder, shards: &Shards, rows: u64, threads: usize, batch_tokens: usize) -> Result<Value> {
    let mut batches: Vec<RecordBatch> = Vec::new();
    let mut left = usize::try_from(rows).unwrap_or(usize::MAX);
    for shard in shards.iter() {
        if left == 0 {
            break;
        }
        for batch in table::read(&shard.path, &embed::columns(encoder))? {
            let batch = batch?;
            let rows = batch.num_rows().min(left);
            left -= rows;
            // The batches of a shard are smaller than what a thread encodes at a time.
            batches.extend((0..rows).step_by(PIECE).map(|start| batch.slice(start, PIECE.min(rows - start))));
        }
    }
    batches.retain(|batch| batch.num_rows() > 0);
    let rows: usize = batches.iter().map(RecordBatch::num_rows).sum();
    ensure!(rows > 0, "no rows to embed");
    let (clock, cpu) = (Instant::now(), cpu_seconds());
    let vectors: Vec<Vec<f32>> =
        batches.par_iter().map(|batch| embed::vectors_of(encoder, batch, false, batch_tokens)).collect::<indexer::Result<_>>()?;
    let (seconds, cpu_seconds) = (clock.elapsed().as_secs_f64(), cpu_seconds() - cpu);
    Ok(json!({
        "rows": rows, "seconds": seconds, "cpu_seconds": cpu_seconds, "functions_per_second": rows as f64 / seconds,
        "busy": cpu_seconds / (seconds * threads as f64), "peak_mib": peak_rss_mib(), "vectors": Digest::of_bytes(&vectors.concat().iter().flat_map(|number| number.to_le_bytes()).collect::<Vec<u8>>()),
    }))
}

/// Rows that a thread encodes at a time.
const PIECE: usize = 256;

fn bytes_below(dir: &Path) -> Result<u64> {
    fs::read_dir(dir)?.map(|entry| Ok(entry?.metadata()?.len())).sum()
}

/// Largest matrix in bytes.
const MAX_BYTES: u64 = 64 << 30;

/// Rows, dimension and numbers of a two-dimensional f32 NumPy file.
fn read_npy(path: &Path) -> Result<(usize, usize, Vec<f32>)> {
    let expected = || anyhow!("{} is not a two-dimensional f32 .npy file in C order", path.display());
    let mut file = File::open(path).with_context(|| format!("opening {}", path.display()))?;
    ensure!(file.metadata()?.len() <= MAX_BYTES, "{} is larger than {MAX_BYTES} bytes", path.display());
    let mut head = [0u8; 10];
    file.read_exact(&mut head).map_err(|_| expected())?;
    ensure!(head.starts_with(b"\x93NUMPY\x01"), expected());
    let mut text = vec![0u8; usize::from(u16::from_le_bytes([head[8], head[9]]))];
    file.read_exact(&mut text).map_err(|_| expected())?;
    let text = String::from_utf8_lossy(&text).replace(' ', "");
    ensure!(text.contains("'descr':'<f4'") && text.contains("'fortran_order':False"), expected());
    let shape = text.split_once("'shape':(").and_then(|(_, rest)| rest.split_once(')')).ok_or_else(expected)?.0;
    let dims: Vec<usize> =
        shape.split(',').filter(|dim| !dim.is_empty()).map(str::parse).collect::<Result<_, _>>().map_err(|_| expected())?;
    let [rows, dimension] = dims[..] else { bail!(expected()) };
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)?;
    ensure!(Some(bytes.len()) == rows.checked_mul(dimension).and_then(|numbers| numbers.checked_mul(4)), expected());
    Ok((rows, dimension, bytes.as_chunks::<4>().0.iter().map(|number| f32::from_le_bytes(*number)).collect()))
}
