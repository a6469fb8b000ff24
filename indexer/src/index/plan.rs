//! Which documents of an earlier lexical index are kept, and which rows are written anew.
//!
//! A document is kept while the digest of its row is equal. A document whose row was changed or deleted stays in its segment, without a
//! row, until the segment is written anew: [`is_kept`] has the policy.

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
};

use bundle::{
    BundleManifest,
    lexical::{DOCUMENT_ROWS, GONE, LEXICAL, tokenizer},
    manifest::MANIFEST,
};
use ledger::{Artifact, Bundle, Digest, ensure, table::RowDigest};
use uuid::Uuid;

use super::row_digests::RowDigests;
use crate::{
    Result,
    error::Context,
    lexical::{self, SegmentInfo},
    npy,
};

/// Share of the documents of a segment without a row, above which one segment of a build is written anew: the one with the largest share.
const MANY_GONE: f64 = 0.3;
/// Share above which every such segment is written anew.
const MOST_GONE: f64 = 0.5;
/// Number of small segments (with less than a quarter of the rows of a full one) that are kept. Where there are more, all are written anew
/// as one.
const SMALL_SEGMENTS: usize = 8;

/// The lexical index of an earlier build.
#[derive(Debug)]
pub struct Earlier {
    /// Folder of its bundle.
    bundle: PathBuf,
    pub digests: RowDigests,
    segments: Vec<SegmentInfo>,
    /// The row of each document, or [`GONE`].
    document_rows: Vec<u32>,
}

impl Earlier {
    /// Reads the index of a recorded bundle, if this program would write its segments in the same way.
    ///
    /// # Errors
    /// A file is missing or damaged.
    pub fn open(artifact: &Artifact<Bundle>, stemming: bool) -> Result<Option<Self>> {
        let bundle = artifact.open()?.dir;
        for file in [&bundle.join(DOCUMENT_ROWS), &bundle.join(LEXICAL).join("meta.json"), &bundle.join(MANIFEST)] {
            require_intact(artifact, file)?;
        }
        RowDigests::files(artifact.dir()).iter().try_for_each(|file| require_intact(artifact, file))?;
        let manifest = BundleManifest::read(&bundle)?;
        if manifest.lexical.tokenizer != tokenizer(stemming) || manifest.lexical.engine != lexical::engine() {
            return Ok(None);
        }
        let segments = lexical::segments_of(&bundle.join(LEXICAL))?;
        let documents = segments.iter().map(|segment| segment.documents as usize).sum();
        let bytes = npy::read(&bundle.join(DOCUMENT_ROWS), "<u4", &[documents])?;
        let document_rows: Vec<u32> = bytes.as_chunks().0.iter().map(|row| u32::from_le_bytes(*row)).collect();
        let digests = RowDigests::read(artifact.dir())?;
        let is_row = |row: &u32| *row == GONE || (*row as usize) < digests.rows.len();
        ensure!(document_rows.iter().all(is_row), "{} names rows that the bundle does not have", bundle.join(DOCUMENT_ROWS).display());
        Ok(Some(Self { bundle, digests, segments, document_rows }))
    }
}

/// A segment of the earlier index that is kept.
#[derive(Debug, PartialEq, Eq)]
pub struct KeptSegment {
    pub name: Uuid,
    /// The row of each document, or [`GONE`].
    pub rows: Vec<u32>,
}

/// What the lexical index of a build is made of: first the kept segments, then new ones.
#[derive(Debug, Default)]
pub struct Plan {
    /// Folder of the lexical index with the kept segments.
    pub earlier: PathBuf,
    pub kept: Vec<KeptSegment>,
    /// Rows without a document in a kept segment, ascending.
    pub new_rows: Vec<u32>,
}

impl Plan {
    /// Writes every row.
    pub fn all_rows(rows: u32) -> Self {
        Self { new_rows: (0..rows).collect(), ..Self::default() }
    }

    /// Keeps the documents of an earlier index. `segment_rows`: rows of a full segment.
    ///
    /// # Errors
    /// There are too many rows.
    pub fn extending(earlier: &Earlier, digests: &[RowDigest], segment_rows: u64) -> Result<Self> {
        let mut rows: HashMap<&RowDigest, u32> = digests.iter().zip(0..).collect();
        let mut row_now = |row: u32| if row == GONE { GONE } else { rows.remove(&earlier.digests.rows[row as usize]).unwrap_or(GONE) };
        let mut start = 0;
        let mut segments = Vec::new();
        for segment in &earlier.segments {
            let end = start + segment.documents as usize;
            let rows = earlier.document_rows[start..end].iter().map(|row| row_now(*row)).collect();
            segments.push(KeptSegment { name: segment.name, rows });
            start = end;
        }
        let kept = kept_segments(segments, segment_rows);
        let mut is_new = vec![true; digests.len()];
        kept.iter().flat_map(|segment| &segment.rows).filter(|row| **row != GONE).for_each(|row| is_new[*row as usize] = false);
        let new_rows = (0..u32::try_from(digests.len())?).filter(|row| is_new[*row as usize]).collect();
        Ok(Self { earlier: earlier.bundle.join(LEXICAL), kept, new_rows })
    }

