//! A dump with its kernel. A minidump has page tables; those of a full dump are found with the
//! kernel.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use livecore_compress::ReadAt;
use livecore_minidump::MessageBuffer;
use livecore_minidump::elf::sections::Sections;
use livecore_minidump::pack::KERNEL;
use livecore_minidump::{AnyDump, DumpMemory, Error, KernelElf};

use crate::agree::{self, Agreement};
use crate::debug_file::debug_file;
use crate::kernel::{Kernel, displacement};
use crate::locate::{DumpedMachine, LocateError};
use crate::pair_error::PairError;
use crate::section;

/// A dump of any kind with its kernel.
///
/// A clone shares all data with the original.
#[derive(Clone)]
pub struct Pair {
    dump: AnyDump,
    path: PathBuf,
    elf: Arc<KernelElf>,
    debug: Option<Arc<dyn ReadAt>>,
    agreement: Agreement,
    machine: Option<Arc<DumpedMachine>>,
}

impl Pair {
    /// Pairs `dump` with the kernel file `path`, even if the file contradicts the dump. Use
    /// [`Pair::agreement`] or [`Pair::agreed`] to check.
    ///
    /// # Errors
    ///
    /// Returns [`PairError::Open`] or [`PairError::Format`] if the file cannot be read, and
    /// [`PairError::Locate`] if the kernel does not contradict a full dump but is not found in it.
    pub fn open(dump: &AnyDump, path: impl AsRef<Path>) -> Result<Self, PairError> {
        let path = path.as_ref();
        Ok(Self::new(dump, path, kernel_file(path, MEMORY)?)?)
    }

    /// Pairs `dump` with an open kernel file.
    ///
    /// # Errors
    ///
    /// Returns an error if the kernel does not contradict a full dump but is not found in it.
    pub fn new(
        dump: &AnyDump,
        path: impl Into<PathBuf>,
        elf: impl Into<Arc<KernelElf>>,
    ) -> Result<Self, LocateError> {
        let (elf, path) = (elf.into(), path.into());
        let debug = open_debug_file(&elf, &path);
        Self::with_debug_file(dump, path, elf, debug)
    }

    /// Pairs `dump` with the kernel in its pack, with at most `memory` bytes for the tables and
    /// sections of the kernel. `name`: the path of the pack. `None` if the dump is not in a pack, or the
    /// pack has no kernel.
    ///
    /// # Errors
    ///
    /// Returns [`PairError::Format`] if the kernel cannot be read or differs from the manifest,
    /// [`PairError::AnotherKernel`] if it contradicts the dump, and [`PairError::Locate`] if it is not
    /// found in a full dump.
    pub fn of_pack(
        dump: &AnyDump,
        name: impl AsRef<Path>,
        memory: u64,
    ) -> Result<Option<Self>, PairError> {
        let Some(pack) = dump.envelope().pack() else {
            return Ok(None);
        };
        let Some(file) = pack.kernel() else {
            return Ok(None);
        };
        let elf = Arc::new(KernelElf::parse_within(file, memory)?);
        let debug = match needs_debug_file(&elf) {
            true => pack.debug_file(KERNEL),
            false => None,
        };
        let path = format!("{}:{KERNEL}", name.as_ref().display());
        let pair = Self::with_debug_file(dump, path.into(), elf, debug)?;
        pair.agreed().map(Some)
    }

    fn with_debug_file(
        dump: &AnyDump,
        path: PathBuf,
        elf: Arc<KernelElf>,
        debug: Option<Arc<dyn ReadAt>>,
    ) -> Result<Self, LocateError> {
        let (agreement, machine) = compare(&elf, dump)?;
        Ok(Self {
            dump: dump.clone(),
            debug,
            path,
            elf,
            agreement,
            machine: machine.map(Arc::new),
        })
    }

    /// Returns the pair unless the kernel contradicts the dump.
    ///
    /// # Errors
    ///
    /// Returns [`PairError::AnotherKernel`] if it does.
    pub fn agreed(self) -> Result<Self, PairError> {
        match self.agreement {
            Agreement::Contradicts { what, kernel, dump } => {
                Err(PairError::AnotherKernel { what, kernel, dump })
            }
            Agreement::Same | Agreement::Unknown { .. } => Ok(self),
        }
    }

    /// The dump.
    pub fn dump(&self) -> &AnyDump {
        &self.dump
    }

