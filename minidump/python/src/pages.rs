//! The memory of a dump, run by run.

use std::sync::{Mutex, PoisonError};

use livecore_minidump::{KernelMemory, PhysAddr};
use pyo3::prelude::*;
use pyo3::types::PyBytes;

use crate::handle::Handle;

/// Adjacent pages of a dump.
#[pyclass(frozen, module = "livecore", get_all)]
pub(crate) struct PageRun {
    /// The physical address of the first byte.
    address: u64,
    /// The contents of the pages.
    data: Py<PyBytes>,
}

#[pymethods]
impl PageRun {
    fn __repr__(&self, py: Python<'_>) -> PyResult<String> {
        let len = self.data.bind(py).as_bytes().len();
        Ok(format!(
            "<livecore.PageRun {:#x}, {len} bytes>",
            self.address
        ))
    }

    /// The number of bytes.
    fn __len__(&self, py: Python<'_>) -> usize {
        self.data.bind(py).as_bytes().len()
    }
}

/// An iterator over the memory of a dump; `Dump.pages` returns it.
///
/// If memory cannot be read (a damaged frame, a truncated file), `next` raises once, and continues
/// with the page after it.
#[pyclass(frozen, module = "livecore")]
pub(crate) struct Pages {
    handle: Handle,
    /// The most bytes of a run: a multiple of the page size.
    most: u64,
    end: PhysAddr,
    /// The next address; `None` at the end.
    next: Mutex<Option<PhysAddr>>,
}

/// What reading a run found: the address, the bytes, and the address after it.
struct Found {
    at: PhysAddr,
    data: Vec<u8>,
}

impl Pages {
    pub(crate) fn new(handle: Handle, most: u64, end: PhysAddr) -> Self {
        Self {
            handle,
            most,
            end,
            next: Mutex::new(Some(PhysAddr(0))),
        }
    }
}

#[pymethods]
impl Pages {
    fn __iter__(this: Py<Self>) -> Py<Self> {
        this
    }

    fn __next__(&self, py: Python<'_>) -> PyResult<Option<PageRun>> {
        let found = self.handle.with(py, |opened| {
            let memory = opened.dump.memory();
            let page = memory.page_size();
            // Two threads that share the iterator get different runs.
            let mut next = self.next.lock().unwrap_or_else(PoisonError::into_inner);
            while let Some(at) = next.filter(|at| *at < self.end) {
                let run = memory.run_at(at);
                let end = run.end.unwrap_or(self.end).min(self.end);
                if !run.present {
                    // A run that does not advance would repeat for ever.
                    *next = run.end.filter(|end| *end > at);
                    continue;
                }
                let len = end.0.saturating_sub(at.0).min(self.most);
                let mut data = vec![0; usize::try_from(len).unwrap_or(0)];
                let (got, result) = memory.read_phys_part(at, &mut data);
                if got > 0 {
                    data.truncate(got);
                    *next = at.checked_add(got as u64);
                    return Ok(Some(Found { at, data }));
                }
                *next = at.checked_add(page - at.offset_in(page));
                result?;
            }
            *next = None;
            Ok(None)
        })?;
        Ok(found.map(|found| PageRun {
            address: found.at.0,
            data: PyBytes::new(py, &found.data).unbind(),
        }))
    }
}
