//! The facts of a dump as text: one name and one value on a line.

use std::io::{self, Write};

use livecore_defs::text::printable;
use livecore_minidump::facts::{Frames, HeaderFacts, MinidumpFacts, PayloadFacts};

use crate::text::Bytes;

const COLUMN: usize = 18;

pub(super) struct Lines<'a> {
    pub(super) out: &'a mut dyn Write,
}

impl Lines<'_> {
    pub(super) fn line(&mut self, name: &str, value: impl ToString) -> io::Result<()> {
        let value = printable(&value.to_string());
        let name = match name {
            "" => String::new(),
            name => format!("{name}:"),
        };
        writeln!(self.out, "{}", format!("{name:COLUMN$} {value}").trim_end())
    }

    pub(super) fn title(&mut self, title: &str) -> io::Result<()> {
        writeln!(self.out, "{title}:")
    }
}

/// Prints the facts as text.
pub(super) fn print(facts: &MinidumpFacts, out: &mut dyn Write) -> io::Result<()> {
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
    lines.line(
        "codec",
        codec(facts.codec, facts.frames.as_ref(), facts.stream),
    )?;
    payload(facts.codec, "bitmap", &facts.payload, &mut lines)?;
    let order = match facts.byte_order {
        "big" => ", big-endian",
        _ => "",
    };
    lines.line("architecture", format!("{}{order}", facts.architecture))?;
    lines.line(
        "minidump",
        format!(
            "version {}, pages of {} bytes",
            facts.minidump.version, facts.page_size
        ),
    )?;
    kerneldumpheader(facts.header_origin, facts.header.as_ref(), &mut lines)?;
    let mini = &facts.minidump;
    lines.title("addresses")?;
    for (name, value) in [
        ("  kernbase", Some(mini.kernbase)),
        ("  kernvirtaddr", mini.kernvirtaddr),
        ("  dmapbase", Some(mini.dmapbase)),
        ("  dmapend", Some(mini.dmapend)),
    ] {
        if let Some(value) = value {
            lines.line(name, format!("{value:#x}"))?;
        }
    }
    lines.title("sections")?;
    for s in &facts.sections {
        let name = format!("  {}", s.name);
        lines.line(&name, format!("at {:#x}, {}", s.offset, Bytes(s.size)))?;
    }
    lines.title("dump_avail")?;
    for r in &facts.dump_avail {
        let place = format!("[{:#x}, {:#x})", r.start, r.end);
        writeln!(lines.out, "  {place:38} {} of {} pages", r.saved, r.pages)?;
    }
    let pages = &facts.pages;
    lines.line(
        "pages",
        format!("{} saved, {} holes", pages.saved, pages.holes),
    )?;
    for class in &facts.excluded {
        lines.line(
            "excluded",
            format!("{} pages: {}", class.pages, class.class),
        )?;
    }
    for redacted in &facts.redacted {
        let value = format!(
            "[{:#x}, {:#x}): {}",
            redacted.start, redacted.end, redacted.name
        );
        lines.line("redacted", value)?;
    }
    if let Some(torn) = &facts.torn {
        let value = format!("{} of {}", torn.torn, torn.pages);
        lines.line("torn pages", value)?;
        let value = format!("{} pages in {} rounds", torn.read_again, torn.rounds);
        lines.line("  read again", value)?;
        let window = torn.end.saturating_sub(torn.start) as f64 / 1e9;
        lines.line("  time window", format!("{window:.3} s"))?;
    }
    if let Some(pause) = &facts.pause {
        lines.line("guest pause", &pause.sentence)?;
        if pause.how == "compared" {
            let value = format!("{} of {}, {} new", pause.changed, pause.compared, pause.new);
            lines.line("  pages changed", value)?;
        }
    }
    for (i, cpu) in facts.cpu_state.iter().enumerate() {
        let name = if i == 0 { "CPU state" } else { "" };
        let thread = cpu
            .tid
            .map_or(String::new(), |tid| format!(", thread {tid}"));
        let value = format!(
            "CPU {}, written to {} by livecore{thread}",
            cpu.number, cpu.place
        );
        lines.line(name, value)?;
    }
    for record in &facts.seal_records {
        let value = format!("type {}, {} bytes", record.kind, record.size);
        lines.line("seal record", value)?;
    }
    match &facts.short {
        Some(short) => lines.line(
            "short",
            format!(
                "by {} bytes, {} pages",
                short.expected - short.actual,
                short.pages
            ),
        ),
        None => Ok(()),
    }
}

pub(super) fn codec(codec: &str, frames: Option<&Frames>, stream: &str) -> String {
    match (frames, stream) {
        (Some(frames), _) => format!(
            "{codec}, {} frames of {} bytes",
            frames.count, frames.content_size
        ),
        (None, "foreign") => format!("{codec}, single stream without an index"),
        _ => codec.into(),
    }
}

/// Prints the size of the payload. `source` has the expected one.
pub(super) fn payload(
    codec: &str,
    source: &str,
    payload: &PayloadFacts,
    lines: &mut Lines<'_>,
) -> io::Result<()> {
    match payload.size {
        Some(size) => lines.line("payload", Bytes(size))?,
        None => lines.line(
            "payload",
            format!(
                "{} according to the {source}; unknown without decompressing",
                Bytes(payload.expected)
            ),
        )?,
    }
    if codec != "none"
        && let Some(stored) = payload.stored
    {
        let ratio = payload
            .ratio
            .map_or(String::new(), |r| format!(", ratio {r:.2}"));
        lines.line("stored", format!("{}{ratio}", Bytes(stored)))?;
    }
    Ok(())
}

/// Prints the origin and the fields of the header.
pub(super) fn kerneldumpheader(
    origin: &str,
    header: Option<&HeaderFacts>,
    lines: &mut Lines<'_>,
) -> io::Result<()> {
    let origin = match origin {
        "file" => "in the file",
        "seal" => "in the seal",
        "seal-from-info" => "in the seal, made from an info file by a conversion",
        "seal-from-payload" => "in the seal, made from the payload by a conversion",
        "elf-note" => "in a note of the ELF core",
        "info" => "made from the dump's info file",
        _ => "none",
    };
    lines.line("kerneldumpheader", origin)?;
    match header {
        Some(header) => self::header(header, lines),
        None => Ok(()),
    }
}

fn header(header: &HeaderFacts, lines: &mut Lines<'_>) -> io::Result<()> {
    if let Some(offset) = header.offset {
        lines.line("  offset", format!("{offset:#x}"))?;
    }
    if let Some(file) = &header.info_file {
        lines.line("  info file", file)?;
    }
    lines.line("  magic", header.magic)?;
    lines.line("  version", header.version)?;
    lines.line(
        "  architecture",
        format!("{} {}", header.architecture, header.architectureversion),
    )?;
    lines.line("  dumplength", Bytes(header.dumplength))?;
    lines.line("  dumpextent", Bytes(header.dumpextent))?;
    let time = match &header.dumptime_utc {
        // A header made without a time has 0.
        _ if header.dumptime == 0 => "unknown".into(),
        Some(utc) => utc.clone(),
        None => format!("{} seconds after 1970 (out of range)", header.dumptime),
    };
    lines.line("  dumptime", time)?;
    lines.line("  blocksize", header.blocksize)?;
    lines.line("  hostname", &header.hostname)?;
    let mut name = "  version string";
    for line in header.versionstring.lines() {
        lines.line(name, line.trim())?;
        name = "";
    }
    lines.line("  panic string", &header.panicstring)?;
    lines.line(
        "  parity",
        if header.parity_ok { "correct" } else { "wrong" },
    )
}
