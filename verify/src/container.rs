//! Detection of the container: where header, payload and seal are in a file.
//!
//! The first match decides:
//!
//! 1. a seal's footer at the end, or its header near the end: *sealed* (in a compressed file
//!    [`crate::codec`] finds the seal after the frames);
//! 2. a header in the last sector, and another one at the offset given by its `dumpextent`: *dump
//!    device*;
//! 3. a header in the last 512 bytes, in a file that begins like a payload: *raw live file*;
//! 4. a file that begins like a payload: *saved file*.

use livecore_compress::Codec;
use livecore_compress::seal::format::{END_MAGIC, FOOTER_LEN, FOOTER_MAGIC};
use livecore_defs::foreign::{self, HEAD};
use livecore_defs::kerneldump::{DEVICE_METADATA, SIZE};

use crate::facts::Container;
use crate::finding::{Location, Sink};
use crate::full::Full;
use crate::header::resembles_payload;
use crate::input::{Input, count, round_up};
use crate::kdh::{Kdh, resembles_magic};
use crate::report::Stop;
use crate::{probe, rules};

/// Possible sector sizes of dump devices; the trailing header is in the last sector.
const SECTORS: [u64; 6] = [512, 1024, 2048, 4096, 8192, 16384];

/// The layout of a file.
#[derive(Debug)]
pub(crate) struct Layout {
    pub(crate) container: Container,
    /// The last header, of a raw file or a dump device.
    pub(crate) header: Option<Kdh>,
    /// The first header of a dump device.
    pub(crate) leading: Option<Kdh>,
    /// Offset of the stored payload.
    pub(crate) start: u64,
    /// Upper bound of the end of the stored payload.
    pub(crate) end: u64,
    /// The codec, by the payload's first bytes.
    pub(crate) codec: Codec,
    /// Whether the file ends like an uncompressed seal.
    pub(crate) footer: bool,
}

/// Detects the layout of `input`.
pub(crate) fn detect(input: &Input) -> Result<Layout, Stop> {
    let size = input.size();
    if size == 0 {
        return Err(Stop::NotADump("the file is empty".into()));
    }
    let head = input.up_to(0, 32)?;
    let codec = Codec::sniff(&head);
    let payload_first = codec != Codec::None || resembles_payload(&head) || Full::probe(&head);
    let mut layout = Layout {
        container: Container::Saved,
        header: None,
        leading: None,
        start: 0,
        end: size,
        codec,
        footer: false,
    };
    if let Some(footer) = input.array::<FOOTER_LEN>(size.saturating_sub(FOOTER_LEN as u64))?
        && (footer.ends_with(&END_MAGIC) || footer.starts_with(&FOOTER_MAGIC))
        && codec == Codec::None
        && payload_first
    {
        layout.container = Container::Sealed;
        layout.footer = true;
        return Ok(layout);
    }
    let Some(trailing) = trailing_header(input)? else {
        if payload_first && codec == Codec::None && probe::has_plain_header(input)? {
            layout.container = Container::Sealed;
            layout.footer = true;
            return Ok(layout);
        }
        if payload_first {
            return Ok(layout);
        }
        if let Some(codec) = probe::codec_of_end(input)? {
            // The beginning of the file is damaged; the walk over the frames reports how.
            layout.codec = codec;
            layout.footer = codec == Codec::None;
            if layout.footer {
                layout.container = Container::Sealed;
            }
            return Ok(layout);
        }
        if let Some(sentence) = foreign::sentence(&input.up_to(0, HEAD)?) {
            return Err(Stop::NotADump(sentence));
        }
        let why = "the file contains neither a minidump nor a kerneldumpheader";
        return Err(Stop::NotADump(why.into()));
    };
    if trailing.has_unknown_version() {
        let why = format!(
            "unsupported kerneldumpheader version {}",
            trailing.version()
        );
        return Err(Stop::NotADump(why));
    }
    if trailing.is_text_dump() {
        return Err(Stop::NotADump("a text dump, not a memory dump".into()));
    }
    let device = device_payload(&trailing, size);
    let leading = leading_header(input, &trailing)?;
    let two = leading.as_ref().is_some_and(|l| resembles_magic(&l.bytes));
    if !two && payload_first && size.checked_sub(SIZE as u64) != Some(trailing.offset) {
        // Bytes follow a live dump's header; `check_trailing` finds the header after the payload.
        return Ok(layout);
    }
    if !two && payload_first {
        layout.container = Container::Raw;
        layout.end = trailing.offset;
        layout.header = Some(trailing);
        return Ok(layout);
    }
    layout.container = Container::DumpDevice;
    if let Some((start, end, _)) = device {
        layout.start = start;
        layout.end = end;
        layout.codec = Codec::sniff(&input.up_to(start, 32)?);
    } else {
        layout.end = 0;
        layout.codec = Codec::None;
    }
    layout.leading = leading;
    layout.header = Some(trailing);
    Ok(layout)
}

