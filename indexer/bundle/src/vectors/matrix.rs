//! NumPy files, mapped into memory.

use std::{fs::File, path::Path};

use memmap2::Mmap;

use crate::{Error, Result, error::Context};

/// npy headers are padded so that the data starts at a multiple of this.
const ALIGNMENT: usize = 64;

/// Header of an `.npy` file (version 1.0, C order) with numbers of type `descr` (`<f4`, `|i1`).
pub fn npy_header(descr: &str, shape: &[usize]) -> Vec<u8> {
    let dims = shape.iter().map(|dim| format!("{dim},")).collect::<String>();
    let mut text = format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': ({dims}), }}");
    let padding = ALIGNMENT - (10 + text.len() + 1) % ALIGNMENT;
    text.extend(std::iter::repeat_n(' ', padding % ALIGNMENT));
    text.push('\n');
    let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
    bytes.extend(u16::try_from(text.len()).unwrap_or(u16::MAX).to_le_bytes());
    bytes.extend(text.into_bytes());
    bytes
}

/// Quantises a vector to i8 with one scale: `x ≈ code · scale`.
pub fn quantise(row: &[f32]) -> (Vec<i8>, f32) {
    let largest = row.iter().fold(0f32, |largest, value| largest.max(value.abs()));
    let scale = if largest > 0.0 { largest / 127.0 } else { 1.0 };
    (row.iter().map(|value| (value / scale).round() as i8).collect(), scale)
}

/// A memory-mapped `.npy` file.
#[derive(Debug)]
pub(crate) struct Npy {
    map: Mmap,
    start: usize,
}

impl Npy {
    /// Maps a file of numbers of `item` bytes and checks its header and its length.
    pub fn open(path: &Path, descr: &str, shape: &[usize], item: usize) -> Result<Self> {
        let file = File::open(path).with_context(|| format!("opening {}", path.display()))?;
        // SAFETY: files of a bundle are never written after they have their name. A process that truncates one nevertheless ends this
        // process with SIGBUS, and cannot give it references to freed memory. Test: `a_mapped_file_holds_the_bytes_after_its_header`.
        let map = unsafe { Mmap::map(&file) }.with_context(|| format!("mapping {}", path.display()))?;
        let head = npy_header(descr, shape);
        let bytes = shape.iter().try_fold(item, |bytes, dim| bytes.checked_mul(*dim));
        let expected = bytes.and_then(|bytes| bytes.checked_add(head.len()));
        if expected != Some(map.len()) || !map.starts_with(&head) {
            return Err(Error::damaged(path, format!("it is not a {descr} matrix of shape {shape:?}")));
        }
        Ok(Self { map, start: head.len() })
    }

    /// The numbers, little-endian.
    pub fn bytes(&self) -> &[u8] {
        &self.map[self.start..]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mapped_file_holds_the_bytes_after_its_header() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.npy");
        std::fs::write(&path, [npy_header("|i1", &[2, 3]), vec![1, 2, 3, 4, 5, 6]].concat()).unwrap();
        assert_eq!(Npy::open(&path, "|i1", &[2, 3], 1).unwrap().bytes(), [1, 2, 3, 4, 5, 6]);
        assert!(matches!(Npy::open(&path, "|i1", &[3, 2], 1), Err(Error::Damaged { .. })));
        assert!(matches!(Npy::open(&path, "<f4", &[2, 3], 4), Err(Error::Damaged { .. })));
    }

    #[test]
    fn data_starts_at_a_multiple_of_the_alignment() {
        assert_eq!(npy_header("<f4", &[1_000_000, 128]).len() % ALIGNMENT, 0);
    }
}
