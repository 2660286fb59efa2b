//! Opens kernel dumps of any kind.

use std::fs::File;
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::FileTypeExt;
use std::path::Path;
use std::sync::Arc;

use livecore_compress::spool;
use livecore_compress::{NoProgress, Progress, ReadAt};

use super::carried;
use super::decrypt;
use super::envelope::Envelope;
use super::minidump::Dump;
use super::open::read_header;
use super::options::OpenOptions;
use super::warning::Warning;
use crate::container::Opened;
use crate::elf::core::ElfCore;
use crate::elf::headers::Head;
use crate::encryption::key_file;
use crate::info::{self, InfoFile};
use crate::pack::Pack;
use crate::{Architecture, ByteOrder, DumpMemory, Error, FullDump, KernelDumpHeader, KernelMemory};
use livecore_defs::elf::ELFOSABI_STANDALONE;
use livecore_defs::foreign;

/// A kernel dump of any kind.
#[derive(Debug, Clone)]
pub enum AnyDump {
    /// A minidump, including a minidump in an exported ELF core.
    Mini(Arc<Dump>),
    /// A full dump.
    Full(Arc<FullDump>),
}

impl AnyDump {
    /// Opens the dump at `path`, with its info file in the same directory. A named pipe is read to its
    /// end first.
    ///
    /// # Errors
    ///
    /// Returns [`Error::Io`] if the file cannot be read, [`Error::NotADump`] or [`Error::Unsupported`]
    /// if it is not a supported dump, and [`Error::Broken`] if it is damaged.
    pub fn open(path: impl AsRef<Path>, options: &OpenOptions) -> Result<Self, Error> {
        let path = path.as_ref();
        let file = File::open(path).map_err(|e| Error::io(path.display().to_string(), e))?;
        let kind = file
            .metadata()
            .map_err(|e| Error::io(path.display().to_string(), e))?
            .file_type();
        if kind.is_fifo() {
            return Self::from_reader(&mut &file, options, &NoProgress);
        }
        if kind.is_dir() {
            let error = std::io::Error::from(ErrorKind::IsADirectory);
            return Err(Error::io(path.display().to_string(), error));
        }
        if !kind.is_file() {
            return Err(Error::Unsupported {
                what: format!("{} is not a regular file", path.display()),
            });
        }
        let mut options = options.clone();
        if options.key_file.is_none() {
            options.key_file = key_file(path).map_err(|e| Error::io("read", e))?;
        }
        Self::build(Arc::new(file), info::find(path), &options)
    }

    /// Opens the dump in `source`.
    ///
    /// # Errors
    ///
    /// Returns the errors of [`AnyDump::open`].
    pub fn from_source(source: Arc<dyn ReadAt>, options: &OpenOptions) -> Result<Self, Error> {
        let info_file = options.info_file.clone();
        let info_file = info_file.map(|(path, bytes)| InfoFile::of(path, &bytes));
        Self::build(source, info_file, options)
    }

    /// Opens a dump from a pipe. It is first copied to an unnamed temporary file in the spool
    /// directory of the stream options.
    ///
    /// # Errors
    ///
    /// Returns the errors of [`AnyDump::open`], and [`Error::Cancelled`].
    pub fn from_reader(
        reader: &mut dyn Read,
        options: &OpenOptions,
        progress: &dyn Progress,
    ) -> Result<Self, Error> {
        let file = spool(options.stream.spool_dir.as_deref());
        let mut file = file.map_err(|e| Error::io("write", e))?;
        let mut piece = vec![0; 1 << 20];
        loop {
            if progress.cancelled() {
                return Err(Error::Cancelled);
            }
            match reader.read(&mut piece) {
                Ok(0) => break,
                Ok(n) => file
                    .write_all(&piece[..n])
                    .map_err(|e| Error::io("temporary file", e))?,
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(e) => return Err(Error::io("read", e)),
            }
        }
        Self::from_source(Arc::new(file), options)
    }

    /// The container, stream, kerneldumpheader, info file, seal and warnings.
    pub fn envelope(&self) -> &Envelope {
        match self {
            Self::Mini(dump) => dump.envelope(),
            Self::Full(dump) => dump.envelope(),
        }
    }

    /// The minidump: the dump itself, or the one in a full dump.
    pub fn minidump(&self) -> Option<&Arc<Dump>> {
        match self {
            Self::Mini(dump) => Some(dump),
            Self::Full(dump) => dump.minidump(),
        }
    }

    /// Returns the minidump like [`AnyDump::minidump`].
    ///
    /// # Errors
    ///
    /// Returns [`Error::Unsupported`] for a full dump without a minidump.
    pub fn into_minidump(self) -> Result<Arc<Dump>, Error> {
        let mini = match self {
            Self::Mini(dump) => Some(dump),
            Self::Full(dump) => dump.minidump().cloned(),
        };
        mini.ok_or_else(no_minidump)
    }

    /// Returns the minidump of a dump that was just opened and has no other reference.
    fn sole_minidump(self) -> Result<Dump, Error> {
        Arc::into_inner(self.into_minidump()?).ok_or_else(no_minidump)
    }

