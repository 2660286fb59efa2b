//! VMware memory: `NAME.vmem` with `NAME.vmss` or `NAME.vmsn` in the same directory, or one of
//! those alone.
//!
//! A `.vmss` (suspended) or `.vmsn` (snapshot) has a header, groups of 80 bytes (name, position,
//! size), and tags in each group: 16 bits (size of the value, number of indices, length of the
//! name), the name, indices of 4 bytes, the value. A value may be a block: two lengths, padding,
//! bytes. The group `memory` has `regionsCount` and, for each region, `regionPageNum` (the page in
//! the file), `regionPPN` (its frame number) and `regionSize` (pages); without a `.vmem` it also
//! has the block `Memory`. Facts: the descriptions in crash's `vmware_vmss.h` and Volatility's
//! `vmware.py`. Without regions, memory begins at address 0. The group `cpu` has the CPUs
//! ([`super::vmware_cpu`]).

use std::path::{Path, PathBuf};

use livecore_defs::amd64::PAGE_SIZE;
use livecore_minidump::Error;

use super::candidate::{Candidate, Row};
use super::cpu::CpuState;
use super::format::Format;
use super::memory_image::Image;
use super::options::Options;
use super::pieces::{Linear, Pieces};
use super::source::{Source, le16, le32, le64};
use super::vmware_cpu::Cpus;

/// `id` of files with 64-bit sizes; an older format has 32-bit sizes.
const MAGICS: [u32; 4] = [0xbed2_bed2, 0xbed3_bed3, 0xbad1_bad1, 0xbad2_bad2];
const MAGIC_32: u32 = 0xbed0_bed0;
/// Header: id, version, groups.
const HEADER: u64 = 12;
const GROUP: u64 = 80;
/// The value sizes of a block, and of a compressed block.
const BLOCK: u16 = 0x3f;
const BLOCK_COMPRESSED: u16 = 0x3e;
/// The most regions of a file; VMware writes at most three.
const REGIONS: u32 = 1024;

/// Whether a file begins like a `.vmss` or `.vmsn`.
fn probe(head: &[u8]) -> bool {
    let magic = le32(head, 0);
    MAGICS.contains(&magic) || magic == MAGIC_32
}

/// The `.vmss` or `.vmsn` of a `.vmem`.
fn state_of(vmem: &Path) -> Option<PathBuf> {
    let bare = uncompressed(vmem);
    if !bare.extension()?.eq_ignore_ascii_case("vmem") {
        return None;
    }
    named(&bare, &["vmss", "vmsn"])
}

/// The `.vmem` of a `.vmss` or `.vmsn`, compressed or not.
fn memory_of(state: &Path) -> Option<PathBuf> {
    named(&uncompressed(state), &["vmem"])
}

/// The path without the suffix of a compressed file.
fn uncompressed(path: &Path) -> PathBuf {
    match path.extension() {
        Some(suffix) if suffix == "gz" || suffix == "zst" => path.with_extension(""),
        _ => path.into(),
    }
}

/// The file with this name and one of `suffixes`, in lower or upper case, compressed or not.
fn named(path: &Path, suffixes: &[&str]) -> Option<PathBuf> {
    let names = suffixes
        .iter()
        .flat_map(|suffix| [suffix.to_ascii_lowercase(), suffix.to_ascii_uppercase()]);
    names
        .flat_map(|suffix| ["", ".gz", ".zst"].map(|more| format!("{suffix}{more}")))
        .map(|suffix| path.with_extension(suffix))
        .find(|path| path.is_file())
}

/// A region, in pages.
#[derive(Default, Clone, Copy)]
struct Region {
    page: u64,
    frame: u64,
    pages: u64,
    recorded_at: u64,
}

/// The contents of a `.vmss`.
pub(super) struct State {
    regions: Vec<Region>,
    /// The `Memory` block, if memory is in this file.
    block: Option<(u64, u64)>,
    /// The CPUs whose registers can be read.
    pub(super) cpus: Vec<CpuState>,
    /// Messages for the user.
    pub(super) notes: Vec<String>,
}

/// A tag of a group.
struct Tag<'a> {
    name: &'a [u8],
    /// At most three.
    indices: &'a [u32],
    /// The file offset.
    at: u64,
    value: TagValue,
}

