//! An exported encoder as a version of MLflow's registered model, and which version is the champion.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, ensure};
use ledger::{Artifact, Encoder, EncoderSpec, is_plain};
use serde_json::{Value, json};

use super::{
    artifacts::Destination,
    server::{RemoteRun, Server},
    spool::{Content, Exported},
};

/// The alias of the version to use.
const CHAMPION: &str = "champion";
/// Tags that the champion's rule reads.
const ENCODER: &str = "codenets.encoder";
const TOKENS: &str = "codenets.tokens";
const MRR: &str = "codenets.valid-mrr";

/// What a spool keeps of an encoder: its files, an `MLmodel` for them, and tags.
pub fn exported(encoder: &Artifact<Encoder>) -> Result<Exported> {
    let (manifest, opened) = (encoder.manifest(), encoder.open()?);
    let file = |name: &str| (name.to_owned(), Content::File(PathBuf::from("encoder").join(&manifest.key).join(name)));
    let mut files: BTreeMap<_, _> = opened.graphs.iter().map(|name| file(name)).collect();
    files.extend(["encoder.json", "tokenizer.json"].map(file));
    let bytes: u64 = manifest.outputs.values().map(|file| file.bytes).sum();
    let described = mlmodel(&opened.spec, &manifest.key, bytes);
    files.insert("MLmodel".to_owned(), Content::Text(serde_json::to_string_pretty(&described)? + "\n"));
    files.insert("requirements.txt".to_owned(), Content::Text("mlflow\nonnx>=1.19\nonnxruntime>=1.24\n".to_owned()));
    let input = |kind: &str| manifest.inputs.get(kind).map(|input| input.digest.to_string()).unwrap_or_default();
    let mrr = manifest.report["graph_mrr"].as_f64().context("the encoder's record has no graph_mrr: run `make export` again")?;
    let precision = manifest.config["precision"].as_str().unwrap_or_default();
    let tags = [
        (ENCODER, manifest.key.clone()),
        ("codenets.checkpoint", input("checkpoint")),
        (TOKENS, input("tokens")),
        (MRR, mrr.to_string()),
        ("codenets.precision", precision.to_owned()),
    ];
    let tags = tags.into_iter().map(|(key, value)| (key.to_owned(), value)).collect();
    Ok(Exported { encoder: manifest.key.clone(), files, tags })
}

/// `MLmodel`: what makes a folder a model of flavours `onnx` and `python_function`. It is YAML, of which JSON is a part.
/// The flavour knows one graph: where there are several, it is the queries'.
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

/// Uploads the files, registers a version unless this encoder has one, and moves the alias if the rule says so. What came
/// of it.
pub fn register(server: &Server, run: &RemoteRun, exported: &Exported, data: &Path) -> Result<Registered> {
    let name = &server.model;
    let destination = Destination::of(&run.artifacts, &server.address);
    if let Destination::Nowhere(why) = &destination {
        return Ok(Registered::left_out(format!("{name}: no version, because its files are left out: {why}")));
    }
    ensure!(is_plain(Path::new(&exported.encoder)), "a spool names an encoder {:?}", exported.encoder);
    for (file, content) in &exported.files {
        let Content::File(path) = content else { continue };
        ensure!(is_plain(path) && is_plain(Path::new(file)), "a spool names a file {}", path.display());
        if !data.join(path).is_file() {
            return Ok(Registered::left_out(format!("{name}: no version, because {} is no longer there", path.display())));
        }
    }
    // Beside those of other exports of the same checkpoint.
    let folder = format!("model/{}", exported.encoder);
    for (file, content) in &exported.files {
        destination.put(server, &format!("{folder}/{file}"), content, data)?;
    }
    let model = server.registered_model()?;
    let (made, is_new) = match server.version_tagged(ENCODER, &exported.encoder)? {
        Some(found) => (found, false),
        None => (server.make_version(&run.id, &format!("{}/{folder}", run.artifacts), &exported.tags)?, true),
    };
    let number = |version: &Value| version.as_str().map_or_else(|| version.to_string(), str::to_owned);
    let version = number(&made["version"]);
    let champion = model["aliases"].as_array().into_iter().flatten().find(|alias| alias["alias"] == CHAMPION);
    let champion = match champion.map(|alias| number(&alias["version"])) {
        Some(champion) if champion == version => {
            return Ok(Registered { is_new, note: format!("{name}: version {version} is the champion") });
        }
        Some(champion) => Some((tags_of(&server.version(&champion)?), champion)),
        None => None,
    };
    let note = match verdict(&exported.tags, champion.as_ref().map(|(tags, version)| (tags, version.as_str())), server.promotes) {
        Ok(()) => {
            server.set_alias(CHAMPION, &version)?;
            format!("{name}: version {version} is the champion")
        }
        Err(why) => format!("{name}: version {version} is not the champion: {why}"),
    };
    Ok(Registered { is_new, note })
}

