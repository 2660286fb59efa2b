//! Locks: `lock_classes`, locks with their owners, turnstiles and wait channels of threads.

use std::collections::BTreeMap;

use livecore_minidump::VirtAddr;

use super::builder::Builder;
use super::description::{Description, LockClass, Thread as Described};
use super::error::Error;
use super::kernel::Variable;
use super::layout::{Layout, Release};
use super::structures::TURNSTILE;
use super::truth::{Lock, Thread};

/// `lc_name` in the order of `lock_classes` (`sys/kern/subr_lock.c`).
const CLASSES: [&[u8]; 7] = [
    b"spin mutex\0",
    b"sleep mutex\0",
    b"sx\0",
    b"rm\0",
    b"sleepable rm\0",
    b"rw\0",
    b"lockmgr\0",
];
/// Bytes between the classes' names and structures. Each class is its name, 16 bytes long, and a
/// structure that begins with `lc_name`.
const CLASS: u64 = 64;
const CLASS_NAME: u64 = 16;
/// `LO_INITIALIZED`
const LO_INITIALIZED: u64 = 0x0001_0000;
/// `LO_CLASSSHIFT`
const LO_CLASSSHIFT: u32 = 24;
/// `RW_LOCK_READ`, `SX_LOCK_SHARED`, `LK_SHARE`
const SHARED: u64 = 1;
/// `TDI_LOCK` in `td_inhibitors`.
const TDI_LOCK: u32 = 8;
/// `MTX_CONTESTED`, and the bit for exclusive waiters of the other classes.
const MTX_CONTESTED: u64 = 2;
const EXCLUSIVE_WAITERS: u64 = 4;

/// Returns the variables of a kernel with locks.
pub(crate) fn variables(description: &Description, layout: &Layout) -> Vec<Variable> {
    if description.lock.is_empty() {
        return Vec::new();
    }
    vec![
        Variable::zero("lock_classes", 16 * u64::from(layout.word)),
        Variable::zero("lock_class_structures", CLASSES.len() as u64 * CLASS).local(),
    ]
}

fn class_index(class: LockClass) -> u64 {
    match class {
        LockClass::Mutex => 1,
        LockClass::Sx => 2,
        LockClass::Rwlock => 5,
        LockClass::Lockmgr => 6,
    }
}

/// Makes the locks and lets threads wait for them. `threads` are those that were built, in any
/// order; a thread without a description has no locks.
pub(crate) fn build(b: &mut Builder<'_>, threads: &mut [Thread]) -> Result<Vec<Lock>, Error> {
    let description = b.description;
    if description.lock.is_empty() {
        return Ok(Vec::new());
    }
    let word = u64::from(b.layout.word);
    let (classes, structures) = (
        b.kernel.address("lock_classes")?,
        b.kernel.address("lock_class_structures")?,
    );
    for (i, name) in CLASSES.iter().enumerate() {
        let at = structures + i as u64 * CLASS;
        b.poke(at, name)?;
        b.poke_word(at + CLASS_NAME, at)?;
        b.poke_word(classes + i as u64 * word, at + CLASS_NAME)?;
    }

    // The number of each described thread, by thread id.
    let mut described: Vec<(&Described, usize)> = Vec::new();
    for process in &description.process {
        let mut own: Vec<usize> = (0..threads.len())
            .filter(|i| threads[*i].pid == process.pid)
            .collect();
        own.sort_by_key(|i| threads[*i].tid);
        described.extend(process.thread.iter().zip(own));
    }
    // struct lock_object: lo_name, lo_flags, lo_data, lo_witness.
    let (flags_at, owner_at) = (word, 2 * word + 8);
    let mut locks = Vec::new();
    let mut places = BTreeMap::new();
    for lock in &description.lock {
        let (at, name) = (b.slab(64)?, b.slab(64)?);
        b.poke(name, lock.name.as_bytes())?;
        b.poke_word(at, name)?;
        let flags = LO_INITIALIZED | class_index(lock.class) << LO_CLASSSHIFT;
        b.poke_u32(at + flags_at, flags as u32)?;
        let owner = described
            .iter()
            .find(|(thread, _)| thread.holds.contains(&lock.name))
            .map(|(_, i)| &threads[*i]);
        let waits = described
            .iter()
            .any(|(thread, _)| thread.lock.as_ref() == Some(&lock.name));
        let waiters = match lock.class {
            _ if !waits => 0,
            LockClass::Mutex => MTX_CONTESTED,
            _ => EXCLUSIVE_WAITERS,
        };
        // RW_READERS_SHIFT and its like.
        let bits = if description.release() == Release::R10 {
            4
        } else {
            5
        };
        let value = match (owner, lock.class) {
            (Some(owner), _) => owner.va.0 | waiters,
            (None, LockClass::Mutex) => 0,
            (None, _) => u64::from(lock.sharers) << bits | SHARED | waiters,
        };
        b.poke_word(at + owner_at, value)?;
        places.insert(lock.name.clone(), (at, name, lock.class));
        locks.push(Lock {
            va: VirtAddr(at),
            name: lock.name.clone(),
            class: lock.class,
            owner: owner.map(|thread| thread.tid),
            sharers: lock.sharers,
        });
    }
    for (thread, i) in &described {
        let Some(lock) = &thread.lock else {
            continue;
        };
        // `check` requires that the lock exists.
        let Some(&(at, name, class)) = places.get(lock) else {
            continue;
        };
        let va = threads[*i].va.0;
        let l = b.layout.thread;
        if class.has_turnstile() {
            let turnstile = b.slab(u64::from(TURNSTILE.0))?;
            b.poke_word(turnstile + u64::from(TURNSTILE.1), at)?;
            b.poke_word(va + u64::from(l.blocked), turnstile)?;
            b.poke_word(va + u64::from(l.lockname), name)?;
            b.poke_word(va + u64::from(l.wmesg), 0)?;
            b.poke_u32(va + u64::from(l.inhibitors), TDI_LOCK)?;
        } else {
            b.poke_word(va + u64::from(l.wchan), at)?;
            b.poke_word(va + u64::from(l.wmesg), name)?;
        }
        threads[*i].wait = Some(lock.clone());
        threads[*i].lock = Some(lock.clone());
    }
    Ok(locks)
}
