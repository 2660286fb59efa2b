//! The properties of a dump of any kind: container, stream, header, info file, seal.

use std::path::PathBuf;
use std::sync::Arc;

use livecore_compress::{Codec, ReadAt, Stream};
use livecore_defs::seal::{
    FLAG_HEADER_FROM_INFO, FLAG_HEADER_FROM_PAYLOAD, FLAG_ZERO_TAIL, RECORD_EXCLUDED,
    RECORD_REDACTED, RECORD_SOURCE_LENGTH,
};

use super::contradictions::of_kerneldump;
use super::origin::HeaderOrigin;
use super::warning::Warning;
use crate::container::{Container, Opened};
use crate::encryption::Cipher;
use crate::info::Info;
use crate::info::InfoFile;
use crate::kerneldump::Magic;
use crate::pack::Pack;
use crate::{Architecture, ByteOrder, KernelDumpHeader, SealRecord};
use livecore_defs::text::escaped;

/// The architecture and byte order of a dump.
pub(crate) type Port = (&'static Architecture, ByteOrder);

/// The container, stream, header, info file, seal and warnings of a dump of any kind.
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
    encryption: Option<Cipher>,
    pack: Option<Arc<Pack>>,
    pub(crate) warnings: Vec<Warning>,
}

/// A minidump in an ELF core, and its header in a note.
pub(crate) struct Carried {
    pub(crate) content: Arc<dyn ReadAt>,
    pub(crate) header: Option<KernelDumpHeader>,
}

impl Envelope {
    /// Creates the envelope of a dump that is the complete payload of `opened`.
    pub(crate) fn new(opened: Opened, info_file: Option<InfoFile>, port: Port) -> Self {
        let mut warnings = Vec::new();
        if let Some(why) = opened.seal_damage.clone() {
            warnings.push(Warning::Seal { why });
        }
        let (info, info_path): (_, Option<PathBuf>) =
            usable_info(info_file, &opened, port, &mut warnings);
        if let Some(cut) = opened.stream.cut() {
            warnings.push(Warning::Interrupted {
                why: cut.to_string(),
            });
        }
        let (header, origin) = find_header(&opened, info.as_ref(), info_path);
        warn_of_header(header.as_ref(), port, &mut warnings);
        if let Some(header) = &header {
            warnings.extend(of_kerneldump(header, &origin, opened.container));
        }
        warn_of_seal(opened.seal.as_ref(), &mut warnings);
        Self {
            container: opened.container,
            content: opened.stream.content(),
            encryption: opened.encryption,
            stream: Arc::new(opened.stream),
            file_len: opened.file_len,
            header,
            origin,
            info,
            seal: opened.seal,
            embedded: false,
            pack: None,
            warnings,
        }
    }

    /// Creates the envelope of a minidump that is a part of this payload. A header in a note takes
    /// precedence over that of the file.
    pub(crate) fn around(&self, carried: Carried, port: Port) -> Self {
        let (header, origin) = match carried.header {
            Some(header) => (Some(header), HeaderOrigin::ElfNote),
            None => (self.header.clone(), self.origin.clone()),
        };
        let others = self.warnings.iter().filter(|w| !w.is_of_header());
        let mut warnings = others.cloned().collect();
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
            pack: self.pack.clone(),
            encryption: self.encryption,
            warnings,
        }
    }

    pub(super) fn set_pack(&mut self, pack: Arc<Pack>) {
        if let Some(damage) = pack.seal_damage() {
            let why = format!("the pack: {damage}");
            self.warnings.push(Warning::Seal { why });
        }
        self.pack = Some(pack);
    }

    /// The pack that contains the dump.
    pub fn pack(&self) -> Option<&Arc<Pack>> {
        self.pack.as_ref()
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

    /// Sets the header from a note of the payload, if the container has none.
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

    /// The cipher of an encrypted dump, which was opened with its private key.
    pub fn encryption(&self) -> Option<Cipher> {
        self.encryption
    }

    /// Whether the file is an ELF core with a minidump ([`crate::elf::export`]).
    pub fn is_embedded(&self) -> bool {
        self.embedded
    }

    /// The stream of the payload. For an ELF core with a minidump ([`Envelope::is_embedded`]), it is
    /// the stream of the core.
    pub fn stream(&self) -> &Stream {
        &self.stream
    }

    /// The stream of the payload, with shared ownership.
    pub fn shared_stream(&self) -> Arc<Stream> {
        Arc::clone(&self.stream)
    }

    /// The length of the file.
    pub fn file_len(&self) -> u64 {
        self.file_len
    }

    /// The kerneldumpheader, if any ([`Envelope::header_origin`]).
    pub fn kerneldumpheader(&self) -> Option<&KernelDumpHeader> {
        self.header.as_ref()
    }

    /// The source of the kerneldumpheader.
    pub fn header_origin(&self) -> &HeaderOrigin {
        &self.origin
    }

    /// The info file, if it describes this dump.
    pub fn info(&self) -> Option<&Info> {
        self.info.as_ref()
    }

    /// The attachment of the seal.
    pub fn seal(&self) -> Option<&SealRecord> {
        self.seal.as_ref()
    }

    /// Whether the seal has a receipt: pages were excluded, or memory was redacted.
    pub fn has_receipt(&self) -> bool {
        let has = |seal: &SealRecord| {
            [RECORD_EXCLUDED, RECORD_REDACTED]
                .iter()
                .any(|kind| seal.record(*kind).is_some())
        };
        self.seal.as_ref().is_some_and(has)
    }

    /// The length of the payload, if known without decoding.
    pub fn known_len(&self) -> Option<u64> {
        let len = self.stream.known_len()?;
        if self.embedded {
            return self.content.size().ok();
        }
        Some(len)
    }

    /// The warnings about the dump from opening it.
    pub fn warnings(&self) -> &[Warning] {
        &self.warnings
    }
}

/// Adds warnings about the header of a dump of this port.
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

/// Adds a warning if the seal records that missing data was filled with zeros or is unproven.
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

/// Returns the info file if it is valid and describes this dump. Otherwise adds a warning.
fn usable_info(
    info_file: Option<InfoFile>,
    opened: &Opened,
    port: Port,
    warnings: &mut Vec<Warning>,
) -> (Option<Info>, Option<PathBuf>) {
    let Some(InfoFile { path, info }) = info_file else {
        return (None, None);
    };
    let refuse = |why: String, contradicts: bool| Warning::Info {
        why: format!("{}: {why}", path.display()),
        contradicts,
    };
    let info = match info {
        Ok(info) => info,
        Err(why) => {
            warnings.push(refuse(why, false));
            return (None, None);
        }
    };
    if !same_architecture(port, &info.architecture) {
        let why = format!(
            "its architecture is {}, the dump's is {}",
            escaped(info.architecture.as_bytes(), 32),
            port.0
        );
        warnings.push(refuse(why, true));
        return (None, None);
    }
    let codec = opened.stream.codec();
    // `savecore -z` compresses a dump whose header has no compression.
    if info.compression != Some(codec) && info.compression != Some(Codec::None) {
        let name = info.compression.map_or("unknown", Codec::name);
        let why = format!("its compression is {name}, the dump's is {codec}");
        warnings.push(refuse(why, false));
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

/// Whether a kerneldumpheader's architecture string matches this port.
fn same_architecture((arch, order): Port, name: &str) -> bool {
    match arch.machine_arch_prefix {
        Some(prefix) => name.starts_with(prefix),
        None => name == arch.machine_arch(order, arch.words[0]),
    }
}
