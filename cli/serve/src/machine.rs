//! The registers of each processor, with the names and in the order of the debuggers' descriptions.
//!
//! GDB manual, appendix "Target Descriptions", "Standard Target Features". DWARF register numbers
//! are those of each processor's ELF ABI.

use std::fmt::Write as _;

use livecore_defs::architecture::Debuggers;
use livecore_defs::{Architecture, ElfMachine};

/// A register.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Register {
    /// The name in both debuggers.
    pub(crate) name: String,
    /// The size in bits.
    pub(crate) bits: u32,
    /// The type in the target description.
    pub(crate) kind: &'static str,
    /// The DWARF number.
    pub(crate) dwarf: Option<u32>,
    /// lldb's generic name: `pc`, `sp`, `fp`, `ra`.
    pub(crate) generic: Option<&'static str>,
    /// The target feature that contains it.
    pub(crate) feature: &'static str,
}

impl Register {
    pub(crate) fn bytes(&self) -> usize {
        self.bits as usize / 8
    }
}

/// A register of every thread with the address of its `struct thread`.
pub(crate) const THREAD_REGISTER: &str = "td";
const THREAD_FEATURE: &str = "org.freebsd.livecore.thread";

/// A processor.
#[derive(Debug)]
pub(crate) struct Machine {
    /// Bytes of a pointer.
    pub(crate) word: usize,
    /// The debuggers' names of the processor.
    pub(crate) names: Debuggers,
    /// Builds the registers of its target features.
    features: Registers,
}

/// Builds a list of registers.
type Registers = fn() -> Vec<Register>;

/// The registers of each processor, by target features.
const FEATURES: [(ElfMachine, Registers); 4] = [
    (ElfMachine::EM_X86_64, amd64),
    (ElfMachine::EM_AARCH64, arm64),
    (ElfMachine::EM_RISCV, riscv64),
    (ElfMachine::EM_386, i386),
];

impl Machine {
    /// The processor with this `e_machine`, if it is supported.
    pub(crate) fn of(elf: ElfMachine) -> Option<Self> {
        let row = Architecture::of_machine(elf)?;
        let (_, features) = FEATURES.iter().find(|(machine, _)| *machine == elf)?;
        Some(Self {
            word: *row.words.first()?,
            names: row.debuggers?,
            features: *features,
        })
    }

    /// The registers for GDB: those its features require, then [`THREAD_REGISTER`].
    pub(crate) fn gdb_registers(&self) -> Vec<Register> {
        let mut list = (self.features)();
        list.push(self.thread_register());
        list
    }

    /// The registers for lldb. lldb reads the first register to find out whether it may read
    /// registers one by one, so [`THREAD_REGISTER`] comes first. Registers that no kernel saves for
    /// a thread (those of the floating-point unit) are omitted.
    pub(crate) fn lldb_registers(&self) -> Vec<Register> {
        let mut list = vec![self.thread_register()];
        let whole = |r: &Register| r.bits == self.word as u32 * 8 || r.name == "eflags";
        list.extend((self.features)().into_iter().filter(whole));
        list
    }

    fn thread_register(&self) -> Register {
        Register {
            name: THREAD_REGISTER.into(),
            bits: self.word as u32 * 8,
            kind: "data_ptr",
            dwarf: None,
            generic: None,
            feature: THREAD_FEATURE,
        }
    }

    /// The target description with `registers`. It contains no ABI, since a GDB without FreeBSD
    /// support rejects the registers if there is one.
    pub(crate) fn description(&self, registers: &[Register]) -> String {
        let mut xml = String::from(
            "<?xml version=\"1.0\"?>\n<!DOCTYPE target SYSTEM \"gdb-target.dtd\">\n<target \
             version=\"1.0\">\n",
        );
        // Writing to a string does not fail.
        let _ = writeln!(xml, "<architecture>{}</architecture>", self.names.gdb);
        let mut feature = "";
        // lldb numbers the processor's registers from 0 in its own tables, in this order, so our
        // register comes last whatever its packet number is.
        let numbered = || registers.iter().enumerate();
        let ours = |r: &Register| r.name == THREAD_REGISTER;
        let ordered = numbered()
            .filter(|(_, r)| !ours(r))
            .chain(numbered().filter(|(_, r)| ours(r)));
        for (number, register) in ordered {
            if register.feature != feature {
                if !feature.is_empty() {
                    xml += "</feature>\n";
                }
                feature = register.feature;
                let _ = writeln!(xml, "<feature name=\"{feature}\">");
            }
            let _ = write!(
                xml,
                "<reg name=\"{}\" bitsize=\"{}\" type=\"{}\" regnum=\"{number}\"",
                register.name, register.bits, register.kind
            );
            if let Some(dwarf) = register.dwarf {
                let _ = write!(xml, " dwarf_regnum=\"{dwarf}\" ehframe_regnum=\"{dwarf}\"");
            }
            if let Some(generic) = register.generic {
                let _ = write!(xml, " generic=\"{generic}\"");
            }
            xml += "/>\n";
        }
        if !feature.is_empty() {
            xml += "</feature>\n";
        }
        xml + "</target>\n"
    }
}

