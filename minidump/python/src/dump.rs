//! The class `Dump`.

use std::path::PathBuf;

use livecore_kernel::{Thread as KernelThread, debug_file};
use livecore_minidump::KernelMemory;
use livecore_minidump::facts::Facts;
use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyString};

use crate::compare::{Comparison, compared};
use crate::convert::{Request, Written, convert};
use crate::detached::{detached, interruptible};
use crate::failure::Failure;
use crate::finding::Report;
use crate::handle::Handle;
use crate::json;
use crate::module::Module;
use crate::opened::Opened;
use crate::pages::Pages;
use crate::process::{Process, Thread, warn};
use crate::stack::Frame;
use crate::symbols::Symbols;
use crate::verify::{Checks, verified};

/// A kernel dump. `livecore.open` returns it; `help(livecore)` explains it.
///
/// Several threads may use a dump at the same time. It is a context manager, which closes it.
/// After `close`, every method raises `ClosedError`; so do the objects that it returned where they
/// read it.
#[pyclass(frozen, module = "livecore", weakref)]
pub(crate) struct Dump {
    path: PathBuf,
    handle: Handle,
}

/// Opens the dump `path`: of any kind, container and codec.
///
/// `kernel` is the kernel file; by default, livecore searches for it near the dump, in /boot and in
/// /usr/lib/debug when it first needs it. `key` is the PEM file of the private key for an encrypted
/// dump. With `zero_tail`, livecore reads pages lost at the end of a short file as zeros. With
/// `force_kernel`, livecore uses `kernel` even if it does not match the dump.
#[pyfunction]
#[pyo3(signature = (path, kernel=None, key=None, *, zero_tail=false, force_kernel=false))]
pub(crate) fn open(
    py: Python<'_>,
    path: PathBuf,
    kernel: Option<PathBuf>,
    key: Option<PathBuf>,
    zero_tail: bool,
    force_kernel: bool,
) -> PyResult<Dump> {
    let options = (zero_tail, force_kernel);
    let opened = detached(py, || {
        Opened::open(path.clone(), kernel.as_deref(), key.as_deref(), options)
    })?;
    Ok(Dump {
        path,
        handle: Handle::new(opened),
    })
}

/// The most bytes that are allocated before any of them is read.
const AT_ONCE: usize = 16 << 20;

/// Reads `len` bytes at `at` with `read`. A length beyond what can be read allocates at most
/// [`AT_ONCE`] bytes more than that.
fn bytes<'py>(
    py: Python<'py>,
    handle: &Handle,
    at: u64,
    len: usize,
    read: fn(&Opened, u64, &mut [u8]) -> Result<(), Failure>,
) -> PyResult<Bound<'py, PyBytes>> {
    let opened = handle.opened()?;
    if len <= AT_ONCE {
        return PyBytes::new_with(py, len, |buf| detached(py, || read(&opened, at, buf)));
    }
    let found = detached(py, || {
        let mut found = Vec::new();
        while found.len() < len {
            let start = found.len();
            found.resize(len.min(start + AT_ONCE), 0);
            read(&opened, at.wrapping_add(start as u64), &mut found[start..])?;
        }
        Ok(found)
    })?;
    Ok(PyBytes::new(py, &found))
}

#[pymethods]
impl Dump {
    /// The path of the dump.
    #[getter]
    fn path(&self) -> PathBuf {
        self.path.clone()
    }

    /// Whether the dump was closed.
    #[getter]
    fn closed(&self) -> bool {
        self.handle.opened().is_err()
    }

