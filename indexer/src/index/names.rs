//! Files of a bundle with the names of its rows, for reranking.

use std::{io::Write, path::Path};

use bundle::{
    lexical::Lexical,
    manifest::DOCS,
    reranking::names::{KINDS, NAME_ENDS, NAMES, NamePart, checksums, kind_of, texts_of},
};
use ledger::table;

use crate::{Result, error::Context, npy};

/// Checksums of file name and folders, which the functions of a file share.
#[derive(Default)]
struct OfPath {
    path: String,
    parts: [Vec<u32>; 2],
}

/// Writes the names and kinds of the rows of `docs.parquet`; returns the number of checksums.
pub fn write(dir: &Path, rows: u64, lexical: &Lexical) -> Result<u64> {
    let term_of = lexical.stemmer();
    let rows = usize::try_from(rows)?;
    let mut names = npy::create(&dir.join(NAMES), "<u4", &[0])?;
    let mut ends = npy::create(&dir.join(NAME_ENDS), "<u4", &[rows, NamePart::ALL.len()])?;
    let mut kinds = npy::create(&dir.join(KINDS), "|u1", &[rows])?;
    let (mut count, mut last) = (0u32, OfPath::default());
    for batch in table::read(&dir.join(DOCS), &["func_name", "path"])? {
        let batch = batch?;
        let (func_names, paths) = (table::texts(&batch, "func_name")?, table::texts(&batch, "path")?);
        for row in 0..batch.num_rows() {
            let (name, path) = (func_names.value(row), paths.value(row));
            let texts = texts_of(name, path);
            kinds.write_all(&[kind_of(&texts[0], path)])?;
            if last.path != path {
                last = OfPath { path: path.to_owned(), parts: [2, 3].map(|part: usize| checksums(&texts[part], &term_of)) };
            }
            let [file, folders] = &last.parts;
            for found in [&checksums(&texts[0], &term_of), &checksums(&texts[1], &term_of), file, folders] {
                found.iter().try_for_each(|checksum| names.write_all(&checksum.to_le_bytes()))?;
                count = count.checked_add(u32::try_from(found.len())?).context("the names have more than 4 billion words")?;
                ends.write_all(&count.to_le_bytes())?;
            }
        }
    }
    [&mut ends, &mut kinds].into_iter().try_for_each(Write::flush)?;
    npy::finish_vector(names, "<u4", count as usize)?;
    Ok(u64::from(count))
}
