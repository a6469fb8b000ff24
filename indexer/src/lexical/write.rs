//! Segments, and one index of them.

use std::{
    fs,
    path::{Path, PathBuf},
};

use bundle::lexical::{ANY_FIELD, Document, Lexical, LexicalSettings, STORED_FIELDS, SYMBOL_FIELD, TEXT_FIELDS, schema};
use ledger::{Digest, ensure};
use tantivy::{
    Index, TantivyDocument, directory::MmapDirectory, indexer::SingleSegmentIndexWriter, schema::Schema, tokenizer::TokenizerManager,
};
use uuid::Uuid;

use super::stems;
use crate::{Result, error::Context};

/// Writes one segment into a folder of its own.
pub struct SegmentWriter {
    writer: SingleSegmentIndexWriter,
    schema: Schema,
    ids: Vec<String>,
}

impl SegmentWriter {
    /// Creates the folder; `memory` is the writer's buffer in bytes.
    pub fn create(dir: &Path, tokenizer: &str, memory: usize) -> Result<Self> {
        fs::create_dir_all(dir)?;
        let schema = schema(tokenizer);
        let tokenizers = TokenizerManager::default();
        tokenizers.register("en_stem", stems::analyzer());
        let builder = Index::builder().schema(schema.clone()).tokenizers(tokenizers);
        let writer = builder.single_segment_index_writer(MmapDirectory::open(dir).map_err(tantivy::TantivyError::from)?, memory)?;
        Ok(Self { writer, schema, ids: Vec::new() })
    }

    /// Adds a document.
    pub fn write(&mut self, document: &Document) -> Result<()> {
        self.ids.push(document.stored[0].clone());
        self.writer.add_document(tantivy_document(&self.schema, document)?)?;
        Ok(())
    }

    /// Writes the segment and returns its name: a digest of the ids of its rows.
    pub fn finish(self) -> Result<Uuid> {
        let digest = Digest::of(&self.ids)?.to_string();
        self.writer.finalize()?;
        Ok(Uuid::from_u128(u128::from_str_radix(&digest[..32], 16)?))
    }
}

/// A document in tantivy's form.
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
        // One value a field, so that no phrase crosses two fields.
        row.add_text(field(ANY_FIELD)?, words);
    }
    for symbol in &document.symbols {
        row.add_text(field(SYMBOL_FIELD)?, symbol);
    }
    Ok(row)
}

/// Moves segments (folder and name) into one index in the folder `target`.
pub fn assemble(segments: &[(PathBuf, Uuid)], target: &Path) -> Result<()> {
    fs::create_dir_all(target)?;
    let mut meta: Option<serde_json::Value> = None;
    let (mut listed, mut managed) = (Vec::new(), vec!["meta.json".to_owned()]);
    for (dir, name) in segments {
        let own: serde_json::Value = serde_json::from_slice(&fs::read(dir.join("meta.json"))?)?;
        let mut segment = own["segments"][0].clone();
        let old = segment["segment_id"].as_str().with_context(|| format!("{}/meta.json names no segment", dir.display()))?.replace('-', "");
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
    let mut meta = meta.context("there are no functions to index: run `codenets files` to see what harvest reads")?;
    meta["segments"] = listed.into();
    meta["opstamp"] = 0.into();
    managed.sort();
    fs::write(target.join("meta.json"), serde_json::to_vec_pretty(&meta)?)?;
    fs::write(target.join(".managed.json"), serde_json::to_vec(&managed)?)?;
    Ok(())
}

/// Opens an index, and checks that it holds `rows` rows.
pub fn open_checked(dir: &Path, settings: LexicalSettings, rows: u64) -> Result<Lexical> {
    let lexical = Lexical::open(dir, settings)?;
    ensure!(lexical.rows() == rows, "the lexical index holds {} rows of {rows}", lexical.rows());
    Ok(lexical)
}
