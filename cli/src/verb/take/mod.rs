//! `livecore take`: a minidump of a machine, as its own kernel would have written it.
//!
//! An emulated machine, an image of memory, and this system walked from user space (`--walk`) are
//! planned here and read while the dump is written. Without any of them the running kernel writes
//! the dump itself, and what it has written is stored.

mod listener;

use std::num::NonZeroU32;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use clap::ValueEnum;
use livecore_compress::Codec;
use livecore_kernel::locate::identify;
use livecore_livedump::emulated::state::{DumpLock, State};
use livecore_livedump::image::{self, RawLayout};
use livecore_livedump::mem4::{Access, FreeBsd};
use livecore_livedump::publish::{Destination, Output};
use livecore_livedump::qmp::{Client, Guest};
use livecore_livedump::take::running::{bootfile, running};
use livecore_livedump::take::{
    self, GuestSource, LiveKernel, Pausing, PlanOptions, RunOptions, Source, TakeError,
};
use livecore_minidump::convert::Target;
use livecore_minidump::{Container, KernelElf};

use crate::args::{CodecArgs, ContainerArg};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::session::Session;
use crate::{emulated, guard, input, output};
use listener::Listener;

/// The device that a live dump's `info.N` names.
const DEVICE: &str = "/dev/mem";

const MANUAL: &str = "\
Examples:
  livecore take -o /var/crash/                          the running kernel, on FreeBSD
  livecore take --image guest.elf --kernel kernel       a guest's memory, to ./livecore.N.zst
  livecore take --image ram --layout pc --kernel kernel -o vmcore
  livecore take --qmp qmp.sock --kernel kernel --pause -o vmcore.zst
  livecore take --qmp qmp.sock --kernel kernel --pause=whole -o - --zstd | ssh host 'cat > dump.zst'
  livecore take --machine tiny.toml -o - --zstd | ssh host 'cat > dump.zst'

A directory gets what savecore(8) leaves there: livecore.N[.gz|.zst], info.N, bounds, minfree is \
kept, livecore.last points to the newest. Dumps go there compressed with zstd unless an option says \
otherwise; for a file its suffix decides. Nothing has its name before it is whole and synced.";

/// How a guest that shares its memory is paused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum PauseArg {
    /// Copied while it runs, compared while it is paused
    Changed,
    /// Paused while the dump is read and written
    Whole,
}

