//! The driver of a stage: why it would run, the run in a scratch folder, the seal, and the same again to compare bytes.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    sync::atomic::Ordering,
    time::Instant,
};

use serde_json::Value;

use crate::{
    Artifact, ArtifactId, Commit, Digest, Error, Freshness, Inputs, Manifest, Recordable, Report, RestoreMarker, Rows, Run, ShardRecord,
    Stage, Store, WorkDir, chain,
    clock::unix_now,
    ensure,
    error::{Context, Result},
    events::{self, Outcome},
    fault,
    manifest::{FileRecord, Host, InputRecord, MANIFEST},
    peak_rss_mib, reset_peak_rss, seal,
    shards::ShardLedger,
    store::SCRATCH,
    write_atomically,
};

/// What came of running a recorded stage once more.
#[derive(Debug)]
pub enum RerunOutcome {
    /// Nothing of this stage is recorded.
    NotRecorded,
    /// It would not be the same run: what differs.
    Differs(Freshness),
    /// An input's files are not here.
    Lacks(String),
    /// It was run: files, their bytes together, and those that came out otherwise.
    Ran { files: usize, bytes: u64, other: Vec<PathBuf>, seconds: f64 },
}

/// What is asked of a stage now.
struct StageRequest<S: Stage> {
    inputs: S::Inputs,
    records: BTreeMap<String, InputRecord>,
    config: Value,
    key: String,
}

/// What a run left in its scratch folder.
struct StageOutput {
    report: Value,
    rows: Rows,
    outputs: BTreeMap<PathBuf, FileRecord>,
    shards: BTreeMap<String, ShardRecord>,
    shards_reused: u64,
    shards_run: u64,
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

    /// The folder in which a stage keeps what a killed run goes on from, were it run now.
    pub fn work_dir<S: Stage>(&self, config: &S::Config) -> Result<PathBuf> {
        Ok(self.work_dir_of(S::NAME, &self.request::<S>(config)?.key))
    }

    fn work_dir_of(&self, stage: &str, key: &str) -> PathBuf {
        WorkDir::of(&self.root, stage, key).path
    }

    fn request<S: Stage>(&self, config: &S::Config) -> Result<StageRequest<S>> {
        let inputs = S::Inputs::current(self)?;
        let mut records: BTreeMap<_, _> = inputs.records().into_iter().map(|(kind, record)| (kind.to_owned(), record)).collect();
        let outside = external_inputs::<S>(config);
        let config = serde_json::to_value(config)?;
        match outside {
            Ok(outside) => records.extend(outside.into_iter().map(|(name, digest)| (name, InputRecord { key: None, digest, bytes: 0 }))),
            Err(error) => records.extend(self.restored_external_inputs::<S>(&config).ok_or(error)?),
        }
        let digests: BTreeMap<_, _> = records.iter().map(|(kind, input)| (kind, input.digest)).collect();
        let key = Digest::of(&(S::NAME, S::REVISION, &config, &digests))?.short();
        Ok(StageRequest { inputs, records, config, key })
    }

    /// What a restored artifact read outside the store, which need not be on this machine.
    fn restored_external_inputs<S: Stage>(&self, config: &Value) -> Option<BTreeMap<String, InputRecord>> {
        let (dir, manifest) = self.current_manifest(S::Output::KIND)?;
        let is_that = manifest.stage == S::NAME && manifest.config == *config && RestoreMarker::of(&dir).is_some();
        is_that.then(|| manifest.inputs.into_iter().filter(|(_, input)| input.key.is_none()).collect())
    }

