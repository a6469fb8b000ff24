//! Trains a BPE tokenizer.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
};

use ledger::ensure;
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

use super::config::{Config, Model};
use crate::error::{Context, Result};

/// Marks the last character of a word in a character-level vocabulary.
const END_OF_WORD: &str = "</w>";
/// Characters of a character-level vocabulary.
const MAX_CHARACTERS: usize = 1000;

/// Trains a tokenizer and writes it to `path`. Returns the number of tokens.
pub fn train(config: &Config, specials: &[String], texts: &[String], path: &Path) -> Result<u64> {
    let mut tokenizer: Tokenizer =
        TokenizerBuilder::<ModelWrapper, NormalizerWrapper, PreTokenizerWrapper, PostProcessorWrapper, DecoderWrapper>::new()
            .with_model(model(config.model)?.into())
            .with_normalizer(normalizer(config))
            .with_pre_tokenizer(Some(pre_tokenizer(config.model)))
            .with_decoder(Some(match config.model {
                Model::ByteLevel => ByteLevel::default().into(),
                Model::CharLevel => BPEDecoder::new(END_OF_WORD.to_owned()).into(),
            }))
            .build()?
            .into();
    let characters = match config.model {
        Model::ByteLevel => Characters::default(),
        Model::CharLevel => Characters::of(texts, &tokenizer)?,
    };
    let (alphabet, unit) = match config.model {
        Model::ByteLevel => (256, "bytes"),
        Model::CharLevel => (characters.ends.len() + characters.alphabet.len(), "characters"),
    };
    let least = specials.len() + alphabet + 1;
    ensure!(
        config.size >= least,
        "vocab.size is {}: with {} special tokens and {alphabet} {unit} before the first merge, set it to at least {least}",
        config.size,
        specials.len()
    );
    let special = |token: &String| AddedToken::from(token.clone(), true);
    let builder = BpeTrainerBuilder::new()
        .vocab_size(config.size)
        .min_frequency(config.min_frequency)
        .show_progress(false)
        .special_tokens(specials.iter().chain(&characters.ends).map(special).collect());
    let mut trainer: TrainerWrapper = match config.model {
        Model::ByteLevel => builder.initial_alphabet(ByteLevel::alphabet().into_iter().collect()),
        Model::CharLevel => builder
            .limit_alphabet(characters.alphabet.len())
            .initial_alphabet(characters.alphabet.into_iter().collect())
            .end_of_word_suffix(END_OF_WORD.to_owned()),
    }
    .build()
    .into();
    tokenizer.train(&mut trainer, texts.iter().map(String::as_str)).context("training the vocabulary")?;
    let size = tokenizer.get_vocab_size(true) as u64;
    let mut json: Value = serde_json::from_str(&tokenizer.to_string(false)?)?;
    let added = json["added_tokens"].as_array_mut().context("a tokenizer has added tokens")?;
    added.retain(|token| !characters.ends.iter().any(|end| token["content"] == end.as_str()));
    fs::write(path, serde_json::to_vec(&json)?).with_context(|| format!("writing {}", path.display()))?;
    Ok(size)
}

/// The characters that a character-level vocabulary starts from.
///
/// The library's trainer numbers word-final characters in the order of a hash map, which differs between runs, and breaks ties
/// of merges by these numbers. With the word-final characters as special tokens, the vocabulary is the same in every run.
#[derive(Default)]
struct Characters {
    alphabet: Vec<char>,
    /// Word-final characters.
    ends: Vec<String>,
}

impl Characters {
    fn of(texts: &[String], tokenizer: &Tokenizer) -> Result<Self> {
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
        alphabet.truncate(MAX_CHARACTERS);
        let alphabet: Vec<char> = alphabet.into_iter().map(|(c, _)| c).collect();
        let ends = ends.into_iter().filter(|c| alphabet.contains(c)).map(|c| format!("{c}{END_OF_WORD}")).collect();
        Ok(Self { alphabet, ends })
    }
}

