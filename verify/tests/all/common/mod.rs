//! Dumps for the verifier's tests, and the text of reports.

#![allow(dead_code, reason = "each test file uses some of it")]

use std::sync::Arc;

use livecore_compress::{Codec, Encoding, NoProgress, Shape};
use livecore_tests::mkdump;
use livecore_verify::render::{Format, Style};
use livecore_verify::{Options, Report};

/// A machine of two ranges with a kernel image of one 2 MiB leaf and one leaf table.
pub(crate) const MACHINE: &str = "minidump amd64 3
kernbase 0xffffffff80000000
kernend 0xffffffffc0000000
avail 0x1000 0x9f000
avail 0x200000 0xa00000
msgbuf text \"---<<BOOT>>---\\n\"
msgbuf text \"<118>FreeBSD 14.1-RELEASE GENERIC\\n\"
page 0x1000 text \"the first page of the machine\"
pages 0x3000 20 seed 1
pages 0x200000 200 seed 100
map 0xffffffff80000000 0x800000 4K rw times 64
map 0xffffffff80200000 0x400000 2M rx
table 0xffffffff80000000 0x3000
";

/// A dump of [`MACHINE`] with the additional statements `more`.
pub(crate) fn build(more: &str) -> mkdump::Built {
    let text = format!("{MACHINE}{more}");
    mkdump::build_all(&text).unwrap_or_else(|e| panic!("{e}\n{text}"))
}

/// Seals `payload` in frames of `frame` bytes.
pub(crate) fn seal(payload: &[u8], codec: Codec, frame: u32) -> Vec<u8> {
    seal_with(payload, codec, frame, &[])
}

/// As [`seal`], with additional records in the attachment: type and bytes.
pub(crate) fn seal_with(
    payload: &[u8],
    codec: Codec,
    frame: u32,
    records: &[(u32, Vec<u8>)],
) -> Vec<u8> {
    seal_parts(payload, codec, frame, records, 0, &[])
}

/// As [`seal_with`], with a copy of the first `copy` bytes and a list of unproven ranges: start and
/// length.
pub(crate) fn seal_parts(
    payload: &[u8],
    codec: Codec,
    frame: u32,
    records: &[(u32, Vec<u8>)],
    copy: u64,
    unproven: &[[u64; 2]],
) -> Vec<u8> {
    let encoding = Encoding::new(codec).frame_size(frame).copy(copy);
    let mut file = Vec::new();
    let source = payload.to_vec();
    let mut stored =
        livecore_compress::encode_at(&source, &encoding, Shape::Frames, &mut file, &NoProgress)
            .unwrap();
    let header = header(stored.stored_len, payload.len() as u64, codec);
    let mut attachment = attachment(&header);
    for (kind, bytes) in records {
        attachment.extend(kind.to_le_bytes());
        attachment.extend((bytes.len() as u32).to_le_bytes());
        attachment.extend(bytes);
    }
    let list = unproven.as_flattened().iter();
    let list: Vec<u8> = list.flat_map(|number| number.to_le_bytes()).collect();
    stored.add_list(livecore_compress::seal::format::PART_UNPROVEN, &list);
    livecore_compress::write_seal(&stored, &attachment, &mut file).unwrap();
    file
}

/// The builder's kerneldumpheader of version 4, with these lengths.
fn header(stored: u64, content: u64, codec: Codec) -> Vec<u8> {
    let live = build("container live\n").bytes;
    let mut header = live[live.len() - 512..].to_vec();
    header[40..48].copy_from_slice(&stored.to_be_bytes());
    header[496..504].copy_from_slice(&content.to_be_bytes());
    header[495] = match codec {
        Codec::None => 0,
        Codec::Gzip => 1,
        Codec::Zstd => 2,
    };
    header[508..].fill(0);
    for k in 0..4 {
        header[508 + k] = (0..127).fold(0, |sum, word| sum ^ header[4 * word + k]);
    }
    header
}

/// An attachment with `header`: magic, version 1, no flags, one record.
fn attachment(header: &[u8]) -> Vec<u8> {
    let mut bytes = b"LiveCore\x01\0\0\0\0\0\0\0".to_vec();
    bytes.extend_from_slice(header);
    bytes.extend(b"\x01\0\0\0\x04\0\0\0test");
    bytes
}

/// Verifies `bytes`.
pub(crate) fn verify(bytes: &[u8], options: &Options<'_>) -> Report {
    livecore_verify::verify(Arc::new(bytes.to_vec()), options, &NoProgress)
}

/// The report as text, with all details.
pub(crate) fn describe(report: &Report) -> String {
    let mut text = Vec::new();
    let reports = std::slice::from_ref(report);
    let style = Style {
        verbose: true,
        ..Style::default()
    };
    livecore_verify::render::write(reports, Format::Text, style, &mut text).unwrap();
    String::from_utf8(text).unwrap()
}
