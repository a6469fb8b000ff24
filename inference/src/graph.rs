//! One ONNX graph: opened once, called with padded rows of token ids.

use std::path::Path;

use ledger::GraphForm;
use ort::{
    ep,
    memory::{AllocationDevice, AllocatorType, MemoryInfo, MemoryType},
    session::{Session, SessionInputValue},
    value::Tensor,
};

use crate::{Error, Provider, Result, error::Context, runtime::environment};

/// How a graph is opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct GraphOptions {
    /// Where the graph runs.
    pub provider: Provider,
    /// Threads of one call; none: as many as ONNX Runtime chooses (all cores).
    pub threads: Option<usize>,
}

/// Rows of token ids, padded to one width.
///
/// ```
/// let rows = inference::PaddedRows::new(&[&[5, 6, 7][..], &[8]], 0);
/// assert_eq!((rows.rows(), rows.width()), (2, 3));
/// assert_eq!(rows.ids(), [5, 6, 7, 8, 0, 0]);
/// assert_eq!(rows.mask(), [1, 1, 1, 1, 0, 0]);
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PaddedRows {
    /// `[rows, width]`.
    ids: Vec<i64>,
    /// `[rows, width]`: 1 for a token, 0 for padding.
    mask: Vec<i64>,
    rows: usize,
    width: usize,
}

impl PaddedRows {
    /// Pads rows with the id `pad` to the longest row, at least to one id.
    pub fn new<R: AsRef<[u32]>>(rows: &[R], pad: u32) -> Self {
        Self::with_width(rows, pad, 1)
    }

    /// Pads rows with the id `pad` to `width` ids, or to the longest row where that is longer.
    pub fn with_width<R: AsRef<[u32]>>(rows: &[R], pad: u32, width: usize) -> Self {
        let width = rows.iter().map(|row| row.as_ref().len()).max().unwrap_or_default().max(width);
        let mut ids = vec![i64::from(pad); rows.len() * width];
        let mut mask = vec![0i64; rows.len() * width];
        for (index, row) in rows.iter().enumerate() {
            for (column, &id) in row.as_ref().iter().enumerate() {
                ids[index * width + column] = i64::from(id);
                mask[index * width + column] = 1;
            }
        }
        Self { ids, mask, rows: rows.len(), width }
    }

    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Ids of a row, padding included.
    pub fn width(&self) -> usize {
        self.width
    }

    /// Token ids, `[rows, width]` flat.
    pub fn ids(&self) -> &[i64] {
        &self.ids
    }

    /// Attention mask, `[rows, width]` flat: 1 for a token, 0 for padding.
    pub fn mask(&self) -> &[i64] {
        &self.mask
    }
}

/// An open graph. A call uses the session alone: parallel callers need one graph each.
pub struct Graph {
    session: Session,
    /// Memory that outputs are written to where calls go through a binding: only a binding waits for a device's own copies.
    output_memory: Option<MemoryInfo<'static>>,
}

impl std::fmt::Debug for Graph {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Graph").field("is_bound", &self.output_memory.is_some()).finish_non_exhaustive()
    }
}

impl Graph {
    /// Opens an `.onnx` file.
    ///
    /// # Errors
    /// [`Error::NotLoaded`], [`Error::ProviderMissing`], and a context with the file's path where ONNX Runtime refuses the file.
    pub fn open(path: &Path, options: GraphOptions) -> Result<Self> {
        let mut builder = Session::builder(environment()?).map_err(Error::runtime)?;
        check_operators(path)?;
        if let Some(threads) = options.threads {
            builder = builder.with_intra_threads(threads).map_err(Error::runtime)?;
        }
        let provider = match options.provider {
            Provider::Cpu => None,
            Provider::Cuda => Some(ep::CUDA::default().build()),
            Provider::Tensorrt => Some(ep::TensorRT::default().build()),
        };
        if let Some(provider) = provider {
            builder = builder
                .with_execution_providers([provider.error_on_failure()])
                .map_err(|error| Error::ProviderMissing { provider: options.provider, message: error.to_string() })?;
        }
        let session = builder.commit_from_file(path).map_err(Error::runtime).with_context(|| format!("loading {}", path.display()))?;
        Ok(Self { session, output_memory: device_output_memory(options.provider)? })
    }

    /// Makes calls write their output through a binding on the CPU too, as on a device. For measurements.
    pub fn bind_outputs(&mut self) -> Result<()> {
        let memory = MemoryInfo::new(AllocationDevice::CPU, 0, AllocatorType::Device, MemoryType::Default).map_err(Error::runtime)?;
        self.output_memory.get_or_insert(memory);
        Ok(())
    }

