//! Compressed files that hold far more than their size.

use std::{
    cell::Cell,
    io::{self, Read},
    rc::Rc,
};

/// Bytes that a file holds for each of its compressed bytes, at most. Files of source code have 3 to 20.
pub const MAX_RATIO: u64 = 200;
/// Bytes that a compressed file of any size may hold.
pub const FREE_BYTES: u64 = 64 << 20;

/// The error of a file that holds more.
#[derive(Debug, thiserror::Error)]
#[error("the file holds more than {MAX_RATIO} times its compressed size")]
pub struct TooMuch;

impl TooMuch {
    /// Is this the reason of an error?
    pub fn is(error: &io::Error) -> bool {
        error.get_ref().is_some_and(|inner| inner.is::<Self>())
    }
}

/// Number of compressed bytes that were read.
pub type Compressed = Rc<Cell<u64>>;

/// Counts the compressed bytes of a file while they are read.
pub struct Counted<R> {
    pub inner: R,
    pub count: Compressed,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.inner.read(buffer)?;
        self.count.set(self.count.get() + length as u64);
        Ok(length)
    }
}

/// The content of a compressed file; ends with the error [`TooMuch`] where it is too large for the compressed bytes.
pub struct Expanded<R> {
    inner: R,
    length: u64,
    compressed: Compressed,
}

impl<R> Expanded<R> {
    /// `compressed`: how many bytes the content was read from so far, or in all.
    pub fn new(inner: R, compressed: Compressed) -> Self {
        Self { inner, length: 0, compressed }
    }
}

impl<R: Read> Read for Expanded<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.inner.read(buffer)?;
        self.length += length as u64;
        if self.length > FREE_BYTES + self.compressed.get().saturating_mul(MAX_RATIO) {
            return Err(io::Error::other(TooMuch));
        }
        Ok(length)
    }
}
