//! An encoder folder: text to unit vectors.

use std::{collections::BTreeMap, path::Path, sync::Mutex};

use ledger::{EncoderSpec, Invalid, Quantisation, words};

use crate::{
    Error, Provider, Result,
    graph::{Graph, GraphOptions, PaddedRows, is_dynamically_quantised},
    tokenizer::EncoderTokenizer,
};

/// Padded ids in one call, where no configuration sets them.
pub const BATCH_TOKENS: usize = 1024;

/// Rows are padded to a multiple of this many ids (or to the encoder's maximum), and only rows of one width share a call: so on the
/// CPU a row's vector depends on its own ids only, bit for bit ([`TextEncoder::is_batch_invariant`]).
const WIDTH_STEP: usize = 8;

/// An encoder with several sessions, so that several threads encode rows in parallel.
#[derive(Debug)]
pub struct TextEncoder {
    tokenizer: EncoderTokenizer,
    /// By file name of the graph; one session a worker.
    sessions: BTreeMap<String, Vec<Mutex<Graph>>>,
    is_batch_invariant: bool,
}

impl TextEncoder {
    /// Opens `encoder.json`, `tokenizer.json` and the graphs of a folder, with `workers` sessions of one thread each.
    ///
    /// # Errors
    /// [`Error::NotLoaded`] before [`load`](crate::load), [`Error::ProviderMissing`], and files that are missing or damaged.
    pub fn open(dir: &Path, provider: Provider, workers: usize) -> Result<Self> {
        Self::open_with(dir, provider, workers, 1)
    }

    /// [`TextEncoder::open`] with `threads` threads a session.
    pub fn open_with(dir: &Path, provider: Provider, workers: usize, threads: usize) -> Result<Self> {
        let tokenizer = EncoderTokenizer::open(dir)?;
        let options = GraphOptions { provider, threads: Some(threads) };
        let mut sessions = BTreeMap::new();
        let mut is_batch_invariant = provider == Provider::Cpu;
        for graph in tokenizer.spec().graphs(dir)? {
            let path = dir.join(&graph);
            is_batch_invariant &= match tokenizer.spec().quantisation {
                Some(quantisation) => quantisation == Quantisation::None,
                None => !is_dynamically_quantised(&path)?,
            };
            let open = || Ok(Mutex::new(Graph::open(&path, options)?));
            sessions.insert(graph, (0..workers.max(1)).map(|_| open()).collect::<Result<Vec<_>>>()?);
        }
        Ok(Self { tokenizer, sessions, is_batch_invariant })
    }

    /// Makes calls write their output through a binding on the CPU too, as on a device. For measurements.
    pub fn bind_outputs(self) -> Result<Self> {
        for session in self.sessions.values().flatten() {
            session.lock().map_err(|_| failed_before())?.bind_outputs()?;
        }
        Ok(self)
    }

    /// The contents of `encoder.json`.
    pub fn spec(&self) -> &EncoderSpec {
        self.tokenizer.spec()
    }

    /// Is a row's vector the same to the bit whatever other rows are in its call? Not on a device, and not where a graph quantises
    /// its inputs by the value range of the whole call (int8 graphs).
    pub fn is_batch_invariant(&self) -> bool {
        self.is_batch_invariant
    }

    /// Ids of a query: its words, with the encoder's prefix and suffix.
    pub fn query_ids(&self, text: &str) -> Result<Vec<u32>> {
        self.tokenizer.query_ids(&words::joined(text), self.spec().query_tokens)
    }

    /// Ids of a function's text in a language, with the encoder's prefix and suffix.
    pub fn code_ids(&self, language: &str, text: &str) -> Result<Vec<u32>> {
        self.tokenizer.code_ids(language, text, self.spec().code_tokens)
    }

