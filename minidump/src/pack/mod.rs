//! Packs: a dump and the files that are needed to analyze it, in one compressed tar archive.
//!
//! `docs/packs.md` describes the format. A pack is a tar archive of regular files, stored as a stream of
//! zstd frames with an index ([`livecore_compress::seal`]), so that [`Pack`] reads each member in place.
//! `tar` unpacks it. The members are, in this order:
//!
//! | member                       | contents                                                    |
//! |------------------------------|-------------------------------------------------------------|
//! | `livecore-pack.json`         | the [`Manifest`]: names, sizes, SHA-256, build-ids           |
//! | `info.N`                     | the info file of the dump                                   |
//! | `kernel/kernel`              | the kernel file                                             |
//! | `kernel/NAME.ko`             | files of loaded modules                                     |
//! | `kernel/kernel.debug`, …     | debug files                                                 |
//! | `vmcore.N`, `vmcore.N.zst`, … | the dump                                                   |
//!
//! [`AnyDump`](crate::AnyDump) opens the dump in a pack. [`Envelope::pack`](crate::Envelope::pack)
//! returns the pack.

mod manifest;
mod member;
mod name;
mod read;
mod write;

#[cfg(test)]
mod tests;

pub use manifest::{Kind, Manifest, Member, Missing, VERSION};
pub use member::digest;
pub use name::{NAME_MAX, is_usable};
pub use read::{FILE_MAX, MANIFEST_MAX, MEMBERS_MAX, Pack};
pub use write::{Archive, Contents, write};

/// The name of the first member.
pub const MANIFEST: &str = "livecore-pack.json";

/// The name of the kernel file in a pack.
pub const KERNEL: &str = "kernel/kernel";
