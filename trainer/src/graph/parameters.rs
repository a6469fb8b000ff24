//! Named parameters in host memory: a checkpoint stores them, a step updates them, an export writes them into a graph.
//!
//! They are not part of the autodiff graph. A step copies the values that it needs to the device
//! ([`DeviceParameters`](super::tape::DeviceParameters)): of an embedding table only the rows that its batch reads. The cost of gradients
//! and updates therefore depends on the batch, not on the size of the vocabulary.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::File,
    io::Read,
    path::Path,
};

use ledger::{bail, ensure};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use safetensors::{Dtype, SafeTensors, tensor::TensorView};

use crate::error::{Context, Result};

/// Use of a parameter: decides whether it decays, and how it is updated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// `[rows, width]`, selected by token id: a step updates only the rows of its batch, and they decay.
    Table,
    /// `[in, out]`: decays.
    Matrix,
    /// Biases, norms, scales: never decay.
    Vector,
}

/// Initial values of a parameter.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Init {
    Constant(f32),
    /// Normally distributed, with this standard deviation.
    Normal(f32),
    /// Uniformly distributed between ± this bound.
    Uniform(f32),
}

/// A parameter that an encoder needs.
#[derive(Debug, Clone, PartialEq)]
pub struct ParameterSpec {
    pub name: String,
    pub shape: Vec<usize>,
    pub role: Role,
    pub init: Init,
}

/// One parameter.
#[derive(Debug, Clone, PartialEq)]
pub struct Parameter {
    pub shape: Vec<usize>,
    pub role: Role,
    pub values: Vec<f32>,
}

/// All parameters, sorted by name.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Parameters(pub BTreeMap<String, Parameter>);

/// Collects [`ParameterSpec`]s whose names have a common prefix: `code.python.` + `layer.0.qkv.weight`.
#[derive(Debug, Default)]
pub struct Specs {
    scope: String,
    pub specs: Vec<ParameterSpec>,
}

impl Specs {
    /// Runs `fill` with the prefix `scope`.
    pub fn scoped(&mut self, scope: &str, fill: impl FnOnce(&mut Self)) {
        let outer = std::mem::replace(&mut self.scope, scope.to_owned());
        fill(self);
        self.scope = outer;
    }

    /// Adds a parameter.
    pub fn add(&mut self, name: &str, shape: &[usize], role: Role, init: Init) {
        self.specs.push(ParameterSpec { name: format!("{}{name}", self.scope), shape: shape.to_vec(), role, init });
    }

    /// `name.weight: [inputs, outputs]` and `name.bias: [outputs]`.
    pub fn linear(&mut self, name: &str, inputs: usize, outputs: usize, init: Init) {
        self.add(&format!("{name}.weight"), &[inputs, outputs], Role::Matrix, init);
        self.add(&format!("{name}.bias"), &[outputs], Role::Vector, Init::Constant(0.0));
    }

    /// `name.gamma` and `name.beta`, `[width]`.
    pub fn norm(&mut self, name: &str, width: usize) {
        self.add(&format!("{name}.gamma"), &[width], Role::Vector, Init::Constant(1.0));
        self.add(&format!("{name}.beta"), &[width], Role::Vector, Init::Constant(0.0));
    }
}

/// Uniform within `±√(6 / (in + out))` (Glorot & Bengio 2010, eq. 16).
pub fn glorot(inputs: usize, outputs: usize) -> Init {
    Init::Uniform((6.0 / (inputs + outputs) as f32).sqrt())
}

impl ParameterSpec {
    /// Initial values. The generator depends on the seed and the name only, so that other parameters do not change them.
    fn values(&self, seed: u64) -> Vec<f32> {
        let count: usize = self.shape.iter().product();
        let mut key = [0; 32];
        key[..8].copy_from_slice(&seed.to_le_bytes());
        let digest = ledger::Digest::of_bytes(self.name.as_bytes()).to_string();
        key[8..].copy_from_slice(&digest.as_bytes()[digest.len() - 24..]);
        let mut rng = ChaCha8Rng::from_seed(key);
        match self.init {
            Init::Constant(value) => vec![value; count],
            Init::Uniform(bound) => (0..count).map(|_| rng.random_range(-bound..=bound)).collect(),
            Init::Normal(deviation) => (0..count).map(|_| normal(&mut rng) * deviation).collect(),
        }
    }
}

