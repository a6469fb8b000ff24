//! Training on an NVIDIA GPU: behind the cargo feature `cuda`, which needs no toolkit to build. The driver and NVRTC
//! are loaded when training starts; where they are missing, it fails and says so.

#[cfg(feature = "cuda")]
mod device {
    use anyhow::{Result, bail, ensure};
    use burn::backend::{Autodiff, cuda::CudaDevice};

    /// The backend.
    pub type Cuda = Autodiff<burn::backend::Cuda>;

    /// Runs `work` on the first GPU.
    pub fn with_device<R>(work: impl FnOnce(CudaDevice) -> Result<R>) -> Result<R> {
        ensure!(
            std::path::Path::new("/proc/driver/nvidia/version").exists(),
            "train.device is cuda, but no NVIDIA driver is loaded: set train.device = cpu, or run where a GPU is"
        );
        // burn opens the device by panicking where it cannot.
        let opened = std::panic::catch_unwind(|| {
            let device = CudaDevice::default();
            burn::tensor::Tensor::<burn::backend::Cuda, 1>::ones([1], &device).into_data();
            device
        });
        match opened {
            Ok(device) => work(device),
            Err(_) => bail!("train.device is cuda, but the GPU or its libraries (libcuda, libnvrtc) cannot be used: see the message above"),
        }
    }
}

#[cfg(not(feature = "cuda"))]
mod device {
    use anyhow::{Result, bail};

    /// Stands in where the tool is built without a GPU backend.
    pub type Cuda = crate::ops::fused::Cpu;

    /// Refuses: nothing falls back to the CPU.
    pub fn with_device<R>(_work: impl FnOnce(burn_flex::FlexDevice) -> Result<R>) -> Result<R> {
        bail!("train.device is cuda, but this trainer was built without it: cargo build --release --features trainer/cuda")
    }
}

pub use device::{Cuda, with_device};
