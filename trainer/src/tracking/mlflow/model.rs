//! An exported encoder as a version of MLflow's registered model, and the alias of the best version.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use ledger::{Artifact, Encoder, EncoderSpec, Recordable, ensure, is_plain};
use serde_json::{Value, json};

use super::{
    destination::Destination,
    server::{RemoteRun, Server},
    spool::{Content, ExportedModel},
};
use crate::error::{Context, Result};

/// Alias of the version to use.
const CHAMPION: &str = "champion";
/// Tags that decide about the alias.
const ENCODER: &str = "codenets.encoder";
const TOKENS: &str = "codenets.tokens";
const MRR: &str = "codenets.valid-mrr";

/// The entry of an encoder in the spool: its files, an `MLmodel` that describes them, and tags.
pub fn exported(encoder: &Artifact<Encoder>) -> Result<ExportedModel> {
    let (manifest, opened) = (encoder.manifest(), encoder.open()?);
    let file = |name: &str| (name.to_owned(), Content::File(PathBuf::from(Encoder::KIND).join(&manifest.key).join(name)));
    let mut files: BTreeMap<_, _> = opened.graphs.iter().map(|name| file(name)).collect();
    files.extend([EncoderSpec::FILE, "tokenizer.json"].map(file));
    let bytes: u64 = manifest.outputs.values().map(|file| file.bytes).sum();
    let described = mlmodel(&opened.spec, &manifest.key, bytes);
    files.insert("MLmodel".to_owned(), Content::Text(serde_json::to_string_pretty(&described)? + "\n"));
    files.insert("requirements.txt".to_owned(), Content::Text("mlflow\nonnx>=1.19\nonnxruntime>=1.24\n".to_owned()));
    let input = |kind: &str| manifest.inputs.get(kind).map(|input| input.digest.to_string()).unwrap_or_default();
    let mrr =
        manifest.report["graph_mrr"].as_f64().context("the record of the encoder has no graph_mrr: run `codenets run --only export`")?;
    let precision = manifest.config["precision"].as_str().unwrap_or_default();
    let tags = [
        (ENCODER, manifest.key.clone()),
        ("codenets.checkpoint", input("checkpoint")),
        (TOKENS, input("tokens")),
        (MRR, mrr.to_string()),
        ("codenets.precision", precision.to_owned()),
    ];
    let tags = tags.into_iter().map(|(key, value)| (key.to_owned(), value)).collect();
    Ok(ExportedModel { encoder: manifest.key.clone(), files, tags })
}

/// `MLmodel`, which declares the flavours `onnx` and `python_function` of a folder. It is YAML, of which JSON is a subset. A flavour has one
/// graph: the one of queries.
fn mlmodel(spec: &EncoderSpec, key: &str, bytes: u64) -> Value {
    let tensor = |name: &str, dtype: &str, width: i64| json!({"name": name, "type": "tensor", "tensor-spec": {"dtype": dtype, "shape": [-1, width]}});
    let mut inputs = vec![tensor("input_ids", "int64", -1), tensor("attention_mask", "int64", -1)];
    if spec.graph.token_types {
        inputs.push(tensor("token_type_ids", "int64", -1));
    }
    let output = tensor(&spec.graph.output, "float32", spec.dimension as i64);
    json!({
        "flavors": {
            "onnx": {"data": spec.query_graph, "providers": ["CPUExecutionProvider"], "code": null},
            "python_function": {"loader_module": "mlflow.onnx", "data": spec.query_graph},
        },
        "metadata": {"encoder": key, "query_graph": spec.query_graph, "code_graph": spec.code_graph, "how_text_becomes_ids": "encoder.json"},
        "model_size_bytes": bytes,
        "signature": {"inputs": Value::from(inputs).to_string(), "outputs": json!([output]).to_string()},
    })
}

