//! Arguments that name a dump, or a directory and the number of a dump in it.

use std::path::{Path, PathBuf};

use clap::Args;

use crate::crash_directory;
use crate::failure::Failure;
use crate::id::Id;

/// The number of a dump in a directory.
#[derive(Debug, Clone, Copy, Default, Args)]
pub struct NumberArg {
    /// Read dump N of the directory [default: the newest]
    #[arg(short = 'n', long = "number", value_name = "N")]
    pub number: Option<u64>,
}

impl NumberArg {
    /// Replaces the directory `path` with the path of one of its dumps, and returns whether it did.
    ///
    /// # Errors
    ///
    /// The directory has no such dump, or `-n` was given and `path` is not a directory.
    pub(crate) fn select(self, path: &mut PathBuf) -> Result<bool, Failure> {
        // The directory of an emulated machine is a memory image.
        let is_directory = path.is_dir() && !path.join("machine.json").exists();
        if is_directory || path == Path::new(crash_directory::DEFAULT) {
            *path = crash_directory::one(path, self.number)?;
            return Ok(true);
        }
        match self.number {
            Some(_) => Err(Self::needs_directory(path)),
            None => Ok(false),
        }
    }

    /// The failure of `-n` with a file.
    pub(crate) fn needs_directory(path: &Path) -> Failure {
        Failure::usage("-n needs a directory, not a dump")
            .id_is(Id::ConflictingArguments)
            .about(path)
    }
}

/// A dump, as an argument or, like other FreeBSD programs, as `-M CORE`.
#[derive(Debug, Clone, Args)]
pub struct DumpArg {
    /// Dump, or directory with dumps [default: /var/crash]
    ///
    /// `-` is standard input. Of a directory, livecore reads the newest dump, or dump N with -n.
    dump: Option<PathBuf>,
    /// Dump, as in dmesg(8) and ps(1), where -N is the kernel
    #[arg(short = 'M', value_name = "DUMP", conflicts_with = "dump")]
    core: Option<PathBuf>,
    /// The number of the dump.
    #[command(flatten)]
    pub(crate) number: NumberArg,
}

impl DumpArg {
    /// The dump's path.
    pub fn path(&self) -> &Path {
        self.dump
            .as_deref()
            .or(self.core.as_deref())
            .unwrap_or(Path::new(crash_directory::DEFAULT))
    }

    /// The dump's path, to replace a directory with one of its dumps.
    pub(crate) fn path_mut(&mut self) -> &mut PathBuf {
        match &mut self.core {
            Some(core) => core,
            None => self
                .dump
                .get_or_insert_with(|| crash_directory::DEFAULT.into()),
        }
    }
}

/// A dump with an optional kernel before it, in the order of kgdb(1) and gdb(1): `KERNEL DUMP`.
#[derive(Debug, Clone, Args)]
pub struct KernelAndDump {
    /// Dump or directory, after its kernel [default: /var/crash]
    ///
    /// Of a directory, livecore reads the newest dump, or dump N with -n. With -n, a single argument that
    /// is not a directory is the kernel.
    #[arg(value_name = "[KERNEL] DUMP", num_args = 0..=2)]
    named: Vec<PathBuf>,
    /// The number of the dump.
    #[command(flatten)]
    pub(crate) number: NumberArg,
}

impl KernelAndDump {
    /// The dump's path, and the kernel's path if there are two arguments.
    pub fn paths(&self) -> (&Path, Option<&Path>) {
        match &self.named[..] {
            [kernel, dump] => (dump, Some(kernel)),
            [dump, ..] => (dump, None),
            [] => (Path::new(crash_directory::DEFAULT), None),
        }
    }

    /// The dump's path, to replace a directory with one of its dumps.
    pub(crate) fn path_mut(&mut self) -> &mut PathBuf {
        let only_kernel = |path: &PathBuf| self.number.number.is_some() && !path.is_dir();
        if self.named.is_empty() || self.named.len() == 1 && self.named.iter().all(only_kernel) {
            self.named.push(crash_directory::DEFAULT.into());
        }
        // It has one or two elements.
        let last = self.named.len() - 1;
        &mut self.named[last]
    }
}
