//! Memory that QEMU's `dump-guest-memory` with paging wrote and did not claim.
//!
//! With paging, QEMU writes a segment for each mapping of the processors, and all of RAM, block by
//! block in the order of addresses, with nothing between the blocks. What no processor maps at that
//! moment is not claimed: processes have no kernel in their tables on i386 since 12.0 and with PTI.
//! And a mapping that runs over the end of a block (a kernel's direct map runs over all of them) is
//! claimed up to there only: its `p_filesz` is smaller than its `p_memsz` (QEMU `dump/dump.c`,
//! `get_offset_range`). The rest of RAM is in the file all the same, and its place follows from what
//! is claimed:
//!
//! * Between two claimed pieces with the same distance from address to offset there is no hole, so
//!   what lies between them has that distance as well. A PC with VGA has none of RAM from 640 KiB to
//!   768 KiB.
//! * Memory begins at address 0, behind the notes.
//! * Memory above 4 GiB begins there, so its first claimed piece says where.
//! * What is left belongs behind the piece before it.
//!
//! Behind the end of low RAM up to 256 KiB can come from the flash, which QEMU writes behind it, and,
//! where nothing above 4 GiB is claimed, what is above 4 GiB; no kernel has that in its `dump_avail`.

use std::ops::Range;

use super::raw_layout::FOUR_GIB;

/// Bytes of memory in the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Claimed {
    pub(super) pa: u64,
    pub(super) len: u64,
    pub(super) offset: u64,
}

impl Claimed {
    fn end(&self) -> u64 {
        self.pa.saturating_add(self.len)
    }

    fn offset_end(&self) -> u64 {
        self.offset.saturating_add(self.len)
    }

    fn distance(&self) -> u64 {
        self.offset.wrapping_sub(self.pa)
    }
}

/// VGA's memory, where a PC has it, is no RAM.
const VGA: Range<u64> = 0xa_0000..0xc_0000;

/// What lies before, between and behind the claimed pieces of a file of `len` bytes, whose memory
/// begins at offset `start`. Nothing if the pieces are not as QEMU writes them.
pub(super) fn unclaimed(mut pieces: Vec<Claimed>, start: u64, len: u64) -> Vec<Claimed> {
    pieces.sort_by_key(|piece| (piece.pa, std::cmp::Reverse(piece.len)));
    let mut joined: Vec<Claimed> = Vec::new();
    for piece in pieces {
        match joined.last_mut() {
            Some(last) if piece.pa <= last.end() && piece.distance() == last.distance() => {
                last.len = last.len.max(piece.end() - last.pa);
            }
            Some(last) if piece.pa < last.end() || piece.offset < last.offset_end() => {
                return Vec::new();
            }
            _ => joined.push(piece),
        }
    }
    let mut found = Vec::new();
    let mut add = |pa: u64, end: u64, offset: u64| {
        if pa < end {
            found.push(Claimed {
                pa,
                len: end - pa,
                offset,
            });
        }
    };
    // Nothing, at address 0.
    let origin = Claimed {
        pa: 0,
        len: 0,
        offset: start,
    };
    if let Some(first) = joined.first()
        && first.offset >= start
        && first.pa < FOUR_GIB
    {
        if first.distance() == start {
            add(0, first.pa, start);
        } else if over_vga(&origin, first) {
            add(0, VGA.start, start);
            add(VGA.end, first.pa, start.saturating_add(VGA.start));
        }
    }
    for (index, before) in joined.iter().enumerate() {
        let (at, from) = (before.end(), before.offset_end());
        let Some(behind) = joined.get(index + 1) else {
            add(at, at.saturating_add(len.saturating_sub(from)), from);
            continue;
        };
        if behind.distance() == before.distance() {
            add(at, behind.pa, from);
            continue;
        }
        if over_vga(before, behind) {
            add(at, VGA.start, from);
            // There are as many bytes before it: the distance says so.
            let back = behind.pa - VGA.end;
            add(VGA.end, behind.pa, behind.offset.saturating_sub(back));
            continue;
        }
        // Where memory from 4 GiB up begins, if it is between the two.
        let above = behind.pa.checked_sub(FOUR_GIB).filter(|_| at <= FOUR_GIB);
        let high = above.and_then(|above| behind.offset.checked_sub(above));
        let room = match high.filter(|high| *high >= from) {
            Some(high) => {
                add(FOUR_GIB, behind.pa, high);
                high - from
            }
            None => behind.offset - from,
        };
        let limit = if at <= FOUR_GIB { FOUR_GIB } else { behind.pa };
        add(at, at.saturating_add(room).min(limit), from);
    }
    found
}

