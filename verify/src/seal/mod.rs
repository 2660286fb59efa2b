//! The seal, compared byte by byte with the frames before it.
//!
//! Definitions from [`livecore_compress::seal::format`] and [`livecore_defs::seal`]. A seal is
//! header, attachment, index and footer, without gaps. In version 2 parts may precede it. zstd
//! wraps it in a skippable frame, followed by a seek table; gzip in the extra fields of empty
//! members; an uncompressed file contains it as it is. The verifier does not use the index to find
//! frames: it walks the frames, and compares the index with the result.

mod bytes;
mod parts;
mod wrapping;

use livecore_compress::Codec;
use livecore_compress::seal::format::*;
use livecore_defs::kerneldump::SIZE;
use livecore_defs::seal as attachment;
use xxhash_rust::xxh64::xxh64;

use crate::codec::{Derived, Walked};
use crate::finding::{Location, Region, Sink};
use crate::input::{Input, field, little, number, quoted};
use crate::kdh::Kdh;
use crate::receipt::Receipt;
use crate::records::ProducerRecords;
use crate::report::Stop;
use crate::{records, rules};
use bytes::{Pieces, same, trailing_bytes};
use wrapping::{DataFrames, SeekEntry};

/// The content of a seal.
pub(crate) struct Sealed {
    /// The kerneldumpheader in the attachment.
    pub(crate) header: Option<Kdh>,
    /// Content length that the seal states.
    pub(crate) content_len: u64,
    /// The producer's records in the attachment.
    pub(crate) producer: ProducerRecords,
    /// Pages and memory that were left out on request.
    pub(crate) receipt: Receipt,
    /// File offset of the attachment.
    pub(crate) attachment_at: u64,
    /// The cipher that the seal states.
    pub(crate) cipher: u8,
    /// The key block, and the offset of its part.
    pub(crate) key: Option<(Vec<u8>, u64)>,
}

