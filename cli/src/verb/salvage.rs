//! `livecore salvage IN OUT`: the best sound dump that a damaged or truncated one still gives.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use livecore_compress::ReadAt as _;
use livecore_livedump::publish::{self, Destination};
use livecore_minidump::salvage::{Options, Report, Salvage};
use serde_json::{Value, json};

use crate::args::{CodecArgs, ContainerArg};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::input;
use crate::output;
use crate::session::Session;

/// Ranges of lost pages that people are shown.
const RANGES: usize = 16;
/// Damaged places that people are shown.
const PLACES: usize = 16;

const MANUAL: &str = "\
Examples:
  livecore salvage broken.zst livecore.0.zst
  livecore salvage /dev/da0p2 vmcore.zst       headers of a dump device lost

Lost pages become holes, never zeros. A damaged frame costs its own pages where an index or the \
length of the whole tells the place of the others; a stream in one piece is kept up to the damage. \
What is lost is said on standard output, and in the seal: verify tells of it as SEAL-SALVAGED. \
Pages without any checksum (uncompressed and unsealed, or of a stream that has lost its end) are \
kept and counted as unproven; --proven drops them.

Of a full dump the pages that are left are described anew. A core or a full dump that carries a \
minidump gives that minidump, which knows more; convert makes either of it again.

Exits with 0 if nothing was damaged, 3 if something was, 2 if nothing is written: without minidump \
header and dump_avail, or the headers of a full dump, no page has an address; and what verify would \
call broken is not written.";

/// What is asked for.
#[derive(Debug, clap::Args)]
#[command(after_help = MANUAL)]
pub struct Args {
    /// What is left of a dump; `-` for standard input
    #[arg(value_name = "IN")]
    pub input: PathBuf,
    /// Where the sound dump goes; `-` for standard output. The suffix .gz or .zst chooses the codec
    /// if no option does
    #[arg(value_name = "OUT")]
    pub output: PathBuf,
    /// How to compress.
    #[command(flatten)]
    pub codec: CodecArgs,
    /// How payload and header are laid in the file
    #[arg(long, value_enum, value_name = "CONTAINER", default_value = "sealed")]
    pub container: ContainerArg,
    /// Only pages that a checksum proves
    #[arg(long)]
    pub proven: bool,
    /// Replace OUT if it exists
    #[arg(short, long)]
    pub force: bool,
    /// Say what was kept and lost as one JSON object (docs/json.md)
    #[arg(long)]
    pub json: bool,
}

/// Salvages.
pub fn run(args: &Args, session: &mut Session<'_>) -> Result<(), Failure> {
    let destination = Destination::parse(&args.output);
    if matches!(destination, Destination::Directory(_)) {
        return Err(Failure::usage("a directory; OUT is a file").about(&args.output));
    }
    output::check_stdout(&destination, args.json, session)?;
    let target = output::target(
        &args.codec,
        args.container,
        output::codec_of_name(&args.output),
    )?;
    let options = Options {
        open: livecore_minidump::OpenOptions::new()
            .stream(session.stream_options(args.codec.threads))
            .bitmap_limit(session.env.memory),
        proven: args.proven,
        info: info_beside(&args.input),
    };
    let file = input::seekable(&args.input, session)?;
    let bar = session.bar("salvage: look", args.json, None);
    let found = Salvage::examine(Arc::new(file), &options, &bar);
    drop(bar);
    let found = found.map_err(|e| input::not_opened(e, &args.input))?;
    require_sound(&found, args, session).map_err(|e| e.about(&args.input))?;
    let payload = found.payload_len().map_err(Failure::from)?;
    let place = publish::Options {
        force: args.force,
        ..publish::Options::of_dump(target.encoding.codec, Some(payload))
    };
    let bar = session.bar("salvage: write", args.json, Some(payload));
    let mut write = |out: &mut dyn std::io::Write, progress: &dyn livecore_compress::Progress| {
        found.write(&target, out, progress)
    };
    let written = output::write(&destination, &place, &target, "", &bar, session, &mut write);
    drop(bar);
    let written = written.map_err(|failure| failure.about(&args.input))?;
    let report = found.report();
    if args.json {
        let mut value = value(&args.input, report);
        value["written"] = serde_json::to_value(&written)
            .map_err(|e| Failure::could_not(format_args!("the report: {e}")))?;
        crate::json::print(&value, &mut session.out)?;
    } else {
        let mut text = Vec::new();
        tell(&args.input, report, &mut text)?;
        let text = String::from_utf8_lossy(&text);
        // A dump on standard output leaves no room for words there.
        match destination.is_stdout() {
            true => text.lines().for_each(|line| session.voice.say(line)),
            false => std::io::Write::write_all(&mut session.out, text.as_bytes())?,
        }
        written.tell(false, session)?;
    }
    session.note(match report.is_whole() {
        true => Exit::DONE,
        false => Exit::WARNINGS,
    });
    Ok(())
}

