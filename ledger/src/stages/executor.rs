//! The executor: it finds out why a stage would run, runs it in a scratch folder, and seals the output.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    sync::{OnceLock, atomic::Ordering},
    time::Instant,
};

use serde_json::Value;

use super::{
    freshness::Freshness,
    inputs::Inputs,
    shard_records::ShardRecords,
    stage::{Report, Run, Stage},
};
use crate::{
    artifacts::{
        artifact::{Artifact, ArtifactId},
        commit::Commit,
        manifest::{FileRecord, Host, InputRecord, MANIFEST, Manifest, Rows, ShardRecord},
        recordable::Recordable,
        restore_marker::RestoreMarker,
    },
    clock::unix_now,
    digest::Digest,
    durable::{fsync_dir, fsync_tree, scratch_folder, write_atomically},
    ensure,
    error::{Context, Error, Result},
    events::{self, Outcome},
    fault,
    layout::runs::WorkDir,
    progress::{peak_rss_mib, reset_peak_rss},
    store::artifact_store::{SCRATCH, Store},
};

/// Number of times that a stage starts whose external inputs change while it reads them.
const ATTEMPTS: u32 = 3;

/// A request to run a stage now.
pub(crate) struct StageRequest<S: Stage> {
    inputs: S::Inputs,
    /// Artifacts and external inputs by name.
    records: BTreeMap<String, InputRecord>,
    config: Value,
    /// Key of the artifact: a digest of stage, revision, configuration and inputs.
    key: String,
}

/// What a run wrote into its scratch folder.
pub(crate) struct StageOutput {
    report: Value,
    rows: Rows,
    pub(crate) outputs: BTreeMap<PathBuf, FileRecord>,
    shards: BTreeMap<String, ShardRecord>,
    shards_reused: u64,
    shards_run: u64,
}

impl<S: Stage> StageRequest<S> {
    /// The record of a run.
    fn manifest(&self, output: StageOutput, host: Host) -> Manifest {
        Manifest {
            schema: Manifest::schema(),
            kind: S::Output::KIND.to_owned(),
            stage: S::NAME.to_owned(),
            revision: S::REVISION,
            key: self.key.clone(),
            config: self.config.clone(),
            inputs: self.records.clone(),
            outputs: output.outputs,
            shards: output.shards,
            rows: output.rows,
            report: output.report,
            host,
        }
    }
}

impl Store {
    /// Why [`Store::make`] would run the stage now.
    pub fn freshness<S: Stage>(&self, config: &S::Config) -> Result<Freshness> {
        let waiting = S::Inputs::kinds().into_iter().find(|kind| self.current_manifest(kind).is_none());
        match waiting {
            Some(input) => Ok(Freshness::Waiting { input: input.to_owned() }),
            None => self.compare::<S>(&self.request::<S>(config)?),
        }
    }

    /// The work directory of the stage, if it ran now.
    pub fn work_dir<S: Stage>(&self, config: &S::Config) -> Result<PathBuf> {
        Ok(self.work_dir_of(S::NAME, &self.request::<S>(config)?.key))
    }

    fn work_dir_of(&self, stage: &str, key: &str) -> PathBuf {
        WorkDir::of(&self.root, stage, key).path
    }

    pub(crate) fn request<S: Stage>(&self, config: &S::Config) -> Result<StageRequest<S>> {
        let inputs = S::Inputs::current(self)?;
        let mut records: BTreeMap<_, _> = inputs.records().into_iter().map(|(kind, record)| (kind.to_owned(), record)).collect();
        let external = external_inputs::<S>(config);
        let config = serde_json::to_value(config)?;
        match external {
            Ok(external) => records.extend(external.into_iter().map(|(name, digest)| (name, InputRecord { key: None, digest, bytes: 0 }))),
            Err(error) => records.extend(self.restored_external_inputs::<S>(&config).ok_or(error)?),
        }
        let digests: BTreeMap<_, _> = records.iter().map(|(kind, input)| (kind, input.digest)).collect();
        let key = Digest::of(&(S::NAME, S::REVISION, &config, &digests))?.short();
        Ok(StageRequest { inputs, records, config, key })
    }

