//! A QEMU guest as the source of a dump: how its memory is read, and whether the guest is paused. A guest
//! with a gdb stub is always paused.
//!
//! | memory | guest | requested | method |
//! |---|---|---|---|
//! | shared | running | nothing | read while it runs; changes are counted |
//! | shared | running | [`Pausing::Compare`] | copied while it runs, compared while it is paused |
//! | shared | running | [`Pausing::Read`] | paused, planned and read; resumed after the last page
//! was read |
//! | shared | paused | | read |
//! | private | running | nothing | refused |
//! | private | running | either | QEMU pauses it, writes all memory, resumes it |
//! | private | paused | | QEMU writes all memory |

use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use livecore_kernel::locate::LocateError;
use livecore_minidump::provenance::{Pause, PauseHow};
use livecore_minidump::{Error, KernelElf};

use super::error::TakeError;
use super::note::Note;
use super::observer::{Observer, Stage};
use super::options::RunOptions;
use super::plan::{PlanOptions, plan, plan_machine};
use super::stub;
use super::taken::Taken;
use crate::gdb;
use crate::image::{self, CpuState};
use crate::qmp::{Changed, Guest, Paused, QmpError, SharedRam, Snapshot};
use livecore_minidump::PhysMemory;

/// How a running guest that shares its memory is paused.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Pausing {
    /// Copy the pages to a temporary file while it runs, and compare them while it is paused: the
    /// shortest pause.
    #[default]
    Compare,
    /// Pause it while the dump is read and written: no temporary file, and a long pause.
    Read,
}

/// The guest to dump.
pub struct GuestSource {
    /// The guest.
    pub guest: Guest,
    /// How it may be paused, if at all.
    pub pausing: Option<Pausing>,
    /// The command of the process that resumes a paused guest if this one is killed
    /// ([`crate::qmp::keep_watch`]).
    pub guard: Command,
}

/// A planned dump of a guest.
pub(super) struct Prepared<'a> {
    pub(super) taken: Taken,
    /// Whether memory changes while it is written.
    pub(super) changing: bool,
    /// The guest, if it is paused until the dump is read.
    pub(super) pause: Option<OpenPause<'a>>,
}

/// A guest that is paused while its dump is read.
pub(super) struct OpenPause<'a> {
    paused: By<'a>,
    start: u64,
}

/// What has paused a guest.
enum By<'a> {
    Qmp(Paused<'a>),
    Stub(stub::Paused),
}

impl OpenPause<'_> {
    /// Resumes the guest.
    pub(super) fn end(self) -> Result<Pause, TakeError> {
        let length = match self.paused {
            By::Qmp(paused) => paused.end()?,
            By::Stub(paused) => Some(paused.end()?),
        };
        Ok(pause(PauseHow::Read, self.start, length))
    }
}

/// Plans the dump of a guest that its gdb stub has paused.
pub(super) fn prepare_stub(
    guest: gdb::Guest,
    elf: &KernelElf,
    options: &RunOptions,
) -> Result<Prepared<'static>, TakeError> {
    let start = now();
    let paused = stub::Paused::new(guest);
    let (machine, cpus) = paused.machine(elf)?;
    let mut taken = plan_machine(machine, elf, &options.plan)?;
    options.put_cpus(&mut taken, elf, &cpus)?;
    Ok(Prepared {
        taken,
        changing: false,
        pause: Some(OpenPause {
            paused: By::Stub(paused),
            start,
        }),
    })
}

/// Nanoseconds since 1970.
fn now() -> u64 {
    let since = SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(0)
}

fn pause(how: PauseHow, start: u64, length: Option<Duration>) -> Pause {
    let length = length.unwrap_or_default().as_nanos();
    Pause {
        how,
        start,
        length: u64::try_from(length).unwrap_or(u64::MAX - start),
        compared: 0,
        changed: 0,
        new: 0,
    }
}

/// Plans the dump. Unless the pause is open, a guest that ran before runs again when this returns.
pub(super) fn prepare<'a>(
    guest: &'a mut Guest,
    pausing: Option<Pausing>,
    guard: Command,
    elf: &KernelElf,
    options: &RunOptions,
    observer: &mut dyn Observer,
) -> Result<Prepared<'a>, TakeError> {
    let status = guest.status()?;
    let job = Job {
        elf,
        options,
        running: status.running,
    };
    job.prepared(guest, pausing, guard, observer)
        .map_err(|error| match error {
            TakeError::Locate(LocateError::NoKernel { .. }) if status.word == "prelaunch" => {
                TakeError::NotStarted
            }
            error => error,
        })
}

fn complete<'a>(taken: Taken) -> Prepared<'a> {
    Prepared {
        taken,
        changing: false,
        pause: None,
    }
}

struct Job<'a> {
    elf: &'a KernelElf,
    options: &'a RunOptions,
    /// Whether the guest runs.
    running: bool,
}

