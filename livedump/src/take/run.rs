//! A dump taken from beginning to end: planned, written, named.
//!
//! ```text
//!  Source ── plan ── registers put in ── watched ──┬── written ── published ──▶ Done
//!    │ a guest: paused first if asked for, and      │
//!    │ resumed when its last page was read          │
//!    └ the running kernel: writes its own dump ─────┘
//! ```

use std::cell::Cell;
use std::sync::Arc;
use std::time::{Duration, Instant};

use livecore_compress::ReadAt;
use livecore_kernel::locate::Machine;
use livecore_minidump::convert::{Written, finish_with};
use livecore_minidump::{Error, KernelDumpHeader, KernelElf, PhysMemory, Provenance};

use super::error::TakeError;
use super::guest::{self, GuestSource, Held, Prepared};
use super::live::{self, LiveKernel};
use super::observer::{Observer, Stage};
use super::options::RunOptions;
use super::plan::{plan, plan_machine};
use super::taken::Taken;
use crate::image::CpuState;
use crate::publish::{Output, Published, Sink};
use crate::qmp::QmpError;

/// What is dumped.
pub enum Source {
    /// A machine's memory, and the registers of its processors where they are known.
    Memory {
        /// The memory.
        memory: Arc<dyn PhysMemory>,
        /// The processors; none if they are not known.
        cpus: Vec<CpuState>,
        /// The kernel that runs there.
        elf: Arc<KernelElf>,
    },
    /// A machine whose kernel has been found.
    Machine {
        /// The machine.
        machine: Machine,
        /// Its kernel.
        elf: Arc<KernelElf>,
    },
    /// A QEMU guest.
    Guest {
        /// The guest.
        guest: GuestSource,
        /// The kernel that runs there.
        elf: Arc<KernelElf>,
    },
    /// The running kernel, which writes its dump itself (MEM_KERNELDUMP).
    Kernel {
        /// The kernel.
        kernel: LiveKernel,
        /// Its own compressed stream is kept as it is.
        compress: bool,
    },
}