/// Checks the seal that begins at `start`, against the frames in `walked`.
pub(crate) fn check(
    input: &Input,
    codec: Codec,
    start: u64,
    walked: &Walked,
    sink: &mut Sink,
) -> Result<Sealed, Stop> {
    let mut pieces = Pieces::default();
    let end = match codec {
        Codec::None => {
            pieces.push(start, input.size() - start);
            input.size()
        }
        Codec::Zstd => wrapping::unwrap_zstd(input, start, &mut pieces, sink)?,
        Codec::Gzip => wrapping::unwrap_gzip(input, start, &mut pieces, sink)?,
    };
    let header = pieces.read(input, 0, HEADER_LEN)?;
    let head_len = header_len(&header);
    let trusted = check_header(&header[..header.len().min(head_len)], &pieces, sink);
    let mut sealed = Sealed {
        header: None,
        content_len: number(&header, 16, 8),
        producer: ProducerRecords::default(),
        receipt: Receipt::default(),
        attachment_at: pieces.at(head_len as u64),
        cipher: header.get(11).copied().unwrap_or(CIPHER_NONE),
        key: None,
    };
    if !trusted {
        return Ok(sealed);
    }
    check_against_walk(&header, codec, walked, &pieces, sink);
    let attachment_len = number(&header, 40, 4);
    let frames = number(&header, 32, 8);
    let index_len = frames.checked_mul(ENTRY_LEN as u64);
    let len = index_len
        .and_then(|index| index.checked_add((head_len + FOOTER_LEN) as u64))
        .and_then(|rest| rest.checked_add(attachment_len));
    let place = Location::file("seal", start);
    let mut whole = len == Some(pieces.len);
    match len.filter(|len| codec == Codec::None && *len < pieces.len) {
        Some(len) if ends_there(input, start + len)? => {
            pieces.len = len;
            whole = true;
            trailing_bytes(&rules::SEAL_LENGTH, input, start + len, sink)?;
        }
        _ => {
            sink.check(&rules::SEAL_LENGTH, whole, &place, |f| {
                f.found(format!("a seal of {} bytes", pieces.len))
                    .expected(match len {
                        Some(len) => {
                            format!("{len}: header, attachment, {frames} index entries, footer")
                        }
                        None => "a length below 2^64".into(),
                    })
            });
        }
    }
    (sealed.header, sealed.producer, sealed.receipt) =
        check_attachment(input, &header, &pieces, sink)?;
    let at = walked.end..start;
    let parts = match head_len {
        HEADER_LEN => parts::check(input, codec, at, &header, walked, sink)?,
        _ => parts::Parts::default(),
    };
    sealed.key = parts.key;
    let place = Location::file("seal attachment", sealed.attachment_at);
    sealed.receipt.set_runs(parts.excluded, &place, sink);
    sealed
        .producer
        .check_ranges(parts.ranges, pieces.at(head_len as u64), sink);
    if !whole {
        return Ok(sealed);
    }
    let footer_at = pieces.len - FOOTER_LEN as u64;
    let index_at = head_len as u64 + attachment_len;
    let index = (index_at, footer_at);
    let is_right = check_index(input, &pieces, index, &header, walked, sink)?;
    let footer = pieces.read(input, footer_at, FOOTER_LEN)?;
    let expected = footer_bytes(pieces.len);
    let place = Location::file("seal footer", pieces.at(footer_at));
    same(
        &rules::SEAL_FOOTER,
        &footer,
        &expected,
        &place,
        pieces.at(footer_at),
        sink,
    );
    match codec {
        Codec::None => {}
        Codec::Zstd if walked.complete => {
            let derived = &walked.derived;
            let mut entries = derived
                .iter()
                .map(|d| Ok([d.stored_len, d.content_len, d.content_check]));
            let all = derived.len() as u64 == walked.frames;
            let data = DataFrames {
                count: walked.frames,
                end: walked.end,
                entries: all.then_some(&mut entries),
            };
            wrapping::seek_table(input, end, start, data, sink)?;
        }
        // The frames were not decoded: the index states what the table must contain.
        Codec::Zstd if is_right => {
            let mut entries = index_entries(input, &pieces, index, &header);
            let data = DataFrames {
                count: frames,
                end: number(&header, 24, 8),
                entries: Some(&mut entries),
            };
            wrapping::seek_table(input, end, start, data, sink)?;
        }
        Codec::Zstd => {}
        Codec::Gzip => wrapping::last_member(input, end, &expected, sink)?,
    }
    Ok(sealed)
}

/// Size of a seal's header, by its version.
fn header_len(header: &[u8]) -> usize {
    match number(header, 8, 2) == u64::from(VERSION) {
        true => HEADER_LEN,
        false => HEADER_LEN_1,
    }
}

fn footer_bytes(seal_len: u64) -> [u8; FOOTER_LEN] {
    let mut bytes = [0; FOOTER_LEN];
    bytes[..8].copy_from_slice(&FOOTER_MAGIC);
    bytes[8..16].copy_from_slice(&seal_len.to_le_bytes());
    let digest = xxh64(&bytes[..FOOTER_DIGESTED], 0);
    bytes[16..24].copy_from_slice(&digest.to_le_bytes());
    bytes[24..].copy_from_slice(&END_MAGIC);
    bytes
}

/// Whether the bytes before `end` are the last of a footer.
fn ends_there(input: &Input, end: u64) -> Result<bool, Stop> {
    let at = end.saturating_sub(END_MAGIC.len() as u64);
    Ok(input.up_to(at, END_MAGIC.len())? == END_MAGIC)
}

