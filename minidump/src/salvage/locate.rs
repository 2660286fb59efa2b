//! Locates the payload and the header in a damaged container.
//!
//! In this order: a payload at the start of the file, with or without a header at the end; a seal at
//! the end of a file whose start is damaged; a dump device, by its last header, by its first header,
//! or by a payload at any sector.

use livecore_defs::foreign::{self, HEAD};
use std::sync::Arc;

use livecore_compress::{Codec, ReadAt, Window};

use super::report::HeaderFrom;
use crate::container::is_uncompressed;
use crate::kerneldump::Magic;
use crate::{Error, KernelDumpHeader, MinidumpHeader};
use livecore_defs::kerneldump::SIZE;

/// Sector sizes of dump devices, and block sizes that raw files are padded to.
const SECTORS: [u64; 6] = [512, 1024, 2048, 4096, 8192, 16384];
/// Headers and payloads begin at multiples of this.
const STEP: usize = 512;
/// Size of one read of the search.
const PIECE: usize = 1 << 20;

/// Location of payload and header.
pub(super) struct Located {
    /// The header, if a valid one is left.
    pub(super) header: Option<(KernelDumpHeader, HeaderFrom)>,
    container: &'static str,
    start: u64,
    len: u64,
    /// What is wrong with the header, which is not used or used only in part.
    doubt: Option<&'static str>,
}

impl Located {
    /// The probable container.
    pub(super) fn container(&self) -> &'static str {
        self.container
    }

    /// What is wrong with the header in the file.
    pub(super) fn doubt(&self) -> Option<&'static str> {
        self.doubt
    }

    /// Offset of the stored payload.
    pub(super) fn start(&self) -> u64 {
        self.start
    }

    /// The stored payload.
    pub(super) fn window(&self, source: &Arc<dyn ReadAt>) -> Arc<dyn ReadAt> {
        Arc::new(Window::new(Arc::clone(source), self.start, self.len))
    }
}

/// Finds payload and header.
pub(super) fn locate(source: &Arc<dyn ReadAt>) -> Result<Located, Error> {
    let size = source.size()?;
    if size == 0 {
        return Err(Error::NotADump {
            found: "an empty file".into(),
        });
    }
    let trailing = trailing(&**source, size)?;
    if let Some((header, _)) = &trailing {
        if header.magic == Magic::Text {
            return Err(Error::Unsupported {
                what: "a text dump, which savecore(8) saves as a tar archive; `livecore` reads \
                       minidumps and full dumps"
                    .into(),
            });
        }
        if header.dumpkeysize != 0 && header.parity_ok {
            return Err(Error::Unsupported {
                what: "encrypted dump with a damaged header or key block".into(),
            });
        }
    }
    if begins_payload(&**source, 0)? || livecore_compress::salvage::has_seal(&**source)? {
        return Ok(at_front(size, trailing));
    }
    if let Some((header, at)) = &trailing
        && believable(header)
        && let Some(start) = at.checked_sub(header.dumpextent)
        && begins_payload(&**source, start)?
    {
        return Ok(Located {
            start,
            len: header.dumplength.min(at - start),
            container: "device",
            doubt: None,
            header: Some((header.clone(), HeaderFrom::Trailing)),
        });
    }
    search(&**source, size)
}

/// A payload at the start of the file.
fn at_front(size: u64, trailing: Option<(KernelDumpHeader, u64)>) -> Located {
    let Some((header, at)) = trailing else {
        return Located {
            header: None,
            container: "saved",
            doubt: None,
            start: 0,
            len: size,
        };
    };
    let ends = |len: u64| {
        let units = [512, 4096, 16384, u64::from(header.blocksize).max(1)];
        units
            .into_iter()
            .any(|unit| len.checked_next_multiple_of(unit) == Some(at))
    };
    let fits = ends(header.dumplength);
    Located {
        doubt: match (believable(&header), fits) {
            (false, _) => Some("kerneldumpheader: parity does not match"),
            (true, false) => {
                Some("kerneldumpheader, dumplength: differs from the size of the data")
            }
            (true, true) => None,
        },
        // Bytes after the stated length are padding if the length is right.
        len: match fits {
            true => header.dumplength,
            false => at,
        },
        header: believable(&header).then_some((header, HeaderFrom::Trailing)),
        container: "raw",
        start: 0,
    }
}