    /// The external inputs of a restored artifact, which need not exist on this machine.
    fn restored_external_inputs<S: Stage>(&self, config: &Value) -> Option<BTreeMap<String, InputRecord>> {
        let (dir, manifest) = self.current_manifest(S::Output::KIND)?;
        let is_this_run = manifest.stage == S::NAME && manifest.config == *config && RestoreMarker::of(&dir).is_some();
        is_this_run.then(|| manifest.inputs.into_iter().filter(|(_, input)| input.key.is_none()).collect())
    }

    pub(crate) fn compare<S: Stage>(&self, request: &StageRequest<S>) -> Result<Freshness> {
        let Some(key) = self.current_key(S::Output::KIND) else { return Ok(Freshness::Missing) };
        let id = ArtifactId { kind: S::Output::KIND.to_owned(), key };
        let dir = self.dir(&id);
        if !dir.is_dir() {
            return Ok(Freshness::Missing);
        }
        let Ok(manifest) = Manifest::read(&dir) else { return Ok(Freshness::Damaged { files: vec![MANIFEST.into()] }) };
        let damaged = self.damage_of(&id, &manifest);
        if !damaged.is_empty() {
            return Ok(Freshness::Damaged { files: damaged });
        }
        let files_of = |kind: &str, key: &str| Manifest::read(&self.root.join(kind).join(key)).ok();
        Ok(Freshness::of(&manifest, S::REVISION, &request.config, &request.records, files_of))
    }

    /// Files with another size, and files that the last `verify` found damaged.
    fn damage_of(&self, id: &ArtifactId, manifest: &Manifest) -> Vec<PathBuf> {
        let mut files = manifest.files_of_wrong_size(&self.dir(id));
        // Hashed again: the file may have been repaired since.
        let dir = self.dir(id);
        let is_damaged =
            |path: &PathBuf| manifest.outputs.get(path).is_some_and(|file| Digest::of_file(&dir.join(path)).ok() != Some(file.blake3));
        files.extend(self.known_damage(id).into_iter().filter(is_damaged));
        files.sort();
        files.dedup();
        files
    }

    /// Runs the stage unless its artifact is up to date or was recorded before, and points `CURRENT` at the artifact.
    ///
    /// # Errors
    /// [`Error::Stage`] with the error of the stage as its source.
    pub fn make<S: Stage>(&self, config: &S::Config) -> Result<Artifact<S::Output>> {
        let _lock = self.lock()?;
        let mut attempt = 1;
        let made = loop {
            match self.make_locked::<S>(config) {
                Err(Error::InputChanged { input }) if attempt < ATTEMPTS => {
                    attempt += 1;
                    self.progress.message(&format!("{:<9} starts again: {input} changed while it was read", S::NAME));
                }
                made => break made,
            }
        };
        made.map_err(|error| Error::Stage { name: S::NAME.to_owned(), source: error.into() })
    }

    fn make_locked<S: Stage>(&self, config: &S::Config) -> Result<Artifact<S::Output>> {
        let request = self.request::<S>(config)?;
        let why = self.compare::<S>(&request)?;
        let key = &request.key;
        let kind = self.root.join(S::Output::KIND);
        let id = ArtifactId { kind: S::Output::KIND.to_owned(), key: key.clone() };
        let dir = self.dir(&id);

        let recorded = Manifest::read(&dir).is_ok_and(|manifest| self.damage_of(&id, &manifest).is_empty());
        if why.is_up_to_date() && recorded {
            self.progress.message(&format!("{:<9} up to date ({key})", S::NAME));
        } else if recorded {
            self.progress.message(&format!("{:<9} {why}; recorded before ({key})", S::NAME));
        } else {
            self.progress.message(&format!("{:<9} runs: {why}", S::NAME));
            let sealed = self.run_and_seal::<S>(config, &request)?;
            if dir.exists() {
                fault::point("removing what was damaged");
                fs::remove_dir_all(&dir).map_err(Error::io("removing damaged", &dir))?;
            }
            fault::point("rename of the sealed folder");
            fs::rename(&sealed, &dir).map_err(Error::io("sealing", &dir))?;
            fsync_dir(&kind)?;
            self.forget_damage(&id)?;
        }
        if self.current_key(&id.kind).as_ref() != Some(key) {
            self.set_current(&id)?;
        }
        Artifact::at(dir)
    }

