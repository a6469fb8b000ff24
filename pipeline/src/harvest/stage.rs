//! The stage `harvest`.

use ledger::{Bar, Digest, Raw, Run, Split, Stage};
use rayon::prelude::*;

use super::{
    config::Config,
    content::{FileFunctions, content_of, filter},
    copy::{copy_tree, link_download},
    download, external,
    layout::{Record, Writer},
    list::GROUP,
    perturbed,
    reader::{Reader, RepoFiles, SourceFile, repository_count},
    report::HarvestReport,
    repository_names::check_names,
    snippets,
    source::Source,
};
use crate::{
    error::{Error, Result},
    repositories::{self, Repo, RepoEntry},
};

/// Extracts functions from source code.
#[derive(Debug)]
pub struct Harvest;

impl Stage for Harvest {
    const NAME: &'static str = "harvest";
    const ABOUT: &'static str = "Extract functions with their documentation from packages, folders and git checkouts";
    const REVISION: u32 = 4;
    type Config = Config;
    type Inputs = ();
    type Output = Raw;
    type Report = HarvestReport;
    type Error = Error;

    fn external_inputs(config: &Config) -> Result<Vec<(String, Digest)>> {
        config.all_sources().filter_map(|source| external::external_inputs(config, source).transpose()).collect()
    }

    fn run(config: &Config, (): &(), run: &Run<'_>) -> Result<HarvestReport> {
        config.check()?;
        check_names(config)?;
        let repos = config.all_sources().map(repository_count).sum::<Result<u64>>()?;
        let mut harvester = Harvester {
            config,
            run,
            bar: run.progress.bar("harvest", repos, "repositories"),
            writer: Writer::new(run.out, config.records_per_file),
            entries: Vec::new(),
            report: HarvestReport::default(),
        };
        let mut reader = Reader::new(config, run.cache, run.progress);
        for (index, source) in config.all_sources().enumerate() {
            harvester.source(index, source, &mut reader)?;
        }
        harvester.bar.finish();
        harvester.writer.finish()?;
        for (reason, count) in reader.skipped {
            harvester.report.skip(&reason, count);
        }
        repositories::write(run.out, &harvester.entries)?;
        Ok(harvester.report)
    }
}

/// A run of the stage.
struct Harvester<'a> {
    config: &'a Config,
    run: &'a Run<'a>,
    bar: Bar,
    writer: Writer,
    entries: Vec<RepoEntry>,
    report: HarvestReport,
}

impl Harvester<'_> {
    /// Writes the records of a source. `index`: position of the source in the configuration.
    fn source(&mut self, index: usize, source: &Source, reader: &mut Reader<'_>) -> Result<()> {
        match source {
            Source::Csn { path } => {
                let (files, links) = copy_tree(path, &self.run.out.join(format!("csn-{index}")))?;
                self.report.csn_files += files;
                self.report.skip("link not followed", links);
            }
            Source::Urls { files, parallel } => {
                let fetched = download::fetch(files, *parallel, self.run.cache, self.run.progress)?;
                for (file, cached) in files.iter().zip(fetched) {
                    link_download(&cached, &self.run.out.join(format!("urls-{index}")).join(&file.name))?;
                }
                self.report.csn_files += files.len() as u64;
            }
            Source::Perturbed { path, rows, seed } => {
                self.report.csn_files += perturbed::write(path, *rows, *seed, self.config.records_per_file, self.run)?;
            }
            Source::Snippets { path, name, language, split } => {
                let (functions, unnamed) = snippets::write(path, name, *language, *split, self.config.dialect, &mut self.writer)?;
                self.report.functions_seen += functions;
                self.report.functions += functions;
                *self.report.by_language.entry(language.to_string()).or_default() += functions;
                *self.report.by_split.entry(split.to_string()).or_default() += functions;
                self.report.skip("snippet without a function, kept", unnamed);
            }
            Source::Packages { .. } => reader.read(source, &mut |repo, found| self.repository(repo, found))?,
            Source::Dir { path, each_subfolder, .. } => {
                reader.read(source, &mut |repo, found| self.repository(repo, found))?;
                let name = external::name_of_folder(path, *each_subfolder);
                self.run.check_external_input(&name, Digest::of(&reader.contents)?)?;
            }
        }
        Ok(())
    }

    fn repository(&mut self, repo: &Repo, RepoFiles { files, .. }: RepoFiles) -> Result<()> {
        let split = self.config.split.of(&repo.name);
        self.bar.note(repo.name.clone());
        let before = self.report.functions;
        for group in files.chunks(GROUP) {
            let config = self.config;
            let found: Vec<FileFunctions> = group.par_iter().map(|file| filter(content_of(file, config), config)).collect();
            for (file, found) in group.iter().zip(found) {
                self.write(repo, split, file, found)?;
            }
        }
        self.bar.add(1);
        self.report.repos += 1;
        self.report.files += files.len() as u64;
        let functions = usize::try_from(self.report.functions - before)?;
        self.entries.push(RepoEntry { repo: repo.clone(), split, files: files.len(), functions });
        Ok(())
    }

    fn write(&mut self, repo: &Repo, split: Split, file: &SourceFile, found: FileFunctions) -> Result<()> {
        self.report.functions_seen += found.seen;
        found.skipped.into_iter().for_each(|reason| self.report.skip(&reason, 1));
        for accepted in found.accepted {
            let function = &accepted.function;
            self.report.functions += 1;
            self.report.documented += u64::from(!accepted.docstring_tokens.is_empty());
            *self.report.by_language.entry(file.language.to_string()).or_default() += 1;
            *self.report.by_split.entry(split.to_string()).or_default() += 1;
            let (first, last) = function.lines;
            let record = Record {
                repo: &repo.name,
                path: &file.path,
                func_name: &function.name,
                original_string: &function.code,
                language: file.language,
                code: &function.code,
                code_tokens: &function.code_tokens,
                docstring: &function.docstring,
                docstring_tokens: &accepted.docstring_tokens,
                sha: &repo.sha,
                url: &format!("{}{}#L{first}-L{last}", repo.url_prefix, file.path),
                partition: split,
            };
            self.writer.write(file.language, split, &record)?;
        }
        Ok(())
    }
}
