//! The reader of kernel files against the builder of kernel files.

use livecore_tests::mkelf;
use minidump::elf::SymbolKind;
use minidump::{ByteOrder, KernelElf};

/// Addresses that fit 32 bits, so that every class can have them.
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
            (kernel.machine(), kernel.is_64(), kernel.order()),
            (machine, wide, order)
        );
        assert_eq!((kernel.osabi(), kernel.entry()), (9, 0x8020_0000), "{name}");
        let get = |symbol: &str| kernel.symbol(symbol).map(|s| (s.value, s.size, s.absolute));
        assert_eq!(get("kernbase"), Some((0x8000_0000, 0, true)), "{name}");
        assert_eq!(get("version"), Some((0x8030_0000, 4, false)), "{name}");
        assert_eq!(
            get("dumppcb"),
            Some((0x8040_0010, 64, false)),
            "{name}: a local one"
        );
        assert_eq!(
            get("twice"),
            Some((0x8040_0028, 4, false)),
            "{name}: the global one"
        );
        assert_eq!(get("nothing"), None);
        assert_eq!(kernel.symbol("panic").unwrap().kind, SymbolKind::Function);
        assert_eq!(kernel.symbols().count(), 8, "{name}");
        let number = match order {
            ByteOrder::Little => [0x78, 0x56, 0x34, 0x12],
            ByteOrder::Big => [0x12, 0x34, 0x56, 0x78],
        };
        let contents = kernel.bytes_at(0x8030_0000, 4).unwrap();
        assert!(contents.bytes == number && contents.in_file, "{name}");
        let zeros = kernel.bytes_at(0x8040_0000, 16).unwrap();
        assert!(zeros.bytes == [0; 16] && !zeros.in_file, "{name}");
        assert!(
            kernel.bytes_at(0x8030_0004, 8).is_none(),
            "{name}: it runs over the end"
        );
        assert!(kernel.bytes_at(0x9000_0000, 1).is_none(), "{name}");
        assert_eq!(kernel.lookup(0x8020_0003), Some(("btext", 3)), "{name}");
        assert_eq!(kernel.lookup(0x8020_0006), Some(("panic", 2)), "{name}");
        assert_eq!(kernel.lookup(0x801f_ffff), None, "{name}");
    }
}

#[test]
fn a_kernel_file_cut_anywhere_is_an_error_or_a_smaller_kernel() {
    let file = mkelf::build(&format!("elf amd64\n{KERNEL}")).unwrap();
    for len in (0..file.len()).step_by(7) {
        if let Ok(kernel) = KernelElf::from_bytes(file[..len].to_vec()) {
            // The headers stand at the end: nothing can be known without them.
            assert_eq!(kernel.symbols().count(), 0, "{len}");
        }
    }
}
