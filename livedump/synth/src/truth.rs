//! The contents of a machine as the builder made it, for tests to compare with.

use std::collections::BTreeMap;
use std::ops::Range;

use livecore_minidump::{PhysAddr, VirtAddr};

use super::architecture::Architecture;
use super::description::{Doing, LockClass};
use super::layout::Release;

/// The access that a mapping allows. Reading is always allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Prot {
    /// Writing.
    pub write: bool,
    /// Execution.
    pub execute: bool,
}

impl Prot {
    /// Data.
    pub const RW: Self = Self {
        write: true,
        execute: false,
    };
    /// Code.
    pub const RX: Self = Self {
        write: false,
        execute: true,
    };
    /// Code and data, as in a kernel's identity map of low memory.
    pub const RWX: Self = Self {
        write: true,
        execute: true,
    };
    /// Constants.
    pub const R: Self = Self {
        write: false,
        execute: false,
    };
}

/// A range of virtual addresses mapped to a range of physical ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mapping {
    /// First virtual address.
    pub va: VirtAddr,
    /// First physical address.
    pub pa: PhysAddr,
    /// Bytes.
    pub len: u64,
    /// Bytes per leaf.
    pub leaf: u64,
    /// The allowed access.
    pub prot: Prot,
}

/// Why a page is in the dump: the first reason that applies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Why {
    /// A leaf of the kernel map maps it.
    Mapped,
    /// It is a page table of the kernel map and part of a dump.
    PageTable,
    /// Its bit is set in `vm_page_dump`.
    Bit,
}

/// A range of pages that a dump of the machine contains.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Dumped {
    /// First physical address.
    pub pa: PhysAddr,
    /// Bytes.
    pub len: u64,
    /// Why.
    pub why: Why,
}

/// A symbol of the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Symbol {
    /// `st_value`.
    pub value: u64,
    /// `st_size`.
    pub size: u64,
    /// Whether it is SHN_ABS.
    pub absolute: bool,
}

/// One frame of a call chain, innermost first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// The program counter: the context's, then return addresses.
    pub pc: VirtAddr,
    /// The frame pointer while `pc` runs.
    pub fp: VirtAddr,
    /// The function that contains `pc`.
    pub function: String,
    /// `pc` minus the function's address.
    pub offset: u64,
    /// Address of the trap frame that leads from this frame (a trap entry) to the next one.
    pub trap: Option<VirtAddr>,
}

/// The location of a thread's registers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Context {
    /// In `dumppcb`.
    Dump,
    /// In `kdb_pcb`.
    Debugger,
    /// In the element of `stoppcbs` of this CPU.
    Stopped(u32),
    /// In the thread's own pcb, saved when it was switched away from.
    Saved,
    /// On a running CPU: memory has no valid copy.
    Running(u32),
}

/// A thread.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Thread {
    /// Virtual address of the `struct thread`.
    pub va: VirtAddr,
    /// `p_pid`.
    pub pid: u32,
    /// `p_comm`.
    pub comm: String,
    /// `td_tid`.
    pub tid: u32,
    /// `td_name`, possibly empty.
    pub name: String,
    /// Its state.
    pub doing: Doing,
    /// `td_oncpu`, if not NOCPU.
    pub cpu: Option<u32>,
    /// `td_wmesg`.
    pub wait: Option<String>,
    /// The lock that it waits for.
    pub lock: Option<String>,
    /// Whether its process is a zombie.
    pub zombie: bool,
    /// The location of its registers.
    pub context: Context,
    /// Virtual address of the pcb that `td_pcb` points at.
    pub pcb: VirtAddr,
    /// Register names and values of the context that a pcb contains.
    pub registers: Vec<(&'static str, u64)>,
    /// Its call chain, empty if the context is [`Context::Running`].
    pub frames: Vec<Frame>,
}

/// A lock.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lock {
    /// Virtual address of its `struct lock_object`.
    pub va: VirtAddr,
    /// `lo_name`.
    pub name: String,
    /// Its class.
    pub class: LockClass,
    /// `td_tid` of its owner.
    pub owner: Option<u32>,
    /// Number of threads that share it.
    pub sharers: u32,
}

/// A row of a section of a report.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SectionRow {
    /// The name of the section.
    pub section: &'static str,
    /// The cells as text. In `ps`, the user, the process and its name.
    pub cells: Vec<String>,
}

/// A CPU that runs a thread, as the machine's hypervisor sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cpu {
    /// Its number.
    pub id: u32,
    /// The running thread.
    pub tid: u32,
    /// Program counter.
    pub pc: VirtAddr,
    /// Stack pointer.
    pub sp: VirtAddr,
    /// Frame pointer.
    pub fp: VirtAddr,
    /// Physical address of the root table in use.
    pub root: PhysAddr,
    /// The call chain. On a stopped machine, that of the thread's context.
    pub frames: Vec<Frame>,
}

/// The address space of a user process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UserSpace {
    /// Physical address of its root table (`pm_cr3`).
    pub root: PhysAddr,
    /// The resident pages by address, one mapping each.
    pub mappings: Vec<Mapping>,
    /// The mapped addresses, resident or not.
    pub valid: Vec<Range<VirtAddr>>,
}

