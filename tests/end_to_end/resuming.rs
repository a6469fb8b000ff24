//! Trainings that are killed and resumed, and trainings that start from a recorded checkpoint.

use std::{
    fs,
    os::unix::process::ExitStatusExt,
    path::{Path, PathBuf},
    process::{Child, Command},
    sync::LazyLock,
    thread,
    time::Duration,
};

use serde_json::Value;

use crate::workspace::{ROOT, Workspace, encoder, set_environment, texts};

/// Checkpoints below the folders of a workspace's running trainings, oldest first.
fn steps(workspace: &Workspace) -> Vec<PathBuf> {
    let entries = |folder: PathBuf| fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
    let all = entries(workspace.path("data/runs")).flat_map(|run| entries(run.join("checkpoints")));
    let mut steps: Vec<PathBuf> = all.filter(|path| path.file_name().unwrap().to_string_lossy().starts_with("step-")).collect();
    steps.sort();
    steps
}

/// Waits until a training has written this many checkpoints, or has ended.
fn wait_for_steps(workspace: &Workspace, child: &mut Child, count: usize) {
    while steps(workspace).len() < count && child.try_wait().unwrap().is_none() {
        thread::sleep(Duration::from_millis(2));
    }
}

const TRAIN: [&str; 3] = ["run", "--only", "train"];

/// Starts a training and kills it after its first checkpoints; was it killed before its end?
fn kill_training(workspace: &Workspace, count: usize, delay: Duration) -> bool {
    let mut child = workspace.spawn(&TRAIN);
    wait_for_steps(workspace, &mut child, count);
    thread::sleep(delay);
    child.kill().unwrap();
    child.wait().unwrap().signal() == Some(9)
}

/// A transformer that writes a checkpoint every three steps.
fn long_training() -> String {
    encoder("bert", "dimension = 32, intermediate = 64, layers = 2, heads = 4, dropout = 0.1")
        + "train { epochs = 40, batch.size = 4, checkpoints.every-steps = 3, stop.patience = 100 }"
}

/// Digests of the checkpoint of [`long_training`] without an interruption.
static UNINTERRUPTED: LazyLock<Value> = LazyLock::new(|| {
    let workspace = Workspace::tokenized();
    workspace.configure(&long_training());
    workspace.run_only("train");
    workspace.manifest("checkpoint")["outputs"].clone()
});

#[test]
fn a_killed_training_is_resumed_to_the_same_bits() {
    assert!(UNINTERRUPTED.as_object().unwrap().contains_key("last/optimizer/tensors.safetensors"));
    let workspace = Workspace::tokenized();
    workspace.configure(&long_training());
    let killed = (0..4).filter(|&round| kill_training(&workspace, 1, Duration::from_millis(20 * round))).count();
    assert!(killed >= 2, "{killed} of 4 trainings were killed before their end");
    let messages = workspace.run_only("train");
    assert!(messages.contains("resumes at step"), "{messages}");
    assert_eq!(workspace.manifest("checkpoint")["outputs"], *UNINTERRUPTED);
}

#[test]
fn a_damaged_checkpoint_is_reported_and_skipped() {
    let workspace = Workspace::tokenized();
    workspace.configure(&long_training());
    assert!(kill_training(&workspace, 2, Duration::ZERO), "killed before its end");
    fs::write(steps(&workspace).last().unwrap().join("model/tensors.safetensors"), b"cut").unwrap();
    let messages = workspace.run_only("train");
    assert!(messages.contains("model/tensors.safetensors is damaged"), "{messages}");
    assert_eq!(workspace.manifest("checkpoint")["outputs"], *UNINTERRUPTED);
}

#[test]
fn resume_without_a_checkpoint_is_an_error() {
    let workspace = Workspace::tokenized();
    assert!(workspace.fail(&["run", "--only", "train", "--resume"]).contains("nothing to resume"));
}