/// What is asked for.
#[derive(Debug, clap::Args)]
#[command(after_help = MANUAL)]
#[command(group = clap::ArgGroup::new("source").args(["machine", "image", "walk", "qmp"]))]
pub struct Args {
    /// An emulated machine (docs/machines.md), made while it is dumped
    #[arg(long, value_name = "MACHINE.toml", conflicts_with = "kernel")]
    pub machine: Option<PathBuf>,
    /// A machine's memory: raw RAM, a dump of QEMU's, kdump, LiME, AVML, a core of VirtualBox's or
    /// Xen's, VMware's, bhyve's (docs/images.md), also gzip'd or zstd'd; or a directory of synth's
    #[arg(long, value_name = "IMAGE")]
    pub image: Option<PathBuf>,
    /// What the offsets of raw RAM mean: flat, pc or q35 (QEMU's machines), pc:SIZE (so much below
    /// a hole that ends at 4 GiB), or START-END or START-END@OFFSET with commas between [default: found]
    #[arg(long, value_name = "LAYOUT", requires = "image", conflicts_with_all = ["machine", "walk"])]
    pub layout: Option<RawLayout>,
    /// A guest of QEMU's: its control socket (QMP). Its memory is read through the file that it
    /// shares, or, with --pause, written by QEMU (docs/guests.md)
    #[arg(long, value_name = "SOCKET")]
    pub qmp: Option<PathBuf>,
    /// Pause the guest, which then gives one moment: for as long as it takes to look at its memory
    /// once more (changed, with a spool as large as the dump), or to read and write the dump (whole,
    /// without one). If it shares no memory, for as long as QEMU writes it. It goes on afterwards,
    /// even when livecore is killed
    #[arg(
        long,
        value_enum,
        value_name = "HOW",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "changed",
        requires = "qmp"
    )]
    pub pause: Option<PauseArg>,
    /// Seconds in which QEMU has to answer
    #[arg(
        long,
        value_name = "SECONDS",
        requires = "qmp",
        default_value_t = 10,
        value_parser = clap::value_parser!(u32).range(1..)
    )]
    pub qmp_timeout: u32,
    /// This system, from user space: memory through /dev/mem, symbols from kern.bootfile or
    /// --kernel. Can be interrupted, and can write to a pipe
    #[arg(long)]
    pub walk: bool,
    /// The kernel that runs in the image or guest, or with --walk here: its ELF file
    #[arg(short = 'k', long, value_name = "ELF")]
    pub kernel: Option<PathBuf>,
    /// This system, compressed by its own kernel: one stream, to a saved or raw file
    #[arg(long, conflicts_with_all = ["source", "kernel", "level", "frame_size"])]
    pub kernel_compress: bool,
    /// How to compress: zstd unless the name of the file says otherwise.
    #[command(flatten)]
    pub codec: CodecArgs,
    /// How payload and header are laid in the file
    #[arg(
        short = 'O',
        long,
        value_enum,
        value_name = "CONTAINER",
        default_value = "sealed"
    )]
    pub container: ContainerArg,
    /// The minidump's version, for readers that expect it [default: the one that the kernel writes itself]
    #[arg(long, value_name = "N")]
    pub format_version: Option<u32>,
    /// The thread on the image's CPU N counts as the one that dumped (dumptid, dumppcb) [default: the
    /// CPU in the kernel's debugger, or the only one that is not stopped, or the first]
    #[arg(
        long,
        value_name = "N",
        conflicts_with_all = ["no_cpu_state", "machine", "walk"]
    )]
    pub cpu: Option<u32>,
    /// Leave dumptid, dumppcb, stoppcbs and stopped_cpus as they are in memory, though the image has
    /// the CPUs' registers
    #[arg(long, conflicts_with_all = ["machine", "walk"])]
    pub no_cpu_state: bool,
    /// Memory that changes: read it again, at most N times, until nothing changes; torn pages are
    /// counted (0: only counted), and the time that it took is told in info.N and in the seal
    #[arg(long, value_name = "N")]
    pub converge: Option<u32>,
    /// Numbers below N are used in turn; our own dumps of a number are replaced
    #[arg(short, long, value_name = "N")]
    pub max: Option<NonZeroU32>,
    /// Replace OUT if it is a file that exists
    #[arg(short, long)]
    pub force: bool,
    /// A directory, for livecore.N with info.N and bounds; a file; or `-` for standard output
    #[arg(short, long, value_name = "OUT", default_value = ".")]
    pub out: PathBuf,
    /// Say what was written as one JSON object (docs/json.md)
    #[arg(long)]
    pub json: bool,
}

impl Args {
    /// Whether the running kernel writes the dump itself.
    fn is_live(&self) -> bool {
        self.machine.is_none() && self.image.is_none() && self.qmp.is_none() && !self.walk
    }
}

