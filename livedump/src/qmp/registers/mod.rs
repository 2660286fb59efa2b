//! `info registers -a` of QEMU's monitor: the CPUs of a guest.
//!
//! Each CPU begins with `CPU#` and a number; the rest depends on the target and has no signature.
//! x86 has a file, other targets a row.

mod named;
mod x86;

use livecore_defs::Architecture;

use crate::image::{CpuState, Registers};

/// Parses the CPUs; `None` if there are none. CPUs in an unsupported form have
/// [`Registers::Unknown`].
pub(super) fn parse(text: &str) -> Option<Vec<CpuState>> {
    let rows = || Architecture::ALL.into_iter();
    let mut processors = Vec::new();
    for part in text.split("CPU#").skip(1) {
        let (number, text) = part.split_once('\n')?;
        let number = number.trim().parse().ok()?;
        let registers = x86::parse(text).map(Registers::X86).or_else(|| {
            rows()
                .find_map(|row| named::parse(row, text))
                .map(Into::into)
        });
        let registers = registers.unwrap_or(Registers::Unknown);
        processors.push(CpuState::new(number, registers));
    }
    (!processors.is_empty()).then_some(processors)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpus_of_an_unsupported_form_have_no_registers() {
        // A PowerPC CPU, and an arm64 CPU in 32-bit mode.
        let text = "\r\nCPU#0\r\nNIP 0000000000000100   LR 0000000000000000 CTR 0000000000000000\r\n\
                    \r\nCPU#3\r\nR00=00000000 R01=00000000 R02=00000000 R03=00000000\r\n";
        let all = parse(text).unwrap();
        assert_eq!(all.len(), 2);
        assert_eq!((all[0].number, all[1].number), (0, 3));
        for cpu in all {
            assert_eq!(cpu.registers, Registers::Unknown);
            assert_eq!(cpu.registers.place(), None);
        }
        assert_eq!(parse("no processors"), None);
        assert_eq!(parse("CPU#0"), None);
        assert_eq!(parse("CPU#x\n"), None);
    }
}
