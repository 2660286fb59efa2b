//! Parses a CPU of an architecture with a row [`CpuFields`](livecore_defs::cpu::CpuFields): names and
//! values in hexadecimal, separated by spaces (riscv64) or `=` (arm64), among other text. QEMU
//! `target/riscv/cpu.c`, `riscv_cpu_dump_state`, and `target/arm/cpu.c`, `aarch64_cpu_dump_state`, as
//! of 7.2.

use livecore_defs::Architecture;

use crate::image::Named;

/// Parses the registers of `arch`; `None` if one of them is not in `text`.
pub(super) fn parse(arch: &'static Architecture, text: &str) -> Option<Named> {
    let is_separator = |c: char| c.is_whitespace() || c == '=';
    let words = text.split(is_separator).filter(|word| !word.is_empty());
    let words: Vec<_> = words.collect();
    let value = |(name, len): &(&str, usize)| {
        let is = |word: &str| word == *name || name.ends_with('/') && word.starts_with(name);
        let [_, digits] = words.windows(2).find(|pair| is(pair[0]))? else {
            return None;
        };
        // A 32-bit register has half as many digits.
        let value = u64::from_str_radix(digits, 16).ok()?;
        (digits.len() == 2 * len).then_some(value)
    };
    let values: Option<Vec<_>> = arch.cpu?.monitor.iter().map(value).collect();
    Named::new(
        arch,
        values?.into_iter().take(arch.prstatus_registers().len()),
    )
}

#[cfg(test)]
mod tests {
    use super::super::parse as all;
    use super::*;
    use crate::image::{CpuState, Registers};
    use livecore_defs::VirtAddr;

    fn named(cpu: &CpuState) -> Named {
        match cpu.registers {
            Registers::Named(registers) => registers,
            _ => panic!("{cpu:?}"),
        }
    }

    /// Output of QEMU 7.2, `-M virt -smp 2`, with a kernel running; the second CPU has `PC`, `SP`,
    /// `PSTATE` and the first registers of a user program.
    const ARM64: &str = "\r
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
        let both = all(ARM64).unwrap();
        let [cpu, other] = both[..] else {
            panic!("{} processors", both.len());
        };
        assert_eq!((cpu.number, other.number), (0, 1));
        let (kernel, user) = (named(&cpu), named(&other));
        let some = [
            "pc", "sp", "cpsr", "x0", "x1", "x9", "x13", "x18", "x29", "x30",
        ];
        assert_eq!(
            some.map(|name| kernel.get(name).unwrap()),
            [
                0xffff_0000_0007_ca68,
                0xffff_0000_4021_e1a0,
                0x2000_03c5,
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
            ["x0", "x1", "x2"].map(|name| user.get(name).unwrap()),
            [2, 3, 4],
            "registers of another CPU are mixed in"
        );
        let place = Some((
            VirtAddr(0xffff_0000_0007_ca68),
            VirtAddr(0xffff_0000_4021_e1a0),
        ));
        assert_eq!(cpu.registers.place(), place);
        // Older versions break lines at other positions.
        let wrapped = ARM64.replace("\r\nX", " X").replace(" X1", "\n X1");
        assert_eq!(all(&wrapped).unwrap(), both);
    }

    #[test]
    fn arm64_text_without_all_registers_is_refused() {
        for missing in ["PC=", "X00=", "X17=", "X30=", "SP=", "PSTATE="] {
            let cut = ARM64.replace(missing, "YYY=");
            for cpu in all(&cut).unwrap() {
                assert_eq!(cpu.registers, Registers::Unknown, "without {missing}");
            }
        }
        let wrong = ARM64.replace("X18=ffff", "X18=?fff");
        assert_eq!(all(&wrong).unwrap()[0].registers, Registers::Unknown);
    }

