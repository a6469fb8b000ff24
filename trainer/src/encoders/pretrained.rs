//! `pretrained`: a folder with `config.json`, `model.safetensors` and `tokenizer.json` of a BERT or RoBERTa (the names
//! of Hugging Face transformers), read into [`super::bert`]. The first segment's embedding is added to the positions;
//! queries, keys and values become one matrix. RoBERTa counts positions from its padding id + 1.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use ledger::Digest;
use safetensors::SafeTensors;
use serde::{Deserialize, Serialize};

use super::{Extent, bert::Bert};
use crate::{
    parameters::{Parameters, floats, read_safetensors},
    vocabulary::Specials,
};

/// Where the files are, and how they are trained on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Pretrained {
    pub path: PathBuf,
    /// None: what `config.json` says.
    pub dropout: Option<f32>,
}

/// The part of `config.json` that matters.
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
        let config: Self = serde_json::from_slice(&bytes).with_context(|| format!("{} is no BERT's configuration", path.display()))?;
        let name = path.display();
        ensure!(
            ["bert", "roberta"].contains(&config.model_type.as_str()),
            "{name}: model_type {} is neither BERT's nor RoBERTa's",
            config.model_type
        );
        ensure!(config.hidden_act == "gelu", "{name}: hidden_act {} is not supported, only gelu", config.hidden_act);
        if let Some(kind) = config.position_embedding_type.as_deref().filter(|&kind| kind != "absolute") {
            bail!("{name}: position_embedding_type {kind} is not supported, only absolute");
        }
        Ok(config)
    }

    /// Where the positions begin.
    fn first_position(&self) -> usize {
        if self.model_type == "bert" { 0 } else { self.pad_token_id.unwrap_or(1) + 1 }
    }
}

impl Pretrained {
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

    /// Digests of what is read.
    pub fn files(&self, name: &str) -> Result<Vec<(String, Digest)>> {
        let digest = |file: &str| {
            let path = self.path.join(file);
            Ok((format!("{name}:{file}"), Digest::of_file(&path).with_context(|| format!("reading {}", path.display()))?))
        };
        ["config.json", "model.safetensors", "tokenizer.json"].into_iter().map(digest).collect()
    }

    /// Weights mean nothing under another vocabulary.
    pub fn require_vocabulary(&self, vocabulary: &Specials) -> Result<()> {
        let path = self.path.join("tokenizer.json");
        ensure!(
            Specials::read(&path)?.tokens == vocabulary.tokens,
            "the vocabulary is not that of the pretrained weights: set vocab.from = \"{}\"",
            path.display()
        );
        Ok(())
    }

