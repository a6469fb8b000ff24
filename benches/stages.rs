//! Time of the corpus stages on one thread, and of the libraries that they call.
//!
//! `CODENETS_SYNTAX` (an artifact of kind `syntax`) and `CODENETS_TOKENIZER` (a tokenizer.json) name the data; `make bench-corpus` sets
//! both. One iteration handles 1000 functions.

use std::{hint::black_box, path::PathBuf, sync::LazyLock};

use arrow::{array::RecordBatch, compute::concat_batches};
use divan::Bencher;
use ledger::{Language, Shards, table};
use pipeline::{
    grammar::{self, Scope},
    parse::{self, Flat, ParseReport, Specials, kinds, linearise},
    tokenize::{self, Words},
};
use tokenizers::Tokenizer;

const SAMPLE: usize = 1000;
const FUNCTIONS: [&str; 13] = [
    "id",
    "language",
    "repo",
    "path",
    "func_name",
    "code",
    "code_tokens",
    "docstring",
    "docstring_tokens",
    "url",
    "line_start",
    "line_end",
    "licence",
];

fn main() {
    divan::main();
}

fn path_in(variable: &str) -> PathBuf {
    std::env::var_os(variable).map(PathBuf::from).unwrap_or_else(|| panic!("{variable} is not set: run `make bench-corpus`"))
}

/// 1000 functions, the same number from every shard.
static BATCH: LazyLock<RecordBatch> = LazyLock::new(|| {
    let shards = Shards::open(&path_in("CODENETS_SYNTAX")).expect("a syntax artifact");
    let each = SAMPLE.div_ceil(shards.iter().count());
    let parts: Vec<RecordBatch> = shards
        .iter()
        .map(|shard| {
            let batch = table::read(&shard.path, &FUNCTIONS).expect("a shard").next().expect("a batch").expect("a batch");
            batch.slice(0, each.min(batch.num_rows()))
        })
        .collect();
    let all = concat_batches(&parts[0].schema(), &parts).expect("one schema");
    assert!(all.num_rows() >= SAMPLE, "a corpus of {SAMPLE} functions in even shards");
    all.slice(0, SAMPLE)
});

static CODES: LazyLock<Vec<(Language, Scope, String)>> = LazyLock::new(|| {
    let (languages, codes) = (table::texts(&BATCH, "language").expect("texts"), table::texts(&BATCH, "code").expect("texts"));
    (0..SAMPLE)
        .map(|row| {
            let language = languages.value(row).parse().expect("a language");
            let (source, scope) = parse::source_of(language, codes.value(row), &config());
            (language, scope, source.into_owned())
        })
        .collect()
});

static TEXTS: LazyLock<(Tokenizer, Vec<String>)> = LazyLock::new(|| {
    let (batch, mut report) = (&*BATCH, ParseReport::default());
    let batch = parse::parse_batch(batch, &config(), &mut report).expect("parses");
    let (names, codes) = (table::texts(&batch, "name_words").expect("texts"), table::texts(&batch, "code_words").expect("texts"));
    let texts = (0..SAMPLE).map(|row| format!("{} {}", names.value(row), codes.value(row))).collect();
    (tokenize::load(&path_in("CODENETS_TOKENIZER")).expect("a tokenizer"), texts)
});

/// The settings of conf/base.conf.
fn config() -> parse::Config {
    let conf = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../conf/base.conf"));
    let sections = codenets::stages::registry().sections();
    ledger::conf::Conf::load(&conf, &sections).and_then(|conf| conf.section("parse")).expect("conf/base.conf")
}

#[divan::bench]
fn bare_parse(bencher: Bencher) {
    let codes = &*CODES;
    bencher.bench(|| {
        for (language, scope, source) in codes {
            black_box(grammar::parse(*language, *scope, source.as_bytes()).expect("parses"));
        }
    });
}

#[divan::bench]
fn parse_and_linearise(bencher: Bencher) {
    let (codes, config) = (&*CODES, config());
    bencher.bench(|| {
        let mut taken = 0;
        for (language, scope, source) in codes {
            let tree = grammar::parse(*language, *scope, source.as_bytes()).expect("parses");
            let flat = Flat::of(&tree, kinds(*language, *scope), source);
            let mut specials = Specials::new(*language, flat.kinds);
            linearise(&flat, &flat.kinds.are(&[]), config.max_ast_tokens, &mut specials, &mut |token| taken += token.len());
        }
        taken
    });
}

#[divan::bench]
fn every_column(bencher: Bencher) {
    let (batch, config) = (&*BATCH, config());
    bencher.bench(|| parse::parse_batch(batch, &config, &mut ParseReport::default()).expect("parses"));
}

#[divan::bench]
fn tokenizers_library(bencher: Bencher) {
    let (tokenizer, texts) = &*TEXTS;
    bencher.bench(|| texts.iter().map(|text| tokenizer.encode_fast(text.as_str(), false).expect("encodes").len()).sum::<usize>());
}

/// The ids that the library gives, encoded word by word with a cache that is empty at the start of every iteration.
#[divan::bench]
fn word_by_word(bencher: Bencher) {
    let (tokenizer, texts) = &*TEXTS;
    bencher.bench(|| {
        let mut words = Words::new(tokenizer);
        texts.iter().map(|text| words.encode(text, usize::MAX).expect("encodes").ids.len()).sum::<usize>()
    });
}
