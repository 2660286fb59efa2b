//! A parsed recipe.

use std::collections::BTreeMap;

use super::arch::Arch;
use super::content::Content;
use super::cursor::{Expr, Names};

/// The kind of payload.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Kind {
    /// A minidump of that version.
    Minidump(&'static Arch, u32),
    /// A full dump: an ELF core of physical memory.
    Full(&'static Arch),
    /// A text dump: tar blocks, in reverse order on a device.
    Text(&'static Arch),
    /// Bytes as given.
    Raw(&'static Arch),
}

impl Kind {
    /// The architecture, which also determines the byte order of numbers in the recipe.
    pub(crate) fn arch(self) -> &'static Arch {
        match self {
            Kind::Minidump(arch, _) | Kind::Full(arch) | Kind::Text(arch) | Kind::Raw(arch) => arch,
        }
    }
}

/// Protection of a mapping.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Protection {
    /// Writable.
    pub write: bool,
    /// Executable.
    pub execute: bool,
}

/// `map`: a mapping of one page of `size` bytes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Mapping {
    pub(crate) line: usize,
    pub(crate) va: u64,
    pub(crate) pa: u64,
    pub(crate) size: u64,
    pub(crate) prot: Protection,
}

/// `pte` and `pde`: a raw entry instead of a derived one.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RawEntry {
    pub(crate) line: usize,
    /// Replaces the entry in a leaf table (amd64) rather than the one in the section.
    pub(crate) leaf: bool,
    pub(crate) va: u64,
    pub(crate) value: u64,
}

/// The message buffer.
#[derive(Debug, Clone)]
pub(crate) struct Msgbuf {
    /// Ring size; by default a page less `struct msgbuf`.
    pub(crate) size: Option<u64>,
    /// Sequence number at which the text starts.
    pub(crate) start: u64,
    /// Text in the order it was written.
    pub(crate) text: Vec<u8>,
    /// Read sequence.
    pub(crate) rseq: u64,
    /// Address of the ring.
    pub(crate) at: Option<u64>,
    /// Contents after the ring instead of the struct (live dumps).
    pub(crate) tail: Option<Content>,
}

/// A value for `set`.
#[derive(Debug, Clone)]
pub(crate) enum Value {
    Number(Expr),
    Text(Vec<u8>),
}

/// `set AREA.FIELD = VALUE`.
#[derive(Debug, Clone)]
pub(crate) struct Set {
    pub(crate) line: usize,
    pub(crate) area: String,
    pub(crate) field: String,
    pub(crate) value: Value,
}

/// The stage at which an edit applies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stage {
    /// The uncompressed dump.
    Payload,
    /// The stored dump: compressed, encrypted.
    Stream,
    /// The whole file.
    File,
}

/// What an edit does.
#[derive(Debug, Clone)]
pub(crate) enum Change {
    Patch(Expr, Content),
    Flip(Expr, u32),
    Truncate(Expr),
    Append(Content),
}

/// `patch`, `flip`, `truncate`, `append`.
#[derive(Debug, Clone)]
pub(crate) struct Edit {
    pub(crate) line: usize,
    pub(crate) stage: Stage,
    pub(crate) change: Change,
}

/// How the payload is stored in its file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Container {
    Saved,
    Live,
    Device,
    Sealed,
}

/// How the payload is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Codec {
    None,
    /// One member as the kernel writes it.
    Gzip,
    /// One member with name and time whose blocks end on byte boundaries, as pigz writes it.
    Pigz,
    /// One member per this many bytes.
    GzipMembers(u64),
    /// One frame as the kernel writes it.
    Zstd,
    /// A frame with a content size, as `zstd FILE` writes it.
    ZstdSized,
    /// A frame without a checksum.
    ZstdUnchecked,
    /// One frame per this many bytes.
    ZstdFrames(u64),
}

/// `garbage`: bits that are set without a page in `dump_avail`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Garbage {
    pub(crate) line: usize,
    pub(crate) from: u64,
    pub(crate) to: u64,
    /// Whether the data contains a page for each.
    pub(crate) pages: bool,
}

/// The info file of a dump.
#[derive(Debug, Clone)]
pub(crate) struct Info {
    pub(crate) device: String,
    pub(crate) bounds: u64,
    pub(crate) status: String,
    /// Print the time as FreeBSD 12.1 does.
    pub(crate) ctime: bool,
    /// Replacements: line of the recipe, old text, new text.
    pub(crate) rewords: Vec<(usize, String, String)>,
}