/// What came of an encoder.
#[derive(Debug)]
pub struct Registered {
    pub is_new: bool,
    pub note: String,
}

impl Registered {
    fn left_out(note: String) -> Self {
        Self { is_new: false, note }
    }
}

fn tags_of(version: &Value) -> BTreeMap<String, String> {
    let tags = version["tags"].as_array().into_iter().flatten();
    tags.filter_map(|tag| Some((tag["key"].as_str()?.to_owned(), tag["value"].as_str()?.to_owned()))).collect()
}

/// Whether a version becomes the champion, or why not: where there is none, or where it ranks the same validation rows no
/// worse than the champion does. Of other rows nothing is concluded; a person may (`CODENETS_MLFLOW_PROMOTE=1`).
fn verdict(new: &BTreeMap<String, String>, champion: Option<(&BTreeMap<String, String>, &str)>, promotes: bool) -> Result<(), String> {
    let Some((old, version)) = champion.filter(|_| !promotes) else { return Ok(()) };
    let by_hand = "set CODENETS_MLFLOW_PROMOTE=1, or move the alias by hand";
    if old.get(TOKENS).is_none_or(|tokens| new.get(TOKENS) != Some(tokens)) {
        return Err(format!("version {version}, which is, was measured on other data; {by_hand}"));
    }
    let mrr = |tags: &BTreeMap<String, String>| tags.get(MRR).and_then(|mrr| mrr.parse::<f64>().ok());
    match (mrr(new), mrr(old)) {
        (Some(ours), Some(theirs)) if ours >= theirs => Ok(()),
        (Some(ours), Some(theirs)) => Err(format!("its mrr is {ours:.4}, that of version {version} {theirs:.4}")),
        _ => Err(format!("version {version}, which is, has no mrr to compare with; {by_hand}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_champion_is_the_best_on_the_same_rows() {
        let tags = |tokens: &str, mrr: &str| BTreeMap::from([(TOKENS.to_owned(), tokens.to_owned()), (MRR.to_owned(), mrr.to_owned())]);
        let judge = |new: &BTreeMap<_, _>, old: &BTreeMap<_, _>| verdict(new, Some((old, "3")), false);
        let new = tags("a", "0.5");
        assert_eq!(verdict(&new, None, false), Ok(()));
        assert_eq!(judge(&new, &tags("a", "0.4999999")), Ok(()));
        assert_eq!(judge(&new, &new), Ok(()));
        assert!(judge(&new, &tags("a", "0.51")).unwrap_err().contains("its mrr is 0.5000, that of version 3 0.5100"));
        assert!(judge(&new, &tags("b", "0.1")).unwrap_err().contains("other data"));
        assert!(judge(&new, &BTreeMap::new()).unwrap_err().contains("other data"));
        assert!(judge(&new, &tags("a", "good")).unwrap_err().contains("no mrr"));
        assert_eq!(verdict(&new, Some((&tags("b", "0.9"), "3")), true), Ok(()));
    }
}
