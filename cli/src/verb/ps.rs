//! `livecore ps DUMP`: lists the processes and threads of the dumped machine.

use std::io::Write;

use livecore_kernel::{Process, ProcessTable, State, Thread};
use serde::Serialize;

use crate::dump_args::DumpArg;
use crate::failure::Failure;
use crate::id::Id;
use crate::input::{self, KernelArgs, Opening};
use crate::json::Hex;
use crate::session::Session;

const MANUAL: &str = "\
Examples:
  livecore ps livecore.0.zst --kernel /boot/kernel/kernel
  livecore ps vmcore.3 --kernel kernel.debug --json
  livecore ps -M vmcore.3 -N /boot/kernel/kernel      (as ps(1))

Prints a line for each thread, in the order of the kernel's lists: processes newest first, then \
zombies. A kernel with type information (CTF or DWARF) also gives the parent, the wait message and \
the reason why a thread is off its CPU. Without type information, PPID and WAIT are `-`, and STATE is \
derived from the functions on the thread's stack; it is `off-cpu` if they do not determine it.

A thread that was on a CPU is `running`, even if that CPU was stopped for the dump.";

/// Arguments of `livecore ps`.
#[derive(Debug, clap::Args)]
#[command(after_help = MANUAL)]
pub struct Args {
    /// The dump to read.
    #[command(flatten)]
    pub dump: DumpArg,
    /// The kernel that was running.
    #[command(flatten)]
    pub kernel: KernelArgs,
    /// Print one JSON object (docs/json.md)
    #[arg(long)]
    pub json: bool,
}

/// JSON output; docs/schemas/ps.schema.json.
#[derive(Debug, Serialize)]
struct Answer {
    dump: String,
    typed: bool,
    processes: Vec<ProcessAnswer>,
    missing: Vec<String>,
    problems: Vec<String>,
}

#[derive(Debug, Serialize)]
struct ProcessAnswer {
    address: Hex,
    pid: i32,
    ppid: Option<i32>,
    command: String,
    zombie: bool,
    threads: Vec<ThreadAnswer>,
}

#[derive(Debug, Serialize)]
struct ThreadAnswer {
    address: Hex,
    tid: i32,
    name: String,
    title: String,
    state: &'static str,
    cpu: Option<u32>,
    wait: Option<String>,
    context: &'static str,
}

/// Runs the verb.
pub(crate) fn run(args: &Args, session: &mut Session<'_>) -> Result<(), Failure> {
    let name = args.dump.path();
    let pair = input::pair(name, Opening::default(), &args.kernel, session)?;
    let kernel = pair.kernel().detailed();
    let types = kernel.types();
    for problem in types.iter().flat_map(|types| &types.problems) {
        session.warn(name, Id::KernelData, problem);
    }
    let found = kernel
        .processes()
        .map_err(|e| Failure::from(e).about(name))?;
    session.print_missing(name, &found.missing, &found.problems);
    if args.json {
        let mut states = kernel.states(&found.list).into_iter();
        let answer = Answer {
            dump: name.display().to_string(),
            typed: types.is_some_and(|types| types.structure("thread").is_some()),
            processes: found.list.iter().map(|p| answer(p, &mut states)).collect(),
            missing: found.missing.iter().map(|m| m.symbol.into()).collect(),
            problems: found.problems,
        };
        return Ok(crate::json::print(&answer, &mut session.out)?);
    }
    let (kernel, list) = (&kernel, &found.list);
    write!(session.out, "{}", ProcessTable { kernel, list })?;
    Ok(())
}

/// `states` are the states of the process's threads, and of others after them.
fn answer(process: &Process, states: &mut impl Iterator<Item = State>) -> ProcessAnswer {
    let thread = |thread: &Thread| ThreadAnswer {
        address: thread.at.into(),
        tid: thread.tid,
        name: thread.name.clone(),
        title: thread.title(),
        state: states.next().unwrap_or(thread.state).name(),
        cpu: thread.cpu,
        wait: thread.wait.clone(),
        context: thread.context.name(),
    };
    ProcessAnswer {
        address: process.at.into(),
        pid: process.pid,
        ppid: process.ppid,
        command: process.comm.clone(),
        zombie: process.zombie,
        threads: process.threads.iter().map(thread).collect(),
    }
}
