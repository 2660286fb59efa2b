//! `livecore list [DIR]`: lists the dumps in a directory such as /var/crash, or removes old ones.

mod inventory;
mod prune;

use std::io::Write;
use std::num::NonZeroUsize;
use std::path::PathBuf;

use livecore_defs::text::printable;
use livecore_minidump::info;
use serde::Serialize;

use crate::crash::Reader;
use crate::crash_directory::DEFAULT;
use crate::failure::Failure;
use crate::id::Id;
use crate::session::Session;
use crate::text::{Short, parse_size};

use inventory::{Inventory, Listed};
use prune::Pruned;

const MANUAL: &str = "\
Examples:
  livecore list /var/crash
  livecore list --json /var/crash | jq '.dumps[].panic'
  livecore list --prune --keep 5 --dry-run /var/crash           what would be removed
  livecore list --prune --keep 5 --max-size 20G /var/crash

Prints a line for each dump, the newest last, with all files that belong to it. TIME is from the header, or \
from the info file, or else the modification time of the file. CHECK is the verdict of `livecore verify \
--quick`: headers, sizes and the seal. `encrypted` means that livecore cannot check the data without the \
private key.

--prune removes the dumps that exceed a limit, the oldest first, with all their files. It never removes the \
newest dump, nor one that is not verified. A dump is verified if `livecore verify` can check all of its data \
and finds no error. livecore verifies the dumps to remove, and the newest one that remains, before it \
removes the first. --keep counts only dumps in which --quick finds no error. In a directory of netdumpd(8), \
--keep and the newest dump apply to each host.

Exits with 3 if livecore kept a dump because it is not verified, or if it cannot reach --max-size.";

/// Arguments of `livecore list`.
#[derive(Debug, clap::Args)]
#[command(after_help = MANUAL)]
#[command(group = clap::ArgGroup::new("limit").multiple(true))]
pub struct Args {
    /// Directory with dumps
    #[arg(value_name = "DIR", default_value = DEFAULT)]
    pub directory: PathBuf,
    /// Print crash signatures (docs/signatures.md)
    ///
    /// Searches for the kernel of each dump and reads the backtrace. Without a matching kernel, the
    /// signature has the panic message only.
    #[arg(long)]
    pub signatures: bool,
    /// Kernel file, or directory to search; may be repeated
    #[arg(long, value_name = "PATH", requires = "signatures")]
    pub kernel_path: Vec<PathBuf>,
    /// Remove old dumps
    #[arg(help_heading = "Removing dumps", long, requires = "limit")]
    pub prune: bool,
    /// Keep the N newest dumps
    #[arg(
        help_heading = "Removing dumps",
        long,
        value_name = "N",
        requires = "prune",
        group = "limit"
    )]
    pub keep: Option<NonZeroUsize>,
    /// Remove dumps until the others take at most SIZE bytes
    ///
    /// Decimal, or hexadecimal after 0x, with an optional suffix K, M, G or T.
    #[arg(help_heading = "Removing dumps", long, value_name = "SIZE", value_parser = parse_size,
          requires = "prune", group = "limit")]
    pub max_size: Option<u64>,
    /// Remove dumps that are older than DAYS days
    #[arg(
        help_heading = "Removing dumps",
        long,
        value_name = "DAYS",
        requires = "prune",
        group = "limit"
    )]
    pub older_than: Option<u32>,
    /// Print what would be removed, and remove nothing
    #[arg(help_heading = "Removing dumps", long, requires = "prune")]
    pub dry_run: bool,
    /// Print one JSON object (docs/json.md)
    #[arg(long)]
    pub json: bool,
}

/// JSON output; docs/schemas/list.schema.json.
#[derive(Debug, Serialize)]
struct Answer<'a> {
    directory: String,
    dumps: &'a [Listed],
    /// Files that belong to no dump.
    files_without_dump: &'a [String],
    /// Disk space of all these files.
    disk_size: u64,
    prune: Option<&'a Pruned>,
}

/// Runs the verb.
pub(crate) fn run(args: &Args, session: &mut Session<'_>) -> Result<(), Failure> {
    let reader = Reader::new(session, session.env.memory, &args.kernel_path);
    let mut inventory = Inventory::read(&args.directory, args.signatures, &reader, session)?;
    let pruned = match args.prune {
        true => Some(prune::run(args, &mut inventory, session)?),
        false => None,
    };
    if args.json {
        let answer = Answer {
            directory: args.directory.display().to_string(),
            dumps: &inventory.dumps,
            files_without_dump: &inventory.without_dump,
            disk_size: inventory.disk_size(),
            prune: pruned.as_ref(),
        };
        return Ok(crate::json::print(&answer, &mut session.out)?);
    }
    if pruned.is_some() {
        return Ok(());
    }
    if inventory.dumps.is_empty() {
        let line = format_args!(
            "{}: no dumps found (files named vmcore.N or livecore.N)",
            args.directory.display()
        );
        session.voice.say(Id::NoDumps, line);
    }
    print(&inventory, args.signatures, session)
}

/// Prints a table.
fn print(
    inventory: &Inventory,
    signatures: bool,
    session: &mut Session<'_>,
) -> Result<(), Failure> {
    const TITLES: [&str; 7] = ["N", "TIME", "HOST", "KIND", "SIZE", "CHECK", "FILES"];
    let row = |dump: &Listed| {
        [
            dump.number.to_string(),
            info::utc(dump.time),
            dump.hostname.clone().unwrap_or_else(|| "-".into()),
            dump.kind.into(),
            Short(dump.size).to_string(),
            dump.check.verdict.into(),
            dump.files.join(","),
        ]
        .map(|cell| printable(&cell).to_string())
    };
    let rows: Vec<_> = inventory.dumps.iter().map(row).collect();
    let mut widths = TITLES.map(str::len);
    for row in &rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let out = &mut session.out;
    let mut line = |cells: [&str; 7], signature: &str, last: &str| {
        for (cell, width) in cells.iter().zip(widths) {
            write!(out, "{cell:width$}  ")?;
        }
        if signatures {
            write!(out, "{signature:34}  ")?;
        }
        writeln!(out, "{last}")
    };
    if !rows.is_empty() {
        line(TITLES, "SIGNATURE", "PANIC")?;
    }
    for (row, dump) in rows.iter().zip(&inventory.dumps) {
        let panic = dump.panic.as_deref().filter(|panic| !panic.is_empty());
        let panic = panic.map_or_else(|| "-".into(), |panic| printable(panic).to_string());
        let signature = dump.signature.as_ref().map_or("-", |found| &found.id);
        line(row.each_ref().map(String::as_str), signature, &panic)?;
    }
    if !inventory.without_dump.is_empty() {
        let names = inventory.without_dump.join(", ");
        writeln!(out, "files without a dump: {}", printable(&names))?;
    }
    Ok(())
}
