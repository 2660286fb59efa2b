//! `livecore gdb DUMP`: starts an installed debugger on a dump.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use livecore_livedump::sys::signals::ignore_interrupts;

use crate::dump_args::KernelAndDump;
use crate::failure::Failure;
use crate::id::Id;
use crate::input::KernelArgs;
use crate::packed;
use crate::served;
use crate::session::Session;
use crate::transport::Listener;
use livecore_serve::Served;
use livecore_serve::command::{plain, quoted};

const MANUAL: &str = "\
Starts the first of kgdb, gdb, gdb-multiarch and lldb that is installed and supports the dump's \
architecture. The debugger loads the kernel, connects to the dump and loads the symbols of the modules \
whose files are found. livecore passes the arguments after -- to the debugger, and exits when the debugger exits.

Examples:
  livecore gdb livecore.0.zst
  livecore gdb vmcore.3.gz --kernel /boot/kernel.old/kernel -- -ex 'thread apply all bt'
  livecore gdb livecore.0.zst --debugger lldb -- --batch -o bt";

/// Arguments of `livecore gdb`.
#[derive(Debug, clap::Args)]
#[command(after_help = MANUAL)]
pub struct Args {
    /// The dump to debug.
    #[command(flatten)]
    pub dump: KernelAndDump,
    /// The kernel that was running.
    #[command(flatten)]
    pub kernel: KernelArgs,
    /// Debugger to start: kgdb, gdb, gdb-multiarch, lldb or a path
    #[arg(long, value_name = "PROGRAM")]
    pub debugger: Option<PathBuf>,
    /// Read pages lost at the end of a short file as zeros
    #[arg(long)]
    pub zero_tail: bool,
    /// Arguments for the debugger
    #[arg(last = true, value_name = "ARGS")]
    pub args: Vec<OsString>,
}

/// The debuggers in the order of preference.
pub(crate) const DEBUGGERS: [&str; 4] = ["kgdb", "gdb", "gdb-multiarch", "lldb"];

/// A debugger, by its command language.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Kgdb,
    Gdb,
    Lldb,
}

/// Starts the debugger and waits for it.
pub(crate) fn run(args: &Args, session: &mut Session<'_>) -> Result<(), Failure> {
    let (dump, kernel) = args.dump.paths();
    let mut kernel = args.kernel.with(kernel)?;
    let unpacked = packed::kernel_files(dump, &kernel, session)?;
    let _directory = unpacked.map(|(directory, files)| {
        kernel = files;
        directory
    });
    let served = served::open(dump, &kernel, args.zero_tail, session)?;
    let (program, kind) = choose(args, &served)?;
    let listener = Listener::private()?.without_idle_limit();
    let socket = listener.path().map(Path::to_owned).unwrap_or_default();
    let mut command = Command::new(&program);
    let begun = match kind {
        Kind::Kgdb => kgdb(&mut command, &served, &socket),
        Kind::Gdb => gdb(&mut command, &program, &served, &socket),
        Kind::Lldb => lldb(&mut command, &served, &socket),
    };
    begun.map_err(|(path, why)| Failure::could_not(why).id_is(Id::UnsafePath).about(&path))?;
    for greeting in served.greeting() {
        session.voice.say(Id::of_greeting(&greeting), greeting);
    }
    command.args(&args.args);
    // Ctrl-C belongs to the debugger while it runs.
    ignore_interrupts(true);
    let status = std::thread::scope(|scope| {
        scope.spawn(|| listener.serve(&served, false));
        let status = command.status();
        listener.stop();
        status
    });
    ignore_interrupts(false);
    let status = status.map_err(|e| Failure::from(e).about(&program))?;
    if !status.success() {
        return Err(Failure::could_not(format_args!("exited: {status}"))
            .id_is(Id::ProgramFailed)
            .about(&program));
    }
    Ok(())
}

/// The debugger to start.
fn choose(args: &Args, served: &Served) -> Result<(PathBuf, Kind), Failure> {
    if let Some(program) = &args.debugger {
        let name = program.file_name().unwrap_or_default().to_string_lossy();
        let kind = match () {
            () if name.starts_with("kgdb") => Kind::Kgdb,
            () if name.starts_with("lldb") => Kind::Lldb,
            () if name.contains("gdb") => Kind::Gdb,
            () => {
                let what = "unsupported debugger name: expected kgdb, gdb, gdb-multiarch or lldb";
                return Err(Failure::usage(what).id_is(Id::InvalidValue).about(program));
            }
        };
        return Ok((program.clone(), kind));
    }
    for name in DEBUGGERS {
        let kind = match name {
            "kgdb" => Kind::Kgdb,
            "lldb" => Kind::Lldb,
            _ => Kind::Gdb,
        };
        let program = PathBuf::from(name);
        if installed(name).is_some() && (kind != Kind::Gdb || knows(&program, served)) {
            return Ok((program, kind));
        }
    }
    Err(Failure::could_not(format_args!(
        "no installed debugger supports {}",
        served.architecture()
    ))
    .id_is(Id::ProgramMissing)
    .next("install gdb-multiarch or lldb, or use --debugger PROGRAM"))
}