/// Checks `header`, which may be shorter than its version's. Returns whether it can be trusted.
fn check_header(header: &[u8], pieces: &Pieces, sink: &mut Sink) -> bool {
    let at = pieces.at(0);
    let place = Location::file("seal header", at);
    let len = header_len(header);
    if header.len() < len {
        sink.broken(&rules::SEAL_HEADER, &place, |f| {
            f.found(format!("{} bytes", header.len()))
                .expected(format!("{len} bytes"))
        });
        return false;
    }
    let mut right = true;
    let digests = [HEADER_DIGESTED, HEADER_DIGESTED_2];
    for digested in digests.into_iter().filter(|digested| *digested < len) {
        let digest = xxh64(&header[..digested], 0);
        let stated = number(header, digested, 8);
        right &= sink.check(&rules::SEAL_HEADER, digest == stated, &place, |f| {
            f.found(format!("digest {stated:#018x}"))
                .expected(format!("{digest:#018x}, of its first {digested} bytes"))
                .bytes(at, header)
        });
    }
    let version = number(header, 8, 2);
    let known = version == u64::from(VERSION) || version == u64::from(VERSION_1);
    let magic = header.starts_with(&MAGIC) && known;
    right &= sink.check(&rules::SEAL_HEADER, magic, &place, |f| {
        f.found(format!("{} version {version}", quoted(&header[..8])))
            .expected(format!(
                "{} version {VERSION_1} or {VERSION}",
                quoted(&MAGIC)
            ))
            .bytes(at, header)
    });
    let (reserved, bytes) = match len {
        HEADER_LEN => (number(header, 88, 8) == 0, "11 and 88 to 95"),
        _ => (number(header, 44, 4) == 0, "11 and 44 to 47"),
    };
    // Only an uncompressed seal with parts can state a cipher.
    let encryptable = len == HEADER_LEN && header[10] == CODEC_NONE;
    let most = if encryptable {
        CIPHER_CHACHA20
    } else {
        CIPHER_NONE
    };
    let reserved = header[11] <= most && reserved;
    sink.check(&rules::SEAL_HEADER, reserved, &place, |f| {
        f.found("nonzero reserved bytes, or an unknown cipher")
            .expected(format!("zeros in bytes {bytes}"))
            .bytes(at, header)
    });
    right
}

fn check_against_walk(
    header: &[u8],
    codec: Codec,
    walked: &Walked,
    pieces: &Pieces,
    sink: &mut Sink,
) {
    let code = match codec {
        Codec::None => CODEC_NONE,
        Codec::Gzip => CODEC_GZIP,
        Codec::Zstd => CODEC_ZSTD,
    };
    let mut facts = vec![("codec", 10, 1, u64::from(code))];
    if walked.complete {
        facts.push(("stored bytes", 24, 8, walked.end));
    }
    if walked.complete && !(codec == Codec::None && walked.frames == 0) {
        facts.push(("data frames", 32, 8, walked.frames));
    }
    if walked.whole {
        facts.push(("content bytes", 16, 8, walked.content_len));
    }
    for (what, offset, len, derived) in facts {
        let stated = number(header, offset, len);
        let place = Location::file("seal header", pieces.at(offset as u64));
        sink.check(&rules::SEAL_FRAMES, stated == derived, &place, |f| {
            f.found(format!("{what}: {stated}"))
                .expected(format!("{derived}, counted in the file"))
        });
    }
    let frame_size = number(header, 12, 4);
    let (content, frames) = (number(header, 16, 8), number(header, 32, 8));
    let uniform = frame_size != 0 && content.div_ceil(frame_size) == frames;
    let place = Location::file("seal header", pieces.at(12));
    sink.check(&rules::SEAL_FRAMES, uniform, &place, |f| {
        f.found(format!("frames of {frame_size} bytes"))
            .expected(format!(
                "a size that divides {content} bytes into {frames} frames"
            ))
    });
    let last = walked.derived.len().saturating_sub(1);
    let odd = walked.derived.iter().enumerate().find(|(i, frame)| {
        let len = u64::from(frame.content_len);
        if *i == last {
            len > frame_size || len == 0
        } else {
            len != frame_size
        }
    });
    let all = walked.derived.len() as u64 == walked.frames;
    let odd = odd.filter(|_| walked.whole && all);
    let place = Location::file("seal header", pieces.at(12));
    sink.check(&rules::SEAL_FRAMES, odd.is_none(), &place, |f| {
        let (i, len) = odd.map_or((0, 0), |(i, frame)| (i, frame.content_len));
        f.found(format!("frames of {frame_size} bytes"))
            .expected(format!("{len} bytes, the size of frame {i}"))
    });
}

