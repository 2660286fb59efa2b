//! `livecore take`: takes a minidump of a machine, as its own kernel would write it.
//!
//! For an emulated machine, a memory image, a guest and `--walk`, livecore plans the dump and reads
//! memory while it writes. Otherwise the running kernel writes the dump, and livecore stores it.

mod check;
mod listener;

use std::num::NonZeroU32;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use clap::ValueEnum;
use livecore_compress::Codec;
use livecore_kernel::locate::identify;
use livecore_livedump::emulated::{DumpLock, State};
use livecore_livedump::gdb;
use livecore_livedump::image::{self, RawLayout};
use livecore_livedump::mem4::{Access, FreeBsd};
use livecore_livedump::publish::{Destination, Output, info};
use livecore_livedump::qmp::{Client, Guest};
use livecore_livedump::sys::syslog::{self, Severity};
use livecore_livedump::take::{
    self, Done, GuestSource, LiveKernel, Pausing, PlanOptions, RunOptions, Source, TakeError,
};
use livecore_livedump::take::{bootfile, check_kernel, running};
use livecore_minidump::convert::Target;
use livecore_minidump::{Container, KernelElf};

use crate::args::{CodecArgs, ContainerArg, EncryptArgs};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::id::Id;
use crate::output::Begun;
use crate::remote::is_remote;
use crate::session::Session;
use crate::{emulated, guard, input, keys, output, published};
use listener::Listener;

/// The device that a live dump's `info.N` names.
const DEVICE: &str = "/dev/mem";

const MANUAL: &str = "\
Examples:
  livecore take -o /var/crash/                          dump this FreeBSD system
  livecore take --image guest.elf --kernel kernel       from a memory image to ./livecore.N.zst
  livecore take --image ram --layout pc --kernel kernel -o vmcore
  livecore take --qmp qmp.sock --kernel kernel --pause -o vmcore.zst
  livecore take --qmp qmp.sock --kernel kernel --pause=whole -o - --zstd | ssh host 'cat > dump.zst'
  livecore take --gdb localhost:1234 --kernel kernel -o vmcore.zst
  livecore take --machine tiny.toml -o - --zstd | ssh host 'cat > dump.zst'

If OUT is a directory, livecore writes what savecore(8) writes: livecore.N[.gz|.zst], info.N and bounds; \
it respects minfree and links livecore.last to the newest dump. Dumps in a directory are compressed with \
zstd by default; for a file the suffix selects the codec. Files appear under their final name only when \
complete and synced.";

/// How a guest that shares its memory is paused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum PauseArg {
    /// Pause briefly to recopy pages that changed during the copy
    Changed,
    /// Pause for the entire dump
    Whole,
}

