//! `pretrained`: weights of a BERT or RoBERTa for [`super::bert`], from a folder with `config.json`, `model.safetensors` and
//! `tokenizer.json` of Hugging Face transformers.
//!
//! The embedding of the first segment is added to the positions; queries, keys and values become one matrix. RoBERTa counts positions from
//! its padding id + 1.

use std::path::{Path, PathBuf};

use ledger::{Digest, bail, ensure};
use safetensors::SafeTensors;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{bert::Bert, encoder::InputSize};
use crate::{
    data::vocabulary::Specials,
    error::{Context, Result},
    graph::parameters::{Parameters, floats, read_safetensors},
};

/// Folder of the weights, and the dropout of the training.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Pretrained {
    /// Folder with `config.json`, `model.safetensors` and `tokenizer.json`.
    pub path: PathBuf,
    /// Probability of dropout, below 1; null: the value of `config.json`.
    pub dropout: Option<f32>,
}

/// The part of `config.json` that is used.
#[derive(Debug, Deserialize)]
struct HubConfig {
    model_type: String,
    hidden_size: usize,
    intermediate_size: usize,
    num_hidden_layers: usize,
    num_attention_heads: usize,
    max_position_embeddings: usize,
    hidden_act: String,
    #[serde(default)]
    hidden_dropout_prob: f32,
    layer_norm_eps: f64,
    #[serde(default)]
    position_embedding_type: Option<String>,
    #[serde(default)]
    pad_token_id: Option<usize>,
}

impl HubConfig {
    fn read(path: &Path) -> Result<Self> {
        let bytes = std::fs::read(path).with_context(|| format!("reading {}", path.display()))?;
        let config: Self =
            serde_json::from_slice(&bytes).with_context(|| format!("{} is not the configuration of a BERT", path.display()))?;
        let name = path.display();
        ensure!(
            ["bert", "roberta"].contains(&config.model_type.as_str()),
            "{name}: model_type {} is not supported, only bert and roberta",
            config.model_type
        );
        ensure!(config.hidden_act == "gelu", "{name}: hidden_act {} is not supported, only gelu", config.hidden_act);
        if let Some(kind) = config.position_embedding_type.as_deref().filter(|&kind| kind != "absolute") {
            bail!("{name}: position_embedding_type {kind} is not supported, only absolute");
        }
        Ok(config)
    }

    /// Row of the first position in the table of positions.
    fn first_position(&self) -> usize {
        if self.model_type == "bert" { 0 } else { self.pad_token_id.unwrap_or(1) + 1 }
    }
}

impl Pretrained {
    /// Sizes of the encoder, from `config.json`.
    pub fn bert(&self) -> Result<Bert> {
        let config = HubConfig::read(&self.path.join("config.json"))?;
        Ok(Bert {
            dimension: config.hidden_size,
            intermediate: config.intermediate_size,
            layers: config.num_hidden_layers,
            heads: config.num_attention_heads,
            dropout: self.dropout.unwrap_or(config.hidden_dropout_prob),
            norm_epsilon: config.layer_norm_eps,
        })
    }

    /// Digests of the files that are read; their names begin with `name`.
    pub fn files(&self, name: &str) -> Result<Vec<(String, Digest)>> {
        let digest = |file: &str| {
            let path = self.path.join(file);
            Ok((format!("{name}:{file}"), Digest::of_file(&path).with_context(|| format!("reading {}", path.display()))?))
        };
        ["config.json", "model.safetensors", "tokenizer.json"].into_iter().map(digest).collect()
    }

    /// Checks that token ids have the same meaning as in the pretraining.
    pub fn require_vocabulary(&self, vocabulary: &Specials) -> Result<()> {
        let path = self.path.join("tokenizer.json");
        ensure!(
            Specials::read(&path)?.tokens == vocabulary.tokens,
            "the vocabulary differs from the one of the pretrained weights: set vocab.from = \"{}\"",
            path.display()
        );
        Ok(())
    }

    /// Copies the weights of the file into the parameters with the prefix `scope`.
    ///
    /// # Errors
    /// The file cannot be read, a tensor is missing, or a shape differs from the encoder, the vocabulary or the sequence length.
    pub fn load(&self, scope: &str, input: InputSize, parameters: &mut Parameters) -> Result<()> {
        let config = HubConfig::read(&self.path.join("config.json"))?;
        let path = self.path.join("model.safetensors");
        let bytes = read_safetensors(&path)?;
        let file = SafeTensors::deserialize(&bytes).with_context(|| format!("{} is not a safetensors file", path.display()))?;
        let hub = HubTensors { file: &file, path: &path };
        let mut target = Target { parameters, scope, path: &path };
        hub.copy_embeddings(&config, input, &mut target)?;
        (0..config.num_hidden_layers).try_for_each(|layer| hub.copy_layer(&config, layer, &mut target))
    }
}

