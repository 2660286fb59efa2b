//! A running guest of QEMU's: its memory by the file that it shares, or by QEMU's own dump.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use livedump::PhysMemory;
use livedump::image;
use livedump::place::Destination;
use livedump::qmp::{Changed, Client, Guest, QmpError, SharedRam, Snapshot};
use livedump::take::live::spool_dir;
use livedump::take::{self, PlanOptions, Taken};
use minidump::KernelElf;
use minidump::convert::Target;

use super::{Args, failure, put_cpus};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::input;
use crate::progress::Bar;
use crate::session::Session;

/// The planned dump, and whether memory goes on changing while it is written.
type Planned = (Taken, bool);

/// Plans the dump of the guest behind `socket`. The guest runs again when this returns, if it ran.
pub(super) fn plan(
    args: &Args,
    socket: &Path,
    target: &Target,
    destination: &Destination,
    session: &mut Session<'_>,
) -> Result<Planned, Failure> {
    let Some(kernel) = &args.kernel else {
        return Err(Failure::usage("--qmp SOCKET wants --kernel ELF"));
    };
    let elf = input::kernel(kernel)?;
    let said = |error: QmpError| told(error, socket);
    let timeout = Duration::from_secs(args.qmp_timeout.into());
    let mut guest = Guest::new(Client::connect(socket, timeout).map_err(said)?);
    let status = guest.status().map_err(said)?;
    let shared = guest.shared_ram().map_err(said)?;
    let job = Job {
        args,
        socket,
        elf,
        // Where there is room for the dump, there is room for what it is made of.
        spool: match destination {
            Destination::Stdout => session.env.spool_dir.clone(),
            _ => spool_dir(destination),
        },
        target,
    };
    match shared {
        Ok(ram) if args.pause && status.running => job.paused(&mut guest, ram, session),
        Ok(ram) if status.running => {
            if args.cpu.is_some() {
                let what = "--cpu: the registers of a guest that runs are of no one moment";
                return Err(Failure::usage(what).next("--pause"));
            }
            session.voice.say(format_args!(
                "{}: the guest runs on while it is dumped; --pause gives one moment",
                socket.display()
            ));
            Ok((job.planned(ram)?, true))
        }
        // Somebody has paused it, and it stays so.
        Ok(ram) => {
            let cpus = guest.registers().map_err(said)?;
            let mut taken = job.planned(ram)?;
            put_cpus(args, &mut taken, &job.elf, &cpus, socket)?;
            Ok((taken, false))
        }
        Err(why) if status.running && !args.pause => {
            let line =
                format!("the guest shares no memory that could be read while it runs: {why}");
            Err(Failure::new(Exit::UNSUPPORTED, line)
                .about(socket)
                .next("--pause has QEMU write the memory, and stops the guest for as long"))
        }
        Err(_) => job.dumped(&mut guest, session),
    }
}

struct Job<'a> {
    args: &'a Args,
    socket: &'a Path,
    elf: KernelElf,
    spool: PathBuf,
    target: &'a Target,
}

impl Job<'_> {
    fn options(&self) -> PlanOptions {
        PlanOptions {
            version: self.args.format_version,
        }
    }

    fn planned(&self, memory: Arc<dyn PhysMemory>) -> Result<Taken, Failure> {
        take::plan(memory, &self.elf, &self.options()).map_err(|e| failure(e, self.socket))
    }

    /// Copies while the guest runs, looks again while it is paused.
    fn paused(
        &self,
        guest: &mut Guest,
        ram: Arc<SharedRam>,
        session: &mut Session<'_>,
    ) -> Result<Planned, Failure> {
        let said = |error: QmpError| told(error, self.socket);
        let before = self.planned(ram.clone())?;
        let threads = self.target.encoding.threads;
        let snapshot = Snapshot::new(&*ram, &self.spool, threads).map_err(said)?;
        let len = before.plan.layout().end() - before.plan.layout().data_offset();
        let bar = Bar::new(session, "copy", self.args.json, Some(len));
        snapshot.copy(&*ram, &before.plan, &bar).map_err(said)?;
        drop(bar);
        let bar = Bar::new(session, "paused", self.args.json, Some(len));
        let mut paused = guest.pause(guard()?).map_err(said)?;
        // The guest goes on wherever this ends: what is paused goes on when it is dropped.
        let cpus = paused.guest().registers().map_err(said)?;
        let machine = before.machine.clone();
        let mut now = take::plan_machine(machine, &self.elf, &self.options())
            .map_err(|e| failure(e, self.socket))?;
        put_cpus(self.args, &mut now, &self.elf, &cpus, self.socket)?;
        let changed = snapshot
            .settle(&*ram, &before.plan, &now.plan, &bar)
            .map_err(said)?;
        let pause = paused.end().map_err(said)?;
        drop(bar);
        self.tell(changed, pause, session);
        now.read_from(snapshot.into_memory());
        Ok((now, false))
    }

    fn tell(&self, changed: Changed, pause: Option<Duration>, session: &mut Session<'_>) {
        session.voice.say(format_args!(
            "{}: the guest was paused for {:.3} s; {} of {} pages had changed since they were \
             copied, {} were new",
            self.socket.display(),
            pause.unwrap_or_default().as_secs_f64(),
            changed.changed,
            changed.compared,
            changed.new,
        ));
    }

    /// Has QEMU write all memory to a file that goes away by itself.
    fn dumped(&self, guest: &mut Guest, session: &mut Session<'_>) -> Result<Planned, Failure> {
        let file = tempfile::Builder::new()
            .prefix("livecore.qmp.")
            .tempfile_in(&self.spool)
            .map_err(|e| Failure::from(e).about(&self.spool))?;
        let bar = Bar::new(session, "QEMU's dump", self.args.json, None);
        let status = guest.status().map_err(|e| told(e, self.socket))?;
        let took = guest
            .dump_to(file.as_file(), &bar)
            .map_err(|e| told(e, self.socket))?;
        drop(bar);
        if status.running {
            session.voice.say(format_args!(
                "{}: QEMU stopped the guest for {:.3} s while it wrote its memory",
                self.socket.display(),
                took.as_secs_f64()
            ));
        }
        let options = image::Options {
            spool_dir: Some(self.spool.clone()),
            ..image::Options::default()
        };
        let opened = image::open(file.path(), &options);
        // The name goes now, the bytes when the image does.
        drop(file);
        let opened = opened.map_err(|e| Failure::from(e).about(self.socket))?;
        let mut taken = self.planned(opened.memory)?;
        put_cpus(self.args, &mut taken, &self.elf, &opened.cpus, self.socket)?;
        Ok((taken, false))
    }
}

/// How the guard over the paused guest is started: this program once more.
fn guard() -> Result<Command, Failure> {
    let program = std::env::current_exe()
        .map_err(|e| Failure::could_not(format_args!("the path of this program: {e}")))?;
    let mut command = Command::new(program);
    command.arg("qmp-guard");
    Ok(command)
}

fn told(error: QmpError, socket: &Path) -> Failure {
    match error {
        QmpError::Connect { .. } => Failure::could_not(error)
            .next("QEMU listens there with -qmp unix:SOCKET,server=on,wait=off"),
        QmpError::Timeout { .. } => Failure::could_not(error)
            .about(socket)
            .next("QEMU serves one client at a time: is another one connected?"),
        QmpError::Protocol { .. } => Failure::broken(error).about(socket),
        QmpError::Cancelled => Failure::from(compress::Error::Cancelled),
        error => Failure::could_not(error).about(socket),
    }
}