/// A process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Process {
    /// Virtual address of the `struct proc`.
    pub va: VirtAddr,
    /// `p_pid`.
    pub pid: u32,
    /// `p_comm`.
    pub comm: String,
    /// Whether it is a zombie.
    pub zombie: bool,
    /// Its user address space, if it has one.
    pub space: Option<UserSpace>,
}

/// A loaded kernel file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Module {
    /// `filename`.
    pub name: String,
    /// `pathname`.
    pub path: String,
    /// First address.
    pub address: VirtAddr,
    /// Bytes.
    pub size: u64,
}

/// The message buffer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MessageBuffer {
    /// Virtual address of `struct msgbuf`.
    pub va: VirtAddr,
    /// Virtual address of the ring.
    pub ring_va: VirtAddr,
    /// The ring's bytes in memory order.
    pub ring: Vec<u8>,
    /// `msg_wseq`.
    pub wseq: u32,
    /// `msg_rseq`.
    pub rseq: u32,
    /// `msg_cksum`.
    pub cksum: u32,
    /// The ring's text, oldest byte first.
    pub text: Vec<u8>,
    /// The bytes that have not been read.
    pub unread: Vec<u8>,
}

/// The contents of a machine.
#[derive(Clone, Debug)]
pub struct Truth {
    /// The processor.
    pub architecture: Architecture,
    /// The release that it emulates.
    pub release: Release,
    /// Bytes per page.
    pub page_size: u64,
    /// `VM_MIN_KERNEL_ADDRESS`, the `kernbase` of a dump's header.
    pub vm_min_kernel_address: VirtAddr,
    /// `KERNBASE`.
    pub kernbase: VirtAddr,
    /// Virtual addresses of the direct map, as in the dump's header.
    pub dmap: Range<VirtAddr>,
    /// Physical address that the direct map's start maps.
    pub dmap_phys: PhysAddr,
    /// Physical end of the memory that the direct map's tables map (`dmaplimit`).
    pub dmaplimit: PhysAddr,
    /// Physical load address of the kernel (`kernphys`).
    pub kernphys: PhysAddr,
    /// Physical address of the root page table.
    pub root: PhysAddr,
    /// `kernel_vm_end`.
    pub kernel_vm_end: VirtAddr,
    /// End of the addresses that a dump's page map covers.
    pub kva_end: VirtAddr,
    /// The kernel map, by virtual address.
    pub mappings: Vec<Mapping>,
    /// The direct map, by virtual address.
    pub direct: Vec<Mapping>,
    /// Page-table pages of the kernel map: (level from the root, first address, physical address).
    pub page_tables: Vec<(usize, VirtAddr, PhysAddr)>,
    /// `dump_avail`.
    pub dump_avail: Vec<Range<PhysAddr>>,
    /// Number of bits of `vm_page_dump` (12.1: eight times `vm_page_dump_size`).
    pub bits: u64,
    /// Pages with PG_NODUMP, by address.
    pub nodump: Vec<Range<PhysAddr>>,
    /// Free pages, by address.
    pub free: Vec<Range<PhysAddr>>,
    /// Pages that a dump contains, by address.
    pub dumped: Vec<Dumped>,
    /// The kernel's symbols.
    pub symbols: BTreeMap<String, Symbol>,
    /// All processes: newest first as in `allproc`, then zombies.
    pub processes: Vec<Process>,
    /// All threads: processes newest first as in `allproc`, then zombies.
    pub threads: Vec<Thread>,
    /// The locks, in the order of the description.
    pub locks: Vec<Lock>,
    /// Rows that reports should have, in no order.
    pub sections: Vec<SectionRow>,
    /// CPUs with a running thread, by number.
    pub cpus: Vec<Cpu>,
    /// The dumping thread.
    pub dumptid: Option<u32>,
    /// `linker_files`, the kernel first.
    pub modules: Vec<Module>,
    /// The message buffer.
    pub msgbuf: MessageBuffer,
    /// `version`.
    pub version: String,
    /// `ostype`.
    pub ostype: String,
    /// `osrelease`.
    pub osrelease: String,
    /// `osreldate`.
    pub osreldate: u32,
    /// The name in `prison0`.
    pub hostname: String,
    /// The string that `panicstr` points at.
    pub panic: Option<String>,
    /// `time_second`.
    pub time_second: u64,
    /// `time_uptime`.
    pub time_uptime: u64,
    /// `physmem`, pages.
    pub physmem: u64,
    /// Deviations from the description, for the user.
    pub notes: Vec<String>,
}

impl Truth {
    /// Returns the number of pages that a dump contains.
    pub fn dumped_pages(&self) -> u64 {
        self.dumped.iter().map(|run| run.len / self.page_size).sum()
    }

    /// Returns the value of a symbol.
    pub fn symbol(&self, name: &str) -> Option<u64> {
        self.symbols.get(name).map(|symbol| symbol.value)
    }
}
