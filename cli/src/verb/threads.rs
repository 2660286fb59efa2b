//! `livecore threads DUMP`: prints threads with their registers and backtraces.

use std::collections::BTreeMap;
use std::io::{self, Write};

use livecore_defs::trapframe::Cause;
use livecore_kernel::parse_number;
use livecore_kernel::{Context, FoundBy, Frame, Kernel, KernelError, Registers, Thread, Trap};
use serde::Serialize;

use crate::dump_args::DumpArg;
use crate::failure::Failure;
use crate::id::Id;
use crate::input::{self, KernelArgs, Opening};
use crate::json::{Hex, SourceAnswer};
use crate::parallel::in_order;
use crate::session::Session;
use crate::stack_text;
use livecore_defs::text::printable;

/// Registers on a line.
const COLUMNS: usize = 3;

const MANUAL: &str = "\
Examples:
  livecore threads livecore.0.zst --kernel /boot/kernel/kernel
  livecore threads vmcore.3 --kernel kernel.debug --crashed
  livecore threads vmcore.3 --kernel kernel.debug --tid 100670 --tid 0x186a2 --json
  livecore threads vmcore.3 --kernel kernel.debug --pid 814

Threads are printed in the order of the kernel's lists: processes newest first, then zombies. The \
kernel saves the registers of the thread that writes the dump, of threads on stopped CPUs, and of \
other threads when they leave a CPU. A thread on a CPU that was not stopped has no registers.

Backtraces follow traps and interrupts, up to the entry from user mode or the start of the thread. A \
caller is found by call frame information (.debug_frame, .eh_frame) of the kernel or of its debug file, \
or else by the frame pointer. With debug information, backtraces have source lines, functions that \
the compiler inlined, marked [inlined], and functions that left by a tail call, marked [tail call]. \
Function names come from the kernel's symbols and, in loaded kernel modules, from \
the symbols that the kernel's linker keeps in memory. If there are none, the module's file name and the \
offset are printed.

In a dump of a guest that waits in its kernel debugger, the thread that entered the debugger counts as \
the crashed thread.";

/// Arguments of `livecore threads`.
#[derive(Debug, clap::Args)]
#[command(after_help = MANUAL)]
pub struct Args {
    /// The dump to read.
    #[command(flatten)]
    pub dump: DumpArg,
    /// The kernel that was running.
    #[command(flatten)]
    pub kernel: KernelArgs,
    /// Print only this thread; may be repeated
    #[arg(long, value_name = "TID", value_parser = parse_id)]
    pub tid: Vec<i32>,
    /// Print only threads of this process; may be repeated
    #[arg(long, value_name = "PID", value_parser = parse_id)]
    pub pid: Vec<i32>,
    /// Print only the thread that crashed
    ///
    /// If the kernel was in its debugger before it dumped, that is the thread that entered the
    /// debugger.
    #[arg(long)]
    pub crashed: bool,
    /// Print one JSON object (docs/json.md)
    #[arg(long)]
    pub json: bool,
}

fn parse_id(text: &str) -> Result<i32, String> {
    let number = parse_number(text).map_err(|e| e.to_string())?;
    i32::try_from(number).map_err(|_| format!("{text} is too large for a thread or process id"))
}

/// JSON output; docs/schemas/threads.schema.json.
#[derive(Debug, Serialize)]
struct Answer {
    dump: String,
    typed: bool,
    threads: Vec<ThreadAnswer>,
    missing: Vec<String>,
    problems: Vec<String>,
}

#[derive(Debug, Serialize)]
struct ThreadAnswer {
    address: Hex,
    process: Hex,
    pid: i32,
    command: String,
    tid: i32,
    name: String,
    title: String,
    state: &'static str,
    cpu: Option<u32>,
    wait: Option<String>,
    context: &'static str,
    pcb: Option<Hex>,
    registers: BTreeMap<&'static str, Option<Hex>>,
    frames: Vec<FrameAnswer>,
}

