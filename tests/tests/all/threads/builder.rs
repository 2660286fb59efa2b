//! Builder of a small kernel with processes, threads and stacks: a dump and a kernel file, built by the
//! independent builders.
//!
//! Offsets are those of FreeBSD's headers, defined here independently of the crates.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;

use livecore_minidump::{Dump, KernelElf, OpenOptions};
use livecore_tests::{mkdump, mkelf};

/// Size of the kernel: text, data, stacks.
pub(crate) const LEN: u64 = 0x1_0000;
const DATA: u64 = 0x3000;
/// Offset from which structures are allocated.
const HEAP: u64 = 0x5000;
/// Offset of the stacks, one page each.
pub(crate) const STACKS: u64 = 0x8000;

/// An architecture's addresses and names.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Port {
    /// Name in `mkelf`.
    pub(crate) name: &'static str,
    /// Name and version in `mkdump`.
    pub(crate) dump: &'static str,
    /// Size of a pointer.
    pub(crate) word: u64,
    /// Virtual address of the kernel.
    pub(crate) base: u64,
    /// Virtual address in the kernel file.
    pub(crate) linked: u64,
    /// Physical address of the kernel.
    pub(crate) phys: u64,
    /// Mappings and other statements for `mkdump`.
    pub(crate) recipe: &'static str,
    pub(crate) pcb_size: u64,
    /// `osreldate`, if the kernel has it.
    pub(crate) version: Option<u32>,
}

