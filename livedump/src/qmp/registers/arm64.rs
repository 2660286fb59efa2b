//! Parses an arm64 CPU: words `NAME=VALUE`, hexadecimal, `PC`, `X00` to `X30`, `SP` and `PSTATE`
//! (QEMU `target/arm/cpu.c`, `aarch64_cpu_dump_state`, as of 7.2).

use crate::image::Arm64;

pub(super) fn parse(text: &str) -> Option<Arm64> {
    let word = |name: &str| {
        text.split_whitespace()
            .find_map(|word| word.strip_prefix(name)?.strip_prefix('='))
            .and_then(|digits| u64::from_str_radix(digits, 16).ok())
    };
    let mut registers = Arm64 {
        pc: word("PC")?,
        sp: word("SP")?,
        pstate: word("PSTATE")?,
        ..Arm64::default()
    };
    for (number, value) in registers.x.iter_mut().enumerate() {
        *value = word(&format!("X{number:02}"))?;
    }
    Some(registers)
}

#[cfg(test)]
mod tests {
    use super::super::parse as all;
    use super::*;
    use crate::image::Registers;

    /// Output of QEMU 7.2, `-M virt -smp 2`, with a kernel running; the second CPU has `PC`, `SP`,
    /// `PSTATE` and the first registers of a user program.
    const TEXT: &str = "\r
CPU#0\r
 PC=ffff00000007ca68 X00=0000000000000090 X01=ffff007ffffff000\r
X02=0000000000000018 X03=0000000000000020 X04=ffff00004021e230\r
X05=0000000000000050 X06=ffff000000144cb0 X07=00000000000000ef\r
X08=0000000000000018 X09=0000000000000002 X10=ffff00000039ac30\r
X11=ffff000000297590 X12=ffff000000428000 X13=feff30746f621f39\r
X14=0000000000000000 X15=0000000000000000 X16=0000000000000000\r
X17=0000000000000000 X18=ffff0000005ca380 X19=ffff000000431260\r
X20=ffff0000003a1000 X21=ffff000000431250 X22=ffff000000431768\r
X23=000000000000005b X24=0000000000000000 X25=ffff000000428000\r
X26=ffff000000428000 X27=ffff000000428000 X28=ffff0000002f18c8\r
X29=ffff00004021e1a0 X30=ffff00000007ca68  SP=ffff00004021e1a0\r
PSTATE=200003c5 --C- EL1h    FPU disabled\r
\r
CPU#1\r
 PC=0000000000212a5c X00=0000000000000002 X01=0000000000000003\r
X02=0000000000000004 X03=0000000000000004 X04=ffff0000402c1cb0\r
X05=ffff0000402c1830 X06=0000000000000000 X07=00000000ba677f8c\r
X08=0000000000000002 X09=0000000000000002 X10=ffff0000005c8898\r
X11=0000000000000000 X12=0000000000000000 X13=0000000000000000\r
X14=00000000000008e1 X15=0000000000000d00 X16=0000000000010dcd\r
X17=ffff00000044e500 X18=ffff0000005ca580 X19=0000000000000001\r
X20=ffff0000402c18e0 X21=0000000000000004 X22=0000000000000004\r
X23=0000000000000004 X24=fffffd0000143080 X25=0000000000000078\r
X26=fffffd00000e5100 X27=ffff000040417000 X28=ffff0000002a5690\r
X29=ffff0000402c1830 X30=ffff0000002a5690  SP=0000ffffffffe830\r
PSTATE=40000000 -Z-- EL0t    FPU disabled\r
";

    #[test]
    fn arm64_registers_are_parsed() {
        let both = all(TEXT).unwrap();
        let [cpu, other] = both[..] else {
            panic!("{} processors", both.len());
        };
        assert_eq!((cpu.number, other.number), (0, 1));
        let (Registers::Arm64(kernel), Registers::Arm64(user)) = (cpu.registers, other.registers)
        else {
            panic!("{cpu:?} {other:?}");
        };
        assert_eq!(kernel.pc, 0xffff_0000_0007_ca68);
        assert_eq!(kernel.sp, 0xffff_0000_4021_e1a0);
        assert_eq!(kernel.pstate, 0x2000_03c5);
        let some = [0, 1, 9, 13, Arm64::PCPU, Arm64::FP, Arm64::LR];
        assert_eq!(
            some.map(|number| kernel.x[number]),
            [
                0x90,
                0xffff_007f_ffff_f000,
                2,
                0xfeff_3074_6f62_1f39,
                0xffff_0000_005c_a380,
                0xffff_0000_4021_e1a0,
                0xffff_0000_0007_ca68,
            ]
        );
        assert!(!kernel.is_user() && user.is_user());
        assert_eq!(
            user.x[..3],
            [2, 3, 4],
            "registers of another CPU are mixed in"
        );
        assert_eq!(cpu.registers.place(), Some((kernel.pc, kernel.sp)));
        // Older versions break lines at other positions.
        let wrapped = TEXT.replace("\r\nX", " X").replace(" X1", "\n X1");
        assert_eq!(all(&wrapped).unwrap(), both);
    }

    #[test]
    fn text_without_all_registers_is_refused() {
        for missing in ["PC=", "X00=", "X17=", "X30=", "SP=", "PSTATE="] {
            let cut = TEXT.replace(missing, "YYY=");
            for cpu in all(&cut).unwrap() {
                assert_eq!(cpu.registers, Registers::Unknown, "without {missing}");
            }
        }
        let wrong = TEXT.replace("X18=ffff", "X18=?fff");
        assert_eq!(all(&wrong).unwrap()[0].registers, Registers::Unknown);
    }
}
