//! Sealed files, written from `docs/sealed.md`: frames, then a seal.

use std::io::Write as _;

use super::content::put_number;
use super::cursor::Names;
use super::digest::xxh64;
use super::error::{BuildError, Result};
use super::recipe::{Codec, Recipe, Value};
use super::{seal, stream};

/// Most bytes of a seal in one gzip member.
const PIECE: usize = 65_000;

/// Name, offset and size of the fields of the seal's header. The last three are digests.
const FIELDS: &[(&str, usize, usize)] = &[
    ("version", 8, 2),
    ("codec", 10, 1),
    ("reserved", 11, 1),
    ("frame_size", 12, 4),
    ("content", 16, 8),
    ("stored", 24, 8),
    ("frames", 32, 8),
    ("attachment", 40, 4),
    ("spare", 44, 4),
    ("attachment_digest", 48, 8),
    ("index_digest", 56, 8),
    ("header_digest", 64, 8),
];

/// One data frame.
struct Frame {
    stored: Vec<u8>,
    content: u64,
    digest: u64,
    check: u32,
}

/// The file, and the kerneldumpheader in its attachment.
pub(crate) fn pack(
    recipe: &Recipe,
    payload: &[u8],
    names: &mut Names,
) -> Result<(Vec<u8>, [u8; seal::SIZE])> {
    let failed = |error: std::io::Error| BuildError::Codec(error.to_string());
    let frames: std::io::Result<Vec<Frame>> = payload
        .chunks(recipe.frame_size as usize)
        .map(|piece| frame(recipe, piece))
        .collect();
    let frames = frames.map_err(failed)?;
    let mut file: Vec<u8> = frames
        .iter()
        .flat_map(|frame| &frame.stored)
        .copied()
        .collect();
    let data = file.len() as u64;
    for (name, value) in [
        ("payload.size", payload.len() as u64),
        ("stream.size", data),
        ("stream.start", 0),
        ("frames", frames.len() as u64),
    ] {
        names.insert(name.to_owned(), value);
    }
    let arch = recipe.kind.arch();
    let facts = seal::Facts {
        text: false,
        machine: arch.machine,
        machine_version: arch.machine_version,
        length: data,
        extent: payload.len() as u64,
        key: 0,
        block: recipe.page_size,
        compression: code(recipe.codec),
    };
    let kdh = seal::header(recipe, &facts, names)?;
    let attachment = attachment(recipe, &kdh, names)?;
    let index: Vec<u8> = frames.iter().flat_map(entry).collect();
    let head = header(
        recipe,
        payload.len() as u64,
        data,
        &frames,
        &attachment,
        &index,
        names,
    )?;
    let footer = footer((head.len() + attachment.len() + index.len() + 32) as u64);
    let whole = [&head[..], &attachment, &index, &footer].concat();
    let start = data + if recipe.codec == Codec::Zstd { 8 } else { 0 };
    for (name, value) in [
        ("seal", data),
        ("seal.header", start),
        ("seal.attachment", start + 72),
        ("seal.index", start + 72 + attachment.len() as u64),
        ("seal.footer", start + whole.len() as u64 - 32),
        ("seal.end", start + whole.len() as u64),
    ] {
        names.insert(name.to_owned(), value);
    }
    match recipe.codec {
        Codec::None => file.extend(whole),
        Codec::Zstd => zstd_wrapped(&whole, &frames, &mut file),
        _ => gzip_wrapped(&whole, &footer, &mut file),
    }
    Ok((file, kdh))
}

fn code(codec: Codec) -> u8 {
    match codec {
        Codec::None => 0,
        Codec::Zstd => 2,
        _ => 1,
    }
}

fn frame(recipe: &Recipe, piece: &[u8]) -> std::io::Result<Frame> {
    let stored = match recipe.codec {
        Codec::None => piece.to_vec(),
        Codec::Zstd => stream::frame(piece, recipe.level, true, true)?,
        _ => member(piece, recipe.level)?,
    };
    let digest = xxh64(piece);
    let mut crc = flate2::Crc::new();
    crc.update(piece);
    let check = if code(recipe.codec) == 1 {
        crc.sum()
    } else {
        digest as u32
    };
    Ok(Frame {
        stored,
        content: piece.len() as u64,
        digest,
        check,
    })
}