pub(crate) const AMD64: Port = Port {
    name: "amd64",
    dump: "amd64 3",
    word: 8,
    base: 0xffff_ffff_8020_0000,
    linked: 0xffff_ffff_8020_0000,
    phys: 0x20_0000,
    recipe: "kernbase 0xffffffff80000000\nkernend 0xffffffffc0000000\navail 0x1000 0x9000\n\
             avail 0x200000 0x220000\ntable 0xffffffff80200000 0x21f000\n\
             map 0xffffffff80200000 0x200000 4K rwx times 16\n",
    pcb_size: 320,
    version: Some(1_400_097),
};
pub(crate) const I386: Port = Port {
    name: "i386",
    dump: "i386 2",
    word: 4,
    base: 0x80_0000,
    linked: 0x80_0000,
    phys: 0x40_0000,
    recipe: "avail 0x1000 0x9f000\navail 0x400000 0x420000\n\
             map 0x800000 0x400000 4K rwx times 16\n",
    pcb_size: 192,
    version: Some(1_201_000),
};
pub(crate) const I386_PAE: Port = Port {
    name: "i386pae",
    dump: "i386pae 2",
    base: 0x40_0000,
    linked: 0x40_0000,
    phys: 0x1_0000_0000,
    recipe: "avail 0x1000 0x9f000\navail 0x100000000 0x100020000\n\
             map 0x400000 0x100000000 4K rwx times 16\n",
    ..I386
};
pub(crate) const ARM64: Port = Port {
    name: "arm64",
    dump: "arm64 2",
    word: 8,
    base: 0xffff_0000_0000_0000,
    linked: 0xffff_0000_0000_0000,
    phys: 0x4000_0000,
    recipe: "avail 0x40000000 0x40020000\nmap 0xffff000000000000 0x40000000 4K rwx times 16\n",
    pcb_size: 0x4b0,
    version: Some(1_400_097),
};
pub(crate) const RISCV64: Port = Port {
    name: "riscv64",
    dump: "riscv64 2",
    word: 8,
    base: 0xffff_ffc0_0000_0000,
    linked: 0xffff_ffc0_0000_0000,
    phys: 0x8020_0000,
    recipe: "avail 0x80200000 0x80220000\nmap 0xffffffc000000000 0x80200000 4K rwx times 16\n",
    pcb_size: 0x190,
    version: Some(1_500_068),
};
pub(crate) const ARM: Port = Port {
    name: "arm",
    dump: "arm 2",
    word: 4,
    base: 0xc000_0000,
    linked: 0xc000_0000,
    phys: 0x40_0000,
    recipe: "kernend 0xc0400000\navail 0x1000 0x9000\navail 0x400000 0x420000\n\
             map 0xc0000000 0x400000 4K rwx times 16\n",
    pcb_size: 0x300,
    version: Some(1_300_139),
};
/// The kernel runs in the direct map; its file is linked at 0x100100.
pub(crate) const POWERPC64: Port = Port {
    name: "powerpc64",
    dump: "powerpc64 2",
    word: 8,
    base: 0xc000_0000_0010_1000,
    linked: 0x10_1000,
    phys: 0x10_1000,
    recipe: "startkernel 0xc000000000100100\navail 0x0 0x200000\n\
             map 0xc008000000000000 0x1000 4K rw\npage 0x1000 fill 0\n",
    pcb_size: 0x500,
    version: Some(1_201_000),
};
pub(crate) const POWERPC64LE: Port = Port {
    name: "powerpc64le",
    dump: "powerpc64le 2",
    version: Some(1_300_139),
    ..POWERPC64
};
/// The kernel runs in the kernel map, with radix page tables.
pub(crate) const POWERPC64_RADIX: Port = Port {
    base: 0xc008_0000_0010_1000,
    recipe: "radix\nstartkernel 0xc008000000100100\navail 0x0 0x200000\n\
             map 0xc008000000101000 0x101000 4K rwx times 16\npage 0x1000 fill 0\n",
    version: Some(1_500_068),
    ..POWERPC64
};
pub(crate) const POWERPC64LE_RADIX: Port = Port {
    name: "powerpc64le",
    dump: "powerpc64le 2",
    ..POWERPC64_RADIX
};
pub(crate) const MIPS64: Port = Port {
    name: "mips64",
    dump: "mips64 2",
    word: 8,
    base: 0xc000_0000_0000_0000,
    linked: 0xc000_0000_0000_0000,
    phys: 0x40_0000,
    recipe: "avail 0x1000 0x9000\navail 0x400000 0x420000\n\
             map 0xc000000000000000 0x400000 4K rwx times 16\n",
    pcb_size: 720,
    version: Some(1_201_000),
};
/// The kernel runs in KSEG0, which has no page-table entries.
pub(crate) const MIPS: Port = Port {
    name: "mips",
    dump: "mips 2",
    word: 4,
    base: 0x8010_0000,
    linked: 0x8010_0000,
    phys: 0x10_0000,
    recipe: "avail 0x1000 0x9000\navail 0x100000 0x120000\nmap 0xc0000000 0x1000 4K rw\n",
    pcb_size: 360,
    version: Some(1_201_000),
};
pub(crate) const MIPSEL: Port = Port {
    name: "mipsel",
    dump: "mipsel 2",
    ..MIPS
};

pub(crate) const PORTS: [Port; 8] = [
    AMD64,
    I386,
    I386_PAE,
    ARM64,
    RISCV64,
    ARM,
    POWERPC64,
    POWERPC64LE,
];

/// A thread to create.
#[derive(Clone, Debug)]
pub(crate) struct NewThread {
    pub(crate) tid: u32,
    pub(crate) name: &'static str,
    /// `td_oncpu`; `None` is NOCPU.
    pub(crate) cpu: Option<u32>,
    /// `td_pcb`
    pub(crate) pcb: u64,
}

/// A kernel that is being built.
#[derive(Clone, Debug)]
pub(crate) struct KernelBuilder {
    pub(crate) port: Port,
    memory: BTreeMap<u64, (u64, u64)>,
    texts: Vec<(u64, String)>,
    symbols: String,
    functions: Vec<&'static str>,
    /// Whether the kernel file has no text.
    stripped: bool,
    next: u64,
    variables: u64,
    /// Offset and size of `td_oncpu`.
    oncpu: (u64, u64),
}

