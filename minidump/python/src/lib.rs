//! The native part of the Python package `livecore`. The package's documentation is in
//! `python/livecore/__init__.py`, the signatures are in `python/livecore/_livecore.pyi`.
//!
//! Every function that reads a dump runs without the interpreter's lock and in `detached`, which
//! turns a panic into an ordinary exception. The exceptions are Python classes
//! (`python/livecore/_errors.py`), because a class with attributes cannot be native in the stable ABI
//! of Python 3.9.

mod compare;
mod convert;
mod detached;
mod dump;
mod failure;
mod finding;
mod handle;
mod isf;
mod json;
mod module;
mod opened;
mod pages;
mod process;
mod stack;
mod symbols;
mod verify;

use pyo3::prelude::*;

/// The native part of the package livecore.
#[pymodule]
mod _livecore {
    #[pymodule_export]
    use crate::compare::{Comparison, compare};
    #[pymodule_export]
    use crate::convert::Written;
    #[pymodule_export]
    use crate::detached::_panic;
    #[pymodule_export]
    use crate::dump::{Dump, open};
    #[pymodule_export]
    use crate::finding::{Finding, Report};
    #[pymodule_export]
    use crate::isf::isf;
    #[pymodule_export]
    use crate::module::Module;
    #[pymodule_export]
    use crate::pages::{PageRun, Pages};
    #[pymodule_export]
    use crate::process::{Process, Thread};
    #[pymodule_export]
    use crate::stack::{Frame, Trap};
    #[pymodule_export]
    use crate::symbols::Symbols;
    #[pymodule_export]
    use crate::verify::verify;
}