/// A member with its stored and content length in subfield `LC`.
fn member(piece: &[u8], level: i32) -> std::io::Result<Vec<u8>> {
    let level = flate2::Compression::new(u32::try_from(level).unwrap_or(6).min(9));
    let mut encoder = flate2::write::DeflateEncoder::new(Vec::new(), level);
    encoder.write_all(piece)?;
    let body = encoder.finish()?;
    let mut out = b"\x1f\x8b\x08\x04\0\0\0\0\0\x03\x0c\0LC\x08\0".to_vec();
    out.extend_from_slice(&(24 + body.len() as u32 + 8).to_le_bytes());
    out.extend_from_slice(&(piece.len() as u32).to_le_bytes());
    out.extend(body);
    let mut crc = flate2::Crc::new();
    crc.update(piece);
    out.extend_from_slice(&crc.sum().to_le_bytes());
    out.extend_from_slice(&(piece.len() as u32).to_le_bytes());
    Ok(out)
}

/// Magic, version 1, no flags, the kerneldumpheader, no records.
fn attachment(recipe: &Recipe, kdh: &[u8; seal::SIZE], names: &Names) -> Result<Vec<u8>> {
    let mut out = [&b"LiveCore\x01\0\0\0\0\0\0\0"[..], kdh].concat();
    for set in recipe.sets.iter().filter(|set| set.area == "attachment") {
        let at = match set.field.as_str() {
            "version" => 8,
            "flags" => 12,
            name => {
                let (line, name) = (set.line, name.to_owned());
                return Err(BuildError::UnknownName {
                    line,
                    kind: "attachment field",
                    name,
                });
            }
        };
        let Value::Number(value) = &set.value else {
            let what = "the fields of an attachment are numbers";
            return Err(BuildError::Invalid {
                line: set.line,
                what,
            });
        };
        let mut bytes = Vec::new();
        put_number(
            &mut bytes,
            value.value(set.line, names)?,
            4,
            false,
            set.line,
        )?;
        out[at..at + 4].copy_from_slice(&bytes);
    }
    Ok(out)
}

fn entry(frame: &Frame) -> [u8; 12] {
    let mut out = [0; 12];
    out[..4].copy_from_slice(&(frame.stored.len() as u32).to_le_bytes());
    out[4..8].copy_from_slice(&frame.check.to_le_bytes());
    out[8..].copy_from_slice(&((xxh64(&frame.stored) >> 32) as u32).to_le_bytes());
    out
}

fn header(
    recipe: &Recipe,
    content: u64,
    stored: u64,
    frames: &[Frame],
    attachment: &[u8],
    index: &[u8],
    names: &Names,
) -> Result<Vec<u8>> {
    let mut out = b"LVCRSEAL".to_vec();
    out.resize(72, 0);
    let values = [
        1,
        u64::from(code(recipe.codec)),
        0,
        recipe.frame_size,
        content,
        stored,
        frames.len() as u64,
        attachment.len() as u64,
        0,
        xxh64(attachment),
        xxh64(index),
    ];
    let mut write = |line: usize, (_, at, size): (&str, usize, usize), value: u64| {
        let mut bytes = Vec::new();
        put_number(&mut bytes, value, size, false, line)?;
        out[at..at + size].copy_from_slice(&bytes);
        Ok(xxh64(&out[..64]))
    };
    let mut digest = 0;
    for (field, value) in FIELDS.iter().zip(values) {
        digest = write(0, *field, value)?;
    }
    let mut stated = None;
    for set in recipe.sets.iter().filter(|set| set.area == "seal") {
        let field = FIELDS.iter().find(|field| field.0 == set.field);
        let (Some(field), Value::Number(value)) = (field, &set.value) else {
            let name = set.field.clone();
            return Err(BuildError::UnknownName {
                line: set.line,
                kind: "seal field",
                name,
            });
        };
        let value = value.value(set.line, names)?;
        if field.0 == "header_digest" {
            stated = Some(value);
        } else {
            digest = write(set.line, *field, value)?;
        }
    }
    out[64..].copy_from_slice(&stated.unwrap_or(digest).to_le_bytes());
    Ok(out)
}

