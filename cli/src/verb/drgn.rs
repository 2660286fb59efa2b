//! `livecore drgn DUMP`: starts drgn on a dump.

use std::ffi::OsString;
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use livecore_livedump::sys::signals::ignore_interrupts;

use crate::dump_args::KernelAndDump;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::id::Id;
use crate::input::{self, KernelArgs, Opening};
use crate::packed;
use crate::remote::is_remote;
use crate::session::Session;

const MANUAL: &str = "\
Starts an interactive session of drgn with the dump's program as `prog` and the helpers of \
livecore.drgn.helpers. With SCRIPT, runs the script instead, with the same names.

It needs the Python packages livecore and drgn (docs/python.md). The kernel needs debug information for \
types and source lines.

Examples:
  livecore drgn livecore.0.zst
  livecore drgn vmcore.3 --kernel kernel.debug -- script.py argument";

/// Arguments of `livecore drgn`.
#[derive(Debug, clap::Args)]
#[command(after_help = MANUAL)]
pub struct Args {
    /// The dump to debug.
    #[command(flatten)]
    pub dump: KernelAndDump,
    /// The kernel that was running.
    #[command(flatten)]
    pub kernel: KernelArgs,
    /// Python with the packages livecore and drgn
    #[arg(long, value_name = "PROGRAM", default_value = "python3")]
    pub python: PathBuf,
    /// Script to run, and its arguments
    #[arg(last = true, value_name = "SCRIPT")]
    pub script: Vec<OsString>,
}

/// Starts drgn and waits for it.
pub(crate) fn run(args: &Args, session: &mut Session<'_>) -> Result<(), Failure> {
    let (dump, kernel) = args.dump.paths();
    let mut kernel = args.kernel.with(kernel)?;
    // The other program opens the dump again, and cannot read what this one has read.
    if dump == Path::new("-") {
        let failure = Failure::usage("drgn cannot read a dump from standard input");
        return Err(failure.id_is(Id::InvalidValue));
    }
    if is_remote(dump) {
        let failure = Failure::new(Exit::UNSUPPORTED, "drgn cannot read objects of stores");
        return Err(failure.about(dump).next("copy it to a file"));
    }
    let opening = Opening {
        unchecked: true,
        ..Opening::default()
    };
    let unpacked = packed::kernel_files(dump, &kernel, session)?;
    let _directory = unpacked.map(|(directory, files)| {
        kernel = files;
        directory
    });
    let pair = input::pair(dump, opening, &kernel, session)?;
    find_packages(&args.python)?;
    let mut command = Command::new(&args.python);
    command.args(["-m", "livecore.drgn", "--kernel"]);
    command.arg(pair.path());
    if kernel.is_forced() {
        command.arg("--force-kernel");
    }
    if let Some(key) = &session.env.key_path {
        command.arg("--key").arg(key);
    }
    command.arg("--").arg(dump).args(&args.script);
    session.out.flush()?;
    drop(pair);
    // Ctrl-C belongs to drgn while it runs.
    ignore_interrupts(true);
    let status = command.status();
    ignore_interrupts(false);
    let status = status.map_err(|e| Failure::from(e).about(&args.python))?;
    if !status.success() {
        return Err(Failure::could_not(format_args!("exited: {status}"))
            .id_is(Id::ProgramFailed)
            .about(&args.python));
    }
    Ok(())
}

/// Checks that Python has the packages.
fn find_packages(python: &Path) -> Result<(), Failure> {
    let output = Command::new(python)
        .args(["-c", "import livecore.drgn"])
        .stdin(Stdio::null())
        .output();
    let why = match output {
        Ok(output) if output.status.success() => return Ok(()),
        Ok(output) => {
            let text = String::from_utf8_lossy(&output.stderr).into_owned();
            let last = text.lines().last().unwrap_or("it failed");
            format!("cannot import livecore.drgn: {last}")
        }
        Err(e) if e.kind() == ErrorKind::NotFound => "not installed".into(),
        Err(e) => return Err(Failure::from(e).about(python)),
    };
    Err(Failure::could_not(why)
        .id_is(Id::ProgramMissing)
        .about(python)
        .next("install the Python packages livecore and drgn, or use --python PROGRAM"))
}
