//! The NUMA domains of a machine: `vm_ndomains` and `mem_affinity[]`.

use livecore_kernel::locate::Machine;
use livecore_minidump::{KernelElf, PhysAddr, VirtAddr};

/// Bytes of `struct mem_affinity`: `start`, `end`, `domain` (FreeBSD `sys/vm/vm_phys.h`).
const SIZE: u64 = 24;
/// The most entries that are read: `VM_PHYSSEG_MAX` of the largest port.
const ENTRIES: u64 = 64;

/// The domains of physical addresses.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Domains(Vec<Affinity>);

/// An element of `mem_affinity[]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Affinity {
    start: u64,
    end: u64,
    domain: i32,
}

impl Domains {
    /// The domains of the kernel `elf`; one if it has no such variables (no `options NUMA`), or if they
    /// cannot be read.
    pub(super) fn read(machine: &Machine, elf: &KernelElf) -> Self {
        Self::try_read(machine, elf).unwrap_or_default()
    }

    fn try_read(machine: &Machine, elf: &KernelElf) -> Option<Self> {
        let kernel = machine.kernel(elf);
        if kernel.variable("vm_ndomains", 4).ok()? <= 1 {
            return None;
        }
        let table = kernel.pointer("mem_affinity").ok()?;
        let mut found = Vec::new();
        for index in 0..ENTRIES {
            let at = VirtAddr(table.0.checked_add(index * SIZE)?);
            let field = |offset, len| {
                let field = kernel.uint_at("mem_affinity", at.wrapping_add(offset), len);
                field.ok()
            };
            let (start, end) = (field(0, 8)?, field(8, 8)?);
            if end == 0 {
                break;
            }
            let domain = field(16, 4)? as u32 as i32; // 4 bytes were read
            found.push(Affinity { start, end, domain });
        }
        Some(Self(found))
    }

    /// The domain of `at`, as `vm_phys_domain` (15.0): the first entry whose end is at or after the
    /// address, and -1 without one.
    pub(super) fn of(&self, at: PhysAddr) -> i32 {
        if self.0.is_empty() {
            return 0;
        }
        let entry = self.0.iter().find(|e| e.start <= at.0 && e.end >= at.0);
        entry.map_or(-1, |entry| entry.domain)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn domain_is_that_of_the_first_entry_up_to_its_end() {
        let entry = |start, end, domain| Affinity { start, end, domain };
        let domains = Domains(vec![entry(0, 0x1000, 1), entry(0x1000, 0x3000, 0)]);
        for (at, domain) in [
            (0, 1),
            (0xfff, 1),
            (0x1000, 1),
            (0x1001, 0),
            (0x3000, 0),
            (0x3001, -1),
        ] {
            assert_eq!(domains.of(PhysAddr(at)), domain, "{at:#x}");
        }
        assert_eq!(Domains::default().of(PhysAddr(0x5000)), 0);
    }
}
