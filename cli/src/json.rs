//! JSON output.
//!
//! Addresses and flags are hexadecimal strings with `0x`. Lengths, offsets and counts are integers
//! of up to 64 bits. docs/json.md describes the documents, docs/schemas contains their schemas.

use std::io::{self, Write};

use livecore_defs::text::escaped_json;
use livecore_defs::{PhysAddr, VirtAddr};
use livecore_kernel::SourceLine;
use serde::{Serialize, Serializer};

pub(crate) use livecore_verify::render::SCHEMA;

/// A document with the number of the JSON output.
#[derive(Serialize)]
struct Numbered<'a, T> {
    schema: u32,
    #[serde(flatten)]
    document: &'a T,
}

impl<'a, T> Numbered<'a, T> {
    fn new(document: &'a T) -> Self {
        Self {
            schema: SCHEMA,
            document,
        }
    }
}

/// Prints one indented document, with the number of the JSON output, and a newline.
///
/// `document` is an object.
pub(crate) fn print(document: &impl Serialize, out: &mut dyn Write) -> io::Result<()> {
    print_numbered(&Numbered::new(document), out)
}

/// Prints one indented document, which contains the number, and a newline.
pub(crate) fn print_numbered(document: &impl Serialize, out: &mut dyn Write) -> io::Result<()> {
    let text = serde_json::to_string_pretty(document)?;
    out.write_all(escaped_json(&text).as_bytes())?;
    out.write_all(b"\n")
}

/// Prints one document, with the number of the JSON output, as one line.
pub(crate) fn print_line(document: &impl Serialize, out: &mut dyn Write) -> io::Result<()> {
    let text = serde_json::to_string(&Numbered::new(document))?;
    out.write_all(escaped_json(&text).as_bytes())?;
    out.write_all(b"\n")
}

/// A number printed in hexadecimal: an address or flags.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hex(pub u64);

impl From<PhysAddr> for Hex {
    fn from(address: PhysAddr) -> Self {
        Self(address.0)
    }
}

impl From<VirtAddr> for Hex {
    fn from(address: VirtAddr) -> Self {
        Self(address.0)
    }
}

impl Serialize for Hex {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&format_args!("{:#x}", self.0))
    }
}

/// A line of a source file.
#[derive(Debug, Serialize)]
pub(crate) struct SourceAnswer {
    pub(crate) file: String,
    pub(crate) line: u64,
}

impl From<SourceLine> for SourceAnswer {
    fn from(SourceLine { file, line }: SourceLine) -> Self {
        Self { file, line }
    }
}

/// Whether a count is zero, to omit it.
pub(crate) fn is_zero(count: &usize) -> bool {
    *count == 0
}

#[cfg(test)]
mod tests {
    use super::*;
    use livecore_defs::text::is_terminal_control;

    #[test]
    fn terminal_control_characters_are_escaped_and_parse_back() {
        let text = serde_json::json!({ "text": "a\u{1b}[2J\n\u{9b}\u{202e}\u{7f}größe\"\\" });
        let mut out = Vec::new();
        print(&text, &mut out).unwrap();
        let shown = String::from_utf8(out).unwrap();
        assert!(
            !shown.lines().any(|line| line.contains(is_terminal_control)),
            "{shown:?}"
        );
        let back: serde_json::Value = serde_json::from_str(&shown).unwrap();
        assert_eq!(back["text"], text["text"]);
        assert_eq!(back["schema"], SCHEMA);
    }
}
