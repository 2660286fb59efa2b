//! Parses an x86 CPU.
//!
//! Words `NAME=VALUE`, hexadecimal, some with spaces before the `=`. The line of a segment is
//! `NAME=SELECTOR BASE LIMIT FLAGS`, that of a descriptor table `NAME= BASE LIMIT`. In 64-bit modes
//! the names are `RAX` and so on, otherwise `EAX` (QEMU `target/i386/cpu-dump.c`, as of 7.2).

use crate::image::{Control, Segment, Segments, X86};

pub(super) fn parse(text: &str) -> Option<X86> {
    // Remove the spaces before `=`, as in `R8 =0` and `ES =0000 …`.
    let mut text = text.to_owned();
    while text.contains(" =") {
        text = text.replace(" =", "=");
    }
    let word = |name: &str| {
        text.split_whitespace()
            .find_map(|word| word.strip_prefix(name)?.strip_prefix('='))
            .and_then(|digits| u64::from_str_radix(digits, 16).ok())
    };
    let long = word("RIP").is_some();
    let general = |name: &str| {
        let prefix = if long { 'R' } else { 'E' };
        word(&format!("{prefix}{name}"))
    };
    let extended = |name: &str| if long { word(name) } else { Some(0) };
    let line = |name: &str| {
        text.lines()
            .find_map(|line| line.trim_start().strip_prefix(name)?.strip_prefix('='))
            .map(|rest| {
                rest.split_whitespace()
                    .map(|word| u64::from_str_radix(word, 16))
            })
    };
    let segment = |name: &str| {
        let mut words = line(name)?;
        let selector = u16::try_from(words.next()?.ok()?).ok()?;
        let base = words.next()?.ok()?;
        let limit = u32::try_from(words.next()?.ok()?).ok()?;
        let flags = u32::try_from(words.next()?.ok()?).ok()?;
        Some(Segment {
            selector,
            limit,
            flags,
            base,
        })
    };
    let table = |name: &str| {
        let mut words = line(name)?;
        let base = words.next()?.ok()?;
        let limit = u32::try_from(words.next()?.ok()?).ok()?;
        Some(Segment {
            base,
            limit,
            ..Segment::default()
        })
    };
    Some(X86 {
        is_32: !long,
        rax: general("AX")?,
        rbx: general("BX")?,
        rcx: general("CX")?,
        rdx: general("DX")?,
        rsi: general("SI")?,
        rdi: general("DI")?,
        rsp: general("SP")?,
        rbp: general("BP")?,
        r8: extended("R8")?,
        r9: extended("R9")?,
        r10: extended("R10")?,
        r11: extended("R11")?,
        r12: extended("R12")?,
        r13: extended("R13")?,
        r14: extended("R14")?,
        r15: extended("R15")?,
        rip: general("IP")?,
        rflags: if long { word("RFL")? } else { word("EFL")? },
        segments: Some(Segments {
            cs: segment("CS")?,
            ds: segment("DS")?,
            es: segment("ES")?,
            fs: segment("FS")?,
            gs: segment("GS")?,
            ss: segment("SS")?,
            ldt: segment("LDT")?,
            tr: segment("TR")?,
            gdt: table("GDT")?,
            idt: table("IDT")?,
            // The monitor does not print it.
            kernel_gs_base: None,
        }),
        control: Some(Control {
            cr0: word("CR0")?,
            cr2: word("CR2")?,
            cr3: word("CR3")?,
            cr4: word("CR4")?,
        }),
    })
}

#[cfg(test)]
mod tests {
    use super::super::parse as all;
    use crate::image::Registers;
    use livecore_defs::PhysAddr;

