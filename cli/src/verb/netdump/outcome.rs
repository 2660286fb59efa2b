//! The events of the server as JSON, docs/schemas/netdump.schema.json.

use livecore_defs::text::printable;
use livecore_livedump::netdump::{Ended, Kept, Outcome};
use livecore_verify::Report;
use serde::Serialize;

use crate::exit::Exit;

/// Maximum number of missing ranges in an outcome.
const RANGES: usize = 16;

/// The server listens.
#[derive(Debug, Serialize)]
pub(super) struct Listening {
    pub(super) event: &'static str,
    pub(super) address: String,
}

/// A range of a dump.
#[derive(Debug, Serialize)]
struct Missing {
    offset: u64,
    size: u64,
}

/// A dump has ended.
#[derive(Debug, Serialize)]
pub(super) struct Dump {
    event: &'static str,
    outcome: &'static str,
    exit_code: u8,
    host: String,
    address: String,
    number: Option<u32>,
    dump: Option<String>,
    info: Option<String>,
    key: Option<String>,
    ended: &'static str,
    problems: Vec<String>,
    warnings: Vec<String>,
    hostname: Option<String>,
    panic: Option<String>,
    received_size: u64,
    file_size: u64,
    missing_size: u64,
    missing: Vec<Missing>,
    pages_kept: Option<u64>,
    pages_lost: Option<u64>,
    packets: u64,
    duplicates: u64,
    refused: u64,
    seconds: f64,
}

impl Dump {
    pub(super) fn new(ended: &Ended, kept: &Kept) -> Self {
        let path =
            |path: &Option<std::path::PathBuf>| path.as_ref().map(|p| p.display().to_string());
        let header = kept.header.as_ref();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let size = |range: &std::ops::Range<u64>| range.end - range.start;
        let missing = kept.missing.iter().take(RANGES).map(|range| Missing {
            offset: range.start,
            size: size(range),
        });
        Self {
            event: "dump",
            outcome: kept.outcome.name(),
            exit_code: exit(kept).code(),
            host: kept.host.clone(),
            address: ended.peer.address.to_string(),
            number: kept.number,
            dump: path(&kept.dump),
            info: path(&kept.info),
            key: path(&kept.key),
            ended: ended.why.name(),
            problems: kept.problems.clone(),
            warnings: kept.warnings.clone(),
            hostname: header.map(|header| text(&header.hostname)),
            panic: header.map(|header| text(&header.panicstring)),
            received_size: ended.data.total(),
            file_size: kept.size,
            missing_size: kept.missing.iter().map(size).sum(),
            missing: missing.collect(),
            pages_kept: kept.pages.map(|pages| pages.kept),
            pages_lost: kept.pages.map(|pages| pages.lost),
            packets: ended.statistics.packets,
            duplicates: ended.statistics.duplicates,
            refused: ended.statistics.refused,
            seconds: (ended.took.as_secs_f64() * 1000.0).round() / 1000.0,
        }
    }
}

/// The exit code for one dump.
pub(super) fn exit(kept: &Kept) -> Exit {
    match kept.outcome {
        _ if kept.failed => Exit::COULD_NOT,
        Outcome::Complete | Outcome::Encrypted if kept.warnings.is_empty() => Exit::DONE,
        Outcome::Complete | Outcome::Encrypted | Outcome::Salvaged => Exit::WARNINGS,
        Outcome::Raw | Outcome::Nothing => Exit::BROKEN,
    }
}

/// The first warning of the verifier.
pub(super) fn warnings(report: &Report) -> String {
    let first = report.findings.first();
    first.map_or("the verifier warns".into(), |f| {
        format!(
            "{}: {} at {:#x}: found {}, expected {}",
            f.rule.id, f.region, f.offset, f.found, f.expected
        )
    })
}

/// One line about a dump that has ended.
pub(super) fn line(ended: &Ended, kept: &Kept) -> String {
    let what = match kept.outcome {
        Outcome::Complete => "complete, sealed and verified",
        Outcome::Encrypted => "complete and encrypted",
        Outcome::Salvaged => "incomplete; kept the pages that salvage recovered",
        Outcome::Raw => "not a complete sound dump; kept as it arrived",
        Outcome::Nothing => "nothing was kept",
    };
    let mut line = what.to_owned();
    if let Some(pages) = kept.pages {
        line += &format!(", {} pages, {} lost", pages.kept, pages.lost);
    }
    for problem in kept.problems.iter().chain(&kept.warnings) {
        line += "; ";
        line += &printable(problem);
    }
    if !kept.missing.is_empty() && ended.why == livecore_livedump::netdump::Why::Finished {
        line += "; the client does not repeat every lost packet: use an MTU of 2100 or more";
    }
    line
}
