//! Objects that choose a kind.

use std::collections::HashMap;

use serde_json::{Value, json};

use super::super::*;
use crate::chain;

#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct Train {
    /// The encoder of code.
    encoder: Encoder,
    query_encoder: Option<Encoder>,
    loss: Loss,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    sources: Vec<Loss>,
}

#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "kebab-case")]
enum Encoder {
    Nbow(Nbow),
    Bert(Bert),
}

#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct Nbow {
    dimension: usize,
}

#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct Bert {
    dimension: usize,
    layers: usize,
    dropout: f64,
}

#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "kebab-case", rename_all_fields = "kebab-case", deny_unknown_fields)]
enum Loss {
    Softmax { initial_scale: f64 },
    Triplet { margin: f64 },
    Lambda { k: Option<usize>, sigma: f64 },
}

const BASE: &str = r#"
    train {
      encoder {
        kind = nbow
        nbow { dimension = 256 }
        bert { dimension = 128, layers = 3, dropout = 0.1 }
      }
      query-encoder { kind = null, nbow { dimension = 64 }, bert { dimension = 64, layers = 1, dropout = 0.0 } }
      loss { kind = softmax, softmax { initial-scale = 14.0 }, triplet { margin = 0.2 }, lambda { k = null, sigma = 1.0 } }
    }
"#;

fn conf(own: &str) -> Conf {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("base.conf"), BASE).unwrap();
    let path = dir.path().join("mine.conf");
    std::fs::write(&path, format!("include \"base.conf\"\n{own}")).unwrap();
    Conf::load_with(&path, &[Section::new("train", schema_for!(Train))], &HashMap::new()).unwrap()
}

/// The section as an artifact records it.
fn train(own: &str) -> Value {
    serde_json::to_value(conf(own).section::<Train>("train").unwrap()).unwrap()
}

fn error(own: &str) -> String {
    let message = chain(&conf(own).section::<Train>("train").unwrap_err());
    message.split_once(": ").unwrap().1.to_owned()
}

#[test]
fn a_kind_brings_its_defaults_and_no_others() {
    let expected = json!({
        "encoder": { "kind": "nbow", "dimension": 256 }, "query-encoder": null, "loss": { "kind": "softmax", "initial-scale": 14.0 }
    });
    assert_eq!(train(""), expected);
    let other = train("train { encoder.kind = bert, loss.kind = triplet }");
    assert_eq!(other["encoder"], json!({ "kind": "bert", "dimension": 128, "layers": 3, "dropout": 0.1 }));
    assert_eq!(other["loss"], json!({ "kind": "triplet", "margin": 0.2 }));
}

#[test]
fn direct_fields_and_fields_of_the_kind_give_the_same_value() {
    let new = train("train.encoder { kind = bert, bert { dimension = 64, layers = 6 } }");
    assert_eq!(new, train("train.encoder { kind = bert, dimension = 64, layers = 6 }"));
    assert_eq!(new["encoder"], json!({ "kind": "bert", "dimension": 64, "layers": 6, "dropout": 0.1 }));
}

#[test]
fn a_file_that_sets_the_object_to_null_first_gives_the_same_value() {
    let old = "train.loss = null\ntrain.encoder = null\ntrain { encoder { kind = bert, dimension = 64, layers = 6, dropout = 0.1 } }
        train.loss { kind = lambda, k = null, sigma = 1.0 }";
    assert_eq!(train(old), train("train { encoder { kind = bert, bert { dimension = 64, layers = 6 } }, loss.kind = lambda }"));
}

#[test]
fn a_file_that_writes_all_fields_of_another_kind_directly_gives_the_same_value() {
    let all = train("train { encoder { kind = bert, dimension = 1, layers = 2, dropout = 0.5 } }");
    assert_eq!(all["encoder"], json!({ "kind": "bert", "dimension": 1, "layers": 2, "dropout": 0.5 }));
}

#[test]
fn an_optional_object_is_null_until_a_kind_is_chosen() {
    assert_eq!(train("")["query-encoder"], Value::Null);
    let chosen = train("train.query-encoder { kind = bert, bert.dropout = 0.3 }");
    assert_eq!(chosen["query-encoder"], json!({ "kind": "bert", "dimension": 64, "layers": 1, "dropout": 0.3 }));
    assert_eq!(train("train.query-encoder = null")["query-encoder"], Value::Null);
}

