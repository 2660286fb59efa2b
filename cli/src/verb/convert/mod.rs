//! `livecore convert IN OUT`: any dump into any container and codec, with the payload byte for
//! byte; or into another kind of dump.

mod form;

use std::path::PathBuf;

use clap::ValueEnum;
use livecore_livedump::publish::{self, Destination};
use livecore_minidump::{Container, Warning};

use crate::args::{CodecArgs, ContainerArg};
use crate::failure::Failure;
use crate::input::{self, Opening};
use crate::output;
use crate::session::Session;

use form::Work;

const MANUAL: &str = "\
Examples:
  livecore convert vmcore.3 vmcore.3.zst       sealed: any zstd unpacks it, and it can be read anywhere
  livecore convert livecore.0.zst vmcore --container saved
  livecore convert --container raw dump.gz dump.raw
  livecore convert --to elf --kernel kernel livecore.0.zst core      then: lldb kernel -c core
  livecore convert --to elf --notes linux --kernel kernel livecore.0.zst core
        then: gdb -ex 'set osabi GNU/Linux' -ex 'file kernel' -ex 'core core'
  livecore convert --to minidump core vmcore.0

The payload stays the same, byte for byte. A header that IN lacks is rebuilt, from the info file \
beside it or from the payload, and the seal says so.

With --to it becomes another kind of dump:

elf: a core file by kernel addresses, for a debugger alone. Threads, their registers and names need \
--kernel; a register that was not saved is 0 there, since a core cannot say that it is unknown, and \
debuggers show 19 letters of a name, with notes for Linux none. The core carries the whole minidump: \
every verb reads it, and --to minidump gives it back byte for byte.

full: an ELF core by physical addresses, laid out as a kernel's full dump, of the pages in the dump. \
It carries the whole minidump, too, as a core does: every verb reads it. Other readers find physical \
memory only, since the tables that lead to virtual addresses are not among the pages of a minidump.

minidump: the one that a core or a full dump carries, byte for byte. Of a full dump that a kernel \
has written it is what that kernel would have dumped: the page tables are found by its symbols, so \
the kernel has to be there, and pages, bitmap and tables are those that its own walk gives.";

/// A kind of dump.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Form {
    /// The pages that the kernel uses, with its page tables
    Minidump,
    /// An ELF core by physical addresses
    Full,
    /// An ELF core by kernel addresses, for debuggers
    Elf,
}

/// Whose notes an ELF core has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum NotesArg {
    /// For lldb, kgdb, and a gdb that knows FreeBSD
    Freebsd,
    /// For a gdb that does not, such as Debian's: `set osabi GNU/Linux` before `file`
    Linux,
}

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
    /// What kind of dump it becomes [default: the kind it is]
    #[arg(long, value_enum, value_name = "KIND")]
    pub to: Option<Form>,
    /// How to compress.
    #[command(flatten)]
    pub codec: CodecArgs,
    /// How payload and header are laid in the file [default: sealed; saved for an ELF core that is
    /// not compressed]
    #[arg(short = 'O', long, value_enum, value_name = "CONTAINER")]
    pub container: Option<ContainerArg>,
    /// The kernel that ran: its ELF file, for --to [default: looked for as other verbs do]
    #[arg(short = 'k', long, value_name = "ELF", requires = "to")]
    pub kernel: Option<PathBuf>,
    /// A kernel's file, or a directory to look for it in; may be repeated
    #[arg(long, value_name = "PATH", requires = "to", conflicts_with = "kernel")]
    pub kernel_path: Vec<PathBuf>,
    /// Whose notes an ELF core has [default: freebsd]
    #[arg(long, value_enum, value_name = "SYSTEM", requires = "to")]
    pub notes: Option<NotesArg>,
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
    output::check_suffix(&args.output, &args.codec, session)?;
    if args.notes.is_some() && args.to != Some(Form::Elf) {
        return Err(Failure::usage("--notes is for --to elf"));
    }
    output::check_stdout(&destination, args.json, session)?;
    let codec = output::codec_of_name(&args.output);
    let plain = args.codec.named().unwrap_or(codec) == livecore_compress::Codec::None;
    let container = args.container.unwrap_or(match args.to {
        // Whoever is given it should find nothing behind it.
        Some(Form::Elf) if plain => ContainerArg::Saved,
        _ => ContainerArg::Sealed,
    });
    let target = output::target(&args.codec, container, codec)?;
    let opening = Opening {
        threads: args.codec.threads,
        zero_tail: args.zero_tail,
        ..Opening::default()
    };
    let source = input::dump(&args.input, opening, session)?;
    for warning in source.envelope().warnings() {
        session.warn(&args.input, warning);
    }
    let work = Work::plan(args, &source, session)?;
    let len = work.len();
    let options = publish::Options {
        force: args.force,
        ..publish::Options::of_dump(target.encoding.codec, len)
    };
    let bar = session.bar("convert", args.json, len);
    let mut write = |out: &mut dyn std::io::Write, progress: &dyn livecore_compress::Progress| {
        work.write(&target, out, progress)
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
        let short = source
            .envelope()
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
    input::warn_of_loss(&source, &args.input, session)?;
    report.tell(args.json, session)
}
