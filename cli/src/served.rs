//! Opens a dump for the debuggers of `serve` and `gdb`.

use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use livecore_compress::ReadAt;
use livecore_defs::Architecture;
use livecore_kernel::verifier::{ElfFacts, Keys};
use livecore_minidump::encryption::PrivateKey;
use livecore_minidump::pack::Pack;
use livecore_minidump::{AnyDump, KernelElf, Warning};

use crate::companion;
use crate::describe::Describe;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::id::Id;
use crate::input::{self, KernelArgs, Opening};
use crate::remote::{Stores, is_remote};
use crate::session::Session;
use livecore_serve::{Depth, ServeError, Served};
use livecore_verify::OneTimeKeys;
use livecore_verify::render::{self, Format, Style};

/// Opens the dump and its kernel, and prints what was not found.
pub(crate) fn open(
    dump: &Path,
    kernel: &KernelArgs,
    zero_tail: bool,
    session: &mut Session<'_>,
) -> Result<Served, Failure> {
    let opening = Opening {
        zero_tail,
        unchecked: true,
        ..Opening::default()
    };
    let opened = input::dump(dump, opening, session)?;
    input::print_memory_warnings(&opened, dump, session);
    let pair = kernel.require(&opened, dump, session)?;
    check(&opened, dump, session)?;
    let early = warn_of_lost_memory(&opened, dump, session);
    let stream = opened.envelope().stream();
    if let Some(trailing) = stream.trailing().filter(|_| !early) {
        session.warn(dump, Id::TrailingBytes, trailing);
    }
    let elf = Arc::clone(pair.elf());
    let key = session.env.key.clone();
    let served = Served::new(pair, dump, kernel.places(&session.env))?;
    let name = dump.to_owned();
    let stores = session.stores.clone();
    let served = served.with_check(Box::new(move |depth| {
        check_dump(&name, &stores, &elf, key.as_ref(), depth)
    }));
    for problem in served.problems() {
        session.voice.say(Id::of_problem(problem), problem);
    }
    Ok(served)
}

/// Decodes a stream whose checksum is at its end, before the first debugger is served, so that
/// losses are reported at once and the rest is checked.
fn check(opened: &AnyDump, dump: &Path, session: &mut Session<'_>) -> Result<(), Failure> {
    let stream = opened.envelope().stream();
    if stream.frames().is_none()
        && let (_, Some(error)) = stream
            .readable()
            .map_err(|e| Failure::from(e).about(dump))?
    {
        let what = "serving the unchecked data before it";
        session.warn(dump, error.describe().id, format_args!("{error}; {what}"));
    }
    Ok(())
}

/// Warns of memory that the dump promises and its file does not have, unless opening it has warned.
/// Returns whether the stream ends early.
fn warn_of_lost_memory(opened: &AnyDump, dump: &Path, session: &mut Session<'_>) -> bool {
    // The length of a stream that is cut or damaged is not known.
    let Ok(Some(loss)) = opened.loss() else {
        return false;
    };
    let early = matches!(loss, Warning::Interrupted { .. });
    if !early || !opened.envelope().warnings().contains(&loss) {
        session.warn_of(dump, &loss);
    }
    early
}

/// The output of `monitor verify` for the dump `path`.
fn check_dump(
    path: &Path,
    stores: &Stores,
    elf: &KernelElf,
    key: Option<&Arc<PrivateKey>>,
    depth: Depth,
) -> Result<String, String> {
    let mut source: Arc<dyn ReadAt> = match is_remote(path) {
        true => stores.open(path).map_err(|failure| failure.to_string())?,
        false => Arc::new(File::open(path).map_err(|e| format!("{}: {e}", path.display()))?),
    };
    let stream = livecore_compress::OpenOptions::new();
    let pack = Pack::from_source(Arc::clone(&source), &stream).map_err(|e| e.to_string())?;
    if let Some(pack) = &pack {
        pack.check(depth != Depth::Quick, &livecore_compress::NoProgress)
            .map_err(|e| e.to_string())?;
        source = pack.dump();
    }
    let key_file = companion::key_file(path, stores).map_err(|failure| failure.to_string())?;
    let keys = key.map(|key| Keys(Arc::clone(key)));
    let info = match pack {
        Some(pack) => pack.info(),
        None => companion::info(path, stores),
    };
    let facts = ElfFacts(elf);
    let options = livecore_verify::Options::default()
        .name(path.display().to_string())
        .depth(match depth {
            Depth::Quick => livecore_verify::Depth::Quick,
            Depth::Default => livecore_verify::Depth::Default,
            Depth::Deep => livecore_verify::Depth::Deep,
        })
        .threads(crate::args::threads(None))
        .kernel(Some(&facts))
        .info(info.as_deref())
        .keys(keys.as_ref().map(|keys| keys as &dyn OneTimeKeys))
        .key_file(key_file.as_ref().map(|file| &file.bytes[..]));
    let report = livecore_verify::verify(source, &options, &livecore_compress::NoProgress);
    let mut text = Vec::new();
    render::write(&[report], Format::Text, Style::default(), &mut text)
        .map_err(|e| e.to_string())?;
    Ok(String::from_utf8_lossy(&text).into_owned())
}

impl From<ServeError> for Failure {
    fn from(error: ServeError) -> Self {
        match &error {
            ServeError::Machine { kernel, .. } => {
                let rows = Architecture::ALL.into_iter();
                let rows = rows.filter(|row| row.debuggers.is_some());
                let supported: Vec<_> = rows.map(|row| row.name).collect();
                Failure::of(Exit::UNSUPPORTED, &error)
                    .about(kernel)
                    .next(format!("supported: {}", supported.join(", ")))
            }
            _ => Failure::of(Exit::COULD_NOT, &error),
        }
    }
}
