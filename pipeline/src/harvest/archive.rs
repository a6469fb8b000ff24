//! Source files from archives, read as streams. Nothing is written to disk, so no path can leave the target folder and no
//! link is followed. Sizes and counts are limited before memory is allocated.

use std::{
    fs::File,
    io::{Cursor, Read},
    path::Path,
    process::{Command, Stdio},
};

use flate2::read::GzDecoder;
use ledger::{bail, ensure};

use super::{left_out::LeftOut, source::Registry};
use crate::error::{Context, Error, Result};

/// Largest number of entries in one archive.
const MAX_ENTRIES: usize = 500_000;
/// Largest number of unpacked bytes that are read from one archive.
const MAX_TOTAL_BYTES: u64 = 4 << 30;
/// Largest archive inside an archive (the JDK's `src.zip`).
const MAX_NESTED_BYTES: u64 = 256 << 20;

/// What is done with an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EntrySelection {
    /// The entry is not read.
    No,
    /// The entry is read, unless it has more bytes than this.
    Yes { max_bytes: u64 },
    /// The entry is a zip file; its entries are visited as `outer.zip!/inner/path`. Only in tar archives.
    Nested,
}

/// Receives the entries of an archive.
pub trait EntryVisitor {
    /// Chooses what is done with a regular file.
    fn select(&mut self, path: &str) -> EntrySelection;
    /// Receives the content of a selected file.
    fn file(&mut self, path: String, bytes: Vec<u8>) -> Result<()>;
    /// Receives a selected file that is too large, a link, or a file with an unsafe path.
    fn left_out(&mut self, path: String, reason: LeftOut);
}

/// Reads an archive: calls `wanted` with the path of every regular file and `take` with the content of the selected files.
/// Returns the number of selected files that were too large.
pub fn read(
    registry: Registry,
    archive: &Path,
    wanted: &dyn Fn(&str) -> EntrySelection,
    take: &mut dyn FnMut(String, Vec<u8>) -> Result<()>,
) -> Result<u64> {
    let mut visitor = Callbacks { wanted, take, too_large: 0 };
    visit(registry, archive, &mut visitor)?;
    Ok(visitor.too_large)
}

struct Callbacks<'a> {
    wanted: &'a dyn Fn(&str) -> EntrySelection,
    take: &'a mut dyn FnMut(String, Vec<u8>) -> Result<()>,
    too_large: u64,
}

impl EntryVisitor for Callbacks<'_> {
    fn select(&mut self, path: &str) -> EntrySelection {
        (self.wanted)(path)
    }

    fn file(&mut self, path: String, bytes: Vec<u8>) -> Result<()> {
        (self.take)(path, bytes)
    }

    fn left_out(&mut self, _: String, reason: LeftOut) {
        self.too_large += u64::from(matches!(reason, LeftOut::TooLarge { .. }));
    }
}

/// Reads an archive and calls the visitor with every entry, in the order of the archive.
pub fn visit(registry: Registry, archive: &Path, visitor: &mut dyn EntryVisitor) -> Result<()> {
    let mut limits = Limits::default();
    let open = || File::open(archive).map_err(Error::from);
    let result = match registry {
        Registry::Pypi => open().and_then(|file| read_zip(file, "", visitor, &mut limits)),
        Registry::Npm => open().and_then(|file| read_tar(GzDecoder::new(file), visitor, &mut limits)),
        Registry::Debian => read_deb(archive, visitor, &mut limits),
    };
    result.with_context(|| format!("reading {}", archive.display()))
}

fn read_deb(archive: &Path, visitor: &mut dyn EntryVisitor, limits: &mut Limits) -> Result<()> {
    let mut child =
        Command::new("dpkg-deb").arg("--fsys-tarfile").arg(archive).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().map_err(
            |source| Error::ProgramMissing { program: "dpkg-deb".to_owned(), needed_for: "a Debian package".to_owned(), source },
        )?;
    let stdout = child.stdout.take().context("dpkg-deb has no output")?;
    let result = read_tar(stdout, visitor, limits);
    let status = child.wait()?;
    result?;
    ensure!(status.success(), "dpkg-deb does not read it: remove the file, so that it is downloaded again");
    Ok(())
}

/// Counts entries and bytes.
#[derive(Default)]
struct Limits {
    entries: usize,
    bytes: u64,
}

impl Limits {
    fn count_entry(&mut self) -> Result<()> {
        self.entries += 1;
        ensure!(self.entries <= MAX_ENTRIES, "more than {MAX_ENTRIES} entries");
        Ok(())
    }

    /// Reads at most `max` bytes; none where there are more. The size in the entry's header is not trusted.
    fn read(&mut self, reader: &mut dyn Read, max: u64) -> Result<Option<Vec<u8>>> {
        let mut bytes = Vec::new();
        reader.take(max + 1).read_to_end(&mut bytes)?;
        self.bytes += bytes.len() as u64;
        ensure!(self.bytes <= MAX_TOTAL_BYTES, "more than {MAX_TOTAL_BYTES} bytes unpacked");
        Ok((bytes.len() as u64 <= max).then_some(bytes))
    }

    fn read_selected(&mut self, reader: &mut dyn Read, path: String, max_bytes: u64, visitor: &mut dyn EntryVisitor) -> Result<()> {
        match self.read(reader, max_bytes)? {
            Some(bytes) => visitor.file(path, bytes),
            None => {
                visitor.left_out(path, LeftOut::TooLarge { max_bytes });
                Ok(())
            }
        }
    }
}

/// Fails after a number of bytes, instead of ending the stream.
struct Limited<R> {
    reader: R,
    left: u64,
}

