//! A dump of any kind with the kernel that ran: a minidump's memory by its own page tables, a full
//! dump's by its kernel's.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use livecore_minidump::msgbuf::MessageBuffer;
use livecore_minidump::{AnyDump, DumpMemory, Error, KernelElf};

use crate::agree::{self, Agreement};
use crate::kernel::{Kernel, displacement};
use crate::locate::{DumpedMachine, LocateError};
use crate::pair_error::PairError;

/// A dump of any kind with the kernel that ran.
///
/// A clone shares everything with the original.
#[derive(Clone)]
pub struct Pair {
    dump: AnyDump,
    path: PathBuf,
    elf: Arc<KernelElf>,
    agreement: Agreement,
    machine: Option<Arc<DumpedMachine>>,
}

impl Pair {
    /// Pairs `dump` with the kernel's file `path`, even if that contradicts it:
    /// [`Pair::agreement`] and [`Pair::agreed`] tell.
    ///
    /// # Errors
    ///
    /// [`PairError::Open`] and [`PairError::Format`] if the file cannot be read,
    /// [`PairError::Locate`] if a full dump does not contradict it, and it is not found in there.
    pub fn open(dump: &AnyDump, path: impl AsRef<Path>) -> Result<Self, PairError> {
        let path = path.as_ref();
        Ok(Self::new(dump, path, kernel_file(path)?)?)
    }

    /// The same with a file that is open already.
    ///
    /// # Errors
    ///
    /// If a full dump does not contradict the kernel, and it is not found in there.
    pub fn new(
        dump: &AnyDump,
        path: impl Into<PathBuf>,
        elf: impl Into<Arc<KernelElf>>,
    ) -> Result<Self, LocateError> {
        let elf = elf.into();
        let (agreement, machine) = compare(&elf, dump)?;
        Ok(Self {
            dump: dump.clone(),
            path: path.into(),
            elf,
            agreement,
            machine: machine.map(Arc::new),
        })
    }

    /// Itself, unless the kernel contradicts the dump.
    ///
    /// # Errors
    ///
    /// [`PairError::AnotherKernel`].
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

    /// The kernel's file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What the kernel's file has.
    pub fn elf(&self) -> &Arc<KernelElf> {
        &self.elf
    }

    /// What comparing the kernel's file with the dump came to.
    pub fn agreement(&self) -> &Agreement {
        &self.agreement
    }

    /// Where the kernel is in a full dump, which does not say that itself.
    pub fn machine(&self) -> Option<&DumpedMachine> {
        self.machine.as_deref()
    }

    /// The dump's memory as the kernel mapped it.
    pub fn memory(&self) -> Arc<dyn DumpMemory> {
        match &self.machine {
            Some(machine) => Arc::clone(machine) as Arc<dyn DumpMemory>,
            None => self.dump.memory(),
        }
    }

    /// The kernel in the dump.
    pub fn kernel(&self) -> Kernel<'static> {
        let elf = Arc::clone(&self.elf);
        match self.dump.minidump() {
            Some(mini) => Kernel::new(Arc::clone(mini), elf).displaced(displacement(mini)),
            None => Kernel::new(self.memory(), elf),
        }
    }

    /// The message buffer: a minidump's own section, or what the kernel's symbols lead to.
    ///
    /// # Errors
    ///
    /// If there is none, or it cannot be read.
    pub fn message_buffer(&self) -> Result<MessageBuffer, Error> {
        match self.dump.minidump() {
            Some(mini) => MessageBuffer::of(mini, Some(&self.elf)),
            None => MessageBuffer::of_memory(&*self.memory(), &self.elf),
        }
    }
}

/// Opens the kernel's file `path`.
///
/// # Errors
///
/// [`PairError::Open`] and [`PairError::Format`].
pub fn kernel_file(path: impl AsRef<Path>) -> Result<KernelElf, PairError> {
    let path = path.as_ref();
    let file = File::open(path).map_err(|source| PairError::Open {
        path: path.to_owned(),
        source,
    })?;
    Ok(KernelElf::parse(Arc::new(file))?)
}

/// Compares a kernel's file with a dump, and finds it in a full dump.
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
    // What machine and header say is known before the kernel is looked for.
    let first = agree::compare_full(elf, full, &**full);
    if let Agreement::Contradicts { .. } = first {
        return Ok((first, DumpedMachine::find(Arc::clone(full), elf).ok()));
    }
    let machine = DumpedMachine::find(Arc::clone(full), elf)?;
    Ok((agree::compare_full(elf, full, &machine), Some(machine)))
}
