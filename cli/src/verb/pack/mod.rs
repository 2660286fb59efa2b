//! `livecore pack DUMP [OUT]`: writes a dump and the files that its analysis needs to one file.

mod collect;
mod limit;

use std::io::Write;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

use livecore_compress::{Codec, Encoding, Progress};
use livecore_livedump::publish::{self, Destination};
use livecore_minidump::pack::{self, Archive, Kind, Manifest};
use serde::Serialize;

use crate::companion;
use crate::dump_args::NumberArg;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::id::Id;
use crate::input::{self, KernelArgs, Opening};
use crate::output::{self, Begun};
use crate::session::Session;
use crate::text::{Bytes, Short, parse_size};

use collect::Collected;

const MANUAL: &str = "\
Examples:
  livecore pack livecore.0.zst                  writes livecore.0.tar.zst
  livecore pack vmcore.3.zst crash3.tar.zst --kernel /boot/kernel/kernel
  livecore pack livecore.0.zst small.tar.zst --limit 200M

A pack is a tar archive that zstd compressed: `tar xf` unpacks it. It contains the dump as it is, info.N, the \
kernel file, the files of loaded modules and the debug files that livecore finds, and a manifest with the size, the \
SHA-256 and the build-id of each. The same files give the same bytes. All verbs that read dumps read packs without \
unpacking them (`livecore triage livecore.0.tar.zst`), and use the kernel of the pack unless --kernel or \
LIVECORE_KERNEL names another. `livecore verify` compares all files with the manifest; other verbs compare those \
that they read (docs/packs.md).

The kernel file must match the dump, and the files of modules must match the modules in memory. With --limit, pack \
leaves out what is needed least until OUT is small enough: first debug files of modules, then files of modules, the \
debug file of the kernel, and the kernel; of each kind the largest first. The manifest lists them.";

/// Arguments of `livecore pack`.
#[derive(Debug, clap::Args)]
#[command(after_help = MANUAL)]
pub struct Args {
    /// Dump, or directory with dumps
    pub dump: PathBuf,
    /// The number of the dump.
    #[command(flatten)]
    pub number: NumberArg,
    /// Output file; `-` for standard output [default: DUMP's name with .tar.zst, in this directory]
    #[arg(value_name = "OUT")]
    pub output: Option<PathBuf>,
    /// Kernel ELF file [default: search near DUMP and in /boot]
    #[arg(short = 'k', short_alias = 'N', long, value_name = "ELF")]
    pub kernel: Option<PathBuf>,
    /// Kernel file, or directory to search; may be repeated
    ///
    /// pack also searches these directories for the files of modules.
    #[arg(long, value_name = "PATH", conflicts_with = "kernel")]
    pub kernel_path: Vec<PathBuf>,
    /// Maximum size of OUT; leave out files to stay below it
    #[arg(long, value_name = "SIZE", value_parser = parse_size)]
    pub limit: Option<u64>,
    /// Number of threads [default: one per processor]
    #[arg(short = 'j', visible_short_alias = 'T', long, value_name = "N")]
    pub threads: Option<NonZeroUsize>,
    /// Replace OUT if it exists
    #[arg(short, long)]
    pub force: bool,
    /// Print the manifest as JSON (docs/json.md)
    #[arg(long)]
    pub json: bool,
}

impl Args {
    /// The kernel that was running. A kernel that contradicts the dump is never packed.
    pub(crate) fn kernel(&self) -> KernelArgs {
        KernelArgs {
            kernel: self.kernel.clone(),
            kernel_path: self.kernel_path.clone(),
            ..KernelArgs::default()
        }
    }

    /// The output: the named file, or a file in the working directory.
    pub(crate) fn output(&self) -> PathBuf {
        self.output.clone().unwrap_or_else(|| {
            let name = self.dump.file_name().map(|name| name.to_string_lossy());
            let name = name.as_deref().unwrap_or("dump");
            let suffixes = [".zst", ".gz"].into_iter();
            let stem = suffixes
                .filter_map(|suffix| name.strip_suffix(suffix))
                .next();
            format!("{}.tar.zst", stem.unwrap_or(name)).into()
        })
    }
}

