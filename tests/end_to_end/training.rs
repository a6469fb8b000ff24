//! Training as a user runs it: every experiment of the predecessor, every encoder and loss, a killed run, weights that
//! others made, and what is left for those who watch.

use std::{
    fs,
    os::unix::process::ExitStatusExt,
    path::{Path, PathBuf},
    process::Command,
    thread,
    time::Duration,
};

use serde_json::{Value, json};

use crate::{
    outside::script,
    world::{ROOT, World, texts},
};

/// Every experiment of the predecessor goes down its road: vocabulary, a few steps, an export that agrees.
#[test]
fn the_predecessors_experiments_train() {
    let world = World::new();
    world.run("pipeline", &["harvest"]);
    let raw = world.artifact("raw");
    ["manifest.json", "repos.json"].iter().for_each(|file| fs::remove_file(raw.join(file)).unwrap());
    let mut confs: Vec<PathBuf> =
        fs::read_dir(Path::new(ROOT).join("conf/predecessor")).unwrap().map(|entry| entry.unwrap().path()).collect();
    confs.sort();
    assert_eq!(confs.len(), 12);
    for conf in confs {
        let name = conf.file_stem().unwrap().to_string_lossy().into_owned();
        let data = world.path("predecessor").join(&name);
        fs::create_dir_all(data.parent().unwrap()).unwrap();
        let short = world.path("predecessor").join(format!("{name}.conf"));
        let few = "train { epochs = 1, batch.size = 8 }\nexport { rows = 8, max-mrr-loss = 1.0 }";
        fs::write(&short, format!("include \"{}\"\n{few}\n", conf.canonicalize().unwrap().display())).unwrap();
        for tool in ["pipeline", "trainer"] {
            let mut command = world.command(tool, &["run"]);
            // The later option counts.
            let arguments: Vec<_> = command.get_args().map(ToOwned::to_owned).collect();
            let program = command.get_program().to_owned();
            let environment: Vec<_> = command.get_envs().filter_map(|(key, value)| Some((key.to_owned(), value?.to_owned()))).collect();
            command = Command::new(program);
            command.arg(&arguments[0]).arg("--conf").arg(&short).arg("--data").arg(&data).envs(environment).env("CSN_DIR", &raw);
            let output = command.output().unwrap();
            assert!(output.status.success(), "{name}: {}", texts(&output).1);
        }
        let artifact = |kind: &str| {
            let key = fs::read_to_string(data.join(kind).join("CURRENT")).unwrap();
            data.join(kind).join(key.trim())
        };
        let tokenizer = fs::read_to_string(artifact("vocabulary").join("tokenizer.json")).unwrap();
        assert!(tokenizer.contains("</w>"), "{name}: character-level");
        let special = if name.contains("ast") { Some("<function_definition>") } else { name.ends_with("subtokens").then_some("</id>") };
        if let Some(special) = special {
            assert!(tokenizer.contains(&format!("\"content\":\"{special}\"")), "{name}: {special}");
        }
        let manifest: Value = serde_json::from_slice(&fs::read(artifact("checkpoint").join("manifest.json")).unwrap()).unwrap();
        assert!(manifest["report"]["steps"].as_u64().unwrap() >= 2, "{name}");
        let exported: Value = serde_json::from_slice(&fs::read(artifact("encoder").join("manifest.json")).unwrap()).unwrap();
        assert!(exported["report"]["max_difference"].as_f64().unwrap() <= 1e-5, "{name}");
    }
}

