//! Where payload and header lie in what is left of a container.
//!
//! In this order: a payload at the front, with or without a header at the end; a seal at the end of
//! something whose front is damaged; a dump device, by its last header, by its first one, or by the
//! payload that begins somewhere in it.

use livecore_defs::foreign::{self, HEAD};
use std::sync::Arc;

use livecore_compress::{Codec, ReadAt, Window};

use super::report::HeaderFrom;
use crate::elf::core::Head;
use crate::kerneldump::Magic;
use crate::{Error, KernelDumpHeader, MinidumpHeader};
use livecore_defs::kerneldump::SIZE;

/// Sector sizes of dump devices, and what raw files are padded to.
const SECTORS: [u64; 6] = [512, 1024, 2048, 4096, 8192, 16384];
/// Headers and payloads begin at multiples of this.
const STEP: usize = 512;
/// Bytes that are searched at a time.
const PIECE: usize = 1 << 20;

/// What was found.
pub(super) struct Located {
    /// The header, if one is left that can be believed.
    pub(super) header: Option<(KernelDumpHeader, HeaderFrom)>,
    container: &'static str,
    start: u64,
    len: u64,
    /// What is wrong with a header that is not believed, or not in all.
    doubt: Option<&'static str>,
}

impl Located {
    /// What the container seems to be.
    pub(super) fn container(&self) -> &'static str {
        self.container
    }

    /// What is wrong with the header in the file.
    pub(super) fn doubt(&self) -> Option<&'static str> {
        self.doubt
    }

    /// Where the payload as stored begins.
    pub(super) fn start(&self) -> u64 {
        self.start
    }

    /// The payload as stored.
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
                what:
                    "a text dump; `livecore` reads minidumps and full dumps, and what savecore(8) \
                       saves of a text dump is a tar archive"
                        .into(),
            });
        }
        if header.dumpkeysize != 0 && header.parity_ok {
            return Err(Error::Unsupported {
                what: "encrypted dump: decrypt it with decryptcore(8) first".into(),
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

/// A payload that begins where the file does.
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
            (false, _) => Some("kerneldumpheader: its parity is wrong"),
            (true, false) => Some("kerneldumpheader, dumplength: not the length of the data"),
            (true, true) => None,
        },
        // What is behind the stated length is padding, if the statement fits.
        len: match fits {
            true => header.dumplength,
            false => at,
        },
        header: believable(&header).then_some((header, HeaderFrom::Trailing)),
        container: "raw",
        start: 0,
    }
}

/// Whether a header says what the kernel wrote: its parity holds, or savecore(8) has marked it and
/// that is what breaks it.
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

/// The header at `at`; one of a version that is not known is none.
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
    let core = || Head::parse(head).is_some_and(|head| head.is_core());
    MinidumpHeader::probe(head) || Codec::sniff(head) != Codec::None || core()
}

/// Looks for the first header of a device, else for a payload.
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
            doubt: Some("kerneldumpheader: both are lost"),
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

/// The dump behind the header at `place`, if that is a device's first: block, key, payload.
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
        doubt: Some("kerneldumpheader: the last one is lost"),
        header: Some((header, HeaderFrom::Leading)),
    }))
}