const PID: u64 = 0x30;
const COMM: u64 = 0x40;
const THREADS: u64 = 0x10;
const TID: u64 = 0x30;
const NAME: u64 = 0x40;
const PCB: u64 = 0x60;
const PLIST: u64 = 0x10;

impl KernelBuilder {
    /// A kernel with the exported offsets and these functions of 0x100 bytes each.
    pub(crate) fn new(port: Port, functions: &[&'static str]) -> Self {
        Self::with_oncpu(port, functions, (0x70, 4))
    }

    pub(crate) fn with_oncpu(port: Port, functions: &[&'static str], oncpu: (u64, u64)) -> Self {
        let mut builder = Self {
            port,
            memory: BTreeMap::new(),
            texts: Vec::new(),
            symbols: String::new(),
            functions: functions.to_vec(),
            stripped: false,
            next: port.base + HEAP,
            variables: port.base + DATA,
            oncpu,
        };
        for (name, value) in [
            ("proc_off_p_pid", PID),
            ("proc_off_p_comm", COMM),
            ("proc_off_p_list", 0),
            ("proc_off_p_threads", THREADS),
            ("thread_off_td_tid", TID),
            ("thread_off_td_name", NAME),
            ("thread_off_td_oncpu", oncpu.0),
            ("thread_off_td_pcb", PCB),
            ("thread_off_td_plist", PLIST),
            ("pcb_size", port.pcb_size),
        ] {
            let at = builder.variable(name, 4);
            builder.put(at, 4, value);
        }
        if let Some(version) = port.version {
            let at = builder.variable("osreldate", 4);
            builder.put(at, 4, u64::from(version));
        }
        builder.variable("allproc", port.word);
        builder
    }

    /// Adds a variable of `size` zero bytes and returns its address.
    pub(crate) fn variable(&mut self, name: &str, size: u64) -> u64 {
        let at = self.variables.next_multiple_of(16);
        self.variables = at + size;
        assert!(
            self.variables <= self.port.base + HEAP,
            "too many variables"
        );
        let linked = at - self.port.base + self.port.linked;
        writeln!(self.symbols, "symbol {name} {linked:#x} size {size}").unwrap();
        at
    }

    /// Allocates `size` bytes of memory.
    pub(crate) fn allocate(&mut self, size: u64) -> u64 {
        let at = self.next.next_multiple_of(64);
        self.next = at + size;
        assert!(self.next <= self.port.base + STACKS, "no memory left");
        at
    }

    /// The top of stack `number`.
    pub(crate) fn stack(&self, number: u64) -> u64 {
        let top = self.port.base + STACKS + (number + 1) * 0x1000 - 64;
        assert!(top < self.port.base + LEN, "too many stacks");
        top
    }

    /// Writes a number of `size` bytes.
    pub(crate) fn put(&mut self, at: u64, size: u64, value: u64) {
        let phys = at - self.port.base + self.port.phys;
        assert!(
            at >= self.port.base && at + size <= self.port.base + LEN,
            "{at:#x}"
        );
        let over: Vec<u64> = self
            .memory
            .range(phys..phys + size)
            .map(|(at, _)| *at)
            .collect();
        for at in over {
            self.memory.remove(&at);
        }
        self.memory.insert(phys, (size, value));
    }

    /// Writes a pointer.
    pub(crate) fn word(&mut self, at: u64, value: u64) {
        self.put(at, self.port.word, value);
    }

    pub(crate) fn text(&mut self, at: u64, text: &str) {
        self.texts
            .push((at - self.port.base + self.port.phys, text.into()));
    }

    /// Adds a label at an address.
    pub(crate) fn label(&mut self, name: &str, at: u64) {
        let linked = at - self.port.base + self.port.linked;
        writeln!(self.symbols, "symbol {name} {linked:#x} notype").unwrap();
    }

    /// The address of a function.
    pub(crate) fn function(&self, name: &str) -> u64 {
        let i = self.functions.iter().position(|f| *f == name);
        self.port.base + 0x100 * i.unwrap_or_else(|| panic!("no function {name}")) as u64
    }

    /// Adds processes (pid, name, threads) to the list whose head is at `head`. Returns the addresses
    /// of the processes and of their threads.
    pub(crate) fn list(
        &mut self,
        head: u64,
        processes: &[(u32, &str, &[NewThread])],
    ) -> Vec<(u64, Vec<u64>)> {
        let mut made = Vec::new();
        let mut link = head;
        for (pid, comm, threads) in processes {
            let process = self.allocate(0x80);
            self.word(link, process);
            link = process;
            self.put(process + PID, 4, u64::from(*pid));
            self.text(process + COMM, comm);
            let mut link = process + THREADS;
            let mut own = Vec::new();
            for new in *threads {
                let thread = self.allocate(0x120);
                self.word(link, thread);
                link = thread + PLIST;
                self.put(thread + TID, 4, u64::from(new.tid));
                self.text(thread + NAME, new.name);
                self.word(thread + PCB, new.pcb);
                let (at, size) = self.oncpu;
                let none = if size == 1 { 0xff } else { 0xffff_ffff };
                self.put(thread + at, size, new.cpu.map_or(none, u64::from));
                own.push(thread);
            }
            made.push((process, own));
        }
        made
    }

    /// The address of a variable.
    pub(crate) fn address(&self, name: &str) -> u64 {
        let line = self
            .symbols
            .lines()
            .find(|l| l.split(' ').nth(1) == Some(name));
        let hex = line.and_then(|l| l.split(' ').nth(2)).expect(name);
        let linked = u64::from_str_radix(&hex[2..], 16).unwrap();
        linked - self.port.linked + self.port.base
    }

    /// The dump and the kernel file.
    pub(crate) fn build(&self) -> (Dump, KernelElf) {
        let (dump, elf) = self.files();
        (
            Dump::from_source(Arc::new(dump), &OpenOptions::default()).unwrap(),
            KernelElf::from_bytes(elf).unwrap(),
        )
    }

    /// Removes functions and text from the kernel file. Kernel addresses are then those from
    /// `kernbase`.
    pub(crate) fn strip_functions(&mut self) {
        self.functions.clear();
        self.symbols += "symbol kernbase 0xffffffff80000000 abs\n";
        self.stripped = true;
    }

    /// The bytes of the dump and the kernel file.
    pub(crate) fn files(&self) -> (Vec<u8>, Vec<u8>) {
        let port = self.port;
        let mut recipe = format!("minidump {}\n{}", port.dump, port.recipe);
        writeln!(recipe, "pages {:#x} {} fill 0", port.phys, LEN / 0x1000).unwrap();
        for (at, (size, value)) in &self.memory {
            let bits = size * 8;
            writeln!(recipe, "put {at:#x} u{bits} {value:#x}").unwrap();
        }
        for (at, text) in &self.texts {
            writeln!(recipe, "put {at:#x} text \"{text}\"").unwrap();
        }
        let dump = mkdump::build(&recipe).unwrap_or_else(|e| panic!("{e}\n{recipe}"));
        let mut text = format!("elf {}\n", port.name);
        if self.stripped {
            text += "nosegments\n";
        } else {
            writeln!(text, "section .text {:#x} zero len 0x2000", port.linked).unwrap();
        }
        let data = port.linked + DATA;
        writeln!(text, "section .data {data:#x} zero len 0x2000").unwrap();
        for (i, name) in self.functions.iter().enumerate() {
            let at = port.linked + 0x100 * i as u64;
            writeln!(text, "symbol {name} {at:#x} size 0x100 func").unwrap();
        }
        text.push_str(&self.symbols);
        let elf = mkelf::build(&text).unwrap_or_else(|e| panic!("{e}\n{text}"));
        (dump, elf)
    }
}