    /// Leaves out the kept segments whose files are damaged: their rows are written anew. Returns their names.
    pub fn without_damaged(&mut self, artifact: &Artifact<Bundle>) -> Vec<Uuid> {
        let mut damaged = Vec::new();
        for segment in std::mem::take(&mut self.kept) {
            if is_intact(artifact, &self.earlier, segment.name) {
                self.kept.push(segment);
            } else {
                self.new_rows.extend(segment.rows.into_iter().filter(|row| *row != GONE));
                damaged.push(segment.name);
            }
        }
        self.new_rows.sort_unstable();
        damaged
    }

    /// The row of each document, or [`GONE`].
    pub fn document_rows(&self) -> Vec<u32> {
        self.kept.iter().flat_map(|segment| &segment.rows).chain(&self.new_rows).copied().collect()
    }
}

/// Are the recorded files of a segment there, with their digests?
fn is_intact(artifact: &Artifact<Bundle>, lexical: &Path, name: Uuid) -> bool {
    let name = name.simple().to_string();
    let recorded = artifact.manifest().outputs.keys().map(|path| artifact.dir().join(path));
    let mut files = recorded.filter(|path| path.parent() == Some(lexical) && path.file_stem() == Some(name.as_ref())).peekable();
    files.peek().is_some() && files.all(|file| require_intact(artifact, &file).is_ok())
}

/// Fails unless a file of an artifact has its recorded digest.
pub fn require_intact(artifact: &Artifact<Bundle>, file: &Path) -> Result<()> {
    let relative = file.strip_prefix(artifact.dir()).ok().context("a file lies outside its artifact")?;
    let digest = Digest::of_file(file).with_context(|| format!("reading {}", file.display()))?;
    ensure!(digest == artifact.file_digest(relative)?, "{} does not have its recorded digest", file.display());
    Ok(())
}

/// The segments that a build keeps.
fn kept_segments(segments: Vec<KeptSegment>, segment_rows: u64) -> Vec<KeptSegment> {
    let live = |segment: &KeptSegment| segment.rows.iter().filter(|row| **row != GONE).count();
    let gone = |segment: &KeptSegment| (segment.rows.len() - live(segment)) as f64 / segment.rows.len() as f64;
    let is_small = |segment: &KeptSegment| (live(segment) as u64) < segment_rows / 4;
    let most = segments.iter().map(gone).fold(MANY_GONE, f64::max);
    let mut worst_is_left = most > MANY_GONE;
    let mut kept: Vec<KeptSegment> = segments
        .into_iter()
        .filter(|segment| {
            let is_worst = worst_is_left && gone(segment) == most;
            worst_is_left &= !is_worst;
            !is_worst && gone(segment) <= MOST_GONE && live(segment) > 0
        })
        .collect();
    if kept.iter().filter(|segment| is_small(segment)).count() > SMALL_SEGMENTS {
        kept.retain(|segment| !is_small(segment));
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A segment with so many documents, of which the first ones have no row.
    fn segment(documents: u32, gone: u32) -> KeptSegment {
        KeptSegment {
            name: Uuid::from_u128(u128::from(documents)),
            rows: (0..documents).map(|row| if row < gone { GONE } else { row }).collect(),
        }
    }

    fn kept(segments: &[(u32, u32)]) -> Vec<u32> {
        let segments = segments.iter().map(|(documents, gone)| segment(*documents, *gone)).collect();
        kept_segments(segments, 100).iter().map(|segment| segment.rows.len() as u32).collect()
    }

    #[test]
    fn one_segment_without_three_tenths_of_its_rows_is_written_anew_and_all_without_half() {
        assert_eq!(kept(&[(100, 30), (101, 0)]), [100, 101]);
        assert_eq!(kept(&[(100, 31), (101, 40), (102, 33)]), [100, 102]);
        assert_eq!(kept(&[(100, 51), (101, 60), (102, 33)]), [102]);
        assert_eq!(kept(&[(3, 3), (4, 0)]), [4]);
    }

    #[test]
    fn more_than_eight_small_segments_become_one() {
        let small: Vec<(u32, u32)> = (1..=9).map(|documents| (documents, 0)).collect();
        let eight = &small[..8];
        assert_eq!(kept(&[&[(100, 0)], eight].concat()).len(), 9);
        assert_eq!(kept(&[&[(100, 0)], &small[..]].concat()), [100]);
    }
}
