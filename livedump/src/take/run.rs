//! Takes a dump: plans, writes and publishes it.
//!
//! ```text
//!  Source ── plan ── add registers ── watch ──┬── write ── publish ──▶ Done
//!    │ guest: paused first if requested,        │
//!    │ resumed after its last page was read     │
//!    └ running kernel: writes its own dump ─────┘
//! ```

use std::cell::Cell;
use std::sync::Arc;
use std::time::{Duration, Instant};

use livecore_compress::{Codec, ReadAt};
use livecore_kernel::locate::Machine;
use livecore_minidump::convert::{Written, finish_with};
use livecore_minidump::encryption::Sealer;
use livecore_minidump::provenance::Provenance;
use livecore_minidump::{Error, KernelDumpHeader, KernelElf, PhysMemory};

use super::error::TakeError;
use super::guest::{self, GuestSource, OpenPause, Prepared};
use super::live::{Lacking, LiveKernel};
use super::note::Note;
use super::observer::{Observer, Stage};
use super::options::RunOptions;
use super::plan::{plan, plan_machine};
use super::taken::Taken;
use crate::gdb;
use crate::image::CpuState;
use crate::publish::{Output, Published, Sink};

/// The source of a dump.
pub enum Source {
    /// A machine's memory, and its CPUs' registers if known.
    Memory {
        /// The memory.
        memory: Arc<dyn PhysMemory>,
        /// The CPUs; empty if unknown.
        cpus: Vec<CpuState>,
        /// The kernel of the machine.
        elf: Arc<KernelElf>,
    },
    /// A running machine whose kernel is located: `/dev/mem`. Its torn pages are counted.
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
        /// The kernel of the guest.
        elf: Arc<KernelElf>,
    },
    /// A guest that its gdb stub has paused.
    Stub {
        /// The guest.
        guest: gdb::Guest,
        /// The kernel of the guest.
        elf: Arc<KernelElf>,
    },
    /// The running kernel, which writes its dump itself (MEM_KERNELDUMP).
    Kernel {
        /// The kernel.
        kernel: LiveKernel,
        /// Whether to keep the kernel's own compressed stream.
        compress: bool,
    },
}

impl Source {
    /// Memory with its kernel, without registers.
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
    /// The published dump.
    pub published: Published,
    /// Its sizes, its header and its provenance.
    pub written: Written,
    /// The number of pages; `None` for a stream that the running kernel compressed.
    pub pages: Option<u64>,
    /// Pages that the kernel would have dumped and that the memory does not contain.
    pub missing: u64,
    /// Pages that the running kernel has marked and that its dump lacks, if they were counted.
    pub lacking: Option<Lacking>,
    /// The time for writing.
    pub took: Duration,
    /// Messages for the user: about the machine, then about the directory.
    pub notes: Vec<Note>,
}

/// Takes a dump of `source`.
///
/// The output is opened before anything else. If the dump fails, no file is left, and a guest that
/// was paused is resumed.
///
/// # Errors
///
/// [`TakeError`], with a variant for each cause that a caller may handle.
pub fn run(
    source: Source,
    output: Output<'_>,
    options: &RunOptions,
    observer: &mut dyn Observer,
) -> Result<Done, TakeError> {
    options.target.check()?;
    if let Some((_, cipher)) = &options.encryption {
        Sealer::inner_target(*cipher, &options.target)?;
    }
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
            run.planned(Prepared {
                changing: true,
                ..Prepared::of(taken)
            })
        }
        Source::Guest { guest, elf } => {
            let (mut of_guest, pausing, guard) = (guest.guest, guest.pausing, guest.guard);
            let prepared =
                guest::prepare(&mut of_guest, pausing, guard, &elf, options, run.observer)?;
            run.planned(prepared)
        }
        Source::Stub { guest, elf } => run.planned(guest::prepare_stub(guest, &elf, options)?),
        Source::Kernel { kernel, compress } => run.by_kernel(&kernel, compress),
    }
}

impl Prepared<'_> {
    fn of(taken: Taken) -> Self {
        Self {
            taken,
            changing: false,
            pause: None,
        }
    }
}

/// A dump that can be written.
struct Content<'a> {
    payload: &'a dyn ReadAt,
    header: KernelDumpHeader,
    len: u64,
    pages: u64,
    notes: Vec<Note>,
}