    fn run_and_seal<S: Stage>(&self, config: &S::Config, request: &StageRequest<S>) -> Result<PathBuf> {
        let kind = self.root.join(S::Output::KIND);
        fs::create_dir_all(&kind).map_err(Error::io("creating", &kind))?;
        let scratch = scratch_folder(SCRATCH, &kind)?;
        fault::point("running the stage");
        let (started, clock) = (unix_now(), Instant::now());
        reset_peak_rss();
        let event = events::Run::start(self, S::NAME, &request.key, &request.config, &request.records);
        let is_previous = |manifest: &Manifest| manifest.stage == S::NAME && manifest.revision == S::REVISION;
        let previous = self.current_manifest(S::Output::KIND).filter(|(_, manifest)| is_previous(manifest));
        let work_dir = self.work_dir_of(S::NAME, &request.key);
        let output = self.run_in::<S>(config, request, scratch.path(), work_dir, previous, false);
        let output = output.inspect_err(|error| event.end(self, &Outcome::Failed(error)))?;
        let host = Host {
            commit: Commit::recorded_in(&self.root)?,
            started_unix_s: started,
            finished_unix_s: unix_now(),
            wall_s: clock.elapsed().as_secs_f64(),
            peak_rss_mib: peak_rss_mib(),
            shards_reused: output.shards_reused,
            shards_run: output.shards_run,
            ..Host::here(self.threads)
        };
        let manifest = request.manifest(output, host);
        fsync_tree(scratch.path())?;
        write_atomically(&scratch.path().join(MANIFEST), &manifest.to_bytes()?)?;
        event.end(self, &Outcome::Complete(&manifest));
        self.progress.message(&format!(
            "{:<9} {} rows in, {} out, {} rejected, {:.1} s ({})",
            S::NAME,
            manifest.rows.read,
            manifest.rows.written,
            manifest.rows.rejected,
            manifest.host.wall_s,
            manifest.key
        ));
        Ok(scratch.keep())
    }

    pub(crate) fn run_in<S: Stage>(
        &self,
        config: &S::Config,
        request: &StageRequest<S>,
        out: &Path,
        work_dir: PathBuf,
        previous: Option<(PathBuf, Manifest)>,
        is_rerun: bool,
    ) -> Result<StageOutput> {
        let run = Run {
            out,
            cache: &self.cache_dir(),
            is_rerun,
            work_dir,
            progress: &self.progress,
            threads: self.threads,
            artifacts: self.root.join(S::Output::KIND),
            shards: ShardRecords { previous, config: request.config.clone(), inputs: request.records.clone(), ..ShardRecords::default() },
            changed: OnceLock::new(),
        };
        let report = S::run(config, &request.inputs, &run).map_err(|error| match run.changed.get() {
            Some(input) => Error::InputChanged { input: input.clone() },
            None => Error::other(error),
        })?;
        let rows = report.rows();
        ensure!(rows.written > 0, "{} wrote no rows ({} read, {} rejected)", S::NAME, rows.read, rows.rejected);
        fault::point("hashing");
        let outputs = FileRecord::of_folder(out)?;
        ensure!(!outputs.is_empty(), "{} wrote no files", S::NAME);
        S::Output::open(out).context("the output of the stage cannot be opened")?;
        Ok(StageOutput {
            report: serde_json::to_value(report)?,
            rows,
            outputs,
            shards: run.shards.records.into_inner().expect("no holder panics"),
            shards_reused: run.shards.reused.load(Ordering::Relaxed),
            shards_run: run.shards.run.load(Ordering::Relaxed),
        })
    }
}

pub(crate) fn external_inputs<S: Stage>(config: &S::Config) -> Result<Vec<(String, Digest)>> {
    S::external_inputs(config).map_err(Error::other)
}

#[cfg(test)]
mod tests {
    use schemars::JsonSchema;
    use serde::{Deserialize, Serialize};

    use super::*;
    use crate::{artifacts::kinds::Raw, progress::Progress};

    /// Copies a file with a number that another process increases while it is smaller than `until`.
    struct Copy;

    #[derive(Serialize, Deserialize, JsonSchema)]
    struct CopyConfig {
        file: PathBuf,
        until: u32,
    }

    #[derive(Serialize, Deserialize)]
    struct CopyReport;

