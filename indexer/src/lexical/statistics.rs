//! Lengths of the text fields: the statistics of BM25F, and a file of lengths for readers without tantivy.

use std::{io::Write, path::Path};

use bundle::lexical::{GONE, LENGTHS, LEXICAL, ReadOnlyDirectory, TEXT_FIELDS};
use tantivy::{Index, SegmentReader, fieldnorm::FieldNormReader};

use crate::{Result, error::Context, npy};

/// Number of words in a field over all documents, and number of documents whose field is not empty.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct FieldStatistics {
    pub words: u64,
    pub rows: u64,
}

/// Reads the statistics of [`TEXT_FIELDS`] of the index of the bundle in `dir`, and writes the field norms of all rows to `lengths.npy`: a
/// matrix `[rows, fields]` of u8. `document_rows`: the row of each document, or [`GONE`].
pub fn write(dir: &Path, document_rows: &[u32]) -> Result<[FieldStatistics; TEXT_FIELDS.len()]> {
    let lexical = dir.join(LEXICAL);
    let index = Index::open(ReadOnlyDirectory::open(&lexical)?).with_context(|| format!("opening {}", lexical.display()))?;
    let searcher = index.reader()?.searcher();
    let mut statistics = [FieldStatistics::default(); TEXT_FIELDS.len()];
    let mut norms_of_rows = vec![[0; TEXT_FIELDS.len()]; document_rows.iter().filter(|row| **row != GONE).count()];
    let mut rows = document_rows.iter();
    for segment in searcher.segment_readers() {
        let norms = field_norms(segment, &mut statistics)?;
        for (document, &row) in (0..segment.max_doc()).zip(&mut rows) {
            let ids: [u8; TEXT_FIELDS.len()] = std::array::from_fn(|field| norms[field].fieldnorm_id(document));
            statistics.iter_mut().zip(ids).for_each(|(field, id)| field.rows += u64::from(id > 0));
            if row != GONE {
                *norms_of_rows.get_mut(row as usize).with_context(|| format!("row {row} lies beyond the last row"))? = ids;
            }
        }
    }
    let mut file = npy::create(&dir.join(LENGTHS), "|u1", &[norms_of_rows.len(), TEXT_FIELDS.len()])?;
    file.write_all(norms_of_rows.as_flattened())?;
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
