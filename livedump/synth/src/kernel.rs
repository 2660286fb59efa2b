//! A kernel: its ELF file and the addresses of its symbols.

use std::collections::BTreeMap;

use super::cfi;
use super::chains::{self, Names};
use super::code::Code;
use super::description::Description;
use super::elf;
use super::error::Error;
use super::rng::Rng;
use super::truth::Symbol;

/// The section of a variable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Section {
    /// `.rodata`.
    Constant,
    /// `.data`.
    Data,
    /// `.bss`.
    Zero,
    /// No section: SHN_ABS.
    Absolute,
}

/// A variable of the kernel.
#[derive(Clone, Debug)]
pub(crate) struct Variable {
    pub(crate) name: &'static str,
    pub(crate) section: Section,
    pub(crate) global: bool,
    pub(crate) size: u64,
    /// Its bytes in the file; the value of an absolute symbol.
    pub(crate) bytes: Vec<u8>,
}

impl Variable {
    pub(crate) fn zero(name: &'static str, size: u64) -> Self {
        Self {
            name,
            section: Section::Zero,
            global: true,
            size,
            bytes: Vec::new(),
        }
    }

    pub(crate) fn data(name: &'static str, bytes: impl Into<Vec<u8>>) -> Self {
        let bytes = bytes.into();
        Self {
            name,
            section: Section::Data,
            global: true,
            size: bytes.len() as u64,
            bytes,
        }
    }

    pub(crate) fn int(name: &'static str, value: u32) -> Self {
        Self {
            section: Section::Constant,
            ..Self::data(name, value.to_le_bytes())
        }
    }

    pub(crate) fn absolute(name: &'static str, value: u64) -> Self {
        Self {
            section: Section::Absolute,
            size: 0,
            ..Self::data(name, value.to_le_bytes())
        }
    }

    pub(crate) fn local(self) -> Self {
        Self {
            global: false,
            ..self
        }
    }
}

/// A finished kernel.
pub(crate) struct Kernel {
    /// The file.
    pub(crate) elf: Vec<u8>,
    /// The contents that it loads: address and bytes, ascending. The rest up to `end` is zero.
    pub(crate) loads: Vec<(u64, Vec<u8>)>,
    /// First address.
    pub(crate) start: u64,
    /// End of the last section.
    pub(crate) end: u64,
    /// By name. Of two local symbols with the same name, the first.
    pub(crate) symbols: BTreeMap<String, Symbol>,
    /// Functions by address.
    pub(crate) functions: Vec<(u64, String)>,
    /// The instructions of its code.
    pub(crate) code: &'static Code,
    /// Functions that leave by a tail call, and the called functions.
    pub(crate) tail_calls: &'static [(&'static str, &'static str)],
}

impl Kernel {
    /// Returns the address of a symbol.
    pub(crate) fn address(&self, name: &str) -> Result<u64, Error> {
        self.symbols
            .get(name)
            .map(|symbol| symbol.value)
            .ok_or_else(|| Error::Kernel(format!("no symbol `{name}`")))
    }

    /// Returns the function that contains an address, and the offset in it.
    pub(crate) fn function_at(&self, pc: u64) -> (&str, u64) {
        let i = self.functions.partition_point(|(va, _)| *va <= pc);
        match i.checked_sub(1).map(|i| &self.functions[i]) {
            Some((va, name)) => (name, pc - va),
            None => ("", pc),
        }
    }

    /// Returns the bytes of a function, up to the next one.
    fn body(&self, name: &str) -> Result<(u64, &[u8]), Error> {
        let va = self.address(name)?;
        let i = self.functions.partition_point(|(at, _)| *at <= va);
        let end = self.functions.get(i).map_or(u64::MAX, |(at, _)| *at);
        self.loads
            .iter()
            .find_map(|(base, bytes)| {
                let from = usize::try_from(va.checked_sub(*base)?).ok()?;
                let to = usize::try_from(end.saturating_sub(*base))
                    .ok()?
                    .min(bytes.len());
                bytes.get(from..to).map(|code| (va, code))
            })
            .ok_or_else(|| Error::Kernel(format!("no code at `{name}`")))
    }

