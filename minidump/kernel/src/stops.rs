//! Where the registers of threads on CPUs were put: `dumppcb`, `stoppcbs`, `kdb_pcb`.

use crate::error::KernelError;
use crate::kernel::Kernel;
use crate::missing::Missing;
use crate::offsets::Offsets;
use livecore_defs::pcb::{MAXCPU, NOCPU, NOCPU_BYTE, ONCPU_INT_SINCE, STOPPCBS_POINTER_SINCE};
use livecore_minidump::ByteOrder;

/// What says of a thread on a CPU where its registers are.
pub(crate) struct Stops {
    /// The thread that dumped; none if none has, its number 0.
    pub(crate) dumptid: Option<i32>,
    pub(crate) dumppcb: Option<u64>,
    /// The first element of `stoppcbs`.
    pcbs: Option<u64>,
    /// `stopped_cpus`: address and bytes (0 if unknown).
    cpus: Option<(u64, u64)>,
    highest: Option<u32>,
    oncpu: OnCpu,
    debugger: Option<Debugger>,
}

/// The kernel's debugger, which some thread has entered and no dump was begun from.
///
/// FreeBSD `sys/kern/subr_kdb.c`: `kdb_trap` puts the registers that the thread came with into
/// `kdb_pcb`, and ddb shows that thread by them.
#[derive(Debug, Clone, Copy)]
struct Debugger {
    /// `kdb_pcb`
    pcb: u64,
    /// `kdb_thread`: the thread that is looked at, at first the one that came.
    thread: Option<u64>,
}

impl Debugger {
    fn read(kernel: &Kernel<'_>) -> Option<Self> {
        // One byte since 12, an int before.
        let symbol = kernel.elf().symbol("kdb_active")?;
        let len = if symbol.size == 4 { 4 } else { 1 };
        if kernel.variable("kdb_active", len).ok()? == 0 {
            return None;
        }
        // A dump that is being written has its own registers of the thread that writes it.
        if kernel.variable("dumping", 4).is_ok_and(|is| is != 0) {
            return None;
        }
        let thread = kernel.address("kdb_thread");
        let thread = thread.and_then(|at| kernel.pointer_at("kdb_thread", at));
        Some(Self {
            pcb: kernel.address("kdb_pcb").ok()?,
            thread: thread.ok().filter(|at| *at != 0),
        })
    }
}

/// What `td_oncpu` is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum OnCpu {
    /// An `int`.
    Int,
    /// One byte (10.x).
    Byte,
    /// One of both: whichever makes sense.
    Unknown,
}

impl Stops {
    /// With the symbols that are missing, and what could not be read.
    pub(crate) fn read(
        kernel: &Kernel<'_>,
        offsets: &Offsets,
    ) -> (Self, Vec<Missing>, Vec<String>) {
        let (mut missing, mut problems) = (Vec::new(), Vec::new());
        let mut known = |symbol, without| {
            let found = kernel.address(symbol).ok();
            if found.is_none() {
                missing.push(Missing { symbol, without });
            }
            found
        };
        let unknown = "which thread wrote the dump is not known";
        let dumptid = known("dumptid", unknown);
        let dumppcb = known(
            "dumppcb",
            "the registers of the thread that wrote it are not known",
        );
        let unchecked = "CPUs are taken for stopped";
        let cpus = known("stopped_cpus", unchecked).map(|at| {
            let size = kernel.elf().symbol("stopped_cpus").map_or(0, |s| s.size);
            (at, size)
        });
        let stoppcbs = known("stoppcbs", "the registers of other CPUs are not known");
        // A kernel built without `options SMP` has neither, nor another CPU
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
            Some(at) if pointer => {
                read(kernel.pointer_at("stoppcbs", at)).filter(|first| *first != 0)
            }
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

    /// The pcb that has what `cpu` did when it was stopped. Nobody knows whether it was without
    /// `stopped_cpus`; then it is taken for stopped.
    pub(crate) fn pcb(&self, kernel: &Kernel<'_>, size: u64, cpu: u32) -> Option<u64> {
        let first = self.pcbs?;
        if self.highest.is_some_and(|highest| cpu > highest) || !self.is_stopped(kernel, cpu) {
            return None;
        }
        first.checked_add(u64::from(cpu) * size)
    }

    /// The pcb that has what the thread at `at`, which is on `cpu`, did when it entered the kernel's
    /// debugger; `None` if it did not. All other CPUs have been stopped; if one would not stop,
    /// the debugger's own word decides.
    pub(crate) fn debugger_pcb(
        &self,
        kernel: &Kernel<'_>,
        offsets: &Offsets,
        at: u64,
        cpu: u32,
    ) -> Option<u64> {
        // A kernel for one CPU has no way to stop others.
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

    /// The CPU that the thread at `at` is on.
    pub(crate) fn cpu(
        &self,
        kernel: &Kernel<'_>,
        offsets: &Offsets,
        at: u64,
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
            expected: "a CPU's number or NOCPU",
        })
    }
}

impl Kernel<'_> {
    /// The element of `stoppcbs` for `cpu`, whether that was stopped or not; `None` if the array
    /// has none.
    pub fn stoppcb(&self, cpu: u32) -> Option<u64> {
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

    /// The byte of `stopped_cpus` that has the bit of `cpu`, and the bit in it; `None` if the set
    /// has none. Its words are of the kernel's long, in the kernel's order.
    pub fn stopped_cpus_bit(&self, cpu: u32) -> Option<(u64, u8)> {
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
        (skip < size).then(|| (symbol.value.wrapping_add(skip), 1 << (bit % 8)))
    }
}
