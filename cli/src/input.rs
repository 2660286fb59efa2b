//! Opens the inputs of verbs: dumps and kernels.

use std::fs::File;
use std::io;
use std::num::NonZeroUsize;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use livecore_compress::{Progress as _, ReadAt, StreamKind};
use livecore_defs::foreign::{Foreign, HEAD};
use livecore_kernel::Agreement;
use livecore_kernel::SearchResult;
use livecore_kernel::{KernelSearch, Pair, PairError, Tried};
use livecore_livedump::disk::Disk;
use livecore_minidump::Warning;
use livecore_minidump::encryption;
use livecore_minidump::pack::Pack;
use livecore_minidump::textdump::TextDump;
use livecore_minidump::{AnyDump, KernelElf, OpenOptions};

use crate::companion;
use crate::crash_directory;
use crate::downloaded;
use crate::ends;
use crate::env::Env;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::id::Id;
use crate::remote::is_remote;
use crate::session::Session;
use livecore_serve::command;

/// How to open a dump.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Opening {
    /// Decoding threads; one for each processor if `None`.
    pub threads: Option<NonZeroUsize>,
    /// Read page data lost at the end as zeros.
    pub zero_tail: bool,
    /// Skip the check at the end of the run, since the verb reads only the start of the dump or
    /// checks the stream itself.
    pub unchecked: bool,
    /// Read no page: keep only the start and the end of a pipe.
    pub ends: bool,
    /// At the end of the run, warn of every loss that is known only then, and not only of a stream
    /// that ends early.
    pub loss: bool,
}

/// Opens the dump `path`, of any kind; `-` is standard input. Copies an input that cannot seek to
/// an unlinked file.
pub(crate) fn dump(
    path: &Path,
    opening: Opening,
    session: &mut Session<'_>,
) -> Result<AnyDump, Failure> {
    let options = OpenOptions::new()
        .stream(session.stream_options(opening.threads))
        .zero_tail(opening.zero_tail)
        .bitmap_limit(session.env.memory)
        .key(session.env.key.clone());
    let is_regular = !is_remote(path) && path.metadata().is_ok_and(|m| m.is_file());
    let opened = if path != Path::new("-") && is_regular {
        AnyDump::open(path, &options)
    } else if opening.ends && path == Path::new("-") {
        let ends = ends::of_stdin(&mut session.env);
        AnyDump::from_source(ends.map_err(|e| Failure::from(e).about(path))?, &options)
    } else if is_remote(path) {
        let options = companion::of_object(path, options, &session.stores)?;
        AnyDump::from_source(session.stores.open(path)?, &options)
    } else {
        AnyDump::from_source(unopened(path, session)?.into(), &options)
    };
    let dump = opened.map_err(|e| not_opened(e, path))?;
    if !opening.unchecked {
        session.check_at_end(path, dump.clone(), opening.loss);
    }
    Ok(dump)
}

/// The failure to open the dump `path`. If it has the name of an encrypted dump of savecore(8), the
/// failure names the missing key file.
pub(crate) fn not_opened(error: livecore_minidump::Error, path: &Path) -> Failure {
    use livecore_minidump::Error;
    let unreadable = matches!(error, Error::NotADump { .. });
    let failure = match crash_directory::lacks_key_file(path) {
        Some(key) if unreadable => Failure::new(
            Exit::UNSUPPORTED,
            format_args!("encrypted dump without its key file {key}"),
        )
        .id_is(Id::Encrypted),
        _ => Failure::from(error),
    };
    failure.about(path)
}

/// Opens the dump `path` if it is a text dump. `None` if it is not, or if it cannot be read twice.
pub(crate) fn text_dump(path: &Path, session: &Session<'_>) -> Result<Option<TextDump>, Failure> {
    let options = session.stream_options(None);
    if is_remote(path) {
        let opened = TextDump::from_source(session.stores.open(path)?, &options);
        return opened.map_err(|e| Failure::from(e).about(path));
    }
    let opened = match disk(path)? {
        Some(disk) => TextDump::from_source(disk, &options),
        None if path.is_file() => TextDump::open(path, &options),
        None => return Ok(None),
    };
    opened.map_err(|e| Failure::from(e).about(path))
}

