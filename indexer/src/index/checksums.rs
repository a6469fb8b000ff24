//! Writes `CHECKSUMS` of a bundle. The crate `bundle` verifies it.

use std::{fs, path::Path};

use bundle::checksums::{CHECKSUMS, files};
use ledger::Digest;

use crate::{Result, error::Context};

/// Writes blake3 and path of every file, one a line, as `b3sum --check` reads them.
pub fn write(dir: &Path) -> Result<()> {
    let mut text = String::new();
    for path in files(dir)? {
        text += &format!("{}  {}\n", Digest::of_file(&dir.join(&path))?, path.display());
    }
    Ok(ledger::write_atomically(&dir.join(CHECKSUMS), text.as_bytes())?)
}

/// Writes the line of one file again, where it differs from the file.
pub fn renew(dir: &Path, name: &str) -> Result<()> {
    let path = dir.join(CHECKSUMS);
    let text = fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
    let own = format!("{}  {name}\n", Digest::of_file(&dir.join(name))?);
    if text.contains(&own) {
        return Ok(());
    }
    let mut lines: Vec<String> =
        text.lines().filter(|line| line.split_once("  ").is_none_or(|(_, path)| path != name)).map(|line| format!("{line}\n")).collect();
    lines.push(own);
    lines.sort_by_key(|line| line.split_once("  ").map(|(_, path)| path.to_owned()));
    Ok(ledger::write_atomically(&path, lines.concat().as_bytes())?)
}

#[cfg(test)]
mod tests {
    use bundle::checksums::verify;

    use super::*;

    fn written() -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("sub")).unwrap();
        fs::write(dir.path().join("a"), "1").unwrap();
        fs::write(dir.path().join("sub/b"), "2").unwrap();
        write(dir.path()).unwrap();
        dir
    }

    #[test]
    fn a_file_that_changed_was_added_or_is_missing_is_damage() {
        let dir = written();
        verify(dir.path()).unwrap();
        let is_damaged = |name: &str| matches!(verify(dir.path()), Err(bundle::Error::Damaged { file, .. }) if file.ends_with(name));
        fs::write(dir.path().join("sub/c"), "3").unwrap();
        assert!(is_damaged("sub/c"));
        fs::rename(dir.path().join("sub/c"), dir.path().join("sub/b")).unwrap();
        assert!(is_damaged("sub/b"));
        fs::remove_file(dir.path().join("sub/b")).unwrap();
        assert!(is_damaged("sub/b"));
    }

    #[test]
    fn renewing_one_line_leaves_damage_of_other_files_visible() {
        let dir = written();
        fs::write(dir.path().join("a"), "3").unwrap();
        renew(dir.path(), "a").unwrap();
        verify(dir.path()).unwrap();
        fs::write(dir.path().join("a"), "4").unwrap();
        fs::write(dir.path().join("sub/b"), "5").unwrap();
        renew(dir.path(), "a").unwrap();
        assert!(verify(dir.path()).is_err());
    }
}
