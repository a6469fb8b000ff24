//! Writing: segments apart, then one index of them. Equal inputs give equal bytes on any thread count (the module above says how).

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, ensure};
use tantivy::{Index, TantivyDocument, directory::MmapDirectory, indexer::SingleSegmentIndexWriter, schema::Schema};

use super::{Document, Lexical, STORED_FIELDS, Settings, TEXT_FIELDS, schema};

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

    pub fn write(&mut self, document: &Document) -> Result<()> {
        self.hasher.push(document.stored[0].clone());
        self.writer.add_document(tantivy_document(&self.schema, document)?)?;
        Ok(())
    }

    /// Returns the name that the segment shall have: a digest of the ids of its rows.
    pub fn finish(self) -> Result<uuid::Uuid> {
        let digest = ledger::Digest::of(&self.hasher)?.to_string();
        self.writer.finalize()?;
        uuid::Uuid::parse_str(&digest[..32]).context("a digest is hex")
    }
}

/// A document as tantivy takes it.
pub fn tantivy_document(schema: &Schema, document: &Document) -> Result<TantivyDocument> {
    let field = |name: &str| schema.get_field(name);
    let mut row = TantivyDocument::default();
    row.add_u64(field("row")?, document.row);
    row.add_text(field("language")?, &document.language);
    row.add_text(field("split")?, &document.split);
    for (name, text) in STORED_FIELDS.iter().zip(&document.stored) {
        row.add_text(field(name)?, text);
    }
    for (name, words) in TEXT_FIELDS.iter().zip(&document.words) {
        row.add_text(field(name)?, words);
    }
    Ok(row)
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
    let mut meta = meta.context("there are no functions to index")?;
    meta["segments"] = listed.into();
    meta["opstamp"] = 0.into();
    managed.sort();
    fs::write(target.join("meta.json"), serde_json::to_vec_pretty(&meta)?)?;
    fs::write(target.join(".managed.json"), serde_json::to_vec(&managed)?)?;
    Ok(())
}

/// Refuses an index that does not hold what was written.
pub fn check(dir: &Path, settings: Settings, rows: u64) -> Result<()> {
    let found = Lexical::open(dir, settings)?.rows();
    ensure!(found == rows, "the lexical index holds {found} rows of {rows}");
    Ok(())
}