/// The registers of one feature, from a list of names.
fn list(feature: &'static str, bits: u32, names: &str) -> Vec<Register> {
    names
        .split_whitespace()
        .map(|name| Register {
            name: name.into(),
            bits,
            kind: if bits == 32 { "int" } else { "int64" },
            dwarf: None,
            generic: None,
            feature,
        })
        .collect()
}

/// Sets the type and the generic name of registers.
fn roles(list: &mut [Register], roles: &[(&str, &'static str, &'static str)]) {
    for (name, generic, kind) in roles {
        for register in list.iter_mut().filter(|r| r.name == *name) {
            register.generic = Some(generic);
            register.kind = kind;
        }
    }
}

/// Sets DWARF numbers from `first` on, in the order of `names`.
fn dwarf(list: &mut [Register], first: u32, names: &str) {
    for (number, name) in (first..).zip(names.split_whitespace()) {
        for register in list.iter_mut().filter(|r| r.name == name) {
            register.dwarf = Some(number);
        }
    }
}

fn x87(feature: &'static str) -> Vec<Register> {
    let mut found = list(feature, 80, "st0 st1 st2 st3 st4 st5 st6 st7");
    for register in &mut found {
        register.kind = "i387_ext";
    }
    let control = "fctrl fstat ftag fiseg fioff foseg fooff fop";
    found.extend(list(feature, 32, control));
    found
}

fn amd64() -> Vec<Register> {
    const CORE: &str = "org.gnu.gdb.i386.core";
    let general = "rax rbx rcx rdx rsi rdi rbp rsp r8 r9 r10 r11 r12 r13 r14 r15 rip";
    let mut found = list(CORE, 64, general);
    found.extend(list(CORE, 32, "eflags cs ss ds es fs gs"));
    found.extend(x87(CORE));
    found.extend(list("org.gnu.gdb.i386.segments", 64, "fs_base gs_base"));
    dwarf(
        &mut found,
        0,
        "rax rdx rcx rbx rsi rdi rbp rsp r8 r9 r10 r11 r12 r13 r14 r15 rip",
    );
    roles(
        &mut found,
        &[
            ("rip", "pc", "code_ptr"),
            ("rsp", "sp", "data_ptr"),
            ("rbp", "fp", "data_ptr"),
            ("eflags", "flags", "int"),
        ],
    );
    found
}

fn i386() -> Vec<Register> {
    const CORE: &str = "org.gnu.gdb.i386.core";
    let mut found = list(
        CORE,
        32,
        "eax ecx edx ebx esp ebp esi edi eip eflags cs ss ds es fs gs",
    );
    found.extend(x87(CORE));
    dwarf(&mut found, 0, "eax ecx edx ebx esp ebp esi edi eip");
    roles(
        &mut found,
        &[
            ("eip", "pc", "code_ptr"),
            ("esp", "sp", "data_ptr"),
            ("ebp", "fp", "data_ptr"),
            ("eflags", "flags", "int"),
        ],
    );
    found
}

fn arm64() -> Vec<Register> {
    const CORE: &str = "org.gnu.gdb.aarch64.core";
    let names: Vec<_> = (0..31).map(|n| format!("x{n}")).collect();
    let names = names.join(" ") + " sp pc";
    let mut found = list(CORE, 64, &names);
    found.extend(list(CORE, 32, "cpsr"));
    dwarf(&mut found, 0, &names);
    roles(
        &mut found,
        &[
            ("pc", "pc", "code_ptr"),
            ("sp", "sp", "data_ptr"),
            ("x29", "fp", "int64"),
            ("x30", "ra", "int64"),
        ],
    );
    found
}

fn riscv64() -> Vec<Register> {
    let names = "zero ra sp gp tp t0 t1 t2 fp s1 a0 a1 a2 a3 a4 a5 a6 a7 s2 s3 s4 s5 s6 s7 s8 s9 \
                 s10 s11 t3 t4 t5 t6 pc";
    let mut found = list("org.gnu.gdb.riscv.cpu", 64, names);
    dwarf(&mut found[..32], 0, names);
    roles(
        &mut found,
        &[
            ("pc", "pc", "code_ptr"),
            ("sp", "sp", "data_ptr"),
            ("fp", "fp", "data_ptr"),
            ("ra", "ra", "code_ptr"),
        ],
    );
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Debuggers number a processor's registers by their position in its features.
    #[test]
    fn descriptions_have_no_abi_and_number_every_register() {
        for machine in FEATURES.iter().filter_map(|(elf, _)| Machine::of(*elf)) {
            for registers in [machine.gdb_registers(), machine.lldb_registers()] {
                let xml = machine.description(&registers);
                assert!(!xml.contains("osabi"), "{xml}");
                assert_eq!(xml.matches("<reg ").count(), registers.len());
                assert_eq!(
                    xml.matches("<feature ").count(),
                    xml.matches("</feature>").count()
                );
                for generic in ["pc", "sp", "fp"] {
                    let of = |r: &&Register| r.generic == Some(generic);
                    assert_eq!(registers.iter().filter(of).count(), 1, "{generic}");
                }
            }
            assert_eq!(machine.lldb_registers()[0].name, THREAD_REGISTER);
        }
    }
}