    /// Returns a warning if the file is shorter than its headers require. Opening the dump already
    /// added it to the warnings if the length of the payload was known. This can decode a foreign
    /// stream to its end.
    ///
    /// # Errors
    ///
    /// Returns the error of decoding the stream.
    pub fn loss(&self) -> Result<Option<Warning>, Error> {
        Ok(match self {
            Self::Mini(dump) => dump.shortness()?.map(|short| dump.loss_of(short)),
            Self::Full(dump) => {
                let (expected, actual) = (dump.end(), dump.payload().size()?);
                let cut = || {
                    dump.envelope()
                        .explain_loss(Warning::CutSegments { expected, actual })
                };
                (actual < expected).then(cut)
            }
        })
    }

    /// Returns id and text of the warnings that are known only when the whole stream has been decoded
    /// ([`livecore_compress::Stream::finish`]), and that [`Envelope::warnings`] lacks. `all`: every
    /// loss, or an early end of the stream alone.
    ///
    /// # Errors
    ///
    /// Returns the errors of [`AnyDump::loss`].
    pub fn warnings_at_end(&self, all: bool) -> Result<Vec<(&'static str, String)>, Error> {
        let stream = self.envelope().stream();
        // The length is known now, unless nothing has been read.
        let loss = match stream.known_len() {
            Some(_) => self.loss()?,
            None => None,
        };
        let early = matches!(loss, Some(Warning::Interrupted { .. }));
        let loss = loss.filter(|_| all || early);
        let excess = self.excess();
        let of_payload = loss.into_iter().chain(excess);
        let of_payload = of_payload.filter(|found| !self.envelope().warnings().contains(found));
        let of_payload = of_payload.map(|found| (found.id(), found.to_string()));
        let trailing = stream.trailing().filter(|_| !early);
        let trailing = trailing.map(|bytes| (Warning::TRAILING, bytes.to_string()));
        Ok(of_payload.chain(trailing).collect())
    }

    /// The warning about the payload's bytes after the dump, if its length is known.
    fn excess(&self) -> Option<Warning> {
        let actual = self.envelope().known_len()?;
        match self {
            Self::Mini(dump) => dump.excess_of(actual),
            Self::Full(dump) => {
                let offset = dump.end();
                let len = actual.saturating_sub(offset);
                (len > 0).then_some(Warning::Trailing { offset, len })
            }
        }
    }

