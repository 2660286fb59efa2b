//! `kvm_walk_pages`: the pages of a dump with their addresses.

use std::collections::HashMap;
use std::ops::ControlFlow;

use livecore_minidump::{DumpMemory, PhysAddr};

use crate::abi::{
    LIBKVM_WALK_PAGES_VERSION, VM_PROT_EXECUTE, VM_PROT_READ, VM_PROT_WRITE, kvm_page,
};
use crate::failure::Failure;
use crate::opened::Opened;

/// Passes every mapping of the kernel map to `visit`, then every page that only the direct map contains,
/// until `visit` returns false. Returns whether it returned true to the end.
pub(crate) fn pages(
    opened: &Opened,
    visit: &mut dyn FnMut(kvm_page) -> bool,
) -> Result<bool, Failure> {
    let memory = opened.memory();
    let size = memory.page_size();
    let mut seen = Seen::default();
    let walked = memory.walk(&mut |mapping| {
        let protection = mapping.protection;
        let mut prot = VM_PROT_READ;
        if protection.write {
            prot |= VM_PROT_WRITE;
        }
        if protection.execute {
            prot |= VM_PROT_EXECUTE;
        }
        for page in (0..mapping.len).step_by(size as usize) {
            let Some(pa) = mapping.pa.checked_add(page) else {
                break;
            };
            if let Some(offset) = memory.offset_of(pa) {
                seen.add(offset / size);
            }
        }
        let page = page_of(memory, mapping.pa, mapping.len);
        let more = visit(kvm_page {
            kp_kmap_vaddr: mapping.va.0,
            kp_prot: prot,
            ..page
        });
        match more {
            true => ControlFlow::Continue(()),
            false => ControlFlow::Break(()),
        }
    });
    let walked = walked.map_err(|why| Failure::hard(format_args!("page tables: {why}")))?;
    if walked.stopped {
        return Ok(false);
    }
    let end = memory.memory_end();
    let mut at = PhysAddr(0);
    while at < end {
        let run = memory.run_at(at);
        let stop = run.end.unwrap_or(end).min(end);
        if stop <= at {
            break;
        }
        while run.present && at < stop {
            let page = page_of(memory, at, size);
            let seen = memory
                .offset_of(at)
                .is_some_and(|offset| seen.has(offset / size));
            if !seen && memory.direct_map_of(at).is_some() && !visit(page) {
                return Ok(false);
            }
            at = match at.checked_add(size) {
                Some(next) => next,
                None => return Ok(true),
            };
        }
        at = stop.max(at);
    }
    Ok(true)
}

/// A page that only the direct map contains.
fn page_of(memory: &dyn DumpMemory, pa: PhysAddr, len: u64) -> kvm_page {
    let offset = memory.offset_of(pa).and_then(|at| i64::try_from(at).ok());
    kvm_page {
        kp_version: LIBKVM_WALK_PAGES_VERSION,
        kp_paddr: pa.0,
        kp_kmap_vaddr: 0,
        kp_dmap_vaddr: memory.direct_map_of(pa).map_or(0, |va| va.0),
        kp_prot: VM_PROT_READ | VM_PROT_WRITE,
        kp_offset: offset.unwrap_or(-1),
        kp_len: usize::try_from(len).unwrap_or(usize::MAX),
    }
}

/// A set of pages, by their number in the file: one bit for each, in groups of 4096.
#[derive(Default)]
struct Seen(HashMap<u64, Box<[u64; 64]>>);

impl Seen {
    fn add(&mut self, page: u64) {
        let group = self
            .0
            .entry(page >> 12)
            .or_insert_with(|| Box::new([0; 64]));
        group[(page >> 6) as usize & 63] |= 1 << (page & 63);
    }

    fn has(&self, page: u64) -> bool {
        let group = self.0.get(&(page >> 12));
        group.is_some_and(|group| group[(page >> 6) as usize & 63] >> (page & 63) & 1 != 0)
    }
}