fn check_attachment(
    input: &Input,
    header: &[u8],
    pieces: &Pieces,
    sink: &mut Sink,
) -> Result<(Option<Kdh>, ProducerRecords, Receipt), Stop> {
    let head_len = header_len(header);
    let len = number(header, 40, 4) as usize;
    let at = pieces.at(head_len as u64);
    let place = Location::file("seal attachment", at);
    let small = len <= ATTACHMENT_MAX;
    sink.check(&rules::SEAL_ATTACHMENT, small, &place, |f| {
        f.found(format!("{len} bytes"))
            .expected(format!("at most {ATTACHMENT_MAX}"))
    });
    let bytes = pieces.read(input, head_len as u64, len.min(ATTACHMENT_MAX))?;
    let (digest, stated) = (xxh64(&bytes, 0), number(header, 48, 8));
    sink.check(&rules::SEAL_ATTACHMENT, digest == stated, &place, |f| {
        f.found(format!("bytes with digest {digest:#018x}"))
            .expected(format!("{stated:#018x}"))
            .bytes(at, &bytes)
    });
    let magic = field(&bytes, attachment::MAGIC_FIELD).unwrap_or_default();
    let version = little(&bytes, attachment::VERSION_FIELD);
    let known = magic == attachment::MAGIC && version == u64::from(attachment::VERSION);
    sink.check(&rules::SEAL_ATTACHMENT_FORM, known, &place, |f| {
        f.found(format!("{} version {version}", quoted(magic)))
            .expected(format!("{} version 1", quoted(&attachment::MAGIC)))
    });
    let records = bytes.get(attachment::RECORDS_OFFSET..);
    let mut rest = records.unwrap_or_default();
    let mut sound = records.is_some();
    while !rest.is_empty() {
        let len = number(rest, 4, 4);
        let record = (attachment::RECORD_HEAD as u64).saturating_add(len);
        match usize::try_from(record).ok().and_then(|n| rest.get(n..)) {
            Some(next) if rest.len() >= attachment::RECORD_HEAD => rest = next,
            _ => {
                sound = false;
                break;
            }
        }
    }
    sink.check(&rules::SEAL_ATTACHMENT_FORM, sound, &place, |f| {
        f.found(format!("{} bytes that are not a record", rest.len()))
            .expected("a header, and records to the end of the attachment")
    });
    let (mut producer, mut receipt) = (ProducerRecords::default(), Receipt::default());
    if let Some(records) = records.filter(|_| sound) {
        producer = records::check(records, &place, sink);
        receipt = Receipt::parse(records, &place, sink);
        producer.excludes = receipt.excludes;
    }
    let flags = little(&bytes, attachment::FLAGS_FIELD);
    let filled = flags & u64::from(attachment::FLAG_ZERO_TAIL) != 0;
    let flags_at = pieces.at((head_len + attachment::FLAGS_FIELD.offset) as u64);
    let place = Location::file("seal attachment", flags_at);
    sink.check(&rules::SEAL_ZERO_TAIL, !filled, &place, |f| {
        f.found("zeros in place of missing pages at the end of the payload")
            .expected("a payload that was complete")
    });
    let whole = flags & u64::from(attachment::FLAG_SALVAGED) == 0;
    producer.salvaged = !whole;
    sink.check(&rules::SEAL_SALVAGED, whole, &place, |f| {
        let [kept, pages, sections] = bytes
            .get(attachment::RECORDS_OFFSET..)
            .and_then(records::salvaged)
            .unwrap_or_default();
        f.found(format!(
            "a salvaged dump: {kept} pages kept, {pages} lost, {sections} bytes of sections lost"
        ))
        .expected("a dump that was intact")
    });
    let rebuilt = attachment::FLAG_HEADER_FROM_INFO | attachment::FLAG_HEADER_FROM_PAYLOAD;
    let original = flags & u64::from(rebuilt) == 0;
    producer.rebuilt = !original;
    sink.check(&rules::SEAL_REBUILT, original, &place, |f| {
        f.found("a rebuilt kerneldumpheader")
            .expected("the kernel's kerneldumpheader")
    });
    let header = field(&bytes, attachment::HEADER_FIELD);
    let header = header.and_then(|b| <[u8; SIZE]>::try_from(b).ok());
    let at = pieces.at((head_len + attachment::HEADER_FIELD.offset) as u64);
    let header = header
        .filter(|_| magic == attachment::MAGIC)
        .map(|bytes| Kdh::new(bytes, at, "sealed kerneldumpheader"));
    Ok((header, producer, receipt))
}

