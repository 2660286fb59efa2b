//! Frames, traps and registers.

use livecore_defs::trapframe::Cause;
use livecore_kernel::{Frame as KernelFrame, Registers, Trap as KernelTrap};
use pyo3::prelude::*;
use pyo3::types::PyDict;

/// A dict of registers. A register without a value is None.
pub(crate) fn registers<'py>(
    py: Python<'py>,
    registers: &Registers,
) -> PyResult<Bound<'py, PyDict>> {
    let dict = PyDict::new(py);
    for (register, value) in registers.iter() {
        dict.set_item(register.name, value)?;
    }
    Ok(dict)
}

/// A frame of a backtrace. `str(frame)` is its line in `livecore threads`.
#[pyclass(frozen, module = "livecore")]
pub(crate) struct Frame(pub(crate) KernelFrame);

#[pymethods]
impl Frame {
    /// The program counter of the innermost frame, the return address of the others.
    #[getter]
    fn pc(&self) -> u64 {
        self.0.pc.0
    }

    /// The frame pointer.
    #[getter]
    fn fp(&self) -> u64 {
        self.0.fp.0
    }

    /// The function that contains `pc`; None if it is unknown.
    #[getter]
    fn function(&self) -> Option<&str> {
        self.0.function.as_ref().map(|(name, _)| &**name)
    }

    /// The offset of `pc` in the function; None if it is unknown.
    #[getter]
    fn offset(&self) -> Option<u64> {
        self.0.function.as_ref().map(|(_, offset)| *offset)
    }

    /// The trap that interrupted the next frame; None if this frame is no trap entry.
    #[getter]
    fn trap(&self) -> Option<Trap> {
        self.0.trap.clone().map(Trap)
    }

    /// Why the backtrace ends here; None at the start of a thread and at its entry from user mode.
    #[getter]
    fn ends(&self) -> Option<String> {
        self.0.ends.as_ref().map(ToString::to_string)
    }

    /// The number of frames that are omitted before this one, in a long backtrace.
    #[getter]
    fn omitted(&self) -> usize {
        self.0.omitted
    }

    fn __str__(&self) -> String {
        self.0.to_string()
    }

    fn __repr__(&self) -> String {
        format!("<livecore.Frame {}>", self.0)
    }
}

/// A trap, an interrupt or a system call between two frames. `str(trap)` is the line that ddb prints.
#[pyclass(frozen, module = "livecore")]
pub(crate) struct Trap(KernelTrap);

#[pymethods]
impl Trap {
    /// The address of the `struct trapframe`.
    #[getter]
    fn address(&self) -> u64 {
        self.0.at.0
    }

    /// `"trap"`, `"interrupt"` or `"syscall"`.
    #[getter]
    fn cause(&self) -> &'static str {
        match self.0.cause {
            Cause::Trap => "trap",
            Cause::Interrupt => "interrupt",
            Cause::Syscall => "syscall",
        }
    }

    /// The processor's trap number; None if it has none.
    #[getter]
    fn number(&self) -> Option<u64> {
        self.0.number
    }

    /// The faulting address; None if it was no fault.
    #[getter]
    fn fault(&self) -> Option<u64> {
        self.0.address.map(|at| at.0)
    }

    /// Whether user mode was interrupted.
    #[getter(from_user)]
    fn is_of_user(&self) -> bool {
        self.0.from_user
    }

    /// The interrupted registers, as `Thread.registers`.
    #[getter]
    fn registers<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        registers(py, &self.0.registers)
    }

    fn __str__(&self) -> String {
        self.0.to_string()
    }

    fn __repr__(&self) -> String {
        format!("<livecore.Trap {}>", self.0)
    }
}
