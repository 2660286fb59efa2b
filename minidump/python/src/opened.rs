//! An open dump and its kernel, shared by the threads of a program.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use livecore_compress::ReadAt;
use livecore_kernel::{Kernel, KernelSearch, Pair, PairError, Processes, Tried};
use livecore_minidump::encryption::{PrivateKey, read_pem};
use livecore_minidump::{
    AnyDump, DumpMemory, KernelElf, KernelMemory, OpenOptions, PhysAddr, VirtAddr,
};

use crate::failure::{Class, Failure};

/// An open dump. The first method that needs its kernel searches for it, unless the caller named it.
pub(crate) struct Opened {
    pub(crate) path: PathBuf,
    pub(crate) dump: AnyDump,
    pub(crate) key: Option<Arc<PrivateKey>>,
    pair: OnceLock<Pair>,
    kernel: OnceLock<Kernel<'static>>,
}

/// Reads the private key in the PEM file `path`.
pub(crate) fn private_key(path: Option<&Path>) -> Result<Option<Arc<PrivateKey>>, Failure> {
    let Some(path) = path else {
        return Ok(None);
    };
    let pem = read_pem(path).map_err(|e| Failure::from(e).about(path))?;
    let key = PrivateKey::from_pem(&pem).map_err(|e| Failure::from(e).about(path))?;
    Ok(Some(Arc::new(key)))
}

/// Opens the kernel file `path`.
pub(crate) fn kernel_file(path: &Path) -> Result<KernelElf, Failure> {
    let about = |failure: Failure| failure.about(path);
    let file: Arc<dyn ReadAt> = Arc::new(File::open(path).map_err(|e| about(e.into()))?);
    KernelElf::parse(file).map_err(|e| about(e.into()))
}

impl Opened {
    pub(crate) fn open(
        path: PathBuf,
        kernel: Option<&Path>,
        key: Option<&Path>,
        (zero_tail, force_kernel): (bool, bool),
    ) -> Result<Self, Failure> {
        let key = private_key(key)?;
        let options = OpenOptions::new().zero_tail(zero_tail).key(key.clone());
        let dump = AnyDump::open(&path, &options);
        let dump = dump.map_err(|error| match error {
            error @ livecore_minidump::Error::Io { .. } => Failure::from(error),
            error => Failure::from(error).about(&path),
        })?;
        let opened = Self {
            path,
            dump,
            key,
            pair: OnceLock::new(),
            kernel: OnceLock::new(),
        };
        if let Some(kernel) = kernel {
            let pair = Pair::open(&opened.dump, kernel)
                .and_then(|pair| {
                    if force_kernel {
                        Ok(pair)
                    } else {
                        pair.agreed()
                    }
                })
                .map_err(|error| match error {
                    error @ PairError::Open { .. } => Failure::from(error),
                    error => Failure::from(error).about(kernel),
                })?;
            opened.pair.get_or_init(|| pair);
        }
        Ok(opened)
    }

    /// The dump with its kernel.
    pub(crate) fn pair(&self) -> Result<&Pair, Failure> {
        if let Some(pair) = self.pair.get() {
            return Ok(pair);
        }
        let found = KernelSearch::new().next_to(&self.path).find(&self.dump);
        match found.pair {
            Some(pair) => Ok(self.pair.get_or_init(|| pair)),
            None => {
                let directory = self.path.parent().unwrap_or(Path::new(".")).join("");
                let what = format_args!(
                    "kernel of the dump not found in {}, /boot and /usr/lib/debug{}: name its file, for \
                     example livecore.open(dump, kernel=\"kernel\")",
                    directory.display(),
                    Tried(&found.rejected)
                );
                Err(Failure::new(Class::Kernel, what).about(&self.path))
            }
        }
    }

    /// The dump with its kernel, if it has one.
    pub(crate) fn pair_if_found(&self) -> Option<&Pair> {
        self.pair().ok()
    }

    /// The kernel with type information and the functions of modules.
    pub(crate) fn kernel(&self) -> Result<&Kernel<'static>, Failure> {
        if let Some(kernel) = self.kernel.get() {
            return Ok(kernel);
        }
        let kernel = self.pair()?.kernel().detailed();
        Ok(self.kernel.get_or_init(|| kernel))
    }

    /// The memory, by virtual address. The page tables of a full dump are found with its kernel.
    pub(crate) fn memory(&self) -> Result<Arc<dyn DumpMemory>, Failure> {
        match self.dump.minidump() {
            Some(_) => Ok(self.dump.memory()),
            None => Ok(self.pair()?.memory()),
        }
    }

    pub(crate) fn read(&self, at: u64, buf: &mut [u8]) -> Result<(), Failure> {
        Ok(self.memory()?.read_virt(VirtAddr(at), buf)?)
    }

    pub(crate) fn read_phys(&self, at: u64, buf: &mut [u8]) -> Result<(), Failure> {
        Ok(self.dump.memory().read_phys(PhysAddr(at), buf)?)
    }

    pub(crate) fn translate(&self, at: u64) -> Result<u64, Failure> {
        Ok(self.memory()?.translate(VirtAddr(at))?.0)
    }

    pub(crate) fn processes(&self) -> Result<Processes, Failure> {
        Ok(self.kernel()?.processes()?)
    }

    /// The text of the message buffer, as dmesg(8) prints it.
    pub(crate) fn dmesg(&self, all: bool) -> Result<Vec<u8>, Failure> {
        use livecore_minidump::{MessageBuffer, RingOrigin};
        let alone = match self.dump.minidump() {
            Some(mini) => Some(MessageBuffer::of(mini, None)?),
            None => None,
        };
        let buffer = match alone {
            Some(alone) if alone.origin() == RingOrigin::Trailing => alone,
            Some(alone) => match self.pair_if_found() {
                Some(pair) => pair.message_buffer()?,
                None => alone,
            },
            None => self.pair()?.message_buffer()?,
        };
        Ok(buffer.dmesg(all))
    }

    /// The dump has no such thread.
    pub(crate) fn no_thread(tid: i32) -> Failure {
        Failure::new(Class::Kernel, format_args!("no thread {tid}"))
    }
}
