//! A picture of the data: what is in the corpus, read off the current artifacts into one page.

mod page;
mod statistics;

use std::{collections::BTreeMap, fs, path::PathBuf};

use anyhow::{Context, Result};
use ledger::{Functions, Manifest, Store, Syntax, Tokens, Vocabulary};

use crate::{ingest::IngestReport, parse::ParseReport, tokenize::TokenizeReport};
use statistics::Statistics;

/// What the page shows. A stage that has not run yet is left out.
struct Corpus {
    /// What each page came from: kind and key.
    artifacts: BTreeMap<String, String>,
    ingest: IngestReport,
    parse: Option<ParseReport>,
    tokenize: Option<TokenizeReport>,
    statistics: Statistics,
    vocabulary: Option<Pieces>,
}

/// The pieces of a vocabulary.
struct Pieces {
    size: usize,
    specials: Vec<String>,
    /// Length in characters to number of pieces.
    lengths: BTreeMap<usize, u64>,
    longest: Vec<String>,
}

/// Writes `reports/explore/report.html` and says where it is.
pub fn write(store: &Store) -> Result<PathBuf> {
    let functions = store.current::<Functions>()?;
    let mut artifacts = BTreeMap::new();
    let ingest = report::<IngestReport>(store, "functions", &mut artifacts)?.context("no functions recorded yet: run `make ingest`")?;
    // What was made of other functions than these is left out; what is damaged is an error.
    let of_now = |kind: &str, input: &str| {
        store.current_manifest(kind).is_some_and(|(_, manifest)| {
            let read = manifest.inputs.get(input).and_then(|input| input.key.clone());
            read.is_some() && read.as_ref() == store.current_manifest(input).as_ref().map(|(_, input)| &input.key)
        })
    };
    let is_parsed = of_now("syntax", "functions");
    let is_tokenized = is_parsed && of_now("tokens", "syntax") && of_now("tokens", "vocabulary");
    let parse = if is_parsed { report(store, "syntax", &mut artifacts)? } else { None };
    let tokenize = if is_tokenized { report(store, "tokens", &mut artifacts)? } else { None };
    let tables = if is_parsed { store.current::<Syntax>()?.open()?.shards } else { functions.open()?.shards };
    let tokens = if is_tokenized { Some(store.current::<Tokens>()?.dir().to_owned()) } else { None };
    let statistics = Statistics::of(&tables, tokens.as_deref(), store.progress())?;
    let vocabulary = if is_tokenized { Some(Pieces::read(&store.current::<Vocabulary>()?.open()?.tokenizer)?) } else { None };
    let corpus = Corpus { artifacts, ingest, parse, tokenize, statistics, vocabulary };
    let path = store.root().join("reports/explore/report.html");
    fs::create_dir_all(path.parent().context("a report lies in a folder")?)?;
    ledger::write_atomically(&path, page::render(&corpus).as_bytes())?;
    Ok(path)
}

/// The report of a stage, by the kind it leaves.
fn report<R: serde::de::DeserializeOwned>(store: &Store, kind: &str, artifacts: &mut BTreeMap<String, String>) -> Result<Option<R>> {
    let Some((_, Manifest { report, key, stage, .. })) = store.current_manifest(kind) else { return Ok(None) };
    artifacts.insert(kind.to_owned(), key);
    let report = serde_json::from_value(report).with_context(|| format!("the report of {stage} is of another tool: run `make {stage}`"))?;
    Ok(Some(report))
}

impl Pieces {
    fn read(path: &std::path::Path) -> Result<Self> {
        let tokenizer = crate::tokenize::load(path)?;
        let mut specials: Vec<(u32, String)> =
            tokenizer.get_added_tokens_decoder().into_iter().map(|(id, token)| (id, token.content)).collect();
        specials.sort();
        let specials: Vec<String> = specials.into_iter().map(|(_, token)| token).collect();
        let mut pieces: Vec<String> = tokenizer.get_vocab(false).into_keys().filter(|piece| !specials.contains(piece)).collect();
        pieces.sort_by_key(|piece| (usize::MAX - piece.chars().count(), piece.clone()));
        let mut lengths = BTreeMap::new();
        pieces.iter().for_each(|piece| *lengths.entry(piece.chars().count()).or_default() += 1);
        let size = tokenizer.get_vocab_size(true);
        pieces.truncate(40);
        Ok(Self { size, specials, lengths, longest: pieces })
    }
}
