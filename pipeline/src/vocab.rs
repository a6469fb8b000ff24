//! `vocab`: a BPE vocabulary (Sennrich, "Neural machine translation of rare words with subword units", 2016),
//! everything in one `tokenizer.json`.
//!
//! Trained on the training split's code and documentation. Special tokens: `<pad>`, `<unk>`, `<qy>` (a query
//! follows), `<lg>` (code follows), one tag a language; `</id>` where subtokens are what is encoded, and the
//! tokens of the linearised trees where these are.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, anyhow, ensure};
use ledger::{Artifact, CodeText, Digest, Language, Report, Rows, Run, Split, Stage, Syntax, Vocabulary, table};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokenizers::{
    AddedToken, DecoderWrapper, ModelWrapper, NormalizedString, Normalizer, NormalizerWrapper, PostProcessorWrapper, PreTokenizerWrapper,
    Tokenizer, TokenizerBuilder,
    decoders::bpe::BPEDecoder,
    models::{
        TrainerWrapper,
        bpe::{BPE, BpeTrainerBuilder},
    },
    normalizers::{Lowercase, NFC, NFD, NFKC, Sequence as Normalizers, StripAccents},
    pre_tokenizers::{byte_level::ByteLevel, sequence::Sequence, whitespace::WhitespaceSplit},
};

/// Tokens that every vocabulary holds, with these ids: 0, 1, 2, 3.
pub const SPECIALS: [&str; 4] = ["<pad>", "<unk>", "<qy>", "<lg>"];

/// The stage.
#[derive(Debug)]
pub struct Vocab;

/// Section `vocab`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Config {
    /// Tokens, the special ones included.
    pub size: usize,
    pub min_frequency: u64,
    pub model: Model,
    pub lowercase: bool,
    /// `é` becomes `e`.
    pub strip_accents: bool,
    /// Which text of a function is encoded; `tokenize` and `embed` use the same. Its special tokens are added.
    pub code_text: CodeText,
    /// Which text of a function the merges are learnt from.
    pub learn_from: CodeText,
    /// Text that is learnt from, at most: rows are taken evenly over the shards.
    pub max_megabytes: usize,
    /// A `tokenizer.json` to take instead of learning one: that of pretrained weights, or of a recorded checkpoint.
    pub from: Option<PathBuf>,
}

/// What the merges start from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Model {
    /// The 256 bytes: nothing is unknown (Radford, "Language models are unsupervised multitask learners", 2019).
    ByteLevel,
    /// The thousand most frequent characters, a word's last one marked by `</w>`; others are `<unk>`. The
    /// predecessor's, with its NFKC.
    CharLevel,
}

/// Ends a word in a character-level vocabulary.
const END_OF_WORD: &str = "</w>";
/// Ends the words of an identifier in [`CodeText::Subtokens`].
const END_OF_IDENTIFIER: &str = "</id>";
/// Largest `vocab.from`.
const MOST_BYTES: u64 = 256 << 20;
/// Characters of a character-level vocabulary.
const MOST_CHARACTERS: usize = 1000;

/// What was learnt from.
#[derive(Debug, Serialize, Deserialize)]
pub struct VocabReport {
    pub rows: u64,
    pub bytes: u64,
    pub tokens: u64,
}

impl Report for VocabReport {
    fn rows(&self) -> Rows {
        Rows { read: self.rows, written: self.tokens, rejected: 0 }
    }
}

impl Stage for Vocab {
    const NAME: &'static str = "vocab";
    const ABOUT: &'static str = "Learn a BPE vocabulary and write one tokenizer.json";
    const REVISION: u32 = 2;
    type Config = Config;
    type Inputs = Artifact<Syntax>;
    type Output = Vocabulary;
    type Report = VocabReport;
    type Error = anyhow::Error;

    fn external_inputs(config: &Config) -> Result<Vec<(String, Digest)>> {
        let Some(path) = &config.from else { return Ok(Vec::new()) };
        let digest = Digest::of_file(path).with_context(|| format!("reading vocab.from {}", path.display()))?;
        Ok(vec![("vocab.from".to_owned(), digest)])
    }

