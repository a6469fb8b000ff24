//! `harvest`: the only door. Functions with their documentation out of real code, as CodeSearchNet
//! jsonl.gz in CodeSearchNet's layout, split by repository; or a CodeSearchNet folder as it is.

mod archive;
mod documentation;
mod download;
mod fetch;
mod functions;
mod layout;
mod perturbed;
mod snippets;
mod source;
mod tokens;

use std::{collections::BTreeMap, fs, path::Path};

use anyhow::{Context, Result, ensure};
use ledger::{Digest, Language, Raw, Report, Rows, Run, Split, Stage};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

pub use archive::{Wanted, read as read_archive};
pub use documentation::{strip_c_style, summary, tokens as documentation_tokens};
pub use fetch::Registry;
pub use functions::{Function, extract, extract_in};
pub use source::{Exclude, Package, Source, data_files};
pub use tokens::Dialect;

use layout::{Record, Writer};
use source::{Reader, Repo, SourceFile};

/// File beside the records that says where each repository came from.
pub const REPOS: &str = "repos.json";

/// The stage.
#[derive(Debug)]
pub struct Harvest;

/// Section `harvest`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Config {
    /// One source, for short.
    #[serde(default)]
    pub source: Option<Source>,
    #[serde(default)]
    pub sources: Vec<Source>,
    pub languages: Vec<Language>,
    /// Also functions without documentation: they are indexed, not trained on.
    pub keep_undocumented: bool,
    /// What counts as a token of code, and as a docstring.
    pub dialect: Dialect,
    pub min_documentation_tokens: usize,
    pub min_lines: u32,
    pub max_file_bytes: u64,
    /// A file with longer lines on average is minified, not written.
    pub max_mean_line_bytes: usize,
    pub records_per_file: usize,
    pub split: SplitShares,
    pub exclude: Exclude,
}

/// Shares of the repositories in the validation and test splits, chosen by a hash of the name.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct SplitShares {
    pub valid: f64,
    pub test: f64,
    /// Changes which repositories fall into which split.
    pub salt: String,
}

/// What came in, and why the rest did not.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct HarvestReport {
    pub repos: u64,
    pub files: u64,
    pub functions_seen: u64,
    pub functions: u64,
    pub documented: u64,
    pub by_language: BTreeMap<String, u64>,
    pub by_split: BTreeMap<String, u64>,
    /// Reason to count, for files and functions.
    pub skipped: BTreeMap<String, u64>,
    /// Files of a `csn` source, taken as they are; their rows are counted by `ingest`.
    pub csn_files: u64,
}

impl Report for HarvestReport {
    fn rows(&self) -> Rows {
        Rows {
            read: self.functions_seen + self.csn_files,
            written: self.functions + self.csn_files,
            rejected: self.functions_seen - self.functions,
        }
    }
}

#[derive(Debug, Serialize)]
struct RepoEntry {
    #[serde(flatten)]
    repo: Repo,
    split: Split,
    files: usize,
    functions: usize,
}

impl Config {
    fn all_sources(&self) -> impl Iterator<Item = &Source> {
        self.source.iter().chain(&self.sources)
    }
}

impl SplitShares {
    /// The split of a repository: by hash, so it never changes when others come or go.
    pub fn of(&self, repo: &str) -> Split {
        let hash = blake3::hash(format!("{}{repo}", self.salt).as_bytes());
        let bytes: [u8; 8] = hash.as_bytes()[..8].try_into().expect("a hash has 32 bytes");
        let place = (u64::from_le_bytes(bytes) >> 11) as f64 / (1u64 << 53) as f64;
        if place < self.test {
            Split::Test
        } else if place < self.test + self.valid {
            Split::Valid
        } else {
            Split::Train
        }
    }
}

impl Stage for Harvest {
    const NAME: &'static str = "harvest";
    const ABOUT: &'static str = "Extract functions with their documentation from packages, folders and git checkouts";
    const REVISION: u32 = 2;
    type Config = Config;
    type Inputs = ();
    type Output = Raw;
    type Report = HarvestReport;
    type Error = anyhow::Error;

    fn external_inputs(config: &Config) -> Result<Vec<(String, Digest)>> {
        config.all_sources().filter_map(|source| source::external_inputs(source).transpose()).collect()
    }