/// A run with an open output.
struct Run<'a, 'o> {
    sink: Sink<'o>,
    options: &'a RunOptions,
    observer: &'a mut dyn Observer,
}

impl Run<'_, '_> {
    /// Writes a planned dump. Resumes a paused guest after its last page was read.
    fn planned(mut self, prepared: Prepared<'_>) -> Result<Done, TakeError> {
        let Prepared {
            mut taken,
            changing,
            pause,
        } = prepared;
        // For memory that is known to change, count torn pages at least.
        if let Some(rounds) = self.options.converge.or(changing.then_some(0)) {
            let progress = self.observer.begin(Stage::ReadAgain, None);
            taken.watch(rounds, &*progress)?;
        }
        for note in &taken.notes {
            self.observer.say(note);
        }
        let record = taken.provenance_record();
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
        let (pause, failed) = (Cell::new(pause), Cell::new(None::<TakeError>));
        let paused = Cell::new(None);
        // Called after the last page was read, for every container.
        let provenance = || {
            match pause.take().map(OpenPause::end) {
                Some(Ok(pause)) => paused.set(Some(pause)),
                Some(Err(error)) => failed.set(Some(error)),
                None => {}
            }
            let mut provenance = record.provenance();
            provenance.pause = provenance.pause.or(paused.get());
            provenance
        };
        let (written, took) = self.write(&content, &provenance)?;
        if let Some(error) = failed.take() {
            return Err(error);
        }
        if let Some(pause) = paused.take() {
            let seconds = pause.seconds();
            self.observer.say(&Note::Paused { seconds });
        }
        let done = self.publish(written, took, Some(content.pages), content.notes)?;
        Ok(Done { missing, ..done })
    }

    /// Makes the running kernel write its dump, and stores it.
    fn by_kernel(mut self, kernel: &LiveKernel, compress: bool) -> Result<Done, TakeError> {
        self.observer.say(&Note::KernelDumps);
        let begun = Instant::now();
        let estimate = kernel.estimate();
        let expected = (estimate.bytes > 0).then_some(estimate.bytes);
        let progress = self.observer.begin(Stage::Kernel, expected);
        let mut reached = 0;
        let mut waiting = |written: u64| {
            progress.advance(written.saturating_sub(reached), 0);
            reached = written.max(reached);
        };
        let encoding = &self.options.target.encoding;
        if compress {
            let Sink::Pending(pending) = &mut self.sink else {
                return Err(
                    Error::Options("a kernel can only dump to a file; use -o FILE".into()).into(),
                );
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
                flags: 0,
                provenance: Provenance::default(),
            };
            return self.publish(written, begun.elapsed(), None, Vec::new());
        }
        // Each worker reads one frame, and none is more than a few frames ahead of the slowest.
        let kept = u64::from(encoding.frame_size) * (4 * encoding.threads.get() as u64 + 4);
        let live = match &mut self.sink {
            Sink::Pending(pending)
                if encoding.codec == Codec::None
                    && self.options.encryption.is_none()
                    && pending.file().is_some() =>
            {
                kernel.dump_in_place(pending, estimate, &mut waiting)?
            }
            _ => kernel.dump(&self.options.spool_dir, kept, estimate, &mut waiting)?,
        };
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
        let done = self.publish(written, begun.elapsed(), Some(content.pages), content.notes)?;
        Ok(Done {
            lacking: live.lacking,
            ..done
        })
    }

    /// Writes the dump and returns how long it took. `provenance` is called after all pages were
    /// read.
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
        let written = self.sink.write(|out| match &self.options.encryption {
            None => finish_with(*payload, header, provenance, target, out, &*progress),
            Some((key, cipher)) => {
                let inner = Sealer::inner_target(*cipher, target)?;
                Sealer::new(key, *cipher)?.write(out, |out| {
                    finish_with(*payload, header, provenance, &inner, out, &*progress)
                })
            }
        })?;
        Ok((written, begun.elapsed()))
    }

    /// Publishes the dump.
    fn publish(
        self,
        written: Written,
        took: Duration,
        pages: Option<u64>,
        mut notes: Vec<Note>,
    ) -> Result<Done, TakeError> {
        let published = self.sink.publish(&written, &self.options.device)?;
        notes.extend(published.notes.iter().cloned().map(Note::Directory));
        Ok(Done {
            published,
            written,
            pages,
            missing: 0,
            lacking: None,
            took,
            notes,
        })
    }
}
