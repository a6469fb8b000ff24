//! Lengths of the text fields: the statistics of BM25F, and a file of lengths for readers without tantivy.

use std::{io::Write, path::Path};

use bundle::lexical::{ReadOnlyDirectory, TEXT_FIELDS};
use tantivy::{Index, SegmentReader, fieldnorm::FieldNormReader};

use crate::{Result, error::Context, npy};

/// Number of words in a field over all rows, and number of rows whose field is not empty.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct FieldStatistics {
    pub words: u64,
    pub rows: u64,
}

/// Reads the statistics of [`TEXT_FIELDS`] of the index in `dir`, and writes the field norms of all rows to `lengths`: a matrix
/// `[rows, fields]` of u8.
pub fn write(dir: &Path, rows: u64, lengths: &Path) -> Result<[FieldStatistics; TEXT_FIELDS.len()]> {
    let index = Index::open(ReadOnlyDirectory::open(dir)?).with_context(|| format!("opening {}", dir.display()))?;
    let searcher = index.reader()?.searcher();
    let mut statistics = [FieldStatistics::default(); TEXT_FIELDS.len()];
    let mut file = npy::create(lengths, "|u1", &[usize::try_from(rows)?, TEXT_FIELDS.len()])?;
    for segment in searcher.segment_readers() {
        let norms = field_norms(segment, &mut statistics)?;
        for document in 0..segment.max_doc() {
            let ids: [u8; TEXT_FIELDS.len()] = std::array::from_fn(|field| norms[field].fieldnorm_id(document));
            statistics.iter_mut().zip(ids).for_each(|(field, id)| field.rows += u64::from(id > 0));
            file.write_all(&ids)?;
        }
    }
    file.flush()?;
    Ok(statistics)
}

/// Opens the field norms of a segment, and adds the words of its fields to the statistics.
fn field_norms(segment: &SegmentReader, statistics: &mut [FieldStatistics; TEXT_FIELDS.len()]) -> Result<Vec<FieldNormReader>> {
    TEXT_FIELDS
        .iter()
        .zip(statistics)
        .map(|(name, statistics)| {
            let field = segment.schema().get_field(name)?;
            statistics.words += segment.inverted_index(field)?.total_num_tokens();
            Ok(segment.get_fieldnorms_reader(field)?)
        })
        .collect()
}
