//! Converts a dump from one kind to another: minidump, full dump, ELF core.

use std::fmt;
use std::sync::Arc;

use livecore_compress::{Codec, Output, Progress, ReadAt};
use livecore_kernel::{Kernel, Pair, thread_notes};
use livecore_minidump::convert::{self, Target, Written};
use livecore_minidump::elf::export::{Export, ExportOptions, export, export_full};
use livecore_minidump::elf::notes::{NoteStyle, ThreadNote};
use livecore_minidump::reduced::Reduced;
use livecore_minidump::{
    AnyDump, Container, Dump, Error, FullDump, KernelDumpHeader, OpenOptions, Payload,
};

use crate::reduction::{Class, Place, ReductionError, reduce};
use crate::take::{Note, PlanOptions, TakeError, plan_machine};

/// A kind of dump.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The kernel's pages and page tables.
    Minidump,
    /// An ELF core by physical addresses.
    Full,
    /// An ELF core by kernel virtual addresses, for debuggers.
    Elf,
}

impl Kind {
    /// The container of a dump converted to `kind`, unless the user selects one.
    pub fn container(kind: Option<Self>, codec: Codec) -> Container {
        match kind {
            // Other readers of ELF cores do not expect a seal after the core.
            Some(Self::Elf) if codec == Codec::None => Container::Saved,
            _ => Container::Sealed,
        }
    }
}

/// What a planned conversion adds, lacks or could not read.
#[derive(Debug)]
#[non_exhaustive]
pub enum ConversionNote {
    /// The core contains no minidump and cannot be converted back, for this reason.
    CoreOnly(TakeError),
    /// The core contains no threads: there is no kernel.
    NoThreads,
    /// Page tables are not in the dump; the core lacks the pages they map.
    TablesMissing(u64),
    /// A note about the minidump that the kernel would have written.
    Take(Note),
    /// Pages that the kernel dumps are not in the full dump.
    PagesMissing(u64),
    /// The kernel's data about threads cannot be read.
    Threads(String),
}

impl fmt::Display for ConversionNote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::CoreOnly(error) => write!(
                f,
                "{error}; the core contains no minidump and cannot be converted back"
            ),
            Self::NoThreads => f.write_str("no kernel: the core contains memory but no threads"),
            Self::TablesMissing(count) => write!(
                f,
                "{count} page tables are not in the dump; the core lacks the pages they map"
            ),
            Self::Take(note) => note.fmt(f),
            Self::PagesMissing(1) => f.write_str(
                "1 page that the kernel dumps is missing in this memory and in the dump",
            ),
            Self::PagesMissing(count) => write!(
                f,
                "{count} pages that the kernel dumps are missing in this memory and in the dump"
            ),
            Self::Threads(problem) => f.write_str(problem),
        }
    }
}

