//! The lexical side: a tantivy index whose text fields hold words joined by spaces.
//!
//! Words are cut at build time (`ledger::words`), so the fields use a built-in tokenizer of tantivy's (`whitespace`, or
//! `en_stem`, which makes `parsing` and `parsed` one word) and `tantivy-py` queries them without any of our code.
//!
//! Bytes: tantivy names segments at random and orders documents by thread. Here every segment is
//! written by its own single-threaded writer over a fixed range of rows, then renamed after its
//! content and listed in `meta.json` in row order: equal inputs give equal bytes on any thread count.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail, ensure};
use ledger::words;
use serde::{Deserialize, Serialize};
use tantivy::{
    DocAddress, Index, IndexReader, ReloadPolicy, TantivyDocument, Term,
    collector::TopDocs,
    directory::MmapDirectory,
    indexer::SingleSegmentIndexWriter,
    query::{BooleanQuery, BoostQuery, ConstScoreQuery, Occur, Query, TermQuery},
    schema::{FAST, Field, INDEXED, IndexRecordOption, STORED, STRING, Schema, TextFieldIndexing, TextOptions, Value},
    tokenizer::TextAnalyzer,
};

use crate::fusion::Scored;

/// Text fields, in the order of [`Boosts`].
pub const TEXT_FIELDS: [&str; 3] = ["name", "code", "documentation"];
/// Kept in the document store, for showing a hit.
const STORED_FIELDS: [&str; 8] = ["id", "repo", "path", "func_name", "url", "lines", "summary", "source"];

/// Weight of each text field's BM25 score.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Boosts {
    pub name: f64,
    pub code: f64,
    pub documentation: f64,
}

impl Boosts {
    pub fn list(self) -> [f64; 3] {
        [self.name, self.code, self.documentation]
    }
}

/// A function as the lexical index knows it.
#[derive(Debug, Default, Clone)]
pub struct Document {
    pub row: u64,
    pub language: String,
    pub split: String,
    /// In the order of `STORED_FIELDS`.
    pub stored: [String; 8],
    /// Words of [`TEXT_FIELDS`].
    pub words: [String; 3],
}

/// Narrows a search; an empty filter is none.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Filter {
    pub language: Option<String>,
    pub split: Option<String>,
}

/// The built-in tokenizer of the text fields.
pub fn tokenizer(stemming: bool) -> &'static str {
    if stemming { "en_stem" } else { "whitespace" }
}

fn schema(tokenizer: &str) -> Schema {
    let mut builder = Schema::builder();
    builder.add_u64_field("row", FAST | INDEXED | STORED);
    builder.add_text_field("language", STRING | STORED);
    builder.add_text_field("split", STRING);
    for name in STORED_FIELDS {
        if name == "id" {
            builder.add_text_field(name, STRING | STORED);
        } else {
            builder.add_text_field(name, STORED);
        }
    }
    let indexing = TextFieldIndexing::default().set_tokenizer(tokenizer).set_index_option(IndexRecordOption::WithFreqs);
    for name in TEXT_FIELDS {
        builder.add_text_field(name, TextOptions::default().set_indexing_options(indexing.clone()));
    }
    builder.build()
}

/// Writes one segment into a folder of its own.
pub struct SegmentWriter {
    writer: SingleSegmentIndexWriter,
    schema: Schema,
    hasher: Vec<String>,
}

impl SegmentWriter {
    pub fn create(dir: &Path, tokenizer: &str, memory: usize) -> Result<Self> {
        fs::create_dir_all(dir)?;
        let schema = schema(tokenizer);
        let builder = Index::builder().schema(schema.clone());
        let writer = builder.single_segment_index_writer(MmapDirectory::open(dir)?, memory)?;
        Ok(Self { writer, schema, hasher: Vec::new() })
    }

    pub fn write(&mut self, document: Document) -> Result<()> {
        let field = |name: &str| self.schema.get_field(name);
        let mut row = TantivyDocument::default();
        row.add_u64(field("row")?, document.row);
        row.add_text(field("language")?, &document.language);
        row.add_text(field("split")?, &document.split);
        self.hasher.push(document.stored[0].clone());
        for (name, text) in STORED_FIELDS.iter().zip(&document.stored) {
            row.add_text(field(name)?, text);
        }
        for (name, words) in TEXT_FIELDS.iter().zip(&document.words) {
            row.add_text(field(name)?, words);
        }
        self.writer.add_document(row)?;
        Ok(())
    }

    /// Returns the name that the segment shall have: a digest of the ids of its rows.
    pub fn finish(self) -> Result<uuid::Uuid> {
        let digest = ledger::Digest::of(&self.hasher)?.to_string();
        self.writer.finalize()?;
        uuid::Uuid::parse_str(&digest[..32]).context("a digest is hex")
    }
}

/// Puts segments that were written apart into one index.
pub fn assemble(segments: &[(PathBuf, uuid::Uuid)], target: &Path) -> Result<()> {
    fs::create_dir_all(target)?;
    let mut meta: Option<serde_json::Value> = None;
    let (mut listed, mut managed) = (Vec::new(), vec!["meta.json".to_owned()]);
    for (dir, name) in segments {
        let own: serde_json::Value = serde_json::from_slice(&fs::read(dir.join("meta.json"))?)?;
        let mut segment = own["segments"][0].clone();
        let old = segment["segment_id"].as_str().context("tantivy's meta.json names its segment")?.replace('-', "");
        segment["segment_id"] = name.to_string().into();
        listed.push(segment);
        for entry in fs::read_dir(dir)? {
            let entry = entry?;
            let file = entry.file_name().to_string_lossy().into_owned();
            if let Some(rest) = file.strip_prefix(&old) {
                let renamed = format!("{}{rest}", name.simple());
                fs::rename(entry.path(), target.join(&renamed))?;
                managed.push(renamed);
            }
        }
        meta.get_or_insert(own);
    }
    let mut meta = meta.context("no segments")?;
    meta["segments"] = listed.into();
    meta["opstamp"] = 0.into();
    managed.sort();
    fs::write(target.join("meta.json"), serde_json::to_vec_pretty(&meta)?)?;
    fs::write(target.join(".managed.json"), serde_json::to_vec(&managed)?)?;
    Ok(())
}

