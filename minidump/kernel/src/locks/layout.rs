//! Offsets of the members that lead from a thread to its lock.

use livecore_defs::lock::{self, KNOWN_THREADS, KnownThread};
use livecore_minidump::ElfMachine;

use crate::error::KernelError;
use crate::kernel::Kernel;

/// The largest offset in a structure.
const LARGEST: u64 = 1 << 20;

/// The offsets, and the release for the flags of owner words.
#[derive(Debug)]
pub(super) struct Layout {
    pub(super) osreldate: u32,
    pub(super) blocked: u64,
    pub(super) wchan: u64,
    pub(super) wmesg: u64,
    pub(super) lockobj: u64,
    pub(super) owner: u64,
    pub(super) name: u64,
    pub(super) flags: u64,
    pub(super) mtx_lock: u64,
    pub(super) rw_lock: u64,
    pub(super) sx_lock: u64,
    pub(super) lk_lock: u64,
}

impl Layout {
    /// Returns the offsets from type information, else those of a known release.
    pub(super) fn read(kernel: &Kernel<'_>) -> Result<Self, KernelError> {
        let member = |structure: &str, member: &str| {
            let found = kernel.types()?.member(structure, member)?;
            (found.offset < LARGEST).then_some(found.offset)
        };
        let osreldate = kernel.osreldate();
        let exported = [
            "thread_off_td_tid",
            "thread_off_td_name",
            "thread_off_td_oncpu",
            "thread_off_td_pcb",
        ];
        let exported = exported.map(|name| kernel.variable(name, 4).unwrap_or(u64::MAX));
        let known = known(kernel.elf().machine(), osreldate, exported);
        let of_thread = |structure: &str, name: &str, known: Option<u64>| {
            member(structure, name)
                .or(known)
                .ok_or_else(|| KernelError::NoMember(format!("{structure}.{name}")))
        };
        let object = lock::lock_object(kernel.elf().pointer_size() as u64);
        let of_lock = |structure, name, offset| member(structure, name).unwrap_or(offset);
        Ok(Self {
            // Without a release, that of a supported one.
            osreldate: osreldate.unwrap_or(lock::FIVE_FLAGS),
            blocked: of_thread("thread", "td_blocked", known.map(|k| k.blocked))?,
            wchan: of_thread("thread", "td_wchan", known.map(|k| k.wchan))?,
            wmesg: of_thread("thread", "td_wmesg", known.map(|k| k.wmesg))?,
            lockobj: of_thread("turnstile", "ts_lockobj", known.map(|k| k.lockobj))?,
            owner: of_thread("turnstile", "ts_owner", known.map(|k| k.owner))?,
            name: of_lock("lock_object", "lo_name", object.name),
            flags: of_lock("lock_object", "lo_flags", object.flags),
            mtx_lock: of_lock("mtx", "mtx_lock", object.size),
            rw_lock: of_lock("rwlock", "rw_lock", object.size),
            sx_lock: of_lock("sx", "sx_lock", object.size),
            lk_lock: of_lock("lock", "lk_lock", object.size),
        })
    }
}

/// Returns the known layout of a kernel that exports these offsets.
fn known(
    machine: ElfMachine,
    osreldate: Option<u32>,
    exported: [u64; 4],
) -> Option<&'static KnownThread> {
    let osreldate = osreldate?;
    KNOWN_THREADS.iter().find(|row| {
        row.machine == machine
            && (row.since..row.until).contains(&osreldate)
            && row.exported == exported
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_known_layout_needs_the_exported_offsets() {
        for row in &KNOWN_THREADS {
            let found = |release, exported| known(row.machine, Some(release), exported);
            assert_eq!(found(row.since, row.exported), Some(row));
            assert_eq!(found(row.until, row.exported), None);
            let [tid, name, oncpu, pcb] = row.exported;
            assert_eq!(found(row.since, [tid, name + 8, oncpu, pcb]), None);
        }
    }
}