    const LONG: &str = "
CPU#0
RAX=0000000000000001 RBX=0000000000000002 RCX=0000000000000003 RDX=0000000000000004
RSI=0000000000000005 RDI=0000000000000006 RBP=fffffe0000001000 RSP=fffffe0000000ff0
R8 =0000000000000008 R9 =0000000000000009 R10=000000000000000a R11=000000000000000b
R12=000000000000000c R13=000000000000000d R14=000000000000000e R15=000000000000000f
RIP=ffffffff80c09ade RFL=00000246 [---Z-P-] CPL=0 II=0 A20=1 SMM=0 HLT=0
ES =003b 0000000000000000 ffffffff 00c0f300 DPL=3 DS   [-WA]
CS =0020 0000000000000000 00000000 00209a00 DPL=0 CS64 [-R-]
SS =0028 0000000000000000 ffffffff 00c09300 DPL=0 DS   [-WA]
DS =003b 0000000000000000 ffffffff 00c0f300 DPL=3 DS   [-WA]
FS =0013 00000008238a2120 ffffffff 00c0f300 DPL=3 DS   [-WA]
GS =001b ffffffff82410000 ffffffff 00c0f300 DPL=3 DS   [-WA]
LDT=0000 0000000000000000 00000000 00008200 DPL=0 LDT
TR =0048 ffffffff82410384 00002068 00008b00 DPL=0 TSS64-busy
GDT=     ffffffff82410ce0 00000067
IDT=     ffffffff81bbd470 00000fff
CR0=80050033 CR2=0000000801234000 CR3=0000000002a45000 CR4=003506e0
DR0=0000000000000000 DR1=0000000000000000
EFER=0000000000000d01

";
    const SHORT: &str = "
CPU#1
EAX=00000001 EBX=00000000 ECX=00000000 EDX=00060fb1
ESI=00000000 EDI=00000000 EBP=c0101000 ESP=c0100ff0
EIP=c0f0fff0 EFL=00000002 [-------] CPL=0 II=0 A20=1 SMM=0 HLT=1
ES =0000 00000000 0000ffff 00009300
CS =f000 ffff0000 0000ffff 00009b00
SS =0000 00000000 0000ffff 00009300
DS =0000 00000000 0000ffff 00009300
FS =0000 00000000 0000ffff 00009300
GS =0000 00000000 0000ffff 00009300
LDT=0000 00000000 0000ffff 00008200
TR =0000 00000000 0000ffff 00008b00
GDT=     00000000 0000ffff
IDT=     00000000 0000ffff
CR0=60000010 CR2=00000000 CR3=00000000 CR4=00000000
";

    #[test]
    fn cpus_are_parsed_in_both_widths() {
        let both = all(&format!("{LONG}{SHORT}")).unwrap();
        assert_eq!(both.len(), 2);
        let (long, short) = (both[0].x86().unwrap(), both[1].x86().unwrap());
        assert!(!long.is_32 && short.is_32);
        assert_eq!((both[0].number, both[1].number), (0, 1));
        assert_eq!(
            (long.rip, long.rsp, long.rbp),
            (
                0xffff_ffff_80c0_9ade,
                0xffff_fe00_0000_0ff0,
                0xffff_fe00_0000_1000
            )
        );
        assert_eq!(
            (long.rax, long.rdi, long.r8, long.r9, long.r15),
            (1, 6, 8, 9, 15)
        );
        assert_eq!(long.rflags, 0x246);
        let segments = long.segments.unwrap();
        assert_eq!(segments.gs.base, 0xffff_ffff_8241_0000);
        assert_eq!((segments.cs.selector, segments.tr.limit), (0x20, 0x2068));
        assert_eq!(segments.gdt.base, 0xffff_ffff_8241_0ce0);
        let control = long.control.unwrap();
        assert!(control.paging());
        assert_eq!(control.root(), PhysAddr(0x2a4_5000));
        assert_eq!(
            (short.rip, short.rsp, short.r8),
            (0xc0f0_fff0, 0xc010_0ff0, 0)
        );
        assert!(!short.control.unwrap().paging());
    }

    #[test]
    fn text_without_all_registers_is_refused() {
        for missing in ["RAX=", "R15=", "CR3=", "GS =", "RFL=", "IDT="] {
            let cut = LONG.replace(missing, "XXX=");
            let cpus = all(&cut).unwrap();
            assert_eq!(cpus[0].registers, Registers::Unknown, "without {missing}");
        }
    }
}