#[derive(Debug, Serialize)]
struct FrameAnswer {
    pc: Hex,
    fp: Hex,
    function: Option<String>,
    offset: Option<u64>,
    by: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    source: Option<SourceAnswer>,
    trap: Option<TrapAnswer>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ends: Option<String>,
    #[serde(skip_serializing_if = "crate::json::is_zero")]
    omitted: usize,
}

#[derive(Debug, Serialize)]
struct TrapAnswer {
    address: Hex,
    cause: &'static str,
    number: Option<Hex>,
    fault: Option<Hex>,
    from_user: bool,
    registers: BTreeMap<&'static str, Option<Hex>>,
}

/// Runs the verb.
pub(crate) fn run(args: &Args, session: &mut Session<'_>) -> Result<(), Failure> {
    let about = |f: Failure| f.about(args.dump.path());
    let pair = input::pair(args.dump.path(), Opening::default(), &args.kernel, session)?;
    let kernel = pair.kernel().detailed();
    let types = kernel.types();
    for problem in types.iter().flat_map(|types| &types.problems) {
        session.warn(args.dump.path(), Id::KernelData, problem);
    }
    let found = kernel.processes().map_err(|e| about(e.into()))?;
    session.print_missing(args.dump.path(), &found.missing, &found.problems);

    let all = args.tid.is_empty() && args.pid.is_empty() && !args.crashed;
    let wanted = |t: &&Thread| {
        all || args.tid.contains(&t.tid)
            || args.pid.contains(&t.pid)
            || args.crashed && t.context == Context::Crashed
    };
    let list: Vec<&Thread> = found.threads().filter(wanted).collect();
    for tid in &args.tid {
        if !list.iter().any(|t| t.tid == *tid) {
            let what = format_args!("no thread {tid}");
            return Err(about(
                Failure::could_not(what)
                    .id_is(Id::NoThread)
                    .next("use `livecore ps` to list threads"),
            ));
        }
    }
    for pid in &args.pid {
        if !list.iter().any(|t| t.pid == *pid) {
            let what = format_args!("no thread of process {pid}");
            return Err(about(
                Failure::could_not(what)
                    .id_is(Id::NoProcess)
                    .next("use `livecore ps` to list processes"),
            ));
        }
    }
    if args.crashed && !list.iter().any(|t| t.context == Context::Crashed) {
        let what = "no thread crashed: it is not a crash dump";
        return Err(about(Failure::could_not(what).id_is(Id::NoThread)));
    }
    let warn = |thread: &Thread, error: Option<KernelError>, session: &mut Session<'_>| {
        if let Some(error) = error {
            let tid = thread.tid;
            session.warn(
                args.dump.path(),
                Id::KernelData,
                format_args!("cannot read registers of thread {tid}: {error}"),
            );
        }
    };
    if !args.json {
        let mut first = true;
        let print = |thread: &&Thread| {
            let (registers, error) = split(kernel.registers(thread));
            let mut out = Vec::new();
            let printed = text(&kernel, thread, registers.as_ref(), &mut out);
            (error, printed.map(|()| out))
        };
        in_order(&list, print, |thread, (error, printed)| {
            warn(thread, error, session);
            if !std::mem::take(&mut first) {
                writeln!(session.out)?;
            }
            Ok(session.out.write_all(&printed?)?)
        })?;
        warn_of_debug(&kernel, args, session);
        return Ok(());
    }
    let mut threads = Vec::new();
    let get = |thread: &&Thread| {
        let (registers, error) = split(kernel.registers(thread));
        (error, answer(&kernel, thread, registers.as_ref()))
    };
    in_order(&list, get, |thread, (error, answer)| {
        warn(thread, error, session);
        threads.push(answer);
        Ok(())
    })?;
    warn_of_debug(&kernel, args, session);
    let answer = Answer {
        dump: args.dump.path().display().to_string(),
        typed: types.is_some_and(|types| types.structure("thread").is_some()),
        threads,
        missing: found.missing.iter().map(|m| m.symbol.into()).collect(),
        problems: found.problems.clone(),
    };
    Ok(crate::json::print(&answer, &mut session.out)?)
}

