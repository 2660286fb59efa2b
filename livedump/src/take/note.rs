//! Notes for the user about a dump.

use std::fmt;

use livecore_kernel::NoVmPages;
use livecore_minidump::VirtAddr;

use crate::publish::Notice;

/// A note for the user about a dump: what it lacks, or how it was taken.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Note {
    /// The guest runs while its memory is read.
    GuestRuns,
    /// The guest was paused while its memory was read.
    Paused {
        /// The length of the pause.
        seconds: f64,
    },
    /// The guest was paused while its memory was compared with a copy.
    PausedToCompare {
        /// The length of the pause.
        seconds: f64,
        /// The number of pages that were compared.
        compared: u64,
        /// The number of those that had changed.
        changed: u64,
        /// The number of pages that were not in the copy.
        new: u64,
    },
    /// QEMU paused the guest while it wrote the memory.
    PausedByQemu {
        /// The length of the pause.
        seconds: f64,
    },
    /// The running kernel writes its dump.
    KernelDumps,
    /// The pages that the kernel has marked cannot be read, so the dump was not compared with them.
    NotCompared {
        /// The reason.
        why: String,
    },
    /// The registers of some CPUs have an unsupported format.
    UnknownRegisters {
        /// The numbers of the CPUs.
        cpus: Vec<u32>,
    },
    /// A CPU does not run the kernel.
    LeftKernel {
        /// The number of the CPU.
        cpu: u32,
        /// The reason.
        why: Left,
    },
    /// No registers can be added.
    NoRegisters {
        /// The reason.
        why: String,
    },
    /// The registers of a CPU cannot be added.
    RegistersNotAdded {
        /// The number of the CPU.
        cpu: u32,
        /// The reason.
        why: String,
    },
    /// A CPU is in the kernel debugger.
    InDebugger {
        /// The number of the CPU.
        cpu: u32,
        /// Whether the dump has its registers on entry to the debugger. They are not used if they
        /// are those of a user program.
        on_entry: bool,
    },
    /// The kernel has stopped a CPU and saved its registers, and the dump has those.
    StoppedByKernel {
        /// The number of the CPU.
        cpu: u32,
    },
    /// The kernel's set of stopped CPUs cannot be changed.
    StoppedCpus {
        /// The reason.
        why: String,
    },
    /// Page tables are outside of the memory.
    TablesOutside {
        /// Their number.
        count: u64,
    },
    /// A `struct vm_page` cannot be read.
    VmPagesUnreadable {
        /// The number of pages.
        count: u64,
    },
    /// Pages of the kernel's bitmap are missing in the memory.
    BitmapPagesMissing {
        /// Their number.
        count: u64,
    },
    /// The kernel has no `vm_page_array`.
    NoVmPageArray,
    /// The kernel has no `vm_phys_segs`.
    NoVmPhysSegs,
    /// The layout of `struct vm_page` is unknown.
    UnknownVmPage,
    /// The kernel has no `msgbufp`.
    NoMsgbuf,
    /// `msgbufp` points to memory that cannot be read.
    MsgbufUnreadable {
        /// Its value.
        at: VirtAddr,
    },
    /// The message buffer is invalid.
    MsgbufInvalid {
        /// Its address.
        at: VirtAddr,
        /// `msg_magic`.
        magic: u64,
        /// `msg_size`.
        size: u64,
    },
    /// The message buffer is missing in the memory.
    MsgbufMissing,
    /// The host name was not found.
    NoHostname,
    /// The kernel has no `time_second`.
    NoTime,
    /// A note about the directory of the dump.
    Directory(Notice),
}

/// Why a CPU's registers are not those of the kernel or of a user program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Left {
    /// All registers are zero.
    Zero,
    /// Paging is off.
    PagingOff,
    /// CR3 is 0.
    NoTables,
    /// The MMU is off.
    MmuOff,
    /// The program counter is neither in the kernel nor in a user program.
    Outside,
}

impl fmt::Display for Left {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Zero => "all registers are zero",
            Self::PagingOff => "paging is off",
            Self::NoTables => "CR3 is 0",
            Self::MmuOff => "the MMU is off",
            Self::Outside => "the program counter is not in the kernel or a user program",
        })
    }
}

