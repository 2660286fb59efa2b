//! The description of a machine: its text, defaults and limits.
//!
//! `docs/machines.md` documents every key.

mod bytes;
mod check;
mod crowd;
mod lock;
mod process;

use livecore_minidump::PhysAddr;
use serde::Deserialize;

use super::architecture::{Architecture, Row};
use super::error::Error;
use super::i386_link;
use super::layout::Release;
pub use bytes::Bytes;
pub use lock::{Lock, LockClass};
pub use process::{Doing, Process, Thread};

/// Smallest machine.
pub const MIN_SIZE: u64 = 16 << 20;
/// Largest machine.
pub const MAX_SIZE: u64 = 1 << 40;

/// How the kernel ELF is made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum KernelKind {
    /// Written by the builder: symbols, generated code, no debug information.
    #[default]
    Symbols,
    /// Compiled from `kernel.c`, with DWARF.
    Compiled,
    /// As `Symbols`, with types in `.SUNW_ctf`, as stock kernels have them.
    Ctf,
    /// Compiled if there is a C compiler, else symbols. The machine's notes say which.
    Auto,
}

/// Where `stoppcbs` keeps the contexts of stopped CPUs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Stoppcbs {
    /// In the variable: `struct pcb[MAXCPU]`.
    Array,
    /// In memory that the variable points at (since 1400089).
    Pointer,
}

/// The form of `kernphys`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kernphys {
    /// An absolute symbol of value 0x200000 (up to 13.0).
    Absolute,
    /// A variable that contains the load address (since 13.1).
    Variable,
}

/// `[kernel]`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default, expecting = "a table [kernel]")]
pub struct Kernel {
    /// `"10.4"`, `"12.1"`, `"14.0"`, `"15.0"` or `"15.2"`.
    pub release: String,
    /// How the ELF is made.
    pub kind: KernelKind,
    /// Physical load address, a multiple of 2 MiB [the architecture's usual address].
    pub load: Option<Bytes>,
    /// `kern.hostname`.
    pub hostname: String,
    /// Name of the kernel configuration in `version`.
    pub ident: String,
    /// Number of functions in addition to those in call chains.
    pub functions: u32,
    /// Form of `stoppcbs` [the release's].
    pub stoppcbs: Option<Stoppcbs>,
    /// Form of `kernphys` [the release's].
    pub kernphys: Option<Kernphys>,
    /// i386: whether the kernel runs with PAE.
    pub pae: bool,
    /// amd64 since 15.0: whether addresses have 57 bits.
    pub la57: bool,
    /// amd64 since 15.2: whether the processor enters the kernel by FRED.
    pub fred: bool,
    /// Sv48: whether addresses have 48 bits instead of 39.
    pub sv48: bool,
    /// aarch64 since 15.0: whether the kernel uses LPA2. RAM starts above 2^50.
    pub lpa2: bool,
}

impl Default for Kernel {
    fn default() -> Self {
        Self {
            release: "14.0".into(),
            kind: KernelKind::Symbols,
            load: None,
            hostname: "synth.example.org".into(),
            ident: "SYNTH".into(),
            functions: 400,
            stoppcbs: None,
            kernphys: None,
            pae: false,
            la57: false,
            fred: false,
            sv48: false,
            lpa2: false,
        }
    }
}

