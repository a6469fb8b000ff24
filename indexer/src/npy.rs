//! Writes and reads NumPy files.

use std::{
    fs::{self, File},
    io::{BufWriter, Seek, SeekFrom, Write},
    path::Path,
};

use bundle::vectors::npy_header;
use ledger::ensure;

use crate::{Result, error::Context};

/// Creates a file with the header of this shape; `descr`: the type of the numbers (`<u4`). The caller writes the numbers.
pub fn create(path: &Path, descr: &str, shape: &[usize]) -> Result<BufWriter<File>> {
    let mut file = BufWriter::new(File::create(path).with_context(|| format!("creating {}", path.display()))?);
    file.write_all(&npy_header(descr, shape))?;
    Ok(file)
}

/// Writes a vector of u32.
pub fn write(path: &Path, numbers: &[u32]) -> Result<()> {
    let mut file = create(path, "<u4", &[numbers.len()])?;
    numbers.iter().try_for_each(|number| file.write_all(&number.to_le_bytes()))?;
    Ok(file.flush()?)
}

/// Ends a vector that was created with the length 0: writes its length into the header.
pub fn finish_vector(mut file: BufWriter<File>, descr: &str, length: usize) -> Result<()> {
    let header = npy_header(descr, &[length]);
    ensure!(header.len() == npy_header(descr, &[0]).len(), "the header of a vector of {length} numbers has another length");
    file.seek(SeekFrom::Start(0))?;
    file.write_all(&header)?;
    Ok(file.flush()?)
}

/// Reads the numbers of a file, little-endian.
///
/// # Errors
/// The file has another type or shape.
pub fn read(path: &Path, descr: &str, shape: &[usize]) -> Result<Vec<u8>> {
    let mut bytes = fs::read(path).with_context(|| format!("reading {}", path.display()))?;
    let header = npy_header(descr, shape);
    let item = descr[2..].parse::<usize>().context("a type of numbers has no size")?;
    let expected = shape.iter().try_fold(item, |bytes, dim| bytes.checked_mul(*dim)).and_then(|bytes| bytes.checked_add(header.len()));
    ensure!(bytes.starts_with(&header) && expected == Some(bytes.len()), "{} is no {descr} matrix of shape {shape:?}", path.display());
    Ok(bytes.split_off(header.len()))
}
