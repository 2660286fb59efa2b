//! Decoding of single frames of a stream whose frames are known.

use std::sync::Arc;

use libdeflater::Decompressor;
use xxhash_rust::xxh64::xxh64;
use zstd::zstd_safe::DCtx;

use super::input::cut;
use crate::gzip_format::MAGIC;
use crate::seal::format::FRAME_MAX;
use crate::table::Frame;
use crate::zstd_format::{CHECKSUM_LEN, FrameHeader, invalid_zstd};
use crate::{Codec, Error, ReadAt, Window};

/// The codec of a stream's frames, and whether they have checks.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Kind {
    pub(crate) codec: Codec,
    /// Whether the table has checks. A table made by a walk has none.
    pub(crate) checked: bool,
}

/// A reusable decoder for one thread.
#[derive(Default)]
pub(crate) struct FrameDecoder {
    zstd: Option<DCtx<'static>>,
    gzip: Option<Decompressor>,
    /// The stored frame, and old bytes after it.
    stored: Vec<u8>,
}

impl FrameDecoder {
    /// Decodes `frame` of `source` into `out`, which must have the frame's content length, and applies
    /// all checks. After an error the content of `out` is unspecified.
    pub(crate) fn decode(
        &mut self,
        source: &dyn ReadAt,
        kind: Kind,
        frame: &Frame,
        out: &mut [u8],
    ) -> Result<(), Error> {
        if kind.codec == Codec::None {
            read(source, kind, frame, out)?;
            if kind.checked {
                let digest = xxh64(out, 0);
                let index = u64::from(frame.entry.stored_check) << 32
                    | u64::from(frame.entry.content_check);
                same(kind, frame, "XXH64 of the content", digest, index)?;
            }
            return Ok(());
        }
        // The table's frames are within the source and of bounded length.
        let len = frame.entry.stored_len as usize;
        if self.stored.len() < len {
            self.stored.resize(len, 0);
        }
        let stored = &mut self.stored[..len];
        read(source, kind, frame, stored)?;
        if kind.checked {
            let digest = xxh64(stored, 0) >> 32;
            let index = frame.entry.stored_check.into();
            same(
                kind,
                frame,
                "XXH64 of the stored bytes (high half)",
                digest,
                index,
            )?;
        }
        let stored = &*stored;
        let check = match kind.codec {
            Codec::Zstd => {
                let header = FrameHeader::parse(stored);
                let small = header.is_some_and(|h| h.window < frame.content_len.into());
                let len = if small && !kind.checked {
                    decode_streaming(stored, frame, out)?
                } else {
                    let context = self.zstd.get_or_insert_with(DCtx::create);
                    context
                        .decompress(out, stored)
                        .map_err(|code| broken(kind, frame, invalid_zstd(code)))?
                };
                same(
                    kind,
                    frame,
                    "content length",
                    len as u64,
                    frame.content_len.into(),
                )?;
                stored.last_chunk::<CHECKSUM_LEN>()
            }
            _ => {
                let engine = self.gzip.get_or_insert_default();
                let len = engine
                    .gzip_decompress(stored, out)
                    .map_err(|error| broken(kind, frame, format!("invalid data ({error})")))?;
                same(
                    kind,
                    frame,
                    "content length",
                    len as u64,
                    frame.content_len.into(),
                )?;
                if !kind.checked && contains_magic(stored) {
                    // The decoder ends after the first member and ignores what follows.
                    let end = super::first_end(stored, Codec::Gzip)?;
                    same(kind, frame, "stored length", end, stored.len() as u64)?;
                }
                // The CRC-32 is the first half of the trailer.
                stored
                    .split_last_chunk::<4>()
                    .and_then(|(head, _)| head.last_chunk())
            }
        };
        if kind.checked {
            let check = check.map_or(0, |c| u32::from_le_bytes(*c).into());
            same(
                kind,
                frame,
                "checksum of the content",
                check,
                frame.entry.content_check.into(),
            )?;
        }
        Ok(())
    }
}

/// Decodes a zstd frame whose window is smaller than its content with a streaming decoder, which
/// rejects matches beyond the window. The one-pass decoder would accept such a frame, unlike other
/// programs.
fn decode_streaming(stored: &[u8], frame: &Frame, out: &mut [u8]) -> Result<usize, Error> {
    let at = |error| match error {
        Error::Broken {
            found, expected, ..
        } => Error::Broken {
            region: Codec::Zstd.region(frame.number),
            offset: frame.offset,
            found,
            expected,
        },
        other => other,
    };
    let source = Arc::new(stored.to_vec());
    let Some(mut pass) = super::Pass::new(source, Codec::Zstd, FRAME_MAX.into()) else {
        return Ok(0);
    };
    let mut len = 0;
    // One more byte, so that the decoder checks the checksum.
    let mut more = [0];
    loop {
        let rest = match len < out.len() {
            true => &mut out[len..],
            false => &mut more[..],
        };
        match pass.read(rest).map_err(at)? {
            0 => return Ok(len),
            n => len += n,
        }
    }
}

/// The beginning of `frame`'s content, as far as it decodes, without checks; empty if the header is
/// damaged.
pub(crate) fn front(
    source: &Arc<dyn ReadAt>,
    codec: Codec,
    frame: &Frame,
) -> Result<Vec<u8>, Error> {
    let stored = Window::new(
        Arc::clone(source),
        frame.offset,
        frame.entry.stored_len.into(),
    );
    // Frames of livecore have no larger window; one that states it is damaged.
    let Some(mut pass) = super::Pass::new(Arc::new(stored), codec, FRAME_MAX.into()) else {
        return Ok(Vec::new());
    };
    // At most FRAME_MAX.
    let mut content = vec![0; frame.content_len as usize];
    let mut len = 0;
    while len < content.len() {
        match pass.read(&mut content[len..]) {
            Ok(0) => break,
            Ok(n) => len += n,
            Err(Error::Read(error)) => return Err(Error::Read(error)),
            Err(_) => break,
        }
    }
    content.truncate(len);
    Ok(content)
}

/// The check of a frame's content, as in an index entry.
pub(crate) fn content_check(codec: Codec, content: &[u8]) -> u32 {
    match codec {
        Codec::Gzip => crc32fast::hash(content),
        Codec::None | Codec::Zstd => xxh64(content, 0) as u32,
    }
}

/// Whether these bytes may contain a second member.
fn contains_magic(stored: &[u8]) -> bool {
    let mut windows = stored.windows(MAGIC.len()).skip(1);
    windows.any(|bytes| bytes == MAGIC)
}

fn read(source: &dyn ReadAt, kind: Kind, frame: &Frame, out: &mut [u8]) -> Result<(), Error> {
    let got = source
        .read_full_at(out, frame.offset)
        .map_err(Error::Read)?;
    if got == out.len() {
        return Ok(());
    }
    Err(cut(
        kind.codec.region(frame.number),
        frame.offset,
        frame.offset + got as u64,
        "the rest of the frame",
    ))
}

fn same(kind: Kind, frame: &Frame, what: &str, found: u64, expected: u64) -> Result<(), Error> {
    if found == expected {
        return Ok(());
    }
    Err(Error::Broken {
        region: kind.codec.region(frame.number),
        offset: frame.offset,
        found: format!("{what} {found:#x}"),
        expected: format!("{expected:#x}"),
    })
}

fn broken(kind: Kind, frame: &Frame, found: String) -> Error {
    Error::Broken {
        region: kind.codec.region(frame.number),
        offset: frame.offset,
        found,
        expected: format!("{} bytes of content", frame.content_len),
    }
}