    /// The path of the kernel file: `PACK:kernel/kernel` for the kernel in a pack, which is no path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The kernel file.
    pub fn elf(&self) -> &Arc<KernelElf> {
        &self.elf
    }

    /// The build-id of the kernel file, if it lacks debug information and its debug file was not found.
    pub fn wanted_debug_file(&self) -> Option<Vec<u8>> {
        if self.debug.is_some() || !needs_debug_file(&self.elf) {
            return None;
        }
        let file = &**self.elf.file();
        let sections = Sections::read(file).ok()?;
        sections.build_id(file).map(|(id, _)| id)
    }

    /// Returns the pair with the debug information in `file`, which is not checked.
    #[must_use]
    pub fn with_debug_information(self, file: Arc<dyn ReadAt>) -> Self {
        Self {
            debug: Some(file),
            ..self
        }
    }

    /// The result of comparing the kernel file with the dump.
    pub fn agreement(&self) -> &Agreement {
        &self.agreement
    }

    /// The machine of a full dump, with the location of its kernel.
    pub fn machine(&self) -> Option<&DumpedMachine> {
        self.machine.as_deref()
    }

    /// The dump's memory with the kernel's address translation.
    pub fn memory(&self) -> Arc<dyn DumpMemory> {
        match &self.machine {
            Some(machine) => Arc::clone(machine) as Arc<dyn DumpMemory>,
            None => self.dump.memory(),
        }
    }

    /// The kernel in the dump.
    pub fn kernel(&self) -> Kernel<'static> {
        let elf = Arc::clone(&self.elf);
        let kernel = match self.dump.minidump() {
            Some(mini) => Kernel::new(Arc::clone(mini), elf).displaced(displacement(mini)),
            None => Kernel::new(self.memory(), elf),
        };
        match &self.debug {
            Some(file) => kernel.with_debug_file(Arc::clone(file)),
            None => kernel,
        }
    }

    /// Reads the message buffer: a minidump's section, or the buffer that the kernel's symbols
    /// locate.
    ///
    /// # Errors
    ///
    /// Returns an error if there is no message buffer or it cannot be read.
    pub fn message_buffer(&self) -> Result<MessageBuffer, Error> {
        match self.dump.minidump() {
            Some(mini) => MessageBuffer::of(mini, Some(&self.elf)),
            None => MessageBuffer::of_memory(&*self.memory(), &self.elf),
        }
    }
}

/// The default memory limit for a kernel file, in bytes.
pub(crate) const MEMORY: u64 = 256 << 20;

/// Opens the kernel file `path`, with at most `memory` bytes for its tables and sections.
///
/// # Errors
///
/// Returns [`PairError::Open`] or [`PairError::Format`].
pub(crate) fn kernel_file(path: impl AsRef<Path>, memory: u64) -> Result<KernelElf, PairError> {
    let path = path.as_ref();
    let file = File::open(path).map_err(|source| PairError::Open {
        path: path.to_owned(),
        source,
    })?;
    Ok(KernelElf::parse_within(Arc::new(file), memory)?)
}

/// Opens the file with the debug information of the kernel file `path`, unless `elf` has it.
fn open_debug_file(elf: &KernelElf, path: &Path) -> Option<Arc<dyn ReadAt>> {
    if !needs_debug_file(elf) {
        return None;
    }
    Some(Arc::new(File::open(debug_file(path)?).ok()?))
}

/// Whether the kernel file lacks debug information that a debug file can have.
fn needs_debug_file(elf: &KernelElf) -> bool {
    let has = |name| section::exists(elf, name);
    !(has(".debug_info") && has(".debug_frame"))
}

/// Compares a kernel file with a dump, and locates the kernel in a full dump.
fn compare(
    elf: &KernelElf,
    dump: &AnyDump,
) -> Result<(Agreement, Option<DumpedMachine>), LocateError> {
    let full = match dump {
        AnyDump::Mini(mini) => return Ok((agree::compare(elf, mini), None)),
        AnyDump::Full(full) => full,
    };
    if let Some(mini) = full.minidump() {
        return Ok((agree::compare(elf, mini), None));
    }
    // Architecture and header can contradict before the kernel is located.
    let first = agree::compare_full(elf, full, &**full);
    if let Agreement::Contradicts { .. } = first {
        return Ok((first, DumpedMachine::find(Arc::clone(full), elf).ok()));
    }
    let machine = DumpedMachine::find(Arc::clone(full), elf)?;
    Ok((agree::compare_full(elf, full, &machine), Some(machine)))
}
