//! `livecore mount DUMP DIR`: mounts a dump as a read-only file system.

use std::path::PathBuf;

use super::Opened;
use crate::dump_args::NumberArg;
use crate::env::Env;
use crate::failure::Failure;
use crate::input::KernelArgs;

#[cfg(feature = "mount")]
pub(crate) use fuse::{Mounted, run};

const MANUAL: &str = "\
Mounts these files on DIR, an empty directory, so that any program can open a compressed dump:
  vmcore                     the uncompressed dump
  elf                        the ELF core of `livecore convert --to elf`
  physmem                    physical memory by address; missing pages are holes
  dmesg                      the kernel message buffer
  info.json                  the output of `livecore info --json`
  threads/TID/registers      the registers of a thread
  threads/TID/stack          its backtrace
  proc/PID/status, threads   a process and its thread ids

Only the user who mounts can read the files. When they can be read, livecore prints `mounted DIR`. It \
serves them until Ctrl-C, SIGTERM or umount(8), and unmounts DIR also if it is killed. Reading a damaged \
part of the dump fails with an input/output error; livecore prints the cause. See docs/mount.md.

Examples:
  livecore mount livecore.0.zst /mnt &
  gdb /boot/kernel/kernel /mnt/elf
  dmesg -M /mnt/vmcore -N /boot/kernel/kernel";

/// Arguments of `livecore mount`.
#[derive(Debug, clap::Args)]
#[command(after_help = MANUAL)]
pub struct Args {
    /// Dump, or directory with dumps; `-` for standard input
    pub dump: PathBuf,
    /// The number of the dump.
    #[command(flatten)]
    pub number: NumberArg,
    /// Empty directory to mount on
    #[arg(value_name = "DIR")]
    pub directory: PathBuf,
    /// The kernel that was running.
    #[command(flatten)]
    pub kernel: KernelArgs,
    /// Read pages lost at the end of a short file as zeros
    #[arg(long)]
    pub zero_tail: bool,
}

/// Mounts the file system, which is empty until [`run`] opens the dump.
#[cfg(feature = "mount")]
pub(crate) fn open(args: &Args, env: &Env) -> Result<Opened, Failure> {
    Ok(Opened::Mounted(Box::new(fuse::open(args, env)?)))
}

/// Fails: the program was built without the feature.
#[cfg(not(feature = "mount"))]
pub(crate) fn open(_: &Args, _: &Env) -> Result<Opened, Failure> {
    use crate::exit::Exit;
    let what = "this livecore was built without the feature `mount`";
    let failure = Failure::new(Exit::UNSUPPORTED, what);
    Err(failure.next("build it with `cargo build --release --features mount`"))
}

#[cfg(feature = "mount")]
mod fuse {
    use std::fs;
    use std::io::{self, Read, Write};
    use std::mem::ManuallyDrop;
    use std::os::unix::fs::MetadataExt;
    use std::os::unix::net::UnixStream;
    use std::os::unix::process::CommandExt;
    use std::path::{Path, PathBuf};
    use std::process::{Child, ChildStdin, Stdio};
    use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
    use std::sync::{Arc, OnceLock};
    use std::thread;
    use std::time::SystemTime;

    use fuser::{Config, MountOption};
    use livecore_livedump::sys::fuse::THREADS;

    use super::Args;
    use crate::env::Env;
    use crate::failure::Failure;
    use crate::guard;
    use crate::id::Id;
    use crate::input::{self, Opening};
    use crate::mounted::{Contents, Event, Files, inside};
    use crate::session::Session;

    /// The number of events that wait for the main thread.
    const WAITING: usize = 64;

    /// A mounted file system without contents. Dropping it unmounts.
    pub(crate) struct Mounted {
        guard: Guard,
        /// The guard unmounts it, and only if it is mounted.
        files: ManuallyDrop<fuser::Session<Files>>,
        contents: Arc<OnceLock<Contents>>,
        events: SyncSender<Event>,
        received: Receiver<Event>,
        directory: PathBuf,
        /// A byte arrives here when a signal does.
        stop: UnixStream,
        /// The other end, for signals.
        pub(crate) wake: UnixStream,
    }