    fn run(config: &Config, input: &Self::Inputs, run: &Run<'_>) -> Result<VocabReport> {
        if let Some(path) = &config.from {
            return take(path, &run.out.join("tokenizer.json"));
        }
        let syntax = input.open()?;
        let shards = syntax.shards.of(Split::Train);
        ensure!(!shards.is_empty(), "no training rows to learn a vocabulary from");
        let rows: u64 = shards.iter().map(|shard| table::row_count(&shard.path)).sum::<Result<u64>>()?;
        let bar = run.progress.bar("vocab", rows, "rows");
        let budget = config.max_megabytes * 1_000_000 / shards.len();
        let (mut texts, mut bytes, mut read) = (Vec::new(), 0usize, 0u64);
        for shard in shards {
            let before = bytes;
            let listed = config.learn_from.token_column();
            let columns = ["name_words", "code_words", "query_words", listed];
            'shard: for batch in table::read(&shard.path, &columns)? {
                let batch = batch?;
                let (names, codes, queries) =
                    (table::texts(&batch, "name_words")?, table::texts(&batch, "code_words")?, table::texts(&batch, "query_words")?);
                let tokens = table::text_lists(&batch, listed)?;
                for row in 0..batch.num_rows() {
                    let code = config.learn_from.of_row(names.value(row), "", codes.value(row), tokens.row(row));
                    bytes += code.len() + queries.value(row).len();
                    texts.push(code);
                    texts.push(queries.value(row).to_owned());
                    read += 1;
                    bar.add(1);
                    if bytes - before > budget {
                        break 'shard;
                    }
                }
            }
        }
        let mut specials: Vec<String> = SPECIALS.map(str::to_owned).into();
        specials.extend(Language::ALL.map(Language::tag));
        if config.code_text == CodeText::Ast {
            specials.extend(syntax.ast_specials.iter().filter(|token| !token.is_empty()).cloned());
        }
        if config.code_text == CodeText::Subtokens {
            specials.push(END_OF_IDENTIFIER.to_owned());
        }
        let mut seen = std::collections::HashSet::new();
        specials.retain(|token| seen.insert(token.clone()));
        ensure!(config.size > specials.len() + 256, "vocab.size must exceed {} (special tokens and bytes)", specials.len() + 256);
        let tokens = train(config, &specials, &texts, &run.out.join("tokenizer.json"))?;
        bar.finish();
        Ok(VocabReport { rows: read, bytes: bytes as u64, tokens })
    }
}

/// Takes a tokenizer as it is, but for truncation and padding: `tokenize` and `embed` cut and pad by themselves.
fn take(from: &Path, to: &Path) -> Result<VocabReport> {
    let context = || format!("vocab.from {} is not a tokenizer", from.display());
    let bytes = fs::metadata(from).with_context(context)?.len();
    ensure!(bytes <= MOST_BYTES, "vocab.from {} has {bytes} bytes, more than the {MOST_BYTES} that are read", from.display());
    let mut tokenizer = Tokenizer::from_file(from).map_err(|error| anyhow!("{error}")).with_context(context)?;
    if tokenizer.get_padding().is_none() && tokenizer.get_truncation().is_none() {
        // The same bytes: weights are tied to them.
        fs::copy(from, to).with_context(|| format!("copying {}", from.display()))?;
    } else {
        tokenizer.with_padding(None).with_truncation(None).map_err(|error| anyhow!("{error}"))?;
        tokenizer.save(to, false).map_err(|error| anyhow!("{error}")).with_context(|| format!("writing {}", to.display()))?;
    }
    let tokens = tokenizer.get_vocab_size(true) as u64;
    ensure!(tokens > 0, "vocab.from {} has no tokens", from.display());
    Ok(VocabReport { rows: 0, bytes, tokens })
}

