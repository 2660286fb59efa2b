//! bhyve's checkpoints: `NAME.ckp` is memory, `NAME.ckp.meta` says how much.
//!
//! Low memory (up to 3 GiB) lies at the start of the file, memory from 4 GiB up behind it. Facts:
//! FreeBSD `usr.sbin/bhyve/snapshot.c`, `lib/libvmmapi/vmmapi.c` (`VM_LOWMEM_LIMIT`). The
//! metadata is JSON: `basic metadata` with `ncpus`, `vmname`, `memsize`. The processors' registers
//! are in `NAME.ckp.kern`, in the layout of the vmm(4) that wrote them; they are not read.

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
/// The most bytes of metadata that are read.
const LIMIT: u64 = 1 << 20;

/// The metadata beside a checkpoint, if there is any.
fn beside(path: &Path) -> Option<PathBuf> {
    let mut name = path.file_name()?.to_owned();
    name.push(".meta");
    Some(path.with_file_name(name)).filter(|meta| meta.is_file())
}

/// That the checkpoint's metadata tells of `len` bytes of memory. `false` if it is no metadata of
/// bhyve's.
fn check(meta: &Path, len: u64) -> Result<bool, Error> {
    let mut text = Vec::new();
    File::open(meta)?.take(LIMIT).read_to_end(&mut text)?;
    let Ok(value) = serde_json::from_slice::<Value>(&text) else {
        return Ok(false);
    };
    // libxo writes a number of an unknown format as a string.
    let size = match &value["basic metadata"]["memsize"] {
        Value::Number(number) => number.as_u64(),
        Value::String(digits) => digits.parse().ok(),
        _ => return Ok(false),
    };
    if size == Some(len) {
        return Ok(true);
    }
    Err(Error::broken(
        "bhyve's metadata, memsize",
        0,
        match size {
            Some(size) => format!("{size:#x}"),
            None => "no number of bytes".into(),
        },
        format!("{len:#x}, the bytes of the checkpoint"),
    ))
}

/// The format.
pub(super) const BHYVE: Row = Row {
    probe: |candidate| match candidate.path.and_then(beside) {
        Some(meta) => check(&meta, candidate.source()?.len()),
        None => Ok(false),
    },
    open: |candidate| {
        let source = candidate.source()?;
        let layout = RawLayout::Hole {
            below: LOWMEM_LIMIT,
        };
        let memory = layout.memory(source, candidate.options)?;
        Ok(Image {
            layout: Some(layout),
            ..Image::new(Format::Bhyve, source, memory)
        })
    },
};
