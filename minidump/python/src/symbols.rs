//! The symbols of a kernel.

use livecore_minidump::VirtAddr;
use pyo3::exceptions::PyKeyError;
use pyo3::prelude::*;
use pyo3::types::{PyIterator, PyList};

use crate::handle::Handle;
use crate::opened::Opened;

/// The symbols of a kernel: a mapping from names to addresses in the dump.
#[pyclass(frozen, module = "livecore", mapping)]
pub(crate) struct Symbols(pub(crate) Handle);

impl Symbols {
    fn find(&self, py: Python<'_>, name: &str) -> PyResult<Option<u64>> {
        self.0.with(py, |opened| {
            let found = opened.pair()?.kernel().address(name);
            Ok(found.ok().map(|at| at.0))
        })
    }
}

/// The names of the symbols that have an address.
fn names(opened: &Opened) -> Result<Vec<String>, crate::failure::Failure> {
    let symbols = opened.pair()?.elf().symbols();
    let names = symbols.filter(|(_, symbol)| !symbol.absolute);
    Ok(names.map(|(name, _)| name.to_owned()).collect())
}

#[pymethods]
impl Symbols {
    /// The address of the symbol `name`. Raises KeyError if the kernel has no such symbol.
    fn __getitem__(&self, py: Python<'_>, name: &str) -> PyResult<u64> {
        let found = self.find(py, name)?;
        found.ok_or_else(|| PyKeyError::new_err(name.to_owned()))
    }

    fn __contains__(&self, py: Python<'_>, name: &str) -> PyResult<bool> {
        Ok(self.find(py, name)?.is_some())
    }

    fn __len__(&self, py: Python<'_>) -> PyResult<usize> {
        self.0.with(py, |opened| Ok(names(opened)?.len()))
    }

    fn __iter__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyIterator>> {
        let names = self.0.with(py, names)?;
        PyList::new(py, names)?.try_iter()
    }

    /// The address of the symbol `name`, or `default` if the kernel has no such symbol.
    #[pyo3(signature = (name, default=None))]
    fn get(&self, py: Python<'_>, name: &str, default: Option<Py<PyAny>>) -> PyResult<Py<PyAny>> {
        Ok(match self.find(py, name)? {
            Some(at) => at.into_pyobject(py)?.into_any().unbind(),
            None => default.unwrap_or_else(|| py.None()),
        })
    }

    /// The size of the symbol `name` in bytes. Raises KeyError if the kernel has no such symbol.
    fn size(&self, py: Python<'_>, name: &str) -> PyResult<u64> {
        let found = self.0.with(py, |opened| {
            Ok(opened.pair()?.elf().symbol(name).map(|symbol| symbol.size))
        })?;
        found.ok_or_else(|| PyKeyError::new_err(name.to_owned()))
    }

    /// The function that contains `address`, and the offset in it; None if there is none. Functions of
    /// modules are included.
    fn lookup(&self, py: Python<'_>, address: u64) -> PyResult<Option<(String, u64)>> {
        self.0.with(py, |opened| {
            Ok(opened.kernel()?.function(VirtAddr(address)))
        })
    }

    fn __repr__(&self, py: Python<'_>) -> PyResult<String> {
        Ok(format!("<livecore.Symbols: {}>", self.__len__(py)?))
    }
}
