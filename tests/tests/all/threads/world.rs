//! A kernel laid out by hand: a few pages of memory with processes, threads and stacks, made into a
//! dump and a kernel file by the independent builders.
//!
//! Offsets are those of FreeBSD's headers as a C compiler gives them, written down here a second
//! time.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;

use livecore_minidump::{Dump, KernelElf, OpenOptions};
use livecore_tests::{mkdump, mkelf};

/// Bytes of the piece of kernel that a world is: text, data, stacks.
pub(crate) const LEN: u64 = 0x1_0000;
const DATA: u64 = 0x3000;
/// Where structures are allocated from.
const HEAP: u64 = 0x5000;
/// Where stacks lie; each has a page.
pub(crate) const STACKS: u64 = 0x8000;

/// One architecture's world.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Port {
    /// What `mkelf` calls it.
    pub(crate) name: &'static str,
    /// What `mkdump` calls it, with the version.
    pub(crate) dump: &'static str,
    /// Bytes of a pointer.
    pub(crate) word: u64,
    /// Where the piece runs.
    pub(crate) base: u64,
    /// What its file says where it is, if elsewhere.
    pub(crate) linked: u64,
    /// Where it is in physical memory.
    pub(crate) phys: u64,
    /// How it is mapped, and other statements for `mkdump`.
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
/// The kernel runs in the direct map, its file is linked for 0x100100.
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
/// A kernel runs in KSEG0, which no entry maps.
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

/// What a thread is to be.
#[derive(Clone, Debug)]
pub(crate) struct Wanted {
    pub(crate) tid: u32,
    pub(crate) name: &'static str,
    /// `td_oncpu`; `None` is NOCPU.
    pub(crate) cpu: Option<u32>,
    /// `td_pcb`
    pub(crate) pcb: u64,
}

/// A world that is being made.
#[derive(Clone, Debug)]
pub(crate) struct World {
    pub(crate) port: Port,
    memory: BTreeMap<u64, (u64, u64)>,
    texts: Vec<(u64, String)>,
    symbols: String,
    functions: Vec<&'static str>,
    /// Whether the kernel's file has no text.
    stripped: bool,
    next: u64,
    variables: u64,
    /// Offset and bytes of `td_oncpu`.
    oncpu: (u64, u64),
}

const PID: u64 = 0x30;
const COMM: u64 = 0x40;
const THREADS: u64 = 0x10;
const TID: u64 = 0x30;
const NAME: u64 = 0x40;
const PCB: u64 = 0x60;
const PLIST: u64 = 0x10;

impl World {
    /// A kernel with the exported offsets and these functions, each 0x100 bytes long.
    pub(crate) fn new(port: Port, functions: &[&'static str]) -> Self {
        Self::with_oncpu(port, functions, (0x70, 4))
    }

    pub(crate) fn with_oncpu(port: Port, functions: &[&'static str], oncpu: (u64, u64)) -> Self {
        let mut world = Self {
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
            let at = world.variable(name, 4);
            world.put(at, 4, value);
        }
        if let Some(version) = port.version {
            let at = world.variable("osreldate", 4);
            world.put(at, 4, u64::from(version));
        }
        world.variable("allproc", port.word);
        world
    }

    /// A variable of `size` zero bytes, and its address.
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

    /// Memory that nothing else uses.
    pub(crate) fn allocate(&mut self, size: u64) -> u64 {
        let at = self.next.next_multiple_of(64);
        self.next = at + size;
        assert!(self.next <= self.port.base + STACKS, "no memory left");
        at
    }

    /// The stack `number`: its highest word is not used.
    pub(crate) fn stack(&self, number: u64) -> u64 {
        let top = self.port.base + STACKS + (number + 1) * 0x1000 - 64;
        assert!(top < self.port.base + LEN, "too many stacks");
        top
    }

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

    /// A pointer.
    pub(crate) fn word(&mut self, at: u64, value: u64) {
        self.put(at, self.port.word, value);
    }

    pub(crate) fn text(&mut self, at: u64, text: &str) {
        self.texts
            .push((at - self.port.base + self.port.phys, text.into()));
    }

    /// A label in a function.
    pub(crate) fn label(&mut self, name: &str, at: u64) {
        let linked = at - self.port.base + self.port.linked;
        writeln!(self.symbols, "symbol {name} {linked:#x} notype").unwrap();
    }

    /// The address of a function.
    pub(crate) fn function(&self, name: &str) -> u64 {
        let i = self.functions.iter().position(|f| *f == name);
        self.port.base + 0x100 * i.unwrap_or_else(|| panic!("no function {name}")) as u64
    }

    /// Links processes into the list whose head is at `head`. Each has its pid, name and threads.
    /// Their addresses, and those of their threads.
    pub(crate) fn list(
        &mut self,
        head: u64,
        processes: &[(u32, &str, &[Wanted])],
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
            for wanted in *threads {
                let thread = self.allocate(0x120);
                self.word(link, thread);
                link = thread + PLIST;
                self.put(thread + TID, 4, u64::from(wanted.tid));
                self.text(thread + NAME, wanted.name);
                self.word(thread + PCB, wanted.pcb);
                let (at, size) = self.oncpu;
                let none = if size == 1 { 0xff } else { 0xffff_ffff };
                self.put(thread + at, size, wanted.cpu.map_or(none, u64::from));
                own.push(thread);
            }
            made.push((process, own));
        }
        made
    }

    /// The address of a variable that was made.
    pub(crate) fn address(&self, name: &str) -> u64 {
        let line = self
            .symbols
            .lines()
            .find(|l| l.split(' ').nth(1) == Some(name));
        let hex = line.and_then(|l| l.split(' ').nth(2)).expect(name);
        let linked = u64::from_str_radix(&hex[2..], 16).unwrap();
        linked - self.port.linked + self.port.base
    }

    /// The dump and the kernel's file.
    pub(crate) fn made(&self) -> (Dump, KernelElf) {
        let (dump, elf) = self.files();
        (
            Dump::from_source(Arc::new(dump), &OpenOptions::default()).unwrap(),
            KernelElf::from_bytes(elf).unwrap(),
        )
    }

    /// Takes the functions and the text out of the kernel's file. Its addresses are then told by
    /// `kernbase` alone.
    pub(crate) fn strip_functions(&mut self) {
        self.functions.clear();
        self.symbols += "symbol kernbase 0xffffffff80000000 abs\n";
        self.stripped = true;
    }

    /// The bytes of both.
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