    /// Output of QEMU 7.2, `-M virt`, with a kernel running, without most control and
    /// floating-point registers.
    const RISCV64: &str = "\r
CPU#0\r
 V      =   0\r
 pc       ffffffc00008db80\r
 mhartid  0000000000000000\r
 mepc     ffffffc0002a3efc\r
 sepc     ffffffc000145aa0\r
 satp     8000000000081373\r
 x0/zero  0000000000000000 x1/ra    ffffffc000091010 x2/sp    ffffffc00f094368 x3/gp    ffffffc000790df8\r
 x4/tp    ffffffc00080f8c0 x5/t0    0000000000000000 x6/t1    0000000000000000 x7/t2    0000000000000000\r
 x8/s0    ffffffc00f0943a8 x9/s1    ffffffc0007a5c70 x10/a0   ffffffc0007a5c70 x11/a1   ffffffc00008db80\r
 x12/a2   ffffffffffffffff x13/a3   ffffffc7fffff005 x14/a4   ffffffc0002928a0 x15/a5   ffffffc000292882\r
 x16/a6   fefefefefefefeff x17/a7   8080808080808080 x18/s2   ffffffc0007a5c60 x19/s3   ffffffc0007935cc\r
 x20/s4   00000000ffffffff x21/s5   ffffffffffffffff x22/s6   ffffffc0007935cc x23/s7   ffffffc00079b940\r
 x24/s8   0000000000000080 x25/s9   ffffffc00079b930 x26/s10  ffffffc00079b950 x27/s11  0000000000000002\r
 x28/t3   0000000000000000 x29/t4   0000000000000000 x30/t5   0000000000000000 x31/t6   0000000000000000\r
 f0/ft0   ffffffff00000000 f1/ft1   ffffffff00000000 f2/ft2   ffffffff00000000 f3/ft3   ffffffff00000000\r
";

    #[test]
    fn riscv64_registers_are_parsed() {
        // A second CPU, in user mode.
        let user = RISCV64
            .replace("CPU#0", "CPU#1")
            .replace(" pc       ffffffc00008db80", " pc       000000000001db80");
        let both = all(&format!("{RISCV64}{user}")).unwrap();
        let [cpu, other] = both[..] else {
            panic!("{} processors", both.len());
        };
        assert_eq!((cpu.number, other.number), (0, 1));
        let (kernel, user) = (named(&cpu), named(&other));
        let some = ["pc", "ra", "sp", "tp", "fp", "a1", "a7", "s11"];
        assert_eq!(
            some.map(|name| kernel.get(name).unwrap()),
            [
                0xffff_ffc0_0008_db80,
                0xffff_ffc0_0009_1010,
                0xffff_ffc0_0f09_4368,
                0xffff_ffc0_0080_f8c0,
                0xffff_ffc0_0f09_43a8,
                0xffff_ffc0_0008_db80,
                0x8080_8080_8080_8080,
                2,
            ]
        );
        assert!(!kernel.is_user() && user.is_user());
        assert_eq!(
            cpu.registers.place(),
            Some((
                VirtAddr(0xffff_ffc0_0008_db80),
                VirtAddr(0xffff_ffc0_0f09_4368)
            ))
        );
    }

    #[test]
    fn riscv64_text_without_all_registers_is_refused() {
        for missing in [" pc ", "x0/zero", "x1/ra", "x18/s2", "x31/t6"] {
            let cut = RISCV64.replace(missing, " y ");
            let cpus = all(&cut).unwrap();
            assert_eq!(cpus[0].registers, Registers::Unknown, "without {missing}");
        }
        // Registers of a 32-bit CPU.
        let short = RISCV64.replace(" ffffffc0", " ").replace(" 00000000", " ");
        assert_eq!(all(&short).unwrap()[0].registers, Registers::Unknown);
        let wrong = RISCV64.replace("x31/t6   0000000000000000", "x31/t6");
        assert_eq!(all(&wrong).unwrap()[0].registers, Registers::Unknown);
    }
}
