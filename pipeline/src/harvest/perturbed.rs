//! Any number of realistic rows out of some thousand real ones: each copy of a record has other names in it, so
//! that most are no duplicates of their originals (those with few names of their own still are: a fifth of the
//! demo's). Made to measure with, by the file and in parallel, from a seed.

use std::{
    collections::{HashMap, HashSet},
    fmt::Write as _,
    path::Path,
};

use anyhow::{Result, ensure};
use ledger::Run;
use rand::{Rng, SeedableRng, seq::IndexedRandom};
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;

use super::{
    layout::{self, Record},
    source,
};
use crate::ingest;

/// Records that are perturbed, at most: they are held in memory.
const MOST_ORIGINALS: usize = 50_000;
/// Share of the names of a function that are replaced.
const REPLACED: f64 = 0.6;

/// Names by which rows differ, and names that all code shares.
struct Names {
    all: Vec<String>,
    shared: HashSet<String>,
}

/// Writes `rows` records below the run's output; returns the number of files.
pub fn write(from: &Path, rows: u64, seed: u64, records_per_file: usize, run: &Run<'_>) -> Result<u64> {
    let mut originals = Vec::new();
    ingest::each_record(from, &mut |record| {
        originals.extend(record.filter(|_| originals.len() < MOST_ORIGINALS));
        Ok(())
    })?;
    ensure!(!originals.is_empty(), "no records below {} to perturb", from.display());
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
    Ok(source::data_files(&folder)?.0.len() as u64)
}

impl Names {
    /// Names in more than one function of fifty are the language's own words, or as good as.
    fn of(originals: &[ingest::Record]) -> Self {
        let mut functions: HashMap<&str, usize> = HashMap::new();
        for record in originals {
            let own: HashSet<&str> = record.code_tokens.iter().filter(|token| is_name(token)).collect();
            own.into_iter().for_each(|name| *functions.entry(name).or_default() += 1);
        }
        let is_shared = |count: usize| count * 50 > originals.len();
        let mut all: Vec<String> = functions.iter().filter(|(_, count)| !is_shared(**count)).map(|(name, _)| (*name).to_owned()).collect();
        all.sort_unstable();
        let shared = functions.into_iter().filter(|(_, count)| is_shared(*count)).map(|(name, _)| name.to_owned()).collect();
        Self { all, shared }
    }
}

fn is_name(token: &str) -> bool {
    token.len() > 2 && token.starts_with(|c: char| c.is_alphabetic() || c == '_') && token.chars().all(|c| c.is_alphanumeric() || c == '_')
}

fn write_one(original: &ingest::Record, round: u64, rng: &mut ChaCha8Rng, names: &Names, writer: &mut layout::Writer) -> Result<()> {
    let mut others: HashMap<String, String> = HashMap::new();
    if round > 0 {
        // In the order of the text, so that the generator's numbers fall the same way every time.
        let mut met = HashSet::new();
        for token in original.code_tokens.iter().filter(|token| is_name(token) && !names.shared.contains(*token)) {
            if met.insert(token)
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

/// The text with whole names replaced.
fn renamed(text: &str, others: &HashMap<String, String>) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(start) = rest.find(|c: char| c.is_alphanumeric() || c == '_') {
        let (before, from) = rest.split_at(start);
        let end = from.find(|c: char| !(c.is_alphanumeric() || c == '_')).unwrap_or(from.len());
        let (name, behind) = from.split_at(end);
        let _ = write!(out, "{before}{}", others.get(name).map_or(name, String::as_str));
        rest = behind;
    }
    out + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_names_are_replaced() {
        let others = HashMap::from([("path".to_owned(), "caf\u{e9}".to_owned())]);
        assert_eq!(renamed("def f(path, path2): # \u{fc} path\n", &others), "def f(caf\u{e9}, path2): # \u{fc} caf\u{e9}\n");
    }
}
