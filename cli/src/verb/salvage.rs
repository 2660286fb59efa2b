//! `livecore salvage IN OUT`: recovers a sound dump from a damaged or truncated one.

use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use livecore_compress::ReadAt;
use livecore_defs::text::printable;
use livecore_kernel::verifier::Keys;
use livecore_livedump::publish::{self, Destination};
use livecore_minidump::info::Info;
use livecore_minidump::salvage::{Options, Report, Salvage};
use serde_json::{Value, json};

use crate::args::{CodecArgs, ContainerArg};
use crate::companion;
use crate::dump_args::NumberArg;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::id::Id;
use crate::input;
use crate::output;
use crate::remote::Stores;
use crate::session::Session;
use livecore_verify::OneTimeKeys;

/// The most ranges of lost pages in the text report.
const RANGES: usize = 16;
/// The most damaged places in the text report.
const PLACES: usize = 16;

const MANUAL: &str = "\
Examples:
  livecore salvage broken.zst livecore.0.zst
  livecore salvage /dev/da0p2 vmcore.zst       a dump device without headers

Lost pages become holes, never zeros. Damage to a frame loses only the pages of that frame, if an index \
or the total length locates the other frames; a single compressed stream is kept up to the damage. \
salvage prints the losses and records them in the seal; `verify` then reports SEAL-SALVAGED. salvage keeps pages without a \
checksum (in an uncompressed dump without a seal, or in a truncated stream) and counts them as \
unproven; --proven drops them.

A full dump gets new program headers for the pages that are left. From an ELF core or a full dump that \
contains a minidump, salvage writes that minidump, because it contains more; `convert --to` converts it \
back.

Exits with 0 if nothing was damaged, and 3 if something was. Exits with 2 and writes nothing if \
the minidump header and dump_avail, or the headers of a full dump, are lost (then no page has an \
address), or if `verify` would call the result broken.";

/// Arguments of `livecore salvage`.
#[derive(Debug, clap::Args)]
#[command(after_help = MANUAL)]
pub struct Args {
    /// Damaged dump, or directory with dumps; `-` for standard input
    #[arg(value_name = "IN")]
    pub input: PathBuf,
    /// The number of the dump.
    #[command(flatten)]
    pub number: NumberArg,
    /// Output file; `-` for standard output
    ///
    /// The suffix .gz or .zst selects the codec if no option does.
    #[arg(value_name = "OUT")]
    pub output: PathBuf,
    /// The codec.
    #[command(flatten)]
    pub codec: CodecArgs,
    /// Container format of the file
    #[arg(
        short = 'O',
        long,
        value_enum,
        value_name = "CONTAINER",
        default_value = "sealed"
    )]
    pub container: ContainerArg,
    /// Keep only pages that a checksum proves
    #[arg(long)]
    pub proven: bool,
    /// Replace OUT if it exists
    ///
    /// A symbolic link is replaced; its target is not changed.
    #[arg(short, long)]
    pub force: bool,
    /// Print a JSON report of kept and lost pages (docs/json.md)
    #[arg(long)]
    pub json: bool,
}

/// Runs the verb.
pub(crate) fn run(args: &Args, session: &mut Session<'_>) -> Result<(), Failure> {
    let destination = Destination::parse(&args.output);
    if matches!(destination, Destination::Directory(_)) {
        return Err(Failure::usage("OUT must be a file, not a directory")
            .id_is(Id::OutputIsDirectory)
            .about(&args.output));
    }
    output::check_stdout(&destination, args.json, session)?;
    let target = output::target(
        &args.codec,
        args.container,
        livecore_compress::Codec::of_path(&args.output),
        session,
    )?;
    let options = Options::default()
        .open(
            livecore_minidump::OpenOptions::new()
                .stream(session.stream_options(args.codec.threads))
                .bitmap_limit(session.env.memory)
                .key(session.env.key.clone())
                .key_file(companion::key_file(&args.input, &session.stores)?),
        )
        .proven(args.proven)
        .info(info_of(&args.input, &session.stores));
    let file: Arc<dyn ReadAt> = input::source(&args.input, session)?.into();
    let bar = session.bar("salvage: scan", args.json, None);
    let found = Salvage::examine(Arc::clone(&file), &options, &bar);
    drop(bar);
    let found = found.map_err(|e| input::not_opened(e, &args.input))?;
    require_sound(&found, args.codec.threads, args.json, session)
        .map_err(|e| e.about(&args.input))?;
    let payload = found.payload_len().map_err(Failure::from)?;
    let place = publish::Options::of_dump(target.encoding.codec, Some(payload)).force(args.force);
    let bar = session.bar("salvage: write", args.json, Some(payload));
    let mut write = |out: &mut dyn livecore_compress::Output,
                     progress: &dyn livecore_compress::Progress| {
        found.write(&target, out, progress)
    };
    let written = output::write(&destination, &place, &target, "", &bar, session, &mut write);
    drop(bar);
    let written = written.map_err(|failure| failure.about(&args.input))?;
    let mut report = found.report().clone();
    if report.is_whole() {
        let file = input::decrypted(&args.input, file, session)?;
        report.corrections = errors_of(file, args, session)?;
    }
    let report = &report;
    if args.json {
        let mut value = value(&args.input, report);
        value["written"] = serde_json::to_value(&written)
            .map_err(|e| Failure::could_not(format_args!("cannot format the report: {e}")))?;
        crate::json::print(&value, &mut session.out)?;
    } else {
        let mut text = Vec::new();
        print_text(&args.input, report, &mut text)?;
        let text = String::from_utf8_lossy(&text);
        // If the dump goes to standard output, the report goes to standard error.
        match destination.is_stdout() {
            true => text
                .lines()
                .for_each(|line| session.voice.say(Id::Report, line)),
            false => std::io::Write::write_all(&mut session.out, text.as_bytes())?,
        }
        written.print(false, session)?;
    }
    session.note(match report.is_whole() {
        true => Exit::DONE,
        false => Exit::WARNINGS,
    });
    Ok(())
}

