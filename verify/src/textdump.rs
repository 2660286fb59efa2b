//! Text dumps: the header of a dump device, and a tar archive of text files.
//!
//! FreeBSD `sys/ddb/db_textdump.c`. On a dump device, the blocks of the archive are in reverse order
//! before the last header.

use std::io::Read;
use std::sync::Arc;

use livecore_compress::Codec;
use livecore_defs::textdump::{BLOCK, MEMBERS, PANIC, SHORT_MAX, USTAR, USTAR_OFFSET, VERSION};

use crate::container::{Layout, device_payload, leading_header, trailing_header};
use crate::facts::{Container, Facts};
use crate::finding::{Location, Sink};
use crate::input::{Input, count, quoted};
use crate::report::Stop;
use crate::rules;

/// Size of a block in memory.
const LEN: usize = BLOCK as usize;

/// The checksum field of a member header, which counts as blanks.
const CHECKSUM: std::ops::Range<usize> = 148..156;

/// The size field of a member header.
const SIZE: std::ops::Range<usize> = 124..136;

/// An archive, in the order of a file.
struct Archive {
    input: Input,
    len: u64,
    /// On a device, the offset after the archive's first block.
    end: Option<u64>,
}

impl Archive {
    /// The offset in the file of the block at `at` of the archive.
    fn offset(&self, at: u64) -> u64 {
        match self.end {
            Some(end) => end.saturating_sub(at).saturating_sub(BLOCK),
            None => at,
        }
    }

    fn block(&self, at: u64) -> Result<Vec<u8>, Stop> {
        self.input.up_to(self.offset(at), LEN)
    }
}

/// Verifies `input` if it is a text dump. Returns whether it is one. `memory` limits the size of a
/// decompressed archive.
pub(crate) fn check(
    input: &Input,
    memory: u64,
    facts: &mut Facts,
    sink: &mut Sink,
) -> Result<bool, Stop> {
    let Some(archive) = find(input, memory, facts, sink)? else {
        return Ok(false);
    };
    let Some(archive) = archive else {
        return Ok(true);
    };
    facts.codec.get_or_insert(Codec::None);
    facts.stored_len = Some(archive.len);
    check_members(&archive, sink)?;
    Ok(true)
}

/// Finds the archive: `None` if the file is not a text dump, `Some(None)` if its header is wrong.
fn find(
    input: &Input,
    memory: u64,
    facts: &mut Facts,
    sink: &mut Sink,
) -> Result<Option<Option<Archive>>, Stop> {
    if let Some(trailing) = trailing_header(input)? {
        if !trailing.is_text_dump() {
            return Ok(None);
        }
        let leading = leading_header(input, &trailing)?;
        let (start, end, _) = device_payload(&trailing, input.size()).unwrap_or_default();
        let layout = Layout {
            container: Container::DumpDevice,
            leading,
            start,
            end,
            codec: Codec::None,
            footer: false,
            header: Some(trailing.clone()),
        };
        facts.container = Some(Container::DumpDevice);
        layout.check(input, sink)?;
        let (len, extent) = (trailing.dumplength(), trailing.dumpextent());
        let fits = len <= trailing.offset;
        let right = len == extent && len.is_multiple_of(BLOCK) && fits;
        let place = trailing.at(livecore_defs::kerneldump::DUMPLENGTH.offset);
        sink.check(&rules::TD_LENGTH, right, &place, |f| {
            f.found(format!("dumplength {len:#x}, dumpextent {extent:#x}"))
                .expected(format!(
                    "the same multiple of {BLOCK}, up to {:#x}",
                    trailing.offset
                ))
        });
        return Ok(Some(right.then(|| Archive {
            input: input.clone(),
            len,
            end: Some(trailing.offset),
        })));
    }
    let head = input.up_to(0, LEN)?;
    if Codec::sniff(&head) == Codec::Gzip {
        let Some(archive) = unpacked(input, memory)? else {
            return Ok(None);
        };
        facts.container = Some(Container::Saved);
        facts.codec = Some(Codec::Gzip);
        return Ok(Some(Some(archive)));
    }
    facts.container = is_archive(&head).then_some(Container::Saved);
    Ok(is_archive(&head).then(|| {
        Some(Archive {
            input: input.clone(),
            len: input.size(),
            end: None,
        })
    }))
}

/// The archive in a gzip stream of at most `memory` bytes of content.
fn unpacked(input: &Input, memory: u64) -> Result<Option<Archive>, Stop> {
    let source = input.source();
    let mut decoder = flate2::read::MultiGzDecoder::new(Reader {
        source: &*source,
        at: 0,
    });
    let mut bytes = vec![0; LEN];
    if decoder.read_exact(&mut bytes).is_err() || !is_archive(&bytes) {
        return Ok(None);
    }
    let limit = memory.saturating_sub(BLOCK);
    let rest = decoder
        .take(limit.saturating_add(1))
        .read_to_end(&mut bytes);
    let rest = rest.map_err(|e| Stop::Failed(format!("cannot decompress the text dump: {e}")))?;
    if rest as u64 > limit {
        return Err(Stop::Failed(format!(
            "text dump of more than {memory} bytes; use --memory"
        )));
    }
    let len = bytes.len() as u64;
    let input = Input::new(Arc::new(bytes))?;
    Ok(Some(Archive {
        input,
        len,
        end: None,
    }))
}

