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
