//! A kernel's image in a raw file, before addresses are known.

use std::sync::Arc;

use livecore_defs::amd64::PAGE_SIZE;
use livecore_minidump::{KernelElf, KernelMemory, PhysAddr, PhysMemory, ReadError, VirtAddr};

/// A kernel's `version`.
pub(super) struct Version {
    at: VirtAddr,
    len: usize,
    /// Its text in the kernel file; `None` if that has no contents.
    own: Option<Vec<u8>>,
}

impl Version {
    pub(super) fn of(elf: &KernelElf) -> Option<Self> {
        let symbol = elf.symbol("version")?;
        let len = (symbol.size as usize).clamp(16, 512);
        let own = elf.bytes_at(VirtAddr(symbol.value), len);
        Some(Self {
            at: VirtAddr(symbol.value),
            len,
            own: own.filter(|own| own.in_file).map(|own| own.bytes),
        })
    }

    /// Whether the kernel file has the text; a file with symbols only does not.
    pub(super) fn has_text(&self) -> bool {
        self.own.is_some()
    }

    /// Whether an image has the version at its address.
    pub(super) fn is_in(&self, image: &Linear) -> bool {
        let mut found = vec![0; self.len];
        let read = image.read_virt(self.at, &mut found).is_ok();
        read && match &self.own {
            Some(own) => found == *own,
            None => found.starts_with(b"FreeBSD "),
        }
    }
}

/// A kernel's image, linked from `link` on, in memory from `start` on.
pub(super) struct Linear {
    pub(super) memory: Arc<dyn PhysMemory>,
    pub(super) link: VirtAddr,
    pub(super) start: PhysAddr,
}

impl KernelMemory for Linear {
    fn page_size(&self) -> u64 {
        PAGE_SIZE
    }

    fn read_phys(&self, at: PhysAddr, buf: &mut [u8]) -> Result<(), ReadError> {
        let read = self.memory.read(at, buf);
        read.map_err(|source| ReadError::Io { at, source })
    }

    fn translate(&self, at: VirtAddr) -> Result<PhysAddr, ReadError> {
        let pa = at.offset_from(self.link);
        let pa = pa.and_then(|offset| self.start.checked_add(offset));
        pa.ok_or(ReadError::NotMapped {
            at,
            why: "the address is below the kernel's image",
        })
    }
}
