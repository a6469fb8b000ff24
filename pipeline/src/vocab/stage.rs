//! The stage `vocab`.

use std::{collections::HashSet, fs, path::Path};

use ledger::{Artifact, Bar, CodeText, Digest, Language, Report, Rows, Run, Shard, Split, Stage, Syntax, Vocabulary, ensure, table};
use serde::{Deserialize, Serialize};
use tokenizers::Tokenizer;

use super::{config::Config, train::train};
use crate::error::{Context, Error, Result};

/// Tokens of every vocabulary, with the ids 0, 1, 2, 3.
pub const SPECIALS: [&str; 4] = ["<pad>", "<unk>", "<qy>", "<lg>"];
/// Ends the words of an identifier in [`CodeText::Subtokens`].
const END_OF_IDENTIFIER: &str = "</id>";
/// Largest file of `vocab.from`, in bytes.
const MAX_BYTES: u64 = 256 << 20;

/// Trains or copies a tokenizer.
#[derive(Debug)]
pub struct Vocab;

/// Size of the training text and of the vocabulary.
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
    const REVISION: u32 = 3;
    type Config = Config;
    type Inputs = Artifact<Syntax>;
    type Output = Vocabulary;
    type Report = VocabReport;
    type Error = Error;

    fn external_inputs(config: &Config) -> Result<Vec<(String, Digest)>> {
        let Some(path) = &config.from else { return Ok(Vec::new()) };
        let digest = Digest::of_file(path).with_context(|| format!("reading vocab.from {}", path.display()))?;
        Ok(vec![("vocab.from".to_owned(), digest)])
    }

    fn run(config: &Config, input: &Self::Inputs, run: &Run<'_>) -> Result<VocabReport> {
        let target = run.out.join("tokenizer.json");
        if let Some(path) = &config.from {
            return copy_tokenizer(path, &target);
        }
        let syntax = input.open()?;
        let shards = syntax.shards.of(Split::Train);
        ensure!(!shards.is_empty(), "no training rows to learn a vocabulary from: add repositories to harvest.sources");
        let mut rows = 0;
        for shard in &shards {
            rows += table::row_count(&shard.path)?;
        }
        let bar = run.progress.bar("vocab", rows, "rows");
        let mut text = TrainingText::default();
        let budget = config.max_megabytes * 1_000_000 / shards.len();
        for shard in shards {
            text.read(shard, config, budget, &bar)?;
        }
        let specials = specials(config, syntax.ast_specials.iter());
        ensure!(config.size <= MAX_SIZE, "vocab.size is {}, the limit is {MAX_SIZE}: encoders use some ten thousand tokens", config.size);
        let tokens = train(config, &specials, &text.texts, &target)?;
        bar.finish();
        Ok(VocabReport { rows: text.rows, bytes: text.bytes as u64, tokens })
    }
}

/// Largest vocabulary.
const MAX_SIZE: usize = 1_000_000;

/// Text that the vocabulary is trained on.
#[derive(Default)]
struct TrainingText {
    texts: Vec<String>,
    bytes: usize,
    rows: u64,
}

impl TrainingText {
    /// Reads rows of a shard until their text has more than `budget` bytes.
    fn read(&mut self, shard: &Shard, config: &Config, budget: usize, bar: &Bar) -> Result<()> {
        let before = self.bytes;
        let token_column = config.learn_from.token_column();
        for batch in table::read_unique(&shard.path, &["name_words", "code_words", "query_words", token_column])? {
            let batch = batch?;
            let (names, codes) = (table::texts(&batch, "name_words")?, table::texts(&batch, "code_words")?);
            let queries = table::texts(&batch, "query_words")?;
            let tokens = table::text_lists(&batch, token_column)?;
            for row in 0..batch.num_rows() {
                let code = config.learn_from.of_row(names.value(row), "", codes.value(row), tokens.row(row));
                self.bytes += code.len() + queries.value(row).len();
                self.texts.push(code);
                self.texts.push(queries.value(row).to_owned());
                self.rows += 1;
                bar.add(1);
                if self.bytes - before > budget {
                    return Ok(());
                }
            }
        }
        Ok(())
    }
}

/// The special tokens in the order of their ids.
fn specials<'a>(config: &Config, ast_specials: impl Iterator<Item = &'a String>) -> Vec<String> {
    let mut specials: Vec<String> = SPECIALS.map(str::to_owned).into();
    specials.extend(Language::ALL.map(Language::tag));
    if config.code_text == CodeText::Ast {
        specials.extend(ast_specials.filter(|token| !token.is_empty()).cloned());
    }
    if config.code_text == CodeText::Subtokens {
        specials.push(END_OF_IDENTIFIER.to_owned());
    }
    let mut seen = HashSet::new();
    specials.retain(|token| seen.insert(token.clone()));
    specials
}

/// Copies a tokenizer without its truncation and padding: `tokenize` and `embed` truncate and pad themselves.
fn copy_tokenizer(from: &Path, to: &Path) -> Result<VocabReport> {
    let context = || format!("vocab.from {} is not a tokenizer: name a tokenizer.json", from.display());
    let bytes = fs::metadata(from).with_context(context)?.len();
    ensure!(bytes <= MAX_BYTES, "vocab.from {} has {bytes} bytes: at most {MAX_BYTES} are read", from.display());
    let mut tokenizer = Tokenizer::from_file(from).with_context(context)?;
    if tokenizer.get_padding().is_none() && tokenizer.get_truncation().is_none() {
        // Pretrained weights belong to these exact bytes.
        fs::copy(from, to).with_context(|| format!("copying {}", from.display()))?;
    } else {
        tokenizer.with_padding(None).with_truncation(None)?;
        tokenizer.save(to, false).with_context(|| format!("writing {}", to.display()))?;
    }
    let tokens = tokenizer.get_vocab_size(true) as u64;
    ensure!(tokens > 0, "vocab.from {} has no tokens: name another tokenizer.json", from.display());
    Ok(VocabReport { rows: 0, bytes, tokens })
}
