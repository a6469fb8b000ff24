//! Any number of realistic rows from some thousand real records, for measurements. Each copy of a record has other names in
//! its code, so that most copies are no duplicates of the record (copies with few names of their own still are: a fifth of
//! the demo's). The files are written in parallel; a seed determines their content.

use std::{
    collections::{HashMap, HashSet},
    fmt::Write as _,
    path::Path,
};

use ledger::{Run, ensure};
use rand::{Rng, SeedableRng, seq::IndexedRandom};
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;

use super::layout::{self, Record};
use crate::{
    error::Result,
    files::data_files,
    records::{self, each_record},
};

/// Largest number of records that are read: they are held in memory.
const MAX_ORIGINALS: usize = 50_000;
/// Share of the names of a function that are replaced.
const REPLACED: f64 = 0.6;
/// A name in more than one of this many functions belongs to the language.
const SHARED_BY: usize = 50;

/// The names in the code of the records.
struct Names {
    /// Names that can replace others.
    all: Vec<String>,
    /// Names that are not replaced.
    shared: HashSet<String>,
}

/// Writes `rows` records below the output folder of the run. Returns the number of files.
pub fn write(from: &Path, rows: u64, seed: u64, records_per_file: usize, run: &Run<'_>) -> Result<u64> {
    let mut originals = Vec::new();
    each_record(from, &mut |record| {
        originals.extend(record.filter(|_| originals.len() < MAX_ORIGINALS));
        Ok(())
    })?;
    ensure!(!originals.is_empty(), "no records below {}: correct harvest.source.path", from.display());
    let names = Names::of(&originals);
    let per_file = records_per_file.max(1) as u64;
    let files = rows.div_ceil(per_file);
    let folder = run.out.join("perturbed");
    let bar = run.progress.bar("harvest", rows, "rows");
    (0..files).into_par_iter().try_for_each(|file| {
        let mut writer = layout::Writer::numbered(&folder, usize::try_from(file)?);
        for number in file * per_file..((file + 1) * per_file).min(rows) {
            let original = &originals[usize::try_from(number % originals.len() as u64)?];
            let round = number / originals.len() as u64;
            write_one(original, round, &mut ChaCha8Rng::seed_from_u64(seed ^ (number << 1)), &names, &mut writer)?;
            bar.add(1);
        }
        writer.finish()
    })?;
    bar.finish();
    Ok(data_files(&folder)?.0.len() as u64)
}

impl Names {
    /// Counts in how many functions each name is.
    fn of(originals: &[records::Record]) -> Self {
        let mut functions: HashMap<&str, usize> = HashMap::new();
        for record in originals {
            let own: HashSet<&str> = record.code_tokens.iter().filter(|token| is_name(token)).collect();
            own.into_iter().for_each(|name| *functions.entry(name).or_default() += 1);
        }
        let is_shared = |count: usize| count * SHARED_BY > originals.len();
        let mut all: Vec<String> = functions.iter().filter(|(_, count)| !is_shared(**count)).map(|(name, _)| (*name).to_owned()).collect();
        all.sort_unstable();
        let shared = functions.into_iter().filter(|(_, count)| is_shared(*count)).map(|(name, _)| name.to_owned()).collect();
        Self { all, shared }
    }
}

fn is_name(token: &str) -> bool {
    token.len() > 2 && token.starts_with(|c: char| c.is_alphabetic() || c == '_') && token.chars().all(|c| c.is_alphanumeric() || c == '_')
}

fn write_one(original: &records::Record, round: u64, rng: &mut ChaCha8Rng, names: &Names, writer: &mut layout::Writer) -> Result<()> {
    let mut others: HashMap<String, String> = HashMap::new();
    if round > 0 {
        // In the order of the text, so that the random numbers belong to the same names every time.
        let mut seen = HashSet::new();
        for token in original.code_tokens.iter().filter(|token| is_name(token) && !names.shared.contains(*token)) {
            if seen.insert(token)
                && rng.random_bool(REPLACED)
                && let Some(other) = names.all.choose(rng)
            {
                others.insert(token.to_owned(), other.clone());
            }
        }
    }
    let code_tokens: Vec<String> =
        original.code_tokens.iter().map(|token| others.get(token).cloned().unwrap_or_else(|| token.to_owned())).collect();
    let docstring_tokens: Vec<String> =
        original.docstring_tokens.iter().map(|token| others.get(token).cloned().unwrap_or_else(|| token.to_owned())).collect();
    let code = renamed(&original.code, &others);
    let tail = if round > 0 { format!("-{round}") } else { String::new() };
    writer.write(
        original.language,
        original.split,
        &Record {
            repo: &format!("{}{tail}", original.repo),
            path: &original.path,
            func_name: &renamed(&original.func_name, &others),
            original_string: &code,
            language: original.language,
            code: &code,
            code_tokens: &code_tokens,
            docstring: &renamed(&original.docstring, &others),
            docstring_tokens: &docstring_tokens,
            sha: "",
            url: &original.url.replacen(&original.repo, &format!("{}{tail}", original.repo), 1),
            partition: original.split,
        },
    )
}

/// Replaces whole names in a text.
fn renamed(text: &str, others: &HashMap<String, String>) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(start) = rest.find(|c: char| c.is_alphanumeric() || c == '_') {
        let (before, from) = rest.split_at(start);
        let end = from.find(|c: char| !(c.is_alphanumeric() || c == '_')).unwrap_or(from.len());
        let (name, after) = from.split_at(end);
        let _ = write!(out, "{before}{}", others.get(name).map_or(name, String::as_str));
        rest = after;
    }
    out + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_whole_names_are_replaced() {
        let others = HashMap::from([("path".to_owned(), "caf\u{e9}".to_owned())]);
        assert_eq!(renamed("def f(path, path2): # \u{fc} path\n", &others), "def f(caf\u{e9}, path2): # \u{fc} caf\u{e9}\n");
    }
}
