//! Files of a bundle with the names of its rows, for reranking.

use std::{
    fs::File,
    io::{BufWriter, Seek, SeekFrom, Write},
    path::Path,
};

use bundle::{
    lexical::Lexical,
    manifest::DOCS,
    reranking::names::{KINDS, NAME_ENDS, NAMES, NamePart, checksums, kind_of, texts_of},
    vectors::npy_header,
};
use ledger::{ensure, table};

use crate::{Result, error::Context};

/// Writes the names and kinds of the rows of `docs.parquet`; returns the number of checksums.
pub fn write(dir: &Path, rows: u64, lexical: &Lexical) -> Result<u64> {
    let term_of = lexical.stemmer();
    let rows = usize::try_from(rows)?;
    // The header is written again when the length is known.
    let mut names = create(&dir.join(NAMES), "<u4", &[0])?;
    let mut ends = create(&dir.join(NAME_ENDS), "<u4", &[rows, NamePart::ALL.len()])?;
    let mut kinds = create(&dir.join(KINDS), "|u1", &[rows])?;
    let mut count = 0u32;
    for batch in table::read(&dir.join(DOCS), &["func_name", "path"])? {
        let batch = batch?;
        let (func_names, paths) = (table::texts(&batch, "func_name")?, table::texts(&batch, "path")?);
        for row in 0..batch.num_rows() {
            let (name, path) = (func_names.value(row), paths.value(row));
            let texts = texts_of(name, path);
            kinds.write_all(&[kind_of(&texts[0], path)])?;
            for text in &texts {
                let found = checksums(text, &term_of);
                found.iter().try_for_each(|checksum| names.write_all(&checksum.to_le_bytes()))?;
                count = count.checked_add(u32::try_from(found.len())?).context("the names have more than 4 billion words")?;
                ends.write_all(&count.to_le_bytes())?;
            }
        }
    }
    let header = npy_header("<u4", &[count as usize]);
    ensure!(header.len() == npy_header("<u4", &[0]).len(), "the header of {NAMES} has another length with {count} checksums");
    names.seek(SeekFrom::Start(0))?;
    names.write_all(&header)?;
    [&mut names, &mut ends, &mut kinds].into_iter().try_for_each(Write::flush)?;
    Ok(u64::from(count))
}

fn create(path: &Path, descr: &str, shape: &[usize]) -> Result<BufWriter<File>> {
    let mut file = BufWriter::new(File::create(path).with_context(|| format!("creating {}", path.display()))?);
    file.write_all(&npy_header(descr, shape))?;
    Ok(file)
}
