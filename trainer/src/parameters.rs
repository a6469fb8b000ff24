//! Named parameters, in host memory: what a checkpoint holds, what a step updates, what an export writes.
//!
//! They live outside the autodiff graph. A step copies what it needs onto the device ([`crate::tape::Bound`]): of an
//! embedding table only the rows that its batch names, so that gradient and update cost what the batch costs and not
//! what the vocabulary costs.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::File,
    io::Read,
    path::Path,
};

use anyhow::{Context, Result, bail, ensure};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use safetensors::{Dtype, SafeTensors, tensor::TensorView};

/// What a parameter is for; decides weight decay and how it is updated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// `[rows, width]`, looked up by token id: only rows that were seen are updated, and they decay.
    Table,
    /// `[in, out]`: decays.
    Matrix,
    /// Biases, norms, scales: never decay.
    Vector,
}

/// Where a parameter starts.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Init {
    Constant(f32),
    /// Standard deviation.
    Normal(f32),
    /// Between ± this.
    Uniform(f32),
}

/// One parameter an encoder asks for.
#[derive(Debug, Clone, PartialEq)]
pub struct Spec {
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

/// All parameters by name, in the order of their names.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Parameters(pub BTreeMap<String, Parameter>);

/// A collector of [`Spec`]s under a scope of names: `code.python.` + `layer.0.qkv.weight`.
#[derive(Debug, Default)]
pub struct Specs {
    scope: String,
    pub specs: Vec<Spec>,
}

impl Specs {
    /// Runs `fill` with names below `scope`.
    pub fn scoped(&mut self, scope: &str, fill: impl FnOnce(&mut Self)) {
        let outer = std::mem::replace(&mut self.scope, scope.to_owned());
        fill(self);
        self.scope = outer;
    }

