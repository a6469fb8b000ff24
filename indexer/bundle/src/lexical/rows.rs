//! The row of each document of the lexical index.
//!
//! A nightly build keeps the segments of the build before: the documents of an old segment are rows in any order, or no rows any more.

use std::path::Path;

use tantivy::{DocAddress, SegmentReader};

use crate::{Error, Result, error::Context, vectors::Npy};

/// File with the row of each document in a bundle: a vector u32 `[documents]`, segments in order, or [`GONE`]. Not in formats 3 to 5,
/// where documents are rows.
pub const DOCUMENT_ROWS: &str = "document-rows.npy";
/// The document belongs to no row: its function was changed or deleted after the segment was written.
pub const GONE: u32 = u32::MAX;

/// The row of each document, and the document of each row.
#[derive(Debug)]
pub(super) struct DocumentRows {
    /// Number of documents before each segment, and of all.
    starts: Vec<u32>,
    /// None: documents are rows.
    listed: Option<Listed>,
}

#[derive(Debug)]
struct Listed {
    rows: Npy,
    /// By row.
    documents: Vec<u32>,
}

/// The rows of the documents of one segment.
#[derive(Debug, Clone, Copy)]
pub(super) enum SegmentRows<'a> {
    From(u32),
    Listed(&'a [[u8; 4]]),
}

impl SegmentRows<'_> {
    /// The row of a document of the segment; none where it belongs to no row.
    pub fn row(self, document: u32) -> Option<u32> {
        match self {
            Self::From(start) => start.checked_add(document),
            Self::Listed(rows) => rows.get(document as usize).map(|row| u32::from_le_bytes(*row)).filter(|row| *row != GONE),
        }
    }
}

impl DocumentRows {
    /// Documents of formats 3 to 5: checks that the fast field `row` of the segments numbers them.
    pub fn consecutive(dir: &Path, segments: &[SegmentReader]) -> Result<Self> {
        let starts = starts_of(dir, segments)?;
        for (segment, &start) in segments.iter().zip(&starts) {
            let rows = segment.fast_fields().u64("row")?;
            let last = segment.max_doc() - 1;
            if [(0, start), (last, start + last)].iter().any(|&(document, row)| rows.first(document) != Some(u64::from(row))) {
                return Err(Error::damaged(dir, "the rows of a segment are not consecutive"));
            }
        }
        Ok(Self { starts, listed: None })
    }

    /// Reads [`DOCUMENT_ROWS`] in the folder of a bundle.
    pub fn open(dir: &Path, segments: &[SegmentReader]) -> Result<Self> {
        let starts = starts_of(dir, segments)?;
        let path = dir.join(DOCUMENT_ROWS);
        let rows = Npy::open(&path, "<u4", &[starts.last().copied().unwrap_or_default() as usize], 4)?;
        let listed: Vec<u32> = rows.bytes().as_chunks::<4>().0.iter().map(|row| u32::from_le_bytes(*row)).collect();
        let mut documents = vec![GONE; listed.iter().filter(|row| **row != GONE).count()];
        for (document, row) in (0..).zip(listed).filter(|(_, row)| *row != GONE) {
            match documents.get_mut(row as usize) {
                Some(known) if *known == GONE => *known = document,
                _ => return Err(Error::damaged(path, format!("row {row} has two documents, or lies beyond the last row"))),
            }
        }
        Ok(Self { starts, listed: Some(Listed { rows, documents }) })
    }

    /// Number of rows.
    pub fn count(&self) -> usize {
        self.listed.as_ref().map_or(self.starts.last().copied().unwrap_or_default() as usize, |listed| listed.documents.len())
    }

    pub fn of_segment(&self, segment: usize) -> SegmentRows<'_> {
        let (start, end) = (self.starts[segment], self.starts[segment + 1]);
        match &self.listed {
            None => SegmentRows::From(start),
            Some(listed) => SegmentRows::Listed(&listed.rows.bytes().as_chunks().0[start as usize..end as usize]),
        }
    }

    /// The row of a document; none where it belongs to no row.
    pub fn row(&self, address: DocAddress) -> Option<u32> {
        self.of_segment(address.segment_ord as usize).row(address.doc_id)
    }

    /// The document of a row.
    pub fn address(&self, row: u32) -> Result<DocAddress> {
        let document = match &self.listed {
            None => Some(row).filter(|row| (*row as usize) < self.count()),
            Some(listed) => listed.documents.get(row as usize).copied(),
        };
        let document = document.with_context(|| format!("row {row} is not in the lexical index"))?;
        let segment = self.starts.partition_point(|&start| start <= document) - 1;
        Ok(DocAddress::new(u32::try_from(segment)?, document - self.starts[segment]))
    }
}

/// Number of documents before each segment, and of all.
fn starts_of(dir: &Path, segments: &[SegmentReader]) -> Result<Vec<u32>> {
    let mut starts = vec![0u32];
    for segment in segments {
        if segment.max_doc() == 0 {
            return Err(Error::damaged(dir, "a segment is empty"));
        }
        let next = starts[starts.len() - 1].checked_add(segment.max_doc()).filter(|end| *end < GONE);
        starts.push(next.ok_or_else(|| Error::damaged(dir, "it holds too many documents"))?);
    }
    Ok(starts)
}
