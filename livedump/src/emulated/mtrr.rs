//! The memory type range registers of an x86 machine, as FreeBSD's driver handles them
//! (`sys/x86/x86/x86_mem.c`).
//!
//! The table has 88 fixed ranges for the first MiB (8 of 64 KiB, 16 of 16 KiB, 64 of 4 KiB), if
//! there are any, then the variable ranges. Update and remove follow the driver exactly. In
//! particular, the slots after an exact match are not checked for overlaps.

use livecore_defs::PhysAddr;

use crate::mem4::MemError;
use crate::mem4::range::{MemRange, Owner};
use crate::sys::memrange::{MEMRANGE_SET_REMOVE, MEMRANGE_SET_UPDATE, Mdf};

/// The number of fixed ranges.
pub(crate) const FIXED: usize = 88;

/// Below this address fixed ranges are used, if there are any.
const FIXTOP: PhysAddr = PhysAddr(0x10_0000);

/// `(first address, length, count)` for each size of fixed ranges.
const FIXED_SIZES: [(u64, u64, u64); 3] = [
    (0, 0x1_0000, 8),
    (0x8_0000, 0x4000, 16),
    (0xc_0000, 0x1000, 64),
];

/// The owner of active ranges that no program has set.
const BIOS: &[u8] = b"BIOS";

/// Flags of all fixed ranges.
const FIXED_FLAGS: Mdf = Mdf(Mdf::FIXBASE.0 | Mdf::FIXLEN.0 | Mdf::FIXACTIVE.0 | Mdf::ACTIVE.0);

/// The memory types, one of which must be requested.
const TYPES: [Mdf; 5] = [
    Mdf::UNCACHEABLE,
    Mdf::WRITECOMBINE,
    Mdf::WRITETHROUGH,
    Mdf::WRITEBACK,
    Mdf::WRITEPROTECT,
];

/// The table of ranges.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mtrr {
    ranges: Vec<MemRange>,
    /// The number of fixed ranges at the start of `ranges`: 88 or 0.
    fixed: usize,
}

impl Mtrr {
    /// The ranges that firmware sets: low memory cached, the legacy window uncached, ROMs
    /// write-protected, and the addresses between `low`, the end of memory below 4 GiB, and 4 GiB
    /// uncached, as far as `variable` slots suffice. Unused slots have base 0 and length
    /// `2^maxphyaddr`.
    pub fn firmware(low: PhysAddr, variable: usize, maxphyaddr: u32) -> Self {
        let mut ranges = Vec::with_capacity(FIXED + variable);
        for (first, len, count) in FIXED_SIZES {
            for index in 0..count {
                let base = first + index * len;
                let attribute = match base {
                    0xa_0000..0xc_0000 => Mdf::UNCACHEABLE,
                    0xc_0000.. => Mdf::WRITEPROTECT,
                    _ => Mdf::WRITEBACK,
                };
                ranges.push(MemRange {
                    base: PhysAddr(base),
                    len,
                    flags: FIXED_FLAGS | Mdf::FIRMWARE | attribute,
                    owner: Owner::new(BIOS),
                });
            }
        }
        let mut base = low.0.min(1 << 32).next_multiple_of(1 << 20);
        for _ in 0..variable {
            // The largest power of two that `base` is a multiple of and that ends by 4 GiB.
            let left = (1_u64 << 32).saturating_sub(base);
            let len = match base {
                0 => left,
                _ => (base & base.wrapping_neg()).min(left),
            };
            ranges.push(if len == 0 {
                Self::unused(maxphyaddr)
            } else {
                MemRange {
                    base: PhysAddr(base),
                    len,
                    flags: Mdf::UNCACHEABLE | Mdf::ACTIVE | Mdf::FIRMWARE,
                    owner: Owner::new(BIOS),
                }
            });
            base += len;
        }
        Self {
            ranges,
            fixed: FIXED,
        }
    }

    /// A table of `ranges`. If `fixed`, the first 88 are the fixed ones.
    pub fn from_ranges(ranges: Vec<MemRange>, fixed: bool) -> Option<Self> {
        let fixed = if fixed { FIXED } else { 0 };
        (ranges.len() >= fixed).then_some(Self { ranges, fixed })
    }

