//! `livecore export DUMP OUT`: a dump as kgdb(1), crashinfo(8) and libkvm want it, kept.

use std::num::NonZeroUsize;
use std::path::PathBuf;

use livecore_livedump::publish::Destination;

use crate::failure::Failure;
use crate::input::{self, Opening};
use crate::session::Session;
use crate::unpack;

const MANUAL: &str = "\
Examples:
  livecore export livecore.0.zst vmcore.0
  livecore export vmcore.3.zst /var/crash/      writes /var/crash/vmcore.3 and info.3

The uncompressed payload alone, as savecore(8) leaves it; blocks of zeros are holes of the file. Into \
a directory it goes under the dump's own number, with an info.N: the one beside the dump, or one made \
of its header; without a header its status and time are `unknown`. bounds, vmcore.last and info.last \
are set as savecore(8) sets them, so that crashinfo(8) finds the dump. Nothing that is there already is \
replaced without --force, another dump's info.N included.

`livecore kgdb` does the same for as long as a debugger runs. For debuggers other than kgdb see \
`livecore convert --to elf`.";

/// What is asked for.
#[derive(Debug, clap::Args)]
#[command(after_help = MANUAL)]
pub struct Args {
    /// The dump; `-` for standard input
    pub dump: PathBuf,
    /// A file, or a directory for vmcore.N and info.N
    #[arg(value_name = "OUT")]
    pub output: PathBuf,
    /// Replace files that exist; the dump's own info.N is left as it is
    #[arg(short, long)]
    pub force: bool,
    /// Number of threads [default: one per processor]
    #[arg(short = 'j', visible_short_alias = 'T', long, value_name = "N")]
    pub threads: Option<NonZeroUsize>,
    /// Say what was written as one JSON object (docs/json.md)
    #[arg(long)]
    pub json: bool,
}

/// Unpacks.
pub fn run(args: &Args, session: &mut Session<'_>) -> Result<(), Failure> {
    let opening = Opening {
        threads: args.threads,
        ..Opening::default()
    };
    let (vmcore, info) = match Destination::parse(&args.output) {
        Destination::Stdout => {
            let failure = Failure::usage("an unpacked dump is a file with holes");
            return Err(failure.next("livecore convert --container saved --none writes to -"));
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
        session.warn(&args.dump, warning);
    }
    let options = (args.threads, args.force);
    let own = livecore_minidump::dump::info_file(&args.dump);
    if let Some((info, _)) = &info
        && !args.force
        && info.symlink_metadata().is_ok()
        && !unpack::is_same(own.as_deref(), info)
    {
        let failure = Failure::could_not("exists already and is not this dump's").about(info);
        return Err(failure.next("--force replaces it"));
    }
    let report = unpack::write(&dump, &args.dump, &vmcore, options, session)?;
    input::warn_of_loss(&dump, &args.dump, session)?;
    if let Some((info, number)) = info {
        // The dump may lie in this directory, with its info file beside it.
        if !unpack::is_same(own.as_deref(), &info) {
            if args.force {
                unpack::remove(&info)?;
            }
            unpack::write_info(&dump, &args.dump, &info, number)?;
            let of = match unpack::is_made_up(&dump) {
                true => "the dump has no header: status, time, host and panic are not known",
                false => "of the dump's header",
            };
            let name = info.display();
            session.voice.say(format_args!("{name}: written, {of}"));
        }
        unpack::announce(&args.output, number, session)?;
    }
    report.tell(args.json, session)
}
