//! mem(4) of an emulated machine, with the rules of amd64's driver.
//!
//! Memory exists in `PhysMemory::ranges` and nowhere else. An address without memory is an error,
//! whereas the bus of a PC returns bytes of ones.
//!
//! The kernel is searched for only when an operation needs it. Physical addresses and memory ranges
//! work on a machine whose kernel is unknown or not for amd64.

mod domains;
mod dump;
mod kernel_stream;
mod mtrr;
mod process;
mod state;
mod user_map;

use livecore_minidump::PhysAddr;
use std::io;
use std::path::Path;
use std::sync::{Arc, OnceLock};

use livecore_defs::amd64::PAGE_SIZE;
use livecore_minidump::{Architecture, KernelElf, KernelMemory, VirtAddr};

pub use mtrr::Mtrr;
pub use process::Process;
pub use state::{DumpLock, State};

use crate::image;
use crate::mem4::range::MemRange;
use crate::mem4::{Access, Device, DumpRequest, Extracted, MemDevice, MemError};
use crate::sys::memrange::MeState;
use crate::take::{self, PlanOptions};
use livecore_kernel::locate::Machine;
use livecore_minidump::PhysMemory;
use livecore_minidump::PhysMemoryMut;

/// The credentials of the caller on the emulated system.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Credentials {
    /// PRIV_KMEM_READ: granted to all users, unless a MAC policy denies it.
    pub kmem_read: bool,
    /// PRIV_KMEM_WRITE: granted to root.
    pub kmem_write: bool,
    /// `kern.securelevel`: above 0 the devices cannot be opened for writing.
    pub securelevel: i32,
}

impl Default for Credentials {
    /// Root at securelevel -1.
    fn default() -> Self {
        Self {
            kmem_read: true,
            kmem_write: true,
            securelevel: -1,
        }
    }
}

/// The features of the processor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Processor {
    /// Bits of a physical address.
    pub maxphyaddr: u32,
    /// Variable memory ranges; `None` if it has no memory ranges.
    pub variable_ranges: Option<usize>,
}

impl Default for Processor {
    /// A current PC.
    fn default() -> Self {
        Self {
            maxphyaddr: 46,
            variable_ranges: Some(8),
        }
    }
}

impl Processor {
    /// The processor of the kernel `elf`, or a current PC. Only the x86 driver supports memory
    /// ranges.
    fn of(elf: Option<&KernelElf>) -> Self {
        let mut processor = Self::default();
        let row = elf.map(|elf| Architecture::of_machine(elf.machine()));
        if row.is_some_and(|row| row.is_none_or(|row| !row.memory_ranges)) {
            processor.variable_ranges = None;
        }
        processor
    }
}

/// Implements MEM_EXTRACT_PADDR for the address space of one process.
pub trait AddressSpace: Send + Sync {
    /// Translates `vaddr`.
    ///
    /// # Errors
    ///
    /// [`MemError`] if the address space cannot be read.
    fn extract(&self, vaddr: VirtAddr) -> Result<Extracted, MemError>;

    /// Whether the states of addresses are those of the process's map, and not guessed from its page
    /// tables.
    fn has_map(&self) -> bool;
}

/// The two devices of an emulated machine.
pub struct Emulated {
    memory: Arc<dyn PhysMemory>,
    writable: Option<Arc<dyn PhysMemoryMut>>,
    elf: Option<Arc<KernelElf>>,
    machine: OnceLock<Machine>,
    processor: Processor,
    state: State,
    access: Access,
    credentials: Credentials,
    process: Option<Arc<dyn AddressSpace>>,
}

/// The parts of an emulated machine.
pub struct Parts {
    /// The memory.
    pub memory: Arc<dyn PhysMemory>,
    /// The same memory, if it may be written.
    pub writable: Option<Arc<dyn PhysMemoryMut>>,
    /// The kernel that runs on it, if known. Kernel addresses, processes and dumps need it.
    pub elf: Option<Arc<KernelElf>>,
    /// The saved state.
    pub state: State,
    /// The processor.
    pub processor: Processor,
    /// The process whose addresses [`MemDevice::extract_paddr`] translates. Without one, all
    /// addresses are invalid.
    pub process: Option<Arc<dyn AddressSpace>>,
}

impl Parts {
    /// A machine with the memory of an image. Its state is kept next to the image if the image was
    /// written by `synth --out`. `writable` is whether the image was opened for writing.
    pub fn of_image(
        opened: image::layout::Opened,
        elf: Option<Arc<KernelElf>>,
        writable: bool,
    ) -> Self {
        let image = Arc::new(opened.image);
        Self {
            memory: image.clone(),
            writable: writable.then_some(image),
            processor: Processor::of(elf.as_deref()),
            elf,
            // Keep ranges only where `synth --out` wrote the machine, not next to any file.
            state: match opened.kernel {
                Some(_) => State::next_to(&opened.ram),
                None => State::lock_only(&opened.ram),
            },
            process: None,
        }
    }