/// `[memory]`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, expecting = "a table [memory]")]
pub struct Memory {
    /// Bytes of RAM, 16 MiB to 1 TiB.
    pub size: Bytes,
    /// Bytes of the first bank of RAM. On amd64 the PC hole begins at its end, and the second bank
    /// starts at 4 GiB.
    #[serde(default = "three_gib")]
    pub low: Bytes,
    /// Bytes per page: 16 KiB only on aarch64.
    #[serde(default = "four_kib")]
    pub page_size: Bytes,
    /// Physical ranges of RAM that are not in `dump_avail` (used by firmware).
    #[serde(default)]
    pub holes: Vec<(Bytes, Bytes)>,
    /// Whether the machine has a `vm_page_array`.
    #[serde(default = "yes")]
    pub vm_page_array: bool,
    /// Whether `vm_page_array` is reached through the direct map. Otherwise 2 MiB leaves map it
    /// into the kernel map (as since 13).
    #[serde(default)]
    pub vm_page_array_in_direct_map: bool,
    /// Number of NUMA domains (`vm_ndomains`), each an equal part of the physical addresses.
    #[serde(default = "one")]
    pub domains: u32,
}

fn one() -> u32 {
    1
}

fn three_gib() -> Bytes {
    Bytes(3 << 30)
}

fn four_kib() -> Bytes {
    Bytes(4096)
}

fn yes() -> bool {
    true
}

/// The memory that a 1 GiB leaf of the kernel map maps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Giant {
    /// Device memory: no part of it is dumped.
    Device,
    /// The first GiB of RAM: all of it is dumped.
    Ram,
}

/// Proportions of the kinds of content, in any unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default, expecting = "a table [content.mix]")]
pub struct Mix {
    /// Pages of zeros.
    pub zero: u32,
    /// Machine code.
    pub code: u32,
    /// Pointers, small integers, flags.
    pub heap: u32,
    /// Text.
    pub text: u32,
    /// Random bytes.
    pub noise: u32,
}

impl Default for Mix {
    fn default() -> Self {
        Self {
            zero: 25,
            code: 10,
            heap: 40,
            text: 15,
            noise: 10,
        }
    }
}

/// `[content]`: pages in addition to the kernel's own structures.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default, expecting = "a table [content]")]
pub struct Content {
    /// Mapped into the kernel map with leaves of one page.
    pub kernel: Bytes,
    /// Mapped into the kernel map with large leaves (2 MiB).
    pub large: Bytes,
    /// Reached only through the direct map, in `vm_page_dump`.
    pub direct: Bytes,
    /// With PG_NODUMP. Half of them are mapped, the others are in `vm_page_dump`.
    pub nodump: Bytes,
    /// Free pages in blocks of the buddy allocator, which are in `vm_page_dump`. Kernels since 13.
    pub free: Bytes,
    /// Populated but not dumped: user pages, page cache.
    pub user: Bytes,
    /// The kinds of their contents.
    pub mix: Mix,
    /// A 1 GiB leaf in the kernel map.
    pub giant: Option<Giant>,
}

/// `[state]`: the state of the machine.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default, expecting = "a table [state]")]
pub struct State {
    /// The panic message. Without it the machine is running: `panicstr` is null, `dumptid` and
    /// `dumppcb` are zero, and no CPU is stopped.
    pub panic: Option<String>,
    /// Whether the machine is in the kernel's debugger after the panic and has not dumped:
    /// `kdb_active` is set, `dumptid` and `dumppcb` are zero.
    pub debugger: bool,
    /// `time_second`.
    pub time: u64,
    /// `time_uptime`.
    pub uptime: u64,
    /// Number of CPUs.
    pub cpus: u32,
}

impl Default for State {
    fn default() -> Self {
        Self {
            panic: None,
            debugger: false,
            time: 1_700_000_000,
            uptime: 86_461,
            cpus: 2,
        }
    }
}

/// `[msgbuf]`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default, expecting = "a table [msgbuf]")]
pub struct Msgbuf {
    /// Bytes of ring and `struct msgbuf` together, whole pages.
    pub size: Bytes,
    /// Whether the messages are longer than the ring.
    pub wrapped: bool,
    /// Bytes that syslogd has not read.
    pub unread: Bytes,
}

impl Default for Msgbuf {
    fn default() -> Self {
        Self {
            size: Bytes(3 * 32768),
            wrapped: true,
            unread: Bytes(700),
        }
    }
}

