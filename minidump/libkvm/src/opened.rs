//! An open dump with its kernel.

use std::ffi::CStr;
use std::fmt::Display;
use std::path::Path;
use std::sync::{Arc, OnceLock};

use livecore_kernel::{Kernel, KernelSearch, Pair, PairError, Types};
use livecore_minidump::encryption::{PrivateKey, read_pem};
use livecore_minidump::{
    Address, AnyDump, ByteOrder, DumpMemory, ElfMachine, Error, OpenOptions, VirtAddr,
};

use crate::failure::Failure;

/// The limit of the length of a path, with its zero byte (`MAXPATHLEN`).
const PATH_LIMIT: usize = 1024;
/// The structures that the functions of the library read.
const STRUCTURES: [&str; 16] = [
    "cdev",
    "pcpu",
    "pgrp",
    "prison",
    "proc",
    "session",
    "sigacts",
    "swdevt",
    "sysentvec",
    "thread",
    "tty",
    "ucred",
    "vmspace",
    "vnode",
    "vm_map",
    "pmap",
];

/// The `resolver` of `kvm_open2`: the address of a symbol.
pub(crate) type Resolver = Box<dyn Fn(&CStr) -> Option<u64> + Send + Sync>;

/// An error about a file.
fn about(path: &Path, error: &dyn Display) -> Failure {
    Failure::hard(format_args!("{}: {error}", path.display()))
}

/// The private key that `LIVECORE_KEY` names, as for the program.
fn private_key() -> Result<Option<Arc<PrivateKey>>, Failure> {
    let Some(path) = std::env::var_os("LIVECORE_KEY").filter(|path| !path.is_empty()) else {
        return Ok(None);
    };
    let path = Path::new(&path);
    let pem = read_pem(path).map_err(|error| about(path, &error))?;
    let key = PrivateKey::from_pem(&pem).map_err(|error| about(path, &error))?;
    Ok(Some(Arc::new(key)))
}

/// An open dump. Nothing of it changes after it was opened.
pub(crate) struct Opened {
    dump: AnyDump,
    memory: Arc<dyn DumpMemory>,
    /// A program with a resolver can read a minidump without its kernel.
    kernel: Option<Kernel<'static>>,
    /// The kernel with its type information, which takes time to read.
    typed: OnceLock<Kernel<'static>>,
    pub(crate) resolver: Option<Resolver>,
}

impl Opened {
    /// Opens the dump `core` and its kernel `exec`, or the one that is found.
    pub(crate) fn open(
        exec: Option<&Path>,
        core: Option<&Path>,
        resolver: Option<Resolver>,
    ) -> Result<Self, Failure> {
        if exec.is_some_and(|path| path.as_os_str().len() >= PATH_LIMIT) {
            return Err(Failure::hard("exec file name too long"));
        }
        let core = core.unwrap_or(Path::new("/dev/mem"));
        if ["/dev/mem", "/dev/kmem", "/dev/null"]
            .iter()
            .any(|live| core == Path::new(live))
        {
            return Err(Failure::hard(format_args!(
                "{}: the running kernel is not supported: this libkvm opens dumps only",
                core.display()
            )));
        }
        let key = private_key()?;
        let dump =
            AnyDump::open(core, &OpenOptions::new().key(key)).map_err(|error| match error {
                // It names the path.
                error @ Error::Io { .. } => Failure::hard(error),
                error => about(core, &error),
            })?;
        let pair = match exec {
            Some(exec) => {
                let pair = Pair::open(&dump, exec).and_then(Pair::agreed);
                Some(pair.map_err(|error| match error {
                    error @ PairError::Open { .. } => Failure::hard(error),
                    error => about(exec, &error),
                })?)
            }
            None => {
                let found = KernelSearch::new().next_to(core).find(&dump);
                if found.pair.is_none() && (resolver.is_none() || dump.minidump().is_none()) {
                    let rejected = found.rejected;
                    return Err(about(core, &PairError::NotFound { rejected }));
                }
                found.pair
            }
        };
        let memory = pair.as_ref().map_or_else(|| dump.memory(), Pair::memory);
        Ok(Self {
            kernel: pair.map(|pair| pair.kernel()),
            dump,
            memory,
            typed: OnceLock::new(),
            resolver,
        })
    }

    pub(crate) fn dump(&self) -> &AnyDump {
        &self.dump
    }

    pub(crate) fn memory(&self) -> &dyn DumpMemory {
        &*self.memory
    }

    /// The kernel, if the dump has one.
    pub(crate) fn kernel_if_any(&self) -> Option<&Kernel<'static>> {
        self.kernel.as_ref()
    }

    /// The kernel, without type information.
    pub(crate) fn kernel(&self) -> Result<&Kernel<'static>, Failure> {
        let missing = || Failure::hard("the kernel of the dump was not found");
        self.kernel.as_ref().ok_or_else(missing)
    }

    /// The kernel with its type information.
    pub(crate) fn typed(&self) -> Result<&Kernel<'static>, Failure> {
        let kernel = self.kernel()?;
        Ok(self.typed.get_or_init(|| {
            let types = Types::read(kernel.elf(), &STRUCTURES);
            kernel.clone().with_types(Arc::new(types))
        }))
    }

    /// Whether the types of the kernel are those of this host.
    pub(crate) fn is_native(&self) -> bool {
        let machine = match std::env::consts::ARCH {
            "x86_64" => ElfMachine::EM_X86_64,
            "x86" => ElfMachine::EM_386,
            "aarch64" => ElfMachine::EM_AARCH64,
            "arm" => ElfMachine::EM_ARM,
            "riscv64" => ElfMachine::EM_RISCV,
            "powerpc64" => ElfMachine::EM_PPC64,
            "powerpc" => ElfMachine::EM_PPC,
            _ => return false,
        };
        let order = match cfg!(target_endian = "big") {
            true => ByteOrder::Big,
            false => ByteOrder::Little,
        };
        self.dump.arch().machine == machine
            && self.dump.pointer_size() == size_of::<usize>()
            && self.dump.order() == order
    }

    /// Fails for a kernel of another architecture: `what` has types of the host.
    pub(crate) fn native(&self, what: &str) -> Result<(), Failure> {
        match self.is_native() {
            true => Ok(()),
            false => Err(Failure::hard(what)),
        }
    }

    /// Reads memory at `at` up to the first address that cannot be read.
    ///
    /// Returns the number of bytes, and the error that ended it.
    pub(crate) fn read(&self, at: u64, buf: &mut [u8]) -> (usize, Option<Failure>) {
        let (got, result) = self.memory.read_part(Address::Virt(VirtAddr(at)), buf);
        let at = at.wrapping_add(got as u64);
        (got, result.err().map(|why| Failure::address(at, &why)))
    }
}
