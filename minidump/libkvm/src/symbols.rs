//! Symbols of the kernel, and those of VNET and DPCPU variables (FreeBSD `lib/libkvm/kvm.c`,
//! `kvm_private.c`, `kvm_vnet.c`, `kvm_pcpu.c`, and `lib/libc/gen/nlist.c`).

use std::ffi::{CStr, CString, c_uchar};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use livecore_minidump::KernelElf;
use livecore_minidump::elf::sections::{SHF_ALLOC, SHF_WRITE};

use crate::abi::{N_ABS, N_BSS, N_DATA, N_EXT, N_TEXT, N_UNDF};
use crate::cpus::{self, pointers};
use crate::failure::Failure;
use crate::opened::Opened;

/// `sh_type` of contents in the file.
const SHT_PROGBITS: u32 = 1;
/// `sh_type` of contents that are not in the file.
const SHT_NOBITS: u32 = 8;
/// `vnet_magic_n` (`VNET_MAGIC_N` in FreeBSD `sys/net/vnet.h`).
const VNET_MAGIC: u64 = 0x5e4a_6f28;

/// A symbol.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Found {
    /// `n_type`
    pub(crate) kind: c_uchar,
    /// `n_value`
    pub(crate) value: u64,
}

/// The variables of the first virtual network stack.
#[derive(Debug, Clone, Copy)]
struct Vnet {
    start: u64,
    stop: u64,
    /// `vnet_data_base`: the difference of the addresses of a variable and of its symbol.
    base: u64,
}

/// The per-CPU variables.
#[derive(Debug, Clone)]
struct Dpcpu {
    start: u64,
    stop: u64,
    /// `dpcpu_off`: the same difference, for each CPU.
    offsets: Vec<u64>,
    current: u64,
}

/// What is known of VNET and DPCPU variables, and the selected CPU.
#[derive(Default)]
pub(crate) struct Symbols {
    vnet: OnceLock<Option<Vnet>>,
    dpcpu: Mutex<Option<Dpcpu>>,
}

/// Locks, even if a thread has panicked: every value is complete when it is stored.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Symbols {
    /// Looks up symbols. A leading `_` of a name is optional. VNET variables have their address in the
    /// first network stack, DPCPU variables their address on the selected CPU.
    pub(crate) fn find(&self, opened: &Opened, names: &[CString]) -> Vec<Option<Found>> {
        let find = |name: &CString| {
            lookup(opened, name)
                .or_else(|| {
                    let vnet = self.vnet(opened)?;
                    let symbol = prefixed(opened, "vnet_entry_", name)?;
                    Some(moved(symbol, vnet.start..vnet.stop, vnet.base))
                })
                .or_else(|| {
                    let dpcpu = self.dpcpu(opened).ok()?;
                    let symbol = prefixed(opened, "pcpu_entry_", name)?;
                    Some(moved(symbol, dpcpu.start..dpcpu.stop, dpcpu.current))
                })
        };
        names.iter().map(find).collect()
    }

    /// Selects the CPU of DPCPU variables.
    pub(crate) fn set_cpu(&self, opened: &Opened, cpu: u32) -> Result<(), Failure> {
        let error = |why: &str| Failure::hard(format_args!("kvm_dpcpu_setcpu: {why}"));
        let dpcpu = self.dpcpu(opened);
        let mut dpcpu = dpcpu.map_err(|why| error(&format!("init failed: {why}")))?;
        dpcpu.current = match dpcpu.offsets.get(cpu as usize) {
            None => return Err(error(&format!("CPU {cpu} too big"))),
            Some(0) => return Err(error(&format!("CPU {cpu} not found"))),
            Some(offset) => *offset,
        };
        *lock(&self.dpcpu) = Some(dpcpu);
        Ok(())
    }

    fn vnet(&self, opened: &Opened) -> Option<&Vnet> {
        self.vnet.get_or_init(|| read_vnet(opened)).as_ref()
    }

    /// The per-CPU variables; those of CPU 0 at first.
    fn dpcpu(&self, opened: &Opened) -> Result<Dpcpu, Failure> {
        if let Some(dpcpu) = &*lock(&self.dpcpu) {
            return Ok(dpcpu.clone());
        }
        let dpcpu = read_dpcpu(opened)?;
        Ok(lock(&self.dpcpu).get_or_insert(dpcpu).clone())
    }
}