    /// Puts the file's weights into the parameters below `scope`.
    pub fn load(&self, scope: &str, extent: Extent, parameters: &mut Parameters) -> Result<()> {
        let config = HubConfig::read(&self.path.join("config.json"))?;
        let path = self.path.join("model.safetensors");
        let bytes = read_safetensors(&path)?;
        let file = SafeTensors::deserialize(&bytes).with_context(|| format!("{} is not a safetensors file", path.display()))?;
        let hub = Hub { file: &file, path: &path };
        let mut set = |name: &str, values: Vec<f32>| -> Result<()> {
            let name = format!("{scope}{name}");
            let parameter = parameters.0.get_mut(&name).with_context(|| format!("the encoder has no parameter {name}"))?;
            ensure!(
                parameter.values.len() == values.len(),
                "{}: {name} needs {} numbers, the file has {}",
                path.display(),
                parameter.values.len(),
                values.len()
            );
            parameter.values = values;
            Ok(())
        };
        let width = config.hidden_size;
        let words = hub.rows("embeddings.word_embeddings.weight", width)?;
        ensure!(
            words.len() / width >= extent.vocabulary,
            "{} knows {} tokens, the vocabulary has {}: set vocab.from to the tokenizer.json beside it",
            path.display(),
            words.len() / width,
            extent.vocabulary
        );
        set("tokens", words[..extent.vocabulary * width].to_vec())?;
        let (positions, first) = (hub.rows("embeddings.position_embeddings.weight", width)?, config.first_position());
        let room = config.max_position_embeddings.min(positions.len() / width).saturating_sub(first);
        ensure!(
            room >= extent.length,
            "{} has {room} positions, sequences have up to {} tokens: lower tokenize.code-tokens",
            path.display(),
            extent.length
        );
        let segment = match hub.optional("embeddings.token_type_embeddings.weight")? {
            Some((shape, segments)) if shape.len() == 2 && shape[1] == width && shape[0] > 0 => segments[..width].to_vec(),
            Some((shape, _)) => bail!("{}: embeddings.token_type_embeddings.weight has shape {shape:?}", path.display()),
            None => vec![0.0; width],
        };
        let places = positions[first * width..(first + extent.length) * width].iter().enumerate();
        set("positions", places.map(|(place, value)| value + segment[place % width]).collect())?;
        hub.norm("embeddings.LayerNorm", width, "norm", &mut set)?;
        for layer in 0..config.num_hidden_layers {
            let (from, to) = (format!("encoder.layer.{layer}"), format!("layer.{layer}"));
            let parts = ["query", "key", "value"].map(|part| format!("{from}.attention.self.{part}"));
            let weights = parts.iter().map(|part| hub.turned(&format!("{part}.weight"), width, width)).collect::<Result<Vec<_>>>()?;
            let side_by_side = (0..width).flat_map(|row| weights.iter().flat_map(move |part| &part[row * width..(row + 1) * width]));
            set(&format!("{to}.qkv.weight"), side_by_side.copied().collect())?;
            let biases = parts.iter().map(|part| hub.tensor(&format!("{part}.bias"), &[width])).collect::<Result<Vec<_>>>()?;
            set(&format!("{to}.qkv.bias"), biases.concat())?;
            for (from_part, to_part, inputs, outputs) in [
                ("attention.output.dense", "output", width, width),
                ("intermediate.dense", "expand", width, config.intermediate_size),
                ("output.dense", "contract", config.intermediate_size, width),
            ] {
                set(&format!("{to}.{to_part}.weight"), hub.turned(&format!("{from}.{from_part}.weight"), inputs, outputs)?)?;
                set(&format!("{to}.{to_part}.bias"), hub.tensor(&format!("{from}.{from_part}.bias"), &[outputs])?)?;
            }
            hub.norm(&format!("{from}.attention.output.LayerNorm"), width, &format!("{to}.attention_norm"), &mut set)?;
            hub.norm(&format!("{from}.output.LayerNorm"), width, &format!("{to}.norm"), &mut set)?;
        }
        Ok(())
    }
}

/// Tensors by the names of transformers, with or without the model's name before them.
struct Hub<'a> {
    file: &'a SafeTensors<'a>,
    path: &'a Path,
}