/// Takes the dump.
pub fn run(args: &Args, session: &mut Session<'_>) -> Result<(), Failure> {
    let destination = Destination::parse(&args.out);
    output::check_stdout(&destination, args.json, session)?;
    let default = match &destination {
        Destination::Directory(_) => Codec::Zstd,
        _ => output::codec_of_name(&args.out),
    };
    output::check_suffix(&args.out, &args.codec, session)?;
    let target = output::target(&args.codec, args.container, default)?;
    if args.is_live() {
        check_live(args, &destination, &target)?;
    }
    let options = RunOptions {
        plan: PlanOptions {
            version: args.format_version,
        },
        device: DEVICE.into(),
        force: args.force,
        max: args.max,
        cpu_state: !args.no_cpu_state,
        cpu: args.cpu,
        converge: args.converge,
        // Where there is space for the dump, there is space for what it is made of.
        spool_dir: match destination.directory() {
            Some(directory) => directory.into(),
            // As large as the dump, and /tmp may be memory.
            None if args.is_live() => {
                std::env::var_os("TMPDIR").map_or_else(|| "/var/tmp".into(), PathBuf::from)
            }
            None => session.env.spool_dir.clone(),
        },
        ..RunOptions::new(target)
    };
    // Before the work: whether its result has a place at all.
    let pending = output::begin(&destination, &options.publish(None))?;
    let Machine {
        source,
        name,
        _lock,
    } = machine(args, session)?;
    let show = session.show().unless(args.json);
    let mut listener = Listener {
        name: &name,
        voice: &session.voice,
        interrupt: &session.env.interrupt,
        show,
    };
    let output = match pending {
        Some(pending) => Output::Begun(pending),
        None => Output::Stream(&mut session.out),
    };
    let done = take::run(source, output, &options, &mut listener)
        .map_err(|e| Failure::from(e).about(&name))?;
    output::tell_missing(done.missing, &name, session);
    if !args.json {
        for line in done.written.provenance.info_lines().lines() {
            session.voice.say(line.trim_start());
        }
    }
    output::report(&done.written, done.published, &target, done.took).tell(args.json, session)
}

/// Refuses what the running kernel cannot do when it writes the dump itself.
fn check_live(args: &Args, destination: &Destination, target: &Target) -> Result<(), Failure> {
    if args.kernel.is_some() || args.format_version.is_some() {
        return Err(Failure::usage(
            "the running kernel dumps itself: --kernel and --format-version go with --walk, --image \
             or --machine",
        ));
    }
    // Asked for its answer elsewhere than on FreeBSD.
    own_kernel()?;
    if !args.kernel_compress {
        return Ok(());
    }
    if target.container == Container::Sealed || target.encoding.codec == Codec::None {
        return Err(Failure::usage(
            "--kernel-compress writes one gzip or zstd stream: say -z or -Z, and --container saved or \
             raw",
        ));
    }
    if destination.is_stdout() {
        return Err(Failure::usage("a kernel compresses into a file").next("name one with -o"));
    }
    Ok(())
}

/// What is dumped, the name under which people know it, and what is locked while it is dumped.
struct Machine {
    source: Source,
    name: PathBuf,
    _lock: Option<DumpLock>,
}

impl Machine {
    fn new(source: Source, name: &Path) -> Self {
        Self {
            source,
            name: name.into(),
            _lock: None,
        }
    }
}