    /// Returns the return address of the call of `callee` in `caller`: after the call instruction
    /// if there is one, else inside the function.
    pub(crate) fn call_site(&self, caller: &str, callee: &str) -> Result<u64, Error> {
        let target = self.address(callee)?;
        let (va, code) = self.body(caller)?;
        let insns = self.code;
        for at in (0..code.len().saturating_sub(insns.call_len)).step_by(insns.step) {
            let call = insns.call(va + at as u64, target);
            if code[at..].starts_with(&call) {
                return Ok(va + (at + insns.call_len) as u64);
            }
        }
        self.inside(caller)
    }

    /// Returns an address in the middle of a function.
    pub(crate) fn inside(&self, function: &str) -> Result<u64, Error> {
        let (va, code) = self.body(function)?;
        Ok(va + (code.len() as u64 / 2).clamp(1, 24))
    }
}

const VERBS: [&str; 16] = [
    "init", "alloc", "free", "lookup", "insert", "remove", "attach", "detach", "lock", "unlock",
    "start", "stop", "read", "write", "map", "flush",
];
const SUBSYSTEMS: [&str; 24] = [
    "vm_object",
    "vm_map",
    "vfs_cache",
    "bufobj",
    "sctp",
    "tcp",
    "udp",
    "ip6",
    "ifnet",
    "bpf",
    "uma_zone",
    "kmem",
    "sbuf",
    "devfs",
    "geom",
    "cam",
    "ahci",
    "nvme",
    "usb",
    "pci",
    "acpi",
    "zfs_arc",
    "ufs",
    "nfs",
];
const OBJECTS: [&str; 12] = [
    "node", "entry", "page", "queue", "list", "ctx", "state", "hdr", "desc", "ref", "table", "hash",
];

struct Body {
    name: String,
    at: u64,
    code: Vec<u8>,
    /// The offset of each call, and the called function.
    calls: Vec<(usize, String)>,
}

fn bodies(
    start: u64,
    insns: &Code,
    names: &Names,
    wanted: Vec<(&str, Vec<&str>)>,
    extra: u32,
    rng: &mut Rng,
) -> Vec<Body> {
    let mut wanted: Vec<(String, Vec<String>)> = wanted
        .into_iter()
        .map(|(name, calls)| (name.into(), calls.into_iter().map(String::from).collect()))
        .collect();
    let known = wanted.len() as u64;
    for i in 0..extra {
        let name = format!(
            "{}_{}_{}{}",
            rng.pick(&SUBSYSTEMS),
            rng.pick(&OBJECTS),
            rng.pick(&VERBS),
            i
        );
        let calls = (0..rng.below(4))
            .map(|_| wanted[rng.below(known) as usize].0.clone())
            .collect();
        let at = 1 + rng.below(wanted.len() as u64) as usize;
        wanted.insert(at, (name, calls));
    }
    if let Some(i) = wanted.iter().position(|(name, _)| name == names.first) {
        wanted.swap(0, i);
    }
    let mut at = start;
    let mut bodies = Vec::new();
    for (name, callees) in wanted {
        let mut code = insns.prologue.to_vec();
        let mut calls = Vec::new();
        let filler = |code: &mut Vec<u8>, rng: &mut Rng| {
            for _ in 0..2 + rng.below(16) {
                let insn: &&[u8] = rng.pick(insns.filler);
                code.extend_from_slice(insn);
            }
        };
        filler(&mut code, rng);
        for callee in callees {
            calls.push((code.len(), callee));
            code.resize(code.len() + insns.call_len, 0);
            filler(&mut code, rng);
        }
        code.extend_from_slice(insns.epilogue);
        code.resize(code.len().next_multiple_of(16), insns.pad);
        let len = code.len() as u64;
        bodies.push(Body {
            name,
            at,
            code,
            calls,
        });
        at += len;
    }
    bodies
}

