//! The stage `harvest`.

use std::{
    collections::{BTreeMap, btree_map},
    path::Path,
};

use ledger::{Bar, Digest, Raw, Run, Split, Stage};
use rayon::prelude::*;

use super::{
    config::Config,
    copy::{copy_tree, link_download},
    download,
    earlier::{Earlier, EntriesWriter, Entry, Member},
    external,
    extraction::{self, Counts, Extracted, extract},
    layout::{Place, Writer},
    list::GROUP,
    perturbed,
    reader::{Reader, repository_count},
    report::HarvestReport,
    repository_names::check_names,
    snippets,
    source::Source,
    source_file::{RepoFiles, SourceFile},
};
use crate::{
    error::{Context, Error, Result},
    repositories::{self, Repo, RepoEntry},
};

/// Extracts functions from source code.
#[derive(Debug)]
pub struct Harvest;

impl Stage for Harvest {
    const NAME: &'static str = "harvest";
    const ABOUT: &'static str = "Extract functions with their documentation from packages, folders and git checkouts";
    const REVISION: u32 = 6;
    type Config = Config;
    type Inputs = ();
    type Output = Raw;
    type Report = HarvestReport;
    type Error = Error;

    fn external_inputs(config: &Config) -> Result<Vec<(String, Digest)>> {
        let mut inputs = external::kept_inputs(config)?;
        for source in config.all_sources() {
            inputs.extend(external::external_inputs(config, source)?);
        }
        Ok(inputs)
    }

