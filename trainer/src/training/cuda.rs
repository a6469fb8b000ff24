//! Training on an NVIDIA GPU, with the cargo feature `cuda`. The build needs no toolkit: the driver and NVRTC are loaded when training
//! starts, and training fails if they are missing.

#[cfg(feature = "cuda")]
mod device {
    use burn::backend::{Autodiff, cuda::CudaDevice};
    use ledger::{bail, ensure};

    use crate::error::Result;

    /// The backend.
    pub type Cuda = Autodiff<burn::backend::Cuda>;

    /// Runs `work` on the first GPU.
    pub fn with_device<R>(work: impl FnOnce(CudaDevice) -> Result<R>) -> Result<R> {
        ensure!(
            std::path::Path::new("/proc/driver/nvidia/version").exists(),
            "train.device = cuda, but no NVIDIA driver is loaded: set train.device = cpu, or use a machine with a GPU"
        );
        // burn panics if it cannot open the device.
        let opened = std::panic::catch_unwind(|| {
            let device = CudaDevice::default();
            burn::tensor::Tensor::<burn::backend::Cuda, 1>::ones([1], &device).into_data();
            device
        });
        match opened {
            Ok(device) => work(device),
            Err(_) => bail!(
                "train.device = cuda, but the GPU or its libraries (libcuda, libnvrtc) cannot be used: see the message above, or set train.device = cpu"
            ),
        }
    }
}

#[cfg(not(feature = "cuda"))]
mod device {
    use ledger::bail;

    use crate::error::{Result, WITHOUT_CUDA};

    /// Replaces the backend in a build without CUDA.
    pub type Cuda = kernels::Cpu;

    /// Fails: there is no fallback to the CPU.
    pub fn with_device<R>(_work: impl FnOnce(kernels::CpuDevice) -> Result<R>) -> Result<R> {
        bail!("{WITHOUT_CUDA}")
    }
}

pub use device::{Cuda, with_device};