/// Opens the disk device `path`, whose size is not that of its file. `None` if `path` is another file.
fn disk(path: &Path) -> Result<Option<Arc<Disk>>, Failure> {
    let kind = path.metadata().map(|found| found.file_type());
    if !kind.is_ok_and(|kind| kind.is_block_device() || kind.is_char_device()) {
        return Ok(None);
    }
    match Disk::open(path, false) {
        Ok(disk) => Ok(Some(Arc::new(disk))),
        Err(e) if e.kind() == io::ErrorKind::Unsupported => Ok(None),
        Err(e) => Err(Failure::from(e).about(path)),
    }
}

/// Opens the dump `path` to read it at any offset: a disk device, or a file as [`seekable`] opens it. The
/// source of a pack is the dump in it.
pub(crate) fn source(path: &Path, session: &mut Session<'_>) -> Result<Source, Failure> {
    let source = unopened(path, session)?;
    let (bytes, file): (Arc<dyn ReadAt>, _) = match &source {
        Source::File(file) => (Arc::clone(file) as _, Some(Arc::clone(file))),
        Source::Object(object) => (Arc::clone(object), None),
        Source::Disk(_) | Source::Pack(..) => return Ok(source),
    };
    let options = session.stream_options(None);
    let options = options.memory(session.env.memory / 4);
    let pack = Pack::from_source(bytes, &options);
    Ok(match pack.map_err(|e| Failure::from(e).about(path))? {
        Some(pack) => Source::Pack(file, Arc::new(pack)),
        None => source,
    })
}

/// Opens `path` as [`source`] does, but not the pack in it.
fn unopened(path: &Path, session: &mut Session<'_>) -> Result<Source, Failure> {
    if is_remote(path) {
        return Ok(Source::Object(session.stores.open(path)?));
    }
    Ok(match disk(path)? {
        Some(disk) => Source::Disk(disk),
        None => Source::File(Arc::new(seekable(path, session)?)),
    })
}

/// `file` with its data decrypted, if it is an encrypted dump with a key file. The verifier finds the
/// key blocks of other encrypted dumps.
pub(crate) fn decrypted(
    path: &Path,
    file: Arc<dyn ReadAt>,
    session: &Session<'_>,
) -> Result<Arc<dyn ReadAt>, Failure> {
    let key_file = companion::key_file(path, &session.stores)?;
    let (key, options) = (session.env.key.as_deref(), session.stream_options(None));
    encryption::saved_plain(file, key_file.as_ref(), key, &options)
        .map_err(|e| Failure::from(e).about(path))
}

/// An input that can be read at any offset.
pub(crate) enum Source {
    File(Arc<File>),
    Disk(Arc<Disk>),
    /// A pack, and its file if it is not an object.
    Pack(Option<Arc<File>>, Arc<Pack>),
    /// An object of a store.
    Object(Arc<dyn ReadAt>),
}

impl Source {
    /// The pack that contains the dump.
    pub(crate) fn pack(&self) -> Option<&Arc<Pack>> {
        match self {
            Self::Pack(_, pack) => Some(pack),
            Self::File(_) | Self::Disk(_) | Self::Object(_) => None,
        }
    }
}

impl Source {
    /// Its file descriptor; `None` for an object, whose client opens connections.
    pub(crate) fn fd(&self) -> Option<BorrowedFd<'_>> {
        match self {
            Self::File(file) => Some(file.as_fd()),
            Self::Pack(file, _) => file.as_ref().map(AsFd::as_fd),
            Self::Disk(disk) => Some(disk.as_fd()),
            Self::Object(_) => None,
        }
    }
}

impl From<Source> for Arc<dyn ReadAt> {
    fn from(source: Source) -> Self {
        match source {
            Source::File(file) => file,
            Source::Disk(disk) => disk,
            Source::Pack(_, pack) => pack.dump(),
            Source::Object(object) => object,
        }
    }
}

/// Opens `path` as a file that can be read at any offset. Copies a pipe or standard input to an
/// unlinked file. A character device may have no end: only disk devices, which [`disk`] opens, are
/// dumps.
pub(crate) fn seekable(path: &Path, session: &mut Session<'_>) -> Result<File, Failure> {
    let mut open = || {
        if path == Path::new("-") {
            return Ok(session.env.seekable_stdin()?);
        }
        let file = File::open(path)?;
        let kind = file.metadata()?.file_type();
        if kind.is_dir() {
            return Err(io::Error::from(io::ErrorKind::IsADirectory).into());
        }
        if kind.is_char_device() {
            let found = "a character device that is not a disk".into();
            return Err(livecore_minidump::Error::NotADump { found }.into());
        }
        if kind.is_fifo() || kind.is_socket() {
            return Ok(session.env.spool(file)?);
        }
        Ok(file)
    };
    open().map_err(|failure: Failure| failure.about(path))
}

