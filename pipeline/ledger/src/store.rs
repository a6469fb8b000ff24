//! The store: `data/<kind>/<key>/{files…, manifest.json}` and one pointer a kind, `CURRENT`.

use std::{
    collections::BTreeMap,
    fs,
    marker::PhantomData,
    path::{Path, PathBuf},
    sync::{Arc, atomic::Ordering},
    time::{Instant, SystemTime, UNIX_EPOCH},
};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use crate::{
    Commit, Digest, Freshness, Inputs, Manifest, Progress, Recordable, Report, Run, Stage,
    manifest::{Host, InputRecord, MANIFEST},
    peak_rss_mib, reset_peak_rss, seal,
    shards::ShardLedger,
    write_atomically,
};

const CURRENT: &str = "CURRENT";
/// Begins the name of a folder that a stage writes to before it is sealed.
const SCRATCH: &str = ".making-";

/// A folder of recorded artifacts: one directory per kind, one subdirectory per key.
#[derive(Debug)]
pub struct Store {
    root: PathBuf,
    progress: Progress,
    threads: usize,
}

/// A typed handle on one sealed directory.
#[derive(Debug)]
pub struct Artifact<A> {
    dir: PathBuf,
    manifest: Arc<Manifest>,
    digest: Digest,
    payload: PhantomData<fn() -> A>,
}

impl<A: Recordable> Artifact<A> {
    pub fn open(&self) -> Result<A> {
        A::open(&self.dir).with_context(|| format!("opening {}", self.dir.display()))
    }

    /// Digest of the output bytes.
    pub fn digest(&self) -> Digest {
        self.digest
    }

    pub fn dir(&self) -> &Path {
        &self.dir
    }

    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    pub fn file_digest(&self, path: &Path) -> Result<Digest> {
        let file = self.manifest.outputs.get(path);
        Ok(file.with_context(|| format!("{} has no record of {}", A::KIND, path.display()))?.blake3)
    }

    fn at(dir: PathBuf) -> Result<Self> {
        let manifest = Manifest::read(&dir)?;
        ensure!(manifest.kind == A::KIND, "{} holds {}, not {}", dir.display(), manifest.kind, A::KIND);
        Ok(Self { digest: manifest.digest()?, dir, manifest: Arc::new(manifest), payload: PhantomData })
    }
}

impl Store {
    pub fn at(root: impl Into<PathBuf>, progress: Progress, threads: usize) -> Self {
        Self { root: root.into(), progress, threads }
    }

    pub fn root(&self) -> &Path {
        &self.root
    }

    pub fn progress(&self) -> &Progress {
        &self.progress
    }

    /// The artifact that `make` last left for this kind.
    pub fn current<A: Recordable>(&self) -> Result<Artifact<A>> {
        let key =
            self.current_key(A::KIND).with_context(|| format!("no {} recorded in {} yet: run `make run`", A::KIND, self.root.display()))?;
        Artifact::at(self.root.join(A::KIND).join(key))
    }

    /// The manifest that `CURRENT` of a kind names, if there is one.
    pub fn current_manifest(&self, kind: &str) -> Option<(PathBuf, Manifest)> {
        let dir = self.root.join(kind).join(self.current_key(kind)?);
        Manifest::read(&dir).ok().map(|manifest| (dir, manifest))
    }

    /// An artifact's manifest and those of all it was made of, by kind.
    pub fn lineage(&self, of: &Manifest) -> BTreeMap<String, Manifest> {
        let mut found = BTreeMap::from([(of.kind.clone(), of.clone())]);
        let mut open = vec![of.clone()];
        while let Some(manifest) = open.pop() {
            for (kind, input) in &manifest.inputs {
                let Some(key) = input.key.as_ref().filter(|_| !found.contains_key(kind)) else { continue };
                if let Ok(ancestor) = Manifest::read(&self.root.join(kind).join(key)) {
                    found.insert(kind.clone(), ancestor.clone());
                    open.push(ancestor);
                }
            }
        }
        found
    }

    fn current_key(&self, kind: &str) -> Option<String> {
        let key = fs::read_to_string(self.root.join(kind).join(CURRENT)).ok()?;
        let key = key.trim();
        (!key.is_empty() && key.bytes().all(|byte| byte.is_ascii_hexdigit())).then(|| key.to_owned())
    }