    pub fn add(&mut self, name: &str, shape: &[usize], role: Role, init: Init) {
        self.specs.push(Spec { name: format!("{}{name}", self.scope), shape: shape.to_vec(), role, init });
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

/// Glorot's bound `√(6 / (in + out))` (Glorot & Bengio 2010, eq. 16).
pub fn glorot(inputs: usize, outputs: usize) -> Init {
    Init::Uniform((6.0 / (inputs + outputs) as f32).sqrt())
}

impl Spec {
    /// Values by a generator of the seed and the name: another parameter beside it changes nothing.
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

/// Largest safetensors header that is read; that of a 24-layer encoder has about 50 kB.
const MAX_HEADER_BYTES: u64 = 16 << 20;
/// Largest file of weights that is read.
const MAX_WEIGHT_BYTES: u64 = 16 << 30;

/// Reads a safetensors file after looking at its first eight bytes: a header longer than the file or than 16 MiB is
/// refused before anything is allocated.
pub fn read_safetensors(path: &Path) -> Result<Vec<u8>> {
    let name = path.display();
    let mut file = File::open(path).with_context(|| format!("reading {name}"))?;
    let size = file.metadata()?.len();
    let mut prefix = [0; 8];
    ensure!(size >= 8, "{name} has {size} bytes: not a safetensors file");
    file.read_exact(&mut prefix)?;
    let header = u64::from_le_bytes(prefix);
    ensure!(
        header <= MAX_HEADER_BYTES && header <= size - 8,
        "{name} says its header has {header} bytes, of {size} in the file: truncated, or not a safetensors file"
    );
    ensure!(size <= MAX_WEIGHT_BYTES, "{name} has {size} bytes, more than the {MAX_WEIGHT_BYTES} that are read");
    let mut bytes = Vec::with_capacity(size as usize);
    bytes.extend_from_slice(&prefix);
    file.read_to_end(&mut bytes).with_context(|| format!("reading {name}"))?;
    Ok(bytes)
}

/// Numbers of an f32, f16 or bf16 tensor.
pub fn floats(name: &str, tensor: &TensorView<'_>) -> Result<Vec<f32>> {
    let data = tensor.data();
    let halves = || data.as_chunks::<2>().0.iter().map(|&b| u16::from_le_bytes(b));
    Ok(match tensor.dtype() {
        Dtype::F32 => data.as_chunks::<4>().0.iter().map(|&b| f32::from_le_bytes(b)).collect(),
        Dtype::F16 => halves().map(|bits| half::f16::from_bits(bits).to_f32()).collect(),
        Dtype::BF16 => halves().map(|bits| half::bf16::from_bits(bits).to_f32()).collect(),
        other => bail!("{name} is {other:?}: only f32, f16 and bf16 weights can be read"),
    })
}

impl Parameters {
    /// Fresh parameters for these specs.
    pub fn initialise(specs: &[Spec], seed: u64) -> Self {
        let fresh = |spec: &Spec| (spec.name.clone(), Parameter { shape: spec.shape.clone(), role: spec.role, values: spec.values(seed) });
        Self(specs.iter().map(fresh).collect())
    }

    /// How many numbers.
    pub fn count(&self) -> usize {
        self.0.values().map(|parameter| parameter.values.len()).sum()
    }

    pub fn get(&self, name: &str) -> &Parameter {
        self.0.get(name).unwrap_or_else(|| panic!("an encoder asked for {name}, which is not among its specs"))
    }

    /// The first parameter that holds a NaN or an infinity.
    pub fn not_finite(&self) -> Option<&str> {
        self.0.iter().find(|(_, parameter)| parameter.values.iter().any(|value| !value.is_finite())).map(|(name, _)| name.as_str())
    }

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

    /// Reads weights that must be exactly what `specs` ask for.
    pub fn load(path: &Path, specs: &[Spec]) -> Result<Self> {
        let name = path.display();
        let bytes = read_safetensors(path)?;
        let file = SafeTensors::deserialize(&bytes).with_context(|| format!("{name} is not a safetensors file"))?;
        let found: BTreeSet<&str> = file.names().into_iter().collect();
        let wanted: BTreeSet<&str> = specs.iter().map(|spec| spec.name.as_str()).collect();
        if let Some(missing) = wanted.difference(&found).next() {
            bail!("{name} has no tensor {missing}: it was written by another encoder or context than the configuration's");
        }
        if let Some(unknown) = found.difference(&wanted).next() {
            bail!("{name} has a tensor {unknown} that the configured encoder does not know");
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

    fn specs() -> Vec<Spec> {
        let mut specs = Specs::default();
        specs.scoped("encoder.", |specs| {
            specs.add("tokens", &[7, 4], Role::Table, Init::Normal(1.0));
            specs.linear("out", 4, 3, glorot(4, 3));
            specs.norm("norm", 3);
        });
        specs.specs
    }

    #[test]
    fn weights_survive_the_file_and_start_by_seed_and_name() {
        let parameters = Parameters::initialise(&specs(), 3);
        assert_eq!(parameters, Parameters::initialise(&specs()[..].iter().rev().cloned().collect::<Vec<_>>(), 3));
        assert_ne!(parameters, Parameters::initialise(&specs(), 4));
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("model.safetensors");
        parameters.save(&path).unwrap();
        assert_eq!(Parameters::load(&path, &specs()).unwrap(), parameters);
    }

    #[test]
    fn a_normal_start_has_the_asked_for_spread() {
        let spec = Spec { name: "x".into(), shape: vec![100, 100], role: Role::Matrix, init: Init::Normal(0.02) };
        let values = spec.values(1);
        let variance = values.iter().map(|value| f64::from(*value).powi(2)).sum::<f64>() / 1e4;
        assert!((variance.sqrt() - 0.02).abs() < 5e-4, "{variance}");
    }

    #[test]
    fn files_that_do_not_fit_are_refused_with_the_reason() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("model.safetensors");
        let refusal = |bytes: &[u8], specs: &[Spec]| {
            std::fs::write(&path, bytes).unwrap();
            format!("{:#}", Parameters::load(&path, specs).unwrap_err()).replace(&*path.display().to_string(), "FILE")
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
        more.push(Spec { name: "encoder.more".into(), shape: vec![1], role: Role::Vector, init: Init::Constant(0.0) });
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
