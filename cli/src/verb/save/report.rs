//! The outcome of `save`, as text and as docs/schemas/save.schema.json.

use std::path::PathBuf;

use livecore_compress::Codec;
use livecore_defs::text::printable;
use livecore_minidump::Magic;
use serde::Serialize;

use super::checked::Check;
use super::place::Place;
use super::write::File;
use crate::failure::Failure;
use crate::id::Id;
use crate::session::Session;
use crate::text::Bytes;

/// A saved file and the result of its check.
pub(super) struct Done {
    pub file: File,
    pub check: Check,
}

/// A dump that was found.
#[derive(Debug, Serialize)]
pub(super) struct Saved {
    device: String,
    partition: Option<String>,
    /// Offset of the partition.
    start: u64,
    kind: &'static str,
    hostname: String,
    dumptime: u64,
    panic: Option<String>,
    path: Option<PathBuf>,
    number: Option<u32>,
    codec: Option<&'static str>,
    payload_size: Option<u64>,
    file_size: Option<u64>,
    check: Option<Check>,
    /// Whether the dump was cleared on the device.
    pub(super) cleared: bool,
}

impl Saved {
    /// A dump that was not saved.
    pub(super) fn not(place: &Place) -> Self {
        let header = &place.dump.header;
        let text = |bytes: &[u8]| printable(&String::from_utf8_lossy(bytes)).to_string();
        Self {
            device: place.name.display().to_string(),
            partition: place.partition.clone(),
            start: place.start,
            kind: match header.magic {
                Magic::Text => "text",
                _ if header.dumpkeysize > 0 => "encrypted",
                _ => "kernel",
            },
            hostname: text(&header.hostname),
            dumptime: header.dumptime,
            panic: Some(text(&header.panicstring)).filter(|text| !text.is_empty()),
            path: None,
            number: None,
            codec: None,
            payload_size: None,
            file_size: None,
            check: None,
            cleared: false,
        }
    }

    /// A dump that was saved in `file`.
    pub(super) fn of(place: &Place, file: &File, check: Check) -> Self {
        Self {
            path: Some(file.path.clone()),
            number: Some(file.number),
            codec: Some(Codec::name(file.codec)),
            payload_size: Some(file.payload_len),
            file_size: Some(file.len),
            check: Some(check),
            ..Self::not(place)
        }
    }

    /// Prints the outcome.
    pub(super) fn say(&self, end: &str, id: Id, session: &Session<'_>) {
        let (Some(path), Some(check)) = (&self.path, self.check) else {
            return;
        };
        let size = |size: Option<u64>| Bytes(size.unwrap_or(0));
        let line = format_args!(
            "{}: {} payload, {} file, from {}; {}; {end}",
            path.display(),
            size(self.payload_size),
            size(self.file_size),
            self.device,
            check.text(),
        );
        session.voice.say(id, line);
    }
}

/// Prints all outcomes as JSON.
pub(super) fn print(saved: &[Saved], session: &mut Session<'_>) -> Result<(), Failure> {
    let report = serde_json::json!({ "dumps": saved });
    crate::json::print(&report, &mut session.out)?;
    Ok(())
}
