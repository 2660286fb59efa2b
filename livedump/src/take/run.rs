//! A dump taken from beginning to end: planned, written, named.
//!
//! ```text
//!  Source ── plan ── registers put in ── watched ── written ── named ──▶ Done
//!    │ a guest: paused first if that is asked for, and let go when its last page was read
//! ```

use std::cell::Cell;
use std::io::Write;
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use livecore_compress::Codec;
use livecore_kernel::locate::Machine;
use livecore_minidump::convert::{Target, Written, finish_with};
use livecore_minidump::{Error, KernelElf};

use super::error::TakeError;
use super::guest::{self, GuestSource, Held, Prepared};
use super::observer::{Observer, Stage};
use super::plan::{PlanOptions, plan, plan_machine};
use super::state::facts::Facts;
use super::taken::Taken;
use crate::image::CpuState;
use crate::publish::{Destination, Options, Pending, PublishError, Published, info};
use crate::qmp::QmpError;
use livecore_minidump::PhysMemory;

/// What is dumped.
pub enum Source {
    /// A machine's memory, and the registers of its processors where they are known.
    Memory {
        /// The memory.
        memory: Arc<dyn PhysMemory>,
        /// The processors; none if nobody knows.
        cpus: Vec<CpuState>,
    },
    /// A machine whose kernel has been found.
    Machine(Machine),
    /// A guest of QEMU's.
    Guest(GuestSource),
}

impl Source {
    /// Memory of which nothing more is known.
    pub fn memory(memory: Arc<dyn PhysMemory>) -> Self {
        Self::Memory {
            memory,
            cpus: Vec::new(),
        }
    }
}

/// Where a dump goes.
pub enum Output<'a> {
    /// To a place, under a name when it is whole.
    Place(&'a Destination),
    /// To a place that was begun before, with [`RunOptions::place`].
    Begun(Pending),
    /// To a stream that is open already.
    Stream(&'a mut dyn Write),
}

/// How a dump is taken.
#[derive(Debug, Clone)]
pub struct RunOptions {
    /// What is planned.
    pub plan: PlanOptions,
    /// Container, codec, level, frames, workers.
    pub target: Target,
    /// What `info.N` calls the machine: `/dev/mem`, or the machine's file.
    pub device: String,
    /// A file that exists may be replaced.
    pub force: bool,
    /// savecore(8)'s `-m`.
    pub max: Option<NonZeroU32>,
    /// Blocks of zeros of an uncompressed dump become holes of its file.
    pub sparse: bool,
    /// Processors' registers are put where debuggers look for them.
    pub cpu_state: bool,
    /// The processor whose thread counts as the one that dumped ([`Taken::put_cpus`]).
    pub cpu: Option<u32>,
    /// Memory is read again, at most so often, until nothing changes any more
    /// ([`Taken::watch`]). Memory that is known to change is watched in any case.
    pub converge: Option<u32>,
    /// Where files without a name go that are needed meanwhile.
    pub spool_dir: PathBuf,
}

impl RunOptions {
    /// A dump as `target` says; everything else as it usually is.
    pub fn new(target: Target) -> Self {
        Self {
            plan: PlanOptions::default(),
            target,
            device: "/dev/mem".into(),
            force: false,
            max: None,
            sparse: true,
            cpu_state: true,
            cpu: None,
            converge: None,
            spool_dir: std::env::temp_dir(),
        }
    }

    /// How a dump of `len` bytes is placed, 0 if nobody knows yet.
    pub fn place(&self, len: u64) -> Options {
        let uncompressed = self.target.encoding.codec == Codec::None;
        Options {
            codec: self.target.encoding.codec,
            force: self.force,
            max: self.max,
            sparse: self.sparse && uncompressed,
            // How far a codec gets is known only afterwards.
            needed: if uncompressed { len } else { 0 },
        }
    }

    pub(super) fn put_cpus(
        &self,
        taken: &mut Taken,
        elf: &KernelElf,
        cpus: &[CpuState],
    ) -> Result<(), TakeError> {
        match self.cpu {
            Some(number) if cpus.is_empty() => Err(TakeError::NoCpu {
                number,
                has: "registers of none".into(),
            }),
            _ if cpus.is_empty() || !self.cpu_state => Ok(()),
            cpu => taken.put_cpus(elf, cpus, cpu),
        }
    }
}

/// A dump that was taken.
#[derive(Debug, Clone)]
pub struct Done {
    /// Where it is.
    pub published: Published,
    /// Its lengths, its header, and how it was made.
    pub written: Written,
    /// Pages in it.
    pub pages: u64,
    /// What the kernel said of itself.
    pub facts: Facts,
    /// Physical address that the kernel was found at.
    pub kernphys: u64,
    /// How long the writing took.
    pub took: Duration,
    /// What a person should hear: of the machine, then of the directory.
    pub notes: Vec<String>,
}

/// Takes a dump of the machine behind `source`, which runs this kernel.
///
/// Whether the dump has a place is found out before anything else is done. When it fails, nothing
/// of it is left under any name, and a guest that was paused goes on.
pub fn run(
    source: Source,
    elf: &KernelElf,
    output: Output<'_>,
    options: &RunOptions,
    observer: &mut dyn Observer,
) -> Result<Done, TakeError> {
    options.target.check()?;
    let mut out = match output {
        Output::Place(destination) => Out::Pending(destination.begin(&options.place(0))?),
        Output::Begun(pending) => Out::Pending(pending),
        Output::Stream(stream) => Out::Stream(stream),
    };
    let mut of_guest;
    let prepared = match source {
        Source::Memory { memory, cpus } => {
            let mut taken = plan(memory, elf, &options.plan)?;
            options.put_cpus(&mut taken, elf, &cpus)?;
            Prepared::of(taken)
        }
        Source::Machine(machine) => Prepared::of(plan_machine(machine, elf, &options.plan)?),
        Source::Guest(source) => {
            of_guest = source.guest;
            let (pausing, guard) = (source.pausing, source.guard);
            guest::prepare(&mut of_guest, pausing, guard, elf, options, observer)?
        }
    };
    let Prepared {
        mut taken,
        moves,
        held,
    } = prepared;
    // Of memory that is known to change, torn pages are counted at least.
    if let Some(rounds) = options.converge.or(moves.then_some(0)) {
        let progress = observer.begin(Stage::ReadAgain, None);
        taken.watch(rounds, &*progress)?;
    }
    for note in &taken.notes {
        observer.say(note);
    }
    write(taken, held, &mut out, options, observer).and_then(|done| name(done, out, options))
}

impl Prepared<'_> {
    fn of(taken: Taken) -> Self {
        Self {
            taken,
            moves: false,
            held: None,
        }
    }
}

