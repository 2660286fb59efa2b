//! `livecore gdb DUMP`: the debugger that is installed, connected to a dump.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use livecore_livedump::sys::signals::pass_over_interrupts;

use crate::args::KernelAndDump;
use crate::failure::Failure;
use crate::input::KernelArgs;
use crate::served;
use crate::session::Session;
use crate::transport::Listener;
use livecore_serve::Served;
use livecore_serve::command::{plain, quoted};

const MANUAL: &str = "\
Starts kgdb, gdb, gdb-multiarch or lldb, the first of them that is installed and knows the dump's \
processor, on the dump's kernel, connected, with the symbols of the modules whose files are found; \
ends when it does. What stands behind -- is given to it.

Examples:
  livecore gdb livecore.0.zst
  livecore gdb vmcore.3.gz --kernel /boot/kernel.old/kernel -- -ex 'thread apply all bt'
  livecore gdb livecore.0.zst --debugger lldb -- --batch -o bt";

/// What is asked for.
#[derive(Debug, clap::Args)]
#[command(after_help = MANUAL)]
pub struct Args {
    /// Which dump.
    #[command(flatten)]
    pub dump: KernelAndDump,
    /// The kernel that was running
    #[command(flatten)]
    pub kernel: KernelArgs,
    /// The debugger to start: a name or a path that ends in kgdb, gdb, gdb-multiarch or lldb
    #[arg(long, value_name = "PROGRAM")]
    pub debugger: Option<PathBuf>,
    /// Zeros for pages that a short file has lost; said on standard error
    #[arg(long)]
    pub zero_tail: bool,
    /// Given to the debugger
    #[arg(last = true, value_name = "ARGS")]
    pub args: Vec<OsString>,
}

/// A debugger, by how it is spoken to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Kgdb,
    Gdb,
    Lldb,
}

/// Starts the debugger and waits for it.
pub fn run(args: &Args, session: &mut Session<'_>) -> Result<(), Failure> {
    let (dump, kernel) = args.dump.paths();
    let kernel = args.kernel.with(kernel)?;
    let served = served::open(dump, &kernel, args.zero_tail, session)?;
    let (program, kind) = choose(args, &served)?;
    let listener = Listener::private()?.patient();
    let socket = listener.path().map(Path::to_owned).unwrap_or_default();
    let mut command = Command::new(&program);
    let begun = match kind {
        Kind::Kgdb => kgdb(&mut command, &served, &socket),
        Kind::Gdb => gdb(&mut command, &program, &served, &socket),
        Kind::Lldb => lldb(&mut command, &served, &socket),
    };
    begun.map_err(|(path, why)| Failure::could_not(why).about(&path))?;
    for line in served.greeting() {
        session.voice.say(line);
    }
    command.args(&args.args);
    // Ctrl-C is the debugger's while it runs.
    pass_over_interrupts(true);
    let status = std::thread::scope(|scope| {
        scope.spawn(|| listener.serve(&served, false));
        let status = command.status();
        listener.stop();
        status
    });
    pass_over_interrupts(false);
    let status = status.map_err(|e| Failure::from(e).about(&program))?;
    if !status.success() {
        return Err(Failure::could_not(format_args!("ended with {status}")).about(&program));
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
                let what = "not a name of kgdb, gdb, gdb-multiarch or lldb";
                return Err(Failure::usage(what).about(program));
            }
        };
        return Ok((program.clone(), kind));
    }
    let names = [
        ("kgdb", Kind::Kgdb),
        ("gdb", Kind::Gdb),
        ("gdb-multiarch", Kind::Gdb),
        ("lldb", Kind::Lldb),
    ];
    for (name, kind) in names {
        let program = PathBuf::from(name);
        if installed(name) && (kind != Kind::Gdb || knows(&program, served)) {
            return Ok((program, kind));
        }
    }
    Err(Failure::could_not(format_args!(
        "no debugger for {} is installed",
        served.architecture()
    ))
    .next("install gdb-multiarch or lldb, or say --debugger PROGRAM"))
}

fn installed(name: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|directory| directory.join(name).is_file())
}

/// What a gdb answers to commands, run alone.
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

/// Whether a gdb knows the dump's processor.
fn knows(program: &Path, served: &Served) -> bool {
    let command = format!("set architecture {}", served.gdb_architecture());
    answer(program, &[&format!("complete {command}")])
        .lines()
        .any(|line| line == command)
}

/// More calls than a kernel's stack has room for.
const FRAMES: u32 = 256;

/// A path that cannot stand in a command, and why.
type Refused = (PathBuf, String);

/// gdb. One that does not know FreeBSD's ABI must be told before it meets the kernel's file, which
/// names it: it would reject the registers.
fn gdb(
    command: &mut Command,
    program: &Path,
    served: &Served,
    socket: &Path,
) -> Result<(), Refused> {
    command.arg("-q");
    // `with` came with gdb 10.
    let knows = answer(
        program,
        &["complete set osabi FreeBSD", "complete with confirm"],
    );
    let with_freebsd = knows.contains("set osabi FreeBSD");
    if !with_freebsd {
        command.args(["-iex", "set osabi none"]);
    }
    // Where such a gdb does not know a kernel's trap frames, arm64's above all, it repeats the last
    // frame until memory ends. A kernel's stack has no room for as many calls.
    command.args(["-iex", &format!("set backtrace limit {FRAMES}")]);
    command.arg(served.kernel_path());
    // `monitor` is about the thread that is selected here, not about the last one whose registers
    // gdb asked for.
    let hook =
        "python gdb.execute('define hook-monitor\\neval \"monitor thread %d\", $_thread\\nend')";
    command.args(["-iex", hook]);
    // The rest of this command is the socket, white space and all.
    let socket = plain(socket).map_err(|why| (socket.to_owned(), why))?;
    command.arg("-ex").arg(format!("target remote {socket}"));
    // Without the ABI gdb asks for the modules itself. It would ask its user about each.
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

/// kgdb(1): it finds the modules through the kernel's own list.
fn kgdb(command: &mut Command, served: &Served, socket: &Path) -> Result<(), Refused> {
    // It makes commands of both.
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
    // lldb has asked for the modules, and knows their files but not where their sections are.
    for module in served.module_files() {
        run(module.lldb_command());
    }
    Ok(())
}
