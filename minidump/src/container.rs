//! How payload and header lie in a file: told from its ends.
//!
//! | container | what lies where                                                              |
//! |-----------|------------------------------------------------------------------------------|
//! | saved     | the payload alone (savecore(8), netdumpd)                                     |
//! | raw       | the payload, zeros up to a block, the header (`MEM_KERNELDUMP`)               |
//! | sealed    | frames of the payload, then index and attachment; ours                        |
//! | device    | … header, key, payload right-aligned, header at the very end (dump device)    |

use std::sync::Arc;

use compress::{Codec, ReadAt, Stream, StreamKind, Window};

use crate::defs::kerneldump::SIZE;
use crate::kerneldump::Magic;
use crate::{Error, KernelDumpHeader, SealRecord};

/// How payload and header lie in a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Container {
    /// The payload alone.
    Saved,
    /// The payload and, at its page-rounded end, the header.
    Raw,
    /// Frames of the payload, index and header where common tools skip them.
    Sealed,
}

impl Container {
    /// `saved`, `raw` or `sealed`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Saved => "saved",
            Self::Raw => "raw",
            Self::Sealed => "sealed",
        }
    }
}

impl std::fmt::Display for Container {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

/// A file with its container taken off.
pub struct Opened {
    /// The container.
    pub container: Container,
    /// The payload's stream.
    pub stream: Stream,
    /// Bytes of the whole file.
    pub file_len: u64,
    /// The header that the container holds, and its offset in the file (0 inside a seal).
    pub header: Option<(KernelDumpHeader, u64)>,
    /// The seal's attachment.
    pub seal: Option<SealRecord>,
    /// What is wrong with the seal's attachment, if it is there and cannot be read.
    pub seal_damage: Option<String>,
}

/// Takes the container off `source`.
pub fn open(source: Arc<dyn ReadAt>, options: &compress::OpenOptions) -> Result<Opened, Error> {
    let file_len = source.size()?;
    if let Some((header, at)) = trailing_header(&*source, file_len)? {
        return open_raw(source, file_len, header, at, options);
    }
    let stream = Stream::open(source, options)?;
    let mut opened = Opened {
        container: match stream.kind() {
            StreamKind::Sealed => Container::Sealed,
            StreamKind::Plain | StreamKind::Foreign => Container::Saved,
        },
        file_len,
        header: None,
        seal: None,
        seal_damage: stream.seal_damage().map(ToString::to_string),
        stream,
    };
    if let Some(attachment) = opened.stream.attachment() {
        match SealRecord::parse(attachment) {
            Ok(record) => {
                opened.header = Some((record.header.clone(), 0));
                opened.seal = Some(record);
            }
            Err(error) => opened.seal_damage = Some(error.to_string()),
        }
    }
    Ok(opened)
}

/// The header that ends the file, or begins its last block of 4096 bytes.
fn trailing_header(
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

fn open_raw(
    source: Arc<dyn ReadAt>,
    file_len: u64,
    header: KernelDumpHeader,
    at: u64,
    options: &compress::OpenOptions,
) -> Result<Opened, Error> {
    if header.magic == Magic::Text {
        return Err(Error::Unsupported {
            what: "text dump".into(),
        });
    }
    if header.dumpkeysize != 0 {
        return Err(Error::Unsupported {
            what: "encrypted dump: decrypt it with decryptcore(8) first".into(),
        });
    }
    // A dump device has a second header in front of the data.
    let block = u64::from(header.blocksize).max(SIZE as u64);
    let leading = at
        .checked_sub(header.dumpextent)
        .and_then(|o| o.checked_sub(block));
    if !at.is_multiple_of(4096) || leading.is_some_and(|o| o > 0) {
        let front = match leading {
            Some(o) => header_at(&*source, o)?,
            None => None,
        };
        if front.is_some() || file_len - at > SIZE as u64 {
            return Err(Error::Unsupported {
                what: "image of a dump device: save the dump with savecore(8) first".into(),
            });
        }
    }
    let Some(codec) = header.codec() else {
        return Err(Error::broken(
            "kerneldumpheader, compression",
            at + 495,
            header.compression.to_string(),
            "0, 1 or 2",
        ));
    };
    let page = u64::from(header.blocksize);
    let rounded = (page > 0)
        .then(|| header.dumplength.checked_next_multiple_of(page))
        .flatten();
    if rounded != Some(at) {
        return Err(Error::broken(
            "kerneldumpheader, dumplength",
            at + 40,
            format!("{:#x} (blocks of {page:#x})", header.dumplength),
            format!("a length that ends where the header begins, at {at:#x}"),
        ));
    }
    let window = Arc::new(Window::new(source, 0, header.dumplength));
    let mut head = [0; 8];
    let got = window.read_full_at(&mut head, 0)?;
    let found = Codec::sniff(&head[..got]);
    if found != codec {
        return Err(Error::broken(
            "kerneldumpheader, compression",
            at + 495,
            format!("{codec}"),
            format!("{found}, which the data begins as"),
        ));
    }
    Ok(Opened {
        container: Container::Raw,
        stream: Stream::open(window, options)?,
        file_len,
        header: Some((header, at)),
        seal: None,
        seal_damage: None,
    })
}