/// Writes a kernel with symbols, generated code and variables, without debug information. `extra` are
/// names and contents of sections that are not loaded.
pub(crate) fn symbols(
    description: &Description,
    (insns, names): (&'static Code, &Names),
    start: u64,
    variables: &[Variable],
    mut extra: Vec<(&'static str, Vec<u8>)>,
) -> Kernel {
    let load = description.load().0;
    let mut rng = Rng::new(description.seed, "kernel");
    let functions = description.kernel.functions;
    let wanted = chains::functions(names, !description.lock.is_empty());
    let mut bodies = bodies(start, insns, names, wanted, functions, &mut rng);
    let addresses: BTreeMap<String, u64> = bodies.iter().map(|b| (b.name.clone(), b.at)).collect();
    let mut text = Vec::new();
    for body in &mut bodies {
        for (call, callee) in &body.calls {
            // A body calls only functions of the list from which it was made.
            let insn = insns.call(body.at + *call as u64, addresses[callee]);
            body.code[*call..*call + insn.len()].copy_from_slice(&insn);
        }
        text.extend(&body.code);
    }
    let ranges = bodies.iter().map(|b| (&*b.name, b.at, b.code.len() as u64));
    extra.extend(cfi::section(names.cfi, ranges).map(|bytes| (".eh_frame", bytes)));
    let etext = start + text.len() as u64;
    // A root table of larger pages needs their alignment.
    let pages = if variables.iter().any(|v| v.size == 16384) {
        16384
    } else {
        4096
    };
    let page = |va: u64| va.next_multiple_of(pages);

    let mut symbols: Vec<elf::Symbol> = bodies
        .iter()
        .map(|body| elf::Symbol {
            name: body.name.clone(),
            value: body.at,
            size: if names.assembly.contains(&&*body.name) {
                0
            } else {
                body.code.len() as u64
            },
            function: true,
            global: body.name != names.local,
            home: elf::Home::Section(0),
        })
        .collect();

    let mut sections = vec![elf::Section {
        name: ".text",
        va: start,
        pa: load,
        size: text.len() as u64,
        bytes: text,
        write: false,
        execute: true,
    }];
    let mut at = etext;
    let mut edata = etext;
    for (i, (section, name)) in [
        (Section::Constant, ".rodata"),
        (Section::Data, ".data"),
        (Section::Zero, ".bss"),
    ]
    .into_iter()
    .enumerate()
    {
        let base = page(at);
        let mut bytes = Vec::new();
        let mut size = 0u64;
        for variable in variables.iter().filter(|v| v.section == section) {
            let align = match variable.size {
                0..4 => 1,
                4..8 => 4,
                8..64 => 8,
                64..4096 => 64,
                // A page table.
                16384 => 16384,
                _ => 4096,
            };
            size = size.next_multiple_of(align);
            if section != Section::Zero {
                bytes.resize(size as usize, 0);
                bytes.extend(&variable.bytes);
                bytes.resize((size + variable.size) as usize, 0);
            }
            symbols.push(elf::Symbol {
                name: variable.name.into(),
                value: base + size,
                size: variable.size,
                function: false,
                global: variable.global,
                home: elf::Home::Section(i + 1),
            });
            size += variable.size;
        }
        sections.push(elf::Section {
            name,
            va: base,
            pa: base - start + load,
            bytes,
            size,
            write: section != Section::Constant,
            execute: false,
        });
        at = base + size;
        if section == Section::Data {
            edata = at;
        }
    }
    for variable in variables.iter().filter(|v| v.section == Section::Absolute) {
        let mut value = [0; 8];
        value.copy_from_slice(&variable.bytes);
        symbols.push(elf::Symbol {
            name: variable.name.into(),
            value: u64::from_le_bytes(value),
            size: 0,
            function: false,
            global: true,
            home: elf::Home::Absolute,
        });
    }
    for (name, value, section) in [
        ("_etext", etext, 0),
        ("_edata", edata, 2),
        ("__bss_start", sections[3].va, 3),
        ("_end", at, 3),
    ] {
        symbols.push(elf::Symbol {
            name: name.into(),
            value,
            size: 0,
            function: false,
            global: true,
            home: elf::Home::Section(section),
        });
    }

    let elf = elf::write(
        description.row().elf_machine,
        start,
        &sections,
        &symbols,
        &extra,
    );
    Kernel {
        elf,
        loads: sections
            .into_iter()
            .filter(|s| !s.bytes.is_empty())
            .map(|s| (s.va, s.bytes))
            .collect(),
        start,
        end: at,
        code: insns,
        tail_calls: &[],
        functions: bodies.into_iter().map(|b| (b.at, b.name)).collect(),
        symbols: symbols
            .into_iter()
            .map(|s| {
                (
                    s.name,
                    Symbol {
                        value: s.value,
                        size: s.size,
                        absolute: s.home == elf::Home::Absolute,
                    },
                )
            })
            .collect(),
    }
}