fn train(config: &Config, specials: &[String], texts: &[String], path: &Path) -> Result<u64> {
    let error = |error: tokenizers::Error| anyhow!("{error}");
    let mut tokenizer: Tokenizer =
        TokenizerBuilder::<ModelWrapper, NormalizerWrapper, PreTokenizerWrapper, PostProcessorWrapper, DecoderWrapper>::new()
            .with_model(model(config.model).map_err(error)?.into())
            .with_normalizer(normalizer(config))
            .with_pre_tokenizer(Some(pre_tokenizer(config.model)))
            .with_decoder(Some(match config.model {
                Model::ByteLevel => ByteLevel::default().into(),
                Model::CharLevel => BPEDecoder::new(END_OF_WORD.to_owned()).into(),
            }))
            .build()
            .map_err(error)?
            .into();
    let ends = match config.model {
        Model::ByteLevel => Characters::default(),
        Model::CharLevel => Characters::of(texts, &tokenizer).map_err(error)?,
    };
    let seeds = specials.len() + ends.ends.len() + ends.alphabet.len();
    ensure!(config.size > seeds, "vocab.size must exceed {seeds} (special tokens and characters)");
    let special = |token: &String| AddedToken::from(token.clone(), true);
    let builder = BpeTrainerBuilder::new()
        .vocab_size(config.size)
        .min_frequency(config.min_frequency)
        .show_progress(false)
        .special_tokens(specials.iter().chain(&ends.ends).map(special).collect());
    let mut trainer: TrainerWrapper = match config.model {
        Model::ByteLevel => builder.initial_alphabet(ByteLevel::alphabet().into_iter().collect()),
        Model::CharLevel => builder
            .limit_alphabet(ends.alphabet.len())
            .initial_alphabet(ends.alphabet.into_iter().collect())
            .end_of_word_suffix(END_OF_WORD.to_owned()),
    }
    .build()
    .into();
    tokenizer.train(&mut trainer, texts.iter().map(String::as_str)).map_err(error).context("training the vocabulary")?;
    let size = tokenizer.get_vocab_size(true) as u64;
    let mut json: Value = serde_json::from_str(&tokenizer.to_string(false).map_err(error)?)?;
    let added = json["added_tokens"].as_array_mut().context("a tokenizer has added tokens")?;
    added.retain(|token| !ends.ends.iter().any(|end| token["content"] == end.as_str()));
    fs::write(path, serde_json::to_vec(&json)?).with_context(|| format!("writing {}", path.display()))?;
    Ok(size)
}

/// The characters that a character-level vocabulary starts from.
///
/// The library's trainer numbers word-final characters in the order of a hash map that is another in every run
/// and breaks ties of merges by these numbers. Told of them beforehand, as if they were special, it gives the
/// same vocabulary every time.
#[derive(Default)]
struct Characters {
    alphabet: Vec<char>,
    ends: Vec<String>,
}

impl Characters {
    fn of(texts: &[String], tokenizer: &Tokenizer) -> tokenizers::Result<Self> {
        let mut counts: BTreeMap<char, u64> = BTreeMap::new();
        let mut ends = BTreeSet::new();
        for text in texts {
            let mut normalized = NormalizedString::from(text.as_str());
            if let Some(normalizer) = tokenizer.get_normalizer() {
                normalizer.normalize(&mut normalized)?;
            }
            for word in normalized.get().split_whitespace() {
                word.chars().for_each(|c| *counts.entry(c).or_default() += 1);
                ends.extend(word.chars().next_back());
            }
        }
        let mut alphabet: Vec<(char, u64)> = counts.into_iter().collect();
        alphabet.sort_by_key(|&(c, count)| (u64::MAX - count, c));
        alphabet.truncate(MOST_CHARACTERS);
        let alphabet: Vec<char> = alphabet.into_iter().map(|(c, _)| c).collect();
        let ends = ends.into_iter().filter(|c| alphabet.contains(c)).map(|c| format!("{c}{END_OF_WORD}")).collect();
        Ok(Self { alphabet, ends })
    }
}

fn model(model: Model) -> tokenizers::Result<BPE> {
    match model {
        Model::ByteLevel => Ok(BPE::default()),
        Model::CharLevel => BPE::builder().unk_token("<unk>".to_owned()).end_of_word_suffix(END_OF_WORD.to_owned()).build(),
    }
}

fn normalizer(config: &Config) -> Option<NormalizerWrapper> {
    let mut steps: Vec<NormalizerWrapper> = Vec::new();
    if config.model == Model::CharLevel {
        steps.push(NFKC.into());
    }
    if config.strip_accents {
        // Accents are characters of their own only when decomposed.
        steps.extend([NFD.into(), StripAccents.into(), NFC.into()]);
    }
    if config.lowercase {
        steps.push(Lowercase.into());
    }
    match steps.len() {
        0 | 1 => steps.pop(),
        _ => Some(Normalizers::new(steps).into()),
    }
}

