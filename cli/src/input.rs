//! What verbs read: a dump by name or from standard input, and a kernel.

use std::fs::File;
use std::io;
use std::num::NonZeroUsize;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use livecore_kernel::agree::{self, Agreement};
use livecore_kernel::locate::{DumpedMachine, LocateError};
use livecore_minidump::dump::Warning;
use livecore_minidump::{AnyDump, KernelElf, OpenOptions};

use crate::failure::Failure;
use crate::kernel_search;
use crate::session::Session;

/// How a dump is opened.
#[derive(Debug, Clone, Copy, Default)]
pub struct Opening {
    /// Threads that decode; one per processor if `None`.
    pub threads: Option<NonZeroUsize>,
    /// Lost page data at the end is zeros.
    pub zero_tail: bool,
    /// Whether what is read needs no check at the end of the run: it is a look at the head, or is
    /// checked elsewhere.
    pub glance: bool,
}

/// Opens the dump `path`, of any kind; `-` is standard input. What cannot seek is kept in an
/// unlinked file.
pub fn dump(path: &Path, opening: Opening, session: &mut Session<'_>) -> Result<AnyDump, Failure> {
    let options = OpenOptions {
        zero_tail: opening.zero_tail,
        ..OpenOptions::new(
            livecore_compress::OpenOptions::new()
                .threads(crate::args::threads(opening.threads))
                .spool_dir(&session.env.spool_dir),
        )
    };
    let is_regular = path.metadata().is_ok_and(|m| m.is_file());
    let opened = if path != Path::new("-") && is_regular {
        AnyDump::open(path, &options)
    } else {
        AnyDump::from_source(Arc::new(seekable(path, session)?), &options)
    };
    let dump = opened.map_err(|e| Failure::from(e).about(path))?;
    if !opening.glance {
        session.check_at_end(path, dump.shared_stream());
    }
    Ok(dump)
}

/// Opens a file that can be read at any offset: `path`, or a copy of what comes out of it if it is
/// a pipe or `-`.
pub fn seekable(path: &Path, session: &mut Session<'_>) -> Result<File, Failure> {
    let mut open = || {
        if path == Path::new("-") {
            return session.env.seekable_stdin();
        }
        let file = File::open(path)?;
        let kind = file.metadata()?.file_type();
        if kind.is_dir() {
            return Err(io::ErrorKind::IsADirectory.into());
        }
        if kind.is_fifo() || kind.is_socket() || kind.is_char_device() {
            return session.env.spool(file);
        }
        Ok(file)
    };
    open().map_err(|e| Failure::from(e).about(path))
}

/// Tells of those warnings that matter to whoever reads memory. That a file is short matters only
/// where the missing part is read, and then it is an error.
pub fn tell_memory_warnings(dump: &AnyDump, path: &Path, session: &mut Session<'_>) {
    for warning in dump.warnings() {
        if matches!(
            warning,
            Warning::Seal { .. }
                | Warning::Architecture { .. }
                | Warning::FilledTail { .. }
                | Warning::Carried { .. }
        ) {
            session.warn(path, warning);
        }
    }
}

/// The most files that are told of when none of them is the kernel.
const REJECTED_TOLD: usize = 5;

/// Which kernel ran.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct KernelArgs {
    /// The kernel that ran: its ELF file, for symbols [default: looked for beside the dump and in
    /// /boot, and taken only if it says that it is the one]
    #[arg(long, value_name = "ELF")]
    pub kernel: Option<PathBuf>,
    /// A kernel's file, or a directory to look for it in; may be repeated
    #[arg(long, value_name = "PATH", conflicts_with = "kernel")]
    pub kernel_path: Vec<PathBuf>,
    /// Use the kernel even if it contradicts the dump
    #[arg(long, requires = "kernel")]
    pub force: bool,
}

