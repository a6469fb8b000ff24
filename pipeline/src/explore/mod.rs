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
    let ingest = report::<IngestReport>(store, "functions", &mut artifacts)?.context("no functions are recorded: run `make parse`")?;
    let parse = report(store, "syntax", &mut artifacts)?;
    let tokenize = report(store, "tokens", &mut artifacts)?;
    let tables = match store.current::<Syntax>() {
        Ok(syntax) => syntax.open()?.shards,
        Err(_) => functions.open()?.shards,
    };
    let tokens = store.current::<Tokens>().ok().map(|tokens| tokens.dir().to_owned());
    let statistics = Statistics::of(&tables, tokens.as_deref(), store.progress())?;
    let vocabulary = match store.current::<Vocabulary>() {
        Ok(vocabulary) => Some(Pieces::read(&vocabulary.open()?.tokenizer)?),
        Err(_) => None,
    };
    let corpus = Corpus { artifacts, ingest, parse, tokenize, statistics, vocabulary };
    let path = store.root().join("reports/explore/report.html");
    fs::create_dir_all(path.parent().context("a report lies in a folder")?)?;
    ledger::write_atomically(&path, page::render(&corpus).as_bytes())?;
    Ok(path)
}

/// The report of a stage, by the kind it leaves.
fn report<R: serde::de::DeserializeOwned>(store: &Store, kind: &str, artifacts: &mut BTreeMap<String, String>) -> Result<Option<R>> {
    let Some((_, Manifest { report, key, .. })) = store.current_manifest(kind) else { return Ok(None) };
    artifacts.insert(kind.to_owned(), key);
    let report = serde_json::from_value(report).with_context(|| format!("the {kind} are of an older tool: run `make {kind}` again"))?;
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
