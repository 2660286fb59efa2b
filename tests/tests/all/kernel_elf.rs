//! The reader of kernel files against files from the independent builder.

use livecore_minidump::elf::SymbolKind;
use livecore_minidump::{ByteOrder, KernelElf, VirtAddr};
use livecore_tests::mkelf;

/// Addresses fit in 32 bits, so that both ELF classes can contain them.
const KERNEL: &str = "section .text 0x80200000 hex 55 48 89 e5 c3 90 90 90
    section .data 0x80300000 u32 0x12345678, 2
    bss .bss 0x80400000 0x1000
    symbol kernbase 0x80000000 abs notype
    symbol btext 0x80200000 func
    symbol panic 0x80200004 size 1 func
    symbol version 0x80300000 size 4
    symbol etext 0x80300004 notype
    symbol dumppcb 0x80400010 size 64 local
    symbol twice 0x80400020 size 8 local
    symbol twice 0x80400028 size 4
    entry 0x80200000";

const ARCHITECTURES: [(&str, u16, bool, ByteOrder); 8] = [
    ("amd64", 62, true, ByteOrder::Little),
    ("arm64", 183, true, ByteOrder::Little),
    ("riscv64", 243, true, ByteOrder::Little),
    ("i386", 3, false, ByteOrder::Little),
    ("arm", 40, false, ByteOrder::Little),
    ("powerpc64", 21, true, ByteOrder::Big),
    ("mips", 8, false, ByteOrder::Big),
    ("mips64el", 8, true, ByteOrder::Little),
];

#[test]
fn symbols_and_contents_are_found_in_every_class_and_byte_order() {
    for (name, machine, wide, order) in ARCHITECTURES {
        let file = mkelf::build(&format!("elf {name}\n{KERNEL}")).unwrap();
        let kernel = KernelElf::from_bytes(file).unwrap_or_else(|e| panic!("{name}: {e}"));
        assert_eq!(
            (kernel.machine().0, kernel.is_64(), kernel.order()),
            (machine, wide, order)
        );
        assert_eq!(
            (kernel.osabi(), kernel.entry()),
            (9, VirtAddr(0x8020_0000)),
            "{name}"
        );
        let get = |symbol: &str| kernel.symbol(symbol).map(|s| (s.value, s.size, s.absolute));
        assert_eq!(get("kernbase"), Some((0x8000_0000, 0, true)), "{name}");
        assert_eq!(get("version"), Some((0x8030_0000, 4, false)), "{name}");
        assert_eq!(
            get("dumppcb"),
            Some((0x8040_0010, 64, false)),
            "{name}: local symbol"
        );
        assert_eq!(
            get("twice"),
            Some((0x8040_0028, 4, false)),
            "{name}: global symbol of that name"
        );
        assert_eq!(get("nothing"), None);
        assert_eq!(kernel.symbol("panic").unwrap().kind, SymbolKind::Function);
        assert_eq!(kernel.symbols().count(), 8, "{name}");
        let number = match order {
            ByteOrder::Little => [0x78, 0x56, 0x34, 0x12],
            ByteOrder::Big => [0x12, 0x34, 0x56, 0x78],
        };
        let contents = kernel.bytes_at(VirtAddr(0x8030_0000), 4).unwrap();
        assert!(contents.bytes == number && contents.in_file, "{name}");
        let zeros = kernel.bytes_at(VirtAddr(0x8040_0000), 16).unwrap();
        assert!(zeros.bytes == [0; 16] && !zeros.in_file, "{name}");
        assert!(
            kernel.bytes_at(VirtAddr(0x8030_0004), 8).is_none(),
            "{name}: beyond the end of .data"
        );
        assert!(
            kernel.bytes_at(VirtAddr(0x9000_0000), 1).is_none(),
            "{name}"
        );
        assert_eq!(
            kernel.lookup(VirtAddr(0x8020_0003)),
            Some(("btext", 3)),
            "{name}"
        );
        assert_eq!(
            kernel.lookup(VirtAddr(0x8020_0006)),
            Some(("panic", 2)),
            "{name}"
        );
        assert_eq!(kernel.lookup(VirtAddr(0x801f_ffff)), None, "{name}");
    }
}