/// The description of a machine.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Description {
    /// The seed of all random values.
    #[serde(default)]
    pub seed: u64,
    /// The architecture.
    #[serde(default)]
    pub architecture: Architecture,
    /// RAM.
    pub memory: Memory,
    /// The kernel.
    #[serde(default)]
    pub kernel: Kernel,
    /// Other pages.
    #[serde(default)]
    pub content: Content,
    /// The state of the machine.
    #[serde(default)]
    pub state: State,
    /// The message buffer.
    #[serde(default)]
    pub msgbuf: Msgbuf,
    /// Locks that threads own or wait for.
    #[serde(default)]
    pub lock: Vec<Lock>,
    /// Processes, oldest first [those of a small server].
    #[serde(default)]
    pub process: Vec<Process>,
}

impl Description {
    /// Parses a description and rejects impossible machines.
    ///
    /// # Errors
    ///
    /// [`Error`] with the key and the invalid value.
    pub fn parse(text: &str) -> Result<Self, Error> {
        let mut description: Self = toml::from_str(text).map_err(Box::new)?;
        if description.process.is_empty() {
            description.process = crowd::usual(description.state.cpus);
        }
        description.check()?;
        description.process = description.process.iter().flat_map(Process::each).collect();
        Ok(description)
    }

    /// The facts about the machine's architecture.
    pub(crate) fn row(&self) -> &'static Row {
        self.architecture.row(self.kernel.lpa2)
    }

    /// Returns the release that the machine emulates.
    pub fn release(&self) -> Release {
        match self.kernel.release.as_str() {
            "10.4" => Release::R10,
            "12.1" => Release::R12,
            "15.0" => Release::R15,
            "15.2" => Release::R152,
            // `check` rejects all others.
            _ => Release::R14,
        }
    }

    /// Physical load address of the kernel.
    pub fn load(&self) -> PhysAddr {
        PhysAddr(match self.kernel.load {
            Some(load) => load.0,
            None => {
                let row = self.row();
                let usual = row.load.map(|above| row.ram + above);
                usual.unwrap_or_else(|| i386_link::load(self.release(), self.kernel.pae))
            }
        })
    }

    /// Bytes per page.
    pub fn page_size(&self) -> u64 {
        self.memory.page_size.0
    }

    /// Bytes of the first bank of RAM.
    pub(crate) fn low(&self) -> u64 {
        self.memory.low.0
    }

    /// The form of `stoppcbs`.
    pub fn stoppcbs(&self) -> Stoppcbs {
        self.kernel.stoppcbs.unwrap_or(match self.release() {
            release if release.is_old() => Stoppcbs::Array,
            _ => Stoppcbs::Pointer,
        })
    }

    /// The form of `kernphys`.
    pub fn kernphys(&self) -> Kernphys {
        self.kernel.kernphys.unwrap_or(match self.release() {
            release if release.is_old() => Kernphys::Absolute,
            _ => Kernphys::Variable,
        })
    }

    fn check(&self) -> Result<(), Error> {
        let hex = |bytes: Bytes| format!("{:#x}", bytes.0);
        if !["10.4", "12.1", "14.0", "15.0", "15.2"].contains(&self.kernel.release.as_str()) {
            return Err(Error::value(
                "kernel.release",
                &self.kernel.release,
                "10.4, 12.1, 14.0, 15.0 or 15.2",
            ));
        }
        let size = self.memory.size.0;
        if !(MIN_SIZE..=MAX_SIZE).contains(&size) || !size.is_multiple_of(4096) {
            return Err(Error::value(
                "memory.size",
                hex(self.memory.size),
                "whole pages, 16 MiB to 1 TiB",
            ));
        }
        let low = self.memory.low.0;
        if !low.is_multiple_of(2 << 20) || !(MIN_SIZE..=4 << 30).contains(&low) {
            return Err(Error::value(
                "memory.low",
                hex(self.memory.low),
                "a multiple of 2 MiB, 16 MiB to 4 GiB",
            ));
        }
        for (start, end) in &self.memory.holes {
            if start.0 % 4096 != 0 || end.0 % 4096 != 0 || start >= end || start.0 < 1 << 20 {
                return Err(Error::value(
                    "memory.holes",
                    format!("[{:#x}, {:#x}]", start.0, end.0),
                    "whole pages above 1 MiB, start before end",
                ));
            }
        }
        self.check_architecture()?;
        let load = self.load().0;
        if !load.is_multiple_of(2 << 20) || load == 0 {
            return Err(Error::value(
                "kernel.load",
                format!("{load:#x}"),
                "a multiple of 2 MiB, not 0",
            ));
        }
        if self.architecture == Architecture::Amd64
            && self.kernphys() == Kernphys::Absolute
            && load != 2 << 20
        {
            return Err(Error::value(
                "kernel.load",
                format!("{load:#x}"),
                "2 MiB if kernphys is absolute",
            ));
        }
        if self.kernel.hostname.len() > 255 || self.kernel.hostname.contains('\0') {
            return Err(Error::value(
                "kernel.hostname",
                &self.kernel.hostname,
                "at most 255 bytes",
            ));
        }
        if self.kernel.ident.is_empty()
            || self.kernel.ident.len() > 32
            || !self.kernel.ident.bytes().all(|b| b.is_ascii_graphic())
        {
            return Err(Error::value(
                "kernel.ident",
                &self.kernel.ident,
                "1 to 32 printable bytes",
            ));
        }
        if self.kernel.functions > 4000 {
            return Err(Error::value(
                "kernel.functions",
                self.kernel.functions,
                "at most 4000",
            ));
        }
        let most = match (self.release(), self.architecture) {
            (Release::R10, Architecture::I386) => 32,
            (Release::R10, _) => 64,
            _ => 256,
        };
        if !(1..=most).contains(&self.state.cpus) {
            return Err(Error::value(
                "state.cpus",
                self.state.cpus,
                format!("1 to {most}"),
            ));
        }
        if self
            .state
            .panic
            .as_ref()
            .is_some_and(|p| p.len() > 255 || p.contains('\0'))
        {
            return Err(Error::value(
                "state.panic",
                "a longer text",
                "at most 255 bytes",
            ));
        }
        let ring = self.msgbuf.size.0;
        if !ring.is_multiple_of(4096) || !(8192..=16 << 20).contains(&ring) {
            return Err(Error::value(
                "msgbuf.size",
                hex(self.msgbuf.size),
                "whole pages, 8 KiB to 16 MiB",
            ));
        }
        if self.msgbuf.unread.0 > ring {
            return Err(Error::value(
                "msgbuf.unread",
                hex(self.msgbuf.unread),
                "at most msgbuf.size",
            ));
        }
        let mix = &self.content.mix;
        let sum = [mix.zero, mix.code, mix.heap, mix.text, mix.noise]
            .iter()
            .map(|&n| u64::from(n))
            .sum::<u64>();
        if sum == 0 {
            return Err(Error::value("content.mix", 0, "at least one share above 0"));
        }
        for (key, bytes) in [
            ("content.kernel", self.content.kernel),
            ("content.direct", self.content.direct),
            ("content.nodump", self.content.nodump),
            ("content.free", self.content.free),
            ("content.user", self.content.user),
        ] {
            if bytes.0 % 4096 != 0 || bytes.0 > size {
                return Err(Error::value(
                    key,
                    hex(bytes),
                    "whole pages, at most memory.size",
                ));
            }
        }
        if !self.content.large.0.is_multiple_of(2 << 20) || self.content.large.0 > size {
            return Err(Error::value(
                "content.large",
                hex(self.content.large),
                "whole 2 MiB, at most memory.size",
            ));
        }
        self.check_processes()
    }
}
