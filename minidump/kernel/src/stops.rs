//! The saved registers of threads on CPUs: `dumppcb`, `stoppcbs`, `kdb_pcb`.

use crate::error::KernelError;
use crate::kernel::Kernel;
use crate::missing::Missing;
use crate::offsets::Offsets;
use livecore_defs::pcb::{MAXCPU, NOCPU, NOCPU_BYTE, ONCPU_INT_SINCE, STOPPCBS_POINTER_SINCE};
use livecore_minidump::{ByteOrder, VirtAddr};

/// The variables that locate the registers of threads on CPUs.
pub(crate) struct Stops {
    /// The thread that wrote the dump; `None` if the variable is 0.
    pub(crate) dumptid: Option<i32>,
    pub(crate) dumppcb: Option<VirtAddr>,
    /// Whether the machine was running: a live dump, or an image of a running guest.
    pub(crate) running: bool,
    /// The first element of `stoppcbs`.
    pcbs: Option<VirtAddr>,
    /// `stopped_cpus`: its address and size in bytes (0 if unknown).
    cpus: Option<(VirtAddr, u64)>,
    highest: Option<u32>,
    oncpu: OnCpu,
    debugger: Option<Debugger>,
}

/// The kernel debugger, if a thread has entered it and has not started a dump from it.
///
/// FreeBSD `sys/kern/subr_kdb.c`: `kdb_trap` saves the registers of the thread in `kdb_pcb`, and ddb
/// shows the thread with them.
#[derive(Debug, Clone, Copy)]
struct Debugger {
    /// `kdb_pcb`
    pcb: VirtAddr,
    /// `kdb_thread`: the thread that the debugger shows, initially the one that entered it.
    thread: Option<VirtAddr>,
}

/// Whether a thread is in the kernel debugger (`kdb_active`). `None` if that is not known.
fn is_in_debugger(kernel: &Kernel<'_>) -> Option<bool> {
    // One byte since 12, an int before.
    let symbol = kernel.elf().symbol("kdb_active")?;
    let len = if symbol.size == 4 { 4 } else { 1 };
    Some(kernel.variable("kdb_active", len).ok()? != 0)
}

/// Whether the kernel writes a dump of a machine that it has stopped (`dumping`). `None` if that is
/// not known.
fn is_dumping(kernel: &Kernel<'_>) -> Option<bool> {
    Some(kernel.variable("dumping", 4).ok()? != 0)
}

/// Whether the machine is known to be running.
///
/// FreeBSD `sys/kern/kern_shutdown.c`: `doadump` sets `dumping`, and `vpanic` sets `panicstr`. A live
/// dump sets `dumptid` and `dumppcb` only (`sys/kern/kern_vnodedumper.c`).
fn is_running(kernel: &Kernel<'_>) -> bool {
    is_dumping(kernel) == Some(false)
        && is_in_debugger(kernel) != Some(true)
        && matches!(kernel.pointer("panicstr"), Ok(VirtAddr(0)))
}

impl Debugger {
    fn read(kernel: &Kernel<'_>) -> Option<Self> {
        // During a dump, `dumppcb` has the registers of the thread that writes it.
        if is_in_debugger(kernel) != Some(true) || is_dumping(kernel) == Some(true) {
            return None;
        }
        let thread = kernel.address("kdb_thread");
        let thread = thread.and_then(|at| kernel.pointer_at("kdb_thread", at));
        Some(Self {
            pcb: kernel.address("kdb_pcb").ok()?,
            thread: thread.ok().filter(|at| *at != VirtAddr(0)),
        })
    }
}

/// The type of `td_oncpu`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum OnCpu {
    /// An `int`.
    Int,
    /// One byte (10.x).
    Byte,
    /// Either one: the value decides.
    Unknown,
}