#[test]
fn truncated_kernel_file_is_an_error_or_has_no_symbols() {
    let file = mkelf::build(&format!("elf amd64\n{KERNEL}")).unwrap();
    for len in (0..file.len()).step_by(7) {
        if let Ok(kernel) = KernelElf::from_bytes(file[..len].to_vec()) {
            // The section headers are at the end of the file.
            assert_eq!(kernel.symbols().count(), 0, "{len}");
        }
    }
}

/// In ELFv1 a function's symbol is the address of its descriptor, which the file contains or which
/// relocations fill in. Labels of assembly code are not functions.
#[test]
fn powerpc64_elfv1_functions_are_found_by_the_address_of_their_code() {
    let text = "elf powerpc64
        section .text 0x101000 zero len 0x1000
        symbol first 0x110000 size 0x100 func
        symbol second 0x110018 size 0x80 func
        symbol trapexit 0x101300 notype
        symbol .second 0x101200 size 0x80 func local\n";
    let filled = "section .opd 0x110000 u64 0x101100, 0x118000, 0, 0x101200, 0x118000, 0\n";
    let empty = "section .opd 0x110000 zero len 48\n";
    let relocations = "section .rela.dyn 0x120000 u64 \
        0x110000, 22, 0x101100, 0x110008, 22, 0x118000, 0x110018, 22, 0x101200, 0x101008, 1, 9\n";
    for (name, sections) in [
        ("filled", filled.to_string()),
        ("relocated", format!("{empty}{relocations}")),
    ] {
        let file = mkelf::build(&format!("{text}{sections}")).unwrap();
        let kernel = KernelElf::from_bytes(file).unwrap();
        let found =
            [0x10_1104, 0x10_1200, 0x10_127c, 0x10_1304].map(|va| kernel.lookup(VirtAddr(va)));
        let expected = [
            ("first", 4),
            ("second", 0),
            ("second", 0x7c),
            ("trapexit", 4),
        ];
        assert_eq!(found, expected.map(Some), "{name}");
        // The symbol's value remains the address of the descriptor, as in the kernel's pointers.
        assert_eq!(kernel.symbol("first").unwrap().value, 0x11_0000);
        assert_eq!(
            kernel.function_start(VirtAddr(0x10_1304)),
            Some(VirtAddr(0x10_1200)),
            "{name}"
        );
    }
    // A stripped file has no functions; labels are not used instead.
    let file = mkelf::build(&format!(
        "{}{empty}",
        text.replace("symbol .second 0x101200 size 0x80 func local\n", "")
    ));
    let kernel = KernelElf::from_bytes(file.unwrap()).unwrap();
    assert_eq!(kernel.lookup(VirtAddr(0x10_1304)), None);
    assert!(!kernel.has_functions());
    // ELFv2 has no descriptors: `.opd` is an ordinary section.
    let file = mkelf::build(&format!("{text}{filled}flags 2\n")).unwrap();
    let kernel = KernelElf::from_bytes(file).unwrap();
    assert_eq!(kernel.lookup(VirtAddr(0x10_1104)), None);
    assert_eq!(kernel.lookup(VirtAddr(0x10_1304)), Some(("trapexit", 4)));
}

/// Arm and RISC-V files have mapping symbols for code and data, and compilers leave local labels.
/// An address after one belongs to the function before it.
#[test]
fn lookup_ignores_mapping_symbols_and_local_labels() {
    let text = "section .text 0x80200000 zero len 0x1000
        symbol first 0x80200000 size 0x40 func
        symbol $d 0x80200020 notype local
        symbol $a.7 0x80200028 notype local
        symbol $xrv64i2p1 0x80200030 notype local
        symbol .L0 0x80200034 notype local
        symbol $LC1 0x80200038 notype local
        symbol label 0x80200040 notype\n";
    for name in ["arm", "arm64", "riscv64", "mips"] {
        let file = mkelf::build(&format!("elf {name}\n{text}")).unwrap();
        let kernel = KernelElf::from_bytes(file).unwrap();
        for va in [0x8020_001c, 0x8020_0024, 0x8020_003c] {
            let expected = ("first", va - 0x8020_0000);
            assert_eq!(
                kernel.lookup(VirtAddr(va)),
                Some(expected),
                "{name} {va:#x}"
            );
        }
        assert_eq!(
            kernel.lookup(VirtAddr(0x8020_0044)),
            Some(("label", 4)),
            "{name}"
        );
        assert!(kernel.symbol("$d").is_some(), "{name}: found by its name");
    }
}