impl Source {
    /// Memory of which nothing is known but the kernel that runs there.
    pub fn memory(memory: Arc<dyn PhysMemory>, elf: Arc<KernelElf>) -> Self {
        Self::Memory {
            memory,
            cpus: Vec::new(),
            elf,
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
    /// Pages in it; `None` of a stream that the running kernel compressed.
    pub pages: Option<u64>,
    /// Pages that the kernel would have dumped and that were not in the memory: the dump lacks them.
    pub missing: u64,
    /// How long the writing took.
    pub took: Duration,
    /// What a person should know: of the machine, then of the directory.
    pub notes: Vec<String>,
}

/// Takes a dump of `source`.
///
/// Whether the dump has a place is found out before anything else is done. When it fails, nothing
/// of it is left under any name, and a guest that was paused goes on.
///
/// # Errors
///
/// [`TakeError`], one variant for each cause that a caller would treat differently.
pub fn run(
    source: Source,
    output: Output<'_>,
    options: &RunOptions,
    observer: &mut dyn Observer,
) -> Result<Done, TakeError> {
    options.target.check()?;
    let run = Run {
        sink: output.begin(&options.publish(None))?,
        options,
        observer,
    };
    match source {
        Source::Memory { memory, cpus, elf } => {
            let mut taken = plan(memory, &elf, &options.plan)?;
            options.put_cpus(&mut taken, &elf, &cpus)?;
            run.planned(Prepared::of(taken))
        }
        Source::Machine { machine, elf } => {
            let taken = plan_machine(machine, &elf, &options.plan)?;
            run.planned(Prepared::of(taken))
        }
        Source::Guest { guest, elf } => {
            let (mut of_guest, pausing, guard) = (guest.guest, guest.pausing, guest.guard);
            let prepared =
                guest::prepare(&mut of_guest, pausing, guard, &elf, options, run.observer)?;
            run.planned(prepared)
        }
        Source::Kernel { kernel, compress } => run.by_kernel(&kernel, compress),
    }
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

/// A dump that can be written.
struct Content<'a> {
    payload: &'a dyn ReadAt,
    header: KernelDumpHeader,
    len: u64,
    pages: u64,
    notes: Vec<String>,
}

/// A run whose output has been begun.
struct Run<'a, 'o> {
    sink: Sink<'o>,
    options: &'a RunOptions,
    observer: &'a mut dyn Observer,
}

impl Run<'_, '_> {
    /// Writes a dump that was planned here. A guest that is paused goes on when its last page has
    /// been read.
    fn planned(mut self, prepared: Prepared<'_>) -> Result<Done, TakeError> {
        let Prepared {
            mut taken,
            moves,
            held,
        } = prepared;
        // Of memory that is known to change, torn pages are counted at least.
        if let Some(rounds) = self.options.converge.or(moves.then_some(0)) {
            let progress = self.observer.begin(Stage::ReadAgain, None);
            taken.watch(rounds, &*progress)?;
        }
        for note in &taken.notes {
            self.observer.say(note);
        }
        let told = taken.told();
        let (header, pages) = (taken.header(), taken.plan.bitmap().count());
        let missing = taken.missing;
        let notes = taken.notes.clone();
        let payload = taken.into_payload();
        let content = Content {
            len: payload.plan().layout().end(),
            payload: &payload,
            header,
            pages,
            notes,
        };
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
        let (written, took) = self.write(&content, &provenance)?;
        if let Some(error) = failed.take() {
            return Err(error.into());
        }
        if let Some(pause) = paused.take() {
            self.observer.say(&format!(
                "the guest was paused for {:.3} s, while it was read",
                pause.seconds()
            ));
        }
        let done = self.publish(written, took, Some(content.pages), content.notes)?;
        Ok(Done { missing, ..done })
    }

    /// Has the running kernel write, and stores what it has written.
    fn by_kernel(mut self, kernel: &LiveKernel, compress: bool) -> Result<Done, TakeError> {
        self.observer.say(
            "the kernel writes its dump, which cannot be interrupted; progress is an estimate",
        );
        let begun = Instant::now();
        let expected = live::expected();
        let progress = self
            .observer
            .begin(Stage::Kernel, (expected > 0).then_some(expected));
        let mut reached = 0;
        let mut waiting = |written: u64| {
            progress.advance(written.saturating_sub(reached), 0);
            reached = written.max(reached);
        };
        let encoding = &self.options.target.encoding;
        if compress {
            let Sink::Pending(pending) = &mut self.sink else {
                return Err(Error::Options("a kernel dumps to a file only".into()).into());
            };
            let container = self.options.target.container;
            let header =
                kernel.dump_compressed(pending, encoding.codec, container, &mut waiting)?;
            drop(progress);
            let written = Written {
                payload_len: header.dumpextent,
                stored_len: header.dumplength,
                file_len: pending.written(),
                header,
                provenance: Provenance::default(),
            };
            return self.publish(written, begun.elapsed(), None, Vec::new());
        }
        // Every worker reads one frame, and none is more than a few ahead of the slowest.
        let kept = u64::from(encoding.frame_size) * (4 * encoding.threads.get() as u64 + 4);
        let live = kernel.dump(&self.options.spool_dir, kept, &mut waiting)?;
        drop(progress);
        for note in &live.notes {
            self.observer.say(note);
        }
        let content = Content {
            payload: live.payload(),
            header: live.header().clone(),
            len: live.header().dumplength,
            pages: live.pages,
            notes: live.notes.clone(),
        };
        let (written, _) = self.write(&content, &Provenance::default)?;
        self.publish(written, begun.elapsed(), Some(content.pages), content.notes)
    }

    /// Writes the dump, and says how long that took. `provenance` is asked for when every page
    /// has been read.
    fn write(
        &mut self,
        content: &Content<'_>,
        provenance: &dyn Fn() -> Provenance,
    ) -> Result<(Written, Duration), TakeError> {
        let Content { payload, len, .. } = content;
        self.sink.reserve(self.options.publish(Some(*len)).needed)?;
        let begun = Instant::now();
        let progress = self.observer.begin(Stage::Write, Some(*len));
        let (target, header) = (&self.options.target, content.header.clone());
        let written = self
            .sink
            .write(|out| finish_with(*payload, header, provenance, target, out, &*progress))?;
        Ok((written, begun.elapsed()))
    }

    /// Gives the dump its name.
    fn publish(
        self,
        written: Written,
        took: Duration,
        pages: Option<u64>,
        mut notes: Vec<String>,
    ) -> Result<Done, TakeError> {
        let published = self.sink.publish(&written, &self.options.device)?;
        notes.extend(published.notes.iter().cloned());
        Ok(Done {
            published,
            written,
            pages,
            missing: 0,
            took,
            notes,
        })
    }
}