impl<R: Read> Read for Limited<R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let read = self.reader.read(buffer)?;
        match self.left.checked_sub(read as u64) {
            Some(left) => self.left = left,
            None => return Err(std::io::Error::other(format!("more than {MAX_TOTAL_BYTES} bytes unpacked"))),
        }
        Ok(read)
    }
}

fn read_zip<R: Read + std::io::Seek>(reader: R, prefix: &str, visitor: &mut dyn EntryVisitor, limits: &mut Limits) -> Result<()> {
    let mut zip = zip::ZipArchive::new(reader)?;
    for index in 0..zip.len() {
        limits.count_entry()?;
        let mut entry = zip.by_index(index)?;
        if !entry.is_file() && !entry.is_symlink() {
            continue;
        }
        let is_safe = entry.enclosed_name().is_some();
        if entry.is_symlink() || !is_safe {
            // The name of such an entry may have any bytes.
            let name = entry.name().map(|name| format!("{prefix}{name}")).unwrap_or_else(|_| format!("{prefix}entry {index}"));
            visitor.left_out(name, if is_safe { LeftOut::Link } else { LeftOut::UnsafePath });
            continue;
        }
        let path = format!("{prefix}{}", entry.name()?);
        if let EntrySelection::Yes { max_bytes } = visitor.select(&path) {
            limits.read_selected(&mut entry, path, max_bytes, visitor)?;
        }
    }
    Ok(())
}

fn read_tar(reader: impl Read, visitor: &mut dyn EntryVisitor, limits: &mut Limits) -> Result<()> {
    // All bytes count, also of skipped entries and of long names.
    let mut tar = tar::Archive::new(Limited { reader, left: MAX_TOTAL_BYTES });
    for entry in tar.entries()? {
        limits.count_entry()?;
        let mut entry = entry?;
        let kind = entry.header().entry_type();
        let is_link = kind.is_symlink() || kind.is_hard_link();
        if !kind.is_file() && !is_link {
            continue;
        }
        let path = entry.path()?.to_string_lossy().into_owned();
        let path = path.strip_prefix("./").unwrap_or(&path).to_owned();
        if path.starts_with('/') || path.split('/').any(|part| part == "..") {
            visitor.left_out(path, LeftOut::UnsafePath);
            continue;
        }
        if is_link {
            visitor.left_out(path, LeftOut::Link);
            continue;
        }
        match visitor.select(&path) {
            EntrySelection::No => {}
            EntrySelection::Yes { max_bytes } => limits.read_selected(&mut entry, path, max_bytes, visitor)?,
            EntrySelection::Nested => match limits.read(&mut entry, MAX_NESTED_BYTES)? {
                Some(bytes) => read_zip(Cursor::new(bytes), &format!("{path}!/"), visitor, limits)?,
                None => bail!("{path} is larger than {MAX_NESTED_BYTES} bytes: remove its prefix from the package's `only`"),
            },
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn zip_of(entries: &[(&str, &[u8])]) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().unwrap();
        let mut zip = zip::ZipWriter::new(file.reopen().unwrap());
        for (name, bytes) in entries {
            zip.start_file(*name, zip::write::SimpleFileOptions::default()).unwrap();
            zip.write_all(bytes).unwrap();
        }
        zip.add_symlink("pkg/link.py", "/etc/passwd", zip::write::SimpleFileOptions::default()).unwrap();
        zip.finish().unwrap();
        file
    }

    #[test]
    fn unsafe_paths_and_links_are_left_out_and_large_files_are_counted() {
        let archive = zip_of(&[("pkg/a.py", b"a = 1"), ("../evil.py", b"b"), ("/abs.py", b"c"), ("pkg/big.py", &[b'x'; 100])]);
        let mut taken = Vec::new();
        let too_large = read(
            Registry::Pypi,
            archive.path(),
            &|path| if path.ends_with(".py") { EntrySelection::Yes { max_bytes: 50 } } else { EntrySelection::No },
            &mut |path, bytes| {
                taken.push((path, bytes));
                Ok(())
            },
        )
        .unwrap();
        assert!(taken.iter().all(|(path, _)| !path.contains("..") && !path.contains("link")), "{taken:?}");
        assert!(taken.contains(&("pkg/a.py".to_owned(), b"a = 1".to_vec())));
        assert_eq!(too_large, 1);
    }

    #[test]
    fn tar_entries_with_unsafe_paths_or_links_are_left_out() {
        let mut builder = tar::Builder::new(flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast()));
        let mut header = tar::Header::new_gnu();
        header.set_size(3);
        header.set_cksum();
        builder.append_data(&mut header.clone(), "package/x.js", &b"1;\n"[..]).unwrap();
        let mut climbing = header.clone();
        let name = b"package/../../y.js";
        climbing.as_gnu_mut().unwrap().name[..name.len()].copy_from_slice(name);
        climbing.set_cksum();
        builder.append(&climbing, &b"2;\n"[..]).unwrap();
        let mut link = tar::Header::new_gnu();
        link.set_entry_type(tar::EntryType::Symlink);
        link.set_size(0);
        builder.append_link(&mut link, "package/z.js", "/etc/passwd").unwrap();
        let bytes = builder.into_inner().unwrap().finish().unwrap();
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), bytes).unwrap();
        let mut taken = Vec::new();
        read(Registry::Npm, file.path(), &|_| EntrySelection::Yes { max_bytes: 9 }, &mut |path, _| {
            taken.push(path);
            Ok(())
        })
        .unwrap();
        assert_eq!(taken, ["package/x.js"]);
    }
}
