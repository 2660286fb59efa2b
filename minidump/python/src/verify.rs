//! Verifies dumps.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use livecore_compress::Progress;
use livecore_kernel::verifier::{ElfFacts, Keys};
use livecore_minidump::encryption::{self, PrivateKey};
use livecore_minidump::{KernelElf, info};
use livecore_verify::{
    Depth, Filter, KernelFacts, OneTimeKeys, Options, Report as Verified, rules,
};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

use crate::detached::interruptible;
use crate::failure::Failure;
use crate::finding::Report;
use crate::opened::{kernel_file, private_key};

/// What to check.
pub(crate) struct Checks {
    depth: Depth,
    strict: bool,
    filter: Filter,
}

impl Checks {
    pub(crate) fn new(
        depth: &str,
        strict: bool,
        only: Option<Vec<String>>,
        skip: Option<Vec<String>>,
    ) -> PyResult<Self> {
        let depths = [Depth::Quick, Depth::Default, Depth::Deep];
        let depth = one_of("depth", depth, depths.map(|depth| (depth.name(), depth)))?;
        let filter = Filter {
            only: only.unwrap_or_default(),
            skip: skip.unwrap_or_default(),
        };
        for pattern in filter.only.iter().chain(&filter.skip) {
            if !rules::all().any(|rule| rule.matches(pattern)) {
                let text = format!("{pattern:?} is not a rule, group or severity");
                return Err(PyValueError::new_err(text));
            }
        }
        Ok(Self {
            depth,
            strict,
            filter,
        })
    }
}

/// The value that the argument `what` selects by its name `found`.
pub(crate) fn one_of<T: Clone, const N: usize>(
    what: &str,
    found: &str,
    values: [(&str, T); N],
) -> PyResult<T> {
    let named = values.iter().find(|(name, _)| *name == found);
    named.map(|(_, value)| value.clone()).ok_or_else(|| {
        let names = values.iter().map(|(name, _)| format!("{name:?}"));
        let names = names.collect::<Vec<_>>().join(", ");
        PyValueError::new_err(format!("{what}: found {found:?}, expected one of {names}"))
    })
}

/// Checks the file `path`, which need not be a dump that can be opened.
///
/// `depth` is "quick", "default" or "deep". With `strict`, warnings are errors. `only` and `skip` select
/// rules by id, by a prefix with `*`, by group or by severity. `kernel` is the kernel file, to check
/// its structures, and `key` the PEM file of the private key for an encrypted dump.
#[pyfunction]
#[pyo3(signature = (path, kernel=None, key=None, *, depth="default", strict=false, only=None, skip=None))]
#[expect(clippy::too_many_arguments, reason = "arguments with names in Python")]
pub(crate) fn verify(
    py: Python<'_>,
    path: PathBuf,
    kernel: Option<PathBuf>,
    key: Option<PathBuf>,
    depth: &str,
    strict: bool,
    only: Option<Vec<String>>,
    skip: Option<Vec<String>>,
) -> PyResult<Report> {
    let checks = Checks::new(depth, strict, only, skip)?;
    let report = interruptible(py, |progress| {
        let elf = kernel.as_deref().map(kernel_file).transpose()?;
        verified(
            &path,
            elf.as_ref(),
            private_key(key.as_deref())?,
            &checks,
            progress,
        )
    })?;
    Report::new(py, report)
}

/// Verifies the file `path`.
pub(crate) fn verified(
    path: &Path,
    elf: Option<&KernelElf>,
    key: Option<Arc<PrivateKey>>,
    checks: &Checks,
    progress: &dyn Progress,
) -> Result<Verified, Failure> {
    let file = File::open(path).map_err(|e| Failure::from(e).about(path))?;
    // The dump is verified without an info file that cannot be read.
    let info = info::path_of(path).and_then(|path| info::read(&path).ok());
    let info = info.map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    let key_file = encryption::key_file(path).ok().flatten();
    let (facts, keys) = (elf.map(ElfFacts), key.map(Keys));
    let options = Options::default()
        .name(path.display().to_string())
        .depth(checks.depth)
        .strict(checks.strict)
        .filter(checks.filter.clone())
        .threads(livecore_compress::OpenOptions::new().threads)
        .kernel(facts.as_ref().map(|facts| facts as &dyn KernelFacts))
        .keys(keys.as_ref().map(|keys| keys as &dyn OneTimeKeys))
        .key_file(key_file.as_ref().map(|file| &*file.bytes))
        .info(info.as_deref());
    Ok(livecore_verify::verify(Arc::new(file), &options, progress))
}
