//! The running machine, read from user space: memory through `/dev/mem`, symbols from the kernel's
//! file.
//!
//! Nothing is searched for: `/dev/kmem` translates the kernel's addresses, and only physical
//! addresses in `dump_avail` are read, since reading device registers has side effects.

use std::io;
use std::ops::Range;
use std::sync::Arc;

use livecore_defs::amd64;
use livecore_kernel::Kernel;
use livecore_kernel::locate::{LocateError, Located, Machine, port_of};
use livecore_minidump::mmu::Paging;
use livecore_minidump::{
    Address, Bitmap, KernelElf, KernelMemory, PhysAddr, PhysMemory, ReadError, VirtAddr,
};

use super::error::TakeError;
use super::state::avail::dump_avail;
use super::state::page_dump;
use crate::mem4::{Device, MemDevice, MemError};
use crate::sys::sysctl;

/// The file of the running kernel: `kern.bootfile`.
///
/// # Errors
///
/// The system's error: [`io::ErrorKind::Unsupported`] anywhere but on FreeBSD.
pub fn bootfile() -> io::Result<String> {
    sysctl::string("kern.bootfile")
}

/// The machine of `device`, which runs the kernel `elf`.
///
/// # Errors
///
/// [`TakeError`] if it is not an amd64 kernel, another one runs than `elf`, or its memory cannot be read.
pub fn running(device: Arc<dyn MemDevice>, elf: &KernelElf) -> Result<Machine, TakeError> {
    let arch = port_of(elf)?.arch();
    if *arch != amd64::ARCHITECTURE {
        return Err(TakeError::Unsupported {
            what: format!("--walk on {arch}"),
        });
    }
    check_kernel(&*device, elf)?;
    let kmem = Kmem(&*device);
    let (located, ranges) = located(&Kernel::new(&kmem, elf))?;
    let memory = DevMem {
        device: Arc::clone(&device),
        ranges,
    };
    Ok(Machine::at(Arc::new(memory), located, elf)?)
}

/// The place of an amd64 kernel, and the ranges of its `dump_avail`.
pub(super) fn located(kernel: &Kernel<'_>) -> Result<(Located, Vec<Range<PhysAddr>>), TakeError> {
    let root = kernel.variable("KPML4phys", 8)?;
    let kernphys = match kernel.elf().symbol("kernphys") {
        Some(symbol) if !symbol.absolute && symbol.value >= amd64::KERNSTART.0 => {
            kernel.variable("kernphys", 8)?
        }
        _ => amd64::KERNPHYS_USUAL.0,
    };
    let (avail, _) = dump_avail(kernel, PhysAddr::MAX, &[8], amd64::PAGE_SIZE)?;
    let ranges = avail.ranges().iter().map(|segment| {
        let start = segment.start.0.next_multiple_of(amd64::PAGE_SIZE);
        PhysAddr(start)..segment.end.align_down(amd64::PAGE_SIZE)
    });
    let located = Located {
        kernphys: PhysAddr(kernphys),
        root: PhysAddr(root),
        paging: Paging::Amd64,
    };
    let ranges = ranges.filter(|range| !range.is_empty()).collect();
    Ok((located, ranges))
}

/// Checks that `elf` is the file of the running kernel: the contents of `version` must be equal in the
/// file and in memory.
///
/// # Errors
///
/// [`LocateError::NoKernel`] if they differ, [`LocateError::NoSymbol`] without that symbol.
pub fn check_kernel(device: &dyn MemDevice, elf: &KernelElf) -> Result<(), LocateError> {
    same_kernel(&Kmem(device), elf)
}

/// Checks that `memory` has the `version` of `elf`, as [`check_kernel`] does.
pub(super) fn same_kernel(memory: &dyn KernelMemory, elf: &KernelElf) -> Result<(), LocateError> {
    let symbol = elf.symbol("version").ok_or(LocateError::NoSymbol {
        name: "version".into(),
    })?;
    let len = match symbol.size {
        1..=512 => symbol.size as usize,
        _ => 64,
    };
    let Some(own) = elf
        .bytes_at(VirtAddr(symbol.value), len)
        .filter(|contents| contents.in_file)
    else {
        // A file that has only symbols cannot be compared.
        return Ok(());
    };
    let mut running = vec![0; len];
    Kernel::new(memory, elf).bytes_at("version", VirtAddr(symbol.value), &mut running)?;
    if running == own.bytes {
        return Ok(());
    }
    Err(LocateError::NoKernel {
        why: "the running kernel has another version than the file".into(),
        misplaced: false,
    })
}

/// The pages that the running kernel `elf` has marked for its dumps (`vm_page_dump`): one bit for each
/// page of `dump_avail`.
pub(super) fn marked_pages(device: &dyn MemDevice, elf: &KernelElf) -> Result<Bitmap, TakeError> {
    let kmem = Kmem(device);
    let kernel = &Kernel::new(&kmem, elf);
    let (avail, _) = dump_avail(kernel, PhysAddr::MAX, &[8], kmem.page_size())?;
    page_dump::read(kernel, &avail, kmem.page_size(), false, &mut Vec::new())?.into_bitmap()
}

/// `/dev/kmem` as kernel memory, by virtual address.
struct Kmem<'a>(&'a dyn MemDevice);

fn as_io_error(error: MemError) -> io::Error {
    match error {
        MemError::BadAddress { .. } => io::Error::new(io::ErrorKind::NotFound, error),
        other => io::Error::other(other),
    }
}

impl KernelMemory for Kmem<'_> {
    fn page_size(&self) -> u64 {
        amd64::PAGE_SIZE
    }

    fn read_phys(&self, at: PhysAddr, buf: &mut [u8]) -> Result<(), ReadError> {
        self.0
            .read_exact(Device::Mem, at.0, buf)
            .map_err(|error| ReadError::Io {
                at,
                source: as_io_error(error),
            })
    }

    fn translate(&self, at: VirtAddr) -> Result<PhysAddr, ReadError> {
        Err(ReadError::NotMapped {
            at,
            why: "/dev/kmem does not translate addresses",
        })
    }

    fn read_part(&self, at: Address, buf: &mut [u8]) -> (usize, Result<(), ReadError>) {
        let at = match at {
            Address::Phys(at) => return self.read_phys_part(at, buf),
            Address::Virt(at) => at,
        };
        match self.0.read_exact(Device::Kmem, at.0, buf) {
            Ok(()) => (buf.len(), Ok(())),
            Err(MemError::BadAddress { why, .. }) => (0, Err(ReadError::NotMapped { at, why })),
            Err(other) => {
                let (at, source) = (PhysAddr(at.0), io::Error::other(other));
                (0, Err(ReadError::Io { at, source }))
            }
        }
    }
}

/// `/dev/mem` as physical memory.
struct DevMem {
    device: Arc<dyn MemDevice>,
    ranges: Vec<Range<PhysAddr>>,
}

impl PhysMemory for DevMem {
    fn ranges(&self) -> &[Range<PhysAddr>] {
        &self.ranges
    }

    fn read(&self, at: PhysAddr, buf: &mut [u8]) -> io::Result<()> {
        livecore_minidump::check_ranges(&self.ranges, at, buf.len())?;
        self.device
            .read_exact(Device::Mem, at.0, buf)
            .map_err(as_io_error)
    }
}