/// Warns of debug information that backtraces could not read.
fn warn_of_debug(kernel: &Kernel<'_>, args: &Args, session: &mut Session<'_>) {
    for problem in kernel.debug_problems() {
        session.warn(args.dump.path(), Id::KernelData, problem);
    }
}

fn split(result: Result<Registers, KernelError>) -> (Option<Registers>, Option<KernelError>) {
    match result {
        Ok(registers) => (Some(registers), None),
        Err(error) => (None, Some(error)),
    }
}

fn values(registers: &Registers) -> BTreeMap<&'static str, Option<Hex>> {
    registers
        .iter()
        .map(|(register, value)| (register.name, value.map(Hex)))
        .collect()
}

fn answer(kernel: &Kernel<'_>, thread: &Thread, registers: Option<&Registers>) -> ThreadAnswer {
    let frames = registers.map(|r| kernel.stack(r)).unwrap_or_default();
    ThreadAnswer {
        address: thread.at.into(),
        process: thread.process.into(),
        pid: thread.pid,
        command: thread.comm.clone(),
        tid: thread.tid,
        name: thread.name.clone(),
        title: thread.title(),
        state: kernel.state(thread).name(),
        cpu: thread.cpu,
        wait: thread.wait.clone(),
        context: thread.context.name(),
        pcb: thread.pcb.map(Hex::from),
        registers: registers.map(values).unwrap_or_default(),
        frames: frames.into_iter().map(frame).collect(),
    }
}

fn frame(frame: Frame) -> FrameAnswer {
    let (function, offset) = frame.function.unzip();
    FrameAnswer {
        pc: frame.pc.into(),
        fp: frame.fp.into(),
        function,
        offset: offset.filter(|_| frame.by != FoundBy::Inlined),
        by: frame.by.name(),
        source: frame.line.map(SourceAnswer::from),
        trap: frame.trap.as_ref().map(trap),
        ends: frame.ends.map(|why| why.to_string()),
        omitted: frame.omitted,
    }
}

fn trap(trap: &Trap) -> TrapAnswer {
    TrapAnswer {
        address: trap.at.into(),
        cause: match trap.cause {
            Cause::Trap => "trap",
            Cause::Interrupt => "interrupt",
            Cause::Syscall => "syscall",
        },
        number: trap.number.map(Hex),
        fault: trap.address.map(Hex::from),
        from_user: trap.from_user,
        registers: values(&trap.registers),
    }
}

/// Prints the title, the registers and the backtrace of one thread.
fn text(
    kernel: &Kernel<'_>,
    thread: &Thread,
    registers: Option<&Registers>,
    out: &mut dyn Write,
) -> io::Result<()> {
    write!(
        out,
        "{}: tid {}, {}",
        printable(&thread.title()),
        thread.tid,
        kernel.state(thread)
    )?;
    if let Some(wait) = &thread.wait {
        write!(out, " on \"{}\"", printable(wait))?;
    }
    writeln!(out)?;
    let Some(registers) = registers else {
        return writeln!(out, "  registers cannot be read");
    };
    if registers.is_unknown() {
        return writeln!(out, "  registers unknown: the CPU was not stopped");
    }
    let width = 2 + 2 * kernel.elf().pointer_size();
    let known: Vec<_> = registers
        .known()
        .filter(|(name, _)| *name != "zero")
        .collect();
    for line in known.chunks(COLUMNS) {
        let shown = line
            .iter()
            .map(|(name, value)| format!("{name:>5} {value:#0width$x}"));
        writeln!(out, " {}", shown.collect::<Vec<_>>().join(" "))?;
    }
    stack_text::write(kernel, registers, out)
}
