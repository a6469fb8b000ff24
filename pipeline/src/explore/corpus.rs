//! What the page shows, read from the current artifacts.

use std::{collections::BTreeMap, path::Path};

use ledger::{Functions, Manifest, Store, Syntax, Tokens, Vocabulary};
use serde::de::DeserializeOwned;

use super::statistics::Statistics;
use crate::{
    error::{Context, Result},
    harvest::HarvestReport,
    ingest::IngestReport,
    parse::ParseReport,
    tokenize::{self, TokenizeReport},
};

/// Tokens in the list of the longest tokens.
const LONGEST: usize = 40;

/// The current corpus. Stages that did not run yet are left out.
pub struct Corpus {
    /// Key by kind, of the artifacts that the page describes.
    pub artifacts: BTreeMap<String, String>,
    pub harvest: Option<HarvestReport>,
    pub ingest: IngestReport,
    pub parse: Option<ParseReport>,
    pub tokenize: Option<TokenizeReport>,
    pub statistics: Statistics,
    pub vocabulary: Option<VocabularySummary>,
}

/// The tokens of a vocabulary.
pub struct VocabularySummary {
    pub size: usize,
    pub specials: Vec<String>,
    /// Number of tokens by length in characters.
    pub lengths: BTreeMap<usize, u64>,
    pub longest: Vec<String>,
}

impl Corpus {
    /// Reads the current artifacts. An artifact that was computed from other functions is left out; a damaged one is an error.
    pub fn read(store: &Store) -> Result<Self> {
        let functions = store.current::<Functions>()?;
        let mut artifacts = BTreeMap::new();
        let ingest =
            report::<IngestReport>(store, "functions", &mut artifacts)?.context("no functions recorded yet: run `codenets run`")?;
        let is_current = |kind: &str, input: &str| {
            store.current_manifest(kind).is_some_and(|(_, manifest)| {
                let read = manifest.inputs.get(input).and_then(|input| input.key.clone());
                read.is_some() && read.as_ref() == store.current_manifest(input).as_ref().map(|(_, input)| &input.key)
            })
        };
        let harvest = if is_current("functions", "raw") { report(store, "raw", &mut artifacts)? } else { None };
        let is_parsed = is_current("syntax", "functions");
        let is_tokenized = is_parsed && is_current("tokens", "syntax") && is_current("tokens", "vocabulary");
        let parse = if is_parsed { report(store, "syntax", &mut artifacts)? } else { None };
        let tokenize = if is_tokenized { report(store, "tokens", &mut artifacts)? } else { None };
        let tables = if is_parsed { store.current::<Syntax>()?.open()?.shards } else { functions.open()?.shards };
        let tokens = if is_tokenized { Some(store.current::<Tokens>()?.dir().to_owned()) } else { None };
        let statistics = Statistics::of(functions.dir(), &tables, is_parsed, tokens.as_deref(), store.progress())?;
        let vocabulary =
            if is_tokenized { Some(VocabularySummary::read(&store.current::<Vocabulary>()?.open()?.tokenizer)?) } else { None };
        Ok(Self { artifacts, harvest, ingest, parse, tokenize, statistics, vocabulary })
    }
}

/// The report of the stage that wrote an artifact kind.
fn report<R: DeserializeOwned>(store: &Store, kind: &str, artifacts: &mut BTreeMap<String, String>) -> Result<Option<R>> {
    let Some((_, Manifest { report, key, stage, .. })) = store.current_manifest(kind) else { return Ok(None) };
    artifacts.insert(kind.to_owned(), key);
    let report = serde_json::from_value(report)
        .with_context(|| format!("the report of {stage} is from another version: run `codenets run --only {stage}`"))?;
    Ok(Some(report))
}

impl VocabularySummary {
    fn read(path: &Path) -> Result<Self> {
        let tokenizer = tokenize::load(path)?;
        let mut specials: Vec<(u32, String)> =
            tokenizer.get_added_tokens_decoder().into_iter().map(|(id, token)| (id, token.content)).collect();
        specials.sort();
        let specials: Vec<String> = specials.into_iter().map(|(_, token)| token).collect();
        let mut tokens: Vec<String> = tokenizer.get_vocab(false).into_keys().filter(|token| !specials.contains(token)).collect();
        tokens.sort_by_key(|token| (usize::MAX - token.chars().count(), token.clone()));
        let mut lengths = BTreeMap::new();
        tokens.iter().for_each(|token| *lengths.entry(token.chars().count()).or_default() += 1);
        let size = tokenizer.get_vocab_size(true);
        tokens.truncate(LONGEST);
        Ok(Self { size, specials, lengths, longest: tokens })
    }
}