    /// Changes the table to what the driver reads back after programming processors with
    /// `maxphyaddr` bits of physical address (`x86_mrfetch`): variable ranges lose higher address
    /// bits, and become bogus if they are then invalid; inactive ranges get the base, length and type
    /// of an unused slot. The other flags stay: a range that firmware set keeps
    /// [`Mdf::FIRMWARE`], and an invalid one [`Mdf::BOGUS`], until an update. An active range without
    /// an owner belongs to `BIOS`.
    pub fn reread(&mut self, maxphyaddr: u32) {
        let unused = Self::unused(maxphyaddr);
        let mask = (unused.len - 1) & !0xfff;
        for range in self.ranges.iter_mut().skip(self.fixed) {
            if range.flags.contains(Mdf::ACTIVE) {
                range.base.0 &= mask;
                range.len = range.len.min(unused.len);
            } else {
                range.base = unused.base;
                range.len = unused.len;
                range.flags = range.flags.without(Mdf::ATTRMASK) | unused.flags;
            }
            if invalid(range.base.0, range.len).is_some() {
                range.flags = range.flags | Mdf::BOGUS;
            }
        }
        for range in &mut self.ranges {
            if range.flags.contains(Mdf::ACTIVE) && range.owner.is_empty() {
                range.owner = Owner::new(BIOS);
            }
        }
    }

    fn unused(maxphyaddr: u32) -> MemRange {
        MemRange {
            base: PhysAddr(0),
            len: 1 << maxphyaddr.min(63),
            flags: Mdf::UNCACHEABLE,
            owner: Owner::default(),
        }
    }

    /// The ranges, fixed ones first.
    pub fn ranges(&self) -> &[MemRange] {
        &self.ranges
    }

    /// Whether the first [`FIXED`] ranges are fixed.
    pub(crate) fn has_fixed(&self) -> bool {
        self.fixed != 0
    }

    /// MEMRANGE_SET with any operation.
    ///
    /// # Errors
    ///
    /// [`MemError::BadRangeOperation`], and those of [`Mtrr::update`] and [`Mtrr::remove`].
    pub fn set(&mut self, range: &MemRange, operation: i32) -> Result<(), MemError> {
        match operation {
            MEMRANGE_SET_UPDATE => self.update(range),
            MEMRANGE_SET_REMOVE => self.remove(range.base, range.len),
            operation => Err(MemError::BadRangeOperation { operation }),
        }
    }

    /// Adds or changes a range. Only the memory type and [`Mdf::FORCE`] of its flags are used.
    ///
    /// # Errors
    ///
    /// [`MemError::BadRange`], [`MemError::RangeBusy`], [`MemError::UnknownKind`] or
    /// [`MemError::NoFreeRange`], as the driver answers.
    pub fn update(&mut self, range: &MemRange) -> Result<(), MemError> {
        let (base, len) = (range.base, range.len);
        let bad = |why| Err(MemError::BadRange { base, len, why });
        if let Some(why) = invalid(base.0, len) {
            return bad(why);
        }
        let attribute = range.flags.attributes();
        if !TYPES.contains(&attribute) {
            return bad("exactly one memory type is required");
        }
        let force = range.flags.contains(Mdf::FORCE);
        if self.has_fixed() && base.0.wrapping_add(len) <= FIXTOP.0 {
            if base >= FIXTOP {
                return bad("the range ends at 2^64, where the driver's arithmetic wraps");
            }
            self.update_fixed(range, attribute, force)
        } else {
            self.update_variable(range, attribute, force)
        }
    }

    fn update_fixed(
        &mut self,
        range: &MemRange,
        attribute: Mdf,
        force: bool,
    ) -> Result<(), MemError> {
        let (base, len) = (range.base, range.len);
        let touched = |fixed: &MemRange| overlap(fixed, base, len);
        let fixed = &mut self.ranges[..self.fixed];
        if !force
            && let Some(unknown) = fixed
                .iter()
                .find(|fixed| touched(fixed) && fixed.flags.contains(Mdf::UNKNOWN))
        {
            return Err(MemError::UnknownKind {
                base: unknown.base,
                len: unknown.len,
            });
        }
        for fixed in fixed.iter_mut().filter(|fixed| touched(fixed)) {
            fixed.flags = fixed.flags.without(Mdf::ATTRMASK).without(Mdf::FIRMWARE) | attribute;
            fixed.owner = range.owner;
        }
        Ok(())
    }