/// The parameters that weights are copied into.
struct Target<'a> {
    parameters: &'a mut Parameters,
    scope: &'a str,
    path: &'a Path,
}

impl Target<'_> {
    fn set(&mut self, name: &str, values: Vec<f32>) -> Result<()> {
        let name = format!("{}{name}", self.scope);
        let parameter = self.parameters.0.get_mut(&name).with_context(|| format!("the encoder has no parameter {name}"))?;
        ensure!(
            parameter.values.len() == values.len(),
            "{}: {name} needs {} numbers, the file has {}",
            self.path.display(),
            parameter.values.len(),
            values.len()
        );
        parameter.values = values;
        Ok(())
    }
}

/// Tensors by their names in transformers, with or without the prefix of the model.
struct HubTensors<'a> {
    file: &'a SafeTensors<'a>,
    path: &'a Path,
}

impl HubTensors<'_> {
    /// Embeddings of tokens and positions, and their norm.
    fn copy_embeddings(&self, config: &HubConfig, input: InputSize, target: &mut Target<'_>) -> Result<()> {
        let width = config.hidden_size;
        let words = self.rows("embeddings.word_embeddings.weight", width)?;
        ensure!(
            words.len() / width >= input.vocabulary,
            "{} has {} tokens, the vocabulary has {}: set vocab.from to the tokenizer.json of the same folder",
            self.path.display(),
            words.len() / width,
            input.vocabulary
        );
        target.set("tokens", words[..input.vocabulary * width].to_vec())?;
        let (positions, first) = (self.rows("embeddings.position_embeddings.weight", width)?, config.first_position());
        let count = config.max_position_embeddings.min(positions.len() / width).saturating_sub(first);
        ensure!(
            count >= input.length,
            "{} has {count} positions, sequences have up to {} tokens: lower tokenize.code-tokens",
            self.path.display(),
            input.length
        );
        let segment = match self.optional("embeddings.token_type_embeddings.weight")? {
            Some((shape, segments)) if shape.len() == 2 && shape[1] == width && shape[0] > 0 => segments[..width].to_vec(),
            Some((shape, _)) => bail!("{}: embeddings.token_type_embeddings.weight has shape {shape:?}", self.path.display()),
            None => vec![0.0; width],
        };
        let values = positions[first * width..(first + input.length) * width].iter().enumerate();
        target.set("positions", values.map(|(place, value)| value + segment[place % width]).collect())?;
        self.copy_norm("embeddings.LayerNorm", width, "norm", target)
    }

    /// One transformer layer.
    fn copy_layer(&self, config: &HubConfig, layer: usize, target: &mut Target<'_>) -> Result<()> {
        let width = config.hidden_size;
        let (from, to) = (format!("encoder.layer.{layer}"), format!("layer.{layer}"));
        let parts = ["query", "key", "value"].map(|part| format!("{from}.attention.self.{part}"));
        let weights = parts.iter().map(|part| self.transposed(&format!("{part}.weight"), width, width)).collect::<Result<Vec<_>>>()?;
        let columns = (0..width).flat_map(|row| weights.iter().flat_map(move |part| &part[row * width..(row + 1) * width]));
        target.set(&format!("{to}.qkv.weight"), columns.copied().collect())?;
        let biases = parts.iter().map(|part| self.tensor(&format!("{part}.bias"), &[width])).collect::<Result<Vec<_>>>()?;
        target.set(&format!("{to}.qkv.bias"), biases.concat())?;
        for (from_part, to_part, inputs, outputs) in [
            ("attention.output.dense", "output", width, width),
            ("intermediate.dense", "expand", width, config.intermediate_size),
            ("output.dense", "contract", config.intermediate_size, width),
        ] {
            target.set(&format!("{to}.{to_part}.weight"), self.transposed(&format!("{from}.{from_part}.weight"), inputs, outputs)?)?;
            target.set(&format!("{to}.{to_part}.bias"), self.tensor(&format!("{from}.{from_part}.bias"), &[outputs])?)?;
        }
        self.copy_norm(&format!("{from}.attention.output.LayerNorm"), width, &format!("{to}.attention_norm"), target)?;
        self.copy_norm(&format!("{from}.output.LayerNorm"), width, &format!("{to}.norm"), target)
    }

    /// Gamma and beta of a norm, which older files name so, and newer ones weight and bias.
    fn copy_norm(&self, from: &str, width: usize, to: &str, target: &mut Target<'_>) -> Result<()> {
        for (names, part) in [(["weight", "gamma"], "gamma"), (["bias", "beta"], "beta")] {
            let name = names.into_iter().find(|name| matches!(self.optional(&format!("{from}.{name}")), Ok(Some(_)))).unwrap_or(names[0]);
            target.set(&format!("{to}.{part}"), self.tensor(&format!("{from}.{name}"), &[width])?)?;
        }
        Ok(())
    }

    /// Shape and values of a tensor; none where the file does not have it.
    fn optional(&self, name: &str) -> Result<Option<(Vec<usize>, Vec<f32>)>> {
        for prefix in ["", "bert.", "roberta."] {
            if let Ok(tensor) = self.file.tensor(&format!("{prefix}{name}")) {
                let values = floats(name, &tensor).with_context(|| format!("reading {}", self.path.display()))?;
                ensure!(values.iter().all(|value| value.is_finite()), "{}: {name} has a value that is not finite", self.path.display());
                return Ok(Some((tensor.shape().to_vec(), values)));
            }
        }
        Ok(None)
    }

    fn required(&self, name: &str) -> Result<(Vec<usize>, Vec<f32>)> {
        self.optional(name)?.with_context(|| format!("{} has no tensor {name}", self.path.display()))
    }

    /// Values of a tensor with this shape.
    fn tensor(&self, name: &str, shape: &[usize]) -> Result<Vec<f32>> {
        let (found, values) = self.required(name)?;
        ensure!(found == shape, "{}: {name} has shape {found:?}, its config.json requires {shape:?}", self.path.display());
        Ok(values)
    }

    /// Values of a tensor with any number of rows of this width.
    fn rows(&self, name: &str, width: usize) -> Result<Vec<f32>> {
        let (found, values) = self.required(name)?;
        ensure!(found.len() == 2 && found[1] == width, "{}: {name} has shape {found:?}, not rows of {width}", self.path.display());
        Ok(values)
    }

    /// A matrix `[out, in]` as `[in, out]`.
    fn transposed(&self, name: &str, inputs: usize, outputs: usize) -> Result<Vec<f32>> {
        let values = self.tensor(name, &[outputs, inputs])?;
        Ok((0..values.len()).map(|place| values[place % outputs * inputs + place / outputs]).collect())
    }
}

