//! A machine as its author describes it: the text, its defaults and its limits.
//!
//! `docs/machines.md` explains every key.

mod bytes;
mod check;
mod crowd;
mod process;

use serde::Deserialize;

use super::architecture::Architecture;
use super::error::Error;
use super::i386_link;
use super::layout::Release;
pub use bytes::Bytes;
pub use process::{Doing, Process, Thread};

/// Smallest machine.
pub const MIN_SIZE: u64 = 16 << 20;
/// Largest machine.
pub const MAX_SIZE: u64 = 1 << 40;

/// How the kernel ELF is made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum KernelKind {
    /// Written by the builder: symbols, code that looks like code, no debug information.
    #[default]
    Symbols,
    /// Compiled from `kernel.c`, with DWARF.
    Compiled,
    /// Compiled if there is a C compiler, else symbols; the machine's notes say which.
    Auto,
}

/// Where `stoppcbs` keeps the contexts of stopped CPUs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Stoppcbs {
    /// In the variable: `struct pcb[MAXCPU]`.
    Array,
    /// Behind it (since 1400089).
    Pointer,
}

/// What `kernphys` is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kernphys {
    /// An absolute symbol of value 0x200000 (up to 13.0).
    Absolute,
    /// A variable that holds the load address (since 13.1).
    Variable,
}

/// `[kernel]`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Kernel {
    /// `"10.4"`, `"12.1"`, `"14.0"` or `"15.0"`.
    pub release: String,
    /// How the ELF is made.
    pub kind: KernelKind,
    /// Physical load address, a multiple of 2 MiB; the architecture's usual one if absent.
    pub load: Option<Bytes>,
    /// `kern.hostname`.
    pub hostname: String,
    /// Name of the kernel configuration in `version`.
    pub ident: String,
    /// Number of functions beside those that stacks run through.
    pub functions: u32,
    /// Form of `stoppcbs`; by release if absent.
    pub stoppcbs: Option<Stoppcbs>,
    /// Form of `kernphys`; by release if absent.
    pub kernphys: Option<Kernphys>,
    /// i386: whether the kernel runs with PAE.
    pub pae: bool,
    /// amd64 of 15.0: whether addresses have 57 bits.
    pub la57: bool,
    /// Sv48: whether addresses have 48 bits instead of 39.
    pub sv48: bool,
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
            sv48: false,
        }
    }
}

/// `[memory]`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Memory {
    /// Bytes of RAM, 16 MiB to 1 TiB.
    pub size: Bytes,
    /// Bytes of the first bank of RAM. On amd64 that is where the PC hole begins, and the second
    /// bank starts at 4 GiB.
    #[serde(default = "three_gib")]
    pub low: Bytes,
    /// Bytes per page: 16 KiB only on aarch64.
    #[serde(default = "four_kib")]
    pub page_size: Bytes,
    /// Physical ranges that are RAM and not in `dump_avail` (firmware's).
    #[serde(default)]
    pub holes: Vec<(Bytes, Bytes)>,
    /// Whether there is a `vm_page_array`.
    #[serde(default = "yes")]
    pub vm_page_array: bool,
    /// Whether `vm_page_array` is mapped into the kernel map by 2 MiB leaves (as since 13), or
    /// reached through the direct map.
    #[serde(default)]
    pub vm_page_array_in_direct_map: bool,
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

/// What a 1 GiB leaf of the kernel map maps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Giant {
    /// Device memory: nothing of it is dumped.
    Device,
    /// The first GiB of RAM: all of it is dumped.
    Ram,
}

/// Shares of the kinds of content, in any unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
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

/// `[content]`: pages beside those of the kernel's own structures.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Content {
    /// Mapped into the kernel map by leaves of one page.
    pub kernel: Bytes,
    /// Mapped into the kernel map by large leaves (2 MiB).
    pub large: Bytes,
    /// Reached only through the direct map, in `vm_page_dump`.
    pub direct: Bytes,
    /// Mapped or in `vm_page_dump`, half and half, but PG_NODUMP.
    pub nodump: Bytes,
    /// Populated and not to be dumped: user pages, page cache.
    pub user: Bytes,
    /// What they hold.
    pub mix: Mix,
    /// A 1 GiB leaf in the kernel map.
    pub giant: Option<Giant>,
}

/// `[state]`: what the machine was doing.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct State {
    /// What the kernel panicked of. Without it the machine runs: `panicstr` is null, `dumptid`
    /// and `dumppcb` are zero, no CPU is stopped.
    pub panic: Option<String>,
    /// Whether it sits in its debugger since, and has dumped nothing: `kdb_active` is set, `dumptid`
    /// and `dumppcb` are zero.
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
#[serde(deny_unknown_fields, default)]
pub struct Msgbuf {
    /// Bytes of ring and `struct msgbuf` together, whole pages.
    pub size: Bytes,
    /// Whether more was written than the ring holds.
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

/// A machine, described.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Description {
    /// Where all that is random comes from.
    #[serde(default)]
    pub seed: u64,
    /// The processor.
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
    /// What the machine was doing.
    #[serde(default)]
    pub state: State,
    /// The message buffer.
    #[serde(default)]
    pub msgbuf: Msgbuf,
    /// Processes, oldest first; a usual set if absent.
    #[serde(default)]
    pub process: Vec<Process>,
}

impl Description {
    /// Reads a description, and refuses what no machine can be.
    ///
    /// # Errors
    ///
    /// [`Error`] with the key and the value that are not valid.
    pub fn parse(text: &str) -> Result<Self, Error> {
        let mut description: Self = toml::from_str(text).map_err(Box::new)?;
        if description.process.is_empty() {
            description.process = crowd::usual(description.state.cpus);
        }
        description.check()?;
        Ok(description)
    }

    /// The release whose ways the machine follows.
    pub fn release(&self) -> Release {
        match self.kernel.release.as_str() {
            "10.4" => Release::R10,
            "12.1" => Release::R12,
            "15.0" => Release::R15,
            // `check` has refused all others.
            _ => Release::R14,
        }
    }

    /// Physical load address of the kernel.
    pub fn load(&self) -> u64 {
        match self.kernel.load {
            Some(load) => load.0,
            None => {
                let row = self.architecture.row();
                let usual = row.load.map(|above| row.ram + above);
                usual.unwrap_or_else(|| i386_link::load(self.release(), self.kernel.pae))
            }
        }
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
        if !["10.4", "12.1", "14.0", "15.0"].contains(&self.kernel.release.as_str()) {
            return Err(Error::value(
                "kernel.release",
                &self.kernel.release,
                "10.4, 12.1, 14.0 or 15.0",
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
        let load = self.load();
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
                "2 MiB, where a kernel with an absolute kernphys always is",
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