/// The header in the last sector.
pub(crate) fn trailing_header(input: &Input) -> Result<Option<Kdh>, Stop> {
    for sector in SECTORS {
        let Some(at) = input.size().checked_sub(sector) else {
            break;
        };
        if let Some(bytes) = input.array::<SIZE>(at)?
            && resembles_magic(&bytes)
        {
            return Ok(Some(Kdh::new(bytes, at, "trailing kerneldumpheader")));
        }
    }
    Ok(None)
}

/// The first header of a dump device whose last header is `trailing`.
pub(crate) fn leading_header(input: &Input, trailing: &Kdh) -> Result<Option<Kdh>, Stop> {
    let Some((_, _, at)) = device_payload(trailing, input.size()) else {
        return Ok(None);
    };
    let bytes = input.array::<SIZE>(at)?;
    Ok(bytes.map(|bytes| Kdh::new(bytes, at, "leading kerneldumpheader")))
}

/// Start of the stored payload, upper bound of its end, and offset of the first header, on a dump
/// device whose last header is `trailing`.
///
/// FreeBSD `sys/kern/kern_shutdown.c`: with a medium of M bytes, sectors of B bytes, an extent of E
/// bytes and a key block of K bytes the data is at M - B - E and the first header at
/// M - 2B - E - K.
pub(crate) fn device_payload(trailing: &Kdh, size: u64) -> Option<(u64, u64, u64)> {
    let sector = size.checked_sub(trailing.offset)?;
    let start = trailing.offset.checked_sub(trailing.dumpextent())?;
    let leading = start
        .checked_sub(trailing.dumpkeysize())?
        .checked_sub(sector)?;
    let end = start.checked_add(trailing.dumplength())?;
    Some((start, end.min(trailing.offset), leading))
}

impl Layout {
    /// Applies the rules about headers and their offsets that do not depend on the payload.
    pub(crate) fn check(&self, input: &Input, sink: &mut Sink) -> Result<(), Stop> {
        let Some(header) = &self.header else {
            return Ok(());
        };
        header.check(self.container, sink);
        match self.container {
            Container::Raw => self.check_raw(header, sink),
            Container::DumpDevice => self.check_device(input, header, sink)?,
            Container::Saved | Container::Sealed => {}
        }
        Ok(())
    }

    fn check_raw(&self, header: &Kdh, sink: &mut Sink) {
        let unit = raw_unit(header);
        let expected = round_up(header.dumplength(), unit);
        let place = header.at(0);
        let right = expected == Some(header.offset);
        sink.check(&rules::CON_HEADER_PLACE, right, &place, |f| {
            let expected = expected.map_or("within the file".into(), |e| format!("{e:#x}"));
            f.found(format!("header at {:#x}", header.offset))
                .expected(format!(
                    "header at {expected}: dumplength {:#x}, rounded up to {unit:#x}",
                    header.dumplength()
                ))
        });
    }

