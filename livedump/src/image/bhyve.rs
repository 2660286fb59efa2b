//! bhyve checkpoints: `NAME.ckp` is the memory, `NAME.ckp.meta` contains its size.
//!
//! Low memory (up to 3 GiB) is at the start of the file, followed by the memory from 4 GiB on.
//! Facts: FreeBSD `usr.sbin/bhyve/snapshot.c`, `lib/libvmmapi/vmmapi.c` (`VM_LOWMEM_LIMIT`). The
//! metadata is JSON: `basic metadata` with `ncpus`, `vmname`, `memsize`. The registers are in
//! `NAME.ckp.kern`, in the layout of the vmm(4) that wrote them; they are not read.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use livecore_minidump::Error;
use serde_json::Value;

use super::candidate::Row;
use super::format::Format;
use super::memory_image::Image;
use super::raw_layout::RawLayout;

/// `VM_LOWMEM_LIMIT`.
const LOWMEM_LIMIT: u64 = 3 << 30;
/// The largest metadata file that is read, in bytes.
const LIMIT: u64 = 1 << 20;

/// The metadata file of a checkpoint, if it exists.
fn metadata(path: &Path) -> Option<PathBuf> {
    let mut name = path.file_name()?.to_owned();
    name.push(".meta");
    Some(path.with_file_name(name)).filter(|meta| meta.is_file())
}

/// The size of the memory that the metadata records: at least `len`, the size of the checkpoint, which
/// may be truncated. Returns `None` if the metadata is not bhyve's.
fn size(meta: &Path, len: u64) -> Result<Option<u64>, Error> {
    let mut text = Vec::new();
    File::open(meta)?.take(LIMIT).read_to_end(&mut text)?;
    let Ok(value) = serde_json::from_slice::<Value>(&text) else {
        return Ok(None);
    };
    // libxo writes a number in an unknown format as a string.
    let size = match &value["basic metadata"]["memsize"] {
        Value::Number(number) => number.as_u64(),
        Value::String(digits) => digits.parse().ok(),
        _ => return Ok(None),
    };
    if size.is_some_and(|size| size >= len) {
        return Ok(size);
    }
    Err(Error::broken(
        "bhyve's metadata, memsize",
        0,
        match size {
            Some(size) => format!("{size:#x}"),
            None => "no size".into(),
        },
        format!("at least {len:#x}, the size of the checkpoint"),
    ))
}

/// The table row of the format.
pub(super) const BHYVE: Row = Row {
    probe: |candidate| match candidate.path.and_then(metadata) {
        Some(meta) => Ok(size(&meta, candidate.source()?.len())?.is_some()),
        None => Ok(false),
    },
    open: |candidate| {
        let source = candidate.source()?;
        let layout = RawLayout::Hole {
            below: LOWMEM_LIMIT,
        };
        let mut memory = layout.memory(source, candidate.options)?;
        let size = match candidate.path.and_then(metadata) {
            Some(meta) => size(&meta, source.len())?,
            None => None,
        };
        let lacking = size.unwrap_or(0).saturating_sub(source.len());
        if lacking > 0 {
            memory.lack(lacking);
        }
        Ok(Image {
            layout: Some(layout),
            ..Image::new(Format::Bhyve, source, memory)
        })
    },
};
