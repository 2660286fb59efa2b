//! The facts of a memory image: format, ranges, processors.

use std::fs::File;
use std::io::{self, Read as _, Write};
use std::path::Path;

use livecore_defs::foreign::{Foreign, HEAD};
use livecore_livedump::image::{self, CpuState, Format, Image, Named, Registers, X86};
use serde::{Serialize, Serializer};

use crate::failure::Failure;
use crate::json::Hex;
use crate::remote::is_remote;
use crate::session::Session;
use crate::text::Bytes;
use livecore_defs::text::printable;

/// The facts of a memory image.
#[derive(Debug, Serialize)]
pub(super) struct ImageFacts {
    image: String,
    format: &'static str,
    codec: &'static str,
    layout: Option<String>,
    memory: u64,
    ranges: Vec<MemoryRangeFacts>,
    cpus: Vec<CpuFacts>,
    notes: Vec<String>,
}

/// A range of physical memory in the image.
#[derive(Debug, Serialize)]
struct MemoryRangeFacts {
    start: Hex,
    end: Hex,
}

/// A processor with its main registers.
#[derive(Debug, Serialize)]
struct CpuFacts {
    number: u32,
    #[serde(flatten)]
    registers: CpuRegisters,
}

#[derive(Debug, Serialize)]
#[serde(untagged)]
enum CpuRegisters {
    X86 {
        rip: Hex,
        rsp: Hex,
        rbp: Hex,
        rflags: Hex,
        gs_base: Option<Hex>,
        cr0: Option<Hex>,
        cr2: Option<Hex>,
        cr3: Option<Hex>,
        cr4: Option<Hex>,
    },
    /// The names and values that the architecture's row lists, then the link register.
    Named {
        #[serde(flatten, serialize_with = "map")]
        shown: Vec<(&'static str, Hex)>,
        #[serde(skip)]
        link: &'static str,
    },
    Unknown {},
}

impl CpuRegisters {
    fn of_x86(r: &X86) -> Self {
        let control = r.control;
        Self::X86 {
            rip: Hex(r.rip),
            rsp: Hex(r.rsp),
            rbp: Hex(r.rbp),
            rflags: Hex(r.rflags),
            gs_base: r.segments.map(|segments| Hex(segments.gs.base)),
            cr0: control.map(|c| Hex(c.cr0)),
            cr2: control.map(|c| Hex(c.cr2)),
            cr3: control.map(|c| Hex(c.cr3)),
            cr4: control.map(|c| Hex(c.cr4)),
        }
    }

    fn of_named(r: &Named) -> Self {
        let shown = r.fields().shown.iter();
        let value = |(label, name): &(&'static str, &str)| Some((*label, Hex(r.get(name)?)));
        Self::Named {
            shown: shown.filter_map(value).collect(),
            link: r.arch().pcbs.first().map_or("", |pcb| pcb.pc),
        }
    }
}

/// Serializes names and values as a map, in their order.
fn map<S: Serializer>(values: &[(&str, Hex)], out: S) -> Result<S::Ok, S::Error> {
    out.collect_map(values.iter().map(|(name, value)| (name, value)))
}

impl CpuFacts {
    fn of(cpu: &CpuState) -> Self {
        Self {
            number: cpu.number,
            registers: match &cpu.registers {
                Registers::X86(r) => CpuRegisters::of_x86(r),
                Registers::Named(r) => CpuRegisters::of_named(r),
                Registers::Unknown => CpuRegisters::Unknown {},
            },
        }
    }

    /// The registers as text.
    fn line(&self) -> String {
        match &self.registers {
            CpuRegisters::X86 { rip, rsp, cr3, .. } => {
                let cr3 = cr3
                    .as_ref()
                    .map_or(String::new(), |cr3| format!(", cr3 {:#x}", cr3.0));
                format!("rip {:#x}, rsp {:#x}{cr3}", rip.0, rsp.0)
            }
            CpuRegisters::Named { shown, link } => {
                let part = |wanted: &str| {
                    let (name, value) = shown.iter().find(|(name, _)| *name == wanted)?;
                    Some(format!("{name} {:#x}", value.0))
                };
                let parts: Vec<_> = ["pc", "sp", *link].into_iter().filter_map(part).collect();
                parts.join(", ")
            }
            CpuRegisters::Unknown {} => "registers in an unsupported format".into(),
        }
    }
}

/// The most ranges that are listed: a file may claim millions.
const RANGES: usize = 4096;

impl ImageFacts {
    fn of(image: &Image, path: &Path) -> Self {
        let ranges = image.memory.ranges();
        Self {
            image: path.display().to_string(),
            format: image.format.name(),
            codec: image.codec.name(),
            layout: image.layout.as_ref().map(ToString::to_string),
            memory: ranges.iter().map(|range| range.end.0 - range.start.0).sum(),
            ranges: ranges
                .iter()
                .take(RANGES)
                .map(|range| MemoryRangeFacts {
                    start: range.start.into(),
                    end: range.end.into(),
                })
                .collect(),
            cpus: image.cpus.iter().map(CpuFacts::of).collect(),
            notes: image
                .notes
                .iter()
                .cloned()
                .chain(
                    (ranges.len() > RANGES)
                        .then(|| format!("{} more ranges are not listed", ranges.len() - RANGES)),
                )
                .collect(),
        }
    }

    /// Prints the facts as text.
    pub(super) fn print(&self, out: &mut dyn Write) -> io::Result<()> {
        writeln!(out, "image:        {}", printable(&self.image))?;
        writeln!(out, "format:       {}", self.format)?;
        if self.codec != livecore_compress::Codec::None.name() {
            writeln!(out, "codec:        {}", self.codec)?;
        }
        if let Some(layout) = &self.layout {
            writeln!(out, "layout:       {layout}")?;
        }
        writeln!(out, "memory:       {}", Bytes(self.memory))?;
        for range in &self.ranges {
            writeln!(
                out,
                "              {:#x} to {:#x}",
                range.start.0, range.end.0
            )?;
        }
        for cpu in &self.cpus {
            writeln!(out, "cpu {:<10}{}", cpu.number, cpu.line())?;
        }
        for note in &self.notes {
            writeln!(out, "note:         {}", printable(note))?;
        }
        Ok(())
    }
}

/// The region in errors about raw memory.
const RAW: &str = "raw memory";

/// Whether the file has the magic of an image.
fn has_mark(path: &Path) -> bool {
    let mut head = Vec::new();
    let read = File::open(path).and_then(|file| file.take(HEAD as u64).read_to_end(&mut head));
    read.is_ok() && Foreign::of(&head).is_some_and(|foreign| foreign.is_image)
}

/// Opens the image at `path`. `None` if it could only be raw memory, which has no signature.
pub(super) fn of(path: &Path, session: &mut Session<'_>) -> Option<Result<ImageFacts, Failure>> {
    if is_remote(path) {
        return None;
    }
    let options = session.image_options();
    match image::open(path, &options) {
        Ok(image) if image.format == Format::Raw => None,
        Ok(image) => {
            session.warn_of_memory(path, &image.memory);
            Some(Ok(ImageFacts::of(&image, path)))
        }
        // A file shorter than a page is not an image.
        Err(livecore_minidump::Error::Broken { region, .. }) if region == RAW => None,
        Err(error @ livecore_minidump::Error::Broken { .. }) => {
            Some(Err(Failure::from(error).about(path)))
        }
        Err(error) if has_mark(path) => Some(Err(Failure::from(error).about(path))),
        Err(_) => None,
    }
}
