//! `struct kerneldumpheader`, and its offset in a dump.
//!
//! FreeBSD `sys/sys/kerneldump.h`; offsets from `sys/kern/kern_shutdown.c` (devices) and
//! `sys/kern/kern_vnodedumper.c` (live dumps).
//!
//! All integers are big-endian ("dump byte order") on every architecture, except `parity`: it makes
//! the exclusive or of the header's 128 words zero, and so has no byte order.
//!
//! The first fields are the same in all versions ([`MAGIC`] to [`ARCHITECTUREVERSION`], and
//! `dumplength`); [`VERSIONS`] has the others.

use crate::{Field, at};

/// Size of the header, in every version.
pub const SIZE: usize = 512;

/// `FreeBSD Kernel Dump`: a kernel dump (minidump or full).
pub const KERNELDUMPMAGIC: [u8; 20] = *b"FreeBSD Kernel Dump\0";
/// `FreeBSD Text Dump`: a tar archive written backwards.
pub const TEXTDUMPMAGIC: [u8; 20] = *b"FreeBSD Text Dump\0\0\0";
/// `Cleared Kernel Dump`: savecore(8) saved this dump. It does not update the parity.
pub const KERNELDUMPMAGIC_CLEARED: [u8; 20] = *b"Cleared Kernel Dump\0";

/// The version that current kernels write.
pub const KERNELDUMPVERSION: u32 = 4;
/// The version of text dumps, also in `architectureversion`.
pub const KERNELDUMP_TEXT_VERSION: u32 = 4;

/// One of the three magic strings, padded with NUL.
pub const MAGIC: Field = at(0, 20);
/// The kernel's `MACHINE_ARCH`, NUL terminated.
pub const ARCHITECTURE: Field = at(20, 12);
/// The header's version.
pub const VERSION: Field = at(32, 4);
/// A number of the port ([`Architecture::architectureversion`](crate::Architecture::architectureversion)).
pub const ARCHITECTUREVERSION: Field = at(36, 4);
/// Size of the dump data as stored, without headers, key and padding.
pub const DUMPLENGTH: Field = at(40, 8);
/// Makes the exclusive or of all 32-bit words of the header zero.
pub const PARITY: Field = at(508, 4);

/// Fields whose offsets differ between versions. `None`: the version has no such field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HeaderFields {
    /// The value of [`VERSION`].
    pub version: u32,
    /// Time of the dump, in seconds since 1970 UTC.
    pub dumptime: Field,
    /// Size of the key block; 0 if the dump is not encrypted.
    pub dumpkeysize: Option<Field>,
    /// The dumper's block size: sector size for devices, 4096 for netdump, page size for live dumps.
    pub blocksize: Field,
    /// `prison0`'s host name, NUL terminated.
    pub hostname: Field,
    /// The kernel's version string, usually with a newline before the NUL.
    pub versionstring: Field,
    /// The panic message; zeros if there was no panic.
    pub panicstring: Field,
    /// [`COMPRESSION_NONE`], [`COMPRESSION_GZIP`] or [`COMPRESSION_ZSTD`].
    pub compression: Option<Field>,
    /// Size reserved for the data on the medium, usually its length before compression.
    pub dumpextent: Option<Field>,
}

/// Version 1: up to 11.x (read in 10.4).
pub const V1: HeaderFields = HeaderFields {
    version: 1,
    dumptime: at(48, 8),
    dumpkeysize: None,
    blocksize: at(56, 4),
    hostname: at(60, 64),
    versionstring: at(124, 192),
    panicstring: at(316, 192),
    compression: None,
    dumpextent: None,
};

/// Version 2 added encryption.
pub const V2: HeaderFields = HeaderFields {
    version: 2,
    dumptime: at(48, 8),
    dumpkeysize: Some(at(56, 4)),
    blocksize: at(60, 4),
    hostname: at(64, 64),
    versionstring: at(128, 192),
    panicstring: at(320, 188),
    compression: None,
    dumpextent: None,
};

