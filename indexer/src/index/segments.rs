//! The segments of the lexical index: written from rows, or kept from an earlier build.

use std::{fs, path::Path};

use bundle::lexical::{LEXICAL, tokenizer};
use ledger::Shard;
use rayon::prelude::*;

use super::{documents::documents, plan::Plan};
use crate::{
    Result,
    lexical::{self, Segment, SegmentWriter},
};

/// Size of the segments and tokenizer of the index.
#[derive(Debug, Clone, Copy)]
pub struct SegmentOptions {
    /// Rows in a segment; segments are built in parallel.
    pub rows: u64,
    /// Buffer of each segment's writer, in megabytes.
    pub megabytes: usize,
    /// Do words of one stem match each other?
    pub stemming: bool,
}

/// Writes the lexical index of a bundle into the folder `dir`, by way of the folder `scratch`; calls `done` for each row that is written.
/// Returns the number of segments.
pub fn write(
    options: &SegmentOptions,
    shards: &[&Shard],
    plan: &Plan,
    (dir, scratch): (&Path, &Path),
    done: impl Fn() + Sync,
) -> Result<u64> {
    let rows_of_segment = usize::try_from(options.rows)?;
    let written = plan.new_rows.par_chunks(rows_of_segment).enumerate().map(|(number, rows)| {
        let folder = scratch.join(number.to_string());
        let mut writer = SegmentWriter::create(&folder, tokenizer(options.stemming), options.megabytes * 1_000_000)?;
        documents(shards, rows, |document| {
            done();
            writer.write(&document)
        })?;
        writer.finish()
    });
    let written = written.collect::<Result<Vec<_>>>()?;
    let kept = plan.kept.iter().map(|segment| Segment { dir: plan.earlier.clone(), name: segment.name, is_kept: true });
    let segments: Vec<Segment> = kept.chain(written).collect();
    lexical::assemble(&segments, &dir.join(LEXICAL))?;
    lexical::write_document_rows(&plan.document_rows(), dir)?;
    if scratch.exists() {
        fs::remove_dir_all(scratch)?;
    }
    Ok(segments.len() as u64)
}
