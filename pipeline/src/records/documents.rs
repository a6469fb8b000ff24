//! Reads a raw file: lines of JSON (packed or not), a zip of them (CodeSearchNet's own form), or the Hub's Parquet.

use std::{
    cell::Cell,
    fs::File,
    io::{self, Read, Seek, SeekFrom},
    ops::Range,
    path::Path,
};

use super::{
    expansion::{Compressed, Expanded},
    item::{Content, Item},
    lines::Lines,
    parquet_rows::ParquetRows,
    reject::Reject,
};
use crate::error::{Context, Result};

type Take<'a> = &'a mut dyn FnMut(&str, &mut dyn Iterator<Item = Item>) -> Result<()>;

/// Calls `take` with the name and the items of every document in the file `path`. `name` is the file's name in the artifact;
/// a zip has one document per member, named `name!/member`. What cannot be read is an item with the reason.
pub fn read(path: &Path, name: &str, max_line_bytes: usize, take: Take<'_>) -> Result<()> {
    let open = || File::open(path).with_context(|| format!("reading {}", path.display()));
    match kind(name) {
        Some(Kind::Jsonl { packed }) => {
            let mut file = ErrorRecorder { file: open()?, error: None };
            take(name, &mut Lines::new(&mut file, packed, Reject::CorruptGzip, max_line_bytes))?;
            // A corrupt stream is a reject; a disk that cannot be read is an error.
            file.error.map_or(Ok(()), |error| Err(error).with_context(|| format!("reading {}", path.display())))
        }
        Some(Kind::Zip) => read_zip(open()?, name, max_line_bytes, take),
        Some(Kind::Parquet) => {
            open()?;
            take(name, &mut ParquetRows::open(path, name, max_line_bytes))
        }
        None => take(name, &mut rejected(Reject::UnknownFileType)),
    }
}

/// Like [`read`], for a range of bytes of a gzip file of lines: whole members. Numbers and offsets of the items count from there.
pub fn read_part(
    path: &Path,
    range: Range<u64>,
    max_line_bytes: usize,
    take: &mut dyn FnMut(&mut dyn Iterator<Item = Item>) -> Result<()>,
) -> Result<()> {
    let context = || format!("reading {}", path.display());
    let mut file = File::open(path).with_context(context)?;
    file.seek(SeekFrom::Start(range.start)).with_context(context)?;
    let mut file = ErrorRecorder { file, error: None };
    take(&mut Lines::new(Read::by_ref(&mut file).take(range.end - range.start), true, Reject::CorruptGzip, max_line_bytes))?;
    file.error.map_or(Ok(()), |error| Err(error).with_context(context))
}

/// A file that records the last error of the system.
struct ErrorRecorder {
    file: File,
    error: Option<io::Error>,
}

impl Read for ErrorRecorder {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.file.read(buffer).inspect_err(|error| self.error = Some(error.kind().into()))
    }
}

enum Kind {
    Jsonl { packed: bool },
    Zip,
    Parquet,
}

fn kind(name: &str) -> Option<Kind> {
    let name = name.to_lowercase();
    [
        (".jsonl", Kind::Jsonl { packed: false }),
        (".jsonl.gz", Kind::Jsonl { packed: true }),
        (".zip", Kind::Zip),
        (".parquet", Kind::Parquet),
    ]
    .into_iter()
    .find_map(|(end, kind)| name.ends_with(end).then_some(kind))
}

fn rejected(reject: Reject) -> impl Iterator<Item = Item> {
    std::iter::once(Item { number: 0, offset: 0, content: Content::Rejected(reject, Vec::new()) })
}

/// Reads the members as streams, in their order; writes nothing to disk.
fn read_zip(file: File, name: &str, max_line_bytes: usize, take: Take<'_>) -> Result<()> {
    let Ok(mut zip) = zip::ZipArchive::new(file) else { return take(name, &mut rejected(Reject::CorruptZip)) };
    for index in 0..zip.len() {
        let Ok(mut member) = zip.by_index(index) else {
            take(&format!("{name}!/{index}"), &mut rejected(Reject::CorruptZip))?;
            continue;
        };
        if !member.is_file() {
            continue;
        }
        let compressed = member.compressed_size();
        let own = member.name().map_or_else(|_| index.to_string(), |own| own.into_owned());
        let name = format!("{name}!/{own}");
        let member = Expanded::new(&mut member, Compressed::new(Cell::new(compressed)));
        match kind(&own) {
            Some(Kind::Jsonl { packed }) => take(&name, &mut Lines::new(member, packed, Reject::CorruptZip, max_line_bytes))?,
            _ => take(&name, &mut rejected(Reject::UnknownFileType))?,
        }
    }
    Ok(())
}