#[cfg(test)]
mod tests {
    use safetensors::{Dtype, tensor::TensorView};

    use super::*;
    use crate::{
        encoders::{architecture::EncoderConfig, encoder::Encoder},
        graph::parameters::Specs,
    };

    const INPUT: InputSize = InputSize { vocabulary: 5, length: 3 };

    /// Writes a RoBERTa with one layer of width 2, each number being its index in the tensor; `change` may change a shape.
    fn write(folder: &Path, config: &str, change: impl Fn(&str, &mut Vec<usize>)) {
        std::fs::write(folder.join("config.json"), config).unwrap();
        let layer = "roberta.encoder.layer.0";
        let linear = |name: &str, outputs: usize, inputs: usize| {
            [(format!("{name}.weight"), vec![outputs, inputs]), (format!("{name}.bias"), vec![outputs])]
        };
        let norm = |name: &str| [(format!("{name}.weight"), vec![2]), (format!("{name}.bias"), vec![2])];
        let mut tensors = vec![
            ("roberta.embeddings.word_embeddings.weight".to_owned(), vec![6, 2]),
            ("roberta.embeddings.position_embeddings.weight".to_owned(), vec![5, 2]),
            ("roberta.embeddings.token_type_embeddings.weight".to_owned(), vec![1, 2]),
        ];
        tensors.extend(norm("roberta.embeddings.LayerNorm"));
        for part in ["query", "key", "value"] {
            tensors.extend(linear(&format!("{layer}.attention.self.{part}"), 2, 2));
        }
        tensors.extend(linear(&format!("{layer}.attention.output.dense"), 2, 2));
        tensors.extend(linear(&format!("{layer}.intermediate.dense"), 3, 2));
        tensors.extend(linear(&format!("{layer}.output.dense"), 2, 3));
        tensors.extend(norm(&format!("{layer}.attention.output.LayerNorm")));
        tensors.extend(norm(&format!("{layer}.output.LayerNorm")));
        let bytes: Vec<(String, Vec<usize>, Vec<u8>)> = tensors
            .into_iter()
            .map(|(name, mut shape)| {
                change(&name, &mut shape);
                let count = shape.iter().product::<usize>();
                (name, shape, (0..count).flat_map(|place| (place as f32).to_le_bytes()).collect())
            })
            .collect();
        let views = bytes.iter().map(|(name, shape, bytes)| (name, TensorView::new(Dtype::F32, shape.clone(), bytes).unwrap()));
        safetensors::serialize_to_file(views, None, &folder.join("model.safetensors")).unwrap();
    }

