//! A dump of any kind with the kernel that ran: a minidump's memory by its own page tables, a full
//! dump's by its kernel's.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use livecore_kernel as kernel;
use livecore_minidump::msgbuf::MessageBuffer;
use livecore_minidump::{AnyDump, DumpMemory, Error, KernelElf};

use crate::failure::Failure;
use crate::input::{self, Kernel, KernelArgs, Opening};
use crate::session::Session;

/// A dump of any kind with the kernel that ran.
pub struct Space {
    /// The dump.
    pub dump: AnyDump,
    /// Its memory, as the kernel mapped it.
    pub memory: Arc<dyn DumpMemory>,
    /// The kernel's file.
    pub elf: KernelElf,
    /// Its path.
    pub path: PathBuf,
}

impl Space {
    /// `dump` with its kernel.
    pub fn new(dump: AnyDump, kernel: Kernel) -> Self {
        let Kernel { path, elf, machine } = kernel;
        let memory = match machine {
            Some(machine) => Arc::new(machine) as Arc<dyn DumpMemory>,
            None => dump.memory(),
        };
        Self {
            dump,
            memory,
            elf,
            path,
        }
    }

    /// Opens the dump `path` and the kernel that `args` name, or that is found; there has to be
    /// one. Tells of those warnings that matter to whoever reads memory.
    pub fn open(
        path: &Path,
        opening: Opening,
        args: &KernelArgs,
        session: &mut Session<'_>,
    ) -> Result<Self, Failure> {
        let dump = input::dump(path, opening, session)?;
        input::tell_memory_warnings(&dump, path, session);
        let kernel = args.require(&dump, path, session)?;
        Ok(Self::new(dump, kernel))
    }

    /// What the kernel's symbols tell.
    pub fn kernel(&self) -> kernel::Kernel<'_> {
        match self.dump.minidump() {
            Some(mini) => kernel::Kernel::of_dump(mini, &self.elf),
            None => kernel::Kernel::new(&*self.memory, &self.elf),
        }
    }

    /// The message buffer: a minidump's own section, or what the kernel's symbols lead to.
    pub fn message_buffer(&self) -> Result<MessageBuffer, Error> {
        match self.dump.minidump() {
            Some(mini) => MessageBuffer::of(mini, Some(&self.elf)),
            None => MessageBuffer::of_memory(&*self.memory, &self.elf),
        }
    }
}
