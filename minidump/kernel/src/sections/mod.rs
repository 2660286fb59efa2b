//! What the programs that crashinfo(8) runs report about a kernel, as tables.
//!
//! Each section reads symbols and structures of the kernel. If a symbol or a type is missing, a problem
//! names it, and the section contains the rows that do not need it. Lists are followed up to a limit and
//! never twice through the same element.

mod ipc;
mod memory;
mod network;
mod processes;
mod reader;
mod system;

use std::fmt;

use crate::error::KernelError;
use crate::kernel::Kernel;
use crate::process::Process;

use reader::Reader;

/// The structures to read with [`Kernel::detailed_with`] for [`Kernel::section`].
pub const SECTION_STRUCTURES: [&str; 42] = [
    "arpstat",
    "devstat",
    "fdescenttbl",
    "file",
    "filedesc",
    "filedescent",
    "icmp6stat",
    "icmpstat",
    "igmpstat",
    "inpcb",
    "inpcbinfo",
    "ip6stat",
    "ipstat",
    "malloc_type",
    "malloc_type_stats",
    "msginfo",
    "msqid_kernel",
    "nfsstatsv1",
    "pargs",
    "rip6stat",
    "rtstat",
    "semid_kernel",
    "seminfo",
    "shmid_kernel",
    "socket",
    "swdevt",
    "tcpcb",
    "tcpstat",
    "udpstat",
    "ucred",
    "uma_cache",
    "uma_cache_bucket",
    "uma_domain",
    "uma_keg",
    "uma_zone",
    "uma_zone_domain",
    "unpcb",
    "vm_domain",
    "vm_pagequeue",
    "vmmeter",
    "vmspace",
    "vnet",
];

/// A section: its name, what it reports, and its columns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SectionKind {
    /// The name, without white space.
    pub name: &'static str,
    /// What it reports.
    pub title: &'static str,
    /// The names of its columns.
    pub columns: &'static [&'static str],
}

/// All sections.
pub const SECTIONS: [SectionKind; 19] = [
    SectionKind {
        name: "memory",
        title: "Memory by state and consumer",
        columns: &["consumer", "bytes", "pages"],
    },
    SectionKind {
        name: "ps",
        title: "Processes, as ps -axlww",
        columns: &[
            "uid", "pid", "ppid", "priority", "state", "wait", "threads", "vsz", "seconds",
            "command",
        ],
    },
    SectionKind {
        name: "vmstat-s",
        title: "Counters of the VM system, as vmstat -s",
        columns: &["counter", "value"],
    },
    SectionKind {
        name: "vmstat-m",
        title: "Types of malloc(9), as vmstat -m",
        columns: &["type", "in_use", "bytes", "requests"],
    },
    SectionKind {
        name: "vmstat-z",
        title: "Zones of uma(9), as vmstat -z",
        columns: &[
            "zone", "size", "limit", "used", "free", "requests", "failures", "sleeps", "bytes",
        ],
    },
    SectionKind {
        name: "vmstat-i",
        title: "Interrupts, as vmstat -i",
        columns: &["interrupt", "total"],
    },
    SectionKind {
        name: "pstat-T",
        title: "Open files, vnodes and swap, as pstat -T",
        columns: &["resource", "used", "limit"],
    },
    SectionKind {
        name: "pstat-s",
        title: "Swap devices, as pstat -s",
        columns: &["device", "blocks", "used"],
    },
    SectionKind {
        name: "iostat",
        title: "Devices since boot, as iostat",
        columns: &["device", "reads", "writes", "bytes_read", "bytes_written"],
    },
    SectionKind {
        name: "fstat",
        title: "Open files of processes, as fstat",
        columns: &["pid", "command", "fd", "type", "flags", "offset", "file"],
    },
    SectionKind {
        name: "ipcs",
        title: "Message queues, shared memory and semaphores, as ipcs",
        columns: &["facility", "id", "key", "mode", "uid", "bytes", "parts"],
    },
    SectionKind {
        name: "nfsstat",
        title: "Counters of NFS that are not 0, as nfsstat",
        columns: &["counter", "value"],
    },
    SectionKind {
        name: "netstat-s",
        title: "Counters of protocols that are not 0, as netstat -s",
        columns: &["protocol", "counter", "value"],
    },
    SectionKind {
        name: "netstat-m",
        title: "Zones of mbufs, as netstat -m",
        columns: &[
            "zone", "size", "limit", "used", "free", "requests", "failures", "sleeps", "bytes",
        ],
    },
    SectionKind {
        name: "netstat-A",
        title: "Sockets, as netstat -anA",
        columns: &[
            "protocol", "pcb", "receive", "send", "local", "foreign", "state",
        ],
    },
    SectionKind {
        name: "netstat-L",
        title: "Listen queues, as netstat -aL",
        columns: &["protocol", "complete", "incomplete", "limit", "local"],
    },
    SectionKind {
        name: "kldstat",
        title: "Loaded modules, as kldstat",
        columns: &["module", "address", "bytes", "path"],
    },
    SectionKind {
        name: "capture",
        title: "Capture buffer of ddb(4)",
        columns: &["line"],
    },
    SectionKind {
        name: "config",
        title: "Kernel configuration, as config -x",
        columns: &["line"],
    },
];

