//! Training: every encoder, context and loss, precisions of the export, TensorBoard files, refused settings.

use std::fs;

use serde_json::{Value, json};

use crate::{
    python_readers::script,
    workspace::{Workspace, encoder, loss},
};

/// Trains, exports, has the graph checked by the `onnx` package, and publishes.
fn require_bundle(settings: &str, graphs: &[&str]) {
    let workspace = Workspace::tokenized();
    workspace.configure(&format!("{settings}\nexport.max-mrr-loss = 0.01\npublish.min-mrr = 0.0"));
    workspace.run_all();
    let seen = script("check_encoder.py", &workspace.artifact("encoder"), "");
    let seen = seen.as_object().unwrap();
    assert_eq!(seen.keys().collect::<Vec<_>>(), graphs);
    for graph in seen.values() {
        assert_eq!(graph["opset"], 20);
        assert_eq!(graph["inputs"], json!([["batch", "length"], ["batch", "length"]]));
    }
    let report = &workspace.manifest("encoder")["report"];
    assert!(report["max_difference"].as_f64().unwrap() <= 1e-5, "{report}");
}

fn require_encoder(kind: &str, settings: &str, pooler: &str) {
    let pooler = format!("train {{ epochs = 1, pooler = {pooler} }}");
    require_bundle(&(encoder(kind, settings) + &pooler), &["encoder.onnx"]);
}

fn require_loss(kind: &str, settings: &str) {
    require_bundle(&(loss(kind, settings) + "train.epochs = 1"), &["encoder.onnx"]);
}

#[test]
fn the_conv1d_encoder_makes_a_bundle() {
    require_encoder("conv1d", "dimension = 16, layers = 2, kernel = 5, dropout = 0.1", "max");
}

#[test]
fn the_birnn_encoder_makes_a_bundle() {
    require_encoder("birnn", "dimension = 16, hidden = 8, layers = 2, dropout = 0.1", "mean");
}

#[test]
fn the_bert_encoder_makes_a_bundle() {
    require_encoder("bert", "dimension = 16, intermediate = 32, layers = 2, heads = 4, dropout = 0.1", "cls");
}

#[test]
fn the_conv_attention_encoder_makes_a_bundle() {
    let settings = "dimension = 16, convolutions = 2, kernel = 4, intermediate = 32, layers = 1, heads = 2, dropout = 0.1";
    require_encoder("conv-attention", settings, "weighted-mean");
}

/// One code encoder a language, batches by language and length, accumulated gradients, and the kernels of burn.
#[test]
fn one_code_encoder_a_language_makes_a_bundle() {
    let settings = encoder("bert", "dimension = 16, intermediate = 32, layers = 1, heads = 4, dropout = 0.1")
        + "train { epochs = 1, context = query-1-code-n, kernels = stock, \
           batch { languages = round-robin, size = 4, bucket = 2, accumulate = 2 }, \
           options { language-weights { ruby = 2.0 }, insert-common-tokens = 0.2 }, optimizer.max-gradient-norm = 0.5 }";
    let graphs =
        ["code.go.onnx", "code.java.onnx", "code.javascript.onnx", "code.php.onnx", "code.python.onnx", "code.ruby.onnx", "query.onnx"];
    require_bundle(&settings, &graphs);
}

#[test]
fn the_margin_softmax_loss_makes_a_bundle() {
    require_loss("margin-softmax", "margin = 1.0, scale = 10.0");
}

#[test]
fn the_cosine_margin_loss_makes_a_bundle() {
    require_loss("cosine-margin", "margin = 0.5");
}

#[test]
fn the_triplet_loss_makes_a_bundle() {
    require_loss("triplet", "margin = 0.5");
}

#[test]
fn the_lambda_loss_makes_a_bundle() {
    require_loss("lambda", "scheme = ndcg-2, k = 5, sigma = 1.0, mu = 10.0, scale = 10.0");
}

#[test]
fn the_approx_ndcg_loss_makes_a_bundle() {
    require_loss("approx-ndcg", "alpha = 1.0, scale = 10.0");
}

