//! The file around the stored dump.
//!
//! FreeBSD `sys/kern/kern_shutdown.c` (devices), `sys/kern/kern_vnodedumper.c` (live dumps).

use super::content::noise;
use super::cursor::Names;
use super::error::{BuildError, Result};
use super::recipe::{Codec, Container, Kind, Recipe};
use super::seal::{self, Facts};
use super::{encryption, textdump};

/// Bytes at the start of a device that the kernel never writes.
const RESERVED: u64 = 65536;

/// The largest device in bytes.
const MAX_DEVICE: u64 = 1 << 30;

/// A file, and the header that describes it.
#[derive(Debug)]
pub(crate) struct Packed {
    pub(crate) bytes: Vec<u8>,
    pub(crate) header: [u8; seal::SIZE],
}

/// Packs `stored`, the stored form of `payload` bytes, and adds the offsets of its parts to `names`.
pub(crate) fn pack(
    recipe: &Recipe,
    stored: &[u8],
    payload: u64,
    names: &mut Names,
) -> Result<Packed> {
    let arch = recipe.kind.arch();
    let block = match recipe.container {
        Container::Live => recipe.page_size,
        _ => recipe.sector,
    };
    let key = recipe
        .key
        .map_or(0, |key| (37 + key.wrapped).next_multiple_of(recipe.sector));
    let mut facts = Facts {
        text: matches!(recipe.kind, Kind::Text(_)),
        machine: arch.machine,
        machine_version: arch.machine_version,
        length: stored.len() as u64,
        extent: payload,
        key,
        block,
        compression: match recipe.codec {
            Codec::None => 0,
            Codec::Zstd | Codec::ZstdSized | Codec::ZstdUnchecked | Codec::ZstdFrames(_) => 2,
            _ => 1,
        },
    };
    let mut define = |name: &str, value: u64| names.insert(name.to_owned(), value);
    define("stream.size", facts.length);
    define("payload.size", payload);
    match recipe.container {
        Container::Saved | Container::Sealed => {
            let header = seal::header(recipe, &facts, names)?;
            Ok(Packed {
                bytes: stored.to_vec(),
                header,
            })
        }
        Container::Live => {
            let mut bytes = stored.to_vec();
            bytes.resize(stored.len().next_multiple_of(block as usize), 0);
            define("stream.start", 0);
            define("trailing", bytes.len() as u64);
            let mut header = seal::header(recipe, &facts, names)?;
            let whole = header;
            finish(recipe, names, &mut header)?;
            bytes.extend_from_slice(&header);
            Ok(Packed {
                bytes,
                header: whole,
            })
        }
        Container::Device => device(recipe, stored, &mut facts, names),
    }
}

fn finish(recipe: &Recipe, names: &Names, header: &mut [u8; seal::SIZE]) -> Result<()> {
    if recipe.cleared {
        seal::clear(header);
    }
    seal::change(recipe, "trailing", names, header)
}

fn device(recipe: &Recipe, stored: &[u8], facts: &mut Facts, names: &mut Names) -> Result<Packed> {
    let sector = recipe.sector;
    let overhead = RESERVED + 2 * sector + facts.key;
    let needed = overhead + facts.extent;
    let size = match &recipe.device_size {
        Some(size) => size.value(0, names)?,
        None => needed.next_multiple_of(sector),
    };
    let refuse = |expected: String| {
        Err(BuildError::Value {
            line: 0,
            what: "device size",
            found: size,
            expected,
        })
    };
    if size > MAX_DEVICE || !size.is_multiple_of(sector) {
        return refuse(format!("whole sectors, at most {MAX_DEVICE:#x}"));
    }
    if size < needed {
        // The extent of a compressed dump is all the space available.
        if facts.compression == 0 || size < overhead {
            return refuse(format!("at least {needed:#x}"));
        }
        facts.extent = size - overhead;
    }
    if facts.extent < facts.length {
        return refuse(format!("space for {:#x} bytes", facts.length));
    }
    let mut bytes = vec![0u8; size as usize];
    if let Some(seed) = recipe.stale {
        for (i, chunk) in bytes.chunks_mut(8).enumerate() {
            chunk.copy_from_slice(&noise(seed, i as u64).to_le_bytes()[..chunk.len()]);
        }
    }
    // The dump ends at the trailing header. The extent of a text dump is its length.
    let start = size - sector - facts.extent;
    let leading = start - facts.key - sector;
    for (name, value) in [
        ("stream.start", start),
        ("leading", leading),
        ("key", leading + sector),
        ("trailing", size - sector),
    ] {
        names.insert(name.to_owned(), value);
    }
    let header = seal::header(recipe, facts, names)?;
    let mut write = |at: u64, data: &[u8]| {
        bytes[at as usize..at as usize + data.len()].copy_from_slice(data);
    };
    if let Some(key) = recipe.key {
        write(leading + sector, &encryption::key_block(key, facts.key));
    }
    if facts.text {
        write(start, &textdump::reversed(stored));
    } else {
        write(start, stored);
        // The last block is padded with zeros.
        let end = start + stored.len() as u64;
        let rest = (end.next_multiple_of(sector) - end).min(size - sector - end);
        write(end, &vec![0; rest as usize]);
    }
    let mut first = header;
    seal::change(recipe, "leading", names, &mut first)?;
    let mut last = header;
    finish(recipe, names, &mut last)?;
    for (at, copy) in [(leading, first), (size - sector, last)] {
        let mut sector_bytes = copy.to_vec();
        sector_bytes.resize(sector as usize, 0);
        write(at, &sector_bytes);
    }
    Ok(Packed { bytes, header })
}