/// The report: the manifest (docs/schemas/pack.schema.json) with the file.
#[derive(Debug, Serialize)]
struct Report<'a> {
    #[serde(flatten)]
    manifest: &'a Manifest,
    path: String,
    file_size: u64,
}

/// Runs the verb.
pub(crate) fn run(args: &Args, session: &mut Session<'_>) -> Result<(), Failure> {
    let output = args.output();
    let destination = Destination::parse(&output);
    if matches!(destination, Destination::Directory(_)) {
        return Err(Failure::usage("OUT must be a file, not a directory")
            .id_is(Id::OutputIsDirectory)
            .about(&output));
    }
    output::check_stdout(&destination, args.json, session)?;
    if destination.is_stdout() && args.limit.is_some() {
        let what = "--limit needs an output file: the size is known when the pack is complete";
        return Err(Failure::usage(what).id_is(Id::ConflictingArguments));
    }
    let mut collected = open(args, session)?;
    let encoding = Encoding::new(Codec::Zstd).threads(crate::args::threads(args.threads));
    if let Some(limit) = args.limit {
        let bar = session.bar("measure", args.json, Some(collected.size()));
        limit::apply(&mut collected, limit, &encoding, &bar).map_err(|e| e.about(&args.dump))?;
    }
    // The size is known when the pack is complete. It may be larger than the sum of the members.
    let (path, file_size) = loop {
        let bar = session.bar("pack", args.json, Some(collected.size()));
        let written = write(&collected, &destination, args, &encoding, &bar, session)?;
        drop(bar);
        match written {
            Some(written) => break written,
            None => {
                let dropped = limit::drop_next(&mut collected, args.limit.unwrap_or(u64::MAX));
                dropped.map_err(|e| e.about(&args.dump))?;
            }
        }
    };
    report(args, &collected.manifest, &path, file_size, session)
}

/// Opens the dump and finds the files that belong to it.
fn open(args: &Args, session: &mut Session<'_>) -> Result<Collected, Failure> {
    let about = |failure: Failure| failure.about(&args.dump);
    if !args.dump.is_file() && args.dump.exists() || args.dump == Path::new("-") {
        let failure = Failure::usage("pack needs a regular file");
        return Err(about(failure.id_is(Id::InvalidValue)));
    }
    if companion::key_file(&args.dump, &session.stores)?.is_some_and(|key| key.certain) {
        let failure = Failure::new(
            Exit::UNSUPPORTED,
            "cannot pack an encrypted dump with its key file",
        );
        return Err(about(failure).next("use `livecore decrypt` or `livecore convert` first"));
    }
    if input::text_dump(&args.dump, session)?.is_some() {
        let failure = Failure::new(Exit::UNSUPPORTED, "a text dump has no kernel to pack");
        return Err(about(failure));
    }
    let opening = Opening {
        threads: args.threads,
        ..Opening::default()
    };
    let dump = input::dump(&args.dump, opening, session)?;
    if dump.envelope().pack().is_some() {
        return Err(about(Failure::new(Exit::UNSUPPORTED, "already a pack")));
    }
    for warning in dump.envelope().warnings() {
        session.warn_of(&args.dump, warning);
    }
    let kernel = args.kernel();
    let pair = kernel.open(&dump, &args.dump, session)?;
    let mut collected = Collected::new(&dump, &args.dump)?;
    let bar = session.bar("read", args.json, None);
    match &pair {
        Some(pair) => {
            let places = kernel.places(&session.env);
            collected.add_kernel(pair, places, &args.dump, &bar)?;
        }
        None => collected.lacks(pack::KERNEL, Kind::Kernel, "not found"),
    }
    collected.add_dump(&dump, &args.dump, &bar)?;
    drop(bar);
    if pair.is_none() {
        let what = "the pack has no kernel, since none was found; use --kernel ELF";
        session.warn(&args.dump, Id::PackIncomplete, what);
    }
    for missing in &collected.manifest.missing {
        let line = format_args!("not in the pack: {}: {}", missing.name, missing.why);
        match missing.kind {
            Kind::Module => session.voice.say(Id::PackIncomplete, line),
            _ => session.voice.detail(Id::PackIncomplete, line),
        }
    }
    Ok(collected)
}

