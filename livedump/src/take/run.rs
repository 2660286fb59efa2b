//! A dump taken from beginning to end: planned, written, named.

use std::num::NonZeroU32;
use std::sync::Arc;

use compress::{Codec, Progress, ReadAt};
use minidump::convert::{Target, Written, finish};
use minidump::{Error, KernelElf};

use super::{Facts, PlanOptions, TakeError, plan};
use crate::PhysMemory;
use crate::place::{Destination, Options, PlaceError, Published, info};

/// How a dump is taken.
#[derive(Debug, Clone)]
pub struct RunOptions {
    /// What is planned.
    pub plan: PlanOptions,
    /// Container, codec, level, frames, workers.
    pub target: Target,
    /// What `info.N` calls the machine: `/dev/mem`, or the machine's file.
    pub device: String,
    /// A file that exists may be replaced.
    pub force: bool,
    /// savecore(8)'s `-m`.
    pub max: Option<NonZeroU32>,
    /// Blocks of zeros of an uncompressed dump become holes of its file.
    pub sparse: bool,
}

/// A dump that was taken.
#[derive(Debug, Clone)]
pub struct Done {
    /// Where it is.
    pub published: Published,
    /// Its lengths and its header.
    pub written: Written,
    /// Pages in it.
    pub pages: u64,
    /// What the kernel said of itself.
    pub facts: Facts,
    /// Physical address that the kernel was found at.
    pub kernphys: u64,
    /// What a person should hear: of the machine, then of the directory.
    pub notes: Vec<String>,
}

/// Takes a dump of the machine with this memory, which runs this kernel.
///
/// When it fails, nothing of the dump is left under any name. `progress` hears of payload bytes;
/// `planned` hears how many there will be.
pub fn run(
    memory: Arc<dyn PhysMemory>,
    elf: &KernelElf,
    destination: &Destination,
    options: &RunOptions,
    planned: &mut dyn FnMut(u64),
    progress: &dyn Progress,
) -> Result<Done, TakeError> {
    options.target.check()?;
    let taken = plan(memory, elf, &options.plan)?;
    let header = taken.header();
    let facts = taken.facts.clone();
    let kernphys = taken.machine.located.kernphys;
    let pages = taken.plan.bitmap().count();
    let mut notes = taken.notes.clone();
    let payload = taken.into_payload();
    let len = payload.size().map_err(|e| Error::io("plan", e))?;
    planned(len);

    let codec = options.target.encoding.codec;
    let mut pending = destination.begin(&Options {
        codec,
        force: options.force,
        max: options.max,
        sparse: options.sparse && codec == Codec::None,
        // How far a codec gets is known only afterwards.
        needed: if codec == Codec::None { len } else { 0 },
    })?;
    let written = finish(&payload, header, &options.target, &mut pending, progress)
        .map_err(|error| write_error(error, &pending.path()))?;
    let published = pending
        .publish(&|number| info::of_written(&written, &options.device, number).into_bytes())?;
    notes.extend(published.notes.iter().cloned());
    Ok(Done {
        published,
        written,
        pages,
        facts,
        kernphys,
        notes,
    })
}

/// What an error of writing to `path` means.
fn write_error(error: Error, path: &std::path::Path) -> TakeError {
    match error {
        Error::Cancelled => TakeError::Cancelled,
        Error::Io { what, source } => match PlaceError::of_write(path, source) {
            Ok(place) => place.into(),
            Err(source) => TakeError::Minidump(Error::Io { what, source }),
        },
        other => other.into(),
    }
}
