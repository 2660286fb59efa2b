//! Link and load addresses of i386 kernels, by release.

use super::layout::Release;

const MIB: u64 = 1 << 20;

/// `KERNBASE`: 3 GiB up to 11, two directory entries in 12.1, `KERNLOAD` since.
pub(crate) fn kernbase(release: Release, pae: bool) -> u64 {
    match (release, pae) {
        (Release::R10, _) => 3 << 30,
        (Release::R12, true) => 4 * MIB,
        _ => 8 * MIB,
    }
}

/// `KERNLOAD`: one directory entry up to 11, the kernel's own address since.
pub(crate) fn load(release: Release, pae: bool) -> u64 {
    match (release, pae) {
        (Release::R10, true) => 2 * MIB,
        (Release::R10, false) => 4 * MIB,
        _ => kernbase(release, pae),
    }
}

/// Returns the address at which the linked image starts.
pub(crate) fn kernstart(release: Release, pae: bool) -> u64 {
    match release {
        Release::R10 => kernbase(release, pae) + load(release, pae),
        _ => kernbase(release, pae),
    }
}
