//! `livecore synth MACHINE.toml --out DIR`: an emulated machine as files.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use crate::exit::Exit;
use crate::failure::Failure;
use crate::session::Session;
use crate::text::Bytes;

/// The longest description that is read.
const TEXT_LIMIT: u64 = 1 << 20;

const MANUAL: &str = "\
Example:
  livecore synth testdata/machines/tiny.toml --out machine
  livecore take --image machine/ram --kernel machine/kernel -o ./";

/// What is asked for.
#[derive(Debug, clap::Args)]
#[command(after_help = MANUAL)]
pub struct Args {
    /// The machine's description (docs/machines.md); `-` for standard input
    #[arg(value_name = "MACHINE.toml")]
    pub machine: PathBuf,
    /// Where to write ram, kernel and machine.json; made if absent
    #[arg(short, long, value_name = "DIR")]
    pub out: PathBuf,
}

/// Makes the machine and writes it.
pub fn run(args: &Args, session: &mut Session<'_>) -> Result<(), Failure> {
    let machine = machine(&args.machine, session)?;
    // The error names its file.
    livecore_synth::write_out(&machine, &args.out).map_err(failure)?;
    let truth = machine.truth();
    for note in &truth.notes {
        session.voice.say(note);
    }
    let ram = machine.memory().ranges().last().map_or(0, |r| r.end);
    session.voice.say(format_args!(
        "{}: {} {} machine, memory up to {}, a dump of {} pages",
        args.out.display(),
        truth.architecture.name(),
        truth.osrelease,
        Bytes(ram),
        truth.dumped_pages(),
    ));
    Ok(())
}

/// Makes the machine that the file `path` describes.
pub fn machine(path: &Path, session: &mut Session<'_>) -> Result<livecore_synth::Machine, Failure> {
    let about = |f: Failure| f.about(path);
    let file = if path == Path::new("-") {
        session.env.seekable_stdin()
    } else {
        File::open(path)
    };
    let file = file.map_err(|e| about(e.into()))?;
    let mut text = String::new();
    file.take(TEXT_LIMIT + 1)
        .read_to_string(&mut text)
        .map_err(|e| match e.kind() {
            std::io::ErrorKind::InvalidData => about(Failure::broken("not text in UTF-8")),
            _ => about(e.into()),
        })?;
    if text.len() as u64 > TEXT_LIMIT {
        return Err(about(Failure::broken(format_args!(
            "longer than the {TEXT_LIMIT} bytes of a machine description"
        ))));
    }
    let description = livecore_synth::Description::parse(&text).map_err(|e| about(failure(e)))?;
    livecore_synth::build(&description).map_err(|e| about(failure(e)))
}

fn failure(error: livecore_synth::Error) -> Failure {
    let exit = match &error {
        livecore_synth::Error::Syntax(_)
        | livecore_synth::Error::Value { .. }
        | livecore_synth::Error::NoRoom { .. } => Exit::BROKEN,
        _ => Exit::COULD_NOT,
    };
    // A syntax error is a picture of several lines; the first has the place, the last the reason.
    let text = error.to_string();
    let mut lines = text.lines().filter(|line| !line.trim().is_empty());
    let (first, last) = (lines.next(), lines.next_back());
    let text = match (first, last) {
        (Some(first), Some(last)) => format!("{first}: {last}"),
        _ => text,
    };
    Failure::new(exit, text)
}