fn footer(seal: u64) -> Vec<u8> {
    let mut out = b"LVCRFOOT".to_vec();
    out.extend_from_slice(&seal.to_le_bytes());
    let digest = xxh64(&out);
    out.extend_from_slice(&digest.to_le_bytes());
    out.extend_from_slice(b"LVCR.END");
    out
}

/// Appends the seal in a skippable frame, then the seek table of zstd's seekable format.
fn zstd_wrapped(whole: &[u8], frames: &[Frame], file: &mut Vec<u8>) {
    let mut number = |value: u32| file.extend_from_slice(&value.to_le_bytes());
    number(0x184d_2a5c);
    number(whole.len() as u32);
    file.extend_from_slice(whole);
    let mut number = |value: u32| file.extend_from_slice(&value.to_le_bytes());
    let entries = frames.len() as u32 + 1;
    number(0x184d_2a5e);
    number(entries * 12 + 9);
    for frame in frames {
        number(frame.stored.len() as u32);
        number(frame.content as u32);
        number(frame.digest as u32);
    }
    number(whole.len() as u32 + 8);
    number(0);
    number(xxh64(b"") as u32);
    number(entries);
    file.push(0x80);
    file.extend_from_slice(&0x8f92_eab1_u32.to_le_bytes());
}

/// Appends the seal in the extra fields of empty members; the last repeats the footer.
fn gzip_wrapped(whole: &[u8], footer: &[u8], file: &mut Vec<u8>) {
    let pieces = whole.chunks(PIECE).map(|piece| (b"LS", piece));
    for (id, piece) in pieces.chain([(b"LE", footer)]) {
        file.extend_from_slice(b"\x1f\x8b\x08\x04\0\0\0\0\0\x03");
        file.extend_from_slice(&(piece.len() as u16 + 4).to_le_bytes());
        file.extend_from_slice(id);
        file.extend_from_slice(&(piece.len() as u16).to_le_bytes());
        file.extend_from_slice(piece);
        file.extend_from_slice(&[3, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    }
}

#[cfg(test)]
mod tests {
    use crate::mkdump::build;
    use std::io::Read as _;

    const RAW: &str = "raw amd64\nbytes own len 20000\ncontainer sealed\nframe 8K\n";

    #[test]
    fn other_decoders_skip_the_seal() {
        let plain = build("raw amd64\nbytes own len 20000").unwrap();
        let zstd = build(&format!("{RAW}compress zstd")).unwrap();
        assert_eq!(zstd::stream::decode_all(&zstd[..]).unwrap(), plain);
        let gzip = build(&format!("{RAW}compress gzip")).unwrap();
        let mut back = Vec::new();
        flate2::read::MultiGzDecoder::new(&gzip[..])
            .read_to_end(&mut back)
            .unwrap();
        assert_eq!(back, plain);
        assert!(build(RAW).unwrap().starts_with(&plain));
    }

    #[test]
    fn footer_is_at_the_documented_distance_from_the_end() {
        let ends = |bytes: &[u8], after: usize| bytes[..bytes.len() - after].ends_with(b"LVCR.END");
        assert!(ends(&build(RAW).unwrap(), 0));
        // The seek table has three data frames and the seal's.
        assert!(ends(
            &build(&format!("{RAW}compress zstd")).unwrap(),
            8 + 4 * 12 + 9
        ));
        let gzip = build(&format!("{RAW}compress gzip")).unwrap();
        assert!(ends(&gzip, 10));
        assert_eq!(gzip[gzip.len() - 58..][..4], [0x1f, 0x8b, 8, 4]);
        let seal = 72 + 528 + 3 * 12 + 32;
        let at = gzip.len() - 58 - (seal + 26);
        assert_eq!(&gzip[at + 16..at + 24], b"LVCRSEAL");
    }
}
