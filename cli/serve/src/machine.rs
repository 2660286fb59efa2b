//! Target descriptions: the registers of a processor, with the names and in the order of the
//! debuggers' features ([`livecore_defs::debuggers`]).

use std::fmt::Write as _;

use livecore_defs::debuggers::Debuggers;
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
    /// Its names and registers in debuggers.
    pub(crate) names: &'static Debuggers,
}

impl Machine {
    /// The processor with this `e_machine`, if it is supported.
    pub(crate) fn of(elf: ElfMachine) -> Option<Self> {
        let row = Architecture::of_machine(elf)?;
        Some(Self {
            word: *row.words.first()?,
            names: row.debuggers?,
        })
    }

    /// The registers for GDB: those its features require, then [`THREAD_REGISTER`].
    pub(crate) fn gdb_registers(&self) -> Vec<Register> {
        let mut list = features(self.names);
        list.push(self.thread_register());
        list
    }

    /// The registers for lldb. lldb reads the first register to find out whether it may read
    /// registers one by one, so [`THREAD_REGISTER`] comes first. Registers that no kernel saves for
    /// a thread (those of the floating-point unit) are omitted.
    pub(crate) fn lldb_registers(&self) -> Vec<Register> {
        let mut list = vec![self.thread_register()];
        let whole = |r: &Register| r.bits == self.word as u32 * 8 || r.name == "eflags";
        list.extend(features(self.names).into_iter().filter(whole));
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

/// The registers of a processor's features, with DWARF numbers and roles.
fn features(names: &'static Debuggers) -> Vec<Register> {
    let mut list = Vec::new();
    for feature in names.features {
        let registers = feature.registers.split_whitespace();
        list.extend(registers.map(|name| Register {
            name: name.into(),
            bits: feature.bits,
            kind: match feature.bits {
                32 => "int",
                80 => "i387_ext",
                _ => "int64",
            },
            dwarf: None,
            generic: None,
            feature: feature.name,
        }));
    }
    for (number, name) in (0..).zip(names.dwarf.split_whitespace()) {
        for register in list.iter_mut().filter(|r| r.name == name) {
            register.dwarf = Some(number);
        }
    }
    for (name, generic, kind) in names.roles {
        for register in list.iter_mut().filter(|r| r.name == *name) {
            register.generic = Some(generic);
            register.kind = kind;
        }
    }
    list
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Debuggers number a processor's registers by their position in its features.
    #[test]
    fn descriptions_have_no_abi_and_number_every_register() {
        let served = Architecture::ALL
            .into_iter()
            .filter_map(|row| Machine::of(row.machine));
        for machine in served {
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