/// Prints contradictions, and the warnings that matter for reading memory. A short file matters only
/// where a missing page is read, which is an error.
pub(crate) fn print_memory_warnings(dump: &AnyDump, path: &Path, session: &mut Session<'_>) {
    for warning in dump.envelope().warnings() {
        let is_relevant = matches!(
            warning,
            Warning::FilledTail { .. }
                | Warning::Trailing { .. }
                | Warning::Unproven(_)
                | Warning::Carried { .. }
                | Warning::Overlap { .. }
        );
        if is_relevant || warning.is_contradiction() {
            session.warn_of(path, warning);
        }
    }
}

/// Warns of missing memory, unless opening the dump has warned of it. For verbs that have read a
/// whole stream, whose length is unknown before its end.
pub(crate) fn warn_of_loss(
    dump: &AnyDump,
    path: &Path,
    session: &mut Session<'_>,
) -> Result<(), Failure> {
    let loss = dump.loss().map_err(|e| Failure::from(e).about(path))?;
    if let Some(loss) = loss.filter(|loss| !dump.envelope().warnings().contains(loss)) {
        session.warn_of(path, &loss);
    }
    Ok(())
}

/// Warns of a receipt that a container other than a sealed file loses.
pub(crate) fn warn_of_lost_receipt(dump: &AnyDump, path: &Path, session: &mut Session<'_>) {
    if dump.envelope().has_receipt() {
        let what =
            "only a sealed file states which pages were excluded and which memory was redacted";
        session.warn(path, Id::ReceiptLost, what);
    }
}

/// Decodes a single stream without an index once, with a bar: what needs a kernel reads pages in any
/// order. The pass leaves restart points, so a stream that has them from an earlier run is not decoded.
/// Does not read the checksum at the end of the stream: the check at the end of the run does.
fn decode_ahead(dump: &AnyDump, path: &Path, session: &mut Session<'_>) -> Result<(), Failure> {
    const STEP: u64 = 1 << 20;
    let stream = dump.envelope().stream();
    // Frames with known sizes need no restart points.
    if stream.kind() != StreamKind::Foreign
        || stream.frames().is_some()
        || stream.known_len().is_some()
    {
        return Ok(());
    }
    session.voice.say(
        Id::Decompressing,
        format_args!(
            "{}: single compressed stream: decoding it once; run `livecore convert IN OUT` once to \
             avoid this",
            path.display()
        ),
    );
    let (content, end) = (stream.content(), dump.end());
    let bar = session.bar("decode", false, Some(end));
    for at in (0..end).step_by(STEP as usize) {
        if bar.cancelled() {
            return Err(livecore_compress::Error::Cancelled.into());
        }
        // The reader of this part of the stream reports the error.
        if !content.read_at(&mut [0], at).is_ok_and(|got| got > 0) {
            break;
        }
        bar.advance(STEP.min(end - at), 0);
    }
    Ok(())
}

/// Arguments that select the kernel.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct KernelArgs {
    /// Kernel ELF file [default: search near DUMP and in /boot]
    ///
    /// A kernel that the search finds is used only if it matches the dump.
    #[arg(short = 'k', short_alias = 'N', long, value_name = "ELF")]
    pub kernel: Option<PathBuf>,
    /// Kernel file, or directory to search; may be repeated
    #[arg(long, value_name = "PATH", conflicts_with = "kernel")]
    pub kernel_path: Vec<PathBuf>,
    /// Use the kernel even if it does not match the dump
    #[arg(long)]
    pub force_kernel: bool,
    /// The spelling of `--force-kernel` in 0.1.
    #[arg(long, hide = true)]
    pub force: bool,
    /// Whether the verb has `--force-kernel`: verbs that parse these arguments have it.
    #[arg(skip = true)]
    pub has_force: bool,
}

impl KernelArgs {
    /// The kernel given on the command line, or else in the environment.
    pub fn named<'a>(&'a self, env: &'a Env) -> Option<&'a Path> {
        let of_env = env.kernel.as_deref();
        let of_env = of_env.filter(|_| self.kernel_path.is_empty());
        self.kernel.as_deref().or(of_env)
    }

