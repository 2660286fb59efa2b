//! What the builder knows about the machine it made: the answers that tests compare with.

use std::collections::BTreeMap;
use std::ops::Range;

use super::architecture::Architecture;
use super::description::Doing;
use super::layout::Release;

/// What a mapping allows. Reading always is.
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
    /// Code and data together, as a kernel's identity map of low memory is.
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

/// A stretch of virtual addresses mapped to a stretch of physical ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mapping {
    /// First virtual address.
    pub va: u64,
    /// First physical address.
    pub pa: u64,
    /// Bytes.
    pub len: u64,
    /// Bytes per leaf.
    pub leaf: u64,
    /// What it allows.
    pub prot: Prot,
}

/// Why a page is in the dump. The first reason that holds is given.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Why {
    /// A leaf of the kernel map maps it.
    Mapped,
    /// It is a page table of the kernel map that a dump keeps.
    PageTable,
    /// Its bit is set in `vm_page_dump`.
    Bit,
}

/// A stretch of pages that a dump of the machine holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Dumped {
    /// First physical address.
    pub pa: u64,
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
    pub pc: u64,
    /// The frame pointer while `pc` runs.
    pub fp: u64,
    /// The function `pc` lies in.
    pub function: String,
    /// `pc` minus the function's address.
    pub offset: u64,
    /// Address of the trap frame that leads from this frame (a trap entry) to the next one.
    pub trap: Option<u64>,
}

/// Where a thread's registers are.
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
    /// On a running CPU: nothing in memory is true.
    Running(u32),
}

/// A thread.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Thread {
    /// Virtual address of the `struct thread`.
    pub va: u64,
    /// `p_pid`.
    pub pid: u32,
    /// `p_comm`.
    pub comm: String,
    /// `td_tid`.
    pub tid: u32,
    /// `td_name`, possibly empty.
    pub name: String,
    /// What it does.
    pub doing: Doing,
    /// `td_oncpu`, if not NOCPU.
    pub cpu: Option<u32>,
    /// `td_wmesg`.
    pub wait: Option<String>,
    /// Whether its process is a zombie.
    pub zombie: bool,
    /// Where its registers are.
    pub context: Context,
    /// Virtual address of the pcb that `td_pcb` points at.
    pub pcb: u64,
    /// Register names and values of the context: those that a pcb holds.
    pub registers: Vec<(&'static str, u64)>,
    /// Its call chain; empty where the context is [`Context::Running`].
    pub frames: Vec<Frame>,
}

/// A CPU that runs a thread, as the machine's hypervisor sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cpu {
    /// Its number.
    pub id: u32,
    /// The thread that it runs.
    pub tid: u32,
    /// Program counter.
    pub pc: u64,
    /// Stack pointer.
    pub sp: u64,
    /// Frame pointer.
    pub fp: u64,
    /// Physical address of the root table in use.
    pub root: u64,
    /// The call chain. On a machine that has stopped, that of the thread's context.
    pub frames: Vec<Frame>,
}

/// The address space of a user process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UserSpace {
    /// Physical address of its root table (`pm_cr3`).
    pub root: u64,
    /// What is resident, one page each, by address.
    pub mappings: Vec<Mapping>,
    /// Addresses that are in its map, resident or not.
    pub valid: Vec<Range<u64>>,
}

/// A process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Process {
    /// Virtual address of the `struct proc`.
    pub va: u64,
    /// `p_pid`.
    pub pid: u32,
    /// `p_comm`.
    pub comm: String,
    /// Whether it is a zombie.
    pub zombie: bool,
    /// Its user part, if it has one.
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
    pub address: u64,
    /// Bytes.
    pub size: u64,
}

/// The message buffer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MessageBuffer {
    /// Virtual address of `struct msgbuf`.
    pub va: u64,
    /// Virtual address of the ring.
    pub ring_va: u64,
    /// The ring's bytes as they lie in memory.
    pub ring: Vec<u8>,
    /// `msg_wseq`.
    pub wseq: u32,
    /// `msg_rseq`.
    pub rseq: u32,
    /// `msg_cksum`.
    pub cksum: u32,
    /// The ring's text, oldest byte first.
    pub text: Vec<u8>,
    /// The bytes that no one has read.
    pub unread: Vec<u8>,
}

/// What is where in a machine.
#[derive(Clone, Debug)]
pub struct Truth {
    /// The processor.
    pub architecture: Architecture,
    /// The release whose ways it follows.
    pub release: Release,
    /// Bytes per page.
    pub page_size: u64,
    /// `VM_MIN_KERNEL_ADDRESS`, the `kernbase` of a dump's header.
    pub vm_min_kernel_address: u64,
    /// `KERNBASE`.
    pub kernbase: u64,
    /// Virtual addresses of the direct map, as the dump's header gives them.
    pub dmap: Range<u64>,
    /// Physical address that the direct map's start maps.
    pub dmap_phys: u64,
    /// Physical end of what the direct map's tables map (`dmaplimit`).
    pub dmaplimit: u64,
    /// Physical load address of the kernel (`kernphys`).
    pub kernphys: u64,
    /// Physical address of the root page table.
    pub root: u64,
    /// `kernel_vm_end`.
    pub kernel_vm_end: u64,
    /// End of the addresses that a dump's page map covers.
    pub kva_end: u64,
    /// The kernel map, by virtual address.
    pub mappings: Vec<Mapping>,
    /// The direct map, by virtual address.
    pub direct: Vec<Mapping>,
    /// Page-table pages of the kernel map: (level from the root, first address, physical address).
    pub page_tables: Vec<(usize, u64, u64)>,
    /// `dump_avail`.
    pub dump_avail: Vec<Range<u64>>,
    /// Number of bits of `vm_page_dump` (12.1: eight times `vm_page_dump_size`).
    pub bits: u64,
    /// Pages with PG_NODUMP, by address.
    pub nodump: Vec<Range<u64>>,
    /// Pages that a dump holds, by address.
    pub dumped: Vec<Dumped>,
    /// The kernel's symbols.
    pub symbols: BTreeMap<String, Symbol>,
    /// All processes: newest first as `allproc` has them, then zombies.
    pub processes: Vec<Process>,
    /// All threads: processes newest first as `allproc` has them, then zombies.
    pub threads: Vec<Thread>,
    /// CPUs that run something, by number.
    pub cpus: Vec<Cpu>,
    /// The thread that dumps.
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
    /// What `panicstr` points at.
    pub panic: Option<String>,
    /// `time_second`.
    pub time_second: u64,
    /// `time_uptime`.
    pub time_uptime: u64,
    /// `physmem`, pages.
    pub physmem: u64,
    /// What the builder did otherwise than asked, for people.
    pub notes: Vec<String>,
}

impl Truth {
    /// Number of pages that a dump holds.
    pub fn dumped_pages(&self) -> u64 {
        self.dumped.iter().map(|run| run.len / self.page_size).sum()
    }

    /// The value of a symbol.
    pub fn symbol(&self, name: &str) -> Option<u64> {
        self.symbols.get(name).map(|symbol| symbol.value)
    }
}