    fn run(config: &Config, (): &(), run: &Run<'_>) -> Result<HarvestReport> {
        ensure!(
            config.all_sources().next().is_some(),
            "no sources: set harvest.source or harvest.sources, for example {{ kind = dir, path = \"..\" }}"
        );
        let shares = &config.split;
        ensure!(
            shares.valid >= 0.0 && shares.test >= 0.0 && shares.valid + shares.test < 1.0,
            "harvest.split: valid {} and test {} must leave something to train on",
            shares.valid,
            shares.test
        );
        let mut report = HarvestReport::default();
        let mut writer = Writer::new(run.out, config.records_per_file);
        let mut entries = Vec::new();
        let mut reader = Reader {
            exclude: &config.exclude,
            max_file_bytes: config.max_file_bytes,
            cache: run.cache,
            progress: run.progress,
            skipped: BTreeMap::new(),
        };
        let repos = config.all_sources().map(Source::repos).sum::<Result<u64>>()?;
        let bar = run.progress.bar("harvest", repos, "repositories");
        for (index, source) in config.all_sources().enumerate() {
            match source {
                Source::Csn { path } => {
                    let (files, links) = copy_tree(path, &run.out.join(format!("csn-{index}")))?;
                    report.csn_files += files;
                    if links > 0 {
                        *report.skipped.entry("link not followed".to_owned()).or_default() += links;
                    }
                    continue;
                }
                Source::Urls { files, parallel } => {
                    let fetched = download::fetch(files, *parallel, run.cache, run.progress)?;
                    for (file, cached) in files.iter().zip(fetched) {
                        take_over(&cached, &run.out.join(format!("urls-{index}")).join(&file.name))?;
                    }
                    report.csn_files += files.len() as u64;
                    continue;
                }
                Source::Perturbed { path, rows, seed } => {
                    report.csn_files += perturbed::write(path, *rows, *seed, config.records_per_file, run)?;
                    continue;
                }
                Source::Snippets { path, name, language, split } => {
                    let (functions, nameless) = snippets::write(path, name, *language, *split, config.dialect, &mut writer)?;
                    report.functions_seen += functions;
                    report.functions += functions;
                    *report.by_language.entry(language.to_string()).or_default() += functions;
                    *report.by_split.entry(split.to_string()).or_default() += functions;
                    if nameless > 0 {
                        *report.skipped.entry("snippet without a function, kept".to_owned()).or_default() += nameless;
                    }
                    continue;
                }
                Source::Packages { .. } | Source::Dir { .. } => {}
            }
            reader.read(source, &mut |repo, files| {
                let split = config.split.of(&repo.name);
                bar.note(repo.name.clone());
                let before = report.functions;
                for group in files.chunks(256) {
                    let found: Vec<FileFunctions> = group.par_iter().map(|file| functions_of(file, config)).collect();
                    for (file, found) in group.iter().zip(found) {
                        write_functions(repo, split, file, found, &mut writer, &mut report)?;
                    }
                }
                bar.add(1);
                report.repos += 1;
                report.files += files.len() as u64;
                let functions = usize::try_from(report.functions - before)?;
                entries.push(RepoEntry { repo: repo.clone(), split, files: files.len(), functions });
                Ok(())
            })?;
        }
        bar.finish();
        writer.finish()?;
        for (reason, count) in reader.skipped {
            *report.skipped.entry(reason).or_default() += count;
        }
        fs::write(run.out.join(REPOS), serde_json::to_vec_pretty(&entries)?)?;
        Ok(report)
    }
}

/// Functions of one file that pass the filters, and the reasons of those that do not.
struct FileFunctions {
    kept: Vec<(Function, Vec<String>)>,
    seen: u64,
    skipped: Vec<&'static str>,
}

fn functions_of(file: &SourceFile, config: &Config) -> FileFunctions {
    let mut found = FileFunctions { kept: Vec::new(), seen: 0, skipped: Vec::new() };
    if !config.languages.contains(&file.language) {
        return found;
    }
    let lines = file.bytes.iter().filter(|&&byte| byte == b'\n').count() + 1;
    let reason = if file.bytes.len() / lines > config.max_mean_line_bytes {
        Some("file minified")
    } else if is_generated(&file.bytes) {
        Some("file generated")
    } else if file.bytes.contains(&0) {
        Some("file binary")
    } else {
        None
    };
    if let Some(reason) = reason {
        found.skipped.push(reason);
        return found;
    }
    let Ok(functions) = functions::extract(file.language, &file.bytes, config.dialect) else {
        found.skipped.push("file not parsed");
        return found;
    };
    for function in functions {
        found.seen += 1;
        let tokens = documentation_tokens(documentation::summary(&function.docstring));
        let reason = if is_of_a_test(&function.name) {
            Some("function of a test")
        } else if function.lines.1 - function.lines.0 + 1 < config.min_lines {
            Some("function too short")
        } else if tokens.len() < config.min_documentation_tokens && !config.keep_undocumented {
            Some("function undocumented")
        } else {
            None
        };
        match reason {
            Some(reason) => found.skipped.push(reason),
            None => found.kept.push((function, tokens)),
        }
    }
    found
}