/// Where the bytes go.
enum Out<'a> {
    Pending(Pending),
    Stream(&'a mut dyn Write),
}

/// Writes the dump. A guest that is held goes on when its last page has been read.
fn write(
    taken: Taken,
    held: Option<Held<'_>>,
    out: &mut Out<'_>,
    options: &RunOptions,
    observer: &mut dyn Observer,
) -> Result<Done, TakeError> {
    let header = taken.header();
    let told = taken.told();
    let facts = taken.facts.clone();
    let kernphys = taken.machine.located.kernphys;
    let pages = taken.plan.bitmap().count();
    let notes = taken.notes.clone();
    let payload = taken.into_payload();
    let len = payload.plan().layout().end();
    let (path, sink): (PathBuf, &mut dyn Write) = match out {
        Out::Pending(pending) => {
            pending.reserve(options.place(len).needed)?;
            (pending.path(), pending)
        }
        Out::Stream(stream) => ("-".into(), stream),
    };
    let begun = Instant::now();
    let progress = observer.begin(Stage::Write, Some(len));
    let (held, failed) = (Cell::new(held), Cell::new(None::<QmpError>));
    let paused = Cell::new(None);
    // Asked for when the last page has been read, whatever the container.
    let provenance = || {
        match held.take().map(Held::end) {
            Some(Ok(pause)) => paused.set(Some(pause)),
            Some(Err(error)) => failed.set(Some(error)),
            None => {}
        }
        let mut provenance = told.provenance();
        provenance.pause = provenance.pause.or(paused.get());
        provenance
    };
    let target = &options.target;
    let written = finish_with(&payload, header, &provenance, target, sink, &*progress)
        .map_err(|error| write_error(error, &path))?;
    drop(progress);
    if let Some(error) = failed.take() {
        return Err(error.into());
    }
    let took = begun.elapsed();
    if let Some(pause) = paused.take() {
        observer.say(&format!(
            "the guest was paused for {:.3} s, while it was read",
            pause.seconds()
        ));
    }
    let published = Published {
        path,
        number: None,
        len: written.file_len,
        notes: Vec::new(),
    };
    Ok(Done {
        published,
        written,
        pages,
        facts,
        kernphys,
        took,
        notes,
    })
}

/// Gives the dump its name.
fn name(mut done: Done, out: Out<'_>, options: &RunOptions) -> Result<Done, TakeError> {
    if let Out::Pending(pending) = out {
        let text = |number| info::of_written(&done.written, &options.device, number).into_bytes();
        done.published = pending.publish(&text)?;
        done.notes.extend(done.published.notes.iter().cloned());
    }
    Ok(done)
}

/// What an error of writing to `path` means.
fn write_error(error: Error, path: &std::path::Path) -> TakeError {
    match error {
        Error::Cancelled => TakeError::Cancelled,
        Error::Io { what, source } => match PublishError::of_write(path, source) {
            Ok(place) => place.into(),
            Err(source) if what == "write" => PublishError::from_io("write", path, source).into(),
            Err(source) => TakeError::Minidump(Error::Io { what, source }),
        },
        other => other.into(),
    }
}
