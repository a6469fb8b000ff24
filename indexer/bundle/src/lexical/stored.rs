//! The document store of tantivy, read with checks: tantivy itself allocates memory by the numbers that it reads, and a process that asks
//! for too much is ended.
//!
//! ```text
//! file     = blocks, skip index, store footer (28 bytes: u32 version, u64 start of the skip index, ...), tantivy's footer
//! footer   = JSON, u32 its length, u32 magic number
//! document = vint number of values, then for each: u32 field, u8 type, value (0: vint length and UTF-8 text; 1: u64)
//! ```

use std::{io, ops::Range};

use tantivy::directory::FileHandle;

const STORE_FOOTER_BYTES: usize = 28;

/// Reads numbers and texts from bytes; none at their end.
struct Bytes<'a>(&'a [u8]);

impl<'a> Bytes<'a> {
    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (head, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(head)
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.take(N)?.try_into().ok()
    }

    /// Seven bits a byte, the lowest first; the last byte has its highest bit set.
    fn vint(&mut self) -> Option<usize> {
        let mut number = 0u64;
        for shift in (0..64).step_by(7) {
            let [byte] = self.array()?;
            number |= u64::from(byte & 127) << shift;
            if byte & 128 != 0 {
                return usize::try_from(number).ok();
            }
        }
        None
    }
}

/// Number of a field and text of each text value of a stored document; none where it is damaged.
pub(super) fn texts(document: &[u8]) -> Option<Vec<(u32, &str)>> {
    let mut bytes = Bytes(document);
    let mut found = Vec::new();
    for _ in 0..bytes.vint()? {
        let field = u32::from_le_bytes(bytes.array()?);
        match bytes.array()? {
            [0] => {
                let length = bytes.vint()?;
                found.push((field, std::str::from_utf8(bytes.take(length)?).ok()?));
            }
            [1] => drop(bytes.take(8)?),
            _ => return None,
        }
    }
    Some(found)
}

/// Checks the number of layers of the skip index of a store.
///
/// # Errors
/// [`io::ErrorKind::InvalidData`] where the file cannot hold them.
pub(super) fn check(store: &dyn FileHandle) -> io::Result<()> {
    let read = |range: Option<Range<usize>>| -> io::Result<Option<Vec<u8>>> {
        let range = range.filter(|range| range.start <= range.end && range.end <= store.len());
        range.map(|range| Ok(store.read_bytes(range)?.as_slice().to_vec())).transpose()
    };
    let layers_fit = || -> io::Result<Option<bool>> {
        let Some(end) = read(store.len().checked_sub(8).map(|start| start..start + 4))? else { return Ok(None) };
        let footer = end.try_into().map_or(usize::MAX, |bytes| u32::from_le_bytes(bytes) as usize);
        let Some(body) = (store.len() - 8).checked_sub(footer) else { return Ok(None) };
        let Some(index_end) = body.checked_sub(STORE_FOOTER_BYTES) else { return Ok(None) };
        let Some(start) = read(Some(index_end + 4..index_end + 12))? else { return Ok(None) };
        let start = start.try_into().map_or(u64::MAX, u64::from_le_bytes);
        let Ok(start) = usize::try_from(start) else { return Ok(None) };
        let Some(head) = read(Some(start..start.saturating_add(10).min(index_end)))? else { return Ok(None) };
        Ok(Bytes(&head).vint().map(|layers| layers <= index_end - start))
    };
    match layers_fit()? {
        Some(true) => Ok(()),
        _ => Err(io::Error::new(io::ErrorKind::InvalidData, "the document store has no valid skip index")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_document_has_its_texts_and_a_length_beyond_its_end_is_damage() {
        let value = |field: u32, text: &[u8]| [&field.to_le_bytes()[..], &[0, text.len() as u8 | 128], text].concat();
        let mut document = [&[128 + 3][..], &value(7, b"def f"), &[1, 0, 0, 0, 1, 9, 9, 9, 9, 9, 9, 9, 9], &value(8, b"")].concat();
        assert_eq!(texts(&document), Some(vec![(7, "def f"), (8, "")]));
        for length in 0..document.len() {
            assert_eq!(texts(&document[..length]), None, "{length}");
        }
        document[6] = 127 | 128;
        assert_eq!(texts(&document), None);
    }
}
