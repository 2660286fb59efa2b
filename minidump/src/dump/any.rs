//! A kernel dump of any kind: told from the first bytes of its payload.

use std::fs::File;
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::FileTypeExt;
use std::path::Path;
use std::sync::Arc;

use livecore_compress::spool::spool;
use livecore_compress::{NoProgress, Progress, ReadAt};

use super::beside::{self, Beside};
use super::carried;
use super::envelope::Envelope;
use super::minidump::Dump;
use super::open::read_header;
use super::options::OpenOptions;
use super::warning::Warning;
use crate::container;
use crate::elf::core::{ElfCore, Head};
use crate::{Architecture, ByteOrder, DumpMemory, Error, FullDump, KernelDumpHeader, KernelMemory};
use livecore_defs::elf::ELFOSABI_STANDALONE;
use livecore_defs::foreign;

/// A kernel dump of any kind.
#[derive(Debug, Clone)]
pub enum AnyDump {
    /// A minidump; also one that an exported ELF core carries.
    Mini(Arc<Dump>),
    /// A full dump.
    Full(Arc<FullDump>),
}

impl AnyDump {
    /// Opens the dump at `path`, with the info file beside it. A named pipe is read to its end
    /// first.
    ///
    /// # Errors
    ///
    /// [`Error::Io`] if the file cannot be read, [`Error::NotADump`] and [`Error::Unsupported`] if it
    /// is none or of an unknown kind, [`Error::Broken`] if it contradicts itself.
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
        Self::build(Arc::new(file), beside::find(path), options)
    }

    /// Opens a dump that is whatever `source` reads.
    ///
    /// # Errors
    ///
    /// Those of [`AnyDump::open`].
    pub fn from_source(source: Arc<dyn ReadAt>, options: &OpenOptions) -> Result<Self, Error> {
        Self::build(source, None, options)
    }

    /// Opens a dump that comes from a pipe: its bytes are first put into a file without a name, in
    /// the stream's folder for spools.
    ///
    /// # Errors
    ///
    /// Those of [`AnyDump::open`], and [`Error::Cancelled`].
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
                // A reader gives at most what fits.
                Ok(n) => file
                    .write_all(&piece[..n])
                    .map_err(|e| Error::io("temporary file", e))?,
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(e) => return Err(Error::io("read", e)),
            }
        }
        Self::from_source(Arc::new(file), options)
    }

    /// What it lies in: container, stream, kerneldumpheader, info file, seal; and its warnings.
    pub fn envelope(&self) -> &Envelope {
        match self {
            Self::Mini(dump) => dump.envelope(),
            Self::Full(dump) => dump.envelope(),
        }
    }

    /// The minidump: the dump itself, or the one that a full dump carries.
    pub fn minidump(&self) -> Option<&Arc<Dump>> {
        match self {
            Self::Mini(dump) => Some(dump),
            Self::Full(dump) => dump.minidump(),
        }
    }

    /// As [`AnyDump::minidump`].
    ///
    /// # Errors
    ///
    /// [`Error::Unsupported`] if it is a full dump that carries no minidump.
    pub fn into_minidump(self) -> Result<Arc<Dump>, Error> {
        let mini = match self {
            Self::Mini(dump) => Some(dump),
            Self::Full(dump) => dump.minidump().cloned(),
        };
        mini.ok_or_else(no_minidump)
    }

    /// The minidump of a dump that was just opened: no one else has a reference to it.
    fn sole_minidump(self) -> Result<Dump, Error> {
        Arc::into_inner(self.into_minidump()?).ok_or_else(no_minidump)
    }

    /// What its headers promise and its file does not have. Opening has warned of it already if the
    /// payload's length was known then; a foreign stream is decoded to its end.
    ///
    /// # Errors
    ///
    /// What decoding the stream has failed with.
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

    /// How many pages of memory are in the dump.
    pub fn page_count(&self) -> u64 {
        match self {
            Self::Mini(dump) => dump.bitmap().count(),
            Self::Full(dump) => {
                let bytes: u64 = dump.ranges().iter().map(|range| range.len).sum();
                bytes / dump.page_size()
            }
        }
    }

    /// Where its own headers say that the payload ends.
    pub fn end(&self) -> u64 {
        match self {
            Self::Mini(dump) => dump.layout().end(),
            Self::Full(dump) => dump.end(),
        }
    }

    /// The payload, byte for byte.
    pub fn payload(&self) -> Arc<dyn ReadAt> {
        match self {
            Self::Mini(dump) => dump.payload(),
            Self::Full(dump) => dump.payload(),
        }
    }

    /// A kerneldumpheader: the dump's own, else one made of the payload.
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

    /// Its memory. A full dump that carries no minidump translates no virtual address: whoever has
    /// its kernel can.
    pub fn memory(&self) -> Arc<dyn DumpMemory> {
        match self {
            Self::Mini(dump) => Arc::clone(dump) as Arc<dyn DumpMemory>,
            Self::Full(dump) => Arc::clone(dump) as Arc<dyn DumpMemory>,
        }
    }

    fn build(
        source: Arc<dyn ReadAt>,
        beside: Option<Beside>,
        options: &OpenOptions,
    ) -> Result<Self, Error> {
        let opened = container::open(source, &options.stream)?;
        let content = opened.stream.content();
        let mut head = [0; 64];
        let got = content.read_full_at(&mut head, 0)?;
        let head = &head[..got];
        if !head.starts_with(b"\x7fELF") {
            let mini = read_header(&*content)?;
            let envelope = Envelope::new(opened, beside, (mini.arch, mini.order));
            let dump = Dump::build(envelope, mini, options)?;
            return Ok(Self::Mini(Arc::new(dump)));
        }
        let elf = Head::parse(head).filter(Head::is_core);
        match elf.map(|elf| elf.osabi) {
            None => Err(Error::NotADump {
                found: foreign::ELF_FILE.into(),
            }),
            Some(ELFOSABI_STANDALONE) => {
                let dump = FullDump::build(opened, beside, options)?;
                Ok(Self::Full(Arc::new(dump)))
            }
            Some(_) => {
                let Some(place) = carried::find(&ElfCore::parse(content)?)? else {
                    return Err(Error::NotADump {
                        found: foreign::ELF_CORE.into(),
                    });
                };
                let carried = place.carried(&opened.stream.content());
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
    /// Opens the minidump at `path`. An info file beside it (`info.N` of `vmcore.N` or
    /// `livecore.N`) is read too. A named pipe is read to its end first, as [`Dump::from_reader`]
    /// does. A full dump that carries no minidump is not supported here: [`AnyDump::open`] opens
    /// every kind.
    ///
    /// # Errors
    ///
    /// Those of [`AnyDump::open`].
    pub fn open(path: impl AsRef<Path>, options: &OpenOptions) -> Result<Self, Error> {
        AnyDump::open(path, options)?.sole_minidump()
    }

    /// Opens a minidump that is whatever `source` reads.
    ///
    /// # Errors
    ///
    /// Those of [`AnyDump::open`].
    pub fn from_source(source: Arc<dyn ReadAt>, options: &OpenOptions) -> Result<Self, Error> {
        AnyDump::from_source(source, options)?.sole_minidump()
    }

    /// Opens a minidump that comes from a pipe: its bytes are first put into a file without a
    /// name, in the stream's folder for spools.
    ///
    /// # Errors
    ///
    /// Those of [`AnyDump::from_reader`].
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