    fn compare<S: Stage>(&self, request: &StageRequest<S>) -> Result<Freshness> {
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

    /// Files of another size, or found damaged by the last `verify`.
    fn damage_of(&self, id: &ArtifactId, manifest: &Manifest) -> Vec<PathBuf> {
        let mut files = manifest.files_of_wrong_size(&self.dir(id));
        // Looked at again: it may have been mended since.
        let dir = self.dir(id);
        let is_damaged =
            |path: &PathBuf| manifest.outputs.get(path).is_some_and(|file| Digest::of_file(&dir.join(path)).ok() != Some(file.blake3));
        files.extend(self.known_damage(id).into_iter().filter(is_damaged));
        files.sort();
        files.dedup();
        files
    }

    /// Runs `S` unless its artifact is already recorded, and points `CURRENT` at the result.
    pub fn make<S: Stage>(&self, config: &S::Config) -> Result<Artifact<S::Output>> {
        let _held = self.lock()?;
        self.make_held::<S>(config).map_err(|error| Error::Stage { name: S::NAME.to_owned(), source: error.into() })
    }

    fn make_held<S: Stage>(&self, config: &S::Config) -> Result<Artifact<S::Output>> {
        let request = self.request::<S>(config)?;
        let why = self.compare::<S>(&request)?;
        let key = &request.key;
        let kind = self.root.join(S::Output::KIND);
        let id = ArtifactId { kind: S::Output::KIND.to_owned(), key: key.clone() };
        let dir = self.dir(&id);

        let recorded = Manifest::read(&dir).is_ok_and(|manifest| self.damage_of(&id, &manifest).is_empty());
        if why.is_fresh() && recorded {
            self.progress.message(&format!("{:<9} fresh ({key})", S::NAME));
        } else if recorded {
            self.progress.message(&format!("{:<9} {why}; recorded before ({key})", S::NAME));
        } else {
            self.progress.message(&format!("{:<9} runs: {why}", S::NAME));
            let sealed = self.run_and_seal::<S>(config, &request)?;
            if dir.exists() {
                fault::point("removing what was damaged");
                fs::remove_dir_all(&dir).with_context(|| format!("removing damaged {}", dir.display()))?;
            }
            fault::point("rename of the sealed folder");
            fs::rename(&sealed, &dir).with_context(|| format!("sealing {}", dir.display()))?;
            seal::fsync_dir(&kind)?;
            self.forget_damage(&id)?;
        }
        if self.current_key(&id.kind).as_ref() != Some(key) {
            self.set_current(&id)?;
        }
        Artifact::at(dir)
    }

    fn run_and_seal<S: Stage>(&self, config: &S::Config, request: &StageRequest<S>) -> Result<PathBuf> {
        let kind = self.root.join(S::Output::KIND);
        fs::create_dir_all(&kind).with_context(|| format!("creating {}", kind.display()))?;
        let scratch = tempfile::Builder::new().prefix(SCRATCH).tempdir_in(&kind)?;
        fault::point("running the stage");
        let (started, clock) = (unix_now(), Instant::now());
        reset_peak_rss();
        let event = events::Run::start(self, S::NAME, &request.key, &request.config, &request.records);
        let previous = self
            .current_manifest(S::Output::KIND)
            .filter(|(_, manifest)| manifest.revision == S::REVISION && manifest.config == request.config);
        let work_dir = self.work_dir_of(S::NAME, &request.key);
        let made = self.run_in::<S>(config, request, scratch.path(), work_dir, previous, false);
        let made = match made {
            Ok(made) => made,
            Err(error) => {
                event.end(self, &Outcome::Failed(&error));
                return Err(error);
            }
        };
        let rows = made.rows;
        let manifest = Manifest {
            schema: Manifest::schema(),
            kind: S::Output::KIND.to_owned(),
            stage: S::NAME.to_owned(),
            revision: S::REVISION,
            key: request.key.clone(),
            config: request.config.clone(),
            inputs: request.records.clone(),
            outputs: made.outputs,
            shards: made.shards,
            rows,
            report: made.report,
            host: Host {
                commit: Commit::recorded_in(&self.root)?,
                started_unix_s: started,
                finished_unix_s: unix_now(),
                wall_s: clock.elapsed().as_secs_f64(),
                peak_rss_mib: peak_rss_mib(),
                shards_reused: made.shards_reused,
                shards_run: made.shards_run,
                ..Host::here(self.threads)
            },
        };
        seal::fsync_tree(scratch.path())?;
        write_atomically(&scratch.path().join(MANIFEST), &manifest.to_bytes()?)?;
        event.end(self, &Outcome::Complete(&manifest));
        self.progress.message(&format!(
            "{:<9} {} rows in, {} out, {} rejected, {:.1} s ({})",
            S::NAME,
            rows.read,
            rows.written,
            rows.rejected,
            manifest.host.wall_s,
            manifest.key
        ));
        let path = scratch.keep();
        seal::open_to_all(&path)?;
        Ok(path)
    }

    fn run_in<S: Stage>(
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
            cache: &self.root.join("cache"),
            is_rerun,
            work_dir,
            progress: &self.progress,
            threads: self.threads,
            shards: ShardLedger { previous, inputs: request.records.clone(), ..ShardLedger::default() },
        };
        let report = S::run(config, &request.inputs, &run).map_err(Error::other)?;
        let rows = report.rows();
        ensure!(rows.written > 0, "{} wrote no rows ({} read, {} rejected)", S::NAME, rows.read, rows.rejected);
        fault::point("hashing");
        let outputs = seal::hash_files(out)?;
        ensure!(!outputs.is_empty(), "{} wrote no files", S::NAME);
        S::Output::open(out).context("what the stage wrote does not reopen")?;
        Ok(StageOutput {
            report: serde_json::to_value(report)?,
            rows,
            outputs,
            shards: run.shards.records.into_inner().expect("no holder panics"),
            shards_reused: run.shards.reused.load(Ordering::Relaxed),
            shards_run: run.shards.run.load(Ordering::Relaxed),
        })
    }