/// A standard normal number (Box & Muller 1958).
fn normal(rng: &mut ChaCha8Rng) -> f32 {
    let (u, v): (f64, f64) = (1.0 - rng.random::<f64>(), rng.random());
    ((-2.0 * u.ln()).sqrt() * (std::f64::consts::TAU * v).cos()) as f32
}

/// Maximum size of a safetensors header; the header of a 24-layer encoder has about 50 kB.
const MAX_HEADER_BYTES: u64 = 16 << 20;
/// Maximum size of a file of weights.
const MAX_WEIGHT_BYTES: u64 = 16 << 30;

/// Reads a safetensors file. A header longer than the file or than 16 MiB is refused before anything is allocated.
///
/// # Errors
/// The file cannot be read, or is not a safetensors file.
pub fn read_safetensors(path: &Path) -> Result<Vec<u8>> {
    let name = path.display();
    let mut file = File::open(path).with_context(|| format!("reading {name}"))?;
    let size = file.metadata()?.len();
    let mut prefix = [0; 8];
    ensure!(size >= 8, "{name} has {size} bytes: it is not a safetensors file");
    file.read_exact(&mut prefix)?;
    let header = u64::from_le_bytes(prefix);
    ensure!(
        header <= MAX_HEADER_BYTES && header <= size - 8,
        "{name} states a header of {header} bytes, but has {size} bytes: it is truncated, or not a safetensors file"
    );
    ensure!(size <= MAX_WEIGHT_BYTES, "{name} has {size} bytes, more than the maximum of {MAX_WEIGHT_BYTES}");
    let mut bytes = Vec::with_capacity(size as usize);
    bytes.extend_from_slice(&prefix);
    file.read_to_end(&mut bytes).with_context(|| format!("reading {name}"))?;
    Ok(bytes)
}

/// Values of a tensor of type f32, f16 or bf16.
pub fn floats(name: &str, tensor: &TensorView<'_>) -> Result<Vec<f32>> {
    let data = tensor.data();
    let halves = || data.as_chunks::<2>().0.iter().map(|&b| u16::from_le_bytes(b));
    Ok(match tensor.dtype() {
        Dtype::F32 => data.as_chunks::<4>().0.iter().map(|&b| f32::from_le_bytes(b)).collect(),
        Dtype::F16 => halves().map(|bits| half::f16::from_bits(bits).to_f32()).collect(),
        Dtype::BF16 => halves().map(|bits| half::bf16::from_bits(bits).to_f32()).collect(),
        other => bail!("tensor {name} has type {other:?}: only f32, f16 and bf16 are supported"),
    })
}

impl Parameters {
    /// Initial parameters for these specs.
    pub fn initialise(specs: &[ParameterSpec], seed: u64) -> Self {
        let fresh =
            |spec: &ParameterSpec| (spec.name.clone(), Parameter { shape: spec.shape.clone(), role: spec.role, values: spec.values(seed) });
        Self(specs.iter().map(fresh).collect())
    }

    /// Number of values of all parameters.
    pub fn count(&self) -> usize {
        self.0.values().map(|parameter| parameter.values.len()).sum()
    }

    /// A parameter by name.
    ///
    /// # Panics
    /// There is none: an encoder and its specs differ.
    pub fn get(&self, name: &str) -> &Parameter {
        self.0.get(name).unwrap_or_else(|| panic!("an encoder reads the parameter {name}, which its specs do not list"))
    }

    /// Name of the first parameter with a value that is NaN or infinite.
    pub fn not_finite(&self) -> Option<&str> {
        self.0.iter().find(|(_, parameter)| parameter.values.iter().any(|value| !value.is_finite())).map(|(name, _)| name.as_str())
    }

    /// Writes all parameters as a safetensors file.
    pub fn save(&self, path: &Path) -> Result<()> {
        let bytes: Vec<(&String, &Vec<usize>, Vec<u8>)> = self
            .0
            .iter()
            .map(|(name, parameter)| (name, &parameter.shape, parameter.values.iter().flat_map(|value| value.to_le_bytes()).collect()))
            .collect();
        let views = bytes
            .iter()
            .map(|(name, shape, bytes)| Ok((name.as_str(), TensorView::new(Dtype::F32, (*shape).clone(), bytes)?)))
            .collect::<Result<Vec<_>>>()?;
        safetensors::serialize_to_file(views, None, path).with_context(|| format!("writing {}", path.display()))
    }

