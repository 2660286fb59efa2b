//! `livecore info DUMP`: describes a dump or a memory image, like `qemu-img info` for disks.
//!
//! It reads the start and the end of the file first, so the answer takes the same time for a sealed
//! dump of any size. The payload size of a foreign compressed stream is unknown without decompressing
//! it, which follows the answer.

mod full;
mod image;
mod text;

use std::io::Write;
use std::path::{Path, PathBuf};

use livecore_minidump::facts::Facts;

use crate::crash_directory::{self, DEFAULT, Entry, Search};
use crate::dump_args::NumberArg;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::id::Id;
use crate::input::{self, Opening};
use crate::session::{Checked, Session};
use crate::text_dump::{self, TextFacts};

const MANUAL: &str = "\
Examples:
  livecore info livecore.0.zst
  livecore info --json vmcore.3 | jq .pages
  livecore info guest.elf                               a memory image, for take --image
  livecore info /var/crash                              all dumps in the directory

info reads the start and the end of the file and prints its output. If the dump is a single gzip member \
or zstd frame, info then decodes all of it to check its length and checksum, and warns if memory is \
missing. Use `livecore verify` to check everything else.

Exits with 3 if there are warnings: a short file, a wrong field of a header, a damaged seal.";

/// Reads the start and the end, then what a foreign stream does not state there.
const WITH_LOSS: Opening = Opening {
    threads: None,
    zero_tail: false,
    unchecked: false,
    ends: true,
    loss: true,
};

/// Arguments of `livecore info`.
#[derive(Debug, clap::Args)]
#[command(after_help = MANUAL)]
pub struct Args {
    /// Dumps, memory images, directories of dumps
    ///
    /// `-` is standard input. Raw memory images are not recognized.
    #[arg(value_name = "DUMP", default_value = DEFAULT)]
    pub dumps: Vec<PathBuf>,
    /// Describe only dump N of a directory
    #[arg(short = 'n', long, value_name = "N")]
    pub number: Option<u64>,
    /// Print a JSON object for each dump (docs/json.md)
    #[arg(long)]
    pub json: bool,
}

/// Runs the verb.
pub(crate) fn run(args: &Args, session: &mut Session<'_>) -> Result<(), Failure> {
    let mut all = Vec::new();
    for path in &args.dumps {
        // The directory of an emulated machine is a memory image.
        if !path.is_dir() || path.join("machine.json").exists() {
            if args.number.is_some() {
                return Err(NumberArg::needs_directory(path));
            }
            all.push(Entry::Dump(path.clone()));
            continue;
        }
        if args.number.is_some() {
            all.push(Entry::Dump(crash_directory::one(path, args.number)?));
            continue;
        }
        let dumps = crash_directory::dumps(path, Search::default(), session)
            .map_err(|e| Failure::from(e).about(path))?;
        if dumps.is_empty() {
            let line = format_args!(
                "{}: no dumps found (files named vmcore.N or livecore.N)",
                path.display()
            );
            session.voice.say(Id::NoDumps, line);
        }
        all.extend(dumps);
    }
    if let [Entry::Dump(path)] = &all[..] {
        return one(path, args.json, "", session);
    }
    for (i, named) in all.iter().enumerate() {
        let before = if i > 0 && !args.json { "\n" } else { "" };
        let result = match named {
            Entry::Dump(path) => one(path, args.json, before, session),
            Entry::Unreadable(path, why) => Err(Failure::of(Exit::COULD_NOT, why).about(path)),
        };
        match result {
            Err(failure) if session.ends_with(&failure) => return Err(failure),
            Err(failure) => session.fail(&failure),
            Ok(()) => {}
        }
    }
    Ok(())
}

/// Prints `before` and the facts of one dump.
fn one(path: &Path, json: bool, before: &str, session: &mut Session<'_>) -> Result<(), Failure> {
    if let Some(dump) = input::text_dump(path, session)? {
        let facts = TextFacts::of(&dump, path, session)?;
        session.out.write_all(before.as_bytes())?;
        match json {
            true => crate::json::print(&facts, &mut session.out)?,
            false => facts.print(false, &mut session.out)?,
        }
        return text_dump::check(&dump, path);
    }
    let dump = match input::dump(path, WITH_LOSS, session) {
        Ok(dump) => dump,
        Err(no_dump) => return image(path, json, before, no_dump, session),
    };
    if let Some(damage) = dump.envelope().stream().known_damage() {
        return Err(Failure::from(damage.again()).about(path));
    }
    // A program gets all warnings in the document, people the answer first.
    let checked = if json {
        session.check()?
    } else {
        Checked::default()
    };
    if checked.failed {
        return Ok(());
    }
    let of_dump = dump.envelope().warnings().iter();
    let of_dump = of_dump.map(|warning| (Id::of_warning(warning), warning.to_string()));
    let warnings = of_dump.chain(checked.warnings);
    let warnings = warnings.map(|(id, text)| (id.name(), text)).collect();
    session.out.write_all(before.as_bytes())?;
    let facts = Facts::of(&dump, path, warnings);
    match &facts {
        facts if json => crate::json::print(facts, &mut session.out)?,
        Facts::Mini(facts) => text::print(facts, &mut session.out)?,
        Facts::Full(facts) => full::print(facts, &mut session.out)?,
    }
    for warning in dump.envelope().warnings() {
        session.warn_of(path, warning);
    }
    drop(dump);
    session.check().map(drop)
}

/// Prints the facts of a memory image. Fails with `no_dump` if the file is not an image.
fn image(
    path: &Path,
    json: bool,
    before: &str,
    no_dump: Failure,
    session: &mut Session<'_>,
) -> Result<(), Failure> {
    let may_be = path.is_dir() || no_dump.exit() == Exit::UNSUPPORTED;
    let Some(facts) = may_be.then(|| image::of(path, session)).flatten() else {
        return Err(no_dump);
    };
    let facts = facts?;
    session.out.write_all(before.as_bytes())?;
    if json {
        crate::json::print(&facts, &mut session.out)?;
    } else {
        facts.print(&mut session.out)?;
    }
    Ok(())
}
