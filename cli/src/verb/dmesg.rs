//! `livecore dmesg DUMP`: prints the kernel message buffer like dmesg(8) `-M`.

use std::io::Write;

use livecore_defs::textdump::MSGBUF;
use livecore_minidump::{MessageBuffer, RingOrigin};
use serde::Serialize;

use crate::dump_args::DumpArg;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::id::Id;
use crate::input::{self, KernelArgs, Opening};
use crate::session::Session;
use crate::text::without_command;
use crate::text_dump;

const MANUAL: &str = "\
Examples:
  livecore dmesg livecore.0.zst
  livecore dmesg -a vmcore.3 --kernel /boot/kernel/kernel
  livecore dmesg -M vmcore.3 -N /boot/kernel/kernel      (as dmesg(8))

In a CI job (CI, GITHUB_ACTIONS, GITLAB_CI or TF_BUILD is set), a line that the job runner would \
execute as a command, such as ::error::, is printed with its first character in octal: \\072:error::.";

/// Arguments of `livecore dmesg`.
#[derive(Debug, clap::Args)]
#[command(after_help = MANUAL)]
pub struct Args {
    /// The dump to read.
    #[command(flatten)]
    pub dump: DumpArg,
    /// The kernel, needed if the dump alone does not locate the oldest line.
    #[command(flatten)]
    pub kernel: KernelArgs,
    /// Include lines logged by syslogd(8) and user programs
    #[arg(short, long)]
    pub all: bool,
    /// Print one JSON object (docs/json.md)
    #[arg(long)]
    pub json: bool,
}

/// JSON output; docs/schemas/dmesg.schema.json.
#[derive(Debug, Serialize)]
struct Answer {
    dump: String,
    origin: &'static str,
    wrapped: bool,
    checksum_ok: Option<bool>,
    lines: Vec<String>,
}

/// Prints the message buffer.
pub(crate) fn run(args: &Args, session: &mut Session<'_>) -> Result<(), Failure> {
    let dump_path = args.dump.path();
    let about = |f: Failure| f.about(dump_path);
    if let Some(dump) = input::text_dump(dump_path, session)? {
        let text = text_dump::member(&dump, MSGBUF, dump_path, session)?;
        let Some(text) = text else {
            text_dump::check(&dump, dump_path)?;
            let what = "text dump without a message buffer";
            return Err(about(Failure::could_not(what).id_is(Id::NotInDump)));
        };
        print(text.as_bytes(), args, session, || Answer {
            dump: dump_path.display().to_string(),
            origin: "text-dump",
            wrapped: false,
            checksum_ok: None,
            lines: text.lines().map(str::to_string).collect(),
        })?;
        return text_dump::check(&dump, dump_path);
    }
    let dump = input::dump(dump_path, Opening::default(), session)?;
    input::print_memory_warnings(&dump, dump_path, session);
    let alone = match dump.minidump() {
        Some(mini) => Some(MessageBuffer::of(mini, None).map_err(|e| about(e.into()))?),
        None => None,
    };
    let buffer = match alone {
        // A named kernel is compared with the dump even if it is not needed.
        Some(alone)
            if args.kernel.named(&session.env).is_none()
                && alone.origin() == RingOrigin::Trailing =>
        {
            alone
        }
        alone => match (args.kernel.open(&dump, dump_path, session)?, alone) {
            (Some(pair), _) => pair.message_buffer().map_err(|e| about(e.into()))?,
            (None, Some(alone)) => alone,
            (None, None) => {
                let what = "cannot locate the message buffer of a full dump without its kernel";
                let failure = Failure::new(Exit::UNSUPPORTED, what).id_is(Id::NoKernelFile);
                return Err(about(failure.next("use --kernel ELF")));
            }
        },
    };
    let text = buffer.dmesg(args.all);
    if buffer.origin() == RingOrigin::Unknown && !text.is_empty() {
        session.warn(
            dump_path,
            Id::MsgbufOrder,
            "start of the oldest line is unknown; printing the buffer in memory order",
        );
    }
    if buffer.text().is_empty() {
        session.warn(
            dump_path,
            Id::MsgbufEmpty,
            "message buffer is empty: it contains only zero bytes",
        );
    }
    print(&text, args, session, || Answer {
        dump: dump_path.display().to_string(),
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
    })
}

/// Prints the text of a message buffer, or the answer in JSON.
fn print(
    text: &[u8],
    args: &Args,
    session: &mut Session<'_>,
    answer: impl FnOnce() -> Answer,
) -> Result<(), Failure> {
    if args.json {
        return Ok(crate::json::print(&answer(), &mut session.out)?);
    }
    if session.env.ci {
        for line in String::from_utf8_lossy(text).lines() {
            writeln!(session.out, "{}", without_command(line))?;
        }
        return Ok(());
    }
    Ok(session.out.write_all(text)?)
}
