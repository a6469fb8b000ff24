//! Where training stands, on disk: what a killed run goes on from, to the same bits.
//!
//! A checkpoint is a record ([`TrainingState`]) of three: the model's parameters, the optimizer's moments, and the
//! progress, which names the digests of both. It is written under another name, synced and renamed. Random numbers need no
//! state of their own: every generator is made of seed, epoch and batch, which are in the progress.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, ensure};
use ledger::{Content, Digest, Files, Recordable, recordable, recordable_json};
use serde::{Deserialize, Serialize};

use crate::{
    config::Metric,
    optimizer::{AdamW, OptimizerConfig},
    parameters::{Parameters, Spec},
    validation::Scores,
};

/// What an epoch gave.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Epoch {
    pub epoch: u64,
    /// Mean over the pairs.
    pub loss: f64,
    /// Mean over the pairs, each query among the codes of its own batch.
    pub train_mrr: f64,
    pub valid: Scores,
    /// Of the last step.
    pub learning_rate: f64,
    /// Mean over the steps, before clipping.
    pub gradient_norm: f64,
    /// Steps whose gradient was clipped.
    pub clipped: u64,
    pub scale: f64,
}

/// Sums over the epoch that is under way; they must come back to the bit.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Running {
    pub pairs: u64,
    #[serde(with = "exact")]
    pub loss: f64,
    #[serde(with = "exact")]
    pub reciprocal_ranks: f64,
    pub steps: u64,
    #[serde(with = "exact")]
    pub gradient_norm: f64,
    pub clipped: u64,
    #[serde(with = "exact")]
    pub learning_rate: f64,
}

/// A number as text: JSON's own numbers are read back to the nearest but one.
mod exact {
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub fn serialize<S: Serializer>(value: &f64, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&format!("{value:?}"))
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}

/// To nine decimals: what is recorded is read back as it was written.
pub fn recorded(value: f64) -> f64 {
    (value * 1e9).round() / 1e9
}

/// The best epoch by a metric.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Best {
    pub epoch: u64,
    pub merit: f64,
}

/// All of a training but its parameters and its optimizer.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Progress {
    /// Epochs that are done, and batches of the next one.
    pub epoch: u64,
    pub batch: usize,
    /// Steps in all.
    pub step: u64,
    pub running: Running,
    pub curve: Vec<Epoch>,
    pub best: BTreeMap<Metric, Best>,
    /// Epochs since the last better one.
    pub stale: u64,
}

/// Everything that a step changes.
#[derive(Debug, Clone, PartialEq)]
pub struct State {
    pub parameters: Parameters,
    pub optimizer: AdamW,
    pub progress: Progress,
}

recordable! {
    /// Everything that a step changes, as it lies on disk.
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

/// Where the training stands, and what lies beside.
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
    fn open(dir: &Path) -> Result<Self> {
        tensors(dir).map(Self)
    }
    fn files(&self) -> Result<Files> {
        Ok(Files::one(TENSORS, Content::File(self.0.clone(), None)))
    }
}

impl Recordable for OptimizerFile {
    const KIND: &'static str = "optimizer";
    fn open(dir: &Path) -> Result<Self> {
        tensors(dir).map(Self)
    }
    fn files(&self) -> Result<Files> {
        Ok(Files::one(TENSORS, Content::File(self.0.clone(), None)))
    }
}

const TENSORS: &str = "tensors.safetensors";

fn tensors(dir: &Path) -> Result<PathBuf> {
    let path = dir.join(TENSORS);
    ensure!(path.is_file(), "{} is missing", path.display());
    Ok(path)
}

/// The rotating checkpoints of one run.
#[derive(Debug)]
pub struct Checkpoints {
    folder: PathBuf,
    keep: usize,
    seed: u64,
}

impl Checkpoints {
    pub fn new(folder: PathBuf, keep: usize, seed: u64) -> Result<Self> {
        fs::create_dir_all(&folder).with_context(|| format!("creating {}", folder.display()))?;
        for entry in fs::read_dir(&folder)?.flatten().filter(|entry| entry.file_name().to_string_lossy().starts_with('.')) {
            // Debris of a killed run.
            fs::remove_dir_all(entry.path()).with_context(|| format!("removing {}", entry.path().display()))?;
        }
        Ok(Self { folder, keep, seed })
    }

