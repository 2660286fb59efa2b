//! `livecore convert IN OUT`: any dump into any container and codec. The payload stays the same,
//! byte for byte.

use std::path::PathBuf;

use livedump::place::{self, Destination};
use minidump::{Container, Error, Warning};

use crate::args::{CodecArgs, ContainerArg};
use crate::failure::Failure;
use crate::input::{self, Opening};
use crate::output;
use crate::progress::Bar;
use crate::session::Session;

const MANUAL: &str = "\
Examples:
  livecore convert vmcore.3 vmcore.3.zst       sealed: any zstd unpacks it, and it can be read anywhere
  livecore convert livecore.0.zst vmcore --container saved
  livecore convert --container raw dump.gz dump.raw

The payload stays the same, byte for byte. A header that IN lacks is rebuilt, from the info file \
beside it or from the payload, and the seal says so.";

/// What is asked for.
#[derive(Debug, clap::Args)]
#[command(after_help = MANUAL)]
pub struct Args {
    /// The dump; `-` for standard input
    #[arg(value_name = "IN")]
    pub input: PathBuf,
    /// Where it goes; `-` for standard output. The suffix .gz or .zst chooses the codec if no
    /// option does
    #[arg(value_name = "OUT")]
    pub output: PathBuf,
    /// How to compress.
    #[command(flatten)]
    pub codec: CodecArgs,
    /// How payload and header are laid in the file
    #[arg(long, value_enum, value_name = "CONTAINER", default_value = "sealed")]
    pub container: ContainerArg,
    /// Zeros for pages that a short file has lost; said on standard error and in the seal
    #[arg(long)]
    pub zero_tail: bool,
    /// Replace OUT if it exists
    #[arg(short, long)]
    pub force: bool,
    /// Say what was written as one JSON object (docs/json.md)
    #[arg(long)]
    pub json: bool,
}

/// Converts.
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
    let opening = Opening {
        threads: args.codec.threads,
        zero_tail: args.zero_tail,
    };
    let dump = input::dump(&args.input, opening, session)?;
    for warning in dump.warnings() {
        session.warn(&args.input, warning);
    }
    let uncompressed = target.encoding.codec == compress::Codec::None;
    let options = place::Options {
        codec: target.encoding.codec,
        force: args.force,
        sparse: uncompressed,
        needed: dump.known_len().filter(|_| uncompressed).unwrap_or(0),
        ..place::Options::default()
    };
    // Afterwards it is known: everything has been decoded.
    let unknown_len = dump.known_len().is_none();
    let bar = Bar::new(session, "convert", args.json, dump.known_len());
    let mut write = |out: &mut dyn std::io::Write, progress: &dyn compress::Progress| {
        minidump::convert::convert(&dump, &target, out, progress)
    };
    let written = output::write(
        &destination,
        &options,
        &target,
        "",
        &bar,
        session,
        &mut write,
    );
    drop(bar);
    let report = written.map_err(|failure| {
        let raw = target.container == Container::Raw && !args.zero_tail;
        let short = dump
            .warnings()
            .iter()
            .any(|w| matches!(w, Warning::Short(_)));
        let failure = failure.about(&args.input);
        if raw && short {
            failure.next("--zero-tail fills it, and says so")
        } else {
            failure
        }
    })?;
    // What only a whole decoding tells: a foreign stream's length.
    if unknown_len && let Some(short) = dump.shortness().map_err(|e: Error| Failure::from(e))? {
        session.warn(
            &args.input,
            if args.zero_tail {
                Warning::ZeroTail(short)
            } else {
                Warning::Short(short)
            },
        );
    }
    report.tell(args.json, session)
}
