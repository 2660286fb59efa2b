//! A guest with a gdb stub as the source of a dump. It stays paused until Livecore has read the last page.
//!
//! Livecore reads kernel variables through the page tables of a CPU that maps the kernel. A CPU that runs a user program
//! may not map it (page-table isolation). Livecore reads physical memory through the kernel's direct map, or by physical
//! address if the stub supports that.

use std::io;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use livecore_defs::amd64;
use livecore_kernel::Kernel;
use livecore_kernel::locate::{LocateError, Machine, port_of};
use livecore_minidump::{
    Address, KernelElf, KernelMemory, PhysAddr, PhysMemory, ReadError, VirtAddr,
};

use super::error::TakeError;
use super::running::{located, same_kernel};
use crate::gdb::{GdbError, Guest};
use crate::image::{BlockCache, CpuState};

/// The size of the cache of pages, in bytes: page tables are read word by word.
const CACHE: u64 = 16 << 20;

/// A guest that its gdb stub has paused.
pub(super) struct Paused(Arc<Mutex<Guest>>);

impl Paused {
    pub(super) fn new(guest: Guest) -> Self {
        Self(Arc::new(Mutex::new(guest)))
    }

    /// The machine, which runs the kernel `elf`, and the registers of its CPUs.
    pub(super) fn machine(&self, elf: &KernelElf) -> Result<(Machine, Vec<CpuState>), TakeError> {
        let port = port_of(elf)?;
        if *port.arch() != amd64::ARCHITECTURE {
            return Err(TakeError::Unsupported {
                what: format!("gdb stub of a guest for {}", port.arch()),
            });
        }
        let memory = Virtual(&self.0);
        self.select(&memory, elf)?;
        let kernel = &Kernel::new(&memory, elf);
        let (located, ranges) = located(kernel)?;
        let reads_physical = lock(&self.0).reads_physical();
        let direct = match reads_physical {
            true => None,
            false => Some(port.space(kernel, &located)?.dmap.start),
        };
        let physical = Physical {
            guest: Arc::clone(&self.0),
            direct,
            ranges,
            pages: BlockCache::new(CACHE, amd64::PAGE_SIZE),
        };
        let cpus = lock(&self.0).registers()?;
        Ok((Machine::at(Arc::new(physical), located, elf)?, cpus))
    }

    /// Selects a CPU that maps the kernel.
    fn select(&self, memory: &Virtual<'_>, elf: &KernelElf) -> Result<(), TakeError> {
        let cpus = lock(&self.0).cpus();
        let count = cpus.len();
        for cpu in cpus {
            lock(&self.0).select(cpu)?;
            match same_kernel(memory, elf) {
                Ok(()) => return Ok(()),
                Err(LocateError::Memory {
                    source: ReadError::Io { source, .. },
                    ..
                }) => return Err(in_io(source)),
                Err(error @ LocateError::NoSymbol { .. }) => return Err(error.into()),
                Err(_) => {}
            }
        }
        Err(TakeError::Locate(LocateError::NoKernel {
            why: format!("none of {count} CPUs maps it"),
            misplaced: false,
        }))
    }

    /// Resumes the guest.
    pub(super) fn end(self) -> Result<Duration, GdbError> {
        lock(&self.0).detach()
    }
}

fn lock(guest: &Mutex<Guest>) -> MutexGuard<'_, Guest> {
    guest.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The error of the stub in an error of a read.
fn in_io(error: io::Error) -> TakeError {
    match error.downcast::<GdbError>() {
        Ok(error) => error.into(),
        Err(source) => GdbError::Io {
            doing: "read memory",
            source,
        }
        .into(),
    }
}

/// Memory by virtual address.
struct Virtual<'a>(&'a Mutex<Guest>);

impl KernelMemory for Virtual<'_> {
    fn page_size(&self) -> u64 {
        amd64::PAGE_SIZE
    }

    fn read_phys(&self, at: PhysAddr, _: &mut [u8]) -> Result<(), ReadError> {
        Err(ReadError::Hole { at })
    }

    fn translate(&self, at: VirtAddr) -> Result<PhysAddr, ReadError> {
        Err(ReadError::NotMapped {
            at,
            why: "the gdb stub does not translate addresses",
        })
    }

    fn read_part(&self, at: Address, buf: &mut [u8]) -> (usize, Result<(), ReadError>) {
        let at = match at {
            Address::Phys(at) => return (0, Err(ReadError::Hole { at })),
            Address::Virt(at) => at,
        };
        match lock(self.0).read(false, at.0, buf) {
            Ok(got) if got == buf.len() => (got, Ok(())),
            Ok(got) => {
                let at = VirtAddr(at.0.saturating_add(got as u64));
                let why = "the gdb stub does not read this address";
                (got, Err(ReadError::NotMapped { at, why }))
            }
            Err(error) => {
                let (at, source) = (PhysAddr(at.0), io::Error::other(error));
                (0, Err(ReadError::Io { at, source }))
            }
        }
    }
}

/// Physical memory. The guest is paused, so cached pages stay valid.
struct Physical {
    guest: Arc<Mutex<Guest>>,
    /// The start of the direct map; `None` if the stub reads by physical address.
    direct: Option<VirtAddr>,
    ranges: Vec<Range<PhysAddr>>,
    /// Pages by their addresses.
    pages: BlockCache,
}

impl Physical {
    fn page(&self, at: PhysAddr) -> io::Result<Vec<u8>> {
        let address = match self.direct {
            Some(direct) => direct.0.checked_add(at.0),
            None => Some(at.0),
        };
        let mut page = vec![0; amd64::PAGE_SIZE as usize];
        let address = address.ok_or(io::ErrorKind::NotFound)?;
        let got = lock(&self.guest)
            .read(self.direct.is_none(), address, &mut page)
            .map_err(io::Error::other)?;
        match got == page.len() {
            true => Ok(page),
            false => Err(io::Error::new(
                io::ErrorKind::NotFound,
                format!("the gdb stub read {got} bytes of the page at {at:#x}"),
            )),
        }
    }
}

impl PhysMemory for Physical {
    fn ranges(&self) -> &[Range<PhysAddr>] {
        &self.ranges
    }

    fn read(&self, at: PhysAddr, buf: &mut [u8]) -> io::Result<()> {
        livecore_minidump::check_ranges(&self.ranges, at, buf.len())?;
        let mut done = 0;
        while done < buf.len() {
            let here = PhysAddr(at.0 + done as u64); // in the ranges
            let base = here.align_down(amd64::PAGE_SIZE);
            let offset = (here.0 - base.0) as usize;
            let len = (buf.len() - done).min(amd64::PAGE_SIZE as usize - offset);
            let page = self.pages.get(base.0, || self.page(base))?;
            buf[done..done + len].copy_from_slice(&page[offset..offset + len]);
            done += len;
        }
        Ok(())
    }
}
