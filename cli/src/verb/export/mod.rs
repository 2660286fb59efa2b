//! `livecore export DUMP OUT`: unpacks a dump for kgdb(1), crashinfo(8) and libkvm.

mod encrypted;
mod text;

use std::num::NonZeroUsize;
use std::path::PathBuf;

use livecore_livedump::publish::Destination;

use crate::dump_args::NumberArg;
use crate::failure::Failure;
use crate::id::Id;
use crate::input::{self, Opening};
use crate::session::Session;
use crate::unpack;

const MANUAL: &str = "\
Examples:
  livecore export livecore.0.zst vmcore.0
  livecore export vmcore.3.zst /var/crash/      writes /var/crash/vmcore.3 and info.3

Writes the uncompressed payload as a sparse file, as savecore(8) does. If OUT \
is a directory, the files are vmcore.N and info.N, where N is the number in the dump's name. info.N is a \
copy of the dump's info file, or is made from the dump's header; without a header, status and time are \
`unknown`. In a directory, export also updates bounds, vmcore.last and info.last as savecore(8) does, so \
that crashinfo(8) finds the dump. Use --force to replace existing files.

A text dump becomes an ordinary tar archive: OUT, or textdump.tar.N in a directory.

`livecore kgdb` writes a temporary copy and runs kgdb(1) on it. For debuggers other than kgdb, see \
`livecore convert --to elf`.";

/// Arguments of `livecore export`.
#[derive(Debug, clap::Args)]
#[command(after_help = MANUAL)]
pub struct Args {
    /// Dump, or directory with dumps; `-` for standard input
    pub dump: PathBuf,
    /// The number of the dump.
    #[command(flatten)]
    pub number: NumberArg,
    /// Output file, or directory for vmcore.N and info.N
    #[arg(value_name = "OUT")]
    pub output: PathBuf,
    /// Do not decrypt: write vmcore_encrypted.N, key.N and info.N
    ///
    /// Writes the files that savecore(8) saves for an encrypted dump; decryptcore(8) reads them. OUT is
    /// a directory. No private key is needed.
    #[arg(long)]
    pub encrypted: bool,
    /// Replace existing files, except the dump's own info.N
    #[arg(short, long)]
    pub force: bool,
    /// Number of threads [default: one per processor]
    #[arg(short = 'j', visible_short_alias = 'T', long, value_name = "N")]
    pub threads: Option<NonZeroUsize>,
    /// Print a JSON report of what was written (docs/json.md)
    #[arg(long)]
    pub json: bool,
}

/// Runs the verb.
pub(crate) fn run(args: &Args, session: &mut Session<'_>) -> Result<(), Failure> {
    if args.encrypted {
        return encrypted::run(args, session);
    }
    if let Some(dump) = input::text_dump(&args.dump, session)? {
        return text::run(&dump, args, session);
    }
    let opening = Opening {
        threads: args.threads,
        ..Opening::default()
    };
    let (vmcore, info) = match Destination::parse(&args.output) {
        Destination::Stdout => {
            let failure = Failure::usage("cannot export to standard output: OUT must be a file")
                .id_is(Id::InvalidValue);
            return Err(failure.next("use `livecore convert --container saved --none`"));
        }
        Destination::File(path) => (path, None),
        Destination::Directory(dir) => {
            let number = unpack::number_of(&args.dump);
            let info = dir.join(format!("info.{number}"));
            (dir.join(format!("vmcore.{number}")), Some((info, number)))
        }
    };
    let dump = input::dump(&args.dump, opening, session)?;
    for warning in dump.envelope().warnings() {
        session.warn_of(&args.dump, warning);
    }
    input::warn_of_lost_receipt(&dump, &args.dump, session);
    let options = (args.threads, args.force);
    let own = livecore_minidump::info::path_of(&args.dump);
    if let Some((info, _)) = &info
        && !args.force
        && info.symlink_metadata().is_ok()
        && !unpack::is_same(own.as_deref(), info)
    {
        let failure = Failure::could_not("already exists and belongs to another dump")
            .id_is(Id::Exists)
            .about(info);
        return Err(failure.next("use --force to replace it"));
    }
    let report = unpack::write(&dump, &args.dump, &vmcore, options, session)?;
    input::warn_of_loss(&dump, &args.dump, session)?;
    if let Some((info, number)) = info {
        // The dump's own info file may already be in this directory.
        if !unpack::is_same(own.as_deref(), &info) {
            if args.force {
                unpack::remove(&info)?;
            }
            unpack::write_info(&dump, &args.dump, &info, number)?;
            let source = match unpack::is_made_up(&dump) {
                true => "without status, time, host and panic string, since the dump has no header",
                false => "from the dump's header",
            };
            let name = info.display();
            let line = format_args!("{name}: written {source}");
            session.voice.say(Id::Written, line);
        }
        unpack::announce(&args.output, number, &["vmcore", "info"], session)?;
    }
    report.print(args.json, session)
}