    fn run(config: &Config, (): &(), run: &Run<'_>) -> Result<HarvestReport> {
        config.check()?;
        check_names(config)?;
        let repos = config.all_sources().map(repository_count).sum::<Result<u64>>()?;
        let settings = extraction::settings(config, Self::REVISION)?;
        let mut harvester = Harvester {
            config,
            run,
            bar: run.progress.bar("harvest", repos, "repositories"),
            writer: Writer::new(run.out, config.records_per_file),
            settings,
            files: EntriesWriter::create(run.out)?,
            earlier: run.previous().and_then(|dir| Earlier::open(dir).ok()),
            entries: Vec::new(),
            report: HarvestReport::default(),
        };
        let mut reader = Reader::new(config, run.cache, run.progress).with_licences_of(run.previous());
        for (index, source) in config.all_sources().enumerate() {
            harvester.source(index, source, &mut reader)?;
        }
        harvester.kept()?;
        harvester.bar.finish();
        harvester.writer.finish()?;
        harvester.files.finish()?;
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
    files: EntriesWriter,
    /// Digest of the settings that the records of a file depend on.
    settings: Digest,
    /// The previous artifact, from which the records of unchanged files are copied.
    earlier: Option<Earlier>,
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
            let of_file = |file: &SourceFile| -> Result<(Digest, bool, Extracted)> {
                let key = extraction::key(repo, split, file, &self.settings)?;
                let earlier = self.earlier.as_ref().and_then(|earlier| earlier.get(&key, &repo.sha));
                let (is_earlier, extracted) = (earlier.is_some(), earlier.map_or_else(|| extract(repo, split, file, self.config), Ok)?);
                Ok((key, is_earlier, extracted))
            };
            let found = group.par_iter().map(of_file).collect::<Result<Vec<_>>>()?;
            for (file, (key, is_earlier, extracted)) in group.iter().zip(found) {
                self.run.count_shards(u64::from(is_earlier), u64::from(!is_earlier));
                let Extracted { counts, member } = extracted;
                let (name, path, sha) = (repo.name.clone(), file.path.clone(), repo.sha.clone());
                let entry = Entry { key, repo: name, path, language: file.language, sha, counts, member: None };
                self.write(split, entry, &member)?;
            }
        }
        self.bar.add(1);
        self.report.repos += 1;
        self.report.files += files.len() as u64;
        let functions = usize::try_from(self.report.functions - before)?;
        self.entries.push(RepoEntry { repo: repo.clone(), split, files: files.len(), functions });
        Ok(())
    }

    /// Copies the records of the repositories that are not read.
    fn kept(&mut self) -> Result<()> {
        let mut artifacts: BTreeMap<&Path, (Earlier, Vec<RepoEntry>)> = BTreeMap::new();
        for kept in &self.config.kept {
            let Some(from) = kept.from.as_deref() else {
                self.report.skip("repository not readable", 1);
                continue;
            };
            let (earlier, entries) = match artifacts.entry(from) {
                btree_map::Entry::Occupied(entry) => entry.into_mut(),
                btree_map::Entry::Vacant(entry) => entry.insert((Earlier::open(from)?, repositories::read(from)?)),
            };
            let repository = entries.iter().find(|entry| entry.repo.name == kept.name);
            let repository = repository.with_context(|| format!("{} has no repository {}", from.display(), kept.name))?.clone();
            let files: Vec<Entry> = earlier.of_repository(&kept.name).into_iter().cloned().collect();
            for entry in files {
                let extracted = earlier.records(&entry).with_context(|| {
                    format!("the kept records of {} in {} are damaged: repair the repository", kept.name, from.display())
                })?;
                self.run.count_shards(1, 0);
                self.write(repository.split, Entry { member: None, ..entry }, &extracted.member)?;
            }
            self.bar.add(1);
            self.report.repos += 1;
            self.report.files += repository.files as u64;
            self.entries.push(repository);
        }
        Ok(())
    }

    /// Writes the records of a source file.
    fn write(&mut self, split: Split, mut entry: Entry, member: &[u8]) -> Result<()> {
        let Counts { seen, functions, documented, skipped } = &entry.counts;
        self.report.functions_seen += seen;
        self.report.functions += functions;
        self.report.documented += documented;
        skipped.iter().for_each(|(reason, count)| self.report.skip(reason, *count));
        if *functions > 0 {
            *self.report.by_language.entry(entry.language.to_string()).or_default() += functions;
            *self.report.by_split.entry(split.to_string()).or_default() += functions;
            let Place { file, offset } = self.writer.append(entry.language, split, member, usize::try_from(*functions)?)?;
            entry.member = Some(Member { file, offset, bytes: member.len() as u64, digest: Digest::of_bytes(member) });
        }
        self.files.write(&entry)
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, path::PathBuf};

    use ledger::{Progress, Store};
    use proptest::prelude::*;

    use super::*;
    use crate::{
        files::data_files,
        harvest::{Kept, list::tests::config},
    };

    /// Bytes of every file of an artifact but its manifest.
    fn bytes(dir: &Path) -> BTreeMap<String, Vec<u8>> {
        let names = data_files(dir).unwrap().0.into_iter().filter(|name| name != "manifest.json");
        names.map(|name| (name.clone(), fs::read(dir.join(&name)).unwrap())).collect()
    }

    fn harvest(source: &Path, data: &Path) -> (BTreeMap<String, Vec<u8>>, HarvestReport, u64) {
        let mut config = config(source);
        config.records_per_file = 3;
        let raw = Store::at(data, Progress::new(true), 2).make::<Harvest>(&config).unwrap();
        let manifest = raw.manifest();
        (bytes(raw.dir()), serde_json::from_value(manifest.report.clone()).unwrap(), manifest.host.shards_reused)
    }

    fn function(number: u8) -> String {
        format!("def read{number}(path):\n    '''Reads the file {number}.'''\n    return open(path).read({number})\n\n\n")
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(12))]

        /// Each step writes files (a number of functions each; none: deletes the file).
        #[test]
        fn a_harvest_with_a_previous_one_writes_the_bytes_of_a_harvest_from_nothing(
            steps in prop::collection::vec(prop::collection::vec((0u8..6, prop::option::of(0u8..4)), 1..5), 1..5)
        ) {
            let (source, data) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
            fs::write(source.path().join("always.py"), function(9)).unwrap();
            for step in steps {
                for (file, functions) in step {
                    let path = source.path().join(format!("f{file}.py"));
                    match functions {
                        Some(count) => fs::write(path, (0..count).map(|number| function(number + file)).collect::<String>()).unwrap(),
                        None => drop(fs::remove_file(path)),
                    }
                }
                let (ours, report, _) = harvest(source.path(), data.path());
                let fresh = tempfile::tempdir().unwrap();
                let (expected, from_nothing, reused) = harvest(source.path(), fresh.path());
                prop_assert_eq!(reused, 0);
                prop_assert_eq!(ours, expected);
                prop_assert_eq!(serde_json::to_value(report).unwrap(), serde_json::to_value(from_nothing).unwrap());
            }
        }
    }

    /// A folder of two repositories, `a` and `b`, each with a function of three lines and one of four.
    fn two_repositories() -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for name in ["a", "b"] {
            fs::create_dir(dir.path().join(name)).unwrap();
            let longer = "def load(path):\n    '''Loads the whole file.'''\n    text = open(path)\n    return text\n";
            fs::write(dir.path().join(name).join("f.py"), function(1) + longer).unwrap();
        }
        dir
    }

    fn harvest_with(
        data: &Path,
        sources: serde_json::Value,
        min_lines: u32,
        kept: Vec<Kept>,
    ) -> (Vec<String>, BTreeMap<String, Vec<u8>>, PathBuf) {
        let mut config = config(Path::new(""));
        (config.source, config.sources) = (None, serde_json::from_value(sources).unwrap());
        (config.min_lines, config.kept) = (min_lines, kept);
        let raw = Store::at(data, Progress::new(true), 2).make::<Harvest>(&config).unwrap();
        let repos = repositories::read(raw.dir()).unwrap();
        let repos = repos.iter().map(|entry| format!("{} {}", entry.repo.name, entry.functions)).collect();
        (repos, bytes(raw.dir()), raw.dir().to_owned())
    }

    #[test]
    fn records_that_were_kept_are_extracted_again_with_other_settings() {
        let (source, data, fresh) = (two_repositories(), tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let sources = || serde_json::json!([{ "kind": "dir", "path": source.path(), "each-subfolder": true }]);
        let (_, _, first) = harvest_with(data.path(), sources(), 1, Vec::new());
        let kept = Kept { name: "a".to_owned(), from: Some(first), source: Some(source.path().to_owned()) };
        let (repos, ..) = harvest_with(data.path(), sources(), 4, vec![kept]);
        assert_eq!(repos, ["b 1", "a 2"], "the kept repository has the functions of the first settings");
        let (_, again, _) = harvest_with(data.path(), sources(), 4, Vec::new());
        assert_eq!(again, harvest_with(fresh.path(), sources(), 4, Vec::new()).1);
    }

    #[test]
    fn a_source_folder_without_repositories_is_not_read_where_its_repositories_are_kept() {
        let (source, empty, data) = (two_repositories(), tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let folder = |path: &Path, name: &str| serde_json::json!({ "kind": "dir", "path": path, "each-subfolder": true, "name": name });
        let other = empty.path().join("other");
        fs::create_dir(&other).unwrap();
        fs::write(other.join("f.py"), function(1)).unwrap();
        let sources = || serde_json::json!([folder(source.path(), "one"), folder(empty.path(), "two")]);
        let (_, _, first) = harvest_with(data.path(), sources(), 1, Vec::new());
        fs::remove_dir_all(&other).unwrap();
        let kept = Kept { name: "two/other".to_owned(), from: Some(first), source: Some(empty.path().to_owned()) };
        assert_eq!(harvest_with(data.path(), sources(), 1, vec![kept]).0, ["one/a 2", "one/b 2", "two/other 1"]);
    }

    #[test]
    fn only_the_changed_file_is_extracted_again() {
        let (source, data) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        (0..5).for_each(|number| fs::write(source.path().join(format!("f{number}.py")), function(number)).unwrap());
        harvest(source.path(), data.path());
        fs::write(source.path().join("f2.py"), function(7)).unwrap();
        assert_eq!(harvest(source.path(), data.path()).2, 4);
    }
}