enum TagValue {
    /// A number with its size in bytes; only the first eight bytes are used.
    Number(u64, u16),
    /// Bytes of the file: offset and length.
    Block {
        start: u64,
        stored: u64,
        compressed: bool,
    },
}

impl State {
    /// Reads a `.vmss` or `.vmsn`.
    pub(super) fn read(source: &Source, options: &Options) -> Result<Self, Error> {
        let head: [u8; HEADER as usize] = source.array("VMware header", 0)?;
        let (magic, groups) = (le32(&head, 0), u64::from(le32(&head, 8)));
        if magic == MAGIC_32 {
            return Err(Error::Unsupported {
                what: "VMware state with 32-bit sizes (before Workstation 6)".into(),
            });
        }
        let table = source.table("VMware groups", HEADER, groups * GROUP, options)?;
        let mut state = Self {
            regions: Vec::new(),
            block: None,
            cpus: Vec::new(),
            notes: Vec::new(),
        };
        for group in table.chunks_exact(GROUP as usize) {
            let name = group[..64].split(|b| *b == 0).next().unwrap_or_default();
            let at = le64(group, 64);
            match name {
                b"memory" => tags(source, at, &mut |tag| state.memory_tag(tag))?,
                b"cpu" => state.read_cpus(source, at),
                _ => {}
            }
        }
        Ok(state)
    }

    /// Reads the group `cpu` at `at`. An error only loses the CPUs.
    fn read_cpus(&mut self, source: &Source, at: u64) {
        let mut cpus = Cpus::default();
        let read = tags(source, at, &mut |tag| match tag.value {
            TagValue::Number(value, width) => {
                cpus.number(tag.name, tag.indices, width, value, tag.at)
            }
            TagValue::Block { .. } => Ok(()),
        });
        match read {
            Ok(()) => {
                let (states, note) = cpus.finish();
                self.cpus = states;
                self.notes.extend(note);
            }
            Err(error) => self
                .notes
                .push(format!("cannot read the CPUs' registers: {error}")),
        }
    }

    fn memory_tag(&mut self, tag: &Tag<'_>) -> Result<(), Error> {
        match tag.value {
            TagValue::Number(value, _) => {
                let index = tag.indices.first().copied().unwrap_or(0);
                self.number(tag.name, index, value, tag.at)
            }
            TagValue::Block {
                start,
                stored,
                compressed,
            } => {
                if tag.name == b"Memory" {
                    if compressed {
                        return Err(Error::Unsupported {
                            what: "VMware state with compressed memory".into(),
                        });
                    }
                    self.block = Some((start, stored));
                }
                Ok(())
            }
        }
    }

    /// Stores a number of a region.
    fn number(&mut self, name: &[u8], index: u32, value: u64, at: u64) -> Result<(), Error> {
        let field: fn(&mut Region) -> &mut u64 = match name {
            b"regionPageNum" => |region| &mut region.page,
            b"regionPPN" => |region| &mut region.frame,
            b"regionSize" => |region| &mut region.pages,
            _ => return Ok(()),
        };
        if index >= REGIONS {
            return Err(Error::broken(
                "VMware region",
                at,
                format!("region number {index}"),
                format!("a number below {REGIONS}"),
            ));
        }
        let index = index as usize;
        if self.regions.len() <= index {
            self.regions.resize(index + 1, Region::default());
        }
        let region = &mut self.regions[index];
        *field(region) = value;
        region.recorded_at = at;
        Ok(())
    }

    /// Whether memory is in this file.
    pub(super) fn has_memory(&self) -> bool {
        self.block.is_some()
    }

