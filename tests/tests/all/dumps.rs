//! Opens, converts, salvages and compares dumps, and plans dumps of memory.

use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::Arc;

use livecore_compress::{Codec, Encoding, NoProgress, ReadAt};
use livecore_livedump::take::{PlanOptions, TakeError, Taken, plan};
use livecore_minidump::convert::{Target, convert};
use livecore_minidump::salvage::{Options, Report, Salvage};
use livecore_minidump::{
    AnyDump, Container, Dump, Error, FullDump, KernelElf, OpenOptions, PhysMemory,
};
use livecore_verify::compare::{Comparison, compare};

pub(crate) const CODECS: [Codec; 3] = [Codec::None, Codec::Gzip, Codec::Zstd];
pub(crate) const CONTAINERS: [Container; 3] = [Container::Saved, Container::Raw, Container::Sealed];

/// Opens a minidump that may be broken.
pub(crate) fn try_open(bytes: &[u8]) -> Result<Dump, Error> {
    Dump::from_source(Arc::new(bytes.to_vec()), &OpenOptions::default())
}

/// Opens a minidump.
pub(crate) fn open(bytes: &[u8]) -> Dump {
    try_open(bytes).unwrap()
}

/// Opens a full dump.
pub(crate) fn open_full(bytes: &[u8]) -> Arc<FullDump> {
    match AnyDump::from_source(Arc::new(bytes.to_vec()), &OpenOptions::default()).unwrap() {
        AnyDump::Full(dump) => dump,
        AnyDump::Mini(_) => panic!("a minidump"),
    }
}

/// A container and a codec with frames of `frame_size` bytes.
pub(crate) fn target(container: Container, codec: Codec, frame_size: u32) -> Target {
    Target {
        container,
        encoding: Encoding::new(codec).frame_size(frame_size),
    }
}

/// Converts a minidump.
pub(crate) fn converted(bytes: &[u8], target: &Target) -> Vec<u8> {
    let mut out = Vec::new();
    convert(&open(bytes), target, &mut out, &NoProgress).unwrap();
    out
}

/// Salvages a dump into a sealed file.
pub(crate) fn salvage(bytes: &[u8], options: &Options) -> Result<(Report, Vec<u8>), Error> {
    let found = Salvage::examine(Arc::new(bytes.to_vec()), options, &NoProgress)?;
    let target = Target {
        container: Container::Sealed,
        encoding: Encoding::new(Codec::Zstd).level(1),
    };
    let mut out = Vec::new();
    found.write(&target, &mut out, &NoProgress)?;
    Ok((found.report().clone(), out))
}

/// Whether one of `ranges` overlaps the `len` bytes at `offset`.
pub(crate) fn overlap(ranges: &[Range<u64>], offset: u64, len: u64) -> bool {
    ranges
        .iter()
        .any(|r| r.start < offset + len && r.end > offset)
}

/// Compares two dumps.
pub(crate) fn compared(before: &[u8], after: &[u8]) -> Comparison {
    let sources: [Arc<dyn ReadAt>; 2] = [Arc::new(before.to_vec()), Arc::new(after.to_vec())];
    let options = livecore_verify::Options::default();
    compare(sources, ["before", "after"], &options, &NoProgress)
}

/// Opens a kernel file.
pub(crate) fn elf(bytes: &[u8]) -> KernelElf {
    KernelElf::from_bytes(bytes.to_vec()).unwrap()
}

/// Plans the dump of a kernel in `memory`.
pub(crate) fn planned(memory: Arc<dyn PhysMemory>, kernel: &[u8]) -> Result<Taken, TakeError> {
    plan(memory, &elf(kernel), &PlanOptions::default())
}

/// The payload of a planned dump.
pub(crate) fn payload(taken: &Taken) -> Vec<u8> {
    let payload = taken.payload();
    let mut bytes = vec![0; payload.size().unwrap() as usize];
    payload.read_exact_at(&mut bytes, 0).unwrap();
    bytes
}

/// Physical addresses of the pages of a planned dump.
pub(crate) fn pages(taken: &Taken) -> BTreeSet<u64> {
    let ranges = taken.plan.dump_avail();
    let address = |bit| ranges.addr_of(bit).unwrap().0;
    taken.plan.bitmap().iter().map(address).collect()
}