/// A recipe.
#[derive(Debug)]
pub(crate) struct Recipe {
    pub(crate) kind: Kind,
    pub(crate) page_size: u64,
    pub(crate) names: Names,
    pub(crate) avail: Vec<(u64, u64)>,
    /// PT_DUMP_DELTA of a full dump: virtual and physical address of the kernel, alignment.
    pub(crate) delta: Option<(u64, u64, u64)>,
    /// Contents of pages by physical address.
    pub(crate) pages: BTreeMap<u64, Vec<u8>>,
    pub(crate) maps: Vec<Mapping>,
    pub(crate) entries: Vec<RawEntry>,
    /// Line and physical address of amd64 leaf tables, by `va >> 21`.
    pub(crate) leaf_tables: BTreeMap<u64, (usize, u64)>,
    pub(crate) nodump: Vec<(u64, u64)>,
    pub(crate) garbage: Vec<Garbage>,
    pub(crate) kernbase: Option<u64>,
    pub(crate) kernend: Option<u64>,
    pub(crate) dmap: (u64, u64),
    pub(crate) dmapphys: Option<u64>,
    pub(crate) hash_groups: u64,
    /// Radix instead of hashed page tables (powerpc64).
    pub(crate) radix: bool,
    pub(crate) startkernel: u64,
    pub(crate) msgbuf: Msgbuf,
    pub(crate) raw: Vec<u8>,
    pub(crate) members: Vec<(String, Vec<u8>)>,
    pub(crate) sets: Vec<Set>,
    pub(crate) lengths: Vec<(usize, String, Expr)>,
    pub(crate) edits: Vec<Edit>,
    pub(crate) container: Container,
    pub(crate) device_size: Option<Expr>,
    pub(crate) sector: u64,
    /// Uncompressed size of a frame of a sealed file.
    pub(crate) frame_size: u64,
    pub(crate) stale: Option<u64>,
    pub(crate) codec: Codec,
    pub(crate) level: i32,
    pub(crate) kdh_version: u32,
    pub(crate) key: Option<Key>,
    pub(crate) cleared: bool,
    pub(crate) info: Option<Info>,
}

/// The encryption of the dump.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Key {
    /// `kdk_encryption`.
    pub(crate) algorithm: u8,
    /// Size of the wrapped key in bytes.
    pub(crate) wrapped: u64,
    /// Whether it is wrapped with PKCS#1 v1.5 instead of OAEP.
    pub(crate) pkcs1: bool,
}

impl Recipe {
    /// An empty recipe.
    pub(crate) fn new(kind: Kind) -> Self {
        Recipe {
            kind,
            page_size: 0x1000,
            names: Names::new(),
            avail: Vec::new(),
            pages: BTreeMap::new(),
            maps: Vec::new(),
            entries: Vec::new(),
            delta: None,
            leaf_tables: BTreeMap::new(),
            nodump: Vec::new(),
            garbage: Vec::new(),
            kernbase: None,
            kernend: None,
            dmap: kind.arch().dmap,
            dmapphys: None,
            hash_groups: 2048,
            radix: false,
            startkernel: 0x10_0100,
            msgbuf: Msgbuf {
                size: None,
                start: 0,
                text: Vec::new(),
                rseq: 0,
                at: None,
                tail: None,
            },
            raw: Vec::new(),
            members: Vec::new(),
            sets: Vec::new(),
            lengths: Vec::new(),
            edits: Vec::new(),
            container: Container::Saved,
            device_size: None,
            sector: 512,
            frame_size: 1 << 20,
            stale: None,
            codec: Codec::None,
            level: 6,
            kdh_version: 4,
            key: None,
            cleared: false,
            info: None,
        }
    }

    /// Big endian.
    pub(crate) fn big(&self) -> bool {
        self.kind.arch().big
    }

    /// First address of the pmap section.
    pub(crate) fn kernbase(&self) -> u64 {
        self.kernbase.unwrap_or(self.kind.arch().kernbase)
    }

    /// The physical address of the start of the direct map.
    ///
    /// On arm64 and riscv64 the start of the lowest range, rounded down to 1 GiB (16K pages:
    /// 64 GiB).
    pub(crate) fn dmapphys(&self) -> u64 {
        let span: u64 = if self.page_size == 0x4000 {
            64 << 30
        } else {
            1 << 30
        };
        let lowest = self.avail.first().map_or(0, |pair| pair.0);
        self.dmapphys.unwrap_or(match self.kind.arch().name {
            "arm64" | "riscv64" => lowest / span * span,
            _ => 0,
        })
    }

    /// The physical address to which `map` statements map `va`, and its protection.
    pub(crate) fn mapped(&self, va: u64) -> Option<(u64, Protection)> {
        // The last statement wins, as in the page tables.
        let hit = self
            .maps
            .iter()
            .rev()
            .find(|m| va >= m.va && va - m.va < m.size)?;
        Some((hit.pa + (va - hit.va), hit.prot))
    }

    /// The physical address of `va` by `map`, otherwise by the direct map.
    pub(crate) fn translate(&self, va: u64) -> Option<u64> {
        let direct = |va: u64| {
            let (base, end) = self.dmap;
            (base..end)
                .contains(&va)
                .then(|| va - base + self.dmapphys())
        };
        self.mapped(va).map(|hit| hit.0).or_else(|| direct(va))
    }
}
