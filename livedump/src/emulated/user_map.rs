//! The `vm_map` of a process: the addresses that MEM_EXTRACT_PADDR does not call invalid.
//!
//! A kernel file has no offsets of `struct vm_map`. Two facts locate it: it is the first member of
//! `struct vmspace`, and its header is an entry whose `start` is the end of the address space and
//! whose `end` is the start (FreeBSD `sys/vm/vm_map.c`, `_vm_map_init`).
//!
//! | release | fields of `struct vm_map_entry`, one word each | next entry |
//! |---|---|---|
//! | 10 to 12 | prev, next, left, right, start, end | `next` |
//! | 13 and later | left, right, start, end | `right`, then `left` up to the entry that points back (`vm_map_entry_succ`) |

use std::ops::Range;

use livecore_kernel::locate::Machine;
use livecore_minidump::{Address, KernelMemory, VirtAddr};

/// The most entries of a map; a longer list is circular.
const ENTRIES: usize = 1 << 20;
/// Words of an entry that are read.
const WORDS: usize = 6;

/// The positions of the fields of an entry, in words.
#[derive(Debug, Clone, Copy)]
struct Fields {
    /// The list of 10 to 12; the tree of 13 and later has no such field.
    next: Option<usize>,
    left: usize,
    right: usize,
    start: usize,
    end: usize,
}

const LAYOUTS: [Fields; 2] = [
    Fields {
        next: None,
        left: 0,
        right: 1,
        start: 2,
        end: 3,
    },
    Fields {
        next: Some(1),
        left: 2,
        right: 3,
        start: 4,
        end: 5,
    },
];

/// The entries of the map at the start of the `struct vmspace` at `vmspace`, in order. `None` if
/// there is no map, or if it is inconsistent.
pub(super) fn read(
    machine: &Machine,
    vmspace: VirtAddr,
    user_end: VirtAddr,
) -> Option<Vec<Range<u64>>> {
    let read = |at: u64| -> Option<[u64; WORDS]> {
        let words = words(machine, VirtAddr(at), WORDS * 8);
        words.try_into().ok()
    };
    entries(&read, vmspace.0, user_end.0)
}

/// The entries of the map with its header at `header`. `read` returns the words at an address.
fn entries(
    read: &dyn Fn(u64) -> Option<[u64; WORDS]>,
    header: u64,
    user_end: u64,
) -> Option<Vec<Range<u64>>> {
    let words = read(header)?;
    // The pointers of the other layout are kernel addresses, which are above every user address.
    let fields = LAYOUTS.iter().find(|fields| {
        let (max, min) = (words[fields.start], words[fields.end]);
        min < max && max <= user_end
    })?;
    let (min, max) = (words[fields.end], words[fields.start]);
    let mut found = Vec::<Range<u64>>::new();
    let mut at = words[fields.next.unwrap_or(fields.right)];
    while at != header {
        let entry = read(at)?;
        let range = entry[fields.start]..entry[fields.end];
        let after = found.last().map_or(min, |last| last.end);
        if range.start < after || range.is_empty() || range.end > max || found.len() == ENTRIES {
            return None;
        }
        found.push(range);
        at = match fields.next {
            Some(next) => entry[next],
            None => successor(read, fields, at, &entry)?,
        };
    }
    Some(found)
}

/// `vm_map_entry_succ` of 13 and later.
fn successor(
    read: &dyn Fn(u64) -> Option<[u64; WORDS]>,
    fields: &Fields,
    at: u64,
    entry: &[u64; WORDS],
) -> Option<u64> {
    let mut after = entry[fields.right];
    let left = read(after)?[fields.left];
    if read(left)?[fields.start] > entry[fields.start] {
        // A tree is at most as deep as a map has entries.
        for _ in 0..ENTRIES {
            after = read(after)?[fields.left];
            if read(after)?[fields.left] == at {
                return Some(after);
            }
        }
        return None;
    }
    Some(after)
}

/// The words of `len` bytes at `at`, as far as they are mapped.
pub(super) fn words(machine: &Machine, at: VirtAddr, len: usize) -> Vec<u64> {
    let mut bytes = vec![0; len];
    let (got, _) = machine.view.read_part(Address::Virt(at), &mut bytes);
    let (eights, _) = bytes[..got].as_chunks::<8>();
    let words = eights.iter().map(|eight| u64::from_le_bytes(*eight));
    words.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    const END: u64 = 0x7fff_ffff_f000;
    /// The headers of both layouts: at 0x100.
    const HEADER: u64 = 0x100;

    type Memory = BTreeMap<u64, [u64; WORDS]>;

    fn read(memory: &Memory) -> Option<Vec<Range<u64>>> {
        entries(&|at| memory.get(&at).copied(), HEADER, END)
    }

    /// The tree of three entries with the second as root. A missing child is the neighbour in the
    /// order of addresses, or the header.
    fn tree() -> Memory {
        BTreeMap::from([
            (HEADER, [0x3000, 0x1000, END, 0x1000, 0, 0]),
            (0x1000, [HEADER, 0x2000, 0x20_0000, 0x20_4000, 0, 0]),
            (0x2000, [0x1000, 0x3000, 0x21_0000, 0x22_0000, 0, 0]),
            (0x3000, [0x2000, HEADER, 0x40_0000, 0x50_0000, 0, 0]),
        ])
    }

    #[test]
    fn entries_of_a_threaded_tree_come_in_order() {
        let expected = [
            0x20_0000..0x20_4000,
            0x21_0000..0x22_0000,
            0x40_0000..0x50_0000,
        ];
        assert_eq!(read(&tree()).as_deref(), Some(&expected[..]));
        // The third as root, with the first as its left child and the second as that one's right.
        let mut deep = tree();
        deep.insert(0x1000, [HEADER, 0x2000, 0x20_0000, 0x20_4000, 0, 0]);
        deep.insert(0x2000, [0x1000, 0x3000, 0x21_0000, 0x22_0000, 0, 0]);
        deep.insert(0x3000, [0x1000, HEADER, 0x40_0000, 0x50_0000, 0, 0]);
        assert_eq!(read(&deep).as_deref(), Some(&expected[..]));
        // The first as root, with the third as its right child and the second as that one's left.
        let mut deep = tree();
        deep.insert(0x1000, [HEADER, 0x3000, 0x20_0000, 0x20_4000, 0, 0]);
        assert_eq!(read(&deep).as_deref(), Some(&expected[..]));
    }

    #[test]
    fn entries_of_a_list_come_in_order() {
        let list = BTreeMap::from([
            (HEADER, [0x2000, 0x1000, 0, 0, END, 0x1000]),
            (0x1000, [HEADER, 0x2000, 0, 0, 0x20_0000, 0x20_4000]),
            (0x2000, [0x1000, HEADER, 0x1000, 0, 0x21_0000, 0x22_0000]),
        ]);
        let expected = [0x20_0000..0x20_4000, 0x21_0000..0x22_0000];
        assert_eq!(read(&list).as_deref(), Some(&expected[..]));
    }

    #[test]
    fn inconsistent_map_is_none() {
        for (at, word, value) in [
            (HEADER, 2, 0),
            (HEADER, 2, END + 1),
            (HEADER, 1, 0x9000),
            (0x1000, 3, 0x20_0000),
            (0x2000, 2, 0x20_3000),
            (0x3000, 3, END + 1),
            (0x2000, 1, 0x9000),
        ] {
            let mut memory = tree();
            memory.get_mut(&at).unwrap()[word] = value;
            assert_eq!(read(&memory), None, "word {word} at {at:#x}");
        }
    }
}
