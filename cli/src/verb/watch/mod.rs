//! `livecore watch --qmp ADDRESS -o DIR`: dumps QEMU guests when they crash.
//!
//! A thread for each guest waits for the events of its QEMU ([`guest`]). The dump, its verification and its
//! triage are programs: `take`, `verify` and `triage`, each in its own sandbox ([`work`]). The main thread
//! prints what the threads report.

mod choices;
mod guest;
mod outcome;
mod work;

use std::ffi::OsString;
use std::io::Write;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::Duration;

use crate::exit::Exit;
use crate::failure::Failure;
use crate::id::Id;
use crate::sandbox_mode::Mode;
use crate::session::Session;

use choices::{OnArg, ThenArg};
use guest::{Event, Watch};
use work::Work;

const MANUAL: &str = "\
Examples:
  livecore watch --qmp qmp.sock --kernel kernel -o /var/crash
  livecore watch --qmp a.sock --qmp localhost:4444 -k kernel -o dumps --hook 'mail -s crash root'
  livecore watch --qmp guest --kernel kernel -o dumps --on reset,watchdog --then reset

Waits for crashes of QEMU guests. QEMU pauses a guest that crashes. livecore writes its memory and registers to \
DIR as `take` does, runs `verify` and `triage`, passes the outcome to the command of --hook, and then does what \
--then states. Dumps are taken one after another; the guests are paused meanwhile.

--on panic needs a pvpanic device (-device pvpanic or pvpanic-pci) and a driver in the guest, which FreeBSD 15.0 does \
not have: for its panics, use --on reset. A kernel that panics resets the machine. livecore sets QEMU's actions \
(set-action, QEMU 6.0): pause for each event of --on.

QEMU serves one client of a QMP socket at a time: livecore is that client. If the connection fails, livecore \
reports it and tries to connect every 5 seconds.

A signal stops livecore. Guests that run continue, and guests that are paused stay paused; no temporary file is \
left. See docs/watch.md.";

/// Arguments of `livecore watch`.
#[derive(Debug, clap::Args)]
#[command(after_help = MANUAL)]
pub struct Args {
    /// QMP server of a guest; may be repeated
    ///
    /// The path of a Unix socket, HOST:PORT, or the name of a running domain of libvirt.
    #[arg(long, required = true, value_name = "ADDRESS", num_args = 1..)]
    pub qmp: Vec<PathBuf>,
    /// ELF file of the guests' kernel
    #[arg(short = 'k', long, value_name = "ELF")]
    pub kernel: Option<PathBuf>,
    /// Directory for dumps
    #[arg(short, long, value_name = "DIR")]
    pub out: PathBuf,
    /// Events to dump a guest on, separated by commas
    #[arg(
        long,
        value_enum,
        value_name = "LIST",
        value_delimiter = ',',
        default_value = "panic"
    )]
    pub on: Vec<OnArg>,
    /// What to do with a guest after its dump
    #[arg(long, value_enum, value_name = "ACTION", default_value = "pause")]
    pub then: ThenArg,
    /// Run this command with sh(1) after each dump
    ///
    /// Its standard input is the outcome as JSON (docs/json.md). The guest is paused meanwhile.
    #[arg(long, value_name = "COMMAND")]
    pub hook: Option<OsString>,
    /// End the command of --hook after this time, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 300, requires = "hook",
          value_parser = clap::value_parser!(u32).range(1..))]
    pub hook_timeout: u32,
    /// Time limit for each answer of QEMU, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 10,
          value_parser = clap::value_parser!(u32).range(1..))]
    pub qmp_timeout: u32,
    /// Exit after one dump of each guest
    ///
    /// A guest whose connection fails is not dumped.
    #[arg(long)]
    pub once: bool,
    /// Print JSON: one line for each event (docs/json.md)
    #[arg(long)]
    pub json: bool,
}

/// Waits for crashes until a signal arrives; with `--once` until every guest was dumped.
pub(crate) fn run(args: &Args, session: &mut Session<'_>) -> Result<(), Failure> {
    if !args.out.is_dir() {
        let failure = Failure::could_not("no such directory")
            .id_is(Id::NotFound)
            .about(&args.out);
        return Err(failure.next("create it with mkdir(1)"));
    }
    let Some(kernel) = args.kernel.as_ref().or(session.env.kernel.as_ref()) else {
        return Err(Failure::usage("--qmp needs --kernel ELF").id_is(Id::NoKernelFile));
    };
    // Fails now instead of at the first crash.
    crate::input::kernel(kernel, session.env.memory)?;
    let work = Work {
        program: crate::guard::program()?,
        kernel: kernel.clone(),
        out: args.out.clone(),
        timeout: args.qmp_timeout,
        memory: session.env.memory,
        no_sandbox: session.env.sandbox == Mode::Off,
        hook: args.hook.clone(),
        hook_timeout: Duration::from_secs(args.hook_timeout.into()),
        one_at_a_time: std::sync::Mutex::new(()),
    };
    let watch = Arc::new(Watch {
        work,
        causes: args.on.iter().map(|on| on.cause()).collect(),
        then: args.then,
        timeout: Duration::from_secs(args.qmp_timeout.into()),
        once: args.once,
        interrupt: session.env.interrupt.clone(),
    });
    let (events, received) = channel();
    for address in &args.qmp {
        let (watch, address, events) = (Arc::clone(&watch), address.clone(), events.clone());
        std::thread::Builder::new()
            .name("guest".into())
            .spawn(move || watch.guest(&address, &events))?;
    }
    drop(events);
    loop {
        match received.recv_timeout(Duration::from_millis(200)) {
            Ok(event) => report(&event, args.json, session)?,
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => break,
        }
        if session.env.interrupt.raised().is_some() {
            break;
        }
    }
    match session.env.interrupt.raised() {
        Some(_) => Err(livecore_compress::Error::Cancelled.into()),
        None => Ok(()),
    }
}

/// Prints an event: data on standard output, problems on standard error.
fn report(event: &Event, json: bool, session: &mut Session<'_>) -> Result<(), Failure> {
    match event {
        Event::Watching(address) => {
            let event = outcome::Watching::new(address);
            match json {
                true => crate::json::print_line(&event, &mut session.out)?,
                false => writeln!(session.out, "watching {}", address.display())?,
            }
        }
        Event::Lost(address, failure) => {
            let event = outcome::Lost::new(address, &failure.to_string());
            if json {
                crate::json::print_line(&event, &mut session.out)?;
            }
            session.fail(failure);
        }
        Event::Dumped(dump) => {
            match json {
                true => crate::json::print_line(&**dump, &mut session.out)?,
                false => writeln!(session.out, "{}", dump.line())?,
            }
            for problem in dump.problems() {
                session
                    .voice
                    .warn(dump.subject(), Id::ProgramFailed, problem);
            }
            session.note(Exit::from_code(dump.exit_code()));
        }
        Event::HookFailed(address, why) => session.warn(address, Id::HookFailed, why),
    }
    Ok(session.out.flush()?)
}