/// Writes the pack. Returns the path and the size, or `None` if it is larger than the limit.
fn write(
    collected: &Collected,
    destination: &Destination,
    args: &Args,
    encoding: &Encoding,
    progress: &dyn Progress,
    session: &mut Session<'_>,
) -> Result<Option<(PathBuf, u64)>, Failure> {
    let archive = Archive::new(&collected.manifest, &collected.contents)?;
    let options = publish::Options::default().force(args.force);
    let out = match destination {
        Destination::File(path) | Destination::Directory(path) => path,
        Destination::Stdout => Path::new("standard output"),
    };
    let failed = |error: livecore_minidump::Error| match &error {
        livecore_minidump::Error::Io { what, .. } if what == "write" => {
            Failure::from(error).about(out)
        }
        _ => Failure::from(error).about(&args.dump),
    };
    match output::begin(destination, &options, session)? {
        Begun::File(mut pending) => {
            let len = pack::write(&archive, encoding, &mut *pending, progress).map_err(failed)?;
            if args.limit.is_some_and(|limit| len > limit) {
                return Ok(None);
            }
            collected.require_unchanged()?;
            // Only a dump in a directory has an info file.
            Ok(Some((pending.publish(&|_| Vec::new())?.path, len)))
        }
        Begun::Object(mut upload) => {
            let mut out = livecore_compress::InOrder(&mut *upload);
            let written = pack::write(&archive, encoding, &mut out, progress);
            let len = written.map_err(|e| upload.failure().unwrap_or_else(|| failed(e)))?;
            if args.limit.is_some_and(|limit| len > limit) {
                return Ok(None);
            }
            collected.require_unchanged()?;
            let path = upload.path().to_owned();
            upload.complete()?;
            Ok(Some((path, len)))
        }
        Begun::Stdout => {
            let mut out = livecore_compress::InOrder(&mut session.out);
            let len = pack::write(&archive, encoding, &mut out, progress).map_err(failed)?;
            out.flush()?;
            collected.require_unchanged()?;
            Ok(Some((PathBuf::from("-"), len)))
        }
    }
}

fn report(
    args: &Args,
    manifest: &Manifest,
    path: &Path,
    file_size: u64,
    session: &mut Session<'_>,
) -> Result<(), Failure> {
    for dropped in &manifest.dropped {
        let line = format_args!(
            "left out for --limit: {}, {}",
            dropped.name,
            Short(dropped.size)
        );
        session.voice.say(Id::PackIncomplete, line);
    }
    if args.json {
        let report = Report {
            manifest,
            path: path.display().to_string(),
            file_size,
        };
        crate::json::print_numbered(&report, &mut session.out)?;
        return Ok(());
    }
    let kinds = [
        (Kind::Dump, "dump"),
        (Kind::Info, "info file"),
        (Kind::Kernel, "kernel"),
        (Kind::Module, "module"),
        (Kind::Debug, "debug file"),
    ];
    let counts = kinds.into_iter().filter_map(|(kind, name)| {
        let count = manifest.members.iter().filter(|m| m.kind == kind).count();
        match count {
            0 => None,
            1 => Some(format!("1 {name}")),
            count => Some(format!("{count} {name}s")),
        }
    });
    let counts: Vec<_> = counts.collect();
    let line = format_args!(
        "{}: {}, {}",
        path.display(),
        Bytes(file_size),
        counts.join(", ")
    );
    session.voice.say(Id::Written, line);
    Ok(())
}