fn machine(args: &Args, session: &mut Session<'_>) -> Result<Machine, Failure> {
    if let Some(path) = &args.machine {
        let machine = emulated::machine(path, session)?;
        let elf = KernelElf::from_bytes(machine.kernel().to_vec())
            .map_err(|e| Failure::from(e).about(path))?;
        let source = Source::memory(machine.memory(), Arc::new(elf));
        return Ok(Machine::new(source, path));
    }
    if let Some(socket) = &args.qmp {
        return guest(args, socket, session);
    }
    if args.walk {
        let path = match &args.kernel {
            Some(path) => path.clone(),
            None => own_kernel()?,
        };
        let elf = input::kernel(&path)?;
        let device = FreeBsd::open(Access::READ)
            .map_err(|e| Failure::from(TakeError::from(e)).about(DEVICE.as_ref()))?;
        let machine = running(Arc::new(device), &elf).map_err(|e| Failure::from(e).about(&path))?;
        let elf = Arc::new(elf);
        return Ok(Machine::new(
            Source::Machine { machine, elf },
            DEVICE.as_ref(),
        ));
    }
    let Some(path) = &args.image else {
        let device = FreeBsd::open(Access::READ)
            .map_err(|e| Failure::from(TakeError::from(e)).about(DEVICE.as_ref()))?;
        let source = Source::Kernel {
            kernel: LiveKernel::new(device),
            compress: args.kernel_compress,
        };
        return Ok(Machine::new(source, DEVICE.as_ref()));
    };
    let options = image::Options {
        layout: args.layout.clone(),
        kernel_is_asked: args.kernel.is_some() || session.env.kernel.is_some(),
        ..session.image_options()
    };
    let mut opened = image::open(path, &options).map_err(|e| Failure::from(e).about(path))?;
    let lock = State::beside(&opened.ram)
        .lock_dump()
        .map_err(|e| Failure::from(TakeError::from(e)).about(path))?;
    let kernel = args.kernel.as_ref().or(opened.kernel.as_ref());
    let kernel = kernel.or(session.env.kernel.as_ref());
    let elf = kernel.map(|kernel| input::kernel(kernel)).transpose()?;
    if let Some(elf) = &elf {
        take::settle(&mut opened, elf).map_err(|e| Failure::from(e).about(path))?;
    }
    for note in &opened.notes {
        let line = format_args!("{}: {note}", path.display());
        session.voice.say(line);
    }
    let Some(elf) = elf else {
        return Err(without_kernel(&opened.memory).about(path));
    };
    let source = Source::Memory {
        memory: opened.memory,
        cpus: opened.cpus,
        elf: Arc::new(elf),
    };
    Ok(Machine {
        _lock: Some(lock),
        ..Machine::new(source, path)
    })
}

/// A guest of QEMU's, and how it may be held.
fn guest(args: &Args, socket: &Path, session: &Session<'_>) -> Result<Machine, Failure> {
    let Some(kernel) = args.kernel.as_ref().or(session.env.kernel.as_ref()) else {
        return Err(Failure::usage("--qmp needs --kernel ELF"));
    };
    let elf = input::kernel(kernel)?;
    let timeout = Duration::from_secs(args.qmp_timeout.into());
    let interrupt = session.env.interrupt.clone();
    let stop = move || interrupt.raised().is_some();
    let client = Client::connect_until(socket, timeout, Arc::new(stop))
        .map_err(|e| Failure::from(TakeError::from(e)).about(socket))?;
    let guest = GuestSource {
        guest: Guest::new(client),
        pausing: args.pause.map(|pause| match pause {
            PauseArg::Changed => Pausing::Compare,
            PauseArg::Whole => Pausing::Read,
        }),
        guard: guard::command("qmp-guard")?,
    };
    let elf = Arc::new(elf);
    Ok(Machine::new(Source::Guest { guest, elf }, socket))
}

/// What is said of an image whose kernel nobody has named.
fn without_kernel(memory: &Arc<dyn livecore_minidump::PhysMemory>) -> Failure {
    let found = identify(memory).sentences().join("; ");
    let what = format!("a minidump needs the kernel's file, and none is named; {found}");
    Failure::new(Exit::UNSUPPORTED, what).next(
        "say --kernel ELF, the kernel of that release (a file with its symbols alone will do); \
         without symbols memory can be read by physical address only",
    )
}

/// The file of the kernel that runs here. Elsewhere than on FreeBSD there is none to be dumped.
fn own_kernel() -> Result<PathBuf, Failure> {
    match bootfile() {
        Ok(path) => Ok(path.into()),
        Err(e) if e.kind() == std::io::ErrorKind::Unsupported => {
            let what = "no machine is named, and a dump of this system itself needs FreeBSD";
            Err(Failure::new(Exit::UNSUPPORTED, what).next(
                "say --machine MACHINE.toml, --image IMAGE --kernel ELF, or --qmp SOCKET --kernel ELF",
            ))
        }
        Err(e) => {
            Err(Failure::could_not(format_args!("kern.bootfile: {e}")).next("say --kernel ELF"))
        }
    }
}