    fn update_variable(
        &mut self,
        range: &MemRange,
        attribute: Mdf,
        force: bool,
    ) -> Result<(), MemError> {
        let (base, len) = (range.base, range.len);
        let mut free = None;
        let mut target = None;
        for (index, slot) in self.ranges.iter().enumerate().skip(self.fixed) {
            if !slot.flags.contains(Mdf::ACTIVE) {
                free = free.or(Some(index));
                continue;
            }
            if slot.is(base, len) {
                if slot.flags.contains(Mdf::BUSY) {
                    return Err(MemError::RangeBusy { base, len });
                }
                if slot.flags.contains(Mdf::UNKNOWN) && !force {
                    return Err(MemError::UnknownKind { base, len });
                }
                target = Some(index);
                break;
            }
            if overlap(slot, base, len) && !compatible(slot.flags.attributes(), attribute) {
                return Err(MemError::BadRange {
                    base,
                    len,
                    why: "it overlaps an active range of another memory type",
                });
            }
        }
        let index = target.or(free).ok_or(MemError::NoFreeRange)?;
        self.ranges[index] = MemRange {
            base,
            len,
            flags: Mdf::ACTIVE | attribute,
            owner: range.owner,
        };
        Ok(())
    }

    /// Disables the first range with this base and length.
    ///
    /// # Errors
    ///
    /// [`MemError::NoSuchRange`], [`MemError::FixedRange`] or [`MemError::RangeBusy`].
    pub fn remove(&mut self, base: PhysAddr, len: u64) -> Result<(), MemError> {
        let range = self
            .ranges
            .iter_mut()
            .find(|range| range.is(base, len))
            .ok_or(MemError::NoSuchRange { base, len })?;
        if range.flags.contains(Mdf::FIXACTIVE) {
            return Err(MemError::FixedRange { base, len });
        }
        if range.flags.contains(Mdf::BUSY) {
            return Err(MemError::RangeBusy { base, len });
        }
        range.flags = range.flags.without(Mdf::ACTIVE);
        range.owner = Owner::default();
        Ok(())
    }
}

/// Why a variable range cannot have this base and length.
fn invalid(base: u64, len: u64) -> Option<&'static str> {
    if !base.is_multiple_of(4096) || len < 4096 {
        Some("base and length must be multiples of 4096")
    } else if !len.is_power_of_two() {
        Some("length must be a power of two")
    } else if !base.is_multiple_of(len) {
        Some("base must be a multiple of the length")
    } else {
        None
    }
}

/// Whether a range overlaps `range`, in the driver's arithmetic (`mroverlap`): an end wraps at 2^64.
fn overlap(range: &MemRange, base: PhysAddr, len: u64) -> bool {
    let within =
        |at: PhysAddr, base: PhysAddr, len: u64| at >= base && at.0 < base.0.wrapping_add(len);
    within(base, range.base, range.len) || within(range.base, base, len)
}

/// Whether overlapping ranges may have these memory types: equal ones, or uncacheable and
/// write-back, where uncacheable takes precedence.
fn compatible(one: Mdf, other: Mdf) -> bool {
    let pair = Mdf::WRITEBACK | Mdf::UNCACHEABLE;
    !one.contains(Mdf::UNKNOWN) && (one == other || one | other == pair)
}

#[cfg(test)]
mod tests {
    use super::*;

    const GIB: u64 = 1 << 30;

    fn table() -> Mtrr {
        Mtrr::firmware(PhysAddr(3 * GIB), 4, 40)
    }

    fn range(base: u64, len: u64, flags: Mdf) -> MemRange {
        MemRange {
            base: PhysAddr(base),
            len,
            flags,
            owner: Owner::new(b"test"),
        }
    }

    #[test]
    fn firmware_sets_88_fixed_ranges_and_the_pci_hole() {
        let table = table();
        assert_eq!(table.ranges().len(), 92);
        let covered: u64 = table.ranges()[..FIXED].iter().map(|r| r.len).sum();
        assert_eq!(covered, FIXTOP.0);
        assert_eq!(
            table.ranges()[FIXED].to_string(),
            "0xc0000000/0x40000000 BIOS uncacheable set-by-firmware active "
        );
        assert_eq!(
            table.ranges()[FIXED + 1].to_string(),
            "0x0/0x10000000000 - uncacheable "
        );
    }

    #[test]
    fn einval_for_misaligned_ranges_odd_sizes_and_missing_types() {
        let mut table = table();
        let before = table.clone();
        for (base, len, flags) in [
            (0x1000_0800, 0x1000, Mdf::WRITEBACK),
            (0x1000_0000, 0x800, Mdf::WRITEBACK),
            (0x1000_0000, 0x3000, Mdf::WRITEBACK),
            (0x1000_1000, 0x2000, Mdf::WRITEBACK),
            (0x1000_0000, 0, Mdf::WRITEBACK),
            (0x1000_0000, 0x1000, Mdf::ACTIVE),
            (0x1000_0000, 0x1000, Mdf::WRITEBACK | Mdf::WRITECOMBINE),
            (0x1000_0000, 0x1000, Mdf::UNKNOWN),
        ] {
            let error = table.update(&range(base, len, flags)).unwrap_err();
            assert_eq!(error.errno(), libc::EINVAL, "{error}");
        }
        assert_eq!(table, before);
    }