    /// Whether to use a kernel that contradicts the dump.
    pub fn is_forced(&self) -> bool {
        self.force || self.force_kernel
    }

    /// The same arguments with the kernel `path`, if there is one.
    ///
    /// # Errors
    ///
    /// `--kernel` is given as well as `path`.
    pub fn with(&self, path: Option<&Path>) -> Result<Self, Failure> {
        match (path, &self.kernel) {
            (Some(path), Some(_)) => {
                let failure = Failure::usage("two kernels given: this one and --kernel")
                    .id_is(Id::ConflictingArguments);
                Err(failure.about(path))
            }
            (Some(path), None) => Ok(Self {
                kernel: Some(path.into()),
                ..self.clone()
            }),
            (None, _) => Ok(self.clone()),
        }
    }

    /// Opens the named kernel, or else searches for one and prints which one was found. `None` if
    /// there is none.
    ///
    /// Compares a named kernel with the dump: refuses it if it contradicts the dump, warns if it
    /// cannot be compared.
    pub fn open(
        &self,
        dump: &AnyDump,
        name: &Path,
        session: &mut Session<'_>,
    ) -> Result<Option<Pair>, Failure> {
        self.hint(session);
        decode_ahead(dump, name, session)?;
        match self.named(&session.env).map(Path::to_owned) {
            Some(path) => {
                let pair = self.pair(&path, dump, name, session)?;
                Ok(Some(downloaded::with_debug_file(pair, name, session)))
            }
            None => {
                let found = self.search(dump, name, session)?;
                if found.pair.is_none() && !found.rejected.is_empty() {
                    let tried = Tried(&found.rejected);
                    session
                        .voice
                        .say(Id::KernelNotFound, format_args!("no kernel found{tried}"));
                }
                Ok(found.pair)
            }
        }
    }

    /// Like [`KernelArgs::open`], but fails if there is no kernel.
    pub fn require(
        &self,
        dump: &AnyDump,
        name: &Path,
        session: &mut Session<'_>,
    ) -> Result<Pair, Failure> {
        self.hint(session);
        decode_ahead(dump, name, session)?;
        if let Some(path) = self.named(&session.env).map(Path::to_owned) {
            let pair = self.pair(&path, dump, name, session)?;
            return Ok(downloaded::with_debug_file(pair, name, session));
        }
        let SearchResult { pair, rejected } = self.search(dump, name, session)?;
        pair.ok_or_else(|| {
            Failure::of(Exit::COULD_NOT, &PairError::NotFound { rejected })
                .about(name)
                .next("use --kernel ELF, or --kernel-path PATH to search")
        })
    }

    /// Prints the present spelling of an old option.
    fn hint(&self, session: &Session<'_>) {
        if self.force {
            let line = "--force is deprecated here: use --force-kernel";
            session.voice.say(Id::Deprecated, line);
        }
    }

    /// The files and directories to search, from the command line, else from the environment.
    pub fn places<'a>(&'a self, env: &'a Env) -> &'a [PathBuf] {
        match &self.kernel_path[..] {
            [] => &env.kernel_path,
            places => places,
        }
    }

    /// Takes the kernel of the pack, or else searches for one, or else downloads it.
    fn search(
        &self,
        dump: &AnyDump,
        name: &Path,
        session: &mut Session<'_>,
    ) -> Result<SearchResult, Failure> {
        let SearchResult { pair, rejected } = self.search_files(dump, name, session)?;
        let pair = pair.or_else(|| downloaded::kernel(dump, name, session));
        let pair = pair.map(|pair| downloaded::with_debug_file(pair, name, session));
        Ok(SearchResult { pair, rejected })
    }