#[test]
fn a_killed_training_is_resumed_on_another_machine_to_the_same_bits() {
    let workspace = Workspace::tokenized();
    workspace.configure("train { epochs = 60, checkpoints.every-steps = 2 }");
    assert!(kill_training(&workspace, 1, Duration::ZERO), "killed before its end");
    let url = workspace.path("saved").display().to_string();
    workspace.run(&["save", "--to", &url, "--with", "dataset,runs"]);
    let other = Workspace::empty();
    other.run(&["restore", "--from", &url]);
    other.use_restored_configuration();
    let (_, messages) = other.run(&["run", "--only", "train", "--resume"]);
    assert!(messages.contains("resumes at step"), "{messages}");
    workspace.run_only("train");
    assert_eq!(other.manifest("checkpoint")["outputs"], workspace.manifest("checkpoint")["outputs"]);
}

/// A workspace with a checkpoint of two epochs, and the checkpoint's folder.
fn with_checkpoint() -> (Workspace, String) {
    let workspace = Workspace::tokenized();
    workspace.configure("train { epochs = 2, checkpoints.best-by = [loss, ndcg] }");
    workspace.run_only("train");
    let folder = workspace.artifact("checkpoint").display().to_string();
    (workspace, folder)
}

fn loss_of_first_epoch(workspace: &Workspace) -> f64 {
    workspace.manifest("checkpoint")["report"]["epochs"][0]["loss"].as_f64().unwrap()
}

#[test]
fn the_best_weights_by_each_measure_are_recorded() {
    let (_workspace, folder) = with_checkpoint();
    for file in ["best-loss.safetensors", "best-ndcg.safetensors"] {
        assert!(Path::new(&folder).join(file).is_file(), "{file}");
    }
}

#[test]
fn restore_with_a_configuration_takes_the_weights_alone() {
    let (workspace, folder) = with_checkpoint();
    let before = loss_of_first_epoch(&workspace);
    workspace.run(&["run", "--only", "train", "--restore", &folder]);
    assert!(loss_of_first_epoch(&workspace) < before, "the training starts from the trained weights");
    assert_eq!(workspace.manifest("checkpoint")["config"]["restore"]["optimizer"], false);
}

#[test]
fn restore_without_a_configuration_takes_the_recorded_one_and_the_optimizer() {
    let (workspace, folder) = with_checkpoint();
    let mut command = Command::new(env!("CARGO_BIN_EXE_codenets"));
    command.args(["run", "--only", "train", "--restore", &folder, "--data"]).arg(workspace.path("data")).env_remove("CODENETS_CONF");
    set_environment(&mut command);
    let output = command.current_dir(ROOT).output().unwrap();
    assert!(output.status.success(), "{}", texts(&output).1);
    assert_eq!(workspace.manifest("checkpoint")["config"]["restore"]["optimizer"], true);
}

#[test]
fn a_checkpoint_of_another_vocabulary_is_refused_with_a_fix_that_works() {
    let (workspace, folder) = with_checkpoint();
    workspace.configure("vocab.size = 480\ntrain.epochs = 2");
    workspace.run_until("tokenize");
    let error = workspace.fail(&["run", "--only", "train", "--restore", &folder]);
    assert!(error.contains("vocabulary") && error.contains("vocab.from"), "{error}");
    workspace.configure(&format!("vocab.from = \"{folder}/tokenizer.json\"\ntrain.epochs = 2"));
    workspace.run_until("tokenize");
    workspace.run(&["run", "--only", "train", "--restore", &folder]);
}

#[test]
fn a_checkpoint_of_another_encoder_is_refused() {
    let (workspace, folder) = with_checkpoint();
    workspace.configure(&encoder("nbow", "dimension = 16"));
    let error = workspace.fail(&["run", "--only", "train", "--restore", &folder]);
    assert!(error.contains("encoder.tokens") && error.contains("shape"), "{error}");
}