    /// `minidump` or `full`.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Mini(_) => "minidump",
            Self::Full(_) => "full",
        }
    }

    /// The architecture.
    pub fn arch(&self) -> &'static Architecture {
        match self {
            Self::Mini(dump) => dump.header().arch,
            Self::Full(dump) => dump.arch(),
        }
    }

    /// The kernel's byte order.
    pub fn order(&self) -> ByteOrder {
        match self {
            Self::Mini(dump) => dump.header().order,
            Self::Full(dump) => dump.order(),
        }
    }

    /// The size of a kernel pointer in bytes.
    pub fn pointer_size(&self) -> usize {
        match self {
            Self::Mini(dump) => dump.header().pointer_size(),
            Self::Full(dump) => dump.head().class.word,
        }
    }

    /// The number of pages in the dump.
    pub fn page_count(&self) -> u64 {
        match self {
            Self::Mini(dump) => dump.bitmap().count(),
            Self::Full(dump) => {
                let bytes: u64 = dump.ranges().iter().map(|range| range.len).sum();
                bytes / dump.page_size()
            }
        }
    }

    /// The end of the payload by its headers.
    pub fn end(&self) -> u64 {
        match self {
            Self::Mini(dump) => dump.layout().end(),
            Self::Full(dump) => dump.end(),
        }
    }

    /// The payload.
    pub fn payload(&self) -> Arc<dyn ReadAt> {
        match self {
            Self::Mini(dump) => dump.payload(),
            Self::Full(dump) => dump.payload(),
        }
    }

    /// Returns the dump's kerneldumpheader, or one created from the payload.
    pub fn header_or_made(&self) -> KernelDumpHeader {
        self.envelope()
            .kerneldumpheader()
            .cloned()
            .unwrap_or_else(|| match self {
                Self::Mini(dump) => KernelDumpHeader::from_payload(dump.header()),
                Self::Full(dump) => {
                    KernelDumpHeader::of_port(dump.arch(), dump.order(), dump.page_size())
                }
            })
    }

    /// The memory of the dump. Without its kernel, a full dump without a minidump cannot translate
    /// virtual addresses.
    pub fn memory(&self) -> Arc<dyn DumpMemory> {
        match self {
            Self::Mini(dump) => Arc::clone(dump) as Arc<dyn DumpMemory>,
            Self::Full(dump) => Arc::clone(dump) as Arc<dyn DumpMemory>,
        }
    }

    fn build(
        source: Arc<dyn ReadAt>,
        info_file: Option<InfoFile>,
        options: &OpenOptions,
    ) -> Result<Self, Error> {
        let opened = decrypt::open(Arc::clone(&source), options)?;
        let mut head = [0; 64];
        let got = opened.stream.content().read_full_at(&mut head, 0)?;
        match Pack::probe(&head[..got]) {
            true => Self::of_pack(source, options),
            false => Self::of_container(opened, info_file, options),
        }
    }

    /// Opens the dump in the pack `source`.
    fn of_pack(source: Arc<dyn ReadAt>, options: &OpenOptions) -> Result<Self, Error> {
        // Both streams have a cache of frames.
        let outer = options.stream.clone().memory(options.stream.memory / 4);
        let pack = Pack::from_source(source, &outer)?.ok_or_else(|| Error::NotADump {
            found: "a pack in another container".into(),
        })?;
        let mut inner = options.clone();
        inner.stream.memory -= outer.memory;
        inner.key_file = None;
        let opened = decrypt::open(pack.dump(), &inner)?;
        let mut dump = Self::of_container(opened, pack.info_file(), &inner)?;
        pack.require_seal(dump.envelope().stream().attachment())?;
        // The dump was just opened and has no other reference.
        match &mut dump {
            Self::Mini(dump) => Arc::get_mut(dump).map(Dump::envelope_mut),
            Self::Full(dump) => Arc::get_mut(dump).map(FullDump::envelope_mut),
        }
        .ok_or_else(no_minidump)?
        .set_pack(Arc::new(pack));
        Ok(dump)
    }

    fn of_container(
        opened: Opened,
        info_file: Option<InfoFile>,
        options: &OpenOptions,
    ) -> Result<Self, Error> {
        let encryption = opened.encryption;
        match (Self::of_payload(opened, info_file, options), encryption) {
            // A wrong key makes random bytes, or a damaged dump.
            (Err(Error::NotADump { found }), Some(cipher)) => Err(Error::broken(
                format!("data decrypted with {cipher}"),
                0,
                found,
                "a dump",
            )),
            (result, _) => result,
        }
    }

    fn of_payload(
        opened: Opened,
        info_file: Option<InfoFile>,
        options: &OpenOptions,
    ) -> Result<Self, Error> {
        let content = opened.stream.content();
        let mut head = [0; 64];
        let got = content.read_full_at(&mut head, 0)?;
        let head = &head[..got];
        if !head.starts_with(b"\x7fELF") {
            let mini = read_header(&*content)?;
            let envelope = Envelope::new(opened, info_file, (mini.arch, mini.order));
            let dump = Dump::build(envelope, mini, options)?;
            return Ok(Self::Mini(Arc::new(dump)));
        }
        let elf = Head::parse(head).filter(Head::is_core);
        match elf.map(|elf| elf.osabi) {
            None => Err(Error::NotADump {
                found: foreign::ELF_FILE.into(),
            }),
            Some(ELFOSABI_STANDALONE) => {
                let dump = FullDump::build(opened, info_file, options)?;
                Ok(Self::Full(Arc::new(dump)))
            }
            Some(_) => {
                let Some(payload) = carried::find(&ElfCore::parse(content)?)? else {
                    return Err(Error::NotADump {
                        found: foreign::ELF_CORE.into(),
                    });
                };
                let carried = payload.carried(&opened.stream.content());
                let mini = read_header(&*carried.content)?;
                let port = (mini.arch, mini.order);
                let envelope = Envelope::new(opened, None, port).around(carried, port);
                let dump = Dump::build(envelope, mini, options)?;
                Ok(Self::Mini(Arc::new(dump)))
            }
        }
    }
}

impl Dump {
    /// Opens the minidump at `path`.
    ///
    /// Its info file in the same directory (`info.N` for `vmcore.N` or `livecore.N`) is also read. A
    /// named pipe is read to its end first, like with [`Dump::from_reader`]. Full dumps without a
    /// minidump are not supported; use [`AnyDump::open`].
    ///
    /// # Errors
    ///
    /// Returns the errors of [`AnyDump::open`].
    pub fn open(path: impl AsRef<Path>, options: &OpenOptions) -> Result<Self, Error> {
        AnyDump::open(path, options)?.sole_minidump()
    }

    /// Opens the minidump in `source`.
    ///
    /// # Errors
    ///
    /// Returns the errors of [`AnyDump::open`].
    pub fn from_source(source: Arc<dyn ReadAt>, options: &OpenOptions) -> Result<Self, Error> {
        AnyDump::from_source(source, options)?.sole_minidump()
    }

    /// Opens a minidump from a pipe. It is first copied to an unnamed temporary file in the spool
    /// directory of the stream options.
    ///
    /// # Errors
    ///
    /// Returns the errors of [`AnyDump::from_reader`].
    pub fn from_reader(
        reader: &mut dyn Read,
        options: &OpenOptions,
        progress: &dyn Progress,
    ) -> Result<Self, Error> {
        AnyDump::from_reader(reader, options, progress)?.sole_minidump()
    }
}

fn no_minidump() -> Error {
    Error::Unsupported {
        what: "full (ELF) kernel dump".into(),
    }
}
