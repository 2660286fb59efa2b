//! Address spaces of user processes: their own page tables, and the kernel's half.

use std::ops::Range;

use livecore_minidump::{PhysAddr, VirtAddr};

use super::builder::Builder;
use super::content::{Kind, PAGE};
use super::error::Error;
use super::rng::Rng;
use super::store::Source;
use super::tables::Tables;
use super::truth::{Mapping, Prot, UserSpace};

/// A part of a process: its kind of content, access, start, number of pages, and number of resident
/// pages.
struct Part {
    kind: Kind,
    prot: Prot,
    va: u64,
    pages: u64,
    resident: u64,
}

/// Returns the parts of an ordinary program, for at most 47 bits of user addresses.
fn parts(rng: &mut Rng, end: u64, page: u64) -> Vec<Part> {
    let part = |kind, prot, va, pages, resident| Part {
        kind,
        prot,
        va,
        pages,
        resident,
    };
    let top = end - (64 << 20) - rng.below(256) * page;
    vec![
        part(Kind::Text, Prot::R, 0x200 * page, 4, 3),
        part(Kind::Code, Prot::RX, 0x204 * page, 12, 3 + rng.below(8)),
        part(Kind::Heap, Prot::RW, 0x211 * page, 3, 2),
        part(Kind::Heap, Prot::RW, 0x214 * page, 64, 2 + rng.below(12)),
        part(
            Kind::Code,
            Prot::RX,
            (end / 2 + 0x40_0000) & !0xf_ffff,
            96,
            4 + rng.below(10),
        ),
        part(Kind::Heap, Prot::RW, top - 32 * page, 32, 1 + rng.below(3)),
    ]
}

/// Maximum number of frames of one process.
pub(crate) const DEMAND: u64 = 64;

/// Makes an address space. Its tables are marked in `vm_page_dump`, its pages are not.
pub(crate) fn build(b: &mut Builder<'_>, rng: &mut Rng) -> Result<UserSpace, Error> {
    let page = b.space.page_size;
    let root = b.frames.one("user page tables", page)?;
    let mut tables = Tables::user(b.processor.format(), &mut b.store, root);
    let bottom = b.bottom();
    let mut mappings = Vec::new();
    let mut valid: Vec<Range<VirtAddr>> = Vec::new();
    for part in parts(rng, b.space.user_end, page) {
        valid.push(VirtAddr(part.va)..VirtAddr(part.va + part.pages * page));
        // A stack is resident at its top, other parts from their start, with gaps.
        let mut at = if part.pages == 32 {
            part.va + (part.pages - part.resident) * page
        } else {
            part.va
        };
        for i in 0..part.resident {
            let pa = b.frames.one("user pages", page)?;
            let frames = pa / PAGE as u64..(pa + page) / PAGE as u64;
            b.store.add_run(frames, Source::Kind(part.kind));
            tables.map(&mut b.store, &mut b.frames, bottom, at, pa, part.prot)?;
            mappings.push(Mapping {
                va: VirtAddr(at),
                pa: PhysAddr(pa),
                len: page,
                leaf: page,
                prot: part.prot,
            });
            let left = part.resident - i;
            let remaining = (part.va + part.pages * page - at) / page;
            at += page
                * if remaining > left && rng.below(4) == 0 {
                    2
                } else {
                    1
                };
        }
    }
    for &(_, _, pa) in &tables.made {
        b.bits.push(pa..pa + page);
    }
    b.user_roots.push(root);
    Ok(UserSpace {
        root: PhysAddr(root),
        mappings,
        valid,
    })
}

/// Writes the `vm_map` at the start of the `struct vmspace` at `vmspace`, with an entry for each range
/// of `valid`.
///
/// The entries have only the fields up to `end`. Before 15.0, they are in the same structure, before and
/// after `vm_pmap`, although a kernel allocates them one by one. They are a balanced tree in which a missing child is the
/// neighbour in the order of addresses; in 10 to 12 a list and a tree (FreeBSD `sys/vm/vm_map.c`).
pub(crate) fn map(
    b: &mut Builder<'_>,
    vmspace: u64,
    valid: &[Range<VirtAddr>],
) -> Result<(), Error> {
    let layout = b.layout.vmspace;
    let size = if layout.lists_entries { 48 } else { 32 };
    let before = (u64::from(layout.pmap) - HEADER) / size;
    let after = vmspace + u64::from(layout.pmap) + u64::from(layout.pmap_size);
    let mut entries = Vec::new();
    for index in 0..valid.len() as u64 {
        entries.push(match (layout.entry, index.checked_sub(before)) {
            (Some(bytes), _) => b.slab(u64::from(bytes))?,
            (None, None) => vmspace + HEADER + index * size,
            (None, Some(rest)) => after + rest * size,
        });
    }
    let mut links = vec![(0, 0); entries.len()];
    let outside = if layout.lists_entries { 0 } else { vmspace };
    tree(
        &entries,
        (outside, outside),
        layout.lists_entries,
        &mut links,
    );
    let ends = entries.first().copied().zip(entries.last().copied());
    let (first, last) = ends.unwrap_or((vmspace, vmspace));
    let (min, max) = (0, b.space.user_end);
    let mut write = |at: u64, neighbours: (u64, u64), links: (u64, u64), range: (u64, u64)| {
        let words = [
            neighbours.0,
            neighbours.1,
            links.0,
            links.1,
            range.0,
            range.1,
        ];
        let words = if layout.lists_entries {
            &words[..]
        } else {
            &words[2..]
        };
        let mut at = at;
        for word in words {
            b.poke_word(at, *word)?;
            at += 8;
        }
        Ok(())
    };
    for (i, range) in valid.iter().enumerate() {
        let neighbour = |i: Option<usize>| i.and_then(|i| entries.get(i)).map_or(vmspace, |at| *at);
        let neighbours = (neighbour(i.checked_sub(1)), neighbour(Some(i + 1)));
        write(
            entries[i],
            neighbours,
            links[i],
            (range.start.0, range.end.0),
        )?;
    }
    let links = if layout.lists_entries {
        (0, 0)
    } else {
        (last, first)
    };
    write(vmspace, (last, first), links, (max, min))
}

/// Size of the header of a map with all its fields.
const HEADER: u64 = 0x60;

/// Links `entries` as a balanced tree, whose missing children are `outside` at the ends and the
/// neighbours between. Returns the root.
fn tree(entries: &[u64], outside: (u64, u64), null: bool, links: &mut [(u64, u64)]) -> u64 {
    let middle = entries.len() / 2;
    let root = entries[middle];
    let inner = if null { 0 } else { root };
    let (left, right) = (&entries[..middle], &entries[middle + 1..]);
    let (first, rest) = links.split_at_mut(middle);
    let (own, last) = rest.split_at_mut(1);
    own[0] = (
        match left.is_empty() {
            true => outside.0,
            false => tree(left, (outside.0, inner), null, first),
        },
        match right.is_empty() {
            true => outside.1,
            false => tree(right, (inner, outside.1), null, last),
        },
    );
    root
}