    impl Report for CopyReport {
        fn rows(&self) -> Rows {
            Rows { read: 1, written: 1, rejected: 0 }
        }
    }

    impl Stage for Copy {
        const NAME: &'static str = "copy";
        const ABOUT: &'static str = "Copy a file";
        const REVISION: u32 = 1;
        type Config = CopyConfig;
        type Inputs = ();
        type Output = Raw;
        type Report = CopyReport;
        type Error = Error;

        fn external_inputs(config: &CopyConfig) -> Result<Vec<(String, Digest)>> {
            Ok(vec![("file".to_owned(), Digest::of_file(&config.file)?)])
        }

        fn run(config: &CopyConfig, (): &(), run: &Run<'_>) -> Result<CopyReport> {
            let number: u32 = fs::read_to_string(&config.file)?.parse().map_err(Error::other)?;
            if number < config.until {
                fs::write(&config.file, (number + 1).to_string())?;
            }
            let read = fs::read(&config.file)?;
            fs::write(run.out.join("copy"), &read)?;
            run.check_external_input("file", Digest::of_bytes(&read))?;
            Ok(CopyReport)
        }
    }

    #[test]
    fn a_stage_starts_again_when_an_external_input_changes_while_it_is_read() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::at(dir.path().join("data"), Progress::new(true), 1);
        let file = dir.path().join("number");
        let make = |until: u32| {
            fs::write(&file, "0").unwrap();
            store.make::<Copy>(&CopyConfig { file: file.clone(), until })
        };
        let made = make(2).unwrap();
        assert_eq!(fs::read_to_string(made.dir().join("copy")).unwrap(), "2");
        assert_eq!(made.manifest().inputs["file"].digest, Digest::of_bytes(b"2"));
        let error = crate::chain(&make(3).unwrap_err());
        assert!(error.contains("stage copy: file changed while it was read"), "{error}");
        assert_eq!(store.artifacts().unwrap().len(), 1, "what was torn is not recorded");
    }

    #[test]
    fn a_restored_artifact_is_up_to_date_without_its_external_inputs() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::at(dir.path().join("data"), Progress::new(true), 1);
        let file = dir.path().join("number");
        let config = |until| CopyConfig { file: file.clone(), until };
        fs::write(&file, "5").unwrap();
        let made = store.make::<Copy>(&config(2)).unwrap();
        fs::remove_file(&file).unwrap();
        assert!(store.freshness::<Copy>(&config(2)).is_err(), "nothing says that the artifact was restored");
        let marker = RestoreMarker { from: "file:///snapshots".to_owned(), without_files: false };
        fs::write(made.dir().join(crate::artifacts::restore_marker::RESTORE_MARKER), serde_json::to_vec(&marker).unwrap()).unwrap();
        assert_eq!(store.freshness::<Copy>(&config(2)).unwrap(), Freshness::UpToDate);
        assert!(store.freshness::<Copy>(&config(3)).is_err(), "another configuration needs the file");
    }

    #[test]
    fn the_last_run_of_each_stage_is_listed_with_its_numbers() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::at(dir.path().join("data"), Progress::new(true), 1);
        fs::write(dir.path().join("number"), "5").unwrap();
        let made = store.make::<Copy>(&CopyConfig { file: dir.path().join("number"), until: 2 }).unwrap();
        assert!(made.manifest().host.peak_rss_mib > 0);
        let (table, numbers) = crate::stages::journal::journal(&store);
        let lines: Vec<&str> = table.lines().collect();
        assert!(lines.len() == 2 && lines[0].starts_with("stage ") && lines[1].starts_with("copy "), "{table}");
        let cells: Vec<&str> = lines[1].split_whitespace().collect();
        assert_eq!(cells[4..6], ["0.0", "0.0"], "one byte in MiB: {table}");
        assert_eq!((&numbers["copy_rows_in"], &numbers["copy_bytes_out"]), (&1.into(), &1.into()));
        let seconds = made.manifest().host.wall_s.max(1e-6);
        let rates = [("copy_mb_per_s", 1e-6 / seconds), ("copy_rows_per_s", 1.0 / seconds)];
        assert!(rates.iter().all(|(name, rate)| (numbers[*name].as_f64().unwrap() / rate - 1.0).abs() < 1e-9), "{numbers:?}");
    }
}