    /// Vectors of queries' ids, `[rows, dimension]` flat, in calls of at most `batch_tokens` padded ids.
    pub fn encode_queries(&self, rows: &[Vec<u32>], batch_tokens: usize) -> Result<Vec<f32>> {
        let rows: Vec<&[u32]> = rows.iter().map(Vec::as_slice).collect();
        self.encode(&self.spec().query_graph, self.spec().query_tokens, &rows, batch_tokens)
    }

    /// Vectors of code's ids, `[rows, dimension]` flat, in calls of at most `batch_tokens` padded ids; `languages` has one name a row.
    ///
    /// # Errors
    /// [`Error::NoGraph`] for a language that an encoder with one graph a language lacks.
    pub fn encode_codes(&self, languages: &[&str], rows: &[Vec<u32>], batch_tokens: usize) -> Result<Vec<f32>> {
        let dimension = self.spec().dimension;
        let mut by_graph: BTreeMap<String, Vec<usize>> = BTreeMap::new();
        for (row, language) in languages.iter().enumerate() {
            by_graph.entry(self.spec().code_graph.replace("{language}", language)).or_default().push(row);
        }
        let mut vectors = vec![0f32; rows.len() * dimension];
        for (graph, members) in by_graph {
            let ids: Vec<&[u32]> = members.iter().map(|&row| rows[row].as_slice()).collect();
            let encoded = self.encode(&graph, self.spec().code_tokens, &ids, batch_tokens)?;
            for (&row, vector) in members.iter().zip(encoded.chunks(dimension)) {
                vectors[row * dimension..][..dimension].copy_from_slice(vector);
            }
        }
        Ok(vectors)
    }

    /// Vectors of rows of ids, `[rows, dimension]` flat, in the order given. Rows are sorted by width and cut into calls of at
    /// most `batch_tokens` padded ids.
    fn encode(&self, graph: &str, max_tokens: usize, rows: &[&[u32]], batch_tokens: usize) -> Result<Vec<f32>> {
        let dimension = self.spec().dimension;
        let width = |row: usize| padded_width(rows[row].len(), max_tokens);
        let mut order: Vec<usize> = (0..rows.len()).collect();
        order.sort_by_key(|&row| (width(row), row));
        let mut vectors = vec![0f32; rows.len() * dimension];
        let mut start = 0;
        while start < order.len() {
            let width_of_call = width(order[start]);
            let most = (batch_tokens / width_of_call).max(1);
            let count = order[start..].iter().take(most).take_while(|&&row| width(row) == width_of_call).count();
            let call = &order[start..start + count];
            let ids: Vec<&[u32]> = call.iter().map(|&row| rows[row]).collect();
            let encoded = self.run(graph, &PaddedRows::with_width(&ids, self.tokenizer.pad(), width_of_call))?;
            for (&row, vector) in call.iter().zip(encoded.chunks(dimension)) {
                vectors[row * dimension..][..dimension].copy_from_slice(vector);
            }
            start += count;
        }
        Ok(vectors)
    }

    fn run(&self, graph: &str, rows: &PaddedRows) -> Result<Vec<f32>> {
        let sessions = self.sessions.get(graph).ok_or_else(|| Error::NoGraph { graph: graph.to_owned() })?;
        let worker = rayon::current_thread_index().unwrap_or_default() % sessions.len();
        let mut session = sessions[worker].lock().map_err(|_| failed_before())?;
        session.encode(rows, &self.spec().graph, self.spec().dimension)
    }
}

/// Width of a row of `len` ids: a multiple of [`WIDTH_STEP`], at most `max_tokens` unless the row is longer.
fn padded_width(len: usize, max_tokens: usize) -> usize {
    len.max(1).next_multiple_of(WIDTH_STEP).min(max_tokens.max(len).max(1))
}

fn failed_before() -> Error {
    Invalid("an encoder session failed before: open the encoder again".to_owned()).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn widths_are_multiples_of_eight_up_to_the_maximum() {
        assert_eq!([0, 1, 8, 9, 30].map(|len| padded_width(len, 30)), [8, 8, 8, 16, 30]);
        assert_eq!(padded_width(40, 30), 40);
    }
}
