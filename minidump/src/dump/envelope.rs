//! What a dump of any kind lies in: container, stream, header, info file, seal.

use std::path::PathBuf;
use std::sync::Arc;

use livecore_compress::{Codec, ReadAt, Stream};

use super::beside::Beside;
use super::open::{find_header, usable_info, warn_of_header, warn_of_seal};
use super::{HeaderOrigin, Warning};
use crate::container::{Container, Opened};
use crate::info::Info;
use crate::{Architecture, ByteOrder, KernelDumpHeader, SealRecord};

/// Whose dump it is: architecture and byte order.
pub(crate) type Port = (&'static Architecture, ByteOrder);

/// What a dump of any kind lies in.
pub struct Envelope {
    container: Container,
    stream: Arc<Stream>,
    file_len: u64,
    header: Option<KernelDumpHeader>,
    origin: HeaderOrigin,
    info: Option<Info>,
    seal: Option<SealRecord>,
    pub(crate) content: Arc<dyn ReadAt>,
    embedded: bool,
    pub(crate) warnings: Vec<Warning>,
}

/// A minidump in an ELF core, and the header that stands beside it.
pub(crate) struct Carried {
    pub(crate) content: Arc<dyn ReadAt>,
    pub(crate) header: Option<KernelDumpHeader>,
}

impl Envelope {
    /// What `opened` is to a dump of this port that is all of its payload.
    pub(crate) fn new(opened: Opened, beside: Option<Beside>, port: Port) -> Self {
        let mut warnings = Vec::new();
        if let Some(why) = opened.seal_damage.clone() {
            warnings.push(Warning::Seal { why });
        }
        let (info, info_path): (_, Option<PathBuf>) =
            usable_info(beside, &opened, port, &mut warnings);
        let (header, origin) = find_header(&opened, info.as_ref(), info_path);
        warn_of_header(header.as_ref(), port, &mut warnings);
        warn_of_seal(opened.seal.as_ref(), &mut warnings);
        Self {
            container: opened.container,
            content: opened.stream.content(),
            stream: Arc::new(opened.stream),
            file_len: opened.file_len,
            header,
            origin,
            info,
            seal: opened.seal,
            embedded: false,
            warnings,
        }
    }

    /// What the same file is to a minidump of this port that is a part of its payload. The header
    /// beside the minidump counts before that of the file.
    pub(crate) fn around(&self, carried: Carried, port: Port) -> Self {
        let (header, origin) = match carried.header {
            Some(header) => (Some(header), HeaderOrigin::ElfNote),
            None => (self.header.clone(), self.origin.clone()),
        };
        let of_header = |w: &&Warning| {
            !matches!(
                w,
                Warning::Architecture { .. } | Warning::Cleared | Warning::Parity
            )
        };
        let mut warnings = self.warnings.iter().filter(of_header).cloned().collect();
        warn_of_header(header.as_ref(), port, &mut warnings);
        Self {
            container: self.container,
            stream: Arc::clone(&self.stream),
            file_len: self.file_len,
            header,
            origin,
            info: None,
            seal: self.seal.clone(),
            content: carried.content,
            embedded: true,
            warnings,
        }
    }

    /// Takes a header that a note of the payload holds, if the container has none.
    pub(crate) fn take_header(&mut self, header: &KernelDumpHeader, port: Port) {
        if self.header.is_none() {
            warn_of_header(Some(header), port, &mut self.warnings);
            self.header = Some(header.clone());
            self.origin = HeaderOrigin::ElfNote;
        }
    }

    /// The container.
    pub fn container(&self) -> Container {
        self.container
    }

    /// The codec of the payload in the container.
    pub fn codec(&self) -> Codec {
        self.stream.codec()
    }

    /// Whether the file is an ELF core that carries the minidump ([`crate::elf::export`]).
    pub fn is_embedded(&self) -> bool {
        self.embedded
    }

    /// The payload's stream, for decoding it whole. Of an ELF core that carries a minidump
    /// ([`Envelope::is_embedded`]) it is the whole core's.
    pub fn stream(&self) -> &Stream {
        &self.stream
    }

    /// The same, to be kept beside the dump.
    pub fn shared_stream(&self) -> Arc<Stream> {
        Arc::clone(&self.stream)
    }

    /// Bytes of the file.
    pub fn file_len(&self) -> u64 {
        self.file_len
    }

    /// The kerneldumpheader, as far as there is one ([`Envelope::header_origin`]).
    pub fn header(&self) -> Option<&KernelDumpHeader> {
        self.header.as_ref()
    }

    /// Where the kerneldumpheader is from.
    pub fn header_origin(&self) -> &HeaderOrigin {
        &self.origin
    }

    /// The info file beside the dump, if it is about this dump.
    pub fn info(&self) -> Option<&Info> {
        self.info.as_ref()
    }

    /// The attachment of the seal.
    pub fn seal(&self) -> Option<&SealRecord> {
        self.seal.as_ref()
    }

    /// The payload's length if it is known without decoding the dump.
    pub fn known_len(&self) -> Option<u64> {
        let len = self.stream.known_len()?;
        if self.embedded {
            return self.content.size().ok();
        }
        Some(len)
    }

    /// What is wrong with the dump, as far as opening it has told.
    pub fn warnings(&self) -> &[Warning] {
        &self.warnings
    }
}
