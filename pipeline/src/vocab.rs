//! `vocab`: a byte-level BPE vocabulary, everything in one `tokenizer.json`.
//!
//! Trained on the words of the training split's code and documentation. Special tokens: `<pad>`,
//! `<unk>`, `<qy>` (a query follows), `<lg>` (code follows), one tag a language, and those of the
//! linearised trees when these are what is encoded.

use anyhow::{Context, Result, anyhow, ensure};
use ledger::{Artifact, CodeText, Language, Report, Rows, Run, Split, Stage, Syntax, Vocabulary, table};
use serde::{Deserialize, Serialize};
use tokenizers::{
    AddedToken, DecoderWrapper, ModelWrapper, NormalizerWrapper, PostProcessorWrapper, PreTokenizerWrapper, TokenizerBuilder,
    models::{
        TrainerWrapper,
        bpe::{BPE, BpeTrainerBuilder},
    },
    normalizers::Lowercase,
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
    pub size: usize,
    pub min_frequency: u64,
    /// Which text of a function is learnt; `tokenize` and `embed` use the same.
    pub code_text: CodeText,
    /// Text that is learnt from, at most: rows are taken evenly over the shards.
    pub max_megabytes: usize,
}

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
    const REVISION: u32 = 1;
    type Config = Config;
    type Inputs = Artifact<Syntax>;
    type Output = Vocabulary;
    type Report = VocabReport;

    fn run(config: &Config, input: &Self::Inputs, run: &Run<'_>) -> Result<VocabReport> {
        let syntax = input.open()?;
        let shards = syntax.shards.of(Split::Train);
        ensure!(!shards.is_empty(), "no training rows to learn a vocabulary from");
        let rows: u64 = shards.iter().map(|shard| table::row_count(&shard.path)).sum::<Result<u64>>()?;
        let bar = run.progress.bar("vocab", rows, "rows");
        let budget = config.max_megabytes * 1_000_000 / shards.len();
        let (mut texts, mut bytes, mut read) = (Vec::new(), 0usize, 0u64);
        for shard in shards {
            let before = bytes;
            let listed = config.code_text.token_column();
            let columns = ["name_words", "code_words", "query_words", listed];
            'shard: for batch in table::read(&shard.path, &columns)? {
                let batch = batch?;
                let (names, codes, queries) =
                    (table::texts(&batch, "name_words")?, table::texts(&batch, "code_words")?, table::texts(&batch, "query_words")?);
                let tokens = table::text_lists(&batch, listed)?;
                for row in 0..batch.num_rows() {
                    let code = config.code_text.of_row(names.value(row), codes.value(row), tokens.row(row));
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
        let mut seen = std::collections::HashSet::new();
        specials.retain(|token| seen.insert(token.clone()));
        ensure!(config.size > specials.len() + 256, "vocab.size must exceed {} (special tokens and bytes)", specials.len() + 256);
        let tokens = train(config, &specials, &texts, &run.out.join("tokenizer.json"))?;
        bar.finish();
        Ok(VocabReport { rows: read, bytes: bytes as u64, tokens })
    }
}

fn train(config: &Config, specials: &[String], texts: &[String], path: &std::path::Path) -> Result<u64> {
    let error = |error: tokenizers::Error| anyhow!("{error}");
    let mut tokenizer =
        TokenizerBuilder::<ModelWrapper, NormalizerWrapper, PreTokenizerWrapper, PostProcessorWrapper, DecoderWrapper>::new()
            .with_model(BPE::default().into())
            .with_normalizer(Some(Lowercase.into()))
            .with_pre_tokenizer(Some(Sequence::new(vec![WhitespaceSplit.into(), ByteLevel::new(true, false, false).into()]).into()))
            .with_decoder(Some(ByteLevel::default().into()))
            .build()
            .map_err(error)?;
    let mut trainer: TrainerWrapper = BpeTrainerBuilder::new()
        .vocab_size(config.size)
        .min_frequency(config.min_frequency)
        .show_progress(false)
        .special_tokens(specials.iter().map(|token| AddedToken::from(token.clone(), true)).collect())
        .initial_alphabet(ByteLevel::alphabet().into_iter().collect())
        .build()
        .into();
    tokenizer.train(&mut trainer, texts.iter().map(String::as_str)).map_err(error).context("training the vocabulary")?;
    tokenizer.save(path, false).map_err(error)?;
    Ok(tokenizer.get_vocab_size(true) as u64)
}
