//! The facts of a full dump as text.

use std::io::{self, Write};

use livecore_minidump::facts::FullFacts;

use super::text::{self, Lines};
use crate::text::Bytes;

/// Prints the facts as text.
pub(super) fn print(facts: &FullFacts, out: &mut dyn Write) -> io::Result<()> {
    let mut lines = Lines { out };
    lines.line("dump", &facts.dump)?;
    lines.line("file size", Bytes(facts.file_size))?;
    if let Some(size) = facts.disk_size {
        lines.line("disk size", Bytes(size))?;
    }
    lines.line("container", facts.container)?;
    if let Some(cipher) = facts.encryption {
        lines.line("encryption", cipher)?;
    }
    let codec = text::codec(facts.codec, facts.frames.as_ref(), facts.stream);
    lines.line("codec", codec)?;
    text::payload(facts.codec, "program headers", &facts.payload, &mut lines)?;
    let order = match facts.byte_order {
        "big" => ", big-endian",
        _ => "",
    };
    lines.line("architecture", format!("{}{order}", facts.architecture))?;
    lines.line(
        "full dump",
        format!(
            "ELF{} core of machine {}, {} program headers",
            facts.elf.class, facts.elf.machine, facts.elf.program_headers
        ),
    )?;
    if let Some(version) = facts.carried_minidump {
        lines.line("carries", format!("a minidump, version {version}"))?;
    }
    text::kerneldumpheader(facts.header_origin, facts.header.as_ref(), &mut lines)?;
    if let Some(delta) = &facts.elf.delta {
        let value = format!(
            "linked at {:#x}, loaded at {:#x}",
            delta.linked, delta.loaded
        );
        lines.line("kernel", value)?;
    }
    lines.title("memory")?;
    for range in &facts.ranges {
        let place = format!("[{:#x}, {:#x})", range.start, range.end);
        writeln!(lines.out, "  {place:38} at {:#x}", range.offset)?;
    }
    if facts.ranges_left_out > 0 {
        writeln!(lines.out, "  and {} more", facts.ranges_left_out)?;
    }
    lines.line("total", Bytes(facts.memory))
}
