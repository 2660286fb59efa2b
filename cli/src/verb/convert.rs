//! `livecore convert IN OUT`: converts a dump to another container, codec or kind.

use std::path::PathBuf;

use clap::ValueEnum;
use livecore_livedump::conversion::{Conversion, ConversionNote, Kind};
use livecore_livedump::publish::{self, Destination};
use livecore_livedump::reduction::{Class, Place};
use livecore_minidump::elf::notes::NoteStyle;
use livecore_minidump::encryption::Sealer;
use livecore_minidump::{AnyDump, Container, Warning};

use crate::args::{CodecArgs, ContainerArg, EncryptArgs};
use crate::dump_args::NumberArg;
use crate::failure::Failure;
use crate::id::Id;
use crate::input::{self, KernelArgs, Opening};
use crate::keys;
use crate::output;
use crate::session::Session;

const MANUAL: &str = "\
Examples:
  livecore convert vmcore.3 vmcore.3.zst       sealed: `zstd -d` unpacks it, livecore reads it at any offset
  livecore convert livecore.0.zst vmcore --container saved
  livecore convert --container raw dump.gz dump.raw
  livecore convert --to elf --kernel kernel livecore.0.zst core      then: lldb kernel -c core
  livecore convert --to elf --notes linux --kernel kernel livecore.0.zst core
        then: gdb -ex 'set osabi GNU/Linux' -ex 'file kernel' -ex 'core core'
  livecore convert --to minidump core vmcore.0
  livecore convert -Z --encrypt public.pem vmcore.3 vmcore.3.encrypted
  livecore convert --redact ostype --kernel kernel vmcore.3 vmcore.4.zst

Without --to, the payload stays the same, byte for byte. If IN has no header, livecore makes one from \
the info file or from the payload, and the seal records this.

--to changes the kind of dump:

elf: an ELF core by kernel virtual addresses, for debuggers. Threads with their registers and names need \
a kernel. A register that was not saved is 0, because a core cannot mark it as unknown. Debuggers show 19 \
characters of a thread name; with --notes linux they show no names. The core contains the complete \
minidump: all verbs read it, and --to minidump restores it byte for byte.

full: an ELF core by physical addresses, laid out like a kernel's full dump, with the pages of IN. It \
contains the complete minidump, too. Other programs can read it only by physical address, because a \
minidump does not contain the page tables as pages.

minidump: the minidump that an ELF core or a full dump from `convert` contains, byte for byte. From a full \
dump written by a kernel, livecore makes the minidump that the kernel would have written; this needs the \
kernel file, whose symbols locate the page tables.

--exclude and --redact leave memory out of a minidump (docs/receipt.md). Reading an excluded page is an error \
that names its class. `verify` and `info` report what is missing. Redacted memory contains the repeated text \
REDACTED. Copies of this memory at other addresses and in the header stay in the dump.";

/// A kind of dump.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Form {
    /// The kernel's pages and page tables
    Minidump,
    /// An ELF core by physical addresses
    Full,
    /// An ELF core by kernel virtual addresses, for debuggers
    Elf,
}

impl Form {
    fn kind(self) -> Kind {
        match self {
            Self::Minidump => Kind::Minidump,
            Self::Full => Kind::Full,
            Self::Elf => Kind::Elf,
        }
    }
}

/// The operating system whose note formats an ELF core uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum NotesArg {
    /// For lldb, kgdb, and a gdb with FreeBSD support
    Freebsd,
    /// For other gdb versions, after `set osabi GNU/Linux`
    Linux,
}