/// The path of an installed program.
pub(crate) fn installed(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut paths = std::env::split_paths(&path).map(|directory| directory.join(name));
    paths.find(|path| path.is_file())
}

/// Runs gdb with `commands` and returns what it prints.
fn answer(program: &Path, commands: &[&str]) -> String {
    let output = Command::new(program)
        .args(["-nx", "-nw", "-batch"])
        .args(commands.iter().flat_map(|command| ["-ex", command]))
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .output();
    output.map_or(String::new(), |o| {
        String::from_utf8_lossy(&o.stdout).into_owned()
    })
}

/// Whether gdb supports the dump's processor.
fn knows(program: &Path, served: &Served) -> bool {
    let command = format!("set architecture {}", served.gdb_architecture());
    answer(program, &[&format!("complete {command}")])
        .lines()
        .any(|line| line == command)
}

/// Frames after which gdb stops a backtrace. A kernel stack has fewer.
const FRAMES: u32 = 256;

/// Seconds that gdb waits for an answer of the server. After its own 2 seconds, which a busy machine
/// exceeds, gdb repeats a packet and then disconnects.
const PATIENCE: u32 = 60;

/// A path that cannot be used in a debugger command, and why.
type Refused = (PathBuf, String);

/// Builds the command line of gdb. A gdb without FreeBSD's ABI needs `set osabi none` before it
/// reads the kernel, which names that ABI; otherwise it rejects the registers.
fn gdb(
    command: &mut Command,
    program: &Path,
    served: &Served,
    socket: &Path,
) -> Result<(), Refused> {
    command.arg("-q");
    // gdb 10 introduced `with`.
    let knows = answer(
        program,
        &["complete set osabi FreeBSD", "complete with confirm"],
    );
    let with_freebsd = knows.contains("set osabi FreeBSD");
    if !with_freebsd {
        command.args(["-iex", "set osabi none"]);
    }
    // A gdb that does not recognize a kernel's trap frames, on arm64 above all, repeats the last
    // frame until it reaches unmapped memory.
    command.args(["-iex", &format!("set backtrace limit {FRAMES}")]);
    command.args(["-iex", &format!("set remotetimeout {PATIENCE}")]);
    command.arg(served.kernel_path());
    // `monitor` commands apply to the thread that is selected in gdb, not to the one whose
    // registers gdb fetched last.
    let hook =
        "python gdb.execute('define hook-monitor\\neval \"monitor thread %d\", $_thread\\nend')";
    command.args(["-iex", hook]);
    // gdb takes the rest of this command as the socket's path, spaces included.
    let socket = plain(socket).map_err(|why| (socket.to_owned(), why))?;
    command.arg("-ex").arg(format!("target remote {socket}"));
    // Without the ABI, gdb loads the modules itself. With it, gdb would ask for confirmation of
    // each.
    let modules = served.module_files();
    if with_freebsd && !modules.is_empty() {
        let with = knows.contains("with confirm");
        if !with {
            command.args(["-ex", "set confirm off"]);
        }
        let before = if with { "with confirm off -- " } else { "" };
        for module in modules {
            command
                .arg("-ex")
                .arg(before.to_owned() + &module.command());
        }
        if !with {
            command.args(["-ex", "set confirm on"]);
        }
    }
    Ok(())
}

/// Builds the command line of kgdb(1), which finds the modules through the kernel's own list.
fn kgdb(command: &mut Command, served: &Served, socket: &Path) -> Result<(), Refused> {
    // kgdb builds debugger commands from both paths.
    let plain = |path: &Path| match plain(path) {
        Ok(text) => Ok(text.to_owned()),
        Err(why) => Err((path.to_owned(), why)),
    };
    command.args(["-q", "-r", &plain(socket)?, &plain(served.kernel_path())?]);
    Ok(())
}

fn lldb(command: &mut Command, served: &Served, socket: &Path) -> Result<(), Refused> {
    let kernel = served.kernel_path();
    let kernel = quoted(kernel).map_err(|why| (kernel.to_owned(), why))?;
    let socket = plain(socket).map_err(|why| (socket.to_owned(), why))?;
    let mut run = |line: String| {
        command.arg("-o").arg(line);
    };
    run(format!("target create {kernel}"));
    run(format!("process connect \"unix-connect://{socket}\""));
    // lldb has already read the modules' files, but does not know where their sections are loaded.
    for module in served.module_files() {
        run(module.lldb_command());
    }
    Ok(())
}