/// Arguments of `livecore take`.
#[derive(Debug, clap::Args)]
#[command(after_help = MANUAL)]
#[command(group = clap::ArgGroup::new("source").args(["machine", "image", "walk", "qmp", "gdb"]))]
pub struct Args {
    /// Emulated machine to dump
    ///
    /// MACHINE.toml is a machine description (docs/machines.md).
    #[arg(long, value_name = "MACHINE.toml", conflicts_with = "kernel")]
    pub machine: Option<PathBuf>,
    /// Memory image to dump
    ///
    /// Raw memory, or a file that QEMU (ELF or kdump), makedumpfile, LiME, AVML, VirtualBox, Xen,
    /// VMware or bhyve wrote, also compressed with gzip or zstd (docs/images.md); or a directory
    /// written by `synth --out`.
    #[arg(long, value_name = "IMAGE")]
    pub image: Option<PathBuf>,
    /// Layout of a raw memory image [default: detected]
    ///
    /// flat, pc or q35 (QEMU's machines), pc:SIZE (SIZE bytes below a hole that ends at 4 GiB), or
    /// a list of START-END or START-END@OFFSET, separated by commas.
    #[arg(long, value_name = "LAYOUT", requires = "image", conflicts_with_all = ["machine", "walk"])]
    pub layout: Option<RawLayout>,
    /// Dump a QEMU guest through its QMP control socket
    ///
    /// ADDRESS is the path of a Unix socket, HOST:PORT, or the name of a running domain of libvirt.
    ///
    /// Reads the file with the guest's memory if QEMU shares it (share=on). Otherwise --pause is
    /// required, and QEMU writes the memory to a temporary file (docs/guests.md).
    #[arg(long, value_name = "ADDRESS")]
    pub qmp: Option<PathBuf>,
    /// Pause the guest so that the dump is a consistent snapshot
    ///
    /// `changed`: copy while it runs, then pause briefly to recopy changed pages (needs temporary
    /// space the size of the dump). `whole`: pause for the entire dump. If the guest's memory is not
    /// shared, the guest is paused while QEMU writes it. The guest is always resumed, even if
    /// livecore is killed.
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
    /// Time limit for each answer of QEMU, in seconds [default: 10]
    #[arg(
        long,
        value_name = "SECONDS",
        requires = "qmp",
        value_parser = clap::value_parser!(u32).range(1..)
    )]
    pub qmp_timeout: Option<u32>,
    /// Dump a guest through the gdb stub of bhyve or QEMU
    ///
    /// ADDRESS is HOST:PORT, unix:PATH, or the path of a Unix socket.
    ///
    /// The stub pauses the guest until its memory is read; then the guest runs again. All memory is
    /// sent over the connection (docs/guests.md).
    #[arg(long, value_name = "ADDRESS")]
    pub gdb: Option<PathBuf>,
    /// Time limit for each answer of the gdb stub, in seconds [default: 10]
    #[arg(
        long,
        value_name = "SECONDS",
        requires = "gdb",
        value_parser = clap::value_parser!(u32).range(1..)
    )]
    pub gdb_timeout: Option<u32>,
    /// Dump this system from user space, through /dev/mem
    ///
    /// Symbols come from kern.bootfile or --kernel. Unlike a dump by the kernel, this can be
    /// interrupted and can write to a pipe.
    #[arg(long)]
    pub walk: bool,
    /// ELF file of the kernel in the image or guest, or of --walk
    #[arg(short = 'k', long, value_name = "ELF")]
    pub kernel: Option<PathBuf>,
    /// Let the running kernel compress the dump
    ///
    /// The result is a single compressed stream in a saved or raw file.
    #[arg(long, conflicts_with_all = ["source", "kernel", "level", "frame_size", "encrypt"])]
    pub kernel_compress: bool,
    /// The codec: zstd unless the file's suffix selects another.
    #[command(flatten)]
    pub codec: CodecArgs,
    /// The encryption.
    #[command(flatten)]
    pub encryption: EncryptArgs,
    /// Container format of the file
    #[arg(
        short = 'O',
        long,
        value_enum,
        value_name = "CONTAINER",
        default_value = "sealed"
    )]
    pub container: ContainerArg,
    /// Version of the minidump format [default: the kernel's own]
    #[arg(long, value_name = "N")]
    pub format_version: Option<u32>,
    /// CPU to record as the one that dumped
    ///
    /// Sets dumptid and dumppcb in the dump. [default: the CPU in the kernel debugger, or the only
    /// one not stopped, or the first]
    #[arg(
        long,
        value_name = "N",
        conflicts_with_all = ["no_cpu_state", "machine", "walk"]
    )]
    pub cpu: Option<u32>,
    /// Do not add the CPUs' registers to the dump
    ///
    /// Leaves dumptid, dumppcb, stoppcbs and stopped_cpus as they are in memory.
    #[arg(long, conflicts_with_all = ["machine", "walk"])]
    pub no_cpu_state: bool,
    /// Reread changing memory up to N times; count torn pages
    ///
    /// Rereads until no page changes. 0 only counts torn pages: pages that changed while they were
    /// read. info.N and the seal record their number and the time of the copy.
    #[arg(long, value_name = "N")]
    pub converge: Option<u32>,
    /// Rotate numbers 0..N-1, replacing older livecore dumps
    #[arg(short, long, value_name = "N")]
    pub max: Option<NonZeroU32>,
    /// Replace OUT if it is an existing file
    ///
    /// A symbolic link is replaced; its target is not changed.
    #[arg(short, long)]
    pub force: bool,
    /// Output directory or file; `-` for standard output
    #[arg(short, long, value_name = "OUT", default_value = ".")]
    pub out: PathBuf,
    /// Do not verify a dump of this system after writing it
    ///
    /// By default, livecore checks the published file as `verify --quick` does (a stream that
    /// the kernel compressed, as `verify` does), and compares its pages with those that the kernel
    /// has marked for dumps. If a check fails, it keeps the dump and exits with 2.
    #[arg(long, conflicts_with_all = ["machine", "image", "qmp", "gdb"])]
    pub no_verify: bool,
    /// Print a JSON report of what was written (docs/json.md)
    #[arg(long)]
    pub json: bool,
}

