//! The owner words of locks.

use livecore_defs::lock::{DESTROYED, FIVE_FLAGS, MTX_DESTROYED, SHARED, flag_bits};
use livecore_minidump::VirtAddr;

use super::Owner;

fn split(word: u64, osreldate: u32) -> (u64, u64) {
    let mask = (1 << flag_bits(osreldate)) - 1;
    (word & !mask, word & mask)
}

/// `mtx_lock`
pub(super) fn mutex(word: u64, osreldate: u32) -> Owner {
    match split(word, osreldate) {
        (0, MTX_DESTROYED) if osreldate >= FIVE_FLAGS => Owner::Destroyed,
        (0, DESTROYED) if osreldate < FIVE_FLAGS => Owner::Destroyed,
        (0, _) => Owner::Free,
        (owner, _) => Owner::Thread(VirtAddr(owner)),
    }
}

/// `rw_lock` and `sx_lock`
pub(super) fn shared(word: u64, osreldate: u32) -> Owner {
    match split(word, osreldate) {
        (sharers, flags) if flags & SHARED != 0 => match sharers >> flag_bits(osreldate) {
            0 => Owner::Free,
            sharers => Owner::Shared(sharers),
        },
        (0, DESTROYED) => Owner::Destroyed,
        (0, _) => Owner::Unknown,
        (owner, _) => Owner::Thread(VirtAddr(owner)),
    }
}

/// `lk_lock`. `all` has the bits of a pointer.
pub(super) fn lockmgr(word: u64, osreldate: u32, all: u64) -> Owner {
    let (kernel, _) = split(all, osreldate);
    match shared(word, osreldate) {
        Owner::Thread(VirtAddr(owner)) if owner == kernel => Owner::Kernel,
        owner => owner,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const THREAD: u64 = 0xffff_f800_0123_4560;
    const NOW: u32 = 1_500_000;
    const OLD: u32 = 1_104_000;

    fn owner(at: u64) -> Owner {
        Owner::Thread(VirtAddr(at))
    }

    #[test]
    fn flags_do_not_belong_to_the_owner() {
        assert_eq!(mutex(THREAD | 3, NOW), owner(THREAD));
        assert_eq!(shared(THREAD | 0x1e, NOW), owner(THREAD));
        assert_eq!(lockmgr(THREAD | 0x14, NOW, u64::MAX), owner(THREAD));
        // 16-byte alignment before 12.0
        assert_eq!(shared(0x1234_5670 | 6, OLD), owner(0x1234_5670));
    }

    #[test]
    fn locks_without_an_owner_are_free_shared_destroyed_or_of_the_kernel() {
        assert_eq!(mutex(0, NOW), Owner::Free);
        assert_eq!(mutex(4, NOW), Owner::Destroyed);
        assert_eq!(mutex(4, OLD), Owner::Free);
        assert_eq!(mutex(6, OLD), Owner::Destroyed);
        assert_eq!(shared(1, NOW), Owner::Free);
        assert_eq!(shared(3 << 5 | 1, NOW), Owner::Shared(3));
        assert_eq!(shared(3 << 4 | 5, OLD), Owner::Shared(3));
        assert_eq!(shared(6, NOW), Owner::Destroyed);
        assert_eq!(lockmgr(!0x1f | 4, NOW, u64::MAX), Owner::Kernel);
        assert_eq!(
            lockmgr(0xffff_ffe0, NOW, 0xffff_ffff),
            Owner::Kernel,
            "32 bits"
        );
    }
}
