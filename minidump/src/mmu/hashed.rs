//! Hashed page tables of powerpc64.
//!
//! Addresses in the kernel file are below the direct map and are relocated to the addresses of the
//! running kernel. The direct map is checked before the kernel map. The section is the whole hashed
//! page table: groups of eight entries. An entry for a page may be in either of two groups.

use super::mapping::{Mapping, Protection, Sink, WalkEnd};
use super::tables::{OUTSIDE, Tables, not_mapped};
use crate::{MinidumpHeader, PhysAddr, ReadError, VirtAddr};
use livecore_defs::minidump::PAGE_SIZE;
use livecore_defs::powerpc64::{
    ADDR_SR_SHIFT, KERNBASE, LARGE_PAGE_SHIFT, LPTE_API_SHIFT, LPTE_AVPN_API, LPTE_BIG, LPTE_BR,
    LPTE_HID, LPTE_LP_4K_16M, LPTE_LP_MASK, LPTE_LP_RPGN, LPTE_NOEXEC, LPTE_PP, LPTE_RPGN,
    LPTE_SEGMENT, LPTE_SIZE, LPTE_VALID, LPTE_VSID, LPTE_VSID_SHIFT, LPTEG_ENTRIES, PTEG_HASH_BITS,
    VSID_HASH_BITS, VSID_HASH_MULTIPLIER,
};

/// Translates `at` to a physical address.
pub(super) fn translate(tables: &dyn Tables, at: VirtAddr) -> Result<PhysAddr, ReadError> {
    let header = tables.header();
    let va = kernel_address(header, at).0;
    if (header.dmapbase..=header.dmapend).contains(&va) {
        return Ok(PhysAddr(va & !header.dmapbase));
    }
    if !(header.kernbase..=header.kernend).contains(&va) {
        return not_mapped(at, OUTSIDE);
    }
    let frame = lookup(tables, at, va)?;
    Ok(PhysAddr(frame + va % PAGE_SIZE))
}

/// The address in the running kernel of `at`, which may be an address in the kernel file.
pub(super) fn kernel_address(header: &MinidumpHeader, at: VirtAddr) -> VirtAddr {
    if at.0 >= header.dmapbase {
        return at;
    }
    let moved = at.0.wrapping_add(header.startkernel);
    VirtAddr(moved.wrapping_sub(KERNBASE.0))
}

/// The frame of the small page at `va` in an entry. `None` for a page of 16 MiB whose size encoding
/// is not that of a segment of small pages. Since 13, a page of 16 MiB in such a segment has an
/// entry for each small page.
fn small_frame(hi: u64, lo: u64, va: u64) -> Option<u64> {
    if hi & LPTE_BIG == 0 {
        return Some(lo & LPTE_RPGN);
    }
    let within = va % (1 << LARGE_PAGE_SHIFT) / PAGE_SIZE * PAGE_SIZE;
    (lo & LPTE_LP_MASK == LPTE_LP_4K_16M).then_some((lo & LPTE_LP_RPGN) + within)
}

/// The frame of the small page at `va`.
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
                && (hi & LPTE_VSID) >> LPTE_VSID_SHIFT == vsid
                && (hi & LPTE_AVPN_API) >> LPTE_API_SHIFT == page >> API_BELOW
                && let Some(frame) = small_frame(hi, lo, va)
            {
                return Ok(frame);
            }
        }
    }
    not_mapped(at, "no entry of the hashed page table maps it")
}

/// Walks the hashed page table. The lower 11 bits of a page number follow only from the index of the
/// entry's group. Hardware therefore requires at least 2048 groups; a smaller table is not walked.
pub(super) fn walk(tables: &dyn Tables, sink: &mut Sink<'_>) -> Result<WalkEnd, ReadError> {
    let header = tables.header();
    let groups = u64::from(header.pmapsize) / (LPTE_SIZE as u64 * LPTEG_ENTRIES);
    let mut end = WalkEnd::default();
    if groups < 1 << API_BELOW {
        return Ok(end);
    }
    for index in 0..groups * LPTEG_ENTRIES {
        let at = VirtAddr(header.kernbase);
        let (hi, lo) = tables.pmap_pair(at, index)?;
        if hi & LPTE_VALID == 0 || hi & LPTE_SEGMENT != 0 {
            continue;
        }
        let vsid = (hi & LPTE_VSID) >> LPTE_VSID_SHIFT;
        let hash = if hi & LPTE_HID == 0 {
            index / LPTEG_ENTRIES
        } else {
            !(index / LPTEG_ENTRIES)
        };
        let api = (hi & LPTE_AVPN_API) >> LPTE_API_SHIFT;
        let page = (api << API_BELOW) | ((hash ^ vsid) & ((1 << API_BELOW) - 1));
        let va = (esid_of(vsid) << ADDR_SR_SHIFT) + page * PAGE_SIZE;
        if !(header.kernbase..=header.kernend).contains(&va) {
            continue;
        }
        let Some(frame) = small_frame(hi, lo, va) else {
            continue;
        };
        let mapping = Mapping {
            va: VirtAddr(va),
            pa: PhysAddr(frame),
            len: PAGE_SIZE,
            protection: Protection {
                write: lo & LPTE_PP != LPTE_BR,
                execute: lo & LPTE_NOEXEC == 0,
            },
        };
        if sink(mapping).is_break() {
            end.stopped = true;
            break;
        }
    }
    Ok(end)
}

/// Bits of a page number below its abbreviated index.
const API_BELOW: u32 = 11;

/// The segment whose identifier is `vsid`. The multiplier is odd, so it has an inverse.
fn esid_of(vsid: u64) -> u64 {
    // Newton's iteration doubles the number of correct bits. The first value has 3.
    let mut inverse = VSID_HASH_MULTIPLIER;
    for _ in 0..5 {
        let error = VSID_HASH_MULTIPLIER.wrapping_mul(inverse);
        inverse = inverse.wrapping_mul(2_u64.wrapping_sub(error));
    }
    let mask = (1 << VSID_HASH_BITS) - 1;
    let turned = (vsid & mask).wrapping_mul(inverse) & mask;
    // Undo the rotation of the 36-bit segment number by 8 bits to the left.
    ((turned >> 8) | (turned << 28)) & mask
}