/// Reads a source from its start.
struct Reader<'a> {
    source: &'a dyn livecore_compress::ReadAt,
    at: u64,
}

impl Read for Reader<'_> {
    fn read(&mut self, buf: &mut [u8]) -> std::io::Result<usize> {
        let got = self.source.read_at(buf, self.at)?;
        self.at += got as u64;
        Ok(got)
    }
}

/// Whether a header block has the name of a text dump's member.
fn is_archive(block: &[u8]) -> bool {
    let named = MEMBERS.iter().any(|name| name_of(block) == name.as_bytes());
    named
        && block
            .get(USTAR_OFFSET..)
            .is_some_and(|rest| rest.starts_with(USTAR))
}

fn name_of(block: &[u8]) -> &[u8] {
    let name = block.get(..100).unwrap_or(block);
    let end = name.iter().position(|byte| *byte == 0);
    &name[..end.unwrap_or(name.len())]
}

/// The octal number in a field, which ends with a blank or NUL.
fn octal(field: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(field).ok()?;
    let text = text.trim_start_matches(' ');
    let end = text.find(['\0', ' ']).unwrap_or(text.len());
    u64::from_str_radix(&text[..end], 8).ok()
}

fn check_members(archive: &Archive, sink: &mut Sink) -> Result<(), Stop> {
    let (mut at, mut last) = (0, None);
    while at < archive.len {
        let block = archive.block(at)?;
        let offset = archive.offset(at);
        let place = Location::file("text dump, member", offset);
        // tar(1) ends an archive with blocks of zeros, a kernel does not.
        if at > 0 && block.iter().all(|byte| *byte == 0) {
            break;
        }
        let sum: u64 = (0..)
            .zip(&block)
            .map(|(i, byte)| u64::from(if CHECKSUM.contains(&i) { b' ' } else { *byte }))
            .sum();
        let magic = block
            .get(USTAR_OFFSET..)
            .is_some_and(|rest| rest.starts_with(USTAR));
        let stated = block.get(CHECKSUM).and_then(octal);
        let valid = block.len() == LEN && magic && stated == Some(sum);
        sink.check(&rules::TD_MEMBER, valid, &place, |f| {
            f.found(match (block.len(), magic) {
                (LEN, true) => format!(
                    "checksum {}",
                    stated.map_or("none".into(), |n| n.to_string())
                ),
                (LEN, false) => "no ustar magic".into(),
                (len, _) => count(len as u64, "byte"),
            })
            .expected(format!("a header with checksum {sum}"))
            .bytes(offset, &block)
        });
        if !valid {
            return Ok(());
        }
        let size = block.get(SIZE).and_then(octal);
        let left = archive.len - at - BLOCK;
        let len = size.filter(|len| *len <= left);
        sink.check(&rules::TD_SIZE, len.is_some(), &place, |f| {
            f.found(size.map_or("no size".into(), |len| count(len, "byte")))
                .expected(format!(
                    "at most {}, the rest of the archive",
                    count(left, "byte")
                ))
        });
        let Some(len) = len else {
            return Ok(());
        };
        check_name(name_of(&block), len, &mut last, &place, sink);
        let rest = len % BLOCK;
        if rest > 0 {
            let block = archive.block(at + BLOCK + len - rest)?;
            let stray = block.iter().skip(rest as usize).any(|byte| *byte != 0);
            sink.check(&rules::TD_PADDING, !stray, &place, |f| {
                f.found("nonzero bytes after the contents")
                    .expected("zeros to the end of the block")
            });
        }
        // At most the length of the archive, and a block.
        at += BLOCK + len.next_multiple_of(BLOCK);
    }
    Ok(())
}

/// Checks name and size of a member. `last` is the number of the member before it.
fn check_name(
    name: &[u8],
    len: u64,
    last: &mut Option<usize>,
    place: &Location<'_>,
    sink: &mut Sink,
) {
    let number = MEMBERS.iter().position(|known| known.as_bytes() == name);
    let right = number.is_some() && number > *last;
    sink.check(&rules::TD_NAME, right, place, |f| {
        f.found(quoted(name))
            .expected("ddb.txt, config.txt, msgbuf.txt, panic.txt, version.txt, in this order")
    });
    *last = number.or(*last);
    let is_short = [PANIC, VERSION]
        .iter()
        .any(|short| short.as_bytes() == name);
    sink.check(
        &rules::TD_SHORT,
        !is_short || len <= SHORT_MAX,
        place,
        |f| {
            f.found(format!("{} of {}", count(len, "byte"), quoted(name)))
                .expected(format!("at most {SHORT_MAX}"))
        },
    );
}