/// A kernel's file, opened.
pub struct Kernel {
    /// Its path.
    pub path: PathBuf,
    /// Its symbols.
    pub elf: KernelElf,
    /// Where it lies and how it maps: in a full dump, which says nothing of that itself.
    pub machine: Option<DumpedMachine>,
}

impl KernelArgs {
    /// Opens the kernel if one is named, else looks for it, and says on standard error which one
    /// was found. `None` if there is none.
    ///
    /// One that is named is compared with the dump: if it contradicts it, it is refused; if it
    /// cannot be compared, it is used with a warning.
    pub fn open(
        &self,
        dump: &AnyDump,
        name: &Path,
        session: &mut Session<'_>,
    ) -> Result<Option<Kernel>, Failure> {
        match &self.kernel {
            Some(path) => self.named(path, dump, name, session).map(Some),
            None => {
                let looked = self.search(dump, name, session);
                if looked.found.is_none() && !looked.rejected.is_empty() {
                    let why = why_not(&looked.rejected);
                    session.voice.say(format_args!("no kernel was found{why}"));
                }
                Ok(looked.found)
            }
        }
    }

    /// As [`KernelArgs::open`], but it is an error if there is none.
    pub fn require(
        &self,
        dump: &AnyDump,
        name: &Path,
        session: &mut Session<'_>,
    ) -> Result<Kernel, Failure> {
        if let Some(path) = &self.kernel {
            return self.named(path, dump, name, session);
        }
        let search = self.search(dump, name, session);
        let Some(kernel) = search.found else {
            let what = format!(
                "the kernel that ran was not found{}",
                why_not(&search.rejected)
            );
            return Err(Failure::could_not(what)
                .about(name)
                .next("say --kernel ELF, or --kernel-path PATH where to look"));
        };
        Ok(kernel)
    }

    fn search(&self, dump: &AnyDump, name: &Path, session: &mut Session<'_>) -> Looked {
        let search = kernel_search::find(dump, name, &self.kernel_path);
        let found = search.found;
        if let Some(kernel) = &found {
            session
                .voice
                .say(format_args!("kernel: {}", kernel.path.display()));
        }
        Looked {
            found,
            rejected: search.rejected,
        }
    }

    fn named(
        &self,
        path: &Path,
        dump: &AnyDump,
        name: &Path,
        session: &mut Session<'_>,
    ) -> Result<Kernel, Failure> {
        let elf = kernel(path)?;
        let (agreement, machine) = hold(&elf, dump).map_err(|e| {
            let failure = Failure::from(e).about(path);
            failure.next(format_args!("is it the kernel of {}?", name.display()))
        })?;
        match agreement {
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
                if !self.force {
                    let failure = Failure::broken(line).about(path);
                    return Err(failure.next("--force uses it all the same"));
                }
                session.warn(path, line);
            }
        }
        let path = path.to_owned();
        Ok(Kernel { path, elf, machine })
    }
}

/// Holds a kernel's file against a dump: whether it is its kernel, and of a full dump, where it
/// lies in there.
pub fn hold(
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

/// What looking for a kernel came to.
struct Looked {
    found: Option<Kernel>,
    rejected: Vec<(PathBuf, String)>,
}

/// Why files that were looked at are not it, in parentheses; nothing if there were none.
fn why_not(rejected: &[(PathBuf, String)]) -> String {
    if rejected.is_empty() {
        return String::new();
    }
    let told = rejected.iter().take(REJECTED_TOLD);
    let mut told: Vec<_> = told
        .map(|(path, why)| format!("{}: {why}", path.display()))
        .collect();
    if rejected.len() > REJECTED_TOLD {
        told.push(format!("{} more", rejected.len() - REJECTED_TOLD));
    }
    format!(" ({})", told.join("; "))
}

/// Opens the kernel `path`.
pub fn kernel(path: &Path) -> Result<KernelElf, Failure> {
    let about = |failure: Failure| failure.about(path);
    let file = File::open(path).map_err(|e| about(e.into()))?;
    KernelElf::parse(Arc::new(file)).map_err(|e| about(e.into()))
}
