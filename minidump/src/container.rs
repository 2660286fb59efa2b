//! Identifies the container of a dump from the start and the end of its file.
//!
//! | container | layout                                                                       |
//! |-----------|------------------------------------------------------------------------------|
//! | saved     | the payload (savecore(8), netdumpd)                                           |
//! | raw       | the payload, zeros up to a block boundary, the header (`MEM_KERNELDUMP`)      |
//! | sealed    | frames of the payload, index, attachment (livecore)                           |
//! | device    | … header, key, payload, header at the end of the device (dump device)         |

use std::sync::Arc;

use livecore_compress::seal::format::{PART_EXCLUDED, PART_UNPROVEN};
use livecore_compress::{Codec, ReadAt, Stream, StreamKind, Window};

use crate::elf::headers::Head;
use crate::encryption::Cipher;
use crate::kerneldump::Magic;
use crate::{Error, KernelDumpHeader, MinidumpHeader, SealRecord};
use livecore_defs::kerneldump::SIZE;

/// The layout of payload and header in a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Container {
    /// Only the payload.
    Saved,
    /// The payload, padded to a page, and the header.
    Raw,
    /// Frames of the payload, and an index and a header that other tools skip.
    Sealed,
    /// An image of a dump device: the payload between two headers at its end. Only for reading.
    Device,
}

impl Container {
    /// The name: `saved`, `raw`, `sealed` or `device`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Saved => "saved",
            Self::Raw => "raw",
            Self::Sealed => "sealed",
            Self::Device => "device",
        }
    }
}