impl From<NoVmPages> for Note {
    fn from(why: NoVmPages) -> Self {
        match why {
            NoVmPages::Array => Self::NoVmPageArray,
            NoVmPages::Segments => Self::NoVmPhysSegs,
            NoVmPages::Layout => Self::UnknownVmPage,
        }
    }
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::GuestRuns => f.write_str(
                "the guest runs while it is dumped; use --pause for a consistent snapshot",
            ),
            Self::Paused { seconds } => {
                write!(f, "the guest was paused for {seconds:.3} s to read its memory")
            }
            Self::PausedToCompare {
                seconds,
                compared,
                changed,
                new,
            } => write!(
                f,
                "the guest was paused for {seconds:.3} s; {changed} of {compared} pages had changed since \
                 they were copied, {new} were new"
            ),
            Self::PausedByQemu { seconds } => {
                write!(f, "QEMU paused the guest for {seconds:.3} s to write its memory")
            }
            Self::KernelDumps => f.write_str(
                "the kernel writes its dump and cannot be interrupted; progress is an estimate",
            ),
            Self::NotCompared { why } => write!(
                f,
                "did not compare the dump with the pages that the kernel has marked: {why}"
            ),
            Self::UnknownRegisters { cpus } => {
                let cpus: Vec<_> = cpus.iter().map(u32::to_string).collect();
                write!(
                    f,
                    "cannot add registers of CPU {}: unsupported register format",
                    cpus.join(", ")
                )
            }
            Self::LeftKernel { cpu, why } => write!(
                f,
                "ignoring registers of CPU {cpu}: it has left the kernel ({why})"
            ),
            Self::NoRegisters { why } => write!(f, "cannot add registers: {why}"),
            Self::RegistersNotAdded { cpu, why } => {
                write!(f, "cannot add registers of CPU {cpu}: {why}")
            }
            Self::InDebugger { cpu, on_entry } => {
                let own = match on_entry {
                    true => "registers on entry",
                    false => "current registers, since those on entry are a user program's",
                };
                write!(f, "CPU {cpu} is in the kernel debugger: using its {own}")
            }
            Self::StoppedByKernel { cpu } => write!(
                f,
                "keeping the kernel's registers of CPU {cpu}, which it had stopped"
            ),
            Self::StoppedCpus { why } => write!(f, "cannot change `stopped_cpus`: {why}"),
            Self::TablesOutside { count } => write!(
                f,
                "{count} page tables are outside of the memory; treated as empty"
            ),
            Self::VmPagesUnreadable { count } => write!(
                f,
                "{count} pages have an unreadable struct vm_page; treated as dumpable"
            ),
            Self::BitmapPagesMissing { count } => write!(
                f,
                "{count} pages of vm_page_dump are missing in this memory: dumping all pages that they \
                 describe"
            ),
            Self::NoVmPageArray => f.write_str(
                "kernel has no symbol `vm_page_array`: treating all of dump_avail as dumpable",
            ),
            Self::NoVmPhysSegs => f.write_str(
                "kernel has no symbol `vm_phys_segs`: the dump includes pages marked PG_NODUMP",
            ),
            Self::UnknownVmPage => f.write_str(
                "unknown layout of struct vm_page: the dump includes pages marked PG_NODUMP (neither the \
                 kernel's type information nor a known release fits)",
            ),
            Self::NoMsgbuf => {
                f.write_str("kernel has no symbol `msgbufp`: the dump has no message buffer")
            }
            Self::MsgbufUnreadable { at } => write!(
                f,
                "msgbufp points to unreadable address {at:#x}: the dump has no message buffer"
            ),
            Self::MsgbufInvalid { at, magic, size } => write!(
                f,
                "invalid message buffer at {at:#x} (magic {magic:#x}, {size:#x} bytes): the dump has no \
                 message buffer"
            ),
            Self::MsgbufMissing => {
                f.write_str("the message buffer is missing in this memory and in the dump")
            }
            Self::NoHostname => f.write_str("host name not found; the header has none"),
            Self::NoTime => {
                f.write_str("kernel has no symbol `time_second`: the header's time is 0")
            }
            Self::Directory(notice) => notice.fmt(f),
        }
    }
}