/// Version 3 added compression, in another order of fields; strings are not aligned.
pub const V3: HeaderFields = HeaderFields {
    version: 3,
    dumptime: at(56, 8),
    dumpkeysize: Some(at(64, 4)),
    blocksize: at(68, 4),
    hostname: at(73, 64),
    versionstring: at(137, 192),
    panicstring: at(329, 179),
    compression: Some(at(72, 1)),
    dumpextent: Some(at(48, 8)),
};

/// Version 4 returned to the offsets of version 2. Since 12.1.
pub const V4: HeaderFields = HeaderFields {
    version: 4,
    dumptime: at(48, 8),
    dumpkeysize: Some(at(56, 4)),
    blocksize: at(60, 4),
    hostname: at(64, 64),
    versionstring: at(128, 192),
    panicstring: at(320, 175),
    compression: Some(at(495, 1)),
    dumpextent: Some(at(496, 8)),
};

/// Unused bytes of version 4; zero.
pub const V4_UNUSED: Field = at(504, 4);

/// Every version, version `n` at index `n - 1`.
pub const VERSIONS: [HeaderFields; 4] = [V1, V2, V3, V4];

/// `KERNELDUMP_COMP_NONE`
pub const COMPRESSION_NONE: u8 = 0;
/// `KERNELDUMP_COMP_GZIP`
pub const COMPRESSION_GZIP: u8 = 1;
/// `KERNELDUMP_COMP_ZSTD`
pub const COMPRESSION_ZSTD: u8 = 2;

/// `KERNELDUMP_ENC_NONE`
pub const ENCRYPTION_NONE: u8 = 0;
/// `KERNELDUMP_ENC_AES_256_CBC`
pub const ENCRYPTION_AES_256_CBC: u8 = 1;
/// `KERNELDUMP_ENC_CHACHA20` (not in 12.1)
pub const ENCRYPTION_CHACHA20: u8 = 2;
/// Size of the initialisation vector in the key block.
pub const IV_SIZE: usize = 32;
/// Maximum size of the encrypted key.
pub const ENCRYPTED_KEY_MAX: usize = 2048;

/// `struct kerneldumpkey`: the cipher. Packed.
pub const KEY_ENCRYPTION: Field = at(0, 1);
/// `struct kerneldumpkey`: the initialisation vector.
pub const KEY_IV: Field = at(1, IV_SIZE);
/// `struct kerneldumpkey`: size of the encrypted key, big-endian.
pub const KEY_ENCRYPTEDKEYSIZE: Field = at(33, 4);
/// `struct kerneldumpkey`: offset of the encrypted key.
pub const KEY_ENCRYPTEDKEY_OFFSET: usize = 37;

/// `MACHINE_ARCH` and `architectureversion` of ports that write no minidumps. [`Architecture`](crate::Architecture)
/// has those of the others.
pub const OTHER_PORTS: [(&str, u32); 2] = [("powerpc", 1), ("powerpcspe", 1)];

/// Size of the start of a dump device that dumps do not use (`SIZEOF_METADATA`).
pub const DEVICE_METADATA: u64 = 64 * 1024;

/// `blocksize` of a live dump on a machine with 4 KiB pages; its header is at the end of the data,
/// rounded up to this.
pub const LIVE_BLOCKSIZE: u32 = 4096;

const _: () = assert!(PARITY.offset + PARITY.len == SIZE);
const _: () = assert!(V1.panicstring.offset + V1.panicstring.len == PARITY.offset);
const _: () = assert!(V2.panicstring.offset + V2.panicstring.len == PARITY.offset);
const _: () = assert!(V3.panicstring.offset + V3.panicstring.len == PARITY.offset);
const _: () = assert!(V4.panicstring.offset + V4.panicstring.len == 495);
const _: () = assert!(V4_UNUSED.offset + V4_UNUSED.len == PARITY.offset);