/// Whether a header is as the kernel wrote it: its parity matches, or savecore(8) has cleared the
/// magic, which changes the parity.
fn believable(header: &KernelDumpHeader) -> bool {
    header.parity_ok || header.magic == Magic::Cleared
}

fn trailing(source: &dyn ReadAt, size: u64) -> Result<Option<(KernelDumpHeader, u64)>, Error> {
    for sector in SECTORS {
        let Some(at) = size.checked_sub(sector) else {
            break;
        };
        if let Some(header) = header_at(source, at)? {
            return Ok(Some((header, at)));
        }
    }
    Ok(None)
}

/// The header at `at`; `None` also for an unknown version.
fn header_at(source: &dyn ReadAt, at: u64) -> Result<Option<KernelDumpHeader>, Error> {
    let mut block = [0; SIZE];
    if source.read_full_at(&mut block, at)? < SIZE {
        return Ok(None);
    }
    Ok(KernelDumpHeader::parse(&block, at).unwrap_or(None))
}

fn begins_payload(source: &dyn ReadAt, at: u64) -> Result<bool, Error> {
    let mut head = [0; 64];
    let got = source.read_full_at(&mut head, at)?;
    Ok(is_payload(&head[..got]))
}

fn is_payload(head: &[u8]) -> bool {
    is_uncompressed(head) || Codec::sniff(head) != Codec::None
}

/// Searches for the first header of a device, or else for a payload.
fn search(source: &dyn ReadAt, size: u64) -> Result<Located, Error> {
    let mut payload = None;
    let mut piece = vec![0; PIECE];
    let mut at = 0;
    while at < size {
        let got = source.read_full_at(&mut piece, at)?;
        if got == 0 {
            break;
        }
        for (i, block) in piece[..got].chunks(STEP).enumerate() {
            let place = at + (i * STEP) as u64;
            if Magic::probe(block) == Some(Magic::Kernel)
                && let Some(found) = under_leading(source, size, place)?
            {
                return Ok(found);
            }
            if payload.is_none() && MinidumpHeader::probe(block) {
                payload = Some(place);
            }
        }
        at += got as u64;
    }
    match payload {
        Some(start) => Ok(Located {
            header: None,
            container: "device",
            doubt: Some("kerneldumpheader: both copies are lost"),
            start,
            len: size - start,
        }),
        None => {
            let mut head = [0; HEAD];
            let got = source.read_full_at(&mut head, 0)?;
            Err(Error::NotADump {
                found: foreign::sentence(&head[..got]).unwrap_or_else(|| {
                    "neither a minidump nor a kerneldumpheader nor a seal".into()
                }),
            })
        }
    }
}

/// The dump after the header at `place`, if that is the first header of a device: block, key,
/// payload.
fn under_leading(source: &dyn ReadAt, size: u64, place: u64) -> Result<Option<Located>, Error> {
    let Some(header) = header_at(source, place)? else {
        return Ok(None);
    };
    let key = u64::from(header.dumpkeysize);
    if !header.parity_ok || key != 0 {
        return Ok(None);
    }
    let start = place + u64::from(header.blocksize);
    if start >= size || !begins_payload(source, start)? {
        return Ok(None);
    }
    Ok(Some(Located {
        start,
        len: header.dumplength.min(size - start),
        container: "device",
        doubt: Some("kerneldumpheader: the last copy is lost"),
        header: Some((header, HeaderFrom::Leading)),
    }))
}