fn check_index(
    input: &Input,
    pieces: &Pieces,
    (from, to): (u64, u64),
    header: &[u8],
    walked: &Walked,
    sink: &mut Sink,
) -> Result<bool, Stop> {
    // Whole entries, 4096 at a time.
    let step = ENTRY_LEN * 4096;
    let piece = |at: u64| pieces.read(input, at, step.min((to - at) as usize));
    let mut digest = xxhash_rust::xxh64::Xxh64::new(0);
    let mut at = from;
    while at < to {
        let bytes = piece(at)?;
        if bytes.is_empty() {
            break;
        }
        digest.update(&bytes);
        at += bytes.len() as u64;
    }
    let (digest, stated) = (digest.digest(), number(header, 56, 8));
    let place = Location::file("seal index", pieces.at(from));
    let trusted = sink.check(&rules::SEAL_INDEX_DIGEST, digest == stated, &place, |f| {
        f.found(format!("bytes with digest {digest:#018x}"))
            .expected(format!("{stated:#018x}"))
    });
    let mut derived = walked.derived.iter();
    // Without the lengths and checksums of all frames there is nothing to compare.
    let compare = walked.complete && walked.derived.len() as u64 == walked.frames;
    let mut frame_at = walked.marks.first().map_or(0, |mark| mark.stored);
    let (mut at, mut i) = (from, 0_u64);
    while at < to {
        let bytes = piece(at)?;
        if bytes.is_empty() {
            break;
        }
        for (n, entry) in bytes.chunks_exact(ENTRY_LEN).enumerate() {
            let Some(frame) = derived.next() else { break };
            let stated = [
                number(entry, 0, 4),
                number(entry, 4, 4),
                number(entry, 8, 4),
            ];
            let found = expected_entry(frame);
            let offset = pieces.at(at + (n * ENTRY_LEN) as u64);
            let right = stated == found || !compare;
            if trusted {
                let place = Location::file(Region::Nth("frame", i), frame_at);
                sink.check(&rules::SEAL_INDEX, right, &place, |f| {
                    f.found(entry_text(&found)).expected(format!(
                        "{}, from the index entry at {offset:#x}",
                        entry_text(&stated)
                    ))
                });
            } else {
                let place = Location::file(Region::Nth("seal index entry", i), offset);
                sink.check(&rules::SEAL_INDEX, right, &place, |f| {
                    f.found(entry_text(&stated))
                        .expected(format!("{}, from the frame", entry_text(&found)))
                        .bytes(offset, entry)
                });
            }
            frame_at = frame_at.saturating_add(found[0]);
            i += 1;
        }
        at += bytes.len() as u64;
    }
    Ok(trusted)
}

/// The entries of a seek table that agree with the index at `from..to`. Every frame except the last has
/// the frame size of the header.
fn index_entries<'a>(
    input: &'a Input,
    pieces: &'a Pieces,
    (from, to): (u64, u64),
    header: &[u8],
) -> impl Iterator<Item = Result<SeekEntry, Stop>> + 'a {
    let (size, mut left) = (number(header, 12, 4), number(header, 16, 8));
    let offsets = (from..to).step_by(ENTRY_LEN);
    offsets.map(move |at| {
        let entry = pieces.read(input, at, ENTRY_LEN)?;
        let content = left.min(size);
        left -= content;
        // Fields of 4 bytes.
        let [stored, check, content] =
            [number(&entry, 0, 4), number(&entry, 4, 4), content].map(|n| n as u32);
        Ok([stored, content, check])
    })
}

fn expected_entry(frame: &Derived) -> [u64; 3] {
    [
        frame.stored_len.into(),
        frame.content_check.into(),
        frame.stored_check.into(),
    ]
}

fn entry_text([len, content, stored]: &[u64; 3]) -> String {
    format!("{len} bytes, content {content:#010x}, stored {stored:#010x}")
}
