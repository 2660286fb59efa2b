//! `livecore synth MACHINE.toml --out DIR`: creates an emulated machine as files.

use std::path::PathBuf;

use crate::emulated;
use crate::failure::Failure;
use crate::id::Id;
use crate::session::Session;
use crate::text::Bytes;

const MANUAL: &str = "\
Example:
  livecore synth testdata/machines/tiny.toml --out machine
  livecore take --image machine/ram --kernel machine/kernel -o ./";

/// Arguments of `livecore synth`.
#[derive(Debug, clap::Args)]
#[command(after_help = MANUAL)]
pub struct Args {
    /// Machine description; `-` for standard input
    ///
    /// docs/machines.md describes the format.
    #[arg(value_name = "MACHINE.toml")]
    pub machine: PathBuf,
    /// Directory to create, with ram, kernel and machine.json
    #[arg(short, long, value_name = "DIR")]
    pub out: PathBuf,
    /// Replace an existing machine
    #[arg(short, long)]
    pub force: bool,
}

/// Runs the verb.
pub(crate) fn run(args: &Args, session: &mut Session<'_>) -> Result<(), Failure> {
    if args.out.exists() && !args.out.is_dir() {
        let failure = Failure::could_not("not a directory: synth creates several files")
            .id_is(Id::Exists)
            .about(&args.out);
        return Err(failure.next("give --out a directory"));
    }
    if !args.force
        && let Some(there) = ["ram", "kernel", "machine.json"]
            .map(|name| args.out.join(name))
            .iter()
            .find(|path| path.symlink_metadata().is_ok())
    {
        let failure = Failure::could_not("already exists")
            .id_is(Id::Exists)
            .about(there);
        return Err(failure.next("use --force to replace it"));
    }
    let machine = emulated::machine(&args.machine, session)?;
    // The error names its file.
    livecore_synth::write_out(&machine, &args.out)?;
    let truth = machine.truth();
    for note in &truth.notes {
        session.voice.say(Id::NoDebugInformation, note);
    }
    let ram = machine.memory().ranges().last().map_or(0, |r| r.end.0);
    let line = format_args!(
        "{}: {} {} machine, memory up to {}, {} pages in a dump",
        args.out.display(),
        truth.architecture.name(),
        truth.osrelease,
        Bytes(ram),
        truth.dumped_pages(),
    );
    session.voice.say(Id::Written, line);
    Ok(())
}
