//! What a dump of any kind lies in: container, stream, header, info file, seal.

use std::path::PathBuf;
use std::sync::Arc;

use livecore_compress::{Codec, ReadAt, Stream};
use livecore_defs::seal::{
    FLAG_HEADER_FROM_INFO, FLAG_HEADER_FROM_PAYLOAD, FLAG_ZERO_TAIL, RECORD_SOURCE_LENGTH,
};

use super::beside::Beside;
use super::warning::Warning;
use crate::container::{Container, Opened};
use crate::header::escaped;
use crate::info::Info;
use crate::kerneldump::Magic;
use crate::{Architecture, ByteOrder, KernelDumpHeader, SealRecord};

/// Whose dump it is: architecture and byte order.
pub(crate) type Port = (&'static Architecture, ByteOrder);

/// Where a dump's kerneldumpheader was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HeaderOrigin {
    /// In the file, at this offset.
    File {
        /// The offset.
        offset: u64,
    },
    /// In the seal, as the kernel or a producer had written it.
    Seal,
    /// In the seal, where it was rebuilt from an info file when the dump was converted.
    SealFromInfo,
    /// In the seal, where it was rebuilt from the payload when the dump was converted.
    SealFromPayload,
    /// In a note of the ELF core that the dump was exported as.
    ElfNote,
    /// Rebuilt from the info file beside the dump.
    Info(PathBuf),
    /// Nowhere.
    Absent,
}

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
        if let Some(cut) = opened.stream.cut() {
            warnings.push(Warning::Interrupted {
                why: cut.to_string(),
            });
        }
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

    /// What to warn of where a part of the payload is missing, for which there is the warning `lost`.
    pub(crate) fn explain_loss(&self, lost: Warning) -> Warning {
        match self.stream.interruption() {
            Some(why) => Warning::Interrupted {
                why: why.to_string(),
            },
            None => lost,
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
    pub fn kerneldumpheader(&self) -> Option<&KernelDumpHeader> {
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

/// What of a header matters to whoever opens the dump of this port.
fn warn_of_header(header: Option<&KernelDumpHeader>, port: Port, warnings: &mut Vec<Warning>) {
    let Some(header) = header else {
        return;
    };
    let name = String::from_utf8_lossy(&header.architecture);
    if !same_architecture(port, &name) {
        warnings.push(Warning::Architecture {
            header: name.into_owned(),
            payload: port.0.name,
        });
    }
    if header.magic == Magic::Cleared {
        warnings.push(Warning::Cleared);
    } else if !header.parity_ok {
        warnings.push(Warning::Parity);
    }
}

/// Whether a seal says that zeros stand for what was missing, or that something is unproven.
fn warn_of_seal(seal: Option<&SealRecord>, warnings: &mut Vec<Warning>) {
    if let Some(seal) = seal
        && seal.flags & FLAG_ZERO_TAIL != 0
    {
        let record = seal.record(RECORD_SOURCE_LENGTH);
        let source_len = record.and_then(|bytes| ByteOrder::Little.uint(bytes));
        warnings.push(Warning::FilledTail { source_len });
    }
    warnings.extend(seal.and_then(SealRecord::unproven).map(Warning::Unproven));
}

/// The info file if it is one and about this dump; else a warning.
fn usable_info(
    beside: Option<Beside>,
    opened: &Opened,
    port: Port,
    warnings: &mut Vec<Warning>,
) -> (Option<Info>, Option<PathBuf>) {
    let Some(Beside { path, info }) = beside else {
        return (None, None);
    };
    let refuse = |why: String| Warning::Info {
        why: format!("{}: {why}", path.display()),
    };
    let info = match info {
        Ok(info) => info,
        Err(why) => {
            warnings.push(refuse(why));
            return (None, None);
        }
    };
    if !same_architecture(port, &info.architecture) {
        let why = format!(
            "its architecture is {}, the dump's is {}",
            escaped(info.architecture.as_bytes(), 32),
            port.0
        );
        warnings.push(refuse(why));
        return (None, None);
    }
    let codec = opened.stream.codec();
    // savecore -z compresses what the header calls uncompressed; nothing else changes the codec.
    if info.compression != Some(codec) && info.compression != Some(Codec::None) {
        let name = info.compression.map_or("unknown", Codec::name);
        warnings.push(refuse(format!(
            "its compression is {name}, the dump's is {codec}"
        )));
        return (None, None);
    }
    (Some(info), Some(path))
}

fn find_header(
    opened: &Opened,
    info: Option<&Info>,
    info_path: Option<PathBuf>,
) -> (Option<KernelDumpHeader>, HeaderOrigin) {
    if let Some((header, offset)) = opened.header.clone() {
        let origin = match &opened.seal {
            None => HeaderOrigin::File { offset },
            Some(seal) if seal.flags & FLAG_HEADER_FROM_INFO != 0 => HeaderOrigin::SealFromInfo,
            Some(seal) if seal.flags & FLAG_HEADER_FROM_PAYLOAD != 0 => {
                HeaderOrigin::SealFromPayload
            }
            Some(_) => HeaderOrigin::Seal,
        };
        return (Some(header), origin);
    }
    match (info, info_path) {
        (Some(info), Some(path)) => (Some(info.to_header()), HeaderOrigin::Info(path)),
        _ => (None, HeaderOrigin::Absent),
    }
}

/// Whether a kerneldumpheader's architecture string can be that of this port.
fn same_architecture((arch, order): Port, name: &str) -> bool {
    match arch.machine_arch_prefix {
        Some(prefix) => name.starts_with(prefix),
        None => name == arch.machine_arch(order, arch.words[0]),
    }
}
