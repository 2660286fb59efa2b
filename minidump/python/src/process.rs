//! Processes and threads.

use livecore_kernel::{Process as KernelProcess, State, Thread as KernelThread};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};

use crate::handle::Handle;
use crate::stack::{Frame, registers};

/// Warns of problems, as `livecore.DumpWarning`.
pub(crate) fn warn(py: Python<'_>, problems: &[String]) -> PyResult<()> {
    if problems.is_empty() {
        return Ok(());
    }
    let class = py.import("livecore._errors")?.getattr("DumpWarning")?;
    let warn = py.import("warnings")?.getattr("warn")?;
    for problem in problems {
        warn.call1((problem, &class))?;
    }
    Ok(())
}

/// A process.
#[pyclass(frozen, module = "livecore")]
pub(crate) struct Process {
    inner: KernelProcess,
    pub(crate) threads: Vec<Py<Thread>>,
}

impl Process {
    /// `states` are the states of its threads, and of others after them.
    pub(crate) fn new(
        py: Python<'_>,
        handle: &Handle,
        mut inner: KernelProcess,
        states: &mut impl Iterator<Item = State>,
    ) -> PyResult<Py<Self>> {
        let threads = std::mem::take(&mut inner.threads).into_iter();
        let threads = threads.map(|inner| {
            let thread = Thread {
                handle: handle.clone(),
                state: states.next().unwrap_or(inner.state),
                inner,
            };
            Py::new(py, thread)
        });
        let threads = threads.collect::<PyResult<_>>()?;
        Py::new(py, Self { inner, threads })
    }
}

#[pymethods]
impl Process {
    /// The address of its `struct proc`.
    #[getter]
    fn address(&self) -> u64 {
        self.inner.at.0
    }

    /// The process id.
    #[getter]
    fn pid(&self) -> i32 {
        self.inner.pid
    }

    /// The process id of the parent; None if the kernel has no type information.
    #[getter]
    fn ppid(&self) -> Option<i32> {
        self.inner.ppid
    }

    /// The command (`p_comm`).
    #[getter]
    fn command(&self) -> &str {
        &self.inner.comm
    }

    /// Whether it is a zombie.
    #[getter]
    fn zombie(&self) -> bool {
        self.inner.zombie
    }

    /// Its threads: a tuple of `Thread`.
    #[getter]
    fn threads<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        PyTuple::new(py, &self.threads)
    }

    fn __repr__(&self) -> String {
        format!("<livecore.Process {}: {}>", self.inner.pid, self.inner.comm)
    }
}

/// A thread.
#[pyclass(frozen, module = "livecore")]
pub(crate) struct Thread {
    handle: Handle,
    pub(crate) inner: KernelThread,
    state: State,
}

#[pymethods]
impl Thread {
    /// The address of its `struct thread`.
    #[getter]
    fn address(&self) -> u64 {
        self.inner.at.0
    }

    /// The address of the `struct proc` of its process.
    #[getter]
    fn process(&self) -> u64 {
        self.inner.process.0
    }

    /// The id of its process.
    #[getter]
    fn pid(&self) -> i32 {
        self.inner.pid
    }

    /// The command of its process.
    #[getter]
    fn command(&self) -> &str {
        &self.inner.comm
    }

    /// The thread id.
    #[getter]
    fn tid(&self) -> i32 {
        self.inner.tid
    }

    /// Its name (`td_name`), possibly empty.
    #[getter]
    fn name(&self) -> &str {
        &self.inner.name
    }

    /// Process, name and CPU, as LLDB shows them: `(pid 1) init (on CPU 0)`.
    #[getter]
    fn title(&self) -> String {
        self.inner.title()
    }

    /// Its state: `running`, `sleeping`, `runnable`, `locked`, …
    #[getter]
    fn state(&self) -> &'static str {
        self.state.name()
    }

    /// The CPU that it was on; None if it was on none.
    #[getter]
    fn cpu(&self) -> Option<u32> {
        self.inner.cpu
    }

    /// Its wait message, or the lock that it waits for; None if the kernel has no type information.
    #[getter]
    fn wait(&self) -> Option<&str> {
        self.inner.wait.as_deref()
    }

    /// What determines its registers: `crashed`, `stopped`, `on-cpu` or `switched-out`.
    #[getter]
    fn context(&self) -> &'static str {
        self.inner.context.name()
    }

    /// The address of the `struct pcb` with its registers; None if they are unknown.
    #[getter]
    fn pcb(&self) -> Option<u64> {
        self.inner.pcb.map(|at| at.0)
    }

    /// Its registers: a dict from names to values. A register that was not saved is None.
    #[getter]
    fn registers<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let found = self
            .handle
            .with(py, |opened| Ok(opened.kernel()?.registers(&self.inner)?))?;
        registers(py, &found)
    }

    /// Its backtrace, as `Dump.backtrace` returns it.
    fn backtrace(&self, py: Python<'_>) -> PyResult<Vec<Frame>> {
        let frames = self
            .handle
            .with(py, |opened| Ok(opened.kernel()?.backtrace(&self.inner)?))?;
        Ok(frames.into_iter().map(Frame).collect())
    }

    fn __repr__(&self) -> String {
        format!(
            "<livecore.Thread {}: {}>",
            self.inner.tid,
            self.inner.title()
        )
    }
}