/// A setting, and how its graphs are called.
fn settings() -> Vec<(&'static str, String, Vec<&'static str>)> {
    let one = vec!["encoder.onnx"];
    let encoder = |text: &str| format!("train.encoder = null\ntrain.encoder {{ {text} }}\ntrain.epochs = 1");
    let loss = |text: &str| format!("train.loss = null\ntrain.loss {{ {text} }}\ntrain.epochs = 1");
    let mut settings = vec![
        ("conv1d", encoder("kind = conv1d, dimension = 16, layers = 2, kernel = 5, dropout = 0.1") + "\ntrain.pooler = max", one.clone()),
        ("birnn", encoder("kind = birnn, dimension = 16, hidden = 8, layers = 2, dropout = 0.1") + "\ntrain.pooler = mean", one.clone()),
        (
            "bert",
            encoder("kind = bert, dimension = 16, intermediate = 32, layers = 2, heads = 4, dropout = 0.1") + "\ntrain.pooler = cls",
            one.clone(),
        ),
        (
            "conv-attention",
            encoder(
                "kind = conv-attention, dimension = 16, convolutions = 2, kernel = 4, intermediate = 32, layers = 1, heads = 2, dropout = 0.1",
            ),
            one.clone(),
        ),
        (
            "one code encoder a language, buckets, in turn, added up, on burn's kernels",
            encoder("kind = bert, dimension = 16, intermediate = 32, layers = 1, heads = 4, dropout = 0.1")
                + "\ntrain { context = query-1-code-n, kernels = stock, \
                   batch { languages = round-robin, size = 4, bucket = 2, accumulate = 2 }, \
                   options { language-weights { ruby = 2.0 }, insert-common-tokens = 0.2 }, optimizer.max-gradient-norm = 0.5 }",
            vec![
                "code.go.onnx",
                "code.java.onnx",
                "code.javascript.onnx",
                "code.php.onnx",
                "code.python.onnx",
                "code.ruby.onnx",
                "query.onnx",
            ],
        ),
    ];
    for (name, text) in [
        ("margin-softmax", "kind = margin-softmax, margin = 1.0, scale = 10.0"),
        ("cosine-margin", "kind = cosine-margin, margin = 0.5"),
        ("triplet", "kind = triplet, margin = 0.5"),
        ("lambda", "kind = lambda, scheme = ndcg-2, k = 5, sigma = 1.0, mu = 10.0, scale = 10.0"),
        ("approx-ndcg", "kind = approx-ndcg, alpha = 1.0, scale = 10.0"),
    ] {
        settings.push((name, loss(text), one.clone()));
    }
    settings
}

/// Each is trained, exported, checked by the real checker, and embeds and ranks like any other.
#[test]
fn every_encoder_context_and_loss_makes_a_bundle() {
    let world = World::new();
    world.run("pipeline", &["run"]);
    for (name, setting, graphs) in settings() {
        world.configure(&format!("{setting}\nexport.max-mrr-loss = 1.0\npublish.min-mrr = 0.0"));
        world.run("trainer", &["run"]);
        let seen = script("check_encoder.py", &world.artifact("encoder"), &Value::Null);
        let seen = seen.as_object().unwrap();
        assert_eq!(seen.keys().collect::<Vec<_>>(), graphs, "{name}");
        for graph in seen.values() {
            assert_eq!(graph["opset"], 20, "{name}");
            assert_eq!(graph["inputs"], json!([["batch", "length"], ["batch", "length"]]), "{name}");
        }
        let report = &world.manifest("encoder")["report"];
        assert!(report["max_difference"].as_f64().unwrap() <= 1e-5, "{name}: {report}");
        world.run("indexer", &["run"]);
    }
}

#[test]
fn smaller_precisions_are_smaller_and_lose_little() {
    let world = World::new();
    world.run("pipeline", &["run"]);
    let encoder =
        "train.encoder = null\ntrain.encoder { kind = bert, dimension = 32, intermediate = 64, layers = 2, heads = 4, dropout = 0.1 }";
    let mut bytes = Vec::new();
    for precision in ["f32", "f16", "int8"] {
        world.configure(&format!("{encoder}\nexport.precision = {precision}"));
        world.run("trainer", &["run"]);
        script("check_encoder.py", &world.artifact("encoder"), &Value::Null);
        let report = world.manifest("encoder")["report"].clone();
        bytes.push(report["bytes"].as_u64().unwrap() as f64);
        let most = if precision == "int8" { 0.2 } else { 0.005 };
        assert!(report["max_difference"].as_f64().unwrap() < most, "{precision}: {report}");
    }
    assert!(bytes[1] < 0.6 * bytes[0] && bytes[2] < 0.4 * bytes[0], "{bytes:?}");
    world.configure(&format!("{encoder}\nexport {{ precision = int8, max-mrr-loss = -2.0 }}"));
    assert!(world.fail("trainer", &["run"]).contains("more is lost than export.max-mrr-loss"));
}