/// Arguments of `livecore convert`.
#[derive(Debug, clap::Args)]
#[command(after_help = MANUAL, group = clap::ArgGroup::new("uses-kernel").multiple(true))]
pub struct Args {
    /// Dump, or directory with dumps; `-` for standard input
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
    /// Convert to this kind of dump [default: the same kind]
    #[arg(long, value_enum, value_name = "KIND", group = "uses-kernel")]
    pub to: Option<Form>,
    /// Leave out the pages of a class: free; may be repeated
    ///
    /// The seal lists the pages. Needs a minidump and a kernel file with type information.
    #[arg(
        long,
        value_name = "CLASS",
        group = "uses-kernel",
        conflicts_with = "to"
    )]
    pub exclude: Vec<Class>,
    /// Overwrite kernel memory; may be repeated
    ///
    /// A symbol of the kernel, or START-END: kernel addresses, hexadecimal after 0x, END exclusive. The seal
    /// lists the memory. Needs a minidump and its kernel file.
    #[arg(
        long,
        value_name = "SYMBOL|RANGE",
        group = "uses-kernel",
        conflicts_with = "to"
    )]
    pub redact: Vec<Place>,
    /// The codec.
    #[command(flatten)]
    pub codec: CodecArgs,
    /// Container format of the file
    ///
    /// [default: sealed; saved for an uncompressed ELF core]
    #[arg(short = 'O', long, value_enum, value_name = "CONTAINER")]
    pub container: Option<ContainerArg>,
    /// Kernel ELF file [default: near IN or in /boot]
    ///
    /// For --to, --exclude and --redact.
    #[arg(short = 'k', long, value_name = "ELF", requires = "uses-kernel")]
    pub kernel: Option<PathBuf>,
    /// Kernel file, or directory to search; may be repeated
    #[arg(
        long,
        value_name = "PATH",
        requires = "uses-kernel",
        conflicts_with = "kernel"
    )]
    pub kernel_path: Vec<PathBuf>,
    /// Note format of an ELF core [default: freebsd]
    #[arg(long, value_enum, value_name = "SYSTEM", requires = "to")]
    pub notes: Option<NotesArg>,
    /// The encryption.
    #[command(flatten)]
    pub encryption: EncryptArgs,
    /// Fill pages lost at the end of a short file with zeros
    #[arg(long)]
    pub zero_tail: bool,
    /// Replace OUT if it exists
    ///
    /// A symbolic link is replaced; its target is not changed.
    #[arg(short, long)]
    pub force: bool,
    /// Print a JSON report of what was written (docs/json.md)
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
    output::check_suffix(&args.output, &args.codec, session)?;
    if args.notes.is_some() && args.to != Some(Form::Elf) {
        return Err(Failure::usage("--notes needs --to elf").id_is(Id::MissingArgument));
    }
    output::check_stdout(&destination, args.json, session)?;
    let codec = args.codec.named();
    let codec = codec.unwrap_or_else(|| livecore_compress::Codec::of_path(&args.output));
    let usual = match Kind::container(args.to.map(Form::kind), codec) {
        Container::Saved => ContainerArg::Saved,
        _ => ContainerArg::Sealed,
    };
    let container = args.container.unwrap_or(usual);
    let target = output::target(&args.codec, container, codec, session)?;
    let encryption = keys::encryption(&args.encryption, &target)?;
    let opening = Opening {
        threads: args.codec.threads,
        zero_tail: args.zero_tail,
        ..Opening::default()
    };
    let source = input::dump(&args.input, opening, session)?;
    for warning in source.envelope().warnings() {
        session.warn_of(&args.input, warning);
    }
    let work = plan(args, &source, session)?;
    if target.container != Container::Sealed {
        input::warn_of_lost_receipt(&source, &args.input, session);
    }
    let len = work.payload_len();
    let options = publish::Options::of_dump(target.encoding.codec, len).force(args.force);
    let bar = session.bar("convert", args.json, len);
    let mut write = |out: &mut dyn livecore_compress::Output,
                     progress: &dyn livecore_compress::Progress| {
        match &encryption {
            None => work.write(&target, out, progress),
            Some((key, cipher)) => {
                let inner = Sealer::inner_target(*cipher, &target)?;
                Sealer::new(key, *cipher)?.write(out, |out| work.write(&inner, out, progress))
            }
        }
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
            failure.next("use --zero-tail to fill the missing part with zeros")
        } else {
            failure
        }
    })?;
    input::warn_of_loss(&source, &args.input, session)?;
    report.print(args.json, session)
}

/// Plans what `args` request. Prints notes and warnings.
fn plan(args: &Args, source: &AnyDump, session: &mut Session<'_>) -> Result<Conversion, Failure> {
    let kind = args.to.map(Form::kind);
    let style = match args.notes {
        Some(NotesArg::Linux) => NoteStyle::Linux,
        _ => NoteStyle::FreeBsd,
    };
    let kernel = KernelArgs {
        kernel: args.kernel.clone(),
        kernel_path: args.kernel_path.clone(),
        ..KernelArgs::default()
    };
    if !args.exclude.is_empty() || !args.redact.is_empty() {
        let pair = kernel.require(source, &args.input, session)?;
        let planned = Conversion::reduced(source, &pair, &args.exclude, &args.redact);
        return planned.map_err(|error| Failure::from(error).about(&args.input));
    }
    let pair = match Conversion::uses_kernel(source, kind) {
        true => kernel.open(source, &args.input, session)?,
        false => None,
    };
    let mut notes = Vec::new();
    let planned = Conversion::plan(source, kind, style, pair.as_ref(), &mut notes);
    for note in &notes {
        match note {
            ConversionNote::CoreOnly(_) => session.voice.say(Id::CoreOnly, note),
            ConversionNote::Take(of_take) => session.voice.say(Id::of_note(of_take), note),
            ConversionNote::PagesMissing(_) => session.warn(&args.input, Id::PagesNotInImage, note),
            ConversionNote::Threads(_) => session.warn(&args.input, Id::KernelData, note),
            _ => session.voice.say(Id::CoreIncomplete, note),
        }
    }
    planned.map_err(|error| Failure::from(error).about(&args.input))
}
