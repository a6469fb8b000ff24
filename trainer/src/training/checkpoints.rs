//! Checkpoints, from which a stopped training is resumed with the same bits.
//!
//! A checkpoint is a record ([`TrainingState`]) of the parameters, of the optimizer's moments, and of the progress, which contains the
//! digests of both. It is written under another name, synced and renamed. Random numbers need no state: every generator is seeded by seed,
//! epoch and batch, which are in the progress.

use std::{
    fs,
    path::{Path, PathBuf},
};

use ledger::{Content, Digest, Files, Invalid, Recordable, chain, ensure, recordable, recordable_json};
use serde::{Deserialize, Serialize};

use super::{
    optimizer::{AdamW, OptimizerConfig},
    progress::Progress,
};
use crate::{
    config::Metric,
    error::{Context, Result},
    graph::parameters::{ParameterSpec, Parameters},
};

/// Everything that a step changes.
#[derive(Debug, Clone, PartialEq)]
pub struct State {
    pub parameters: Parameters,
    pub optimizer: AdamW,
    pub progress: Progress,
}

recordable! {
    /// Everything that a step changes, as files.
    #[derive(Debug)]
    pub struct TrainingState: "training-state", 1 {
        pub model: ModelFile,
        pub optimizer: OptimizerFile,
        pub progress: ProgressFile,
    }
}

/// Parameters by name, as safetensors.
#[derive(Debug)]
pub struct ModelFile(pub PathBuf);

/// AdamW's moments and steps by the names of the parameters, as safetensors.
#[derive(Debug)]
pub struct OptimizerFile(pub PathBuf);

/// The progress, and what identifies the other files.
#[derive(Debug, Serialize, Deserialize)]
pub struct ProgressFile {
    progress: Progress,
    seed: u64,
    parameters: Digest,
    optimizer: Digest,
}
recordable_json!(ProgressFile, "training-progress", 1);

impl Recordable for ModelFile {
    const KIND: &'static str = "model";
    fn open(dir: &Path) -> ledger::Result<Self> {
        Ok(Self(tensors(dir)?))
    }
    fn files(&self) -> ledger::Result<Files> {
        Ok(Files::one(TENSORS, Content::File(self.0.clone(), None)))
    }
}

impl Recordable for OptimizerFile {
    const KIND: &'static str = "optimizer";
    fn open(dir: &Path) -> ledger::Result<Self> {
        Ok(Self(tensors(dir)?))
    }
    fn files(&self) -> ledger::Result<Files> {
        Ok(Files::one(TENSORS, Content::File(self.0.clone(), None)))
    }
}

const TENSORS: &str = "tensors.safetensors";

fn tensors(dir: &Path) -> Result<PathBuf, Invalid> {
    let path = dir.join(TENSORS);
    ensure!(path.is_file(), "{} is missing", path.display());
    Ok(path)
}

/// Checkpoints of one run; old ones are deleted.
#[derive(Debug)]
pub struct Checkpoints {
    folder: PathBuf,
    keep: usize,
    seed: u64,
}

impl Checkpoints {
    /// Opens or creates the folder of the checkpoints; `keep` is the number of checkpoints that are stored.
    pub fn new(folder: PathBuf, keep: usize, seed: u64) -> Result<Self> {
        fs::create_dir_all(&folder).with_context(|| format!("creating {}", folder.display()))?;
        for entry in fs::read_dir(&folder)?.flatten().filter(|entry| entry.file_name().to_string_lossy().starts_with('.')) {
            // An incomplete file of a run that was killed.
            fs::remove_dir_all(entry.path()).with_context(|| format!("removing {}", entry.path().display()))?;
        }
        Ok(Self { folder, keep, seed })
    }

    /// Folder of the checkpoints in the work directory of a training.
    pub fn folder(work_dir: &Path) -> PathBuf {
        work_dir.join("checkpoints")
    }

    /// Does the folder have a checkpoint?
    pub fn has_any(folder: &Path) -> bool {
        !Self::in_folder(folder).is_empty()
    }

    /// Steps and folders of the checkpoints, the newest first.
    fn found(&self) -> Vec<(u64, PathBuf)> {
        Self::in_folder(&self.folder)
    }

    fn in_folder(folder: &Path) -> Vec<(u64, PathBuf)> {
        let entries = fs::read_dir(folder).into_iter().flatten().flatten();
        let mut found: Vec<_> = entries
            .filter_map(|entry| {
                let step = entry.file_name().to_str()?.strip_prefix("step-")?.parse().ok()?;
                Some((step, entry.path()))
            })
            .collect();
        found.sort_unstable();
        found.reverse();
        found
    }

    /// Writes a checkpoint, and deletes the oldest ones.
    pub fn save(&self, state: &State) -> Result<()> {
        let part = self.folder.join("part");
        if part.exists() {
            fs::remove_dir_all(&part).with_context(|| format!("removing {}", part.display()))?;
        }
        write_state(&part, state, self.seed)?;
        let path = self.folder.join(format!("step-{:08}", state.progress.step));
        if path.exists() {
            fs::remove_dir_all(&path).with_context(|| format!("removing {}", path.display()))?;
        }
        fs::rename(&part, &path).with_context(|| format!("writing {}", path.display()))?;
        fs::File::open(&self.folder).and_then(|folder| folder.sync_all()).context("syncing checkpoints")?;
        for (_, old) in self.found().into_iter().skip(self.keep) {
            fs::remove_dir_all(&old).with_context(|| format!("removing {}", old.display()))?;
        }
        Ok(())
    }

