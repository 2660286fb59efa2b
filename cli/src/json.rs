//! JSON output.
//!
//! Addresses and flags are hexadecimal strings with `0x`. Lengths, offsets and counts are integers
//! of up to 64 bits. docs/json.md describes the documents, docs/schemas contains their schemas.

use std::io::{self, Write};

use livecore_defs::text::escaped_json;
use livecore_defs::{PhysAddr, VirtAddr};
use serde::{Serialize, Serializer};

/// Prints one indented document and a newline.
pub(crate) fn print(document: &impl Serialize, out: &mut dyn Write) -> io::Result<()> {
    let text = serde_json::to_string_pretty(document)?;
    out.write_all(escaped_json(&text).as_bytes())?;
    out.write_all(b"\n")
}

/// Prints one document as one line.
pub(crate) fn print_line(document: &impl Serialize, out: &mut dyn Write) -> io::Result<()> {
    let text = serde_json::to_string(document)?;
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
        let text = "a\u{1b}[2J\n\u{9b}\u{202e}\u{7f}größe\"\\";
        let mut out = Vec::new();
        print(&text, &mut out).unwrap();
        let shown = String::from_utf8(out).unwrap();
        assert!(!shown.trim_end().contains(is_terminal_control), "{shown:?}");
        assert_eq!(serde_json::from_str::<String>(&shown).unwrap(), text);
    }
}