impl std::fmt::Display for Container {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

/// The parts of a file.
pub(crate) struct Opened {
    /// The container.
    pub container: Container,
    /// The stream of the payload.
    pub stream: Stream,
    /// The length of the file.
    pub file_len: u64,
    /// The header in the container, and its offset in the file (0 inside a seal).
    pub header: Option<(KernelDumpHeader, u64)>,
    /// The seal's attachment.
    pub seal: Option<SealRecord>,
    /// The error of reading the seal or its attachment.
    pub seal_damage: Option<String>,
    /// The cipher of an encrypted dump.
    pub encryption: Option<Cipher>,
}

/// Opens the parts of an encrypted dump: `plain` is its decrypted data, `header` that of a dump device.
///
/// # Errors
///
/// Those of [`open`].
pub(crate) fn open_decrypted(
    plain: Arc<dyn ReadAt>,
    (container, file_len): (Container, u64),
    header: Option<(KernelDumpHeader, u64)>,
    options: &livecore_compress::OpenOptions,
) -> Result<Opened, Error> {
    let mut opened = match (container, header) {
        (Container::Device, Some((header, at))) => Opening {
            container,
            file_len,
            header,
            at,
        }
        .open(plain, options)?,
        _ => open(plain, options)?,
    };
    opened.file_len = file_len;
    // The data of a saved file may be a sealed file.
    if container != Container::Saved {
        opened.container = container;
    }
    Ok(opened)
}

/// Identifies the container of `source`, which is not encrypted, and opens its parts.
///
/// # Errors
///
/// Returns [`Error::Io`] if the source cannot be read, [`Error::Broken`] if header, seal or stream are
/// inconsistent, [`Error::Unsupported`] for an unknown codec.
pub(crate) fn open(
    source: Arc<dyn ReadAt>,
    options: &livecore_compress::OpenOptions,
) -> Result<Opened, Error> {
    let file_len = source.size()?;
    if let Some((header, at)) = trailing_header(&*source, file_len)? {
        return open_under_header(source, file_len, header, at, options);
    }
    let options = stream_options(&*source, options)?;
    let stream = Stream::from_source(source, &options)?;
    let mut opened = Opened {
        container: match stream.kind() {
            StreamKind::Sealed => Container::Sealed,
            StreamKind::Plain | StreamKind::Foreign => Container::Saved,
        },
        file_len,
        header: None,
        seal: None,
        seal_damage: stream.seal_damage().map(ToString::to_string),
        encryption: None,
        stream,
    };
    if let Some(attachment) = opened.stream.attachment() {
        match SealRecord::parse(attachment) {
            Ok(mut record) => {
                let ranges = match opened.stream.list(PART_UNPROVEN) {
                    Ok(Some(list)) => record.read_ranges(&list),
                    Ok(None) => Ok(()),
                    Err(livecore_compress::Error::Read(error)) => {
                        return Err(Error::io("read", error));
                    }
                    Err(error) => Err(error.into()),
                };
                let excluded = match opened.stream.list(PART_EXCLUDED) {
                    Ok(list) => record.read_excluded(list.as_deref()),
                    Err(livecore_compress::Error::Read(error)) => {
                        return Err(Error::io("read", error));
                    }
                    Err(error) => Err(error.into()),
                };
                let redacted = record.redacted().map(drop);
                for error in [ranges, excluded, redacted]
                    .into_iter()
                    .filter_map(Result::err)
                {
                    opened.seal_damage.get_or_insert(error.to_string());
                }
                opened.header = Some((record.header.clone(), 0));
                opened.seal = Some(record);
            }
            Err(error) => opened.seal_damage = Some(error.to_string()),
        }
    }
    Ok(opened)
}

/// Whether an uncompressed payload begins with `head`, of at least 64 bytes if the payload has them.
pub(crate) fn is_uncompressed(head: &[u8]) -> bool {
    MinidumpHeader::probe(head) || Head::parse(head).is_some_and(|head| head.is_core())
}

/// Returns `options` for the stream at the beginning of `source`. The magic of a payload shows that the
/// stream is uncompressed, whatever follows it.
pub(crate) fn stream_options(
    source: &dyn ReadAt,
    options: &livecore_compress::OpenOptions,
) -> Result<livecore_compress::OpenOptions, Error> {
    let mut head = [0; 64];
    let got = source.read_full_at(&mut head, 0)?;
    let options = options.clone();
    Ok(match is_uncompressed(&head[..got]) {
        true => options.codec(Codec::None),
        false => options,
    })
}

/// Finds the header at the end of the file, or at the start of its last block of 4096 bytes.
pub(crate) fn trailing_header(
    source: &dyn ReadAt,
    file_len: u64,
) -> Result<Option<(KernelDumpHeader, u64)>, Error> {
    for block in [SIZE as u64, 4096] {
        let Some(at) = file_len.checked_sub(block) else {
            continue;
        };
        if let Some(header) = header_at(source, at)? {
            return Ok(Some((header, at)));
        }
    }
    Ok(None)
}

fn header_at(source: &dyn ReadAt, at: u64) -> Result<Option<KernelDumpHeader>, Error> {
    let mut block = [0; SIZE];
    if source.read_full_at(&mut block, at)? < SIZE {
        return Ok(None);
    }
    KernelDumpHeader::parse(&block, at)
}

/// Opens a file with a header at its end: a raw file, or the image of a dump device.
fn open_under_header(
    source: Arc<dyn ReadAt>,
    file_len: u64,
    header: KernelDumpHeader,
    at: u64,
    options: &livecore_compress::OpenOptions,
) -> Result<Opened, Error> {
    if header.magic == Magic::Text {
        return Err(Error::Unsupported {
            what: "text dump".into(),
        });
    }
    if header.codec().is_none() {
        return Err(unknown_codec(&header, at));
    }
    let (container, start) = locate(&*source, file_len, &header, at)?;
    let window = Arc::new(Window::new(source, start, header.dumplength));
    let opening = Opening {
        container,
        file_len,
        header,
        at,
    };
    opening.open(window, options)
}

/// A header at `at`, and the file around it.
struct Opening {
    container: Container,
    file_len: u64,
    header: KernelDumpHeader,
    at: u64,
}

impl Opening {
    /// Opens the stored payload.
    fn open(
        self,
        stored: Arc<dyn ReadAt>,
        options: &livecore_compress::OpenOptions,
    ) -> Result<Opened, Error> {
        let Some(codec) = self.header.codec() else {
            return Err(unknown_codec(&self.header, self.at));
        };
        let found = Codec::sniff(&head_of(&*stored)?);
        if found != codec {
            return Err(broken(
                "compression",
                self.at + 495,
                codec.to_string(),
                format!("{found}, the codec of the data"),
            ));
        }
        Ok(Opened {
            container: self.container,
            // Such a file has no seal.
            stream: match codec {
                Codec::None => Stream::plain(stored, options)?,
                _ => Stream::from_source(stored, options)?,
            },
            file_len: self.file_len,
            header: Some((self.header, self.at)),
            seal: None,
            seal_damage: None,
            encryption: None,
        })
    }
}

fn unknown_codec(header: &KernelDumpHeader, at: u64) -> Error {
    broken(
        "compression",
        at + 495,
        header.compression.to_string(),
        "0, 1 or 2",
    )
}

/// Returns the offset of the data on a dump device, using the header at `at`.
///
/// # Errors
///
/// [`Error::Broken`] if the lengths in the header do not fit the device.
pub(crate) fn start_on_device(
    source: &dyn ReadAt,
    file_len: u64,
    header: &KernelDumpHeader,
    at: u64,
) -> Result<u64, Error> {
    let key = u64::from(header.dumpkeysize);
    let sum = header.dumpextent.checked_add(key);
    if sum.is_none_or(|len| len > at) {
        return Err(broken(
            "dumpkeysize",
            at + 56,
            format!("{key:#x}, with dumpextent {:#x}", header.dumpextent),
            format!("sum of both at most {at:#x}, the offset of the header"),
        ));
    }
    device(source, file_len, header, at)
}

fn broken(
    field: &str,
    offset: u64,
    found: impl Into<String>,
    expected: impl Into<String>,
) -> Error {
    let region = format!("kerneldumpheader, {field}");
    Error::broken(region, offset, found, expected)
}

/// Reads the first bytes, enough for any magic.
pub(crate) fn head_of(source: &dyn ReadAt) -> Result<Vec<u8>, Error> {
    let mut head = [0; 8];
    let got = source.read_full_at(&mut head, 0)?;
    Ok(head[..got].to_vec())
}

/// Returns the container and the offset of the data, using the header at `at`.
fn locate(
    source: &dyn ReadAt,
    file_len: u64,
    header: &KernelDumpHeader,
    at: u64,
) -> Result<(Container, u64), Error> {
    let block = u64::from(header.blocksize);
    let rounded = (block > 0)
        .then(|| header.dumplength.checked_next_multiple_of(block))
        .flatten();
    if rounded == Some(at) {
        return Ok((Container::Raw, 0));
    }
    let start = device(source, file_len, header, at)?;
    Ok((Container::Device, start))
}

/// Returns the offset of the data if the header at `at` is that of a dump device.
fn device(
    source: &dyn ReadAt,
    file_len: u64,
    header: &KernelDumpHeader,
    at: u64,
) -> Result<u64, Error> {
    let block = u64::from(header.blocksize);
    let key = u64::from(header.dumpkeysize);
    let trailer_len = file_len - at;
    let leading = at
        .checked_sub(header.dumpextent)
        .and_then(|start| start.checked_sub(key))
        .and_then(|start| start.checked_sub(trailer_len));
    let front = match leading {
        Some(offset) => header_at(source, offset)?,
        None => None,
    };
    let head = head_of(source)?;
    let starts_with_payload = MinidumpHeader::probe(&head)
        || head.starts_with(b"\x7fELF")
        || Codec::sniff(&head) != Codec::None;
    if front.is_none() && starts_with_payload {
        return Err(broken(
            "dumplength",
            at + 40,
            format!("{:#x} (block size {block:#x})", header.dumplength),
            format!("length up to the header at {at:#x}"),
        ));
    }
    if block != trailer_len {
        return Err(broken(
            "blocksize",
            at + 60,
            format!("{block:#x}"),
            format!("{trailer_len:#x}, the distance of the header from the end of the device"),
        ));
    }
    let most = at.saturating_sub(block).saturating_sub(key);
    let start = at.checked_sub(header.dumpextent);
    let Some((start, leading)) = start.zip(leading) else {
        return Err(broken(
            "dumpextent",
            at + 496,
            format!("{:#x}", header.dumpextent),
            format!("at most {most:#x}, to start within the device"),
        ));
    };
    if header.dumplength > header.dumpextent {
        return Err(broken(
            "dumplength",
            at + 40,
            format!("{:#x}", header.dumplength),
            format!("at most {:#x}, the extent", header.dumpextent),
        ));
    }
    // savecore(8) clears only the last header and does not update its parity.
    let same = front.is_some_and(|front| match header.magic {
        Magic::Cleared => {
            front
                == KernelDumpHeader {
                    magic: front.magic,
                    parity_ok: front.parity_ok,
                    ..header.clone()
                }
        }
        _ => front == *header,
    });
    if !same {
        return Err(Error::broken(
            "leading kerneldumpheader",
            leading,
            "different or no header",
            format!("copy of the header at {at:#x}"),
        ));
    }
    Ok(start)
}
