//! Finds the build-id of a dump's kernel in memory, without the kernel file.
//!
//! The linker places the note near the beginning of the kernel, before its data (FreeBSD
//! `sys/conf/ldscript.amd64`).

use livecore_minidump::elf::sections::build_id_of_note;
use livecore_minidump::{AnyDump, VirtAddr};

/// The number of bytes from the link address that are searched.
const SEARCHED: u64 = 32 << 20;
/// The smallest page size.
const PAGE: usize = 4096;
/// The size of a note's header and the name `GNU`.
const HEAD: usize = 16;
/// The sizes of build-ids that linkers write: `fast`, `md5` or `uuid`, and `sha1`.
const SIZES: [usize; 3] = [8, 16, 20];

/// Returns the build-id of the kernel of a minidump. `None` for a full dump, or if the first 32 MiB of
/// the kernel have no build-id.
pub fn build_id_in_memory(dump: &AnyDump) -> Option<Vec<u8>> {
    let mini = dump.minidump()?;
    let (order, delta) = (mini.header().order, mini.header().arch.full_delta);
    let linked = delta.and_then(|delta| delta.base);
    let start = linked.unwrap_or(VirtAddr(mini.header().kernbase));
    let memory = dump.memory();
    // A note may cross a page boundary.
    let mut pages = [0; 2 * PAGE];
    for skip in (0..SEARCHED).step_by(PAGE) {
        let at = start.wrapping_add(skip);
        if memory.read_virt(at, &mut pages[..PAGE]).is_err() {
            continue;
        }
        let next = memory.read_virt(at.wrapping_add(PAGE as u64), &mut pages[PAGE..]);
        let known = if next.is_ok() { 2 * PAGE } else { PAGE };
        let notes = (0..PAGE).step_by(4).filter_map(|start| {
            let note = pages.get(start..known)?;
            let id = build_id_of_note(order, note)?;
            (note.len() >= HEAD && SIZES.contains(&id.len())).then_some(id)
        });
        if let Some(id) = notes.into_iter().next() {
            return Some(id);
        }
    }
    None
}
