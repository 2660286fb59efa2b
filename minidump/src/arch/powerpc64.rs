//! powerpc64 with hashed page tables: kernel virtual to physical.
//!
//! Addresses of the kernel's file lie below the direct map and are moved to where it ran. The
//! direct map is tested before the kernel map. The section is the whole hashed page table: groups
//! of eight entries, two groups to look in for every page.

use crate::arch::tables::{Tables, not_mapped};
use crate::defs::minidump::PAGE_SIZE;
use crate::defs::powerpc64::{
    ADDR_SR_SHIFT, KERNBASE, LPTE_API_SHIFT, LPTE_AVPN_API, LPTE_BIG, LPTE_HID, LPTE_RPGN,
    LPTE_SEGMENT, LPTE_SIZE, LPTE_VALID, LPTE_VSID, LPTE_VSID_SHIFT, LPTEG_ENTRIES, PTEG_HASH_BITS,
    VSID_HASH_BITS, VSID_HASH_MULTIPLIER,
};
use crate::{PhysAddr, ReadError, VirtAddr};

/// The physical address behind `at`.
pub fn translate(tables: &dyn Tables, at: VirtAddr) -> Result<PhysAddr, ReadError> {
    let header = tables.header();
    let va = if at.0 < header.dmapbase {
        at.0.wrapping_add(header.startkernel).wrapping_sub(KERNBASE)
    } else {
        at.0
    };
    if (header.dmapbase..=header.dmapend).contains(&va) {
        return Ok(PhysAddr(va & !header.dmapbase));
    }
    if !(header.kernbase..=header.kernend).contains(&va) {
        return not_mapped(at, super::OUTSIDE);
    }
    let lo = lookup(tables, at, va)?;
    Ok(PhysAddr((lo & LPTE_RPGN) + va % PAGE_SIZE))
}

/// The second doubleword of the entry that maps the small page at `va`.
fn lookup(tables: &dyn Tables, at: VirtAddr, va: u64) -> Result<u64, ReadError> {
    let esid = va >> ADDR_SR_SHIFT;
    // 44 bits times 13 bits.
    let scramble = ((esid << 8) | (esid >> 28)) * VSID_HASH_MULTIPLIER;
    let vsid = (scramble % (1 << VSID_HASH_BITS)) | (1 << VSID_HASH_BITS);
    let page = va % (1 << ADDR_SR_SHIFT) / PAGE_SIZE;
    let mask = (1 << PTEG_HASH_BITS) - 1;
    let primary = (vsid & mask) ^ page;
    let groups = u64::from(tables.header().pmapsize) / (LPTE_SIZE as u64 * LPTEG_ENTRIES);
    let Some(group_mask) = groups.checked_sub(1) else {
        return not_mapped(at, "the dump has no page tables");
    };
    for (hash, hid) in [(primary, 0), (!primary & mask, LPTE_HID)] {
        let first = (hash & group_mask) * LPTEG_ENTRIES;
        for index in first..first + LPTEG_ENTRIES {
            let (hi, lo) = tables.pmap_pair(at, index)?;
            // A 16-bit page number in its segment: its upper 5 bits are the abbreviated index.
            if hi & LPTE_VALID != 0
                && hi & LPTE_HID == hid
                && hi & LPTE_SEGMENT == 0
                && hi & LPTE_BIG == 0
                && (hi & LPTE_VSID) >> LPTE_VSID_SHIFT == vsid
                && (hi & LPTE_AVPN_API) >> LPTE_API_SHIFT == page >> 11
            {
                return Ok(lo);
            }
        }
    }
    not_mapped(at, "no entry of the hashed page table maps it")
}
