//! `livecore isf KERNEL`: writes the types and symbols of a kernel for Volatility 3.

use std::io::{self, Write};
use std::path::PathBuf;

use flate2::Compression;
use flate2::write::GzEncoder;
use livecore_compress::Codec;
use livecore_kernel::PairError;
use livecore_kernel::isf::Isf;
use livecore_livedump::publish::{self, Destination};

use crate::exit::Exit;
use crate::failure::Failure;
use crate::id::Id;
use crate::input;
use crate::output;
use crate::session::Session;

const MANUAL: &str = "\
Writes JSON in the Intermediate Symbol Format, version 6.2.0, which Volatility 3 reads: structures, unions, \
enumerations, and symbols with the types of variables.

The types come from the DWARF of KERNEL or of its debug file, which is searched in the directory of KERNEL and \
in /usr/lib/debug, or else from the CTF of KERNEL. CTF has no types of variables. Volatility \
compares the text of `version` with memory, and a debug file does not contain it: name the kernel itself.

The Python package makes the file when Volatility needs it (docs/volatility.md).

Examples:
  livecore isf /boot/kernel/kernel -o kernel.json.gz
  livecore isf kernel.full | jq '.user_types.proc.fields.p_pid'";

/// Arguments of `livecore isf`.
#[derive(Debug, clap::Args)]
#[command(after_help = MANUAL)]
pub struct Args {
    /// Kernel file
    pub kernel: PathBuf,
    /// Output file; `-` for standard output
    ///
    /// The suffix .gz selects gzip.
    #[arg(short, long, value_name = "FILE", default_value = "-")]
    pub output: PathBuf,
    /// Replace FILE if it exists
    ///
    /// A symbolic link is replaced; its target is not changed.
    #[arg(short, long)]
    pub force: bool,
}

/// Runs the verb.
pub(crate) fn run(args: &Args, session: &mut Session<'_>) -> Result<(), Failure> {
    let path = &args.output;
    let destination = Destination::parse(path);
    if let Destination::Directory(_) = destination {
        let failure = Failure::usage("is a directory, expected a file");
        return Err(failure.id_is(Id::OutputIsDirectory).about(path));
    }
    let codec = Codec::of_path(path);
    let other = output::other_codec(path).or((codec == Codec::Zstd).then(|| codec.suffix()));
    if let Some(suffix) = other {
        let what = format_args!("cannot write the format of the suffix {suffix}");
        let failure = Failure::usage(what).id_is(Id::UnknownSuffix).about(path);
        return Err(failure.next("use .json or .json.gz"));
    }
    let elf = input::kernel(&args.kernel, session.env.memory)?;
    // Before the work: the file may exist.
    let pending = match destination.is_stdout() {
        true => None,
        false => {
            let options = publish::Options::default().force(args.force);
            Some(destination.begin(&options)?)
        }
    };
    let isf = Isf::of_file(&elf, &args.kernel);
    let isf = isf.map_err(|error| match error {
        PairError::Format(error) => Failure::from(error).about(&args.kernel),
        error => Failure::of(Exit::COULD_NOT, &error),
    })?;
    if session.env.interrupt.raised().is_some() {
        return Err(livecore_compress::Error::Cancelled.into());
    }
    let Some(mut pending) = pending else {
        isf.write(&mut session.out)?;
        return Ok(());
    };
    let written = write(&isf, codec, &mut pending);
    written.map_err(|e| Failure::from(e).about(path))?;
    pending.publish(&|_| Vec::new())?;
    if !isf.has_version() {
        let line = "the kernel file has no contents of `version`: Volatility cannot identify the \
                    kernel by this file";
        session.warn(&args.kernel, Id::Warning, line);
    }
    Ok(())
}

fn write(isf: &Isf, codec: Codec, out: &mut dyn Write) -> io::Result<()> {
    match codec {
        Codec::Gzip => {
            let mut out = io::BufWriter::new(GzEncoder::new(out, Compression::default()));
            isf.write(&mut out)?;
            let out = out.into_inner().map_err(io::IntoInnerError::into_error)?;
            out.finish().map(drop)
        }
        _ => {
            let mut out = io::BufWriter::new(out);
            isf.write(&mut out)?;
            out.flush()
        }
    }
}