    /// The memory, in `vmem` if there is such a file, else in the block of `state`.
    pub(super) fn memory(
        &self,
        state: &Source,
        vmem: Option<&Source>,
        options: &Options,
    ) -> Result<Linear, Error> {
        let (source, base, len) = match (vmem, self.block) {
            (Some(vmem), _) => (vmem, 0, vmem.len()),
            (None, Some((start, len))) => (state, start, len),
            (None, None) => {
                return Err(Error::Unsupported {
                    what: "VMware state without its memory; put the .vmem file with the same name into the same \
                           directory"
                        .into(),
                });
            }
        };
        let mut pieces = Pieces::new("VMware region", source, options);
        if self.regions.iter().all(|region| region.pages == 0) {
            pieces.add(0, len, base, 0)?;
        }
        for region in &self.regions {
            let bytes = |pages: u64| pages.checked_mul(PAGE_SIZE);
            let all = (bytes(region.frame), bytes(region.page), bytes(region.pages));
            let (Some(pa), Some(at), Some(size)) = all else {
                return Err(Error::broken(
                    "VMware region",
                    region.recorded_at,
                    format!("{:#x} pages from frame {:#x}", region.pages, region.frame),
                    "addresses below 2^64",
                ));
            };
            let within = at.checked_add(size).is_some_and(|end| end <= len);
            // A truncated .vmem file has the first regions.
            if !within && vmem.is_none() {
                return Err(Error::broken(
                    "VMware region",
                    region.recorded_at,
                    format!("{size:#x} bytes at {at:#x} of the memory"),
                    format!("an end within {len:#x} bytes"),
                ));
            }
            pieces.add(pa, size, base.saturating_add(at), region.recorded_at)?;
        }
        pieces.finish()
    }
}

/// Reads the tags of the group at `at`.
fn tags(
    source: &Source,
    mut at: u64,
    take: &mut dyn FnMut(&Tag<'_>) -> Result<(), Error>,
) -> Result<(), Error> {
    loop {
        let tag = le16(&source.array::<2>("VMware tag", at)?, 0);
        if tag == 0 {
            return Ok(());
        }
        let (size, indices, name_len) = (tag & 0x3f, (tag >> 6) & 3, tag >> 8);
        // At most 255 and 3 times 4 bytes.
        let mut head = vec![0; usize::from(name_len) + usize::from(indices) * 4];
        source.exact("VMware tag", at + 2, &mut head)?;
        let (name, numbers) = head.split_at(usize::from(name_len));
        let numbers = [0, 4, 8].map(|at| le32(numbers, at));
        let value_at = at + 2 + head.len() as u64;
        let (value, next) = if size == BLOCK || size == BLOCK_COMPRESSED {
            let lens: [u8; 18] = source.array("VMware block", value_at)?;
            let (stored, pad) = (le64(&lens, 0), u64::from(le16(&lens, 16)));
            let start = value_at + 18 + pad;
            // The memory may be truncated.
            if name != b"Memory" || start.checked_add(stored).is_none() {
                source.require("VMware block", start, stored)?;
            }
            let block = TagValue::Block {
                start,
                stored,
                compressed: size == BLOCK_COMPRESSED,
            };
            (block, start + stored)
        } else {
            let mut value = [0; 64];
            source.exact("VMware tag", value_at, &mut value[..usize::from(size)])?;
            let number = TagValue::Number(le64(&value, 0), size);
            (number, value_at + u64::from(size))
        };
        take(&Tag {
            name,
            // Their number has two bits.
            indices: &numbers[..usize::from(indices)],
            at,
            value,
        })?;
        if next > source.len() {
            return Ok(());
        }
        at = next;
    }
}

/// The table row of the format.
pub(super) const VMWARE: Row = Row {
    probe: |candidate| Ok(open_state(candidate)?.is_some() || probe(&candidate.head()?)),
    open: |candidate| {
        let (source, options) = (candidate.source()?, candidate.options);
        if let Some(other) = open_state(candidate)? {
            let state = State::read(&other, options)?;
            let memory = state.memory(&other, Some(source), options)?;
            return Ok(image(source, memory, state));
        }
        let state = State::read(source, options)?;
        let vmem = candidate.path.and_then(memory_of);
        let Some(vmem) = vmem.filter(|_| !state.has_memory()) else {
            let memory = state.memory(source, None, options)?;
            return Ok(image(source, memory, state));
        };
        let other = Source::open(&vmem, options)?;
        let memory = state.memory(source, Some(&other), options)?;
        Ok(Image {
            ram: vmem,
            ..image(&other, memory, state)
        })
    },
};

/// The state file of a `.vmem`, if the candidate is one.
fn open_state(candidate: &Candidate<'_>) -> Result<Option<Source>, Error> {
    let Some(path) = candidate.path.and_then(state_of) else {
        return Ok(None);
    };
    let state = Source::open(&path, candidate.options)?;
    Ok(probe(&state.head::<4>()?).then_some(state))
}

fn image(source: &Source, memory: Linear, state: State) -> Image {
    Image {
        cpus: state.cpus,
        notes: state.notes,
        ..Image::new(Format::Vmware, source, memory)
    }
}