impl Job<'_> {
    fn prepared<'a>(
        &self,
        guest: &'a mut Guest,
        pausing: Option<Pausing>,
        guard: Command,
        observer: &mut dyn Observer,
    ) -> Result<Prepared<'a>, TakeError> {
        match (guest.shared_ram()?, pausing) {
            (Ok(ram), Some(Pausing::Compare)) if self.running => {
                let taken = self.compared(guest, guard, ram, observer)?;
                Ok(complete(taken))
            }
            (Ok(ram), Some(Pausing::Read)) if self.running => {
                let start = now();
                let mut paused = guest.pause(guard)?;
                let cpus = paused.guest().registers()?;
                let taken = self.planned(ram, &cpus)?;
                Ok(Prepared {
                    taken,
                    changing: false,
                    pause: Some(OpenPause {
                        paused: By::Qmp(paused),
                        start,
                    }),
                })
            }
            (Ok(ram), _) if self.running => {
                if self.options.cpu.is_some() {
                    return Err(TakeError::RunningCpu);
                }
                observer.say(&Note::GuestRuns);
                Ok(Prepared {
                    taken: self.planned(ram, &[])?,
                    changing: true,
                    pause: None,
                })
            }
            // It was paused before, and stays paused.
            (Ok(ram), _) => {
                let cpus = guest.registers()?;
                let mut taken = self.planned(ram, &cpus)?;
                taken.paused(pause(PauseHow::Found, now(), None));
                Ok(complete(taken))
            }
            (Err(why), None) if self.running => Err(TakeError::MustPause { why }),
            (Err(_), _) => Ok(complete(self.written_by_qemu(
                guest,
                self.running,
                observer,
            )?)),
        }
    }

    fn plan_options(&self) -> &PlanOptions {
        &self.options.plan
    }

    fn spool(&self) -> &Path {
        &self.options.spool_dir
    }

    fn planned(&self, memory: Arc<dyn PhysMemory>, cpus: &[CpuState]) -> Result<Taken, TakeError> {
        let mut taken = plan(memory, self.elf, self.plan_options())?;
        self.options.put_cpus(&mut taken, self.elf, cpus)?;
        Ok(taken)
    }

    /// Copies while the guest runs, compares while it is paused.
    fn compared(
        &self,
        guest: &mut Guest,
        guard: Command,
        ram: Arc<SharedRam>,
        observer: &mut dyn Observer,
    ) -> Result<Taken, TakeError> {
        let before = plan(ram.clone(), self.elf, self.plan_options())?;
        let threads = self.options.target.encoding.threads;
        let snapshot = Snapshot::new(&*ram, self.spool(), threads)?;
        let layout = before.plan.layout();
        let len = layout.end() - layout.data_offset();
        let progress = observer.begin(Stage::Copy, Some(len));
        snapshot.copy(&*ram, &before.plan, &*progress)?;
        drop(progress);
        let progress = observer.begin(Stage::Compare, Some(len));
        let start = now();
        let mut paused = guest.pause(guard)?;
        // On an error, dropping `paused` resumes the guest.
        let cpus = paused.guest().registers()?;
        let machine = before.machine.clone();
        let mut taken = plan_machine(machine, self.elf, self.plan_options())?;
        self.options.put_cpus(&mut taken, self.elf, &cpus)?;
        let Changed {
            compared,
            changed,
            new,
        } = snapshot.settle(&*ram, &before.plan, &taken.plan, &*progress)?;
        let length = paused.end()?;
        drop(progress);
        let pause = Pause {
            compared,
            changed,
            new,
            ..pause(PauseHow::Compared, start, length)
        };
        observer.say(&Note::PausedToCompare {
            seconds: pause.seconds(),
            compared,
            changed,
            new,
        });
        taken.paused(pause);
        taken.read_from(snapshot.into_memory());
        Ok(taken)
    }

    /// Makes QEMU write all memory to an unlinked file.
    fn written_by_qemu(
        &self,
        guest: &mut Guest,
        running: bool,
        observer: &mut dyn Observer,
    ) -> Result<Taken, TakeError> {
        let file = tempfile::tempfile_in(self.spool())
            .map_err(QmpError::io("make a file for QEMU's dump"))?;
        let progress = observer.begin(Stage::Hypervisor, None);
        let start = now();
        let took = guest.dump_to(&file, &*progress)?;
        drop(progress);
        if running {
            let seconds = took.as_secs_f64();
            observer.say(&Note::PausedByQemu { seconds });
        }
        let options = image::Options::default().spool_dir(self.spool());
        let opened = image::open_bytes(Arc::new(file), &options)?;
        if let Some(what) = opened.memory.contradiction() {
            return Err(Error::broken("QEMU's dump", 0, what, "each address once").into());
        }
        if let Some(what) = opened.memory.shortage() {
            return Err(Error::broken("QEMU's dump", 0, what, "all memory of the guest").into());
        }
        let mut taken = self.planned(opened.memory, &opened.cpus)?;
        taken.paused(if running {
            pause(PauseHow::Hypervisor, start, Some(took))
        } else {
            pause(PauseHow::Found, start, None)
        });
        Ok(taken)
    }
}