    /// Why [`Store::make`] would run the stage now.
    pub fn freshness<S: Stage>(&self, config: &S::Config) -> Result<Freshness> {
        if let Some(input) = S::Inputs::kinds().into_iter().find(|kind| self.current_manifest(kind).is_none()) {
            return Ok(Freshness::Waiting { input: input.to_owned() });
        }
        let inputs = records(&S::Inputs::current(self)?, S::outside(config)?);
        self.compare::<S>(&serde_json::to_value(config)?, &inputs)
    }

    fn compare<S: Stage>(&self, config: &Value, inputs: &BTreeMap<String, InputRecord>) -> Result<Freshness> {
        let Some((dir, manifest)) = self.current_manifest(S::Output::KIND) else {
            return Ok(Freshness::Missing);
        };
        let damaged = manifest.files_of_wrong_size(&dir);
        if !damaged.is_empty() {
            return Ok(Freshness::Damaged { files: damaged });
        }
        let files_of = |kind: &str, key: &str| Manifest::read(&self.root.join(kind).join(key)).ok();
        Ok(Freshness::of(&manifest, S::REVISION, config, inputs, files_of))
    }

    /// Runs `S` unless its artifact is already recorded, and points `CURRENT` at the result.
    pub fn make<S: Stage>(&self, config: &S::Config) -> Result<Artifact<S::Output>> {
        let _held = self.lock()?;
        self.make_inner::<S>(config).with_context(|| format!("stage {}", S::NAME))
    }

    /// One stage of a store runs at a time; the system lets go of the lock when a process ends, however
    /// it ends. Under the lock, scratch folders are debris of killed runs.
    pub fn lock(&self) -> Result<fs::File> {
        fs::create_dir_all(&self.root).with_context(|| format!("creating {}", self.root.display()))?;
        let path = self.root.join(".lock");
        let file = fs::File::create(&path).with_context(|| format!("opening {}", path.display()))?;
        if file.try_lock().is_err() {
            self.progress.say(&format!("waits for another run in {}", self.root.display()));
            file.lock().with_context(|| format!("locking {}", path.display()))?;
        }
        for kind in fs::read_dir(&self.root)?.flatten() {
            for entry in fs::read_dir(kind.path()).into_iter().flatten().flatten() {
                if entry.file_name().to_string_lossy().starts_with(SCRATCH) {
                    fs::remove_dir_all(entry.path()).with_context(|| format!("removing {}", entry.path().display()))?;
                }
            }
        }
        Ok(file)
    }

    fn make_inner<S: Stage>(&self, config: &S::Config) -> Result<Artifact<S::Output>> {
        let inputs = S::Inputs::current(self)?;
        let input_records = records(&inputs, S::outside(config)?);
        let config_value = serde_json::to_value(config)?;
        let why = self.compare::<S>(&config_value, &input_records)?;
        let digests: BTreeMap<_, _> = input_records.iter().map(|(kind, input)| (kind, input.digest)).collect();
        let key = Digest::of(&(S::NAME, S::REVISION, &config_value, &digests))?.short();
        let kind = self.root.join(S::Output::KIND);
        let dir = kind.join(&key);

        let recorded = Manifest::read(&dir).is_ok_and(|manifest| manifest.files_of_wrong_size(&dir).is_empty());
        if why.is_fresh() && recorded {
            self.progress.say(&format!("{:<9} fresh ({key})", S::NAME));
        } else if recorded {
            self.progress.say(&format!("{:<9} {why}; recorded before ({key})", S::NAME));
        } else {
            self.progress.say(&format!("{:<9} runs: {why}", S::NAME));
            let sealed = self.run_and_seal::<S>(config, config_value, &inputs, input_records, &kind, &key)?;
            if dir.exists() {
                fs::remove_dir_all(&dir).with_context(|| format!("removing damaged {}", dir.display()))?;
            }
            fs::rename(&sealed, &dir).with_context(|| format!("sealing {}", dir.display()))?;
            seal::fsync_dir(&kind)?;
        }
        write_atomically(&kind.join(CURRENT), format!("{key}\n").as_bytes())?;
        Artifact::at(dir)
    }