/// Fails if the verifier would call the result broken.
pub(super) fn require_sound(
    found: &Salvage,
    threads: Option<NonZeroUsize>,
    silent: bool,
    session: &Session<'_>,
) -> Result<(), Failure> {
    let dump = found.as_raw_file().map_err(Failure::from)?;
    let len = dump.size()?;
    let bar = session.bar("salvage: check", silent, Some(len));
    let report = livecore_verify::verify(dump, &checks(threads, None), &bar);
    drop(bar);
    match report.verdict.exit_code() {
        0 | 3 => Ok(()),
        1 => Err(Failure::could_not(
            report
                .verdict
                .reason()
                .unwrap_or("cannot verify the result"),
        )),
        _ => {
            let errors = errors(&report);
            let why = errors.first().map_or("not a dump", String::as_str);
            Err(Failure::broken(format_args!(
                "recovered dump is not sound, so nothing was written: {why}"
            ))
            .id_is(Id::NotRecovered))
        }
    }
}

/// Options to verify a dump with its info file.
fn checks<'a>(
    threads: Option<NonZeroUsize>,
    info: Option<&'a str>,
) -> livecore_verify::Options<'a> {
    livecore_verify::Options::default()
        .threads(crate::args::threads(threads))
        .per_rule(1)
        .info(info)
}

/// The errors of an input that has lost nothing. The output does not have them.
fn errors_of(
    input: Arc<dyn ReadAt>,
    args: &Args,
    session: &Session<'_>,
) -> Result<Vec<String>, Failure> {
    let info = companion::info(&args.input, &session.stores);
    let len = input.size()?;
    let bar = session.bar("salvage: compare", args.json, Some(len));
    let keys = session.env.key.clone().map(Keys);
    let options = checks(args.codec.threads, info.as_deref())
        .keys(keys.as_ref().map(|keys| keys as &dyn OneTimeKeys));
    let report = livecore_verify::verify(input, &options, &bar);
    drop(bar);
    Ok(match report.verdict.exit_code() {
        2 | 63 => errors(&report),
        _ => Vec::new(),
    })
}

/// The errors of a report, or the reason of its verdict.
pub(super) fn errors(report: &livecore_verify::Report) -> Vec<String> {
    let errors = report.findings.iter().filter(|f| report.fails(f.rule));
    let mut errors: Vec<_> = errors
        .map(|f| {
            format!(
                "{}: {} at {:#x}: found {}, expected {}",
                f.rule.id, f.region, f.offset, f.found, f.expected
            )
        })
        .collect();
    if errors.is_empty() {
        errors.extend(report.verdict.reason().map(Into::into));
    }
    errors
}

/// Reads the info file of the dump `path`, if there is a valid one.
fn info_of(path: &Path, stores: &Stores) -> Option<Info> {
    Info::parse(&companion::info(path, stores)?)
}

/// The JSON report of docs/schemas/salvage.schema.json, without the file that was written.
fn value(path: &Path, report: &Report) -> Value {
    let pages = &report.pages;
    let ranges: Vec<_> = pages
        .ranges
        .iter()
        .map(|range| json!({ "start": range.start.to_string(), "end": range.end.to_string() }))
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
        "mended": report.corrections,
        "sections": sections,
        "damage": damage,
    })
}

fn print_text(path: &Path, report: &Report, out: &mut dyn std::io::Write) -> std::io::Result<()> {
    let pages = &report.pages;
    let codec = match report.codec {
        livecore_compress::Codec::None => "uncompressed".to_string(),
        codec => codec.to_string(),
    };
    writeln!(
        out,
        "{}: {} of a {} file, {codec}: {} of {} pages kept, {} lost",
        printable(&path.display().to_string()),
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
            "  {} kept pages are not covered by a checksum",
            pages.unproven
        )?;
    }
    if pages.unknown > 0 {
        writeln!(
            out,
            "  {} pages may be lost: the bitmap is damaged",
            pages.unknown
        )?;
    }
    for correction in &report.corrections {
        writeln!(out, "  repaired: {correction}")?;
    }
    for s in &report.sections {
        writeln!(out, "  {}: {} of {} bytes lost", s.section, s.lost, s.len)?;
    }
    for range in pages.ranges.iter().take(RANGES) {
        writeln!(out, "  lost: {:#x}..{:#x}", range.start, range.end)?;
    }
    let more = pages.ranges.len().saturating_sub(RANGES);
    if more > 0 {
        writeln!(out, "  and {more} more ranges; use --json to list all")?;
    }
    if report.unplaced > 0 {
        let bytes = report.unplaced;
        writeln!(
            out,
            "  {bytes} bytes of intact frames were dropped: their address is unknown"
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
