//! Locks and waiting threads: `struct lock_object`, the owner words, known offsets.
//!
//! FreeBSD `sys/sys/{_lock,lock,mutex,rwlock,sx,lockmgr,rmlock}.h`, `sys/kern/subr_turnstile.c`.

use crate::elf_machine::ElfMachine;

/// `LO_INITIALIZED`: set in `lo_flags` of every lock in use.
pub const LO_INITIALIZED: u64 = 0x0001_0000;
/// `LO_CLASSMASK`: the index in `lock_classes`.
pub const LO_CLASSMASK: u64 = 0x0f00_0000;
/// `LO_CLASSSHIFT`
pub const LO_CLASSSHIFT: u32 = 24;
/// `LOCK_CLASS_MAX + 1`: elements of `lock_classes`.
pub const LOCK_CLASSES: u64 = 16;

/// `RW_LOCK_READ`, `SX_LOCK_SHARED` and `LK_SHARE`: the lock is shared or free.
pub const SHARED: u64 = 1;
/// `RW_DESTROYED` and `SX_LOCK_DESTROYED`: both bits for waiters and no owner.
pub const DESTROYED: u64 = 6;
/// `MTX_DESTROYED` since [`FIVE_FLAGS`]. Before, the bit is `MTX_UNOWNED`, and a destroyed mutex
/// also has `MTX_CONTESTED`.
pub const MTX_DESTROYED: u64 = 4;

/// The first `__FreeBSD_version` whose owner words have five flag bits; before, they have four.
pub const FIVE_FLAGS: u32 = 1_200_000;

/// Returns the number of flag bits in an owner word. The others are the owner's address or the
/// number of sharers.
#[must_use]
pub const fn flag_bits(osreldate: u32) -> u32 {
    if osreldate >= FIVE_FLAGS { 5 } else { 4 }
}

/// Offsets in `struct thread` and `struct turnstile` of a kernel without type information.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KnownThread {
    /// The machine of the kernel.
    pub machine: ElfMachine,
    /// The first `__FreeBSD_version`.
    pub since: u32,
    /// The first later `__FreeBSD_version` for which the offsets are not used.
    pub until: u32,
    /// What the kernel exports as `thread_off_td_tid`, `thread_off_td_name`, `thread_off_td_oncpu`
    /// and `thread_off_td_pcb`. With other values, the kernel has another structure.
    pub exported: [u64; 4],
    /// `td_blocked`
    pub blocked: u64,
    /// `td_wchan`
    pub wchan: u64,
    /// `td_wmesg`
    pub wmesg: u64,
    /// `ts_lockobj` in `struct turnstile`
    pub lockobj: u64,
    /// `ts_owner` in `struct turnstile`
    pub owner: u64,
}

/// The known layouts. From the debug information of a kernel that was built from the release.
pub const KNOWN_THREADS: [KnownThread; 1] = [KnownThread {
    machine: ElfMachine::EM_X86_64,
    since: 1_500_000,
    until: 1_600_000,
    exported: [160, 732, 1788, 1152],
    blocked: 344,
    wchan: 296,
    wmesg: 304,
    lockobj: 120,
    owner: 128,
}];

/// Offsets in `struct lock_object`, the same in all releases since 8.0.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LockObject {
    /// `lo_name`
    pub name: u64,
    /// `lo_flags`
    pub flags: u64,
    /// `sizeof`. In mutexes, rwlocks, sx and lockmgr locks, the owner word follows.
    pub size: u64,
}

/// Returns the offsets for pointers of `word` bytes.
#[must_use]
pub const fn lock_object(word: u64) -> LockObject {
    LockObject {
        name: 0,
        flags: word,
        size: 2 * word + 8,
    }
}
