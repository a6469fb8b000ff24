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