    /// A machine with the memory of an image in any format, which is read-only. Its state is kept
    /// next to the image if the image was written by `synth --out`.
    pub fn of_any_image(image: image::Image, elf: Option<Arc<KernelElf>>) -> Self {
        Self {
            memory: image.memory,
            writable: None,
            processor: Processor::of(elf.as_deref()),
            elf,
            state: match image.kernel {
                Some(_) => State::next_to(&image.ram),
                None => State::lock_only(&image.ram),
            },
            process: None,
        }
    }

    /// A machine built from the description `description`. It keeps no state and is read-only, but
    /// only one dump of it can run at a time.
    pub fn of_description(
        memory: Arc<dyn PhysMemory>,
        elf: Option<Arc<KernelElf>>,
        description: impl AsRef<Path>,
    ) -> Self {
        let description = description.as_ref();
        Self {
            memory,
            writable: None,
            processor: Processor::of(elf.as_deref()),
            elf,
            state: State::lock_only(description),
            process: None,
        }
    }
}

impl Emulated {
    /// Opens the devices, with the driver's permission checks.
    ///
    /// # Errors
    ///
    /// [`MemError::NotPermitted`] without the credentials that the driver wants,
    /// [`MemError::Unchangeable`] if the memory was not opened for writing.
    pub fn open(parts: Parts, access: Access, credentials: Credentials) -> Result<Self, MemError> {
        if access.read && !credentials.kmem_read {
            return Err(MemError::NotPermitted {
                why: "PRIV_KMEM_READ is denied",
            });
        }
        if access.write && !credentials.kmem_write {
            return Err(MemError::NotPermitted {
                why: "only root may open the device for writing",
            });
        }
        if access.write && credentials.securelevel > 0 {
            return Err(MemError::NotPermitted {
                why: "kern.securelevel is above 0",
            });
        }
        if access.write && parts.writable.is_none() {
            return Err(MemError::Unchangeable {
                why: "the memory is read-only",
            });
        }
        Ok(Self {
            memory: parts.memory,
            writable: parts.writable,
            elf: parts.elf,
            machine: OnceLock::new(),
            processor: parts.processor,
            state: parts.state,
            access,
            credentials,
            process: parts.process,
        })
    }

    /// Translates addresses of `process` in [`MemDevice::extract_paddr`].
    #[must_use]
    pub fn in_process(mut self, process: Arc<dyn AddressSpace>) -> Self {
        self.process = Some(process);
        self
    }

    /// Translates addresses of the machine's process `pid` in [`MemDevice::extract_paddr`].
    ///
    /// # Errors
    ///
    /// [`MemError`] if the machine has no such process, or its list of processes cannot be read.
    pub fn in_process_of(self, pid: u32) -> Result<Self, MemError> {
        let elf = self.elf("processes")?;
        let process = Process::find(self.machine()?, elf, pid)?;
        Ok(self.in_process(Arc::new(process)))
    }

    /// Whether [`MemDevice::extract_paddr`] knows which addresses the process has mapped.
    pub fn has_map(&self) -> bool {
        self.process
            .as_ref()
            .is_none_or(|process| process.has_map())
    }

    /// The machine with its kernel located, which the first call does.
    ///
    /// # Errors
    ///
    /// [`MemError`] if the machine's kernel was not found.
    pub fn machine(&self) -> Result<&Machine, MemError> {
        if let Some(machine) = self.machine.get() {
            return Ok(machine);
        }
        let elf = self.elf("kernel addresses")?;
        let machine = Machine::find(self.memory.clone(), elf).map_err(|e| MemError::Io {
            doing: "locate the kernel",
            source: io::Error::other(e),
        })?;
        Ok(self.machine.get_or_init(|| machine))
    }

    fn elf(&self, what: &'static str) -> Result<&KernelElf, MemError> {
        self.elf.as_deref().ok_or(MemError::NoKernelFile { what })
    }

    /// Transfers `len` bytes from `offset` in pieces within a page. `piece` gets a physical address
    /// and the position of its bytes. Stops at the first error, which is returned only if nothing
    /// was transferred.
    fn pieces(
        &self,
        device: Device,
        offset: u64,
        len: usize,
        piece: &mut dyn FnMut(u64, usize, usize) -> Result<(), MemError>,
    ) -> Result<usize, MemError> {
        let mut done = 0;
        while done < len {
            // Kernel addresses have the top bit set, so an offset may wrap.
            let at = offset.wrapping_add(done as u64);
            let n = ((PAGE_SIZE - at % PAGE_SIZE) as usize).min(len - done);
            let moved = self
                .physical(device, at)
                .and_then(|physical| piece(physical, done, n));
            match moved {
                Ok(()) => done += n,
                Err(error) if done == 0 => return Err(error),
                Err(_) => break,
            }
        }
        Ok(done)
    }