    fn run_and_seal<S: Stage>(
        &self,
        config: &S::Config,
        config_value: Value,
        inputs: &S::Inputs,
        input_records: BTreeMap<String, InputRecord>,
        kind: &Path,
        key: &str,
    ) -> Result<PathBuf> {
        fs::create_dir_all(kind).with_context(|| format!("creating {}", kind.display()))?;
        let scratch = tempfile::Builder::new().prefix(SCRATCH).tempdir_in(kind)?;
        let (started, clock) = (unix_now(), Instant::now());
        reset_peak_rss();
        let previous = self
            .current_manifest(S::Output::KIND)
            .filter(|(_, manifest)| manifest.revision == S::REVISION && manifest.config == config_value);
        let run = Run {
            out: scratch.path(),
            cache: &self.root.join("cache"),
            beside: self.root.join("runs").join(format!("{}-{key}", S::NAME)),
            progress: &self.progress,
            threads: self.threads,
            shards: ShardLedger { previous, inputs: input_records.clone(), ..ShardLedger::default() },
        };
        let report = S::run(config, inputs, &run)?;
        let rows = report.rows();
        ensure!(rows.written > 0, "{} wrote no rows ({} read, {} rejected)", S::NAME, rows.read, rows.rejected);
        let outputs = seal::hash_files(scratch.path())?;
        ensure!(!outputs.is_empty(), "{} wrote no files", S::NAME);
        S::Output::open(scratch.path()).context("what the stage wrote does not reopen")?;
        let manifest = Manifest {
            schema: Manifest::schema(),
            kind: S::Output::KIND.to_owned(),
            stage: S::NAME.to_owned(),
            revision: S::REVISION,
            key: key.to_owned(),
            config: config_value,
            inputs: input_records,
            outputs,
            shards: run.shards.records.into_inner().expect("no holder panics"),
            rows,
            report: serde_json::to_value(report)?,
            host: Host {
                tool: format!("codenets {}", env!("CARGO_PKG_VERSION")),
                commit: Commit::here(),
                started_unix_s: started,
                finished_unix_s: unix_now(),
                wall_s: clock.elapsed().as_secs_f64(),
                peak_rss_mib: peak_rss_mib(),
                threads: self.threads,
                os: std::env::consts::OS.to_owned(),
                arch: std::env::consts::ARCH.to_owned(),
                shards_reused: run.shards.reused.load(Ordering::Relaxed),
                shards_run: run.shards.run.load(Ordering::Relaxed),
            },
        };
        seal::fsync_tree(scratch.path())?;
        write_atomically(&scratch.path().join(MANIFEST), &serde_json::to_vec_pretty(&manifest)?)?;
        self.progress.say(&format!(
            "{:<9} {} rows in, {} out, {} rejected, {:.1} s ({key})",
            S::NAME,
            rows.read,
            rows.written,
            rows.rejected,
            manifest.host.wall_s
        ));
        let path = scratch.keep();
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            fs::set_permissions(&path, fs::Permissions::from_mode(0o755))?;
        }
        Ok(path)
    }

    /// Re-hashes every file of the current artifacts and names the damaged ones.
    pub fn verify(&self, kinds: &[&str]) -> Result<Vec<PathBuf>> {
        let mut damaged = Vec::new();
        for kind in kinds {
            let Some(key) = self.current_key(kind) else { continue };
            let dir = self.root.join(kind).join(key);
            match Manifest::read(&dir) {
                Ok(manifest) => damaged.extend(manifest.damaged_files(&dir).into_iter().map(|path| dir.join(path))),
                Err(_) => damaged.push(dir.join(MANIFEST)),
            }
        }
        if self.root.is_dir() { Ok(damaged) } else { bail!("{} is not a folder", self.root.display()) }
    }
}

fn records(inputs: &impl Inputs, outside: Vec<(String, Digest)>) -> BTreeMap<String, InputRecord> {
    let inside = inputs.records().into_iter().map(|(kind, record)| (kind.to_owned(), record));
    let outside = outside.into_iter().map(|(name, digest)| (name, InputRecord { key: None, digest, bytes: 0 }));
    inside.chain(outside).collect()
}

pub(crate) fn unix_now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map(|elapsed| elapsed.as_secs()).unwrap_or_default()
}
