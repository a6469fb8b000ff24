//! Segments, and one index of them.

use std::{
    fs,
    io::Write,
    path::{Path, PathBuf},
};

use bundle::lexical::{ANY_FIELD, DOCUMENT_ROWS, Document, Lexical, LexicalSettings, STORED_FIELDS, SYMBOL_FIELD, TEXT_FIELDS, schema};
use ledger::{Digest, Hasher, ensure};
use tantivy::{
    Index, TantivyDocument, directory::MmapDirectory, indexer::SingleSegmentIndexWriter, schema::Schema, tokenizer::TokenizerManager,
};
use uuid::Uuid;

use super::stems;
use crate::{Result, error::Context, npy};

/// Writes one segment into a folder of its own.
pub struct SegmentWriter {
    dir: PathBuf,
    writer: SingleSegmentIndexWriter,
    schema: Schema,
    contents: Hasher,
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
        Ok(Self { dir: dir.to_owned(), writer, schema, contents: Digest::hasher() })
    }

    /// Adds a document.
    pub fn write(&mut self, document: &Document) -> Result<()> {
        let texts = [&document.language, &document.split].into_iter().chain(&document.stored).chain(&document.words);
        for text in texts {
            self.contents.update(&(text.len() as u64).to_le_bytes());
            self.contents.update(text.as_bytes());
        }
        self.writer.add_document(tantivy_document(&self.schema, document)?)?;
        Ok(())
    }

    /// Writes the segment. Its name is a digest of its documents.
    pub fn finish(self) -> Result<Segment> {
        self.writer.finalize()?;
        Ok(Segment { dir: self.dir, name: Uuid::from_bytes(self.contents.digest().half()), is_kept: false })
    }
}

/// A segment of an index that is put together.
#[derive(Debug, Clone)]
pub struct Segment {
    /// Folder with its files and `meta.json`.
    pub dir: PathBuf,
    pub name: Uuid,
    /// Are the files those of a segment that stays where it is? Else they are moved, and get their name.
    pub is_kept: bool,
}

/// A document in tantivy's form.
pub fn tantivy_document(schema: &Schema, document: &Document) -> Result<TantivyDocument> {
    let field = |name: &str| schema.get_field(name);
    let mut row = TantivyDocument::default();
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

/// Puts segments together as one index in the folder `target`. Files of kept segments are hard links.
pub fn assemble(segments: &[Segment], target: &Path) -> Result<()> {
    fs::create_dir_all(target)?;
    let mut meta: Option<serde_json::Value> = None;
    let (mut listed, mut managed) = (Vec::new(), vec!["meta.json".to_owned()]);
    for Segment { dir, name, is_kept } in segments {
        let own = meta_of(dir)?;
        let entries = own["segments"].as_array().into_iter().flatten();
        let mut entry = entries.into_iter().filter(|entry| !is_kept || name_of(entry) == Some(*name));
        let mut entry = entry.next().cloned().with_context(|| format!("{}/meta.json does not name the segment {name}", dir.display()))?;
        let old = name_of(&entry).with_context(|| format!("{}/meta.json names no segment", dir.display()))?;
        entry["segment_id"] = name.to_string().into();
        listed.push(entry);
        for file in files_of(dir, old)? {
            let rest = file.extension().unwrap_or_default().to_string_lossy();
            let renamed = format!("{}.{rest}", name.simple());
            let to = target.join(&renamed);
            if !is_kept {
                fs::rename(&file, to)?;
            } else if fs::hard_link(&file, &to).is_err() {
                fs::copy(&file, to)?;
            }
            managed.push(renamed);
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

/// The files of a segment, in the folder of its index.
pub fn files_of(dir: &Path, segment: Uuid) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        if path.file_stem() == Some(segment.simple().to_string().as_ref()) {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

/// Name and number of documents of a segment.
#[derive(Debug, Clone, Copy)]
pub struct SegmentInfo {
    pub name: Uuid,
    pub documents: u32,
}

/// The segments of an index, in order.
pub fn segments_of(dir: &Path) -> Result<Vec<SegmentInfo>> {
    let meta = meta_of(dir)?;
    let info = |entry: &serde_json::Value| -> Option<SegmentInfo> {
        Some(SegmentInfo { name: name_of(entry)?, documents: entry["max_doc"].as_u64()?.try_into().ok()? })
    };
    let segments = meta["segments"].as_array().and_then(|entries| entries.iter().map(info).collect());
    segments.with_context(|| format!("{}/meta.json is damaged", dir.display()))
}

fn meta_of(dir: &Path) -> Result<serde_json::Value> {
    Ok(serde_json::from_slice(&fs::read(dir.join("meta.json")).with_context(|| format!("reading {}/meta.json", dir.display()))?)?)
}

fn name_of(entry: &serde_json::Value) -> Option<Uuid> {
    entry["segment_id"].as_str()?.parse().ok()
}

/// Program and version that write the index.
pub fn engine() -> String {
    format!("tantivy {}", tantivy::version_string())
}

/// Writes the row of each document, or [`GONE`](bundle::lexical::GONE), into the folder of a bundle.
pub fn write_document_rows(rows: &[u32], bundle: &Path) -> Result<()> {
    let mut file = npy::create(&bundle.join(DOCUMENT_ROWS), "<u4", &[rows.len()])?;
    rows.iter().try_for_each(|row| file.write_all(&row.to_le_bytes()))?;
    Ok(file.flush()?)
}

/// Opens the index of a bundle, and checks that it holds `rows` rows.
pub fn open_checked(bundle: &Path, settings: LexicalSettings, rows: u64) -> Result<Lexical> {
    let lexical = Lexical::open(bundle, settings)?;
    ensure!(lexical.rows() == rows, "the lexical index holds {} rows of {rows}", lexical.rows());
    Ok(lexical)
}