/// Moves a symbol in a set of variables to the address of the variable.
fn moved(symbol: Found, set: std::ops::Range<u64>, base: u64) -> Found {
    match set.contains(&symbol.value) {
        true => Found {
            value: symbol.value.wrapping_add(base),
            ..symbol
        },
        false => symbol,
    }
}

/// Looks up `name`, without its leading `_`, after `prefix`.
fn prefixed(opened: &Opened, prefix: &str, name: &CStr) -> Option<Found> {
    let name = name.to_bytes();
    let name = name.strip_prefix(b"_").unwrap_or(name);
    let name = CString::new([prefix.as_bytes(), name].concat()).ok()?;
    lookup(opened, &name)
}

/// Looks up a symbol with the program's resolver or in the kernel file.
fn lookup(opened: &Opened, name: &CStr) -> Option<Found> {
    if let Some(resolver) = &opened.resolver {
        let value = resolver(name)?;
        return Some(Found {
            kind: N_DATA | N_EXT,
            value,
        });
    }
    let elf = opened.kernel_if_any()?.elf();
    let name = name.to_str().ok()?;
    let short = name.strip_prefix('_').and_then(|name| elf.symbol(name));
    let symbol = short.or_else(|| elf.symbol(name))?;
    let kind = match symbol.absolute {
        true => N_ABS,
        false => section_kind(elf, symbol.value),
    };
    let global = if symbol.global { N_EXT } else { 0 };
    Some(Found {
        kind: kind | global,
        value: symbol.value,
    })
}

/// `n_type` of an address in the kernel file, by its section. The end of a section belongs to it, if no
/// other starts there.
fn section_kind(elf: &KernelElf, at: u64) -> c_uchar {
    let loaded = || elf.sections().iter().filter(|s| s.flags & SHF_ALLOC != 0);
    let inside = loaded().find(|s| s.address <= at && at - s.address < s.size);
    let section = inside.or_else(|| loaded().find(|s| s.address.wrapping_add(s.size) == at));
    match section {
        Some(section) if section.kind == SHT_PROGBITS => match section.flags & SHF_WRITE {
            0 => N_TEXT,
            _ => N_DATA,
        },
        Some(section) if section.kind == SHT_NOBITS => N_BSS,
        Some(_) => N_UNDF,
        // A file without sections.
        None => N_DATA,
    }
}

/// The value of a symbol of the kernel, through the resolver if there is one.
fn value(opened: &Opened, name: &str) -> Option<u64> {
    Some(lookup(opened, &CString::new(name).ok()?)?.value)
}

/// Reads the first network stack, which `vnet0` points to. The members of `struct vnet` before
/// `vnet_data_base` have been the same since 10.0: two pointers, four integers and a pointer.
fn read_vnet(opened: &Opened) -> Option<Vnet> {
    let kernel = opened.kernel_if_any()?;
    let word = kernel.elf().pointer_size() as u64;
    let vnet = kernel.pointer("vnet0").ok()?;
    let magic = kernel.uint_at("vnet_magic_n", vnet.wrapping_add(2 * word), 4);
    if magic.ok()? != VNET_MAGIC {
        return None;
    }
    let base = vnet.wrapping_add(2 * word + 4 * 4 + word);
    Some(Vnet {
        start: value(opened, "__start_set_vnet")?,
        stop: value(opened, "__stop_set_vnet")?,
        base: kernel.long_at("vnet_data_base", base).ok()?,
    })
}

fn read_dpcpu(opened: &Opened) -> Result<Dpcpu, Failure> {
    let kernel = opened.kernel()?;
    let symbol = |name: &str| {
        let missing = || Failure::hard(format_args!("no symbol {name}"));
        value(opened, name).ok_or_else(missing)
    };
    let offsets = pointers(kernel, "dpcpu_off", cpus::max(kernel)?)?;
    Ok(Dpcpu {
        start: symbol("__start_set_pcpu")?,
        stop: symbol("__stop_set_pcpu")?,
        current: offsets.first().copied().unwrap_or(0),
        offsets,
    })
}
