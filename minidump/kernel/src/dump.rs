//! A dump of any kind, opened to be read with its kernel.

use std::path::{Path, PathBuf};

use livecore_minidump::{AnyDump, Error, OpenOptions};

use crate::kernel::Kernel;
use crate::kernel_search::KernelSearch;
use crate::pair::Pair;
use crate::pair_error::PairError;

/// A dump of any kind, in any container and codec, and where its file is.
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
    /// As [`AnyDump::open`].
    pub fn open(path: impl AsRef<Path>) -> Result<Self, Error> {
        Self::open_with(path, &OpenOptions::default())
    }

    /// Opens the dump `path` with options.
    ///
    /// # Errors
    ///
    /// As [`AnyDump::open`].
    pub fn open_with(path: impl AsRef<Path>, options: &OpenOptions) -> Result<Self, Error> {
        let path = path.as_ref();
        Ok(Self {
            dump: AnyDump::open(path, options)?,
            path: path.to_owned(),
        })
    }

    /// The dump without its path: its header, sections and pages.
    pub fn any(&self) -> &AnyDump {
        &self.dump
    }

    /// The dump's file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The dump's kernel, whose file is `path`, with its type information and the functions of
    /// loaded modules.
    ///
    /// A file that cannot be compared with the dump is taken; [`Pair::agreement`] tells.
    ///
    /// # Errors
    ///
    /// [`PairError::AnotherKernel`] if the file contradicts the dump, and what [`Pair::open`]
    /// returns.
    pub fn kernel(&self, path: impl AsRef<Path>) -> Result<Kernel<'static>, PairError> {
        let pair = Pair::open(&self.dump, path)?.agreed()?;
        Ok(pair.kernel().detailed())
    }

    /// The dump's kernel, looked for next to the dump and where a FreeBSD system has its kernels.
    /// [`KernelSearch`] looks in other places, too.
    ///
    /// # Errors
    ///
    /// [`PairError::NotFound`] if no file there proves to be the kernel of the dump.
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