fn pre_tokenizer(model: Model) -> PreTokenizerWrapper {
    match model {
        Model::ByteLevel => Sequence::new(vec![WhitespaceSplit.into(), ByteLevel::new(true, false, false).into()]).into(),
        Model::CharLevel => WhitespaceSplit.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tokenize::{self, Words};
    use proptest::prelude::*;

    const REAL: &str = include_str!("harvest/mod.rs");
    const ACCENTS: &str =
        "caf\u{e9} na\u{ef}ve \u{c9}cole \u{ff46}ull\u{3000}width \u{a8} a\u{301}b <unk> x<unk>y <qy> \u{1f600} \u{3a3}\u{391}\u{3a3}";

    fn config(model: Model, code_text: CodeText) -> Config {
        Config {
            size: 900,
            min_frequency: 2,
            model,
            lowercase: true,
            strip_accents: true,
            code_text,
            learn_from: code_text,
            max_megabytes: 1,
            from: None,
        }
    }

    fn trained(config: &Config, dir: &std::path::Path) -> std::path::PathBuf {
        let mut specials: Vec<String> = SPECIALS.map(str::to_owned).into();
        specials.extend(["<function_definition>", END_OF_IDENTIFIER].map(str::to_owned));
        let texts: Vec<String> = REAL.lines().chain([ACCENTS]).map(str::to_owned).collect();
        let path = dir.join("tokenizer.json");
        train(config, &specials, &texts, &path).unwrap();
        path
    }

    #[test]
    fn both_models_are_the_same_bytes_every_time() {
        for model in [Model::ByteLevel, Model::CharLevel] {
            let [a, b] = [(); 2].map(|()| {
                let dir = tempfile::tempdir().unwrap();
                std::fs::read(trained(&config(model, CodeText::Tokens), dir.path())).unwrap()
            });
            assert!(a == b, "{model:?}");
        }
    }

    #[test]
    fn the_options_do_what_they_say() {
        let dir = tempfile::tempdir().unwrap();
        let encode = |config: &Config, text: &str| {
            let tokenizer = tokenize::load(&trained(config, dir.path())).unwrap();
            tokenizer.encode_fast(text, false).unwrap().get_ids().to_vec()
        };
        let mut config = config(Model::CharLevel, CodeText::Tokens);
        assert_eq!(encode(&config, "\u{c9}COLE"), encode(&config, "ecole"));
        assert_eq!(encode(&config, "\u{4e16}"), [1], "a character that was never met is <unk>");
        assert_eq!(encode(&config, "<function_definition> </id>").len(), 2, "special tokens are one id each");
        config.lowercase = false;
        config.strip_accents = false;
        assert_ne!(encode(&config, "Self"), encode(&config, "self"));
        config.model = Model::ByteLevel;
        assert!(!encode(&config, "\u{4e16}").contains(&1), "bytes know everything");
        assert_ne!(encode(&config, "\u{e9}"), encode(&config, "e"));
    }

    proptest! {
        /// Remembered words give what the tokenizer gives for the whole text.
        #[test]
        fn word_by_word_is_the_whole_text(lines in proptest::collection::vec(0usize..300, 1..6), odd in "\\PC{0,30}", char_level: bool, max in 1usize..400) {
            static TOKENIZERS: std::sync::LazyLock<[tokenizers::Tokenizer; 2]> = std::sync::LazyLock::new(|| {
                [Model::ByteLevel, Model::CharLevel].map(|model| {
                    let dir = tempfile::tempdir().unwrap();
                    tokenize::load(&trained(&config(model, CodeText::Tokens), dir.path())).unwrap()
                })
            });
            let tokenizer = &TOKENIZERS[usize::from(char_level)];
            let all: Vec<&str> = REAL.lines().collect();
            let mut text = lines.iter().map(|&line| all[line % all.len()]).collect::<Vec<_>>().join("\n");
            text.push_str(&format!(" {odd} {ACCENTS}"));
            let whole = tokenizer.encode_fast(text.as_str(), false).unwrap().get_ids().to_vec();
            let mut words = Words::new(tokenizer);
            for _ in 0..2 {
                let encoded = words.encode(&text, max).unwrap();
                prop_assert_eq!(&encoded.ids[..], &whole[..whole.len().min(max)]);
                prop_assert_eq!(encoded.is_cut, whole.len() > max);
            }
        }
    }
}