fn model(model: Model) -> Result<BPE> {
    match model {
        Model::ByteLevel => Ok(BPE::default()),
        Model::CharLevel => Ok(BPE::builder().unk_token("<unk>".to_owned()).end_of_word_suffix(END_OF_WORD.to_owned()).build()?),
    }
}

fn normalizer(config: &Config) -> Option<NormalizerWrapper> {
    let mut steps: Vec<NormalizerWrapper> = Vec::new();
    if config.model == Model::CharLevel {
        steps.push(NFKC.into());
    }
    if config.strip_accents {
        // Only decomposed accents are separate characters.
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
    use crate::vocab::SPECIALS;
    use ledger::CodeText;
    use proptest::prelude::*;

    const REAL: &str = include_str!("../functions/comments.rs");
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
        specials.extend(["<function_definition>", "</id>"].map(str::to_owned));
        let texts: Vec<String> = REAL.lines().chain([ACCENTS]).map(str::to_owned).collect();
        let path = dir.join("tokenizer.json");
        train(config, &specials, &texts, &path).unwrap();
        path
    }

    #[test]
    fn both_models_have_the_same_bytes_in_every_run() {
        for model in [Model::ByteLevel, Model::CharLevel] {
            let [a, b] = [(); 2].map(|()| {
                let dir = tempfile::tempdir().unwrap();
                std::fs::read(trained(&config(model, CodeText::Tokens), dir.path())).unwrap()
            });
            assert!(a == b, "{model:?}");
        }
    }

    #[test]
    fn a_vocabulary_is_as_large_as_its_size_or_is_refused_with_the_least_one() {
        let dir = tempfile::tempdir().unwrap();
        let specials = SPECIALS.map(str::to_owned);
        let texts = ["pay the pelican".to_owned(), "über 中文".to_owned()];
        let of = |model, size| {
            let config = Config { size, min_frequency: 1, ..config(model, CodeText::Tokens) };
            train(&config, &specials, &texts, &dir.path().join("tokenizer.json")).map_err(|error| error.to_string())
        };
        let error = of(Model::CharLevel, 10).unwrap_err();
        let least: usize = error.rsplit(' ').next().unwrap().parse().unwrap();
        assert!(error.contains("vocab.size is 10: with 4 special tokens and ") && (20..30).contains(&least), "{error}");
        assert!(of(Model::CharLevel, least).unwrap() <= least as u64);
        assert!(of(Model::CharLevel, least - 1).is_err());
        assert!(of(Model::ByteLevel, 260).unwrap_err().contains("set it to at least 261"));
        assert!(of(Model::ByteLevel, 261).unwrap() <= 261);
    }

    #[test]
    fn the_options_change_the_ids() {
        let dir = tempfile::tempdir().unwrap();
        let encode = |config: &Config, text: &str| {
            let tokenizer = tokenize::load(&trained(config, dir.path())).unwrap();
            tokenizer.encode_fast(text, false).unwrap().get_ids().to_vec()
        };
        let mut config = config(Model::CharLevel, CodeText::Tokens);
        assert_eq!(encode(&config, "\u{c9}COLE"), encode(&config, "ecole"));
        assert_eq!(encode(&config, "\u{4e16}"), [1], "a character that is not in the training text is <unk>");
        assert_eq!(encode(&config, "<function_definition> </id>").len(), 2, "special tokens are one id each");
        config.lowercase = false;
        config.strip_accents = false;
        assert_ne!(encode(&config, "Self"), encode(&config, "self"));
        config.model = Model::ByteLevel;
        assert!(!encode(&config, "\u{4e16}").contains(&1), "no byte is unknown");
        assert_ne!(encode(&config, "\u{e9}"), encode(&config, "e"));
    }

    proptest! {
        /// Cached words give the ids that the tokenizer gives for the whole text.
        #[test]
        fn encoding_word_by_word_equals_encoding_the_whole_text(lines in proptest::collection::vec(0usize..300, 1..6), odd in "\\PC{0,30}", char_level: bool, max in 1usize..400) {
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