impl Args {
    /// Whether the running kernel writes the dump.
    fn is_live(&self) -> bool {
        self.is_this_system() && !self.walk
    }

    /// Whether the running system is dumped.
    fn is_this_system(&self) -> bool {
        let others = [&self.machine, &self.image, &self.qmp, &self.gdb];
        others.into_iter().all(Option::is_none)
    }
}

/// Runs the verb. Dumps of the running system are logged, as savecore(8) does.
pub(crate) fn run(args: &Args, session: &mut Session<'_>) -> Result<(), Failure> {
    let result = take(args, session);
    if let Err(failure) = &result
        && args.is_this_system()
        && failure.exit() == Exit::COULD_NOT
    {
        syslog::log(Severity::Error, &failure.to_string());
    }
    result
}

fn take(args: &Args, session: &mut Session<'_>) -> Result<(), Failure> {
    // clap ignores `requires` if the required option conflicts with another one.
    if args.gdb.is_none() && args.gdb_timeout.is_some() {
        let failure = Failure::usage("--gdb-timeout needs --gdb ADDRESS");
        return Err(failure.id_is(Id::ConflictingArguments));
    }
    if args.qmp.is_none() && (args.pause.is_some() || args.qmp_timeout.is_some()) {
        let failure = Failure::usage("--pause and --qmp-timeout need --qmp ADDRESS");
        return Err(failure.id_is(Id::ConflictingArguments));
    }
    let destination = Destination::parse(&args.out);
    output::check_stdout(&destination, args.json, session)?;
    let default = match &destination {
        Destination::Directory(_) => Codec::Zstd,
        _ => livecore_compress::Codec::of_path(&args.out),
    };
    output::check_suffix(&args.out, &args.codec, session)?;
    let target = output::target(&args.codec, args.container, default, session)?;
    let encryption = keys::encryption(&args.encryption, &target)?;
    if args.is_live() {
        check_live(args, &destination, &target)?;
    }
    let options = RunOptions::new(target)
        .plan(PlanOptions::default().version(args.format_version))
        .device(DEVICE)
        .force(args.force)
        .max(args.max)
        .cpu_state(!args.no_cpu_state)
        .cpu(args.cpu)
        .converge(args.converge)
        .encryption(encryption)
        // A file system with space for the dump has space for its temporary files.
        .spool_dir(match destination.directory() {
            Some(directory) if !is_device(&args.out) && !is_remote(&args.out) => directory.into(),
            // The spool file is as large as the dump, and /tmp may be in memory.
            _ if args.is_live() => {
                std::env::var_os("TMPDIR").map_or_else(|| "/var/tmp".into(), PathBuf::from)
            }
            _ => session.env.spool_dir.clone(),
        });
    // Check the destination before the work.
    let begun = output::begin(&destination, &options.publish(None), session)?;
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
    let mut upload = None;
    let output = match begun {
        Begun::File(pending) => Output::Begun(*pending),
        Begun::Stdout => Output::Stream(&mut session.out),
        Begun::Object(begun) => Output::Stream(&mut **upload.insert(begun)),
    };
    let done = take::run(source, output, &options, &mut listener);
    let done = match upload {
        Some(upload) => {
            let done = done.map_err(|e| match upload.failure() {
                Some(failure) => failure,
                None => Failure::from(e).about(&name),
            })?;
            let published = output::complete(*upload, &done.written)?;
            Done { published, ..done }
        }
        None => done.map_err(|e| Failure::from(e).about(&name))?,
    };
    output::warn_missing_pages(done.missing, &name, session);
    if !args.json {
        for line in done.written.provenance.info_lines().lines() {
            session.voice.say(Id::InfoLine, line.trim_start());
        }
    }
    let number = done.published.number.unwrap_or(0);
    for line in info::of_written(&done.written, &options.device, number).lines() {
        session.voice.detail(Id::InfoLine, line);
    }
    let path = done.published.path.clone();
    if args.is_this_system() {
        syslog::log(Severity::Alert, "livedump");
        let line = published::log_line(
            &path,
            args.encryption.encrypt.is_some(),
            target.encoding.codec,
        );
        syslog::log(Severity::Notice, &line);
    }
    output::report(&done.written, done.published, &target, done.took).print(args.json, session)?;
    if args.is_this_system() && !args.no_verify {
        if let Some(lacking) = done.lacking {
            check::lacking(&path, lacking, session);
        }
        // A pipe or a device cannot be read again.
        if path.is_file() {
            published::check(&path, args.kernel_compress, session)?;
        }
    }
    Ok(())
}