impl Hub<'_> {
    /// Shape and numbers, if it is there.
    fn optional(&self, name: &str) -> Result<Option<(Vec<usize>, Vec<f32>)>> {
        for prefix in ["", "bert.", "roberta."] {
            if let Ok(tensor) = self.file.tensor(&format!("{prefix}{name}")) {
                let values = floats(name, &tensor).with_context(|| format!("reading {}", self.path.display()))?;
                ensure!(values.iter().all(|value| value.is_finite()), "{}: {name} holds a number that is not finite", self.path.display());
                return Ok(Some((tensor.shape().to_vec(), values)));
            }
        }
        Ok(None)
    }

    fn found(&self, name: &str) -> Result<(Vec<usize>, Vec<f32>)> {
        self.optional(name)?.with_context(|| format!("{} has no tensor {name}", self.path.display()))
    }

    fn tensor(&self, name: &str, shape: &[usize]) -> Result<Vec<f32>> {
        let (found, values) = self.found(name)?;
        ensure!(found == shape, "{}: {name} has shape {found:?}, its config.json says {shape:?}", self.path.display());
        Ok(values)
    }

    /// Any number of rows of this width.
    fn rows(&self, name: &str, width: usize) -> Result<Vec<f32>> {
        let (found, values) = self.found(name)?;
        ensure!(found.len() == 2 && found[1] == width, "{}: {name} has shape {found:?}, not rows of {width}", self.path.display());
        Ok(values)
    }

    /// `[out, in]` as `[in, out]`.
    fn turned(&self, name: &str, inputs: usize, outputs: usize) -> Result<Vec<f32>> {
        let values = self.tensor(name, &[outputs, inputs])?;
        Ok((0..values.len()).map(|place| values[place % outputs * inputs + place / outputs]).collect())
    }

    fn norm(&self, from: &str, width: usize, to: &str, set: &mut impl FnMut(&str, Vec<f32>) -> Result<()>) -> Result<()> {
        for (names, part) in [(["weight", "gamma"], "gamma"), (["bias", "beta"], "beta")] {
            let name = names.into_iter().find(|name| matches!(self.optional(&format!("{from}.{name}")), Ok(Some(_)))).unwrap_or(names[0]);
            set(&format!("{to}.{part}"), self.tensor(&format!("{from}.{name}"), &[width])?)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use safetensors::{Dtype, tensor::TensorView};

    use super::*;
    use crate::{
        encoders::{Encoder, EncoderConfig},
        parameters::Specs,
    };

    const EXTENT: Extent = Extent { vocabulary: 5, length: 3 };

    /// A RoBERTa of one layer, two wide, every number of a tensor its place; `change` may spoil it.
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
        EncoderConfig::Pretrained(pretrained.clone()).architecture()?.specs(EXTENT, &mut specs);
        let mut parameters = Parameters::initialise(&specs.specs, 0);
        pretrained.load("", EXTENT, &mut parameters)?;
        Ok(parameters)
    }

    #[test]
    fn a_roberta_counts_positions_behind_its_padding_id() {
        let dir = tempfile::tempdir().unwrap();
        write(dir.path(), CONFIG, |_, _| ());
        let parameters = load(dir.path()).unwrap();
        // The first five of six rows; positions 2 to 4, the segment (0, 1) added.
        assert_eq!(parameters.get("tokens").values, (0..10).map(|place| place as f32).collect::<Vec<_>>());
        assert_eq!(parameters.get("positions").values, [4.0, 6.0, 6.0, 8.0, 8.0, 10.0]);
        // [out, in] = [[0, 1], [2, 3]] turned, three side by side.
        assert_eq!(parameters.get("layer.0.qkv.weight").values, [0.0, 2.0, 0.0, 2.0, 0.0, 2.0, 1.0, 3.0, 1.0, 3.0, 1.0, 3.0]);
        assert_eq!(parameters.get("layer.0.contract.weight").values, [0.0, 3.0, 1.0, 4.0, 2.0, 5.0]);
        let bert = Pretrained { path: dir.path().to_owned(), dropout: Some(0.0) }.bert().unwrap();
        assert_eq!((bert.dropout, bert.norm_epsilon), (0.0, 1e-5));
    }

    #[test]
    fn files_that_do_not_fit_are_refused_by_name() {
        let dir = tempfile::tempdir().unwrap();
        let refusal = |config: &str, spoiled: &str, shape: &[usize]| {
            write(dir.path(), config, |name, found| {
                if name.ends_with(spoiled) && !spoiled.is_empty() {
                    *found = shape.to_vec();
                }
            });
            format!("{:#}", load(dir.path()).unwrap_err())
        };
        for (config, spoiled, shape, expected) in [
            (CONFIG, "self.query.weight", &[1, 2][..], "self.query.weight has shape [1, 2], its config.json says [2, 2]"),
            (CONFIG, "intermediate.dense.weight", &[2, 3], "intermediate.dense.weight has shape [2, 3], its config.json says [3, 2]"),
            (CONFIG, "word_embeddings.weight", &[3, 2], "knows 3 tokens, the vocabulary has 5"),
            (CONFIG, "position_embeddings.weight", &[4, 2], "has 2 positions, sequences have up to 3"),
            (CONFIG, "token_type_embeddings.weight", &[2], "token_type_embeddings.weight has shape [2]"),
            (&CONFIG.replace("\"gelu\"", "\"relu\""), "", &[], "hidden_act relu is not supported"),
            (&CONFIG.replace("\"roberta\"", "\"gpt2\""), "", &[], "model_type gpt2 is neither"),
            (&CONFIG.replace("\"num_attention_heads\": 1", "\"num_attention_heads\": 3"), "", &[], "not a multiple"),
            (&CONFIG.replace("\"hidden_size\": 2", "\"hidden_size\": 4000000000"), "", &[], "must be between 1 and 65536"),
            ("{}", "", &[], "is no BERT's configuration"),
        ] {
            let error = refusal(config, spoiled, shape);
            assert!(error.contains(expected), "{expected}: {error}");
        }
    }
}
