//! Execution providers.

use std::{fmt, str::FromStr};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Where a graph runs. A provider that is missing is an error; nothing falls back to the CPU.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Provider {
    /// The CPU.
    #[default]
    Cpu,
    /// An NVIDIA GPU with CUDA.
    Cuda,
    /// An NVIDIA GPU with TensorRT.
    Tensorrt,
}

/// A name that no provider has.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown provider {0:?}: expected cpu, cuda or tensorrt")]
pub struct UnknownProvider(pub String);

impl Provider {
    /// All providers.
    pub const ALL: [Provider; 3] = [Self::Cpu, Self::Cuda, Self::Tensorrt];

    /// Name in configurations and options: `cpu`, `cuda`, `tensorrt`.
    pub fn key(self) -> &'static str {
        match self {
            Self::Cpu => "cpu",
            Self::Cuda => "cuda",
            Self::Tensorrt => "tensorrt",
        }
    }

    /// Name in ONNX Runtime, such as `CPUExecutionProvider`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Cpu => "CPUExecutionProvider",
            Self::Cuda => "CUDAExecutionProvider",
            Self::Tensorrt => "TensorrtExecutionProvider",
        }
    }
}

impl FromStr for Provider {
    type Err = UnknownProvider;

    /// Reads a [`Provider::key`].
    fn from_str(text: &str) -> Result<Self, UnknownProvider> {
        Self::ALL.into_iter().find(|provider| provider.key() == text).ok_or_else(|| UnknownProvider(text.to_owned()))
    }
}

impl fmt::Display for Provider {
    /// Writes the [`Provider::name`].
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn serde_and_from_str_use_the_same_names() {
        for provider in Provider::ALL {
            assert_eq!(serde_json::to_value(provider).unwrap(), provider.key());
            assert_eq!(provider.key().parse::<Provider>().unwrap(), provider);
        }
    }

    #[test]
    fn an_unknown_provider_is_an_error_that_lists_the_known_ones() {
        assert!("gpu".parse::<Provider>().unwrap_err().to_string().contains("cpu, cuda or tensorrt"));
    }
}