    /// `"minidump"` or `"full"`.
    #[getter]
    fn kind(&self) -> PyResult<&'static str> {
        Ok(self.handle.opened()?.dump.kind())
    }

    /// The architecture: `"amd64"`, `"arm64"`, …
    #[getter]
    fn architecture(&self) -> PyResult<&'static str> {
        Ok(self.handle.opened()?.dump.arch().name)
    }

    /// The kernel's byte order: `"little"` or `"big"`.
    #[getter]
    fn byte_order(&self) -> PyResult<&'static str> {
        Ok(self.handle.opened()?.dump.order().name())
    }

    /// The size of a kernel pointer in bytes: 4 or 8.
    #[getter]
    fn pointer_size(&self) -> PyResult<usize> {
        Ok(self.handle.opened()?.dump.pointer_size())
    }

    /// The page size in bytes.
    #[getter]
    fn page_size(&self) -> PyResult<u64> {
        Ok(self.handle.opened()?.dump.memory().page_size())
    }

    /// The number of pages in the dump.
    #[getter]
    fn page_count(&self) -> PyResult<u64> {
        Ok(self.handle.opened()?.dump.page_count())
    }

    /// The path of the kernel file; None if none was found.
    #[getter]
    fn kernel(&self, py: Python<'_>) -> PyResult<Option<PathBuf>> {
        self.handle.with(py, |opened| {
            let pair = opened.pair_if_found();
            Ok(pair.map(|pair| pair.path().to_owned()))
        })
    }

    /// The first address of the kernel's image in memory, and the address after it.
    #[getter]
    fn kernel_range(&self, py: Python<'_>) -> PyResult<(u64, u64)> {
        self.handle.with(py, |opened| {
            let range = opened.pair()?.kernel().range();
            Ok((range.start.0, range.end.0))
        })
    }

    /// The path of the file with the kernel's debug information: the kernel, or the file that it names;
    /// None if there is none.
    #[getter]
    fn debug_file(&self, py: Python<'_>) -> PyResult<Option<PathBuf>> {
        self.handle.with(py, |opened| {
            let Some(pair) = opened.pair_if_found() else {
                return Ok(None);
            };
            let own = pair.elf().sections().iter();
            let own = own
                .map(|section| &*section.name)
                .any(|name| name == ".debug_info");
            Ok(match own {
                true => Some(pair.path().to_owned()),
                false => debug_file(pair.path()),
            })
        })
    }

    /// What is unusual about the dump, as texts. `verify` checks more.
    #[getter]
    fn warnings(&self) -> PyResult<Vec<String>> {
        let opened = self.handle.opened()?;
        let warnings = opened.dump.envelope().warnings().iter();
        Ok(warnings.map(ToString::to_string).collect())
    }

    /// Closes the dump. Calls that run in other threads complete.
    fn close(&self, py: Python<'_>) {
        self.handle.close(py);
    }

    fn __enter__(this: Bound<'_, Self>) -> PyResult<Bound<'_, Self>> {
        this.get().handle.opened()?;
        Ok(this)
    }

    fn __exit__(
        &self,
        py: Python<'_>,
        _kind: &Bound<'_, PyAny>,
        _value: &Bound<'_, PyAny>,
        _trace: &Bound<'_, PyAny>,
    ) {
        self.close(py);
    }

    fn __repr__(&self) -> String {
        let state = match self.handle.opened() {
            Ok(opened) => format!("{}, {}", opened.dump.arch().name, opened.dump.kind()),
            Err(_) => "closed".into(),
        };
        format!("<livecore.Dump {:?}: {state}>", self.path)
    }

    /// Reads `n` bytes of kernel memory at the virtual address `va`.
    fn read<'py>(&self, py: Python<'py>, va: u64, n: usize) -> PyResult<Bound<'py, PyBytes>> {
        bytes(py, &self.handle, va, n, Opened::read)
    }

    /// Reads `n` bytes at the physical address `pa`.
    fn read_phys<'py>(&self, py: Python<'py>, pa: u64, n: usize) -> PyResult<Bound<'py, PyBytes>> {
        bytes(py, &self.handle, pa, n, Opened::read_phys)
    }

    /// Translates the kernel's virtual address `va` to a physical address.
    fn translate(&self, py: Python<'_>, va: u64) -> PyResult<u64> {
        self.handle.with(py, |opened| opened.translate(va))
    }

    /// Iterates over the memory in the dump, in ascending physical order.
    ///
    /// Yields a `PageRun` for adjacent pages, of at most `size` bytes: its `address` and its `data`,
    /// which has the buffer protocol: `numpy.frombuffer(run.data, dtype="u8")` does not copy it.
    #[pyo3(signature = (size=1 << 20))]
    fn pages(&self, py: Python<'_>, size: u64) -> PyResult<Pages> {
        let page_size = self.page_size()?;
        let end = self
            .handle
            .with(py, |opened| Ok(opened.dump.memory().memory_end()))?;
        let most = size.max(page_size) / page_size * page_size;
        Ok(Pages::new(self.handle.clone(), most, end))
    }

    /// The processes in the order of the kernel's list: newest first, then zombies.
    fn processes(&self, py: Python<'_>) -> PyResult<Vec<Py<Process>>> {
        let (found, states) = self.handle.with(py, |opened| {
            let found = opened.processes()?;
            let states = opened.kernel()?.states(&found.list);
            Ok((found, states))
        })?;
        warn(py, &found.problems)?;
        let mut states = states.into_iter();
        let list = found.list.into_iter();
        list.map(|process| Process::new(py, &self.handle, process, &mut states))
            .collect()
    }

    /// The threads of all processes, in the same order.
    fn threads(&self, py: Python<'_>) -> PyResult<Vec<Py<Thread>>> {
        let processes = self.processes(py)?;
        let threads = processes.iter().flat_map(|process| &process.get().threads);
        Ok(threads.map(|thread| thread.clone_ref(py)).collect())
    }

    /// The backtrace of a thread, which is a `Thread` or a thread id: its frames, innermost first.
    ///
    /// It is empty if the thread's registers are unknown, because its CPU was not stopped.
    fn backtrace(&self, py: Python<'_>, thread: &Bound<'_, PyAny>) -> PyResult<Vec<Frame>> {
        if let Ok(thread) = thread.cast::<Thread>() {
            return self.frames(py, &thread.get().inner);
        }
        let Ok(tid) = thread.extract::<i32>() else {
            let what = thread.get_type().name()?;
            let text = format!("backtrace: found {what}, expected Thread or a thread id");
            return Err(PyTypeError::new_err(text));
        };
        let found = self.handle.with(py, |opened| {
            let found = opened.processes()?;
            let thread = found.threads().find(|thread| thread.tid == tid).cloned();
            thread.ok_or_else(|| Opened::no_thread(tid))
        })?;
        self.frames(py, &found)
    }

    /// The text of the message buffer, as dmesg(8) prints it; with `all`, with the console's and
    /// syslog's output. Bytes that are not UTF-8 are replaced.
    #[pyo3(signature = (all=false))]
    fn dmesg<'py>(&self, py: Python<'py>, all: bool) -> PyResult<Bound<'py, PyString>> {
        let text = self.handle.with(py, |opened| opened.dmesg(all))?;
        Ok(PyString::new(py, &String::from_utf8_lossy(&text)))
    }

    /// The loaded kernel files, in load order: the kernel first, then its modules.
    fn modules(&self, py: Python<'_>) -> PyResult<Vec<Module>> {
        let found = self
            .handle
            .with(py, |opened| Ok(opened.kernel()?.modules()?))?;
        warn(py, &found.problems)?;
        Ok(found.list.into_iter().map(Module).collect())
    }

    /// The kernel's symbols: a mapping from names to addresses.
    #[getter]
    fn symbols(&self, py: Python<'_>) -> PyResult<Symbols> {
        self.handle.with(py, |opened| opened.pair().map(drop))?;
        Ok(Symbols(self.handle.clone()))
    }

    /// The properties of the dump: a dict with what `livecore info --json` prints.
    ///
    /// A single compressed stream without an index is decoded to its end, as by `livecore info`.
    fn info<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let opened = self.handle.opened()?;
        let facts = interruptible(py, |progress| {
            let dump = &opened.dump;
            let of_dump = dump.envelope().warnings().iter();
            let mut warnings: Vec<(String, String)> = of_dump
                .map(|warning| (warning.id().into(), warning.to_string()))
                .collect();
            if dump.envelope().stream().kind() == livecore_compress::StreamKind::Foreign {
                dump.envelope().stream().finish(progress)?;
                let later = dump.warnings_at_end(true)?.into_iter();
                warnings.extend(later.map(|(id, text)| (id.into(), text)));
            }
            json::text(&Facts::of(dump, &opened.path, warnings))
        })?;
        let document = json::parsed(py, &facts)?;
        document.set_item("schema", livecore_verify::render::SCHEMA)?;
        Ok(document)
    }

    /// Checks the dump. See `livecore.verify`, which also checks files that cannot be opened.
    #[pyo3(signature = (*, depth="default", strict=false, only=None, skip=None))]
    fn verify(
        &self,
        py: Python<'_>,
        depth: &str,
        strict: bool,
        only: Option<Vec<String>>,
        skip: Option<Vec<String>>,
    ) -> PyResult<Report> {
        let checks = Checks::new(depth, strict, only, skip)?;
        let opened = self.handle.opened()?;
        let report = interruptible(py, |progress| {
            let elf = opened.pair_if_found().map(|pair| &**pair.elf());
            verified(&opened.path, elf, opened.key.clone(), &checks, progress)
        })?;
        Report::new(py, report)
    }

    /// Writes the dump to the file `out`, which must not exist unless `force` is given.
    ///
    /// `to` is the kind: "minidump", "full" or "elf"; by default that of the dump. `codec` is "none",
    /// "gzip" or "zstd"; by default the suffix of `out` selects it. `container` is "sealed", "saved" or
    /// "raw"; by default "sealed", but "saved" for an uncompressed ELF core. `notes` is the format of
    /// a core's notes: "freebsd" or "linux". The file gets its name when it is complete.
    #[pyo3(signature = (out, to=None, *, codec=None, level=None, container=None, notes="freebsd", force=false))]
    #[expect(clippy::too_many_arguments, reason = "arguments with names in Python")]
    fn convert(
        &self,
        py: Python<'_>,
        out: PathBuf,
        to: Option<&str>,
        codec: Option<&str>,
        level: Option<i32>,
        container: Option<&str>,
        notes: &str,
        force: bool,
    ) -> PyResult<Written> {
        let request = Request::new(out, to, (codec, level), container, notes, force)?;
        let opened = self.handle.opened()?;
        interruptible(py, |progress| convert(&opened, &request, progress))
    }

    /// Compares the memory of this dump with that of `other`, a `Dump` or a path. See
    /// `livecore.compare`.
    #[pyo3(signature = (other, *, strict=false, limit=16))]
    fn compare(
        &self,
        py: Python<'_>,
        other: &Bound<'_, PyAny>,
        strict: bool,
        limit: usize,
    ) -> PyResult<Comparison> {
        let opened = self.handle.opened()?;
        let other = match other.cast::<Self>() {
            Ok(other) => other.get().handle.opened()?.path.clone(),
            Err(_) => other.extract()?,
        };
        interruptible(py, |progress| {
            let elf = opened.pair_if_found().map(|pair| pair.elf().clone());
            let paths = [opened.path.clone(), other];
            compared(paths, elf, opened.key.clone(), strict, limit, progress)
        })
    }
}

impl Dump {
    fn frames(&self, py: Python<'_>, thread: &KernelThread) -> PyResult<Vec<Frame>> {
        let frames = self
            .handle
            .with(py, |opened| Ok(opened.kernel()?.backtrace(thread)?))?;
        Ok(frames.into_iter().map(Frame).collect())
    }
}