#[test]
fn kinds_in_a_list_are_flat_too() {
    let list = train("train.sources = [{ kind = triplet, triplet { margin = 1.0 } }, { kind = softmax, initial-scale = 2.0 }]");
    assert_eq!(list["sources"], json!([{ "kind": "triplet", "margin": 1.0 }, { "kind": "softmax", "initial-scale": 2.0 }]));
}

#[test]
fn a_wrong_key_of_a_kind_is_refused_with_the_nearest_name() {
    let expected = "unknown key `train.encoder.bert.layer`, did you mean `layers`? (known: dimension, dropout, layers)";
    assert_eq!(error("train.encoder { kind = bert, bert.layer = 3 }"), expected);
    // Also of a kind that is not chosen.
    assert_eq!(error("train.encoder.bert.layer = 3"), expected);
}

#[test]
fn a_wrong_direct_key_is_refused_with_the_nearest_name() {
    assert!(error("train.encoder.dimensoin = 3").starts_with("unknown key `train.encoder.dimensoin`, did you mean `dimension`?"));
    assert!(error("train.encoder.brt { layers = 3 }").contains("did you mean `bert`?"));
}

#[test]
fn a_direct_key_of_another_kind_is_refused_with_the_new_line() {
    assert_eq!(
        error("train.loss.margin = 0.5"),
        "unknown key `train.loss.margin`: kind `softmax` has no `margin`; write `train.loss.triplet.margin = …` where it is meant for \
         kind `triplet`"
    );
}

#[test]
fn an_unknown_kind_is_refused_with_the_nearest_name() {
    let expected = "unknown value `tripplet` at `train.loss.kind`, did you mean `triplet`? (known: lambda, softmax, triplet)";
    assert_eq!(error("train.loss.kind = tripplet"), expected);
}

#[test]
fn a_kind_whose_defaults_were_removed_is_refused_with_the_new_line() {
    let message = error("train.encoder = null\ntrain.encoder.kind = bert");
    let expected = "`train.encoder`: kind `bert` needs dimension, layers, dropout: write `train.encoder.dimension = …`, set the \
                    environment variable where its value is `${?VARIABLE}`, or delete a line `train.encoder = null` before it";
    assert_eq!(message, expected);
    assert!(error("train.encoder = null\ntrain.encoder.bert.layers = 3").contains("has no kind: write `train.encoder.kind = …`"));
}

#[test]
fn a_resolved_configuration_has_no_objects_of_other_kinds_and_reads_back() {
    let resolved = conf("train.encoder.kind = bert").resolved().unwrap();
    assert_eq!(resolved.0["train"]["encoder"], json!({ "kind": "bert", "dimension": 128, "layers": 3, "dropout": 0.1 }));
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("restored.conf");
    std::fs::write(&path, serde_json::to_string(&resolved).unwrap()).unwrap();
    let back: Train = Conf::load(&path, &["train"]).unwrap().section("train").unwrap();
    assert_eq!(serde_json::to_value(back).unwrap(), train("train.encoder.kind = bert"));
}

#[test]
fn the_schema_describes_both_forms() {
    let schema = of_sections(&[Section::new("train", schema_for!(Train)), Section::from("vars")]);
    assert_eq!((&schema["additionalProperties"], &schema["properties"]["vars"]), (&json!(false), &json!(true)));
    assert_eq!(schema["properties"]["train"]["properties"]["loss"]["$ref"], "#/$defs/train.Loss");
    let triplet = &schema["$defs"]["train.Loss"]["oneOf"][1];
    assert_eq!(triplet["properties"]["kind"]["const"], "triplet");
    assert_eq!(triplet["properties"]["margin"]["type"], "number");
    assert_eq!(triplet["properties"]["triplet"]["properties"]["margin"]["type"], "number");
    assert_eq!(triplet["properties"]["lambda"]["additionalProperties"], false);
    assert_eq!(triplet["anyOf"], json!([{ "required": ["kind", "margin"] }, { "required": ["kind", "triplet"] }]));
}