    fn check_device(&self, input: &Input, header: &Kdh, sink: &mut Sink) -> Result<(), Stop> {
        let size = input.size();
        let fits = self.leading.as_ref().map(|l| l.offset);
        let place = header.at(0);
        let enough = fits.is_some_and(|offset| offset >= DEVICE_METADATA);
        sink.check(&rules::CON_DEVICE_EXTENT, enough, &place, |f| {
            f.found(match fits {
                Some(offset) => format!("first header at {offset:#x}"),
                None => format!(
                    "dumpextent {:#x} on a medium of {size:#x} bytes",
                    header.dumpextent()
                ),
            })
            .expected(format!("first header at {DEVICE_METADATA:#x} or later"))
        });
        if let Some(leading) = &self.leading {
            let same = leading.bytes == header.bytes || cleared_twin(leading, header);
            let differs = leading
                .bytes
                .iter()
                .zip(&header.bytes)
                .position(|(a, b)| a != b);
            let at = differs.unwrap_or(0);
            sink.check(&rules::CON_LEADING_HEADER, same, &leading.at(at), |f| {
                f.found(format!("byte {at} is {:02x}", leading.bytes[at]))
                    .expected(format!("{:02x}, as in the last header", header.bytes[at]))
                    .bytes(leading.offset + at as u64, &leading.bytes[at..])
            });
        }
        let sector = size - header.offset;
        let place = header.at(0);
        let right = header.blocksize() == sector;
        sink.check(&rules::CON_DEVICE_SECTOR, right, &place, |f| {
            f.found(format!("header {sector} bytes before the end"))
                .expected(format!("one block of {}", header.blocksize()))
        });
        let from = header.offset + SIZE as u64;
        let stray = input.first_nonzero(from, size)?;
        let place = Location::file("last sector", stray.unwrap_or(from));
        sink.check(&rules::CON_PADDING, stray.is_none(), &place, |f| {
            f.found("a nonzero byte after the header")
                .expected("zeros to the end of the sector")
        });
        Ok(())
    }

    /// Applies the rules about what follows the stored payload, which ends at `end`.
    pub(crate) fn check_trailing(
        &self,
        input: &Input,
        end: u64,
        sink: &mut Sink,
    ) -> Result<(), Stop> {
        match (self.container, &self.header) {
            (Container::Raw, Some(header)) => {
                let stray = input.first_nonzero(end, header.offset)?;
                let place = Location::file("padding", stray.unwrap_or(end));
                sink.check(&rules::CON_PADDING, stray.is_none(), &place, |f| {
                    f.found("a nonzero byte between payload and header")
                        .expected(format!("zeros from {end:#x} to {:#x}", header.offset))
                });
                let padding = header.offset.saturating_sub(end);
                let unit = raw_unit(header);
                sink.check(
                    &rules::CON_TRAILING,
                    padding < unit,
                    &Location::file("padding", end),
                    |f| {
                        f.found(format!(
                            "{} between payload and header",
                            count(padding, "byte")
                        ))
                        .expected(format!("less than one block of {unit}"))
                    },
                );
            }
            (Container::Saved, _) => {
                let size = input.size();
                let hidden = self.header_in_the_middle(input, end)?;
                if let Some(header) = &hidden {
                    sink.broken(&rules::CON_HEADER_HIDDEN, &header.at(0), |f| {
                        f.found(format!(
                            "{} after the header",
                            count(size.saturating_sub(header.offset + SIZE as u64), "byte")
                        ))
                        .expected("the header in the last 512 bytes of the file")
                    });
                } else {
                    let place = Location::file("after the payload", end);
                    let trailing = size.saturating_sub(end);
                    let bytes = input.up_to(end, 64)?;
                    sink.check(&rules::CON_TRAILING, trailing == 0, &place, |f| {
                        f.found(format!("{} after the payload", count(trailing, "byte")))
                            .expected(format!("the end of the file at {end:#x}"))
                            .bytes(end, &bytes)
                    });
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// The header of a live dump that overwrote a longer file: not at the end of the file.
    fn header_in_the_middle(&self, input: &Input, end: u64) -> Result<Option<Kdh>, Stop> {
        for unit in [4096, 16384] {
            if let Some(at) = round_up(end, unit)
                && let Some(bytes) = input.array::<SIZE>(at)?
                && resembles_magic(&bytes)
            {
                return Ok(Some(Kdh::new(bytes, at, "kerneldumpheader")));
            }
        }
        Ok(None)
    }
}

/// The block size to which the payload of a raw live file is padded.
fn raw_unit(header: &Kdh) -> u64 {
    match header.blocksize() {
        unit @ (4096 | 16384) => unit,
        _ => 4096,
    }
}

/// Whether the headers are equal except that savecore(8) cleared the magic of the last one.
fn cleared_twin(leading: &Kdh, trailing: &Kdh) -> bool {
    use livecore_defs::kerneldump::{KERNELDUMPMAGIC, KERNELDUMPMAGIC_CLEARED, MAGIC};
    leading.bytes[..MAGIC.len] == KERNELDUMPMAGIC
        && trailing.bytes[..MAGIC.len] == KERNELDUMPMAGIC_CLEARED
        && leading.bytes[MAGIC.len..] == trailing.bytes[MAGIC.len..]
}
