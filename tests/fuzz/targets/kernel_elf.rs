#![no_main]
//! Reads a kernel file: symbols by name and by address, contents at addresses, and backtraces with its
//! call frame information and its debug information.

use livecore_kernel::isf::Isf;
use livecore_kernel::{Kernel, Registers};
use livecore_minidump::{KernelElf, KernelMemory, PhysAddr, ReadError, VirtAddr};

/// Memory that repeats the input at every address.
struct Repeated<'a>(&'a [u8]);

impl KernelMemory for Repeated<'_> {
    fn page_size(&self) -> u64 {
        4096
    }

    fn read_phys(&self, at: PhysAddr, buf: &mut [u8]) -> Result<(), ReadError> {
        let skip = (at.0 % self.0.len() as u64) as usize;
        let mut bytes = self.0.iter().cycle().skip(skip);
        buf.fill_with(|| *bytes.next().unwrap_or(&0));
        Ok(())
    }

    fn translate(&self, at: VirtAddr) -> Result<PhysAddr, ReadError> {
        Ok(PhysAddr(at.0))
    }
}

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
    if let Ok(isf) = Isf::of(&elf, None) {
        let _ = isf.write(&mut std::io::sink());
    }
    let Some(set) = Registers::set_of(elf.machine(), elf.pointer_size()) else {
        return;
    };
    let kernel = Kernel::new(Repeated(bytes), &elf);
    for (_, symbol) in elf.symbols().take(4) {
        let mut registers = Registers::unknown(set);
        for register in set.registers {
            registers.put(register.name, symbol.value);
        }
        registers.put(set.pc, symbol.value.wrapping_add(symbol.size / 2));
        assert!(kernel.stack(&registers).len() < 1 << 16);
    }
});
