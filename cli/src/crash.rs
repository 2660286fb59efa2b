//! The crash in a dump: time, host, panic message and signature. Reads dumps in parallel.

use std::fs::File;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use livecore_compress::ReadAt;
use livecore_defs::textdump::PANIC;
use livecore_kernel::{KernelSearch, Signature};
use livecore_minidump::encryption;
use livecore_minidump::info::Info;
use livecore_minidump::textdump::TextDump;
use livecore_minidump::{AnyDump, HeaderOrigin, KernelDumpHeader, OpenOptions};
use serde::Serialize;

use crate::companion;
use crate::failure::Failure;
use crate::input;
use crate::remote::{Stores, is_remote};
use crate::session::Session;

/// A signature, as docs/schemas/triage.schema.json describes it.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct SignatureFacts {
    /// The version and the digest.
    pub(crate) id: String,
    /// What it consists of.
    basis: &'static str,
    /// The canonical text.
    pub(crate) text: String,
}

impl From<&Signature> for SignatureFacts {
    fn from(signature: &Signature) -> Self {
        Self {
            id: signature.to_string(),
            basis: signature.basis().name(),
            text: signature.text(),
        }
    }
}

/// What a dump or its info file states.
#[derive(Debug, Default)]
pub(crate) struct Facts {
    /// `minidump`, `full`, `text`, `encrypted` or `unknown`.
    pub(crate) kind: &'static str,
    /// Seconds since 1970, and `header` or `info`.
    pub(crate) time: Option<(u64, &'static str)>,
    pub(crate) hostname: Option<String>,
    pub(crate) panic: Option<String>,
}

impl Facts {
    /// The facts of the file `path`; `opened` is the dump in it.
    pub(crate) fn of(path: &Path, opened: &Opened, reader: &Reader) -> Self {
        let facts = match opened {
            Opened::Text(dump) => {
                let panic = reader.panic_of(dump);
                let facts = dump.header().map(Self::of_header).unwrap_or_default();
                Self {
                    kind: "text",
                    panic: panic.or(facts.panic),
                    ..facts
                }
            }
            Opened::Dump(dump) => {
                let header = dump.envelope().kerneldumpheader();
                let facts = header.map(Self::of_header).unwrap_or_default();
                let of_info = matches!(dump.envelope().header_origin(), HeaderOrigin::Info(_));
                let origin = if of_info { "info" } else { "header" };
                Self {
                    kind: dump.kind(),
                    time: facts.time.map(|(time, _)| (time, origin)),
                    ..facts
                }
            }
            Opened::Not(livecore_minidump::Error::Encrypted { .. }) => {
                let key_file = companion::key_file(path, &reader.stores).ok().flatten();
                let source: Option<Arc<dyn ReadAt>> = match is_remote(path) {
                    true => reader.stores.open(path).ok(),
                    false => File::open(path).ok().map(|file| Arc::new(file) as _),
                };
                let found = source.and_then(|source| {
                    let options = &reader.options.stream;
                    let found = encryption::locate(&source, key_file.as_ref(), options);
                    found.ok().flatten()
                });
                let header = found.and_then(|found| found.header);
                let facts = header.map(|(header, _)| Self::of_header(&header));
                Self {
                    kind: "encrypted",
                    ..facts.unwrap_or_default()
                }
            }
            Opened::Not(_) => Self::unknown(),
        };
        facts.with_info(path, &reader.stores)
    }

    /// Of a file that is no dump.
    pub(crate) fn unknown() -> Self {
        Self {
            kind: "unknown",
            ..Self::default()
        }
    }

    /// Adds what the info file states, if the dump has no time.
    pub(crate) fn with_info(self, path: &Path, stores: &Stores) -> Self {
        if self.time.is_some() {
            return self;
        }
        match companion::info(path, stores).and_then(|text| Info::parse(&text)) {
            Some(info) => Self {
                time: info
                    .seconds()
                    .filter(|time| *time > 0)
                    .map(|time| (time, "info")),
                hostname: Some(info.hostname),
                panic: self.panic.or(Some(info.panic_string)),
                ..self
            },
            None => self,
        }
    }

    /// The time of the dump, or else the modification time of the file `path` (`file`).
    pub(crate) fn time_or_file(&self, path: &Path) -> (u64, &'static str) {
        let of_file = || {
            let found = path.symlink_metadata().ok()?;
            u64::try_from(found.mtime()).ok()
        };
        self.time
            .unwrap_or_else(|| (of_file().unwrap_or(0), "file"))
    }

