//! The facts of a dump for people and programs: what `livecore info` prints.
#![allow(
    missing_docs,
    reason = "docs/schemas/info.schema.json and info-full.schema.json describe the fields"
)]

mod common;
mod full;
mod mini;

use std::path::Path;

use serde::Serialize;

pub use common::{Frames, HeaderFacts, PayloadFacts};
pub use full::{Delta, Elf, FullFacts, MemoryRangeFacts};
pub use mini::{
    AvailFacts, CpuFacts, Minidump, MinidumpFacts, PageCounts, PauseFacts, SealRecordFacts,
    SectionFacts, Short, TornFacts,
};

use crate::AnyDump;

/// The facts of a dump of any kind. It serializes as the document of its kind.
#[derive(Debug, Serialize)]
#[serde(untagged)]
pub enum Facts {
    /// Of a minidump.
    Mini(Box<MinidumpFacts>),
    /// Of a full dump.
    Full(Box<FullFacts>),
}

impl Facts {
    /// Returns the facts of `dump`, whose name is `path`. `warnings` are ids and texts.
    pub fn of(dump: &AnyDump, path: &Path, warnings: Vec<(String, String)>) -> Self {
        match dump {
            AnyDump::Mini(dump) => Self::Mini(Box::new(MinidumpFacts::of(dump, path, warnings))),
            AnyDump::Full(dump) => Self::Full(Box::new(FullFacts::of(dump, path, warnings))),
        }
    }
}
