#![no_main]
//! Reads a kernel file: symbols by name and by address, contents at addresses.

use livecore_minidump::{KernelElf, VirtAddr};

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let Ok(elf) = KernelElf::from_bytes(bytes.to_vec()) else {
        return;
    };
    for (name, symbol) in elf.symbols().take(200) {
        // Names that are not UTF-8 are listed as `?`.
        assert!(
            name == "?" || elf.symbol(name).is_some(),
            "a listed symbol is found"
        );
        let _ = elf.bytes_at(VirtAddr(symbol.value), 64);
        if let Some((_, offset)) = elf.lookup(VirtAddr(symbol.value)) {
            assert!(offset <= symbol.value);
        }
    }
});