/// Settings of a transformer, and its export.
fn exported(export: &str) -> String {
    format!("{}export {{ {export} }}", encoder("bert", "dimension = 32, intermediate = 64, layers = 2, heads = 4, dropout = 0.1"))
}

#[test]
fn smaller_precisions_are_smaller_and_lose_little() {
    let workspace = Workspace::tokenized();
    let mut bytes = Vec::new();
    for (precision, most) in [("f32", 0.005), ("f16", 0.005), ("int8", 0.2)] {
        workspace.configure(&exported(&format!("precision = {precision}")));
        workspace.run_until("export");
        script("check_encoder.py", &workspace.artifact("encoder"), "");
        let report = workspace.manifest("encoder")["report"].clone();
        bytes.push(report["bytes"].as_u64().unwrap() as f64);
        assert!(report["max_difference"].as_f64().unwrap() < most, "{precision}: {report}");
    }
    assert!(bytes[1] < 0.6 * bytes[0] && bytes[2] < 0.4 * bytes[0], "{bytes:?}");
}

#[test]
fn a_precision_that_loses_too_much_is_refused() {
    let workspace = Workspace::tokenized();
    workspace.configure(&exported("precision = int8, max-mrr-loss = -2.0"));
    assert!(workspace.fail(&["run", "--until", "export"]).contains("export.max-mrr-loss"));
}

/// The `tensorboard` package reads the scalars, the configuration and the files of the projector.
#[test]
fn tensorboard_reads_the_event_files() {
    let workspace = Workspace::trained();
    let run = fs::read_dir(workspace.path("data/runs")).unwrap().flatten().next().unwrap().path();
    let seen = script("read_events.py", &run.join("tensorboard"), "");
    let report = workspace.manifest("checkpoint")["report"].clone();
    let steps = report["steps"].as_u64().unwrap() as usize;
    let scalars = &seen["scalars"];
    for tag in ["train/loss", "train/mrr", "train/learning-rate", "train/gradient-norm", "train/samples-per-s"] {
        assert_eq!(scalars[tag].as_array().unwrap().len(), steps, "{tag}");
    }
    let points: Vec<[f64; 2]> = serde_json::from_value(scalars["valid/mrr"].clone()).unwrap();
    let epochs = report["epochs"].as_array().unwrap();
    assert_eq!(points.len(), epochs.len());
    for (epoch, [_, value]) in epochs.iter().zip(points) {
        assert!((epoch["valid"]["mrr"].as_f64().unwrap() - value).abs() < 1e-6);
    }
    assert!(seen["texts"]["config"].as_str().unwrap().contains("\"kind\": \"nbow\""));
    let valid = report["valid_pairs"].as_u64().unwrap();
    assert_eq!((seen["vectors"].as_u64().unwrap(), seen["width"].as_u64().unwrap()), (2 * valid, 32));
    assert_eq!(seen["labels"].as_u64().unwrap(), 2 * valid + 1);
}

#[test]
fn the_page_of_a_training_is_one_file_with_five_curves() {
    let page = fs::read_to_string(Workspace::trained().artifact("checkpoint").join("report.html")).unwrap();
    assert_eq!(page.matches("<polyline").count(), 5);
    assert!(!page.contains("<script") && !page.contains("http"), "nothing is loaded");
}

