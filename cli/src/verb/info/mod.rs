//! `livecore info DUMP`: what `qemu-img info` is to disks.
//!
//! An image of memory is told, too: its format, its ranges, its processors.
//!
//! Everything comes from the head and the tail of the file, so that the answer for a sealed dump
//! of any size is instant. A foreign compressed stream does not say how long its payload is; then
//! neither does the answer.

mod facts;
mod full;
mod image;
mod text;

use std::io::Write;
use std::path::{Path, PathBuf};

use livecore_minidump::AnyDump;

use crate::crash_directory::{self, Named, Search};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::input::{self, Opening};
use crate::session::Session;

pub use facts::Facts;

const MANUAL: &str = "\
Examples:
  livecore info livecore.0.zst
  livecore info --json vmcore.3 | jq .pages
  livecore info guest.elf                               an image of memory, for take --image
  livecore info /var/crash                              every dump in the directory

Only the head and the tail are looked at. A stream of one gzip member or one zstd frame has its \
checksum behind everything: `livecore verify` checks it.

Exits with 3 if there is something to warn of: a short file, a parity that is wrong, a seal that is \
damaged.";

/// The head and the tail, of which a foreign stream's checksum says nothing.
const GLANCE: Opening = Opening {
    threads: None,
    zero_tail: false,
    glance: true,
};

/// What is asked for.
#[derive(Debug, clap::Args)]
#[command(after_help = MANUAL)]
pub struct Args {
    /// Dumps, or images of memory that are not raw; a directory of dumps stands for them; `-` for
    /// standard input
    #[arg(value_name = "DUMP", required = true)]
    pub dumps: Vec<PathBuf>,
    /// One JSON object for each (docs/json.md)
    #[arg(long)]
    pub json: bool,
}

/// Prints what the dumps are.
pub fn run(args: &Args, session: &mut Session<'_>) -> Result<(), Failure> {
    let mut all = Vec::new();
    for path in &args.dumps {
        // The directory of an emulated machine is an image.
        if !path.is_dir() || path.join("machine.json").exists() {
            all.push(Named::Dump(path.clone()));
            continue;
        }
        let dumps = crash_directory::dumps(path, Search::default(), session)
            .map_err(|e| Failure::from(e).about(path))?;
        if dumps.is_empty() {
            let line = format_args!("{}: no dumps found", path.display());
            session.voice.say(line);
        }
        all.extend(dumps);
    }
    if let [Named::Dump(path)] = &all[..] {
        return one(path, args.json, "", session);
    }
    for (i, named) in all.iter().enumerate() {
        let before = if i > 0 && !args.json { "\n" } else { "" };
        let told = match named {
            Named::Dump(path) => one(path, args.json, before, session),
            Named::Refused(path, why) => Err(Failure::could_not(why).about(path)),
        };
        match told {
            Err(failure) if session.ends_with(&failure) => return Err(failure),
            Err(failure) => session.fail(&failure),
            Ok(()) => {}
        }
    }
    Ok(())
}

/// Prints `before` and what one dump is.
fn one(path: &Path, json: bool, before: &str, session: &mut Session<'_>) -> Result<(), Failure> {
    let dump = match input::dump(path, GLANCE, session) {
        Ok(dump) => dump,
        Err(no_dump) => return image(path, json, before, no_dump, session),
    };
    if let Some(damage) = dump.envelope().stream().known_damage() {
        return Err(Failure::from(damage.again()).about(path));
    }
    session.out.write_all(before.as_bytes())?;
    match &dump {
        AnyDump::Mini(dump) => {
            let facts = Facts::of(dump, path);
            if json {
                crate::json::print(&facts, &mut session.out)?;
            } else {
                text::print(&facts, &mut session.out)?;
            }
        }
        AnyDump::Full(dump) => {
            let facts = full::FullFacts::of(dump, path);
            if json {
                crate::json::print(&facts, &mut session.out)?;
            } else {
                full::print(&facts, &mut session.out)?;
            }
        }
    }
    for warning in dump.envelope().warnings() {
        session.warn(path, warning);
    }
    Ok(())
}

/// Prints what the image is, if what is no dump is one.
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
