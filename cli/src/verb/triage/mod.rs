//! `livecore triage DUMP`: summarizes a crash like crashinfo(8), without kgdb and on any system.

mod facts;
mod html;
mod locks;
mod sections;
mod text;
mod thread;

use std::io::Write;
use std::path::PathBuf;

use crate::crash::SignatureFacts;
use crate::dump_args::DumpArg;
use crate::failure::Failure;
use crate::input::{self, KernelArgs, Opening};
use crate::session::Session;
use crate::text_dump::{self, TextFacts};

use facts::{Asked, Triage};

const MANUAL: &str = "\
Examples:
  livecore triage livecore.0.zst --kernel /boot/kernel/kernel
  livecore triage vmcore.3 --kernel kernel --json | jq .panic
  livecore triage vmcore.3 --html crash.html

Prints the panic message, the version, the uptime, properties of the dump, every CPU with its backtrace, \
deadlocks with their threads, locks with their owners and waiting threads, all processes and the end of the \
message buffer. Reads compressed dumps directly.

Locks need a kernel file with type information (CTF or DWARF), or a known release. Most sections need type \
information.

For a text dump, prints the output of ddb(4), the panic message, the version and the message buffer.

Without a kernel, prints only the header and the message buffer. The end of the report lists what was not \
found. Backtraces follow traps, as ddb(4) does; with debug information they have source lines, inlined \
functions and tail calls.";

/// Arguments of `livecore triage`.
#[derive(Debug, clap::Args)]
#[command(after_help = MANUAL)]
pub struct Args {
    /// The dump to read.
    #[command(flatten)]
    pub dump: DumpArg,
    /// The kernel that was running.
    #[command(flatten)]
    pub kernel: KernelArgs,
    /// Lines to print from the end of the message buffer
    #[arg(long, value_name = "N", default_value_t = 40)]
    pub lines: usize,
    /// Print backtraces of all threads [default: threads on a CPU]
    #[arg(long)]
    pub all: bool,
    /// Print these sections, separated by commas [default: memory]
    ///
    /// docs/triage.md describes them.
    #[arg(long, value_name = "LIST", value_delimiter = ',', value_parser = sections::names(),
          default_value = "memory", hide_default_value = true)]
    pub sections: Vec<String>,
    /// Print the text whose digest is the signature
    ///
    /// docs/signatures.md describes it.
    #[arg(long, conflicts_with = "json")]
    pub signature: bool,
    /// Write a report for a browser to FILE
    ///
    /// One HTML file without references to others. It has the backtraces of all threads, the whole message buffer, a
    /// chart of the physical memory, and the findings of `livecore verify`. With --force, replaces an existing file.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["json", "signature", "sections"])]
    pub html: Option<PathBuf>,
    /// Add a comparison with another dump to the HTML report
    #[arg(long, value_name = "DUMP", requires = "html")]
    pub compare: Option<PathBuf>,
    /// Print one JSON object (docs/json.md)
    #[arg(long)]
    pub json: bool,
}

/// Runs the verb.
pub(crate) fn run(args: &Args, session: &mut Session<'_>) -> Result<(), Failure> {
    if let Some(path) = &args.html {
        let request = html::Request {
            dump: args.dump.path(),
            other: args.compare.as_deref(),
            kernel: &args.kernel,
            path,
        };
        return html::write(&request, session);
    }
    if let Some(dump) = input::text_dump(args.dump.path(), session)? {
        let facts = TextFacts::of(&dump, args.dump.path(), session)?;
        let facts = facts.with_contents(&dump, args.dump.path(), args.lines, session)?;
        match (args.signature, args.json) {
            (true, _) => print_text(facts.signature(), args, session)?,
            (_, true) => crate::json::print(&facts, &mut session.out)?,
            _ => facts.print(session.env.ci, &mut session.out)?,
        }
        return text_dump::check(&dump, args.dump.path());
    }
    let dump = input::dump(args.dump.path(), Opening::default(), session)?;
    for warning in dump.envelope().warnings() {
        session.warn_of(args.dump.path(), warning);
    }
    let pair = args.kernel.open(&dump, args.dump.path(), session)?;
    let asked = Asked {
        name: args.dump.path(),
        lines: args.lines,
        all: args.all,
        sections: &args.sections,
        ci: session.env.ci,
    };
    let triage = Triage::of(&asked, &dump, pair.as_ref());
    if args.signature {
        print_text(triage.signature.as_ref(), args, session)
    } else if args.json {
        Ok(crate::json::print(&triage, &mut session.out)?)
    } else {
        Ok(text::print(&triage, &mut session.out)?)
    }
}

/// Prints the canonical text of a signature.
fn print_text(
    signature: Option<&SignatureFacts>,
    args: &Args,
    session: &mut Session<'_>,
) -> Result<(), Failure> {
    match signature {
        Some(signature) => Ok(session.out.write_all(signature.text.as_bytes())?),
        None => {
            let what = "no signature: neither a panic message nor a backtrace is known";
            Err(Failure::could_not(what).about(args.dump.path()))
        }
    }
}