    /// Reads the newest checkpoint that is complete. Damaged ones are deleted, so that they do not replace newer ones; `damaged` gets the
    /// reasons.
    pub fn newest(&self, specs: &[ParameterSpec], optimizer: &OptimizerConfig, damaged: &mut Vec<String>) -> Option<State> {
        for (_, path) in self.found() {
            match read(&path, specs, optimizer, self.seed) {
                Ok(state) => return Some(state),
                Err(error) => {
                    damaged.push(chain(&error));
                    // If the folder cannot be deleted, the next start reports it again.
                    let _ = fs::remove_dir_all(&path);
                }
            }
        }
        None
    }

    /// Stores weights as the best by a metric.
    pub fn save_best(&self, metric: Metric, parameters: &Parameters) -> Result<()> {
        let part = self.folder.join("best.part");
        parameters.save(&part)?;
        fs::File::open(&part).and_then(|file| file.sync_all()).with_context(|| format!("syncing {}", part.display()))?;
        let path = self.best(metric);
        fs::rename(&part, &path).with_context(|| format!("writing {}", path.display()))
    }

    /// File of the best weights by a metric.
    pub fn best(&self, metric: Metric) -> PathBuf {
        self.folder.join(format!("best-{}.safetensors", metric.name()))
    }

    /// Deletes all checkpoints.
    pub fn remove(self) -> Result<()> {
        fs::remove_dir_all(&self.folder).with_context(|| format!("removing {}", self.folder.display()))
    }
}

/// Writes a state as a folder of the record [`TrainingState`].
pub fn write_state(folder: &Path, state: &State, seed: u64) -> Result<()> {
    let parent = folder.parent().with_context(|| format!("{} has no parent folder", folder.display()))?;
    let scratch =
        tempfile::Builder::new().prefix(".tensors-").tempdir_in(parent).with_context(|| format!("writing {}", folder.display()))?;
    let (parameters, optimizer) = (scratch.path().join("parameters"), scratch.path().join("optimizer"));
    state.parameters.save(&parameters)?;
    state.optimizer.save(&optimizer)?;
    let digest = |path: &Path| Digest::of_file(path).with_context(|| format!("reading {}", path.display()));
    let progress =
        ProgressFile { progress: state.progress.clone(), seed, parameters: digest(&parameters)?, optimizer: digest(&optimizer)? };
    Ok(ledger::save(&TrainingState { model: ModelFile(parameters), optimizer: OptimizerFile(optimizer), progress }, folder)?)
}

fn read(folder: &Path, specs: &[ParameterSpec], optimizer: &OptimizerConfig, seed: u64) -> Result<State> {
    let TrainingState { model, optimizer: moments, progress } = ledger::load(folder)?;
    ensure!(progress.seed == seed, "{} belongs to a training with seed {}", folder.display(), progress.seed);
    for (path, digest) in [(&model.0, progress.parameters), (&moments.0, progress.optimizer)] {
        let found = Digest::of_file(path).with_context(|| format!("reading {}", path.display()))?;
        ensure!(found == digest, "{} is damaged", path.display());
    }
    let parameters = Parameters::load(&model.0, specs)?;
    let optimizer = AdamW::load(optimizer, &parameters, &moments.0)?;
    Ok(State { parameters, optimizer, progress: progress.progress })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::parameters::{Init, Role, Specs};

    const CONFIG: OptimizerConfig = OptimizerConfig {
        learning_rate: 0.1,
        weight_decay: 0.0,
        betas: [0.9, 0.999],
        epsilon: 1e-8,
        bias_correction: true,
        max_gradient_norm: None,
    };

    fn specs() -> Vec<ParameterSpec> {
        let mut specs = Specs::default();
        specs.add("x", &[4], Role::Vector, Init::Normal(1.0));
        specs.specs
    }

    fn state(step: u64) -> State {
        let parameters = Parameters::initialise(&specs(), step);
        let optimizer = AdamW::new(&CONFIG, &parameters);
        State { parameters, optimizer, progress: Progress { step, epoch: 1, ..Progress::default() } }
    }

    fn three_checkpoints(folder: &Path) -> Checkpoints {
        let checkpoints = Checkpoints::new(folder.join("checkpoints"), 2, 7).unwrap();
        [5, 10, 15].into_iter().for_each(|step| checkpoints.save(&state(step)).unwrap());
        checkpoints
    }

    #[test]
    fn the_newest_checkpoint_is_read_and_old_ones_are_deleted() {
        let dir = tempfile::tempdir().unwrap();
        let checkpoints = three_checkpoints(dir.path());
        let mut damaged = Vec::new();
        assert_eq!(checkpoints.newest(&specs(), &CONFIG, &mut damaged).unwrap(), state(15));
        assert_eq!((checkpoints.found().len(), damaged.len()), (2, 0));
    }

    #[test]
    fn a_damaged_checkpoint_is_reported_and_the_one_before_it_is_read() {
        let dir = tempfile::tempdir().unwrap();
        let checkpoints = three_checkpoints(dir.path());
        let weights = dir.path().join("checkpoints/step-00000015/model").join(TENSORS);
        let mut bytes = fs::read(&weights).unwrap();
        *bytes.last_mut().unwrap() ^= 1;
        fs::write(&weights, bytes).unwrap();
        let mut damaged = Vec::new();
        assert_eq!(checkpoints.newest(&specs(), &CONFIG, &mut damaged).unwrap(), state(10));
        assert!(damaged[0].ends_with("model/tensors.safetensors is damaged"), "{damaged:?}");
    }

    #[test]
    fn the_best_weights_are_stored_by_metric() {
        let dir = tempfile::tempdir().unwrap();
        let checkpoints = three_checkpoints(dir.path());
        checkpoints.save_best(Metric::Mrr, &state(3).parameters).unwrap();
        assert_eq!(Parameters::load(&checkpoints.best(Metric::Mrr), &specs()).unwrap(), state(3).parameters);
    }
}