/// An open lexical index.
pub struct Lexical {
    reader: IndexReader,
    schema: Schema,
    text_fields: [Field; 3],
    boosts: Boosts,
    analyzer: TextAnalyzer,
}

impl Lexical {
    pub fn open(dir: &Path, boosts: Boosts) -> Result<Self> {
        let index = Index::open_in_dir(dir).with_context(|| format!("opening {}", dir.display()))?;
        let schema = index.schema();
        let mut text_fields = Vec::new();
        for name in TEXT_FIELDS {
            text_fields.push(schema.get_field(name)?);
        }
        let Ok(text_fields) = <[Field; 3]>::try_from(text_fields) else { bail!("{} lacks text fields", dir.display()) };
        let analyzer = index.tokenizer_for_field(text_fields[0])?;
        let reader = index.reader_builder().reload_policy(ReloadPolicy::Manual).try_into()?;
        Ok(Self { reader, schema, text_fields, boosts, analyzer })
    }

    pub fn rows(&self) -> u64 {
        self.reader.searcher().num_docs()
    }

    /// The distinct terms of a text, as the fields hold them.
    fn terms(&self, text: &str) -> Vec<String> {
        let mut analyzer = self.analyzer.clone();
        let mut terms = Vec::new();
        analyzer.token_stream(&words::joined(text)).process(&mut |token| terms.push(token.text.clone()));
        terms.sort();
        terms.dedup();
        terms
    }

    /// BM25 (k1 1.2, b 0.75) summed over the distinct words of the query and the fields, each field
    /// by its boost; a boost of 0 leaves a field out. Best first, equal scores by row.
    pub fn search(&self, text: &str, filter: &Filter, boosts: Option<Boosts>, limit: usize) -> Result<Vec<(Scored, DocAddress)>> {
        let words = self.terms(text);
        if words.is_empty() || limit == 0 {
            return Ok(Vec::new());
        }
        let mut should: Vec<(Occur, Box<dyn Query>)> = Vec::new();
        for (field, boost) in self.text_fields.iter().zip(boosts.unwrap_or(self.boosts).list()) {
            if boost > 0.0 {
                for word in &words {
                    let term = TermQuery::new(Term::from_field_text(*field, word), IndexRecordOption::WithFreqs);
                    should.push((Occur::Should, Box::new(BoostQuery::new(Box::new(term), boost as f32))));
                }
            }
        }
        let mut clauses: Vec<(Occur, Box<dyn Query>)> = vec![(Occur::Must, Box::new(BooleanQuery::new(should)))];
        for (name, value) in [("language", &filter.language), ("split", &filter.split)] {
            if let Some(value) = value {
                let term = TermQuery::new(Term::from_field_text(self.schema.get_field(name)?, value), IndexRecordOption::Basic);
                clauses.push((Occur::Must, Box::new(ConstScoreQuery::new(Box::new(term), 0.0))));
            }
        }
        let searcher = self.reader.searcher();
        let found = searcher.search(&BooleanQuery::new(clauses), &TopDocs::with_limit(limit).order_by_score())?;
        let mut rows = Vec::with_capacity(found.len());
        let columns =
            searcher.segment_readers().iter().map(|segment| segment.fast_fields().u64("row")).collect::<tantivy::Result<Vec<_>>>()?;
        for (score, address) in found {
            let row = columns[address.segment_ord as usize].first(address.doc_id).context("a document without row")?;
            rows.push(((u32::try_from(row)?, score), address));
        }
        rows.sort_by(|a, b| crate::vectors::best_first(&a.0, &b.0));
        Ok(rows)
    }

    /// The stored document of a row.
    pub fn document(&self, row: u32) -> Result<Document> {
        let searcher = self.reader.searcher();
        let term = TermQuery::new(Term::from_field_u64(self.schema.get_field("row")?, u64::from(row)), IndexRecordOption::Basic);
        let found = searcher.search(&term, &TopDocs::with_limit(1).order_by_score())?;
        let (_, address) = found.first().with_context(|| format!("row {row} is not in the index"))?;
        let stored: TantivyDocument = searcher.doc(*address)?;
        let text = |name: &str| -> Result<String> {
            Ok(stored.get_first(self.schema.get_field(name)?).and_then(|value| value.as_str()).unwrap_or_default().to_owned())
        };
        let mut document = Document { row: u64::from(row), language: text("language")?, ..Document::default() };
        for (slot, name) in document.stored.iter_mut().zip(STORED_FIELDS) {
            *slot = text(name)?;
        }
        Ok(document)
    }
}

/// Refuses an index that does not hold what was written.
pub fn check(dir: &Path, boosts: Boosts, rows: u64) -> Result<()> {
    let found = Lexical::open(dir, boosts)?.rows();
    ensure!(found == rows, "the lexical index holds {found} rows of {rows}");
    Ok(())
}
