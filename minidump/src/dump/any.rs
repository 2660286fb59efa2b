//! A kernel dump of either kind: told from the first bytes of its payload.

use std::fs::File;
use std::io::{ErrorKind, Read, Write};
use std::ops::ControlFlow;
use std::os::unix::fs::FileTypeExt;
use std::path::Path;
use std::sync::Arc;

use compress::{NoProgress, Progress, ReadAt, Window};

use super::beside::{self, Beside};
use super::{Dump, OpenOptions};
use crate::container;
use crate::defs::elf::{
    ELFOSABI_STANDALONE, NOTE_KERNELDUMPHEADER, NOTE_NAME, NOTE_PAYLOAD, NOTE_PAYLOAD_VERSION,
};
use crate::defs::kerneldump;
use crate::elf::core::{ElfCore, Head};
use crate::{Error, FullDump, KernelDumpHeader};

/// A kernel dump of either kind.
#[derive(Debug)]
pub enum AnyDump {
    /// A minidump; also one that an exported ELF core carries.
    Mini(Box<Dump>),
    /// A full dump.
    Full(Box<FullDump>),
}

/// What stands beside a minidump in an ELF core.
pub(super) struct Carried {
    pub(super) header: Option<KernelDumpHeader>,
}

impl AnyDump {
    /// Opens the dump at `path`, with the info file beside it. A named pipe is read to its end
    /// first.
    pub fn open(path: &Path, options: &OpenOptions) -> Result<Self, Error> {
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
    pub fn from_source(source: Arc<dyn ReadAt>, options: &OpenOptions) -> Result<Self, Error> {
        Self::build(source, None, options)
    }

    /// Opens a dump that comes from a pipe: its bytes are first put into a file without a name, in
    /// the stream's folder for spools.
    pub fn from_reader(
        reader: &mut dyn Read,
        options: &OpenOptions,
        progress: &dyn Progress,
    ) -> Result<Self, Error> {
        let file = match &options.stream.spool_dir {
            Some(dir) => tempfile::tempfile_in(dir),
            None => tempfile::tempfile(),
        };
        let mut file = file.map_err(|e| Error::io("temporary file", e))?;
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

    /// The minidump; a full dump is not supported by whoever asks.
    pub fn into_minidump(self) -> Result<Dump, Error> {
        match self {
            Self::Mini(dump) => Ok(*dump),
            Self::Full(_) => Err(Error::Unsupported {
                what: "full (ELF) kernel dump".into(),
            }),
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
            let dump = Dump::build(opened, content, None, beside, options)?;
            return Ok(Self::Mini(Box::new(dump)));
        }
        let elf = Head::parse(head).filter(Head::is_core);
        match elf.map(|elf| elf.osabi) {
            None => Err(Error::NotADump {
                found: "an ELF file".into(),
            }),
            Some(ELFOSABI_STANDALONE) => {
                let dump = FullDump::build(opened, beside, options)?;
                Ok(Self::Full(Box::new(dump)))
            }
            Some(_) => {
                let (offset, len, carried) = carried(&ElfCore::parse(content.clone())?)?;
                let part = Arc::new(Window::new(content, offset, len));
                let dump = Dump::build(opened, part, Some(carried), None, options)?;
                Ok(Self::Mini(Box::new(dump)))
            }
        }
    }
}

/// Where the minidump lies that an ELF core carries, and its header.
fn carried(core: &ElfCore) -> Result<(u64, u64, Carried), Error> {
    let order = core.head().order;
    let (mut place, mut header) = (None, None);
    let mut broken = None;
    core.notes(&mut |note| {
        if note.name != NOTE_NAME {
            return ControlFlow::Continue(());
        }
        match note.kind {
            NOTE_PAYLOAD => {
                let word = |at, len| order.uint_at(&note.description, at, len);
                match (word(0, 4), word(8, 8), word(16, 8)) {
                    (Some(NOTE_PAYLOAD_VERSION), Some(offset), Some(len)) => {
                        place = Some((offset, len));
                    }
                    (version, ..) => broken = Some((note.offset, version)),
                }
            }
            NOTE_KERNELDUMPHEADER => {
                if let Some(block) = note.description.first_chunk::<{ kerneldump::SIZE }>() {
                    header = Some((*block, note.offset));
                }
            }
            _ => {}
        }
        ControlFlow::Continue(())
    })?;
    if let Some((offset, version)) = broken {
        return Err(Error::broken(
            "ELF core, note of the payload",
            offset,
            version.map_or("too few bytes".into(), |v| format!("version {v}")),
            format!("version {NOTE_PAYLOAD_VERSION}, an offset and a length"),
        ));
    }
    let Some((offset, len)) = place else {
        return Err(Error::NotADump {
            found: "an ELF core that carries no minidump".into(),
        });
    };
    let header = match header {
        Some((block, at)) => KernelDumpHeader::parse(&block, at)?,
        None => None,
    };
    Ok((offset, len, Carried { header }))
}
