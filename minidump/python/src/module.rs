//! Loaded kernel files.

use livecore_kernel::Module as KernelModule;
use pyo3::prelude::*;

/// A loaded kernel file: the kernel or a module.
#[pyclass(frozen, module = "livecore")]
pub(crate) struct Module(pub(crate) KernelModule);

#[pymethods]
impl Module {
    /// The address of its `struct linker_file`.
    #[getter]
    fn linker_file(&self) -> u64 {
        self.0.at.0
    }

    /// Its file name: `zfs.ko`.
    #[getter]
    fn name(&self) -> &str {
        &self.0.name
    }

    /// Its path: `/boot/kernel/zfs.ko`.
    #[getter]
    fn path(&self) -> &str {
        &self.0.path
    }

    /// Its id, as kldstat(8) shows it.
    #[getter]
    fn id(&self) -> u32 {
        self.0.id
    }

    /// The address of its image.
    #[getter]
    fn address(&self) -> u64 {
        self.0.address.0
    }

    /// The size of its image in bytes.
    #[getter]
    fn size(&self) -> u64 {
        self.0.size
    }

    /// Whether it is the kernel.
    #[getter]
    fn is_kernel(&self) -> bool {
        self.0.is_kernel
    }

    fn __repr__(&self) -> String {
        format!(
            "<livecore.Module {} at {:#x}>",
            self.0.name, self.0.address.0
        )
    }
}