impl Stops {
    /// Reads the variables. Also returns the missing symbols and messages about read errors.
    pub(crate) fn read(
        kernel: &Kernel<'_>,
        offsets: &Offsets,
    ) -> (Self, Vec<Missing>, Vec<String>) {
        let (mut missing, mut problems) = (Vec::new(), Vec::new());
        let mut find = |symbol, consequence| {
            let found = kernel.address(symbol).ok();
            if found.is_none() {
                missing.push(Missing {
                    symbol,
                    alternative: None,
                    consequence,
                });
            }
            found
        };
        let dumptid = find("dumptid", "thread that wrote the dump unknown");
        let dumppcb = find(
            "dumppcb",
            "registers of the thread that wrote the dump unknown",
        );
        let cpus = find("stopped_cpus", "assuming all CPUs were stopped").map(|at| {
            let size = kernel.elf().symbol("stopped_cpus").map_or(0, |s| s.size);
            (at, size)
        });
        let stoppcbs = find("stoppcbs", "registers of threads on other CPUs unknown");
        // A kernel without `options SMP` has neither symbol and only one CPU
        // (`sys/kern/subr_smp.c`).
        if cpus.is_none() && stoppcbs.is_none() && matches!(kernel.variable("mp_ncpus", 4), Ok(1)) {
            missing.retain(|m| !["stopped_cpus", "stoppcbs"].contains(&m.symbol));
        }
        let mut read = |result: Result<u64, KernelError>| match result {
            Ok(value) => Some(value),
            Err(error) => {
                problems.push(error.to_string());
                None
            }
        };
        let dumptid = dumptid.and_then(|at| read(kernel.uint_at("dumptid", at, 4)));
        let dumptid = dumptid.map(|tid| tid as i32); // 4 bytes were read
        let size = kernel.elf().symbol("stoppcbs").map_or(0, |s| s.size);
        let version = kernel.osreldate();
        let pointer = match size {
            0 => version.is_some_and(|version| version >= STOPPCBS_POINTER_SINCE),
            size => size == kernel.elf().pointer_size() as u64,
        };
        let pcbs = match stoppcbs {
            Some(at) if pointer => read(kernel.pointer_at("stoppcbs", at).map(|at| at.0))
                .filter(|first| *first != 0)
                .map(VirtAddr),
            other => other,
        };
        let oncpu = match version {
            _ if !offsets.oncpu.is_multiple_of(4) => OnCpu::Byte,
            Some(version) if version >= ONCPU_INT_SINCE => OnCpu::Int,
            Some(_) => OnCpu::Byte,
            None => OnCpu::Unknown,
        };
        let stops = Self {
            dumptid: dumptid.filter(|tid| *tid != 0),
            dumppcb,
            running: is_running(kernel),
            pcbs,
            cpus,
            highest: kernel
                .variable("mp_maxid", 4)
                .ok()
                .and_then(|id| u32::try_from(id).ok())
                .filter(|id| *id < MAXCPU),
            oncpu,
            debugger: Debugger::read(kernel),
        };
        (stops, missing, problems)
    }

    /// Returns the pcb with the registers of `cpu` when it was stopped, or `None` if it was not.
    /// Without `stopped_cpus`, every CPU is assumed to be stopped.
    pub(crate) fn pcb(&self, kernel: &Kernel<'_>, size: u64, cpu: u32) -> Option<VirtAddr> {
        let first = self.pcbs?;
        if self.highest.is_some_and(|highest| cpu > highest) || !self.is_stopped(kernel, cpu) {
            return None;
        }
        first.checked_add(u64::from(cpu) * size)
    }