    /// Mounts the file system: the sandbox denies that later.
    pub(super) fn open(args: &Args, env: &Env) -> Result<Mounted, Failure> {
        let about = |failure: Failure| failure.about(&args.directory);
        let directory = args.directory.canonicalize();
        let directory = directory.map_err(|e| about(e.into()))?;
        let mut entries = fs::read_dir(&directory).map_err(|e| about(e.into()))?;
        if entries.next().is_some() {
            return Err(about(
                Failure::could_not("directory is not empty").id_is(Id::Exists),
            ));
        }
        let paths = [&args.dump, &env.spool_dir].into_iter();
        let paths = paths
            .chain(&args.kernel.kernel)
            .chain(&args.kernel.kernel_path);
        let paths = paths.chain(&env.kernel).chain(&env.kernel_path);
        let paths = paths.chain(&env.cache_dir).chain(&env.key_path);
        if let Some(path) = inside(&directory, &paths.cloned().collect::<Vec<_>>()) {
            let failure = Failure::usage("it is in the directory to mount on");
            return Err(failure.id_is(Id::ConflictingArguments).about(&path));
        }
        let time = fs::metadata(&args.dump).and_then(|found| found.modified());
        let contents = Arc::new(OnceLock::new());
        let (events, received) = sync_channel(WAITING);
        let time = time.unwrap_or(SystemTime::UNIX_EPOCH);
        let files = Files::new(Arc::clone(&contents), time, events.clone());
        let (stop, wake) = UnixStream::pair()?;
        wake.set_nonblocking(true)?;
        let guard = Guard::start(&directory)?;
        let mut config = Config::default();
        config.mount_options = vec![
            MountOption::RO,
            MountOption::NoExec,
            MountOption::NoSuid,
            MountOption::DefaultPermissions,
            MountOption::FSName("livecore".into()),
            MountOption::Subtype("livecore".into()),
        ];
        config.n_threads = Some(THREADS);
        let files = fuser::Session::new(files, &directory, &config).map_err(|error| {
            let missing = error.kind() == io::ErrorKind::NotFound;
            let failure = about(Failure::could_not(format_args!("cannot mount: {error}")));
            let failure = failure.id_is(Id::Io);
            match missing {
                true => failure.next("load the kernel's module: modprobe fuse, or kldload fusefs"),
                false => failure,
            }
        })?;
        Ok(Mounted {
            guard,
            files: ManuallyDrop::new(files),
            contents,
            events,
            received,
            directory,
            stop,
            wake,
        })
    }

    /// Serves the files until a signal arrives or another program unmounts them.
    pub(crate) fn run(
        args: &Args,
        mounted: Mounted,
        session: &mut Session<'_>,
    ) -> Result<(), Failure> {
        let Mounted {
            mut guard,
            files,
            contents,
            events,
            received,
            directory,
            mut stop,
            wake: _wake,
        } = mounted;
        // The end of the file system is an event; so is a signal.
        std::mem::forget(ManuallyDrop::into_inner(files).spawn()?);
        let errors = events.clone();
        let signals = thread::Builder::new().name("stop".into());
        signals.spawn(move || {
            if stop.read(&mut [0]).is_ok_and(|got| got == 1) {
                let _ = events.send(Event::Signal);
            }
        })?;
        // The search for the kernel may look into the directory, which is served already.
        let _ = contents.set(read(args, errors, session)?);
        writeln!(session.out, "mounted {}", args.directory.display())?;
        session.out.flush()?;
        for event in received {
            match event {
                Event::Error(line) => session.warn(&args.dump, Id::Broken, line),
                Event::Ended => return guard.finish().map_err(|e| e.about(&directory)),
                Event::Signal => break,
            }
        }
        guard
            .finish()
            .map_err(|failure| failure.about(&directory))?;
        Err(livecore_compress::Error::Cancelled.into())
    }

    /// Opens the dump and its kernel.
    fn read(
        args: &Args,
        events: SyncSender<Event>,
        session: &mut Session<'_>,
    ) -> Result<Contents, Failure> {
        let opening = Opening {
            zero_tail: args.zero_tail,
            unchecked: true,
            ..Opening::default()
        };
        let dump = input::dump(&args.dump, opening, session)?;
        for warning in dump.envelope().warnings() {
            session.warn_of(&args.dump, warning);
        }
        let pair = args.kernel.open(&dump, &args.dump, session)?;
        Ok(Contents::new(&args.dump, dump, pair, events))
    }

    /// The process that unmounts. It is not in the sandbox, and unmounts even if this process is
    /// killed: its standard input then ends.
    struct Guard {
        child: Child,
        pipe: Option<ChildStdin>,
    }

    impl Guard {
        fn start(directory: &Path) -> Result<Self, Failure> {
            let device = fs::metadata(directory)?.dev();
            let mut child = guard::command("mount-guard")?
                .arg(directory)
                .arg(device.to_string())
                .stdin(Stdio::piped())
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                // Ctrl-C does not reach it.
                .process_group(0)
                .spawn()?;
            let pipe = child.stdin.take();
            Ok(Self { child, pipe })
        }

        /// Unmounts.
        fn finish(&mut self) -> Result<(), Failure> {
            self.pipe = None;
            match self.child.wait()?.success() {
                true => Ok(()),
                false => {
                    Err(Failure::could_not("cannot unmount").next("unmount it with umount(8)"))
                }
            }
        }
    }

    impl Drop for Guard {
        fn drop(&mut self) {
            // An error cannot be reported here.
            let _ = self.finish();
        }
    }
}
