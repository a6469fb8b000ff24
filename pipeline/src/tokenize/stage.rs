//! The stage `tokenize`.

use std::{path::Path, sync::Arc};

use arrow::{
    array::{ArrayRef, ListBuilder, RecordBatch, UInt32Builder},
    datatypes::{DataType, Field, SchemaRef},
};
use ledger::{
    Artifact, Bar, Run, Shard, Stage, Syntax, Tokens, Vocabulary,
    table::{self, TableWriter, ids_field, text_field},
};
use tokenizers::Tokenizer;

use super::{
    config::Config,
    mask::mask_name,
    report::{TokenizeReport, VocabularyCoverage},
    words::Words,
};
use crate::error::{Context, Error, Result};

/// Columns of `syntax` that are read.
const COLUMNS: [&str; 6] = ["id", "language", "func_name", "name_words", "code_words", "query_words"];

/// Converts words to token ids.
#[derive(Debug)]
pub struct Tokenize;

fn schema() -> SchemaRef {
    table::schema(vec![
        text_field("id", false),
        text_field("language", false),
        ids_field("query"),
        ids_field("code"),
        ids_field("name"),
        ids_field("code_unnamed"),
    ])
}

impl Stage for Tokenize {
    const NAME: &'static str = "tokenize";
    const ABOUT: &'static str = "Convert the words of functions without duplicates to token ids";
    const REVISION: u32 = 3;
    type Config = Config;
    type Inputs = (Artifact<Syntax>, Artifact<Vocabulary>);
    type Output = Tokens;
    type Report = TokenizeReport;
    type Error = Error;

    fn run(config: &Config, (syntax, vocabulary): &Self::Inputs, run: &Run<'_>) -> Result<TokenizeReport> {
        let tokenizer = load(&vocabulary.open()?.tokenizer)?;
        let reports = run.map_shards("tokenize", syntax, &syntax.open()?.shards, |shard, _, target, bar| {
            tokenize_shard(config, &tokenizer, shard, target, bar)
        })?;
        let mut total = TokenizeReport::default();
        reports.into_iter().for_each(|report| total.add(report));
        Ok(total)
    }
}

fn tokenize_shard(config: &Config, tokenizer: &Tokenizer, shard: &Shard, target: &Path, bar: &Bar) -> Result<TokenizeReport> {
    let mut report = TokenizeReport::default();
    let mut writer = TableWriter::create(target, schema())?;
    let mut words = Words::new(tokenizer);
    let columns = [&COLUMNS[..], &[config.code_text.token_column()]].concat();
    for batch in table::read_unique(&shard.path, &columns)? {
        let batch = tokenize_batch(&batch?, &mut words, config, &mut report)?;
        bar.add(batch.num_rows() as u64);
        writer.write(&batch)?;
    }
    writer.finish()?;
    Ok(report)
}

/// Loads a `tokenizer.json`.
pub fn load(path: &Path) -> Result<Tokenizer> {
    Tokenizer::from_file(path).with_context(|| format!("loading {}", path.display()))
}

/// The ids of a batch of `syntax` rows. The result depends on the batch and the configuration only.
pub fn tokenize_batch(batch: &RecordBatch, encoder: &mut Words<'_>, config: &Config, report: &mut TokenizeReport) -> Result<RecordBatch> {
    let text = |name: &str| table::texts(batch, name);
    let (func_names, names, codes, queries) = (text("func_name")?, text("name_words")?, text("code_words")?, text("query_words")?);
    let languages = text("language")?;
    let tokens = table::text_lists(batch, config.code_text.token_column())?;
    let item = || Field::new_list_field(DataType::UInt32, false);
    let mut columns = [(); 4].map(|()| ListBuilder::new(UInt32Builder::new()).with_field(item()));
    for row in 0..batch.num_rows() {
        let query = encoder.encode(queries.value(row), config.query_tokens)?.ids;
        let full = config.code_text.of_row(names.value(row), "", codes.value(row), tokens.row(row));
        let code = encoder.encode(&full, config.code_tokens)?;
        let is_named = func_names.value(row).chars().count() >= config.min_name_chars;
        let (name, unnamed) = if is_named {
            let masked = mask_name(config.code_text, encoder.mask(), func_names.value(row), codes.value(row), &full);
            (encoder.encode(names.value(row), config.query_tokens)?.ids, encoder.encode(&masked, config.code_tokens)?.ids)
        } else {
            (Vec::new(), Vec::new())
        };
        report.rows += 1;
        report.code_tokens.0 += code.ids.len() as u64;
        report.query_tokens.0 += query.len() as u64;
        report.code_truncated += u64::from(code.is_cut);
        report.with_query += u64::from(!query.is_empty());
        let (words, ids, unknown, truncated) = (code.words, code.ids_of_words, code.unknown, u64::from(code.is_cut));
        let coverage = VocabularyCoverage { rows: 1, words, ids, unknown, truncated };
        report.languages.entry(languages.value(row).parse()?).or_default().add(coverage);
        for (builder, ids) in columns.iter_mut().zip([query, code.ids, name, unnamed]) {
            builder.values().append_slice(&ids);
            builder.append(true);
        }
    }
    let mut arrays: Vec<ArrayRef> = ["id", "language"]
        .map(|name| batch.column_by_name(name).cloned().with_context(|| format!("no column `{name}`")))
        .into_iter()
        .collect::<Result<_>>()?;
    arrays.extend(columns.iter_mut().map(|builder| Arc::new(builder.finish()) as ArrayRef));
    Ok(RecordBatch::try_new(schema(), arrays)?)
}