/// Why a conversion cannot be planned.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConversionError {
    /// The page tables of a full dump are located with its kernel, and there is none.
    #[error("cannot locate the page tables of a full dump without its kernel")]
    NoKernel,
    /// The minidump that the kernel would have written cannot be planned.
    #[error(transparent)]
    Take(#[from] TakeError),
    /// The dump cannot be read.
    #[error(transparent)]
    Minidump(#[from] Error),
    /// Pages can be excluded from minidumps only.
    #[error("cannot exclude pages from, or redact memory in, a dump that is not a minidump")]
    NotMinidump,
    /// Pages cannot be excluded, or memory cannot be redacted.
    #[error(transparent)]
    Reduction(#[from] ReductionError),
}

/// A planned conversion.
pub enum Conversion {
    /// A minidump with the same payload.
    Mini(Arc<Dump>),
    /// A full dump with the same payload.
    Full(Arc<FullDump>),
    /// A minidump's pages as a full dump.
    ToFull(Arc<Dump>),
    /// A minidump as an ELF core.
    ToElf(Arc<Dump>, Box<Export>),
    /// A full dump as an ELF core.
    FullToElf(Arc<FullDump>, Box<Export>),
    /// The minidump that the kernel of a full dump would have written.
    ToMini(Box<Payload>, Box<KernelDumpHeader>),
    /// A minidump without some of its pages or with redacted memory.
    Reduced(Reduced),
}

impl Conversion {
    /// Whether the conversion of `source` to `kind` uses the kernel file.
    pub fn uses_kernel(source: &AnyDump, kind: Option<Kind>) -> bool {
        match (source, kind) {
            (_, None | Some(Kind::Full)) => false,
            (_, Some(Kind::Elf)) => true,
            (source, Some(Kind::Minidump)) => source.minidump().is_none(),
        }
    }

    /// Plans the conversion of `source` to `kind`; `None` is its own. `style` is that of the notes of
    /// an ELF core. Adds to `notes`, even if it fails.
    ///
    /// # Errors
    ///
    /// Returns [`ConversionError::NoKernel`] if `pair` is required, and the errors of reading the dump.
    pub fn plan(
        source: &AnyDump,
        kind: Option<Kind>,
        style: NoteStyle,
        pair: Option<&Pair>,
        notes: &mut Vec<ConversionNote>,
    ) -> Result<Self, ConversionError> {
        let mut planner = Planner { style, pair, notes };
        match (source, kind) {
            (AnyDump::Mini(dump), None | Some(Kind::Minidump)) => Ok(Self::Mini(Arc::clone(dump))),
            (AnyDump::Mini(dump), Some(Kind::Full)) => Ok(Self::ToFull(Arc::clone(dump))),
            (AnyDump::Mini(dump), Some(Kind::Elf)) => planner.mini_to_elf(dump),
            (AnyDump::Full(dump), None | Some(Kind::Full)) => Ok(Self::Full(Arc::clone(dump))),
            (AnyDump::Full(full), Some(kind)) => match (full.minidump(), kind) {
                (Some(mini), Kind::Minidump) => Ok(Self::Mini(Arc::clone(mini))),
                (Some(mini), _) => planner.mini_to_elf(mini),
                (None, kind) => planner.of_full(kind, full),
            },
        }
    }

    /// Plans a minidump without the pages of the classes `exclude`, and with the memory `redact` overwritten.
    ///
    /// # Errors
    ///
    /// Returns [`ConversionError::NotMinidump`] if `source` is not a minidump, and [`ConversionError::Reduction`] if a
    /// class or place cannot be found or left out.
    pub fn reduced(
        source: &AnyDump,
        pair: &Pair,
        exclude: &[Class],
        redact: &[Place],
    ) -> Result<Self, ConversionError> {
        let AnyDump::Mini(dump) = source else {
            return Err(ConversionError::NotMinidump);
        };
        Ok(Self::Reduced(reduce(dump, pair, exclude, redact)?))
    }

    /// Returns the size of the output before compression, if known.
    pub fn payload_len(&self) -> Option<u64> {
        match self {
            Self::Mini(dump) => dump.envelope().known_len(),
            Self::Full(dump) => dump.envelope().known_len(),
            Self::ToFull(dump) => {
                let layout = dump.layout();
                dump.envelope().known_len().map(|len| len.min(layout.end()))
            }
            Self::ToElf(_, export) | Self::FullToElf(_, export) => export.core.size().ok(),
            Self::ToMini(payload, _) => payload.size().ok(),
            Self::Reduced(reduced) => reduced.size().ok(),
        }
    }

    /// Writes the converted dump to `out`.
    ///
    /// # Errors
    ///
    /// Returns the errors of [`convert::convert`].
    pub fn write(
        &self,
        target: &Target,
        out: &mut dyn Output,
        progress: &dyn Progress,
    ) -> Result<Written, Error> {
        match self {
            Self::Mini(dump) => convert::convert(dump, target, out, progress),
            Self::Full(dump) => convert::convert_full(dump, target, out, progress),
            Self::ToFull(dump) => convert::to_full(dump, target, out, progress),
            Self::ToElf(dump, export) => convert::to_elf(dump, export, target, out, progress),
            Self::FullToElf(dump, export) => {
                convert::full_to_elf(dump, export, target, out, progress)
            }
            Self::ToMini(payload, header) => {
                convert::finish(&**payload, (**header).clone(), target, out, progress)
            }
            Self::Reduced(reduced) => reduced.write(target, out, progress),
        }
    }
}

/// What the plan of a conversion uses.
struct Planner<'a> {
    style: NoteStyle,
    pair: Option<&'a Pair>,
    notes: &'a mut Vec<ConversionNote>,
}

impl Planner<'_> {
    fn mini_to_elf(&mut self, mini: &Arc<Dump>) -> Result<Conversion, ConversionError> {
        let kernel = self.pair.map(|pair| Kernel::of_dump(mini, &**pair.elf()));
        let options = self.options(kernel.as_ref());
        let export = self.core(export(mini, &options)?);
        Ok(Conversion::ToElf(Arc::clone(mini), export))
    }

    /// Plans the minidump that the kernel of a full dump would have written, or a core of it.
    fn of_full(&mut self, kind: Kind, dump: &Arc<FullDump>) -> Result<Conversion, ConversionError> {
        let machine = self.pair.and_then(|pair| Some((pair, pair.machine()?)));
        let Some((pair, machine)) = machine else {
            return Err(ConversionError::NoKernel);
        };
        let elf = pair.elf();
        let machine = machine.machine().clone();
        let taken = match plan_machine(machine, elf, &PlanOptions::default()) {
            Ok(taken) => taken,
            // A core needs only the page tables.
            Err(error) if kind == Kind::Elf => {
                self.notes.push(ConversionNote::CoreOnly(error));
                let options = self.options(Some(&pair.kernel()));
                let export = self.core(export_full(dump, &*pair.memory(), &options)?);
                return Ok(Conversion::FullToElf(Arc::clone(dump), export));
            }
            Err(error) => return Err(error.into()),
        };
        let notes = taken.notes.iter().cloned();
        self.notes.extend(notes.map(ConversionNote::Take));
        if taken.missing > 0 {
            self.notes.push(ConversionNote::PagesMissing(taken.missing));
        }
        let header = dump
            .envelope()
            .kerneldumpheader()
            .cloned()
            .unwrap_or_else(|| taken.header());
        let payload = taken.into_payload();
        if kind == Kind::Minidump {
            return Ok(Conversion::ToMini(Box::new(payload), Box::new(header)));
        }
        let mini = Dump::from_source(Arc::new(payload), &OpenOptions::default())?;
        let mini = Arc::new(mini);
        let kernel = Kernel::of_dump(&mini, &**elf);
        let options = self.options(Some(&kernel));
        let export = self.core(export(&mini, &options)?);
        drop(kernel);
        Ok(Conversion::ToElf(mini, export))
    }

    /// The contents of a core other than memory.
    fn options(&mut self, kernel: Option<&Kernel<'_>>) -> ExportOptions {
        let mut options = ExportOptions::default().style(self.style);
        match kernel {
            Some(kernel) => self.describe(&mut options, kernel),
            None => self.notes.push(ConversionNote::NoThreads),
        }
        if options.threads.is_empty() {
            // lldb does not open a core without a thread.
            options.threads.push(ThreadNote {
                tid: 1,
                name: "threads unknown".into(),
                ..ThreadNote::default()
            });
        }
        options
    }

    fn core(&mut self, export: Export) -> Box<Export> {
        if export.tables_missing > 0 {
            let note = ConversionNote::TablesMissing(export.tables_missing);
            self.notes.push(note);
        }
        Box::new(export)
    }

    /// Adds what the kernel describes: entry point, flags, release and threads.
    fn describe(&mut self, options: &mut ExportOptions, kernel: &Kernel<'_>) {
        options.entry = kernel.elf().entry();
        options.flags = kernel.elf().flags();
        options.osreldate = kernel.osreldate().unwrap_or(0);
        let problems = match thread_notes(kernel) {
            Ok((threads, mut problems)) => {
                options.threads = threads;
                let more = problems.len().saturating_sub(3);
                problems.truncate(3);
                if more > 0 {
                    problems.push(format!("{more} more warnings about threads"));
                }
                problems
            }
            Err(error) => vec![format!("cannot read threads: {error}")],
        };
        let problems = problems.into_iter();
        self.notes.extend(problems.map(ConversionNote::Threads));
    }
}