#[test]
fn settings_that_cannot_be_trained_are_refused_with_the_key() {
    let workspace = Workspace::tokenized();
    let distillation = "weight = 0.5, temperature = 0.1, initial-scale = 10, learn-scale = true";
    for (setting, expected) in [
        ("train.optimizer.learning-rate = 1e30".to_owned(), "train.optimizer.learning-rate"),
        ("train.batch.size = 1".to_owned(), "train.batch.size must be at least 2"),
        ("train.device = cuda".to_owned(), "set train.kernels = stock"),
        ("train { device = cuda, kernels = stock }".to_owned(), "--features cuda"),
        (encoder("pretrained", "path = \"/nowhere\", dropout = null"), "/nowhere/config.json"),
        (
            encoder("bert", "dimension = 10, intermediate = 4, layers = 1, heads = 3, dropout = 0"),
            "dimension 10 is not a multiple of encoder.heads 3",
        ),
        (loss("distillation", distillation), "needs a teacher: set train.teacher"),
        (loss("lambda", "scheme = ndcg-2, k = 0, sigma = 1, mu = 1, scale = 1"), "loss.k must be at least 1"),
        (loss("triplet", "margin = 1.0") + "train.teacher { encoder = x, between = queries, tokens = 9, floor = 0 }", "teacher"),
        ("train.options.language-weights { rust = 1.0 }".to_owned(), "unknown language \"rust\", expected one of go"),
        ("train.options.language-weights { go = 0, java = 0, javascript = 0, php = 0, python = 0, ruby = 0 }".to_owned(), "language"),
        ("train.options.token-dropout = 1.5".to_owned(), "train.options.token-dropout is 1.5: it must be a probability below 1"),
        ("train.pooler = median".to_owned(), "`train.pooler`, did you mean `mean`?"),
    ] {
        workspace.configure(&setting);
        let error = workspace.fail_only("train");
        assert!(error.contains(expected), "{setting}: {error}");
    }
    let left = fs::read_dir(workspace.path("data/checkpoint")).into_iter().flatten().flatten().count();
    assert_eq!(left, 0, "a failed training records no checkpoint");
}

#[test]
fn encoders_of_a_context_must_agree() {
    let workspace = Workspace::tokenized();
    let second = |dimension: u32| format!("query-encoder {{ kind = nbow, nbow {{ dimension = {dimension} }} }}");
    workspace.configure(&format!("train.{}", second(32)));
    assert!(workspace.fail_only("train").contains("siamese"));
    workspace.configure(&format!("train {{ context = query-1-code-1, {} }}", second(16)));
    let error = workspace.fail_only("train");
    assert!(error.contains("16") && error.contains("32"), "{error}");
}

/// Training on, and exporting with, ids of another vocabulary than the recorded one.
#[test]
fn ids_of_another_vocabulary_are_refused() {
    let workspace = Workspace::tokenized();
    workspace.configure("tokenize.code-tokens = 20");
    workspace.run_until("train");
    workspace.configure("");
    workspace.run_until("tokenize");
    assert!(workspace.fail_only("export").contains("checkpoint"));
    workspace.configure("vocab.size = 480");
    workspace.run_only("vocab");
    assert!(workspace.fail_only("train").contains("vocabulary"));
    workspace.run_only("tokenize");
    assert!(workspace.fail_only("export").contains("vocabulary"));
}

/// The smallest language has three rows.
#[test]
fn a_language_with_few_rows_has_its_batch() {
    let workspace = Workspace::tokenized();
    workspace.configure("train { batch { languages = round-robin, size = 3 }, epochs = 1 }");
    workspace.run_only("train");
}

#[test]
fn a_corpus_without_documentation_cannot_be_trained_on() {
    let workspace = Workspace::new();
    for entry in fs::read_dir(workspace.path("corpus")).unwrap().flatten() {
        fs::remove_dir_all(entry.path()).unwrap();
    }
    for repository in ["text", "store", "web", "math"] {
        let folder = workspace.path("corpus").join(repository);
        fs::create_dir_all(&folder).unwrap();
        let function = |n: u32| {
            format!(
                "def {repository}_total_{n}(rows):\n    total = {n}\n    for row in rows:\n        total += row.{repository}\n    return total\n\n"
            )
        };
        fs::write(folder.join("rows.py"), (0..4).map(function).collect::<String>()).unwrap();
    }
    workspace.configure("harvest.keep-undocumented = true");
    workspace.run_until("tokenize");
    let error = workspace.fail_only("train");
    assert!(error.contains("documented rows") && error.contains("harvest"), "{error}");
}

#[test]
fn a_training_records_what_it_read() {
    let workspace = Workspace::trained();
    let inputs: Value = workspace.manifest("checkpoint")["inputs"].clone();
    assert!(inputs["tokens"]["digest"].is_string() && inputs["vocabulary"]["digest"].is_string(), "{inputs}");
}