/// By word, not by letters as CodeSearchNet does: `shortest_path` and `latest` are no tests
/// (docs/decisions/0004-names-of-tests.md).
fn is_of_a_test(name: &str) -> bool {
    let mut words = Vec::new();
    ledger::words::subtokens(name, &mut words);
    words.iter().any(|word| matches!(word.as_str(), "test" | "tests" | "testing" | "testcase"))
}

fn is_generated(bytes: &[u8]) -> bool {
    let head = String::from_utf8_lossy(&bytes[..bytes.len().min(2048)]).to_lowercase();
    ["do not edit", "@generated", "code generated", "autogenerated"].iter().any(|mark| head.contains(mark))
}

fn write_functions(
    repo: &Repo,
    split: Split,
    file: &SourceFile,
    found: FileFunctions,
    writer: &mut Writer,
    report: &mut HarvestReport,
) -> Result<()> {
    report.functions_seen += found.seen;
    for reason in found.skipped {
        *report.skipped.entry(reason.to_owned()).or_default() += 1;
    }
    for (function, docstring_tokens) in found.kept {
        report.functions += 1;
        report.documented += u64::from(!docstring_tokens.is_empty());
        *report.by_language.entry(file.language.to_string()).or_default() += 1;
        *report.by_split.entry(split.to_string()).or_default() += 1;
        let (first, last) = function.lines;
        writer.write(
            file.language,
            split,
            &Record {
                repo: &repo.name,
                path: &file.path,
                func_name: &function.name,
                original_string: &function.code,
                language: file.language,
                code: &function.code,
                code_tokens: &function.code_tokens,
                docstring: &function.docstring,
                docstring_tokens: &docstring_tokens,
                sha: &repo.sha,
                url: &format!("{}{}#L{first}-L{last}", repo.url_prefix, file.path),
                partition: split,
            },
        )?;
    }
    Ok(())
}

/// Copies every regular file of a tree (not links: what its owner edits later must not change an artifact).
/// Returns the files, and the links that were passed over.
fn copy_tree(from: &Path, to: &Path) -> Result<(u64, u64)> {
    let (paths, links) = source::data_files(from)?;
    for path in &paths {
        let (source, target) = (from.join(path), to.join(path));
        fs::create_dir_all(target.parent().context("a file lies in a folder")?)?;
        fs::copy(&source, &target).with_context(|| format!("copying {}", source.display()))?;
    }
    ensure!(!paths.is_empty(), "no files in {}", from.display());
    Ok((paths.len() as u64, links))
}

/// A verified download, linked rather than stored twice.
fn take_over(cached: &Path, target: &Path) -> Result<()> {
    fs::create_dir_all(target.parent().context("a file lies in a folder")?)?;
    ensure!(!target.exists(), "{} is there already: name every file once", target.display());
    fs::hard_link(cached, target)
        .or_else(|_| fs::copy(cached, target).map(|_| ()))
        .with_context(|| format!("taking over {}", cached.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_test_is_known_by_a_word_of_its_name() {
        assert!(["test_read", "FileTest.read", "testRead", "Tests.run"].iter().all(|name| is_of_a_test(name)));
        assert!(!["shortest_path", "latestVersion", "contest", "greatest"].iter().any(|name| is_of_a_test(name)));
    }

    #[test]
    fn a_repository_keeps_its_split_and_the_shares_hold() {
        let shares = SplitShares { valid: 0.1, test: 0.2, salt: String::new() };
        let splits: Vec<Split> = (0..5000).map(|n| shares.of(&format!("owner/repo{n}"))).collect();
        let share = |split| splits.iter().filter(|&&other| other == split).count() as f64 / 5000.0;
        assert!((share(Split::Valid) - 0.1).abs() < 0.02 && (share(Split::Test) - 0.2).abs() < 0.02);
        assert_eq!(shares.of("a/b"), shares.of("a/b"));
    }
}
