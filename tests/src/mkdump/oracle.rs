//! The expected contents of a dump.

use std::collections::BTreeMap;

use super::arch::Arch;
use super::payload::Payload;
use super::recipe::{Protection, Recipe};

/// A virtual page that the recipe maps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MappedPage {
    /// Virtual address.
    pub va: u64,
    /// Physical address.
    pub pa: u64,
    /// Protection in the recipe; not every dump format preserves it.
    pub protection: Protection,
    /// Whether the page is part of a large mapping.
    pub large: bool,
}

/// The contents of a dump as the recipe defines them.
#[derive(Debug)]
pub struct Oracle {
    /// Name of the architecture in recipes.
    pub architecture: &'static str,
    /// Version of the minidump format.
    pub version: u32,
    /// Page size in bytes.
    pub page_size: u64,
    /// Radix instead of hashed page tables (powerpc64).
    pub radix: bool,
    /// Every saved page by physical address.
    pub pages: BTreeMap<u64, Vec<u8>>,
    /// Every mapped page, ascending by virtual address.
    pub mapped: Vec<MappedPage>,
    /// The direct map: start, end, physical address of the start; empty if the architecture has
    /// none.
    pub dmap: (u64, u64, u64),
    /// First address of the kernel map.
    pub kernbase: u64,
    /// dump_avail.
    pub avail: Vec<(u64, u64)>,
    /// Name, offset in the payload and length of every section.
    pub sections: Vec<(&'static str, u64, u64)>,
    /// The text written to the message buffer, including any that the ring has overwritten.
    pub msgbuf: Vec<u8>,
}

impl Oracle {
    pub(crate) fn new(recipe: &Recipe, arch: &Arch, version: u32, payload: &Payload) -> Self {
        let page = recipe.page_size;
        let mut mapped = BTreeMap::new();
        for m in &recipe.maps {
            for i in 0..m.size / page.min(m.size) {
                let (va, pa) = (m.va + i * page, m.pa + i * page);
                let large = m.size > page;
                mapped.insert(
                    va,
                    MappedPage {
                        va,
                        pa,
                        protection: m.prot,
                        large,
                    },
                );
            }
        }
        // A raw entry replaces what `map` defined.
        for raw in &recipe.entries {
            let span = if raw.leaf { page } else { 0x20_0000 };
            let start = raw.va / span * span;
            mapped.retain(|va, _| !(start..=start + (span - 1)).contains(va));
        }
        let (base, end) = recipe.dmap;
        Oracle {
            architecture: arch.name,
            version,
            page_size: page,
            radix: recipe.radix,
            pages: payload.pages.clone(),
            mapped: mapped.into_values().collect(),
            dmap: (base, end, recipe.dmapphys()),
            kernbase: recipe.kernbase(),
            avail: recipe.avail.clone(),
            sections: payload.sections.clone(),
            msgbuf: recipe.msgbuf.text.clone(),
        }
    }

    /// Offset and length of a section in the payload.
    #[must_use]
    pub fn section(&self, name: &str) -> Option<(u64, u64)> {
        let section = self.sections.iter().find(|section| section.0 == name)?;
        Some((section.1, section.2))
    }
}
