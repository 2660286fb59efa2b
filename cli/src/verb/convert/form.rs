//! Plans a conversion from one kind of dump to another.

use std::path::Path;
use std::sync::Arc;

use livecore_compress::{Output, Progress, ReadAt};
use livecore_kernel::Kernel;
use livecore_kernel::thread_notes;
use livecore_livedump::take::{self, PlanOptions};
use livecore_minidump::convert::{self, Target, Written};
use livecore_minidump::elf::export::{Export, ExportOptions, export, export_full};
use livecore_minidump::elf::notes::{NoteStyle, ThreadNote};
use livecore_minidump::{AnyDump, Dump, Error, FullDump, KernelDumpHeader, OpenOptions, Payload};

use super::{Args, Form, NotesArg};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::id::Id;
use crate::input::KernelArgs;
use crate::output;
use crate::session::Session;

/// A planned conversion.
pub(super) enum Work {
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
}

impl Work {
    /// Plans what `args` request. Prints notes and warnings.
    pub(super) fn plan(
        args: &Args,
        source: &AnyDump,
        session: &mut Session<'_>,
    ) -> Result<Self, Failure> {
        match (source, args.to) {
            (AnyDump::Mini(dump), None | Some(Form::Minidump)) => Ok(Self::Mini(Arc::clone(dump))),
            (AnyDump::Mini(dump), Some(Form::Full)) => Ok(Self::ToFull(Arc::clone(dump))),
            (AnyDump::Full(dump), None | Some(Form::Full)) => Ok(Self::Full(Arc::clone(dump))),
            (AnyDump::Full(full), Some(form)) => match (full.minidump(), form) {
                (Some(mini), Form::Minidump) => Ok(Self::Mini(Arc::clone(mini))),
                (Some(mini), _) => to_elf(args, source, mini, session),
                (None, form) => of_full(args, form, source, full, session),
            },
            (AnyDump::Mini(dump), Some(Form::Elf)) => to_elf(args, source, dump, session),
        }
    }

    /// Size of the output before compression, if known.
    pub(super) fn len(&self) -> Option<u64> {
        match self {
            Self::Mini(dump) => dump.envelope().known_len(),
            Self::Full(dump) => dump.envelope().known_len(),
            Self::ToFull(dump) => {
                let layout = dump.layout();
                dump.envelope().known_len().map(|len| len.min(layout.end()))
            }
            Self::ToElf(_, export) | Self::FullToElf(_, export) => export.core.size().ok(),
            Self::ToMini(payload, _) => payload.size().ok(),
        }
    }

    pub(super) fn write(
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
        }
    }
}

fn kernel_args(args: &Args) -> KernelArgs {
    KernelArgs {
        kernel: args.kernel.clone(),
        kernel_path: args.kernel_path.clone(),
        ..KernelArgs::default()
    }
}

fn to_elf(
    args: &Args,
    source: &AnyDump,
    mini: &Arc<Dump>,
    session: &mut Session<'_>,
) -> Result<Work, Failure> {
    let pair = kernel_args(args).open(source, &args.input, session)?;
    let kernel = pair
        .as_ref()
        .map(|pair| Kernel::of_dump(mini, &**pair.elf()));
    let options = options(args, kernel.as_ref(), session);
    let export = core(args, export(mini, &options), session)?;
    Ok(Work::ToElf(Arc::clone(mini), Box::new(export)))
}

/// Converts a full dump to the minidump its kernel would have written, or to a core of that.
fn of_full(
    args: &Args,
    form: Form,
    source: &AnyDump,
    dump: &Arc<FullDump>,
    session: &mut Session<'_>,
) -> Result<Work, Failure> {
    let pair = kernel_args(args).open(source, &args.input, session)?;
    let Some((pair, machine)) = pair.as_ref().and_then(|p| Some((p, p.machine()?))) else {
        let failure = Failure::new(
            Exit::UNSUPPORTED,
            "cannot locate the page tables of a full dump without its kernel",
        );
        return Err(failure.about(&args.input).next("use --kernel ELF"));
    };
    let elf = pair.elf();
    let machine = machine.machine().clone();
    let taken = match take::plan_machine(machine, elf, &PlanOptions::default()) {
        Ok(taken) => taken,
        // A core needs only the page tables.
        Err(error) if form == Form::Elf => {
            session.voice.say(
                Id::CoreOnly,
                format_args!("{error}; the core contains no minidump and cannot be converted back"),
            );
            let options = options(args, Some(&pair.kernel()), session);
            let planned = export_full(dump, &*pair.memory(), &options);
            let export = core(args, planned, session)?;
            return Ok(Work::FullToElf(Arc::clone(dump), Box::new(export)));
        }
        Err(error) => return Err(Failure::from(error).about(&args.input)),
    };
    for note in &taken.notes {
        session.voice.say(Id::of_note(note), note);
    }
    output::warn_missing_pages(taken.missing, &args.input, session);
    let header = dump
        .envelope()
        .kerneldumpheader()
        .cloned()
        .unwrap_or_else(|| taken.header());
    let payload = taken.into_payload();
    if form == Form::Minidump {
        return Ok(Work::ToMini(Box::new(payload), Box::new(header)));
    }
    let mini = Dump::from_source(Arc::new(payload), &OpenOptions::default())
        .map_err(|e| Failure::from(e).about(&args.input))?;
    let mini = Arc::new(mini);
    let kernel = Kernel::of_dump(&mini, &**elf);
    let options = options(args, Some(&kernel), session);
    let export = core(args, export(&mini, &options), session)?;
    drop(kernel);
    Ok(Work::ToElf(mini, Box::new(export)))
}

/// The contents of a core other than memory.
fn options(args: &Args, kernel: Option<&Kernel<'_>>, session: &mut Session<'_>) -> ExportOptions {
    let style = match args.notes {
        Some(NotesArg::Linux) => NoteStyle::Linux,
        _ => NoteStyle::FreeBsd,
    };
    let mut options = ExportOptions::default().style(style);
    match kernel {
        Some(kernel) => describe(&mut options, kernel, &args.input, session),
        None => session.voice.say(
            Id::CoreIncomplete,
            "no kernel: the core contains memory but no threads",
        ),
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

/// Returns the planned core. Prints what it lacks.
fn core(
    args: &Args,
    planned: Result<Export, Error>,
    session: &mut Session<'_>,
) -> Result<Export, Failure> {
    let export = planned.map_err(|e| Failure::from(e).about(&args.input))?;
    if export.tables_missing > 0 {
        let line = format_args!(
            "{} page tables are not in the dump; the core lacks the pages they map",
            export.tables_missing
        );
        session.voice.say(Id::CoreIncomplete, line);
    }
    Ok(export)
}

/// Adds what the kernel describes: entry point, flags, release and threads.
fn describe(
    options: &mut ExportOptions,
    kernel: &Kernel<'_>,
    name: &Path,
    session: &mut Session<'_>,
) {
    options.entry = kernel.elf().entry();
    options.flags = kernel.elf().flags();
    options.osreldate = kernel.osreldate().unwrap_or(0);
    match thread_notes(kernel) {
        Ok((threads, problems)) => {
            options.threads = threads;
            let more = problems.len().saturating_sub(3);
            for problem in problems.into_iter().take(3) {
                session.warn(name, Id::KernelData, problem);
            }
            if more > 0 {
                session.warn(
                    name,
                    Id::KernelData,
                    format_args!("{more} more warnings about threads"),
                );
            }
        }
        Err(error) => session.warn(
            name,
            Id::KernelData,
            format_args!("cannot read threads: {error}"),
        ),
    }
}
