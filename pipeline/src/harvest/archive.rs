//! Source files out of archives, read as streams: nothing is unpacked to disk, so no path can
//! escape and no link is followed. Sizes and counts are limited before anything is allocated.

use std::{
    fs::File,
    io::{Cursor, Read},
    path::Path,
    process::{Command, Stdio},
};

use anyhow::{Context, Result, bail, ensure};
use flate2::read::GzDecoder;

use super::fetch::Registry;

/// Entries of one archive.
const MAX_ENTRIES: usize = 500_000;
/// Unpacked bytes that are read of one archive.
const MAX_TOTAL_BYTES: u64 = 4 << 30;
/// An archive within an archive (the JDK's `src.zip`).
const MAX_NESTED_BYTES: u64 = 256 << 20;

/// What to do with an entry, by its path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wanted {
    No,
    /// Read up to so many bytes; a larger file is passed over and counted.
    Yes {
        max_bytes: u64,
    },
    /// A zip file whose entries are offered as `outer.zip!/inner/path`.
    Nested,
}

/// Offers every regular file of the archive: `wanted` chooses by path, `take` gets the bytes.
/// Returns how many wanted files were too large.
pub fn read(
    registry: Registry,
    archive: &Path,
    wanted: &dyn Fn(&str) -> Wanted,
    take: &mut dyn FnMut(String, Vec<u8>) -> Result<()>,
) -> Result<u64> {
    let context = || format!("reading {}", archive.display());
    let mut budget = Budget::default();
    match registry {
        Registry::Pypi => {
            let file = File::open(archive).with_context(context)?;
            read_zip(file, "", wanted, take, &mut budget).with_context(context)?;
        }
        Registry::Npm => {
            let file = File::open(archive).with_context(context)?;
            read_tar(GzDecoder::new(file), wanted, take, &mut budget).with_context(context)?;
        }
        Registry::Debian => {
            let mut child = Command::new("dpkg-deb")
                .arg("--fsys-tarfile")
                .arg(archive)
                .stdout(Stdio::piped())
                .stderr(Stdio::null())
                .spawn()
                .context("dpkg-deb is not here")?;
            let stdout = child.stdout.take().context("dpkg-deb has no output")?;
            let result = read_tar(stdout, wanted, take, &mut budget).with_context(context);
            let status = child.wait()?;
            result?;
            ensure!(status.success(), "dpkg-deb could not read {}", archive.display());
        }
    }
    Ok(budget.too_large)
}

#[derive(Default)]
struct Budget {
    entries: usize,
    bytes: u64,
    too_large: u64,
}

impl Budget {
    fn entry(&mut self) -> Result<()> {
        self.entries += 1;
        ensure!(self.entries <= MAX_ENTRIES, "more than {MAX_ENTRIES} entries");
        Ok(())
    }

    /// Reads at most `max` bytes; nothing if there are more. What the header claims is not trusted.
    fn bytes(&mut self, reader: &mut dyn Read, max: u64) -> Result<Option<Vec<u8>>> {
        let mut bytes = Vec::new();
        reader.take(max + 1).read_to_end(&mut bytes)?;
        self.bytes += bytes.len() as u64;
        ensure!(self.bytes <= MAX_TOTAL_BYTES, "more than {MAX_TOTAL_BYTES} bytes unpacked");
        if bytes.len() as u64 > max {
            self.too_large += 1;
            return Ok(None);
        }
        Ok(Some(bytes))
    }
}

/// Fails, rather than ends, behind a number of bytes.
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

fn read_zip<R: Read + std::io::Seek>(
    reader: R,
    prefix: &str,
    wanted: &dyn Fn(&str) -> Wanted,
    take: &mut dyn FnMut(String, Vec<u8>) -> Result<()>,
    budget: &mut Budget,
) -> Result<()> {
    let mut zip = zip::ZipArchive::new(reader)?;
    for index in 0..zip.len() {
        budget.entry()?;
        let mut entry = zip.by_index(index)?;
        if !entry.is_file() || entry.is_symlink() || entry.enclosed_name().is_none() {
            continue;
        }
        let path = format!("{prefix}{}", entry.name()?);
        if let Wanted::Yes { max_bytes } = wanted(&path)
            && let Some(bytes) = budget.bytes(&mut entry, max_bytes)?
        {
            take(path, bytes)?;
        }
    }
    Ok(())
}

fn read_tar(
    reader: impl Read,
    wanted: &dyn Fn(&str) -> Wanted,
    take: &mut dyn FnMut(String, Vec<u8>) -> Result<()>,
    budget: &mut Budget,
) -> Result<()> {
    // All bytes count, of entries that are passed over and of long names too.
    let mut tar = tar::Archive::new(Limited { reader, left: MAX_TOTAL_BYTES });
    for entry in tar.entries()? {
        budget.entry()?;
        let mut entry = entry?;
        if !entry.header().entry_type().is_file() {
            continue;
        }
        let path = entry.path()?.to_string_lossy().into_owned();
        let path = path.strip_prefix("./").unwrap_or(&path).to_owned();
        if path.starts_with('/') || path.split('/').any(|part| part == "..") {
            continue;
        }
        match wanted(&path) {
            Wanted::No => {}
            Wanted::Yes { max_bytes } => {
                if let Some(bytes) = budget.bytes(&mut entry, max_bytes)? {
                    take(path, bytes)?;
                }
            }
            Wanted::Nested => match budget.bytes(&mut entry, MAX_NESTED_BYTES)? {
                Some(bytes) => read_zip(Cursor::new(bytes), &format!("{path}!/"), wanted, take, budget)?,
                None => bail!("{path} is larger than {MAX_NESTED_BYTES} bytes"),
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
    fn escaping_paths_and_links_are_not_offered_and_large_files_are_counted() {
        let archive = zip_of(&[("pkg/a.py", b"a = 1"), ("../evil.py", b"b"), ("/abs.py", b"c"), ("pkg/big.py", &[b'x'; 100])]);
        let mut taken = Vec::new();
        let too_large = read(
            Registry::Pypi,
            archive.path(),
            &|path| if path.ends_with(".py") { Wanted::Yes { max_bytes: 50 } } else { Wanted::No },
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
    fn tar_entries_that_climb_or_link_are_passed_over() {
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
        read(Registry::Npm, file.path(), &|_| Wanted::Yes { max_bytes: 9 }, &mut |path, _| {
            taken.push(path);
            Ok(())
        })
        .unwrap();
        assert_eq!(taken, ["package/x.js"]);
    }
}