    /// Returns the pcb with the registers of the thread at `at`, on `cpu`, when it entered the
    /// kernel debugger, or `None` if it did not. The debugger stops all other CPUs. If one did not
    /// stop, `kdb_thread` decides.
    pub(crate) fn debugger_pcb(
        &self,
        kernel: &Kernel<'_>,
        offsets: &Offsets,
        at: VirtAddr,
        cpu: u32,
    ) -> Option<VirtAddr> {
        // A kernel for one CPU has neither symbol.
        let runs = |cpu: u32| match self.cpus {
            Some(_) => !self.is_stopped(kernel, cpu),
            None => self.pcbs.is_none(),
        };
        let debugger = self.debugger.filter(|_| runs(cpu))?;
        let own = debugger.thread.is_none_or(|thread| {
            let on = self.cpu(kernel, offsets, thread).ok().flatten();
            thread == at || !on.is_some_and(&runs)
        });
        own.then_some(debugger.pcb)
    }

    fn is_stopped(&self, kernel: &Kernel<'_>, cpu: u32) -> bool {
        let Some((at, size)) = self.cpus else {
            return true;
        };
        let long = kernel.elf().pointer_size();
        let bits = long as u32 * 8;
        let skip = u64::from(cpu / bits) * long as u64;
        if size != 0 && skip >= size {
            return false;
        }
        kernel
            .uint_at("stopped_cpus", at.wrapping_add(skip), long)
            .is_ok_and(|word| word >> (cpu % bits) & 1 == 1)
    }

    /// Returns the CPU of the thread at `at`, or `None` if it is not on a CPU.
    pub(crate) fn cpu(
        &self,
        kernel: &Kernel<'_>,
        offsets: &Offsets,
        at: VirtAddr,
    ) -> Result<Option<u32>, KernelError> {
        let here = at.wrapping_add(offsets.oncpu);
        let byte = || {
            let byte = kernel.uint_at("td_oncpu", here, 1)?;
            Ok((byte != u64::from(NOCPU_BYTE)).then_some(byte as u32))
        };
        if self.oncpu == OnCpu::Byte {
            return byte();
        }
        let value = kernel.uint_at("td_oncpu", here, 4)? as u32; // 4 bytes were read
        if i64::from(value as i32) == NOCPU {
            return Ok(None);
        }
        if value < MAXCPU {
            return Ok(Some(value));
        }
        if self.oncpu == OnCpu::Unknown {
            return byte();
        }
        Err(KernelError::Implausible {
            what: format!("td_oncpu of the thread at {at:#x}"),
            found: u64::from(value),
            expected: "a CPU number or NOCPU",
        })
    }
}

impl Kernel<'_> {
    /// Returns the address of the element of `stoppcbs` for `cpu`, whether it was stopped or not.
    /// Returns `None` if the array has no such element.
    pub fn stoppcb(&self, cpu: u32) -> Option<VirtAddr> {
        let offsets = Offsets::read(self).ok()?;
        let (stops, ..) = Stops::read(self, &offsets);
        if cpu > stops.highest.unwrap_or(MAXCPU - 1) {
            return None;
        }
        let skip = u64::from(cpu) * offsets.pcb_size;
        let size = self.elf().symbol("stoppcbs").map_or(0, |s| s.size);
        let is_array = size > self.elf().pointer_size() as u64;
        if is_array && skip + offsets.pcb_size > size {
            return None;
        }
        stops.pcbs?.checked_add(skip)
    }

    /// Returns the address of the byte of `stopped_cpus` that has the bit of `cpu`, and the mask of
    /// that bit. Returns `None` if the set has no such bit. The set is an array of `long` in the
    /// kernel's byte order.
    pub fn stopped_cpus_bit(&self, cpu: u32) -> Option<(VirtAddr, u8)> {
        let symbol = self.elf().symbol("stopped_cpus")?;
        let long = self.elf().pointer_size() as u64;
        let (word, bit) = (u64::from(cpu) / (8 * long), u64::from(cpu) % (8 * long));
        let byte = match self.elf().order() {
            ByteOrder::Little => bit / 8,
            ByteOrder::Big => long - 1 - bit / 8,
        };
        let skip = word * long + byte;
        let size = match symbol.size {
            0 => long,
            size => size,
        };
        (skip < size).then(|| (VirtAddr(symbol.value).wrapping_add(skip), 1 << (bit % 8)))
    }
}