    /// Runs the recorded stage once more from its inputs, beside what is recorded, and compares the bytes. Nothing is taken over from
    /// the recorded artifact, and nothing is kept.
    pub fn rerun<S: Stage>(&self, config: &S::Config) -> Result<RerunOutcome> {
        let _held = self.lock()?;
        let Some((_, recorded)) = self.current_manifest(S::Output::KIND).filter(|(_, manifest)| manifest.stage == S::NAME) else {
            return Ok(RerunOutcome::NotRecorded);
        };
        for kind in S::Inputs::kinds() {
            let Some((dir, manifest)) = self.current_manifest(kind) else {
                return Ok(RerunOutcome::Lacks(format!("no {kind} is recorded")));
            };
            if let Err(error) = RestoreMarker::require_here(&dir, &manifest) {
                return Ok(RerunOutcome::Lacks(chain(&error)));
            }
        }
        // What a stage reads outside the store may be gone: then it cannot be the same run.
        if let Err(error) = external_inputs::<S>(config) {
            return Ok(RerunOutcome::Lacks(chain(&error)));
        }
        let request = self.request::<S>(config)?;
        let why = self.compare::<S>(&request)?;
        if !why.is_fresh() {
            return Ok(RerunOutcome::Differs(why));
        }
        let scratch = tempfile::Builder::new().prefix(SCRATCH).tempdir_in(self.root.join(S::Output::KIND))?;
        let work_dir = tempfile::Builder::new().prefix(SCRATCH).tempdir_in(&self.root)?;
        let clock = Instant::now();
        let made = self.run_in::<S>(config, &request, scratch.path(), work_dir.path().to_owned(), None, true)?;
        let paths = recorded.outputs.keys().chain(made.outputs.keys().filter(|path| !recorded.outputs.contains_key(*path)));
        let other = paths.filter(|path| recorded.outputs.get(*path) != made.outputs.get(*path)).cloned().collect();
        let bytes = made.outputs.values().map(|file| file.bytes).sum();
        Ok(RerunOutcome::Ran { files: made.outputs.len(), bytes, other, seconds: clock.elapsed().as_secs_f64() })
    }
}

fn external_inputs<S: Stage>(config: &S::Config) -> Result<Vec<(String, Digest)>> {
    S::external_inputs(config).map_err(Error::other)
}