    /// The physical address of an access, as the driver computes it.
    fn physical(&self, device: Device, at: u64) -> Result<u64, MemError> {
        let bad = |why| Err(MemError::BadAddress { at, why });
        match device {
            Device::Mem if at >> self.processor.maxphyaddr.min(63) != 0 => {
                bad("address is beyond the processor's physical address space")
            }
            Device::Mem => Ok(at),
            Device::Kmem => {
                let machine = self.machine()?;
                if machine.dmap.contains(&VirtAddr(at)) {
                    return match machine.direct(VirtAddr(at)) {
                        Some(physical) if machine.phys_in_dmap.contains(&physical) => {
                            Ok(physical.0)
                        }
                        _ => bad("address is beyond the direct map"),
                    };
                }
                match machine.view.translate(VirtAddr(at)) {
                    // The driver takes 0 from pmap_extract() for a failure.
                    Ok(PhysAddr(0)) => bad("address is mapped to physical address 0"),
                    Ok(physical) => Ok(physical.0),
                    Err(_) => bad("address is not in the kernel map"),
                }
            }
        }
    }

    fn firmware(&self, variable: usize) -> Mtrr {
        let low = self
            .memory
            .ranges()
            .iter()
            .map(|range| range.end.0)
            .take_while(|end| *end < 1 << 32)
            .last()
            .unwrap_or(1 << 32);
        Mtrr::firmware(PhysAddr(low), variable, self.processor.maxphyaddr)
    }

    fn variable_ranges(&self) -> Result<usize, MemError> {
        match self.processor.variable_ranges {
            None => Err(MemError::NoRangeDriver),
            Some(0) => Err(MemError::NoRanges),
            Some(count) => Ok(count),
        }
    }
}

fn bus(at: u64, error: io::Error) -> MemError {
    if error.kind() == io::ErrorKind::NotFound {
        MemError::BadAddress {
            at,
            why: "no memory at this address",
        }
    } else {
        MemError::Io {
            doing: "access memory",
            source: error,
        }
    }
}

impl MemDevice for Emulated {
    fn read(&self, device: Device, offset: u64, buf: &mut [u8]) -> Result<usize, MemError> {
        if !self.access.read {
            return Err(MemError::NotOpenedFor { what: "reading" });
        }
        self.pieces(device, offset, buf.len(), &mut |at, done, n| {
            self.memory
                .read(PhysAddr(at), &mut buf[done..done + n])
                .map_err(|e| bus(at, e))
        })
    }

    fn write(&self, device: Device, offset: u64, bytes: &[u8]) -> Result<usize, MemError> {
        let Some(memory) = self.writable.as_ref().filter(|_| self.access.write) else {
            return Err(MemError::NotOpenedFor { what: "writing" });
        };
        self.pieces(device, offset, bytes.len(), &mut |at, done, n| {
            memory
                .write(PhysAddr(at), &bytes[done..done + n])
                .map_err(|e| bus(at, e))
        })
    }

    fn extract_paddr(&self, vaddr: VirtAddr) -> Result<Extracted, MemError> {
        match &self.process {
            Some(process) => process.extract(vaddr),
            None => Ok(Extracted::unmapped(MeState::Invalid)),
        }
    }

    fn ranges(&self) -> Result<Vec<MemRange>, MemError> {
        let variable = self.variable_ranges()?;
        let table = match self.state.ranges()? {
            Some(table) => table,
            None => self.firmware(variable),
        };
        Ok(table.ranges().to_vec())
    }

    fn set_range(&self, range: &MemRange, operation: i32) -> Result<(), MemError> {
        let variable = self.variable_ranges()?;
        self.state.change(
            || self.firmware(variable),
            |table| {
                table.set(range, operation)?;
                table.reread(self.processor.maxphyaddr);
                Ok(())
            },
        )
    }

    fn kernel_dump(&self, request: &DumpRequest) -> Result<(), MemError> {
        // The kernel's order: EOPNOTSUPP (never, since amd64 tracks its pages), the privilege, the
        // rest.
        if !self.credentials.kmem_read {
            return Err(MemError::NotPermitted {
                why: "PRIV_KMEM_READ is denied",
            });
        }
        let (target, codec) = dump::check(request)?;
        let _only_one = self.state.lock_dump()?;
        let elf = self.elf("dumps")?;
        let taken = take::plan(self.memory.clone(), elf, &PlanOptions::default());
        let taken = taken.map_err(|e| MemError::Io {
            doing: "plan the dump",
            source: io::Error::other(e),
        })?;
        dump::write(&taken, codec, &target)
    }
}
