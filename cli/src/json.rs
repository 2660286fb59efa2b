//! JSON on standard output: one shape of document for all verbs.
//!
//! Addresses and flags are strings of hexadecimal digits after `0x`; lengths, offsets and counts are
//! integers, exact up to 64 bits. docs/json.md describes every document, docs/schemas holds their
//! schemas.

use std::io::{self, Write};

use serde::{Serialize, Serializer};

/// Writes one document, indented, and a newline.
pub fn print(document: &impl Serialize, out: &mut dyn Write) -> io::Result<()> {
    serde_json::to_writer_pretty(&mut *out, document)?;
    out.write_all(b"\n")
}

/// A number that is an address or a set of flags: `0x` and hexadecimal digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hex(pub u64);

impl Serialize for Hex {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&format_args!("{:#x}", self.0))
    }
}

/// Whether a count is zero, for what is absent then.
pub fn is_zero(count: &usize) -> bool {
    *count == 0
}