    /// Runs the graph on rows and pools its output where `form` says so: vectors, `[rows, dimension]` flat.
    ///
    /// The graph takes `input_ids`, `attention_mask` and, where `form.token_types`, `token_type_ids` (zeros), each i64
    /// `[rows, width]`. Its output `form.output` is f32 `[rows, dimension]`, or `[rows, width, dimension]` with `form.pooling`.
    ///
    /// # Errors
    /// [`Error::NoOutput`], an error of ONNX Runtime, and an output of another size.
    pub fn encode(&mut self, rows: &PaddedRows, form: &GraphForm, dimension: usize) -> Result<Vec<f32>> {
        let shape = [rows.rows, rows.width];
        let tensor = |values: Vec<i64>| Tensor::from_array((shape, values)).map_err(Error::runtime);
        let mut inputs: Vec<(&str, Tensor<i64>)> =
            vec![("input_ids", tensor(rows.ids.clone())?), ("attention_mask", tensor(rows.mask.clone())?)];
        if form.token_types {
            inputs.push(("token_type_ids", tensor(vec![0; rows.mask.len()])?));
        }
        let name = form.output.as_str();
        let missing = || Error::NoOutput { output: name.to_owned() };
        if !self.session.outputs().iter().any(|output| output.name() == name) {
            return Err(missing());
        }
        let mut binding = None;
        let outputs = match &self.output_memory {
            None => {
                let inputs: Vec<(&str, SessionInputValue)> = inputs.into_iter().map(|(name, tensor)| (name, tensor.into())).collect();
                self.session.run(inputs).map_err(Error::runtime)?
            }
            Some(memory) => {
                let binding = binding.insert(self.session.create_binding().map_err(Error::runtime)?);
                for (name, tensor) in &inputs {
                    binding.bind_input(*name, tensor).map_err(Error::runtime)?;
                }
                binding.bind_output_to_device(name, memory).map_err(Error::runtime)?;
                self.session.run_binding(binding).map_err(Error::runtime)?
            }
        };
        let output = outputs.get(name).ok_or_else(missing)?;
        let (_, values) = output.try_extract_tensor::<f32>().map_err(Error::runtime)?;
        let vectors = form.vectors(values, &rows.mask, rows.width, dimension)?;
        match vectors.iter().position(|value| !value.is_finite()) {
            Some(index) => Err(Error::NotANumber { row: index / dimension.max(1) }),
            None => Ok(vectors),
        }
    }
}

/// Refuses a graph with operators that repeat a part of it: nothing bounds how often.
fn check_operators(path: &Path) -> Result<()> {
    let bytes = std::fs::read(path).with_context(|| format!("reading {}", path.display()))?;
    // Field 4 (`op_type`) of a node in ONNX's protocol buffers: its tag, the length, the name.
    let operators: [(&str, &[u8]); 2] = [("Loop", b"\x22\x04Loop"), ("Scan", b"\x22\x04Scan")];
    match operators.into_iter().find(|(_, field)| bytes.windows(field.len()).any(|window| window == *field)) {
        Some((operator, _)) => Err(Error::Unbounded { graph: path.to_owned(), operator }),
        None => Ok(()),
    }
}

/// Does a graph quantise its inputs by the value range of the whole call (`DynamicQuantizeLinear`, in int8 graphs)?
pub(crate) fn is_dynamically_quantised(path: &Path) -> Result<bool> {
    const OPERATOR: &[u8] = b"DynamicQuantize";
    let bytes = std::fs::read(path).with_context(|| format!("reading {}", path.display()))?;
    Ok(bytes.windows(OPERATOR.len()).any(|window| window == OPERATOR))
}

/// Host memory that a provider's device copies to directly; none on the CPU.
fn device_output_memory(provider: Provider) -> Result<Option<MemoryInfo<'static>>> {
    match provider {
        Provider::Cpu => Ok(None),
        Provider::Cuda | Provider::Tensorrt => {
            MemoryInfo::new(AllocationDevice::CUDA_PINNED, 0, AllocatorType::Device, MemoryType::CPUOutput)
                .map(Some)
                .map_err(Error::runtime)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_padded_to_the_width_given_or_the_longest_row() {
        let rows = PaddedRows::with_width(&[vec![1u32], vec![2, 3]], 9, 4);
        assert_eq!(rows.ids(), [1, 9, 9, 9, 2, 3, 9, 9]);
        assert_eq!(rows.mask(), [1, 0, 0, 0, 1, 1, 0, 0]);
        assert_eq!(PaddedRows::with_width(&[vec![1u32, 2, 3]], 9, 2).width(), 3);
    }

    #[test]
    fn a_graph_with_a_loop_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("encoder.onnx");
        std::fs::write(&path, b"\x0a\x03abc\x22\x04Loop").unwrap();
        assert!(matches!(check_operators(&path), Err(Error::Unbounded { operator: "Loop", .. })));
        // A name of a node, not its operator.
        std::fs::write(&path, b"\x1a\x04Loop\x22\x04Gemm").unwrap();
        check_operators(&path).unwrap();
    }

    #[test]
    fn an_empty_row_has_one_padding_id() {
        let rows = PaddedRows::new(&[Vec::<u32>::new()], 7);
        assert_eq!((rows.width(), rows.ids(), rows.mask()), (1, &[7][..], &[0][..]));
    }
}