/// Uploads the files, registers a version unless the encoder has one, and moves the alias if the version is better.
///
/// # Errors
/// The server fails, or a path in the spool leaves the data folder.
pub fn register(server: &Server, run: &RemoteRun, exported: &ExportedModel, data: &Path) -> Result<Registered> {
    let name = &server.model;
    let destination = Destination::of(&run.artifacts, &server.address);
    if let Destination::Unsupported(why) = &destination {
        return Ok(Registered::skipped(format!("{name}: no version, because its files cannot be stored: {why}")));
    }
    ensure!(is_plain(Path::new(&exported.encoder)), "a spool has the encoder key {:?}, which is not a file name", exported.encoder);
    for (file, content) in &exported.files {
        let Content::File(path) = content else { continue };
        ensure!(is_plain(path) && is_plain(Path::new(file)), "a spool has the file {}, which is not below the data folder", path.display());
        if !data.join(path).is_file() {
            return Ok(Registered::skipped(format!("{name}: no version, because {} does not exist any more", path.display())));
        }
    }
    // Other exports of the same checkpoint have folders of their own.
    let folder = format!("model/{}", exported.encoder);
    for (file, content) in &exported.files {
        destination.put(server, &format!("{folder}/{file}"), content, data)?;
    }
    let model = server.registered_model()?;
    let (registered, is_new) = match server.version_tagged(ENCODER, &exported.encoder)? {
        Some(found) => (found, false),
        None => (server.create_version(&run.id, &format!("{}/{folder}", run.artifacts), &exported.tags)?, true),
    };
    let number = |version: &Value| version.as_str().map_or_else(|| version.to_string(), str::to_owned);
    let version = number(&registered["version"]);
    let champion = model["aliases"].as_array().into_iter().flatten().find(|alias| alias["alias"] == CHAMPION);
    let champion = match champion.map(|alias| number(&alias["version"])) {
        Some(champion) if champion == version => {
            return Ok(Registered { is_new, note: format!("{name}: version {version} is the champion") });
        }
        Some(champion) => Some((tags_of(&server.version(&champion)?), champion)),
        None => None,
    };
    let note = match check_promotion(&exported.tags, champion.as_ref().map(|(tags, version)| (tags, version.as_str())), server.promotes) {
        Ok(()) => {
            server.set_alias(CHAMPION, &version)?;
            format!("{name}: version {version} is the champion")
        }
        Err(why) => format!("{name}: version {version} is not the champion: {why}"),
    };
    Ok(Registered { is_new, note })
}

/// Result of a registration.
#[derive(Debug)]
pub struct Registered {
    pub is_new: bool,
    pub note: String,
}

impl Registered {
    fn skipped(note: String) -> Self {
        Self { is_new: false, note }
    }
}

fn tags_of(version: &Value) -> BTreeMap<String, String> {
    let tags = version["tags"].as_array().into_iter().flatten();
    tags.filter_map(|tag| Some((tag["key"].as_str()?.to_owned(), tag["value"].as_str()?.to_owned()))).collect()
}

/// Decides whether a version becomes the champion; the error is the reason why not. It does if there is no champion, or if its mrr on the
/// same validation rows is at least as high. Results on other rows are not compared; `CODENETS_MLFLOW_PROMOTE=1` overrides the decision.
fn check_promotion(
    new: &BTreeMap<String, String>,
    champion: Option<(&BTreeMap<String, String>, &str)>,
    promotes: bool,
) -> Result<(), String> {
    let Some((old, version)) = champion.filter(|_| !promotes) else { return Ok(()) };
    let fix = "set CODENETS_MLFLOW_PROMOTE=1, or move the alias by hand";
    if old.get(TOKENS).is_none_or(|tokens| new.get(TOKENS) != Some(tokens)) {
        return Err(format!("the champion, version {version}, was measured on other data; {fix}"));
    }
    let mrr = |tags: &BTreeMap<String, String>| tags.get(MRR).and_then(|mrr| mrr.parse::<f64>().ok());
    match (mrr(new), mrr(old)) {
        (Some(ours), Some(theirs)) if ours >= theirs => Ok(()),
        (Some(ours), Some(theirs)) => Err(format!("its mrr is {ours:.4}, the mrr of version {version} is {theirs:.4}")),
        _ => Err(format!("the champion, version {version}, has no mrr to compare with; {fix}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_champion_has_the_best_mrr_on_the_same_rows() {
        let tags = |tokens: &str, mrr: &str| BTreeMap::from([(TOKENS.to_owned(), tokens.to_owned()), (MRR.to_owned(), mrr.to_owned())]);
        let check = |new: &BTreeMap<_, _>, old: &BTreeMap<_, _>| check_promotion(new, Some((old, "3")), false);
        let new = tags("a", "0.5");
        assert_eq!(check_promotion(&new, None, false), Ok(()));
        assert_eq!(check(&new, &tags("a", "0.4999999")), Ok(()));
        assert_eq!(check(&new, &new), Ok(()));
        assert!(check(&new, &tags("a", "0.51")).unwrap_err().contains("its mrr is 0.5000, the mrr of version 3 is 0.5100"));
        assert!(check(&new, &tags("b", "0.1")).unwrap_err().contains("other data"));
        assert!(check(&new, &BTreeMap::new()).unwrap_err().contains("other data"));
        assert!(check(&new, &tags("a", "good")).unwrap_err().contains("no mrr"));
        assert_eq!(check_promotion(&new, Some((&tags("b", "0.9"), "3")), true), Ok(()));
    }
}