    /// Reads weights.
    ///
    /// # Errors
    /// The file does not contain exactly the tensors of `specs`.
    pub fn load(path: &Path, specs: &[ParameterSpec]) -> Result<Self> {
        let name = path.display();
        let bytes = read_safetensors(path)?;
        let file = SafeTensors::deserialize(&bytes).with_context(|| format!("{name} is not a safetensors file"))?;
        let found: BTreeSet<&str> = file.names().into_iter().collect();
        let expected: BTreeSet<&str> = specs.iter().map(|spec| spec.name.as_str()).collect();
        if let Some(missing) = expected.difference(&found).next() {
            bail!("{name} has no tensor {missing}: another encoder or context wrote it; set train.encoder and train.context as they were");
        }
        if let Some(unknown) = found.difference(&expected).next() {
            bail!(
                "{name} has a tensor {unknown}, which the configured encoder does not have; set train.encoder and train.context as they were"
            );
        }
        let mut parameters = BTreeMap::new();
        for spec in specs {
            let tensor = file.tensor(&spec.name)?;
            ensure!(
                tensor.shape() == spec.shape,
                "{name}: {} has shape {:?}, the configured encoder and vocabulary need {:?}",
                spec.name,
                tensor.shape(),
                spec.shape
            );
            let values = floats(&spec.name, &tensor).with_context(|| format!("reading {name}"))?;
            parameters.insert(spec.name.clone(), Parameter { shape: spec.shape.clone(), role: spec.role, values });
        }
        Ok(Self(parameters))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn specs() -> Vec<ParameterSpec> {
        let mut specs = Specs::default();
        specs.scoped("encoder.", |specs| {
            specs.add("tokens", &[7, 4], Role::Table, Init::Normal(1.0));
            specs.linear("out", 4, 3, glorot(4, 3));
            specs.norm("norm", 3);
        });
        specs.specs
    }

    #[test]
    fn weights_are_read_as_written_and_depend_on_seed_and_name() {
        let parameters = Parameters::initialise(&specs(), 3);
        assert_eq!(parameters, Parameters::initialise(&specs()[..].iter().rev().cloned().collect::<Vec<_>>(), 3));
        assert_ne!(parameters, Parameters::initialise(&specs(), 4));
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("model.safetensors");
        parameters.save(&path).unwrap();
        assert_eq!(Parameters::load(&path, &specs()).unwrap(), parameters);
    }

    #[test]
    fn normal_initial_values_have_the_given_deviation() {
        let spec = ParameterSpec { name: "x".into(), shape: vec![100, 100], role: Role::Matrix, init: Init::Normal(0.02) };
        let values = spec.values(1);
        let variance = values.iter().map(|value| f64::from(*value).powi(2)).sum::<f64>() / 1e4;
        assert!((variance.sqrt() - 0.02).abs() < 5e-4, "{variance}");
    }

    #[test]
    fn files_that_do_not_match_are_refused_with_the_reason() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("model.safetensors");
        let refusal = |bytes: &[u8], specs: &[ParameterSpec]| {
            std::fs::write(&path, bytes).unwrap();
            ledger::chain(&Parameters::load(&path, specs).unwrap_err()).replace(&*path.display().to_string(), "FILE")
        };
        let good = {
            Parameters::initialise(&specs(), 3).save(&path).unwrap();
            std::fs::read(&path).unwrap()
        };
        let mut other = specs();
        other[0].shape = vec![8, 4];
        let mut fewer = specs();
        fewer.pop();
        let mut more = specs();
        more.push(ParameterSpec { name: "encoder.more".into(), shape: vec![1], role: Role::Vector, init: Init::Constant(0.0) });
        let mut lying = good.clone();
        lying[..8].copy_from_slice(&u64::MAX.to_le_bytes());
        insta::assert_snapshot!(
            [
                refusal(b"", &specs()),
                refusal(b"not a safetensors file", &specs()),
                refusal(&good[..20], &specs()),
                refusal(&good[..good.len() - 4], &specs()),
                refusal(&lying, &specs()),
                refusal(&good, &other),
                refusal(&good, &fewer),
                refusal(&good, &more),
            ]
            .join("\n")
        );
    }
}
