//! `info mtree -f` of QEMU's monitor: the guest addresses of a memory backend.
//!
//! The flat view of the address space `memory` is what the CPUs see. Its lines are `START-END (prio
//! N, KIND): NAME @OFFSET`, hexadecimal, with the last address as END, and without an offset if it
//! is 0 (QEMU `softmmu/memory.c`, `mtree_print_flatview`, as of 7.2).

use std::ops::Range;

use livecore_minidump::PhysAddr;

/// The guest addresses of backend `name` with their offsets in it, sorted and disjoint. `None` if
/// the text has no such view, or invalid lines.
pub(super) fn pieces(text: &str, name: &str) -> Option<Vec<(Range<PhysAddr>, u64)>> {
    let view = text
        .split("FlatView #")
        .find(|view| view.lines().any(|line| line.starts_with(" AS \"memory\",")))?;
    let mut pieces: Vec<(Range<PhysAddr>, u64)> = Vec::new();
    for line in view.lines() {
        let Some((range, region)) = line.trim_start().split_once(" (prio ") else {
            continue;
        };
        let Some((kind, region)) = region.split_once("): ") else {
            continue;
        };
        let kind = kind.rsplit(", ").next();
        let rest = match region.strip_prefix(name) {
            Some(rest) if rest.is_empty() || rest.starts_with(' ') => rest,
            _ => continue,
        };
        if kind != Some("ram") {
            continue;
        }
        let number = |digits: &str| u64::from_str_radix(digits, 16).ok();
        let (start, last) = range.split_once('-')?;
        let (start, end) = (number(start)?, number(last)?.checked_add(1)?);
        let offset = match rest.trim_start().strip_prefix('@') {
            Some(offset) => number(offset.split_whitespace().next()?)?,
            None => 0,
        };
        let before = pieces.last().map_or(0, |(range, _)| range.end.0);
        if start >= end || start < before || offset.checked_add(end - start).is_none() {
            return None;
        }
        pieces.push((PhysAddr(start)..PhysAddr(end), offset));
    }
    Some(pieces)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TREE: &str = "\
FlatView #0
 AS \"I/O\", root: io
  0000000000000000-0000000000000007 (prio 0, ram): mem0

FlatView #1
 AS \"memory\", root: system
 AS \"cpu-memory-0\", root: system
 Root memory region: system
  0000000000000000-000000000009ffff (prio 0, ram): mem0 kvm
  00000000000a0000-00000000000bffff (prio 1, i/o): vga-lowmem
  00000000000c0000-00000000000dffff (prio 1, rom): pc.rom
  00000000000e0000-00000000000fffff (prio 0, rom): mem0 @00000000000e0000
  0000000000100000-00000000bfffffff (prio 0, ram): mem0 @0000000000100000 kvm
  00000000fec00000-00000000fec00fff (prio 0, i/o): ioapic
  0000000100000000-000000013fffffff (prio 0, ram): mem0 @00000000c0000000 kvm
  0000000140000000-000000017fffffff (prio 0, ram): mem0b @0000000000000000 kvm

FlatView #2
 AS \"cpu-smm-0\", root: memory
";

    #[test]
    fn memory_is_at_the_addresses_of_the_flat_view() {
        let found = pieces(TREE, "mem0").unwrap();
        assert_eq!(
            found,
            [
                (PhysAddr(0)..PhysAddr(0xa_0000), 0),
                (PhysAddr(0x10_0000)..PhysAddr(0xc000_0000), 0x10_0000),
                (
                    PhysAddr(0x1_0000_0000)..PhysAddr(0x1_4000_0000),
                    0xc000_0000
                ),
            ]
        );
        assert_eq!(pieces(TREE, "mem1"), Some(vec![]));
    }

    #[test]
    fn invalid_lines_give_nothing() {
        let view = |line: &str| format!("FlatView #0\n AS \"memory\", root: system\n  {line}\n");
        for line in [
            "0000-zzzz (prio 0, ram): mem0",
            "2000-1fff (prio 0, ram): mem0",
            "0-ffffffffffffffff (prio 0, ram): mem0",
            "0-fff (prio 0, ram): mem0 @ffffffffffffffff",
            "0-fff (prio 0, ram): mem0\n  0-fff (prio 0, ram): mem0",
        ] {
            assert_eq!(pieces(&view(line), "mem0"), None, "{line}");
        }
        assert_eq!(pieces("no tree at all", "mem0"), None);
    }
}
