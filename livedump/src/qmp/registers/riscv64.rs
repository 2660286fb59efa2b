//! Parses a riscv64 CPU: words `NAME VALUE`, hexadecimal, `pc`, and `x0/zero` to `x31/t6` among
//! others (QEMU `target/riscv/cpu.c`, `riscv_cpu_dump_state`, as of 7.2).

use crate::image::Riscv64;

/// Digits of a 64-bit register; 32-bit ones have half as many.
const DIGITS: usize = 16;

pub(super) fn parse(text: &str) -> Option<Riscv64> {
    let words: Vec<_> = text.split_whitespace().collect();
    let value = |is: &dyn Fn(&str) -> bool| {
        let digits = words.windows(2).find(|pair| is(pair[0]))?[1];
        let whole = digits.len() == DIGITS;
        u64::from_str_radix(digits, 16).ok().filter(|_| whole)
    };
    let mut registers = Riscv64 {
        pc: value(&|name| name == "pc")?,
        ..Riscv64::default()
    };
    for (number, register) in registers.x.iter_mut().enumerate() {
        let prefix = format!("x{number}/");
        *register = value(&|name| name.starts_with(&prefix))?;
    }
    Some(registers)
}

#[cfg(test)]
mod tests {
    use super::super::parse as all;
    use super::*;
    use crate::image::Registers;

    /// Output of QEMU 7.2, `-M virt`, with a kernel running, without most control and
    /// floating-point registers.
    const TEXT: &str = "\r
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
        let user = TEXT
            .replace("CPU#0", "CPU#1")
            .replace(" pc       ffffffc00008db80", " pc       000000000001db80");
        let both = all(&format!("{TEXT}{user}")).unwrap();
        let [cpu, other] = both[..] else {
            panic!("{} processors", both.len());
        };
        assert_eq!((cpu.number, other.number), (0, 1));
        let (Registers::Riscv64(kernel), Registers::Riscv64(user)) =
            (cpu.registers, other.registers)
        else {
            panic!("{cpu:?} {other:?}");
        };
        assert_eq!(kernel.pc, 0xffff_ffc0_0008_db80);
        assert_eq!(kernel.x[0], 0);
        let some = [
            Riscv64::RA,
            Riscv64::SP,
            Riscv64::TP,
            Riscv64::FP,
            11,
            17,
            27,
        ];
        assert_eq!(
            some.map(|number| kernel.x[number]),
            [
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
            Some((kernel.pc, 0xffff_ffc0_0f09_4368))
        );
    }

    #[test]
    fn text_without_all_registers_is_refused() {
        for missing in [" pc ", "x0/zero", "x1/ra", "x18/s2", "x31/t6"] {
            let cut = TEXT.replace(missing, " y ");
            let cpus = all(&cut).unwrap();
            assert_eq!(cpus[0].registers, Registers::Unknown, "without {missing}");
        }
        // Registers of a 32-bit CPU.
        let short = TEXT.replace(" ffffffc0", " ").replace(" 00000000", " ");
        assert_eq!(all(&short).unwrap()[0].registers, Registers::Unknown);
        let wrong = TEXT.replace("x31/t6   0000000000000000", "x31/t6");
        assert_eq!(all(&wrong).unwrap()[0].registers, Registers::Unknown);
    }
}
