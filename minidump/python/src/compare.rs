//! Compares dumps.

use std::fs::File;
use std::path::PathBuf;
use std::sync::Arc;

use livecore_compress::{Progress, ReadAt};
use livecore_kernel::Pair;
use livecore_kernel::verifier::{ElfFacts, Keys, explain};
use livecore_minidump::encryption::{PrivateKey, key_file, saved_plain};
use livecore_minidump::{AnyDump, KernelElf, OpenOptions};
use livecore_verify::compare::{Comparison as Compared, compare as compare_dumps};
use livecore_verify::{KernelFacts, OneTimeKeys, Options};
use pyo3::prelude::*;

use crate::detached::interruptible;
use crate::failure::Failure;
use crate::json;
use crate::opened::{kernel_file, private_key};

/// The comparison of two dumps.
#[pyclass(frozen, module = "livecore")]
pub(crate) struct Comparison(Compared);

#[pymethods]
impl Comparison {
    /// `"same"`, `"differ"` or `"could-not"`.
    #[getter]
    fn answer(&self) -> &'static str {
        self.0.answer.name()
    }

    /// Why the dumps could not be compared; None if they were.
    #[getter]
    fn reason(&self) -> Option<&str> {
        match &self.0.answer {
            livecore_verify::compare::Answer::CouldNot(why) => Some(why),
            _ => None,
        }
    }

    /// The number of equal pages.
    #[getter]
    fn same(&self) -> u64 {
        self.0.same
    }

    /// The number of pages whose contents differ.
    #[getter]
    fn differ(&self) -> u64 {
        self.0.differ.count
    }

    /// The number of pages that only the first dump has.
    #[getter]
    fn only_a(&self) -> u64 {
        self.0.only_a.count
    }

    /// The number of pages that only the second dump has.
    #[getter]
    fn only_b(&self) -> u64 {
        self.0.only_b.count
    }

    /// The comparison as a dict: what `livecore compare --json` prints.
    fn to_dict<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        json::parsed(py, &self.0.value().to_string())
    }

    fn __repr__(&self) -> String {
        format!("<livecore.Comparison: {}>", self.0.answer.name())
    }
}

/// Compares the memory of the dumps `a` and `b`, of any container, codec and kind.
///
/// `kernel` names the variables that differ. With `strict`, different header fields are a difference.
/// At most `limit` pages are described.
#[pyfunction]
#[pyo3(signature = (a, b, kernel=None, key=None, *, strict=false, limit=16))]
pub(crate) fn compare(
    py: Python<'_>,
    a: PathBuf,
    b: PathBuf,
    kernel: Option<PathBuf>,
    key: Option<PathBuf>,
    strict: bool,
    limit: usize,
) -> PyResult<Comparison> {
    interruptible(py, |progress| {
        let elf = kernel
            .as_deref()
            .map(kernel_file)
            .transpose()?
            .map(Arc::new);
        compared(
            [a, b],
            elf,
            private_key(key.as_deref())?,
            strict,
            limit,
            progress,
        )
    })
}

pub(crate) fn compared(
    paths: [PathBuf; 2],
    elf: Option<Arc<KernelElf>>,
    key: Option<Arc<PrivateKey>>,
    strict: bool,
    limit: usize,
    progress: &dyn Progress,
) -> Result<Comparison, Failure> {
    let source = |path: &PathBuf| -> Result<Arc<dyn ReadAt>, Failure> {
        let file = File::open(path).map_err(|e| Failure::from(e).about(path))?;
        let options = livecore_compress::OpenOptions::new();
        let key_file = key_file(path).map_err(|e| Failure::from(e).about(path))?;
        let plain = saved_plain(Arc::new(file), key_file.as_ref(), key.as_deref(), &options);
        plain.map_err(|e| Failure::from(e).about(path))
    };
    let sources = [source(&paths[0])?, source(&paths[1])?];
    let names = [0, 1].map(|i| paths[i].display().to_string());
    let facts = elf.as_deref().map(ElfFacts);
    let keys = key.clone().map(Keys);
    let options = Options::default()
        .keys(keys.as_ref().map(|keys| keys as &dyn OneTimeKeys))
        .strict(strict)
        .per_rule(limit)
        .threads(livecore_compress::OpenOptions::new().threads)
        .kernel(facts.as_ref().map(|facts| facts as &dyn KernelFacts));
    let mut found = compare_dumps(sources, [&names[0], &names[1]], &options, progress);
    if let Some(elf) = &elf
        && found.pages.iter().any(|page| page.direct.is_none())
    {
        // The addresses of a full dump are those of its kernel.
        let memory = paths.iter().find_map(|path| {
            let dump = AnyDump::open(path, &OpenOptions::new().key(key.clone())).ok()?;
            let pair = Pair::new(&dump, "kernel", Arc::clone(elf)).ok()?;
            pair.machine().map(|_| pair.memory())
        });
        if let Some(memory) = memory {
            explain(&mut found.pages, &*memory, elf);
        }
    }
    Ok(Comparison(found))
}