    #[test]
    fn einval_for_an_overlap_with_another_type() {
        let mut table = table();
        let error = table
            .update(&range(2 * GIB, 2 * GIB, Mdf::WRITECOMBINE))
            .unwrap_err();
        assert_eq!(error.errno(), libc::EINVAL, "{error}");
        // Hardware defines only one mix: write-back over uncacheable.
        table
            .update(&range(2 * GIB, 2 * GIB, Mdf::WRITEBACK))
            .unwrap();
        assert_eq!(
            table.ranges()[FIXED + 1].to_string(),
            "0x80000000/0x80000000 test write-back active "
        );
    }

    #[test]
    fn ebusy_for_a_busy_range() {
        let mut ranges = table().ranges().to_vec();
        ranges[FIXED].flags = ranges[FIXED].flags | Mdf::BUSY;
        let mut table = Mtrr::from_ranges(ranges, true).unwrap();
        let pci = range(3 * GIB, GIB, Mdf::UNCACHEABLE);
        for operation in [MEMRANGE_SET_UPDATE, MEMRANGE_SET_REMOVE] {
            let error = table.set(&pci, operation).unwrap_err();
            assert!(matches!(error, MemError::RangeBusy { .. }), "{error}");
            assert_eq!(error.errno(), libc::EBUSY);
        }
    }

    #[test]
    fn enospc_when_all_variable_ranges_are_in_use() {
        let mut table = table();
        for i in 0..3 {
            let base = (8 + i) * GIB;
            table.update(&range(base, GIB, Mdf::WRITECOMBINE)).unwrap();
        }
        let error = table
            .update(&range(16 * GIB, GIB, Mdf::WRITEBACK))
            .unwrap_err();
        assert_eq!(error.errno(), libc::ENOSPC, "{error}");
        // An exact match needs no free slot.
        table.update(&range(8 * GIB, GIB, Mdf::WRITEBACK)).unwrap();
    }

    #[test]
    fn enoent_and_eperm_for_ranges_that_cannot_be_removed() {
        let mut table = table();
        let error = table.remove(PhysAddr(5 * GIB), GIB).unwrap_err();
        assert_eq!(error.errno(), libc::ENOENT, "{error}");
        let error = table.remove(PhysAddr(0), 0x1_0000).unwrap_err();
        assert_eq!(error.errno(), libc::EPERM, "{error}");
    }

    #[test]
    fn eacces_for_an_unknown_type_without_force() {
        let mut ranges = table().ranges().to_vec();
        for index in [0, FIXED] {
            ranges[index].flags = ranges[index].flags.without(Mdf::ATTRMASK) | Mdf::UNKNOWN;
        }
        let mut table = Mtrr::from_ranges(ranges, true).unwrap();
        for (base, len) in [(3 * GIB, GIB), (0, 0x2_0000)] {
            let error = table.update(&range(base, len, Mdf::WRITEBACK)).unwrap_err();
            assert_eq!(error.errno(), libc::EACCES, "{error}");
            table
                .update(&range(base, len, Mdf::WRITEBACK | Mdf::FORCE))
                .unwrap();
        }
        assert_eq!(
            table.ranges()[FIXED].flags,
            Mdf::WRITEBACK | Mdf::ACTIVE,
            "the force flag is not stored"
        );
    }

    #[test]
    fn eopnotsupp_for_other_operations() {
        let error = table().set(&range(0, 4096, Mdf::WRITEBACK), 2).unwrap_err();
        assert_eq!(error.errno(), libc::EOPNOTSUPP, "{error}");
    }

    #[test]
    fn update_of_fixed_ranges_covers_all_overlapping_ones() {
        let mut table = table();
        table
            .update(&range(0xb_8000, 0x1000, Mdf::WRITECOMBINE))
            .unwrap();
        let changed = table
            .ranges()
            .iter()
            .filter(|r| r.owner == Owner::new(b"test"))
            .collect::<Vec<_>>();
        assert_eq!(changed.len(), 1);
        assert!(changed[0].is(PhysAddr(0xb_8000), 0x4000));
        assert!(!changed[0].flags.contains(Mdf::FIRMWARE));
        assert!(changed[0].flags.contains(FIXED_FLAGS | Mdf::WRITECOMBINE));
    }