    /// Newest first.
    fn found(&self) -> Vec<(u64, PathBuf)> {
        let entries = fs::read_dir(&self.folder).into_iter().flatten().flatten();
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

    pub fn save(&self, state: &State) -> Result<()> {
        let part = self.folder.join("part");
        if part.exists() {
            fs::remove_dir_all(&part).with_context(|| format!("removing {}", part.display()))?;
        }
        write(&part, state, self.seed)?;
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

    /// The newest checkpoint that is whole; what is not is named in `damaged`, and removed: it would stand in the way
    /// of those to come.
    pub fn newest(&self, specs: &[Spec], optimizer: &OptimizerConfig, damaged: &mut Vec<String>) -> Option<State> {
        for (_, path) in self.found() {
            match read(&path, specs, optimizer, self.seed) {
                Ok(state) => return Some(state),
                Err(error) => {
                    damaged.push(format!("{error:#}"));
                    // What cannot be removed is found and named again.
                    let _ = fs::remove_dir_all(&path);
                }
            }
        }
        None
    }

    /// Keeps weights as the best by a metric.
    pub fn save_best(&self, metric: Metric, parameters: &Parameters) -> Result<()> {
        let part = self.folder.join("best.part");
        parameters.save(&part)?;
        fs::File::open(&part).and_then(|file| file.sync_all()).with_context(|| format!("syncing {}", part.display()))?;
        let path = self.best(metric);
        fs::rename(&part, &path).with_context(|| format!("writing {}", path.display()))
    }

    pub fn best(&self, metric: Metric) -> PathBuf {
        self.folder.join(format!("best-{}.safetensors", name(metric)))
    }

    pub fn remove(self) -> Result<()> {
        fs::remove_dir_all(&self.folder).with_context(|| format!("removing {}", self.folder.display()))
    }
}

pub fn name(metric: Metric) -> &'static str {
    match metric {
        Metric::Loss => "loss",
        Metric::Mrr => "mrr",
        Metric::Ndcg => "ndcg",
    }
}

/// Writes a state as a folder.
pub fn write(folder: &Path, state: &State, seed: u64) -> Result<()> {
    let parent = folder.parent().context("a checkpoint lies in a folder")?;
    let scratch =
        tempfile::Builder::new().prefix(".tensors-").tempdir_in(parent).with_context(|| format!("writing {}", folder.display()))?;
    let (parameters, optimizer) = (scratch.path().join("parameters"), scratch.path().join("optimizer"));
    state.parameters.save(&parameters)?;
    state.optimizer.save(&optimizer)?;
    let digest = |path: &Path| Digest::of_file(path).with_context(|| format!("reading {}", path.display()));
    let progress =
        ProgressFile { progress: state.progress.clone(), seed, parameters: digest(&parameters)?, optimizer: digest(&optimizer)? };
    ledger::save(&TrainingState { model: ModelFile(parameters), optimizer: OptimizerFile(optimizer), progress }, folder)
}

fn read(folder: &Path, specs: &[Spec], optimizer: &OptimizerConfig, seed: u64) -> Result<State> {
    let TrainingState { model, optimizer: moments, progress } = ledger::load(folder)?;
    ensure!(progress.seed == seed, "{} was made with seed {}", folder.display(), progress.seed);
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
    use crate::parameters::{Init, Role, Specs};

    #[test]
    fn the_newest_whole_checkpoint_is_found_and_old_ones_go() {
        let dir = tempfile::tempdir().unwrap();
        let mut specs = Specs::default();
        specs.add("x", &[4], Role::Vector, Init::Normal(1.0));
        let config = OptimizerConfig {
            learning_rate: 0.1,
            weight_decay: 0.0,
            betas: [0.9, 0.999],
            epsilon: 1e-8,
            bias_correction: true,
            max_gradient_norm: None,
        };
        let checkpoints = Checkpoints::new(dir.path().join("checkpoints"), 2, 7).unwrap();
        let state = |step: u64| {
            let parameters = Parameters::initialise(&specs.specs, step);
            let optimizer = AdamW::new(&config, &parameters);
            State { parameters, optimizer, progress: Progress { step, epoch: 1, ..Progress::default() } }
        };
        for step in [5, 10, 15] {
            checkpoints.save(&state(step)).unwrap();
        }
        let mut damaged = Vec::new();
        assert_eq!(checkpoints.newest(&specs.specs, &config, &mut damaged).unwrap(), state(15));
        assert_eq!(checkpoints.found().len(), 2, "the first is gone");
        // A newest one that is damaged is passed over, and said.
        let weights = dir.path().join("checkpoints/step-00000015/model").join(TENSORS);
        let mut bytes = fs::read(&weights).unwrap();
        *bytes.last_mut().unwrap() ^= 1;
        fs::write(&weights, bytes).unwrap();
        assert_eq!(checkpoints.newest(&specs.specs, &config, &mut damaged).unwrap(), state(10));
        assert!(damaged[0].ends_with("model/tensors.safetensors is damaged"), "{damaged:?}");
        checkpoints.save_best(Metric::Mrr, &state(3).parameters).unwrap();
        assert_eq!(Parameters::load(&checkpoints.best(Metric::Mrr), &specs.specs).unwrap(), state(3).parameters);
    }

    proptest::proptest! {
        #[test]
        fn sums_come_back_to_the_bit(loss: f64, rate in 0.0f64..1.0) {
            let running = Running { loss, learning_rate: rate, ..Running::default() };
            let back: Running = serde_json::from_str(&serde_json::to_string(&running).unwrap()).unwrap();
            proptest::prop_assert_eq!(back.loss.to_bits(), loss.to_bits());
            proptest::prop_assert_eq!(back.learning_rate.to_bits(), rate.to_bits());
            let written = recorded(rate * 37.0);
            let back: f64 = serde_json::from_str(&serde_json::to_string(&written).unwrap()).unwrap();
            proptest::prop_assert_eq!(back.to_bits(), written.to_bits());
        }
    }
}