    fn of_header(header: &KernelDumpHeader) -> Self {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim_end().to_owned();
        Self {
            kind: "unknown",
            time: (header.dumptime > 0).then_some((header.dumptime, "header")),
            hostname: Some(text(&header.hostname)),
            panic: Some(text(&header.panicstring)),
        }
    }
}

/// An open file.
pub(crate) enum Opened {
    /// A text dump.
    Text(TextDump),
    /// Any other dump.
    Dump(Box<AnyDump>),
    /// A file that could not be opened as a dump.
    Not(livecore_minidump::Error),
}

/// A crash: the facts of its dump, and its signature.
pub(crate) struct Crash {
    pub(crate) facts: Facts,
    pub(crate) signature: Option<Signature>,
}

/// Reads crashes, from several threads.
pub(crate) struct Reader {
    options: OpenOptions,
    memory: u64,
    places: Vec<PathBuf>,
    stores: Stores,
}

impl Reader {
    /// A reader with 1 thread and `memory` bytes for each dump, which searches for kernels in
    /// `places`, or else where the environment states.
    pub(crate) fn new(session: &Session<'_>, memory: u64, places: &[PathBuf]) -> Self {
        let stream = session.stream_options(Some(std::num::NonZeroUsize::MIN));
        let options = OpenOptions::new()
            .stream(stream.memory(memory))
            .bitmap_limit(memory)
            .key(session.env.key.clone());
        let places = match places {
            [] => {
                let of_env = session.env.kernel_path.iter();
                of_env.chain(&session.env.kernel).cloned().collect()
            }
            places => places.to_vec(),
        };
        Self {
            options,
            memory,
            places,
            stores: session.stores.clone(),
        }
    }

    /// Opens an object.
    fn open_remote(&self, path: &Path) -> Result<Opened, Failure> {
        let source = self.stores.open(path)?;
        let options = companion::of_object(path, self.options.clone(), &self.stores)?;
        let text = TextDump::from_source(Arc::clone(&source), &self.options.stream);
        if let Ok(Some(dump)) = text {
            return Ok(Opened::Text(dump));
        }
        Ok(match AnyDump::from_source(source, &options) {
            Ok(dump) => Opened::Dump(Box::new(dump)),
            Err(error) => Opened::Not(error),
        })
    }

    /// Opens a regular file.
    pub(crate) fn open(&self, path: &Path) -> Opened {
        if let Ok(Some(dump)) = TextDump::open(path, &self.options.stream) {
            return Opened::Text(dump);
        }
        match AnyDump::open(path, &self.options) {
            Ok(dump) => Opened::Dump(Box::new(dump)),
            Err(error) => Opened::Not(error),
        }
    }

    /// Reads the crash in the file `path`.
    ///
    /// # Errors
    ///
    /// The file is not a readable dump, or it is encrypted and there is no key.
    pub(crate) fn read(&self, path: &Path) -> Result<Crash, Failure> {
        let opened = match is_remote(path) {
            true => self.open_remote(path)?,
            false => {
                let found = path.metadata().map_err(|e| Failure::from(e).about(path))?;
                if !found.is_file() {
                    // Reading a pipe would block.
                    return Err(Failure::could_not("not a regular file").about(path));
                }
                self.open(path)
            }
        };
        let facts = Facts::of(path, &opened, self);
        let signature = self.signature(&opened, &facts, path);
        match opened {
            Opened::Not(error) => Err(input::not_opened(error, path)),
            Opened::Text(dump) => match dump.damage() {
                Some(damage) => Err(Failure::broken(damage).about(path)),
                None => Ok(Crash { facts, signature }),
            },
            Opened::Dump(_) => Ok(Crash { facts, signature }),
        }
    }

    /// The signature of the dump `path`, with the kernel that matches it, if there is one.
    pub(crate) fn signature(
        &self,
        opened: &Opened,
        facts: &Facts,
        path: &Path,
    ) -> Option<Signature> {
        let dump = match opened {
            Opened::Dump(dump) => dump,
            _ => return Signature::new(facts.panic.as_deref().map(str::as_bytes), []),
        };
        let header = dump.envelope().kerneldumpheader();
        let message = header.map(|header| &header.panicstring[..]);
        let search = KernelSearch::new().places(&self.places);
        let search = match is_remote(path) {
            true => search,
            false => search.next_to(path),
        };
        match search.memory(self.memory).find(dump).pair {
            Some(pair) => {
                let kernel = pair.kernel();
                let modules = kernel.modules().unwrap_or_default();
                kernel.with_functions(modules).signature(message)
            }
            None => Signature::new(message, []),
        }
    }

    fn panic_of(&self, dump: &TextDump) -> Option<String> {
        let panic = dump.text(PANIC, self.memory / 4);
        panic.ok().flatten().map(|text| text.trim_end().to_owned())
    }
}