/// Whether nothing but VGA's memory is missing between two pieces.
fn over_vga(before: &Claimed, behind: &Claimed) -> bool {
    let missing = before.distance().wrapping_sub(behind.distance());
    before.end() <= VGA.start && behind.pa >= VGA.end && missing == VGA.end - VGA.start
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claimed(pa: u64, len: u64, offset: u64) -> Claimed {
        Claimed { pa, len, offset }
    }

    #[test]
    fn what_lies_between_pieces_of_one_distance_is_between_them_in_the_file() {
        let pieces = vec![
            claimed(0, 0xc0000, 0x700),
            claimed(0x20_0000, 0x1000, 0x20_0700),
        ];
        let found = unclaimed(pieces, 0x700, 0x40_0700);
        assert_eq!(
            found,
            [
                claimed(0xc0000, 0x14_0000, 0xc0700),
                claimed(0x20_1000, 0x1f_f000, 0x20_1700),
            ]
        );
    }

    #[test]
    fn memory_begins_at_address_0_and_stops_at_vga_s() {
        let first = claimed(0x20_0000, 0x1000, 0x20_0700);
        let rest = claimed(0x20_1000, 0x1f_f000, 0x20_1700);
        let found = unclaimed(vec![first], 0x700, 0x40_0700);
        assert_eq!(found, [claimed(0, 0x20_0000, 0x700), rest]);
        // 128 KiB fewer are before it.
        let first = claimed(0x20_0000, 0x1000, 0x1e_0700);
        let rest = claimed(0x20_1000, 0x1f_f000, 0x1e_1700);
        let below = [
            claimed(0, 0xa_0000, 0x700),
            claimed(0xc_0000, 0x14_0000, 0xa_0700),
        ];
        let found = unclaimed(vec![first], 0x700, 0x3e_0700);
        assert_eq!(found, [below[0], below[1], rest]);
        let found = unclaimed(vec![below[0], first], 0x700, 0x3e_0700);
        assert_eq!(found, [below[1], rest]);
        // Any other difference is nobody's guess.
        let first = claimed(0x20_0000, 0x20_0000, 0x1c_0700);
        assert_eq!(unclaimed(vec![first], 0x700, 0x3c_0700), []);
    }

    #[test]
    fn memory_above_4_gib_begins_there() {
        // 8 MiB below, then flash of 256 KiB, then 4 MiB.
        let high = 0x700 + (8 << 20) + (256 << 10);
        let pieces = vec![
            claimed(0, 0xc0000, 0x700),
            claimed(FOUR_GIB + 0x10_0000, 0x2000, high + 0x10_0000),
        ];
        let found = unclaimed(pieces, 0x700, high + (4 << 20));
        assert_eq!(
            found,
            [
                claimed(FOUR_GIB, 0x10_0000, high),
                claimed(0xc0000, (8 << 20) + (256 << 10) - 0xc0000, 0xc0700),
                claimed(
                    FOUR_GIB + 0x10_2000,
                    (4 << 20) - 0x10_2000,
                    high + 0x10_2000
                ),
            ]
        );
    }

    #[test]
    fn pieces_that_qemu_does_not_write_tell_nothing() {
        for pieces in [
            vec![claimed(0, 0x2000, 0x1000), claimed(0x1000, 0x1000, 0x9000)],
            vec![claimed(0, 0x1000, 0x9000), claimed(0x8000, 0x1000, 0x1000)],
        ] {
            assert_eq!(unclaimed(pieces, 0, 1 << 30), []);
        }
        let extreme = vec![claimed(u64::MAX - 5, 5, 0), claimed(0, 1, u64::MAX - 1)];
        unclaimed(extreme, u64::MAX, u64::MAX);
    }
}