    const CONFIG: &str = r#"{"model_type": "roberta", "hidden_size": 2, "intermediate_size": 3, "num_hidden_layers": 1,
        "num_attention_heads": 1, "max_position_embeddings": 5, "hidden_act": "gelu", "hidden_dropout_prob": 0.1,
        "layer_norm_eps": 1e-5, "pad_token_id": 1, "vocab_size": 6}"#;

    fn load(folder: &Path) -> Result<Parameters> {
        let pretrained = Pretrained { path: folder.to_owned(), dropout: None };
        let mut specs = Specs::default();
        EncoderConfig::Pretrained(pretrained.clone()).architecture()?.specs(INPUT, &mut specs);
        let mut parameters = Parameters::initialise(&specs.specs, 0);
        pretrained.load("", INPUT, &mut parameters)?;
        Ok(parameters)
    }

    #[test]
    fn a_roberta_counts_positions_after_its_padding_id() {
        let dir = tempfile::tempdir().unwrap();
        write(dir.path(), CONFIG, |_, _| ());
        let parameters = load(dir.path()).unwrap();
        // The first five of six rows; positions 2 to 4 plus the segment (0, 1).
        assert_eq!(parameters.get("tokens").values, (0..10).map(|place| place as f32).collect::<Vec<_>>());
        assert_eq!(parameters.get("positions").values, [4.0, 6.0, 6.0, 8.0, 8.0, 10.0]);
        // The transposed [out, in] = [[0, 1], [2, 3]], three times in the columns.
        assert_eq!(parameters.get("layer.0.qkv.weight").values, [0.0, 2.0, 0.0, 2.0, 0.0, 2.0, 1.0, 3.0, 1.0, 3.0, 1.0, 3.0]);
        assert_eq!(parameters.get("layer.0.contract.weight").values, [0.0, 3.0, 1.0, 4.0, 2.0, 5.0]);
        let bert = Pretrained { path: dir.path().to_owned(), dropout: Some(0.0) }.bert().unwrap();
        assert_eq!((bert.dropout, bert.norm_epsilon), (0.0, 1e-5));
    }

    #[test]
    fn files_that_do_not_match_are_refused_by_name() {
        let dir = tempfile::tempdir().unwrap();
        let refusal = |config: &str, changed: &str, shape: &[usize]| {
            write(dir.path(), config, |name, found| {
                if name.ends_with(changed) && !changed.is_empty() {
                    *found = shape.to_vec();
                }
            });
            ledger::chain(&load(dir.path()).unwrap_err())
        };
        for (config, changed, shape, expected) in [
            (CONFIG, "self.query.weight", &[1, 2][..], "self.query.weight has shape [1, 2], its config.json requires [2, 2]"),
            (CONFIG, "intermediate.dense.weight", &[2, 3], "intermediate.dense.weight has shape [2, 3], its config.json requires [3, 2]"),
            (CONFIG, "word_embeddings.weight", &[3, 2], "has 3 tokens, the vocabulary has 5"),
            (CONFIG, "position_embeddings.weight", &[4, 2], "has 2 positions, sequences have up to 3"),
            (CONFIG, "token_type_embeddings.weight", &[2], "token_type_embeddings.weight has shape [2]"),
            (&CONFIG.replace("\"gelu\"", "\"relu\""), "", &[], "hidden_act relu is not supported"),
            (&CONFIG.replace("\"roberta\"", "\"gpt2\""), "", &[], "model_type gpt2 is not supported"),
            (&CONFIG.replace("\"num_attention_heads\": 1", "\"num_attention_heads\": 3"), "", &[], "not a multiple"),
            (&CONFIG.replace("\"hidden_size\": 2", "\"hidden_size\": 4000000000"), "", &[], "must be between 1 and 65536"),
            ("{}", "", &[], "is not the configuration of a BERT"),
        ] {
            let error = refusal(config, changed, shape);
            assert!(error.contains(expected), "{expected}: {error}");
        }
    }
}