    fn search_files(
        &self,
        dump: &AnyDump,
        name: &Path,
        session: &mut Session<'_>,
    ) -> Result<SearchResult, Failure> {
        let memory = session.env.memory;
        let packed = Pair::of_pack(dump, name, memory).map_err(|e| {
            let failure = Failure::from(e).about(name);
            failure.next("use --kernel ELF to use another kernel than that of the pack")
        })?;
        if let Some(pair) = packed {
            if let Agreement::Unknown { why } = pair.agreement() {
                let what = format!("cannot compare the kernel of the pack with its dump: {why}");
                session.warn(name, Id::KernelNotCompared, what);
            }
            return Ok(SearchResult {
                pair: Some(pair),
                rejected: Vec::new(),
            });
        }
        // Another user may own the dump's directory, so skip paths that a debugger would interpret
        // as more than a path.
        let plain = |path: &Path| command::plain(path).map(drop);
        let places = self.places(&session.env);
        for place in places.iter().filter(|place| !place.exists()) {
            let line = format_args!(
                "{}: no such file or directory; searching elsewhere",
                place.display()
            );
            session.voice.say(Id::KernelsRejected, line);
        }
        let search = KernelSearch::new().places(places);
        let search = match is_remote(name) {
            true => search,
            false => search.next_to(name),
        };
        let search = search.memory(memory);
        let found = search.filter(&plain).find(dump);
        if !found.rejected.is_empty() && found.pair.is_some() {
            let tried = Tried(&found.rejected);
            session.voice.detail(
                Id::KernelsRejected,
                format_args!("kernel files that are not the kernel of the dump{tried}"),
            );
        }
        if let Some(pair) = &found.pair {
            session.voice.say(
                Id::KernelUsed,
                format_args!("kernel: {}", pair.path().display()),
            );
        }
        Ok(found)
    }

    fn pair(
        &self,
        path: &Path,
        dump: &AnyDump,
        name: &Path,
        session: &mut Session<'_>,
    ) -> Result<Pair, Failure> {
        let kernel = kernel(path, session.env.memory).map_err(|failure| match &self.kernel {
            None => failure.next("the variable LIVECORE_KERNEL names this file"),
            Some(_) => failure,
        })?;
        let pair = Pair::new(dump, path, kernel).map_err(|e| {
            let failure = Failure::from(e).about(path);
            failure.next(format_args!(
                "check that it is the kernel of {}",
                name.display()
            ))
        })?;
        match pair.agreement() {
            Agreement::Same => {}
            Agreement::Unknown { why } => session.warn(
                path,
                Id::KernelNotCompared,
                format_args!("cannot compare the kernel with {}: {why}", name.display()),
            ),
            Agreement::Contradicts { what, kernel, dump } => {
                let line = format!(
                    "not the kernel of {}: found {what} {kernel}, expected {dump}",
                    name.display()
                );
                if !self.is_forced() {
                    let failure = Failure::broken(line).id_is(Id::OtherKernel).about(path);
                    return Err(if self.has_force {
                        failure.next("use --force-kernel to use it anyway")
                    } else {
                        failure
                    });
                }
                session.warn(path, Id::OtherKernel, line);
            }
        }
        Ok(pair)
    }
}

/// Opens the dump `path` and its kernel, named by `args` or found. Prints the warnings that matter
/// for reading memory.
pub(crate) fn pair(
    path: &Path,
    opening: Opening,
    args: &KernelArgs,
    session: &mut Session<'_>,
) -> Result<Pair, Failure> {
    let dump = dump(path, opening, session)?;
    print_memory_warnings(&dump, path, session);
    args.require(&dump, path, session)
}

/// Opens the kernel `path`, with at most `memory` bytes for its tables and sections.
pub(crate) fn kernel(path: &Path, memory: u64) -> Result<KernelElf, Failure> {
    let about = |failure: Failure| failure.about(path);
    if path.is_dir() {
        let failure = Failure::could_not("a directory, not a kernel file");
        return Err(about(failure).next("use --kernel-path to search a directory"));
    }
    let file: Arc<dyn ReadAt> = Arc::new(File::open(path).map_err(|e| about(e.into()))?);
    KernelElf::parse_within(Arc::clone(&file), memory).map_err(|e| {
        let mut head = [0; HEAD];
        let got = file.read_full_at(&mut head, 0).unwrap_or(0);
        about(match known_format_message(&head[..got]) {
            Some(what) => Failure::new(Exit::UNSUPPORTED, what),
            None => e.into(),
        })
    })
}

/// The error message for a file that begins with `head`, if it is compressed or another known
/// format.
fn known_format_message(head: &[u8]) -> Option<String> {
    let codec = match head {
        [0x1f, 0x8b, ..] => Some(("gzip", "gunzip")),
        [0x28, 0xb5, 0x2f, 0xfd, ..] => Some(("zstd", "unzstd")),
        _ => None,
    };
    match codec {
        Some((codec, program)) => Some(format!(
            "kernel is compressed with {codec}; unpack it with `{program}`"
        )),
        None => Foreign::of(head).map(Foreign::sentence),
    }
}