/// A value in a section.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cell {
    /// A number.
    Number(u64),
    /// An address.
    Address(u64),
    /// A text of the kernel, not escaped.
    Text(String),
    /// Not known, or not applicable.
    Unknown,
}

impl From<u64> for Cell {
    fn from(number: u64) -> Self {
        Self::Number(number)
    }
}

impl From<String> for Cell {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

impl<T: Into<Cell>> From<Option<T>> for Cell {
    fn from(value: Option<T>) -> Self {
        value.map_or(Self::Unknown, Into::into)
    }
}

impl fmt::Display for Cell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(number) => number.fmt(f),
            Self::Address(at) => write!(f, "{at:#x}"),
            Self::Text(text) => f.write_str(text),
            Self::Unknown => f.write_str("-"),
        }
    }
}

/// The rows of a section.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Section {
    /// Which section.
    pub kind: SectionKind,
    /// The rows, each with a cell for each column.
    pub rows: Vec<Vec<Cell>>,
    /// Symbols and types that the kernel file lacks, and what could not be read.
    pub problems: Vec<String>,
}

impl Kernel<'_> {
    /// Reads the section `name` of [`SECTIONS`]. `list` has the kernel's processes. Returns `None` for
    /// an unknown name.
    ///
    /// # Examples
    ///
    /// ```
    /// # use livecore_synth::{Description, build};
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use livecore_kernel::{Kernel, SECTION_STRUCTURES};
    ///
    /// # let text = "[memory]\nsize = '16 MiB'\n[kernel]\nkind = 'ctf'\n";
    /// # let machine = build(&Description::parse(text)?)?;
    /// # let elf = livecore_minidump::KernelElf::from_bytes(machine.kernel().to_vec())?;
    /// # let found = livecore_kernel::locate::Machine::find(machine.memory(), &elf)?;
    /// # let kernel = found.kernel(&elf);
    /// let kernel = kernel.detailed_with(&SECTION_STRUCTURES);
    /// let processes = kernel.processes()?;
    /// let section = kernel.section("vmstat-m", &processes.list).expect("a known name");
    /// for row in &section.rows {
    ///     println!("{} uses {} bytes", row[0], row[2]);
    /// }
    /// # assert!(section.rows.len() > 1, "{:?}", section.problems);
    /// # Ok(())
    /// # }
    /// ```
    pub fn section(&self, name: &str, list: &[Process]) -> Option<Section> {
        let kind = SECTIONS.iter().find(|kind| kind.name == name)?;
        let mut reader = Reader::new(self);
        let rows = match kind.name {
            "memory" => memory::summary(&mut reader),
            "vmstat-s" => memory::counters(&mut reader),
            "vmstat-m" => memory::malloc_types(&mut reader),
            "vmstat-z" => memory::zones(&mut reader),
            "ps" => processes::table(&mut reader, list),
            "fstat" => processes::files(&mut reader, list),
            "vmstat-i" => system::interrupts(&mut reader),
            "pstat-T" => system::resources(&mut reader),
            "pstat-s" => system::swap(&mut reader),
            "iostat" => system::devices(&mut reader),
            "ipcs" => ipc::table(&mut reader),
            "nfsstat" => network::nfs(&mut reader),
            "netstat-s" => network::protocols(&mut reader),
            "netstat-m" => memory::mbufs(&mut reader),
            "netstat-A" => network::sockets(&mut reader),
            "netstat-L" => network::listening(&mut reader),
            "kldstat" => system::modules(&mut reader),
            "capture" => system::capture(&mut reader),
            _ => system::config(&mut reader),
        };
        let rows: Result<Vec<Vec<Cell>>, KernelError> = rows;
        let rows = rows.unwrap_or_else(|error| {
            reader.problem(&error);
            Vec::new()
        });
        Some(Section {
            kind: *kind,
            rows,
            problems: reader.into_problems(),
        })
    }
}
