//! Opens a dump together with its kernel.

use std::path::{Path, PathBuf};

use livecore_minidump::{AnyDump, Error, OpenOptions};

use crate::kernel::Kernel;
use crate::kernel_search::KernelSearch;
use crate::pair::Pair;
use crate::pair_error::PairError;

/// A dump of any kind, in any container and codec, and the path of its file.
#[derive(Debug, Clone)]
pub struct Dump {
    dump: AnyDump,
    path: PathBuf,
}

impl Dump {
    /// Opens the dump `path`.
    ///
    /// # Errors
    ///
    /// Returns the errors of [`AnyDump::open`].
    pub fn open(path: impl AsRef<Path>) -> Result<Self, Error> {
        Self::open_with(path, &OpenOptions::default())
    }

    /// Opens the dump `path` with options.
    ///
    /// # Errors
    ///
    /// Returns the errors of [`AnyDump::open`].
    pub fn open_with(path: impl AsRef<Path>, options: &OpenOptions) -> Result<Self, Error> {
        let path = path.as_ref();
        Ok(Self {
            dump: AnyDump::open(path, options)?,
            path: path.to_owned(),
        })
    }

    /// The dump: its header, sections and pages.
    pub fn any(&self) -> &AnyDump {
        &self.dump
    }

    /// The path of the dump's file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Opens the kernel file `path`, with its type information and the functions of loaded modules.
    ///
    /// A file that cannot be compared with the dump is accepted. Use [`Pair::agreement`] to check.
    ///
    /// # Errors
    ///
    /// Returns [`PairError::AnotherKernel`] if the file contradicts the dump, and the errors of
    /// [`Pair::open`].
    pub fn kernel(&self, path: impl AsRef<Path>) -> Result<Kernel<'static>, PairError> {
        let pair = Pair::open(&self.dump, path)?.agreed()?;
        Ok(pair.kernel().detailed())
    }

    /// Finds the kernel of the dump in the dump's directory, `/boot` and `/usr/lib/debug`. Use
    /// [`KernelSearch`] for other directories.
    ///
    /// # Errors
    ///
    /// Returns [`PairError::NotFound`] if no file is the kernel of the dump.
    pub fn find_kernel(&self) -> Result<Kernel<'static>, PairError> {
        let found = KernelSearch::new().next_to(&self.path).find(&self.dump);
        match found.pair {
            Some(pair) => Ok(pair.kernel().detailed()),
            None => Err(PairError::NotFound {
                rejected: found.rejected,
            }),
        }
    }
}