/// Six epochs, and three epochs, SIGKILL, and the rest: the same bytes, wherever the kill came.
#[test]
fn a_killed_training_goes_on_to_the_same_bits() {
    let world = World::new();
    world.run("pipeline", &["run"]);
    let setting = "train.encoder = null\n\
        train.encoder { kind = bert, dimension = 32, intermediate = 64, layers = 2, heads = 4, dropout = 0.1 }\n\
        train { epochs = 40, batch.size = 4, checkpoints.every-steps = 3, stop.patience = 100 }";
    world.configure(setting);
    world.run("trainer", &["train"]);
    let whole = world.manifest("checkpoint");
    assert!(whole["outputs"].as_object().unwrap().contains_key("last/optimizer/tensors.safetensors"));
    let runs = world.path("data/runs");
    let checkpoints = || {
        let run = fs::read_dir(&runs).ok()?.flatten().next()?.path();
        Some(
            fs::read_dir(run.join("checkpoints"))
                .ok()?
                .flatten()
                .filter(|entry| entry.file_name().to_string_lossy().starts_with("step-"))
                .count(),
        )
    };
    fs::remove_dir_all(world.path("data/checkpoint")).unwrap();
    fs::remove_dir_all(&runs).unwrap();
    let mut resumed = 0;
    for round in 0..4 {
        let mut child = world.spawn("trainer", &["train"]);
        // At least one checkpoint, and then some of the way to the next.
        while checkpoints().unwrap_or_default() == 0 {
            if child.try_wait().unwrap().is_some() {
                break;
            }
            thread::sleep(Duration::from_millis(5));
        }
        thread::sleep(Duration::from_millis(20 * round));
        child.kill().unwrap();
        resumed += u32::from(child.wait().unwrap().signal() == Some(9));
    }
    assert!(resumed >= 2, "{resumed} of 4 trainings were killed on their way");
    let said = world.run("trainer", &["train"]).1;
    assert!(said.contains("goes on from step"), "{said}");
    assert_eq!(world.manifest("checkpoint")["outputs"], whole["outputs"]);
    // A damaged checkpoint is said, passed over, and changes nothing.
    fs::remove_dir_all(world.path("data/checkpoint")).unwrap();
    let mut child = world.spawn("trainer", &["train"]);
    while checkpoints().unwrap_or_default() < 2 && child.try_wait().unwrap().is_none() {
        thread::sleep(Duration::from_millis(5));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    let run = fs::read_dir(&runs).unwrap().flatten().next().unwrap().path();
    let mut steps: Vec<PathBuf> = fs::read_dir(run.join("checkpoints")).unwrap().flatten().map(|entry| entry.path()).collect();
    steps.retain(|path| path.file_name().unwrap().to_string_lossy().starts_with("step-"));
    steps.sort();
    fs::write(steps.last().unwrap().join("model/tensors.safetensors"), b"cut").unwrap();
    let said = world.run("trainer", &["train"]).1;
    assert!(said.contains("passes over a checkpoint") && said.contains("model/tensors.safetensors is damaged"), "{said}");
    assert_eq!(world.manifest("checkpoint")["outputs"], whole["outputs"]);
}

#[test]
fn training_goes_on_from_a_recorded_checkpoint() {
    let world = World::new();
    world.configure("train { epochs = 2, checkpoints.best-by = [loss, ndcg] }");
    world.run("pipeline", &["run"]);
    world.run("trainer", &["train"]);
    let first = world.artifact("checkpoint");
    assert!(first.join("best-loss.safetensors").is_file() && first.join("best-ndcg.safetensors").is_file());
    let loss = |world: &World, epoch: usize| world.manifest("checkpoint")["report"]["epochs"][epoch]["loss"].as_f64().unwrap();
    let at_first = loss(&world, 0);
    let folder = first.display().to_string();
    // Weights from the record, the configuration's own optimizer.
    world.run("trainer", &["train", "--restore", &folder]);
    assert!(loss(&world, 0) < at_first, "it starts where the other ended");
    assert_eq!(world.manifest("checkpoint")["config"]["restore"]["optimizer"], false);
    // Another vocabulary is refused with the remedy, and that remedy works.
    world.configure("vocab.size = 480\ntrain.epochs = 2");
    world.run("pipeline", &["run"]);
    let refused = world.fail("trainer", &["train", "--restore", &folder]);
    assert!(refused.contains("the vocabulary is not the one") && refused.contains("set vocab.from"), "{refused}");
    world.configure(&format!("vocab.from = \"{folder}/tokenizer.json\"\ntrain.epochs = 2"));
    world.run("pipeline", &["run"]);
    world.run("trainer", &["train", "--restore", &folder]);
    // Another encoder is refused by name.
    world.configure(&format!(
        "vocab.from = \"{folder}/tokenizer.json\"\ntrain.encoder = null\ntrain.encoder {{ kind = nbow, dimension = 16 }}"
    ));
    let refused = world.fail("trainer", &["train", "--restore", &folder]);
    assert!(refused.contains("encoder.tokens has shape"), "{refused}");
    // Without a configuration: the recorded one, and the optimizer goes on.
    let mut command = Command::new(env!("CARGO_BIN_EXE_road-trainer"));
    command.args(["train", "--restore", &folder, "--data"]).arg(world.path("data")).env_remove("CODENETS_CONF");
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", texts(&output).1);
    assert_eq!(world.manifest("checkpoint")["config"]["restore"]["optimizer"], true);
}

#[test]
fn training_that_cannot_be_is_stopped_with_the_remedy() {
    let world = World::new();
    world.run("pipeline", &["run"]);
    for (setting, expected) in [
        ("train.optimizer.learning-rate = 1e30", "lower train.optimizer.learning-rate"),
        ("train.batch.size = 1", "train.batch.size must be at least 2"),
        ("train.device = cuda", "train.kernels fused are for the CPU"),
        ("train { device = cuda, kernels = stock }", "built without it: cargo build --release --features trainer/cuda"),
        ("train.query-encoder { kind = nbow, dimension = 32 }", "a siamese context has one encoder"),
        ("train { context = query-1-code-1, query-encoder { kind = nbow, dimension = 16 } }", "they must be equal"),
        (
            "train.loss = null\ntrain.loss { kind = distillation, weight = 0.5, temperature = 0.1, initial-scale = 10, learn-scale = true }",
            "set train.teacher",
        ),
        (
            "train.loss = null\ntrain.loss { kind = lambda, scheme = ndcg-2, k = 0, sigma = 1, mu = 1, scale = 1 }",
            "loss.k must be at least 1",
        ),
        ("train.options.language-weights { rust = 1.0 }", "rust"),
        ("train.options.language-weights { go = 0, java = 0, javascript = 0, php = 0, python = 0, ruby = 0 }", "are 0 for every language"),
        (
            "train.loss = null\ntrain { loss { kind = triplet, margin = 1.0 }, teacher { encoder = x, between = queries, tokens = 9, floor = 0 } }",
            "would teach nothing",
        ),
        ("train.encoder = null\ntrain.encoder { kind = pretrained, path = \"/nowhere\", dropout = null }", "/nowhere/config.json"),
        (
            "train.encoder = null\ntrain.encoder { kind = bert, dimension = 10, intermediate = 4, layers = 1, heads = 3, dropout = 0 }",
            "not a multiple",
        ),
        ("harvest.source.path = \"/nowhere\"\ntrain.pooler = median", "median"),
    ] {
        world.configure(setting);
        let error = world.fail("trainer", &["train"]);
        assert!(error.contains(expected), "{setting}: {error}");
    }
    // Ids of another vocabulary than the recorded one are neither trained on nor compared with.
    world.configure("tokenize.code-tokens = 20");
    world.run("pipeline", &["run"]);
    world.run("trainer", &["train"]);
    world.configure("");
    world.run("pipeline", &["run"]);
    assert!(world.fail("trainer", &["export"]).contains("the checkpoint reads"));
    world.configure("vocab.size = 480");
    world.run("pipeline", &["vocab"]);
    assert!(world.fail("trainer", &["train"]).contains("made with another vocabulary"));
    world.run("pipeline", &["tokenize"]);
    assert!(world.fail("trainer", &["export"]).contains("made with another vocabulary"));
    world.configure("");
    world.run("pipeline", &["run"]);
    fs::remove_dir_all(world.path("data/checkpoint")).unwrap();
    world.configure("train.batch.size = 1");
    world.fail("trainer", &["train"]);
    let left = fs::read_dir(world.path("data/checkpoint")).into_iter().flatten().flatten().count();
    assert_eq!(left, 0, "a training that failed leaves no checkpoint");
    // One language has three rows at most: it still has its turn.
    world.configure("train { batch { languages = round-robin, size = 3 }, epochs = 1 }");
    world.run("trainer", &["train"]);
}

#[test]
fn corpora_without_queries_or_with_few_rows_are_told() {
    let world = World::new();
    // Nothing documented at all.
    for entry in fs::read_dir(world.path("corpus")).unwrap().flatten() {
        fs::remove_dir_all(entry.path()).unwrap();
    }
    for repository in ["text", "store", "web", "math"] {
        let folder = world.path("corpus").join(repository);
        fs::create_dir_all(&folder).unwrap();
        let code: String = (0..4).map(|n| format!("def {repository}_total_{n}(rows):\n    total = {n}\n    for row in rows:\n        total += row.{repository}\n    return total\n\n")).collect();
        fs::write(folder.join("rows.py"), code).unwrap();
    }
    world.configure("harvest.keep-undocumented = true");
    world.run("pipeline", &["run"]);
    let error = world.fail("trainer", &["train"]);
    assert!(error.contains("documented rows in the") && error.contains("harvest more repositories"), "{error}");
}

/// The real `tensorboard` reads the scalars, the configuration and the projector's files.
#[test]
fn tensorboard_reads_what_is_left_for_it() {
    let world = World::new();
    world.run("pipeline", &["run"]);
    world.run("trainer", &["train"]);
    let run = fs::read_dir(world.path("data/runs")).unwrap().flatten().next().unwrap().path();
    let page = fs::read_to_string(world.artifact("checkpoint").join("report.html")).unwrap();
    assert_eq!(page.matches("<polyline").count(), 5);
    assert!(!page.contains("<script") && !page.contains("http"), "nothing is loaded");
    let seen = script("read_events.py", &run.join("tensorboard"), &Value::Null);
    let report = world.manifest("checkpoint")["report"].clone();
    let steps = report["steps"].as_u64().unwrap() as usize;
    let epochs = report["epochs"].as_array().unwrap();
    let scalars = &seen["scalars"];
    assert_eq!(scalars["train/loss"].as_array().unwrap().len(), steps);
    for tag in ["train/mrr", "train/learning-rate", "train/gradient-norm", "train/samples-per-s"] {
        assert_eq!(scalars[tag].as_array().unwrap().len(), steps, "{tag}");
    }
    for (epoch, [_, value]) in epochs.iter().zip(serde_json::from_value::<Vec<[f64; 2]>>(scalars["valid/mrr"].clone()).unwrap()) {
        assert!((epoch["valid"]["mrr"].as_f64().unwrap() - value).abs() < 1e-6);
    }
    assert!(seen["texts"]["config"].as_str().unwrap().contains("\"kind\": \"nbow\""));
    let valid = report["valid_pairs"].as_u64().unwrap();
    assert_eq!((seen["vectors"].as_u64().unwrap(), seen["width"].as_u64().unwrap()), (2 * valid, 32));
    assert_eq!(seen["labels"].as_u64().unwrap(), 2 * valid + 1);
}