    #[test]
    fn removed_range_is_inactive_and_has_no_owner() {
        let mut table = table();
        table.remove(PhysAddr(3 * GIB), GIB).unwrap();
        let slot = &table.ranges()[FIXED];
        assert!(!slot.flags.contains(Mdf::ACTIVE));
        assert!(slot.owner.is_empty());
        // The driver allows to remove it again.
        table.remove(PhysAddr(3 * GIB), GIB).unwrap();
        // `x86_mrfetch` keeps the flags that the processor does not have.
        table.reread(40);
        assert_eq!(
            table.ranges()[FIXED].to_string(),
            "0x0/0x10000000000 - uncacheable set-by-firmware "
        );
        // An update starts with MDF_ACTIVE alone (`x86_mrsetvariable`).
        let video = range(3 * GIB, GIB, Mdf::WRITECOMBINE);
        table.update(&video).unwrap();
        table.remove(PhysAddr(3 * GIB), GIB).unwrap();
        table.reread(40);
        assert_eq!(
            table.ranges()[FIXED].to_string(),
            "0x0/0x10000000000 - uncacheable "
        );
    }

    /// `x86_mrfetch`: "If unclaimed and active, must be the BIOS."
    #[test]
    fn active_ranges_without_an_owner_belong_to_the_bios() {
        let mut table = table();
        for (base, len) in [(0xb_8000, 0x4000), (8 * GIB, GIB)] {
            let mut range = range(base, len, Mdf::WRITEBACK);
            range.owner = Owner::default();
            table.update(&range).unwrap();
        }
        table.reread(40);
        let ours = |range: &&MemRange| !range.flags.contains(Mdf::FIRMWARE);
        let active = |range: &&MemRange| range.flags.contains(Mdf::ACTIVE);
        let set: Vec<_> = table.ranges().iter().filter(ours).filter(active).collect();
        assert_eq!(set.len(), 2);
        assert!(set.iter().all(|range| range.owner == Owner::new(b"BIOS")));
    }

    /// `mr_base + mr_len` is 0 in the driver, which is below the first MiB, where no fixed range has
    /// the base. Without fixed ranges, the range is accepted and overlaps nothing by its own end.
    #[test]
    fn einval_for_a_range_whose_end_wraps_to_0() {
        let mut table = table();
        let last = range(GIB.wrapping_neg(), GIB, Mdf::WRITECOMBINE);
        let before = table.clone();
        let error = table.update(&last).unwrap_err();
        assert_eq!(error.errno(), libc::EINVAL, "{error}");
        assert_eq!(table, before);
        let variable = table.ranges()[FIXED..].to_vec();
        let mut table = Mtrr::from_ranges(variable, false).unwrap();
        table.update(&last).unwrap();
    }

    #[test]
    fn rereading_drops_unsupported_address_bits() {
        let mut table = table();
        let high = range((1 << 52) + 8 * GIB, GIB, Mdf::WRITECOMBINE);
        table.update(&high).unwrap();
        table.reread(40);
        assert_eq!(
            table.ranges()[FIXED + 1].to_string(),
            "0x200000000/0x40000000 test write-combine active "
        );
        table.remove(PhysAddr(8 * GIB), GIB).unwrap();
        let endless = range(0, 1 << 63, Mdf::UNCACHEABLE);
        table.update(&endless).unwrap();
        table.reread(40);
        assert_eq!(
            table.ranges()[FIXED + 1].to_string(),
            "0x0/0x10000000000 test uncacheable active "
        );
        assert_eq!(
            table.ranges()[..FIXED],
            super::Mtrr::firmware(PhysAddr(3 * GIB), 4, 40).ranges()[..FIXED]
        );
    }

    #[test]
    fn invalid_range_of_the_firmware_is_bogus_until_its_slot_is_set() {
        let mut ranges = table().ranges().to_vec();
        ranges[FIXED] = range(3 * GIB + 4096, GIB, Mdf::UNCACHEABLE | Mdf::ACTIVE);
        let mut table = Mtrr::from_ranges(ranges, true).unwrap();
        table.reread(40);
        assert!(
            table.ranges()[FIXED]
                .to_string()
                .ends_with(" active bogus ")
        );
        // Nothing in `x86_mrfetch` or in a removal clears MDF_BOGUS.
        table.remove(PhysAddr(3 * GIB + 4096), GIB).unwrap();
        table.reread(40);
        assert_eq!(
            table.ranges()[FIXED].to_string(),
            "0x0/0x10000000000 - uncacheable bogus "
        );
        table.update(&range(8 * GIB, GIB, Mdf::WRITEBACK)).unwrap();
        table.reread(40);
        assert_eq!(
            table.ranges()[FIXED].to_string(),
            "0x200000000/0x40000000 test write-back active "
        );
    }
}