/// Whether `path` is a device, such as /dev/null: its directory is not one for large files.
fn is_device(path: &Path) -> bool {
    path.metadata()
        .is_ok_and(|found| !found.is_file() && !found.is_dir())
}

/// Fails for options that a dump by the running kernel does not support.
fn check_live(args: &Args, destination: &Destination, target: &Target) -> Result<(), Failure> {
    if args.kernel.is_some() || args.format_version.is_some() {
        return Err(Failure::usage(
            "--kernel and --format-version need --walk, --image or --machine: the running kernel writes its own \
             dump",
        ).id_is(Id::ConflictingArguments));
    }
    // Fails on systems other than FreeBSD.
    own_kernel()?;
    if !args.kernel_compress {
        return Ok(());
    }
    if target.container == Container::Sealed || target.encoding.codec == Codec::None {
        return Err(Failure::usage(
            "--kernel-compress writes one gzip or zstd stream; use -z or -Z with --container saved or raw",
        ).id_is(Id::ConflictingArguments));
    }
    if destination.is_stdout() || is_remote(&args.out) {
        return Err(Failure::usage(
            "--kernel-compress cannot write to standard output or an object store",
        )
        .id_is(Id::ConflictingArguments)
        .next("use -o FILE"));
    }
    Ok(())
}

/// What to dump, its name in messages, and the lock on it.
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
    if let Some(address) = &args.gdb {
        return stub(args, address, session);
    }
    if args.walk {
        let path = match &args.kernel {
            Some(path) => path.clone(),
            None => own_kernel()?,
        };
        let elf = input::kernel(&path, session.env.memory)?;
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
        let mut kernel = LiveKernel::new(device);
        if !args.no_verify && !args.kernel_compress {
            kernel = comparing(kernel, session);
        }
        let source = Source::Kernel {
            kernel,
            compress: args.kernel_compress,
        };
        return Ok(Machine::new(source, DEVICE.as_ref()));
    };
    let options = session
        .image_options()
        .layout(args.layout.clone())
        .kernel_is_asked(args.kernel.is_some() || session.env.kernel.is_some());
    let mut opened = image::open(path, &options).map_err(|e| Failure::from(e).about(path))?;
    let lock = State::next_to(&opened.ram)
        .lock_dump()
        .map_err(|e| Failure::from(TakeError::from(e)).about(path))?;
    let kernel = args.kernel.as_ref().or(opened.kernel.as_ref());
    let kernel = kernel.or(session.env.kernel.as_ref());
    let elf = kernel
        .map(|kernel| input::kernel(kernel, session.env.memory))
        .transpose()?;
    if let Some(elf) = &elf {
        take::settle(&mut opened, elf).map_err(|e| Failure::from(e).about(path))?;
    }
    for note in &opened.notes {
        let line = format_args!("{}: {note}", path.display());
        session.voice.say(Id::Image, line);
    }
    session.warn_of_memory(path, &opened.memory);
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

