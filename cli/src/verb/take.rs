//! `livecore take`: a minidump of a machine, as its own kernel would have written it.

use std::num::NonZeroU32;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use compress::Codec;
use livedump::PhysMemory;
use livedump::image;
use livedump::place::{self, Destination};
use livedump::take::{self, PlanOptions, TakeError};
use minidump::KernelElf;
use minidump::convert::finish;

use crate::args::{CodecArgs, ContainerArg};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::progress::Bar;
use crate::session::Session;
use crate::{input, output};

/// The device that a live dump's `info.N` names.
const DEVICE: &str = "/dev/mem";

/// What is asked for.
#[derive(Debug, clap::Args)]
#[command(group = clap::ArgGroup::new("source").required(true).args(["machine", "image"]))]
pub struct Args {
    /// An emulated machine (docs/machines.md), made while it is dumped
    #[arg(long, value_name = "MACHINE.toml", conflicts_with = "kernel")]
    pub machine: Option<PathBuf>,
    /// A machine's memory: raw RAM from address 0, or the ranges of machine.json beside it
    #[arg(long, value_name = "RAM", requires = "kernel")]
    pub image: Option<PathBuf>,
    /// The kernel that runs in the image: its ELF file
    #[arg(long, value_name = "ELF")]
    pub kernel: Option<PathBuf>,
    /// How to compress: zstd unless the name of the file says otherwise.
    #[command(flatten)]
    pub codec: CodecArgs,
    /// How payload and header are laid in the file
    #[arg(long, value_enum, value_name = "CONTAINER", default_value = "sealed")]
    pub container: ContainerArg,
    /// The minidump's version [default: the one that the kernel writes itself]
    #[arg(long, value_name = "N")]
    pub format_version: Option<u32>,
    /// Numbers below N are used in turn; our own dumps of a number are replaced
    #[arg(short, long, value_name = "N")]
    pub max: Option<NonZeroU32>,
    /// Replace OUT if it is a file that exists
    #[arg(short, long)]
    pub force: bool,
    /// A directory, for livecore.N with info.N and bounds; a file; or `-` for standard output
    #[arg(short, long, value_name = "OUT", default_value = ".")]
    pub out: PathBuf,
    /// Say what was written as one JSON object (docs/json.md)
    #[arg(long)]
    pub json: bool,
}

/// Takes the dump.
pub fn run(args: &Args, session: &mut Session<'_>) -> Result<(), Failure> {
    let destination = Destination::parse(&args.out);
    output::check_stdout(&destination, args.json, session)?;
    let default = match &destination {
        Destination::Directory(_) => Codec::Zstd,
        _ => output::codec_of_name(&args.out),
    };
    let target = output::target(&args.codec, args.container, default)?;
    let (memory, elf, name) = source(args, session)?;
    let options = PlanOptions {
        version: args.format_version,
    };
    let taken = take::plan(memory, &elf, &options).map_err(|e| failure(e, name))?;
    for note in &taken.notes {
        session
            .voice
            .say(format_args!("{}: {note}", name.display()));
    }
    let header = taken.header();
    let payload = taken.into_payload();
    let len = payload.plan().layout().end();
    let uncompressed = target.encoding.codec == Codec::None;
    let options = place::Options {
        codec: target.encoding.codec,
        force: args.force,
        max: args.max,
        sparse: uncompressed,
        needed: if uncompressed { len } else { 0 },
    };
    let bar = Bar::new(session, "take", args.json, Some(len));
    let mut write = |out: &mut dyn std::io::Write, progress: &dyn compress::Progress| {
        finish(&payload, header.clone(), &target, out, progress)
    };
    let written = output::write(
        &destination,
        &options,
        &target,
        DEVICE,
        &bar,
        session,
        &mut write,
    );
    drop(bar);
    written.map_err(|f| f.about(name))?.tell(args.json, session)
}

type Source<'a> = (Arc<dyn PhysMemory>, KernelElf, &'a Path);

/// The machine's memory, its kernel, and the name under which people know them.
fn source<'a>(args: &'a Args, session: &mut Session<'_>) -> Result<Source<'a>, Failure> {
    if let Some(path) = &args.machine {
        let machine = super::synth::machine(path, session)?;
        let elf = KernelElf::from_bytes(machine.kernel().to_vec())
            .map_err(|e| Failure::from(e).about(path))?;
        return Ok((machine.memory(), elf, path));
    }
    let (Some(image), Some(kernel)) = (&args.image, &args.kernel) else {
        return Err(Failure::usage("no machine")
            .next("say --machine MACHINE.toml, or --image RAM --kernel ELF"));
    };
    let memory = image::open(image, false).map_err(|e| Failure::from(e).about(image))?;
    Ok((Arc::new(memory.image), input::kernel(kernel)?, image))
}

fn failure(error: TakeError, name: &Path) -> Failure {
    let exit = match &error {
        TakeError::Unsupported { .. } => Exit::UNSUPPORTED,
        TakeError::NoSymbol { .. }
        | TakeError::NoKernel { .. }
        | TakeError::Contradiction { .. }
        | TakeError::Memory { .. } => Exit::BROKEN,
        _ => Exit::COULD_NOT,
    };
    let failure = match error {
        TakeError::Minidump(error) => error.into(),
        TakeError::Place(error) => error.into(),
        error => Failure::new(exit, error),
    };
    failure.about(name)
}
