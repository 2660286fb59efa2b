//! Finds memory in a file of QEMU's `dump-guest-memory` with paging that no segment covers.
//!
//! With paging, QEMU writes a segment for each mapping of the CPUs, and all of RAM, block by block
//! in the order of addresses, without gaps. Memory that no CPU maps at that moment has no segment:
//! on i386 since 12.0 and with PTI the page tables of processes do not map the kernel. A mapping
//! beyond the end of a block (such as a kernel's direct map, which covers all blocks) has a segment
//! up to the end of the block only: its `p_filesz` is smaller than its `p_memsz` (QEMU
//! `dump/dump.c`, `get_offset_range`). The rest of RAM is in the file too, and its position follows
//! from the segments:
//!
//! * Between two pieces with the same distance from address to offset there is no hole, so the memory
//!   between them has that distance too. A PC with VGA has no RAM from 640 KiB to 768 KiB.
//! * Memory begins at address 0, after the notes.
//! * Memory above 4 GiB begins there, so its first segment gives its position.
//! * The rest follows the piece before it.
//!
//! After the end of low RAM, up to 256 KiB may be from the flash, which QEMU writes after it, and,
//! if no segment is above 4 GiB, the memory above 4 GiB. No kernel has these addresses in its
//! `dump_avail`.

use std::ops::Range;

use super::raw_layout::FOUR_GIB;

/// A piece of memory in the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Piece {
    pub(super) pa: u64,
    pub(super) len: u64,
    pub(super) offset: u64,
}

impl Piece {
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

/// The addresses of VGA's memory on a PC, which are not RAM.
const VGA: Range<u64> = 0xa_0000..0xc_0000;

/// The memory before, between and after the pieces of a file of `len` bytes, whose memory begins at
/// offset `start`. Empty if the pieces are not as QEMU writes them.
pub(super) fn uncovered(mut pieces: Vec<Piece>, start: u64, len: u64) -> Vec<Piece> {
    pieces.sort_by_key(|piece| (piece.pa, std::cmp::Reverse(piece.len)));
    let mut joined: Vec<Piece> = Vec::new();
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
            found.push(Piece {
                pa,
                len: end - pa,
                offset,
            });
        }
    };
    // An empty piece at address 0.
    let origin = Piece {
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
        let Some(next) = joined.get(index + 1) else {
            add(at, at.saturating_add(len.saturating_sub(from)), from);
            continue;
        };
        if next.distance() == before.distance() {
            add(at, next.pa, from);
            continue;
        }
        if over_vga(before, next) {
            add(at, VGA.start, from);
            // The distance shows that as many bytes precede it.
            let back = next.pa - VGA.end;
            add(VGA.end, next.pa, next.offset.saturating_sub(back));
            continue;
        }
        // The start of memory from 4 GiB on, if it is between the two.
        let above = next.pa.checked_sub(FOUR_GIB).filter(|_| at <= FOUR_GIB);
        let high = above.and_then(|above| next.offset.checked_sub(above));
        let len = match high.filter(|high| *high >= from) {
            Some(high) => {
                add(FOUR_GIB, next.pa, high);
                high - from
            }
            None => next.offset - from,
        };
        let limit = if at <= FOUR_GIB { FOUR_GIB } else { next.pa };
        add(at, at.saturating_add(len).min(limit), from);
    }
    found
}

/// Whether only VGA's memory is missing between two pieces.
fn over_vga(before: &Piece, next: &Piece) -> bool {
    let missing = before.distance().wrapping_sub(next.distance());
    before.end() <= VGA.start && next.pa >= VGA.end && missing == VGA.end - VGA.start
}

#[cfg(test)]
mod tests {
    use super::*;

    fn piece(pa: u64, len: u64, offset: u64) -> Piece {
        Piece { pa, len, offset }
    }

    #[test]
    fn memory_between_pieces_of_equal_distance_is_found() {
        let pieces = vec![
            piece(0, 0xc0000, 0x700),
            piece(0x20_0000, 0x1000, 0x20_0700),
        ];
        let found = uncovered(pieces, 0x700, 0x40_0700);
        assert_eq!(
            found,
            [
                piece(0xc0000, 0x14_0000, 0xc0700),
                piece(0x20_1000, 0x1f_f000, 0x20_1700),
            ]
        );
    }

    #[test]
    fn memory_begins_at_address_0_and_excludes_vga() {
        let first = piece(0x20_0000, 0x1000, 0x20_0700);
        let rest = piece(0x20_1000, 0x1f_f000, 0x20_1700);
        let found = uncovered(vec![first], 0x700, 0x40_0700);
        assert_eq!(found, [piece(0, 0x20_0000, 0x700), rest]);
        // 128 KiB less precede it.
        let first = piece(0x20_0000, 0x1000, 0x1e_0700);
        let rest = piece(0x20_1000, 0x1f_f000, 0x1e_1700);
        let below = [
            piece(0, 0xa_0000, 0x700),
            piece(0xc_0000, 0x14_0000, 0xa_0700),
        ];
        let found = uncovered(vec![first], 0x700, 0x3e_0700);
        assert_eq!(found, [below[0], below[1], rest]);
        let found = uncovered(vec![below[0], first], 0x700, 0x3e_0700);
        assert_eq!(found, [below[1], rest]);
        // Any other difference is not explained.
        let first = piece(0x20_0000, 0x20_0000, 0x1c_0700);
        assert_eq!(uncovered(vec![first], 0x700, 0x3c_0700), []);
    }

    #[test]
    fn memory_above_4_gib_is_found() {
        // 8 MiB below, then 256 KiB of flash, then 4 MiB.
        let high = 0x700 + (8 << 20) + (256 << 10);
        let pieces = vec![
            piece(0, 0xc0000, 0x700),
            piece(FOUR_GIB + 0x10_0000, 0x2000, high + 0x10_0000),
        ];
        let found = uncovered(pieces, 0x700, high + (4 << 20));
        assert_eq!(
            found,
            [
                piece(FOUR_GIB, 0x10_0000, high),
                piece(0xc0000, (8 << 20) + (256 << 10) - 0xc0000, 0xc0700),
                piece(
                    FOUR_GIB + 0x10_2000,
                    (4 << 20) - 0x10_2000,
                    high + 0x10_2000
                ),
            ]
        );
    }

    #[test]
    fn pieces_not_written_by_qemu_are_ignored() {
        for pieces in [
            vec![piece(0, 0x2000, 0x1000), piece(0x1000, 0x1000, 0x9000)],
            vec![piece(0, 0x1000, 0x9000), piece(0x8000, 0x1000, 0x1000)],
        ] {
            assert_eq!(uncovered(pieces, 0, 1 << 30), []);
        }
        let extreme = vec![piece(u64::MAX - 5, 5, 0), piece(0, 1, u64::MAX - 1)];
        uncovered(extreme, u64::MAX, u64::MAX);
    }
}