/// `kernel`, whose dump is compared with the pages that it has marked if the kernel file can be read.
fn comparing(kernel: LiveKernel, session: &Session<'_>) -> LiveKernel {
    let opened = || {
        let path = own_kernel()?;
        let elf = input::kernel(&path, session.env.memory)?;
        let device = FreeBsd::open(Access::READ).map_err(TakeError::from)?;
        check_kernel(&device, &elf).map_err(|e| Failure::from(TakeError::from(e)).about(&path))?;
        Ok::<_, Failure>((device, elf))
    };
    match opened() {
        Ok((device, elf)) => kernel.comparing(Arc::new(device), Arc::new(elf)),
        Err(failure) => {
            let line = format_args!(
                "will not compare the dump with the pages that the kernel has marked: {failure}"
            );
            session.voice.detail(Id::NotCompared, line);
            kernel
        }
    }
}

/// The guest whose QEMU serves `socket`, with the requested kind of pause.
fn guest(args: &Args, socket: &Path, session: &Session<'_>) -> Result<Machine, Failure> {
    let Some(kernel) = args.kernel.as_ref().or(session.env.kernel.as_ref()) else {
        return Err(Failure::usage("--qmp needs --kernel ELF").id_is(Id::NoKernelFile));
    };
    let elf = input::kernel(kernel, session.env.memory)?;
    let timeout = Duration::from_secs(args.qmp_timeout.unwrap_or(10).into());
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

/// The guest whose gdb stub serves `address`. It is paused from now on.
fn stub(args: &Args, address: &Path, session: &Session<'_>) -> Result<Machine, Failure> {
    let Some(kernel) = args.kernel.as_ref().or(session.env.kernel.as_ref()) else {
        return Err(Failure::usage("--gdb needs --kernel ELF").id_is(Id::NoKernelFile));
    };
    let elf = Arc::new(input::kernel(kernel, session.env.memory)?);
    let timeout = Duration::from_secs(args.gdb_timeout.unwrap_or(10).into());
    let interrupt = session.env.interrupt.clone();
    let stop = move || interrupt.raised().is_some();
    let client = gdb::Client::connect(address, timeout, Arc::new(stop));
    let guest = client
        .and_then(gdb::Guest::attach)
        .map_err(|e| Failure::from(TakeError::from(e)).about(address))?;
    Ok(Machine::new(Source::Stub { guest, elf }, address))
}

/// The failure for an image without a kernel file.
fn without_kernel(memory: &Arc<dyn livecore_minidump::PhysMemory>) -> Failure {
    let found = identify(memory).sentences().join("; ");
    let what = format!("no kernel file given; {found}");
    Failure::new(Exit::UNSUPPORTED, what).id_is(Id::NoKernelFile).next(
        "use --kernel ELF with the kernel of that build (a file with only its symbols is sufficient); \
         without a kernel, only `livecore mem read` by physical address works",
    )
}

/// The file of the running kernel. Fails on systems other than FreeBSD.
fn own_kernel() -> Result<PathBuf, Failure> {
    match bootfile() {
        Ok(path) => Ok(path.into()),
        Err(e) if e.kind() == std::io::ErrorKind::Unsupported => {
            let what = "no source given, and this system is not FreeBSD";
            Err(Failure::new(Exit::UNSUPPORTED, what).id_is(Id::NeedsFreebsd).next(
                "use --machine MACHINE.toml, --image IMAGE --kernel ELF, or --qmp or --gdb ADDRESS --kernel ELF",
            ))
        }
        Err(e) => Err(
            Failure::could_not(format_args!("cannot read kern.bootfile: {e}"))
                .id_is(Id::NoKernelFile)
                .next("use --kernel ELF"),
        ),
    }
}