/// Refuses what the verifier would call broken: a dump that cannot be trusted is not written.
fn require_sound(found: &Salvage, args: &Args, session: &Session<'_>) -> Result<(), Failure> {
    let dump = found.as_raw_file().map_err(Failure::from)?;
    let len = dump.size()?;
    let options = livecore_verify::Options {
        threads: crate::args::threads(args.codec.threads),
        per_rule: 1,
        ..livecore_verify::Options::default()
    };
    let bar = session.bar("salvage: check", args.json, Some(len));
    let report = livecore_verify::verify(dump, &options, &bar);
    drop(bar);
    match report.verdict.exit_code() {
        0 | 3 => Ok(()),
        1 => Err(Failure::could_not(
            report
                .verdict
                .reason()
                .unwrap_or("the result cannot be checked"),
        )),
        _ => {
            let error = report.findings.iter().find(|f| report.fails(f.rule));
            let why = error.map_or_else(
                || report.verdict.reason().unwrap_or("no dump").to_string(),
                |f| {
                    format!(
                        "{}: {} at {:#x}: found {}, expected {}",
                        f.rule.id, f.region, f.offset, f.found, f.expected
                    )
                },
            );
            Err(Failure::broken(format_args!(
                "what is left is not a sound dump, and nothing is written: {why}"
            )))
        }
    }
}

/// The info file beside `path`, if it is one that can be read.
fn info_beside(path: &Path) -> Option<livecore_minidump::info::Info> {
    let info = livecore_minidump::dump::info_file(path)?;
    let bytes = livecore_minidump::dump::read_info(&info).ok()?;
    livecore_minidump::info::Info::parse(&String::from_utf8_lossy(&bytes))
}

/// docs/schemas/salvage.schema.json, but for what was written.
fn value(path: &Path, report: &Report) -> Value {
    let pages = &report.pages;
    let ranges: Vec<_> = pages
        .ranges
        .iter()
        .map(|(start, end)| {
            json!({ "start": format!("{:#x}", start.0), "end": format!("{:#x}", end.0) })
        })
        .collect();
    let sections: Vec<_> = report
        .sections
        .iter()
        .map(|s| json!({ "section": s.section, "size": s.len, "lost": s.lost }))
        .collect();
    let damage: Vec<_> = report
        .damage
        .iter()
        .map(|d| {
            json!({
                "region": d.region,
                "offset": report.start.saturating_add(d.offset),
                "size": d.len,
                "found": d.found,
            })
        })
        .collect();
    json!({
        "path": path.display().to_string(),
        "whole": report.is_whole(),
        "kind": report.kind,
        "container": report.container,
        "codec": report.codec.name(),
        "header": report.header.name(),
        "pages": {
            "promised": pages.promised,
            "kept": pages.kept,
            "unproven": pages.unproven,
            "lost": pages.lost,
            "unknown": pages.unknown,
            "lost_ranges": ranges,
        },
        "unplaced_size": report.unplaced,
        "mended": report.mended,
        "sections": sections,
        "damage": damage,
    })
}

fn tell(path: &Path, report: &Report, out: &mut dyn std::io::Write) -> std::io::Result<()> {
    let pages = &report.pages;
    let codec = match report.codec {
        livecore_compress::Codec::None => "uncompressed".to_string(),
        codec => codec.to_string(),
    };
    writeln!(
        out,
        "{}: {} of a {} file, {codec}: {} of {} pages kept, {} lost",
        path.display(),
        if report.kind == "full" {
            "full dump"
        } else {
            report.kind
        },
        report.container,
        pages.kept,
        pages.promised,
        pages.lost
    )?;
    match report.header {
        livecore_minidump::salvage::HeaderFrom::Trailing
        | livecore_minidump::salvage::HeaderFrom::Seal => {}
        from => writeln!(out, "  kerneldumpheader: from the {}", from.name())?,
    }
    if pages.unproven > 0 && !report.is_whole() {
        writeln!(
            out,
            "  {} of the kept pages are proven by no checksum",
            pages.unproven
        )?;
    }
    if pages.unknown > 0 {
        let unknown = pages.unknown;
        writeln!(
            out,
            "  of {unknown} pages the bitmap no longer says whether they were there"
        )?;
    }
    for field in &report.mended {
        writeln!(out, "  mended: {field}")?;
    }
    for s in &report.sections {
        writeln!(out, "  {}: {} of {} bytes lost", s.section, s.lost, s.len)?;
    }
    for (start, end) in pages.ranges.iter().take(RANGES) {
        writeln!(out, "  lost: {:#x}..{:#x}", start.0, end.0)?;
    }
    let more = pages.ranges.len().saturating_sub(RANGES);
    if more > 0 {
        writeln!(out, "  and {more} more ranges; --json has them")?;
    }
    if report.unplaced > 0 {
        let bytes = report.unplaced;
        writeln!(
            out,
            "  {bytes} bytes of good frames between gaps have no certain place"
        )?;
    }
    for d in report.damage.iter().take(PLACES) {
        let offset = report.start.saturating_add(d.offset);
        let len = d
            .len
            .map(|len| format!(", {len} bytes"))
            .unwrap_or_default();
        writeln!(
            out,
            "  damaged: {} at {offset:#x}{len}: {}",
            d.region, d.found
        )?;
    }
    let more = report.damage.len().saturating_sub(PLACES);
    if more > 0 {
        writeln!(out, "  and {more} more damaged places")?;
    }
    Ok(())
}
