//! A dump of either kind with the memory that it holds: a minidump's by its own page tables, a full
//! dump's by its kernel's.

use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use livedump::image::FullMemory;
use livedump::take::Machine;
use minidump::agree::Agreement;
use minidump::dump::Warning;
use minidump::{AnyDump, Dump, FullDump, KernelElf, KernelMemory, OpenOptions};

use crate::failure::Failure;
use crate::input::{self, Kernel, KernelArgs, Opening};
use crate::session::Session;

/// A dump of either kind.
pub enum Source {
    /// A minidump.
    Mini(Arc<Dump>),
    /// A full dump.
    Full(Arc<FullDump>),
}

/// A full dump's kernel, found in its memory.
pub struct FullKernel {
    /// Its file's path.
    pub path: PathBuf,
    /// Its file.
    pub elf: KernelElf,
    /// Where it lies and how it maps.
    pub machine: Machine,
}

impl Source {
    /// Opens the dump `path` of either kind; `-` is standard input.
    pub fn open(path: &Path, opening: Opening, session: &mut Session<'_>) -> Result<Self, Failure> {
        let options = options(opening, session);
        let is_regular = path.metadata().is_ok_and(|m| m.is_file());
        let opened = if path != Path::new("-") && is_regular {
            AnyDump::open(path, &options)
        } else {
            AnyDump::from_source(Arc::new(input::seekable(path, session)?), &options)
        };
        Ok(match opened.map_err(|e| Failure::from(e).about(path))? {
            AnyDump::Mini(dump) => Self::Mini(Arc::from(dump)),
            AnyDump::Full(dump) => Self::Full(Arc::from(dump)),
        })
    }

    /// What opening it has told.
    pub fn warnings(&self) -> &[Warning] {
        match self {
            Self::Mini(dump) => dump.warnings(),
            Self::Full(dump) => dump.warnings(),
        }
    }

    /// Tells of those warnings that matter to whoever reads memory.
    pub fn tell_memory_warnings(&self, path: &Path, session: &mut Session<'_>) {
        match self {
            Self::Mini(dump) => input::tell_memory_warnings(dump, path, session),
            Self::Full(dump) => {
                for warning in dump.warnings() {
                    if matches!(
                        warning,
                        Warning::Seal { .. }
                            | Warning::Architecture { .. }
                            | Warning::FilledTail { .. }
                    ) {
                        session.warn(path, warning);
                    }
                }
            }
        }
    }

    /// Its memory, and the kernel if there is one. Without a kernel a full dump translates no
    /// virtual address.
    pub fn memory(
        &self,
        kernel: &KernelArgs,
        name: &Path,
        session: &mut Session<'_>,
    ) -> Result<(Arc<dyn KernelMemory>, Option<Kernel>), Failure> {
        match self {
            Self::Mini(dump) => {
                let elf = kernel.open(dump, name, session)?;
                Ok((Arc::clone(dump) as Arc<dyn KernelMemory>, elf))
            }
            Self::Full(dump) => match full_kernel(kernel, dump, name, session)? {
                Some(FullKernel { path, elf, machine }) => {
                    Ok((Arc::new(machine.view), Some(Kernel { path, elf })))
                }
                None => Ok((Arc::clone(dump) as Arc<dyn KernelMemory>, None)),
            },
        }
    }
}

fn options(opening: Opening, session: &Session<'_>) -> OpenOptions {
    let threads: NonZeroUsize = crate::args::threads(opening.threads);
    OpenOptions {
        zero_tail: opening.zero_tail,
        ..OpenOptions::new(compress::OpenOptions {
            threads,
            spool_dir: Some(session.env.spool_dir.clone()),
            ..compress::OpenOptions::default()
        })
    }
}

/// The kernel that is named, found in the memory of a full dump.
pub fn full_kernel(
    kernel: &KernelArgs,
    dump: &Arc<FullDump>,
    name: &Path,
    session: &mut Session<'_>,
) -> Result<Option<FullKernel>, Failure> {
    let Some(path) = &kernel.kernel else {
        return Ok(None);
    };
    let elf = input::kernel(path)?;
    let memory = Arc::new(FullMemory::new(Arc::clone(dump)));
    let machine = Machine::find(memory, &elf)
        .map_err(|e| crate::verb::take::failure(e, path))
        .map_err(|e| e.next(format_args!("is it the kernel of {}?", name.display())))?;
    match minidump::agree::compare_full(&elf, dump, &machine.view) {
        Agreement::Same => {}
        Agreement::Unknown { why } => session.warn(
            path,
            format_args!("cannot be compared with {}: {why}", name.display()),
        ),
        Agreement::Contradicts { what, kernel, dump } => {
            let line = format!(
                "not the kernel of {}: its {what} is {kernel}, the dump's is {dump}",
                name.display()
            );
            return Err(Failure::broken(line).about(path));
        }
    }
    let path = path.clone();
    Ok(Some(FullKernel { path, elf, machine }))
}
