//! `livecore dmesg DUMP`: the kernel's message buffer, as dmesg(8) `-M` prints it.

use std::io::Write;
use std::path::PathBuf;

use minidump::msgbuf::{MessageBuffer, RingOrigin};
use serde::Serialize;

use crate::exit::Exit;
use crate::failure::Failure;
use crate::input::{KernelArgs, Opening};
use crate::session::Session;
use crate::space::{Source, full_kernel};

const MANUAL: &str = "\
Examples:
  livecore dmesg livecore.0.zst
  livecore dmesg -a vmcore.3 --kernel /boot/kernel/kernel";

/// What is asked for.
#[derive(Debug, clap::Args)]
#[command(after_help = MANUAL)]
pub struct Args {
    /// The dump; `-` for standard input
    pub dump: PathBuf,
    /// The kernel that was running: asked where the dump alone does not say where the text begins.
    #[command(flatten)]
    pub kernel: KernelArgs,
    /// Lines that syslogd(8) and programs logged too, not the kernel's alone
    #[arg(short, long)]
    pub all: bool,
    /// One JSON object (docs/json.md)
    #[arg(long)]
    pub json: bool,
}

/// One JSON answer; docs/schemas/dmesg.schema.json.
#[derive(Debug, Serialize)]
struct Answer {
    dump: String,
    origin: &'static str,
    wrapped: bool,
    checksum_ok: Option<bool>,
    lines: Vec<String>,
}

/// Prints the message buffer.
pub fn run(args: &Args, session: &mut Session<'_>) -> Result<(), Failure> {
    let about = |f: Failure| f.about(&args.dump);
    let source = Source::open(&args.dump, Opening::default(), session)?;
    source.tell_memory_warnings(&args.dump, session);
    let buffer = match &source {
        Source::Mini(dump) => {
            let named = args.kernel.kernel.is_some();
            let alone = MessageBuffer::of(dump, None).map_err(|e| about(e.into()))?;
            if named || alone.origin() != RingOrigin::Trailing {
                let kernel = args.kernel.open(dump, &args.dump, session)?;
                let elf = kernel.as_ref().map(|kernel| &kernel.elf);
                MessageBuffer::of(dump, elf)
            } else {
                Ok(alone)
            }
        }
        Source::Full(dump) => {
            let found = full_kernel(&args.kernel, dump, &args.dump, session)?;
            let Some(found) = found else {
                let what = "a full dump's message buffer is found by its kernel";
                let failure = Failure::new(Exit::UNSUPPORTED, what);
                return Err(about(failure.next("say --kernel ELF")));
            };
            MessageBuffer::of_memory(&found.machine.view, &found.elf)
        }
    };
    let buffer = buffer.map_err(|e| about(e.into()))?;
    let text = buffer.dmesg(args.all);
    if buffer.origin() == RingOrigin::Unknown && !text.is_empty() {
        session.warn(
            &args.dump,
            "where the oldest line begins is not known: the text is as it lies in the buffer",
        );
    }
    if !args.json {
        return Ok(session.out.write_all(&text)?);
    }
    let answer = Answer {
        dump: args.dump.display().to_string(),
        origin: match buffer.origin() {
            RingOrigin::Trailing => "trailing",
            RingOrigin::Symbol => "symbol",
            RingOrigin::LongestNuls => "longest-nuls",
            RingOrigin::Unknown => "unknown",
        },
        wrapped: buffer.has_wrapped(),
        checksum_ok: buffer.checksum_ok(),
        lines: String::from_utf8_lossy(&text)
            .lines()
            .map(str::to_string)
            .collect(),
    };
    Ok(crate::json::print(&answer, &mut session.out)?)
}
