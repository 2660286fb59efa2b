//! The symbols of a kernel for Volatility 3.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use livecore_kernel::isf::Isf;
use livecore_livedump::publish::{Destination, Options};
use livecore_minidump::KernelElf;
use pyo3::prelude::*;

use crate::detached::detached;
use crate::failure::{Class, Failure};

/// Writes the types and symbols of the kernel file `kernel` to `out`, for Volatility 3.
///
/// The types come from the DWARF of the kernel file or of its debug file, or else from the CTF of the kernel
/// file. With `force`, replaces an existing file.
#[pyfunction]
#[pyo3(signature = (kernel, out, *, force=false))]
pub(crate) fn isf(py: Python<'_>, kernel: PathBuf, out: PathBuf, force: bool) -> PyResult<()> {
    detached(py, || write(&kernel, &out, force))
}

fn write(kernel: &Path, out: &Path, force: bool) -> Result<(), Failure> {
    let destination = Destination::parse(out);
    if !matches!(destination, Destination::File(_)) {
        let text = format!("{}: not the name of a file", out.display());
        return Err(Failure::new(Class::Error, text));
    }
    let mut pending = destination.begin(&Options::default().force(force))?;
    let about = |failure: Failure| failure.about(kernel);
    let file = File::open(kernel).map_err(|error| about(error.into()))?;
    let elf = KernelElf::parse(Arc::new(file)).map_err(|error| about(error.into()))?;
    let isf = Isf::of_file(&elf, kernel).map_err(|error| about(error.into()))?;
    let mut to = BufWriter::new(&mut pending);
    let written = isf.write(&mut to).and_then(|()| to.flush());
    drop(to);
    written.map_err(|error| Failure::from(error).about(out))?;
    pending.publish(&|_| Vec::new())?;
    Ok(())
}
