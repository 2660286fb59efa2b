//! A worker's encoder for [`Shape::Frames`](crate::Shape::Frames).

use libdeflater::{CompressionLvl, Compressor};
use xxhash_rust::xxh64::xxh64;
use zstd::zstd_safe::{self, CCtx, CParameter};

use super::encoding::Encoding;
use crate::gzip_format::{EXTRA_HEADER, TRAILER_LEN};
use crate::seal::format::{GZIP_DATA, GZIP_DATA_HEADER_LEN, GZIP_DATA_LEN};
use crate::table::Entry;
use crate::zstd_format::CHECKSUM_LEN;
use crate::{Codec, Error};

/// Frame size above which zstd uses long-distance matching.
const LONG_MODE_ABOVE: u32 = 8 << 20;

/// A reusable encoder for one thread.
pub(crate) enum FrameEncoder {
    /// Computes only digests.
    None,
    /// libdeflate, which compresses a whole member at once.
    Gzip(Compressor),
    /// A context with its parameters set.
    Zstd(CCtx<'static>),
}

impl FrameEncoder {
    /// An encoder for `encoding`, which must have been checked.
    pub(crate) fn new(encoding: &Encoding) -> Result<Self, Error> {
        let level = encoding.effective_level();
        Ok(match encoding.codec {
            Codec::None => Self::None,
            Codec::Gzip => Self::Gzip(Compressor::new(
                CompressionLvl::new(level).map_err(|e| Error::Options(format!("{e:?}")))?,
            )),
            Codec::Zstd => {
                let mut context = CCtx::create();
                for parameter in [
                    CParameter::CompressionLevel(level),
                    CParameter::ChecksumFlag(true),
                    CParameter::ContentSizeFlag(true),
                    CParameter::EnableLongDistanceMatching(encoding.frame_size > LONG_MODE_ABOVE),
                ] {
                    context.set_parameter(parameter).map_err(refused)?;
                }
                Self::Zstd(context)
            }
        })
    }

    /// Replaces `out` with a frame of `content`, which has at most 64 MiB.
    pub(crate) fn encode(&mut self, content: &[u8], out: &mut Vec<u8>) -> Result<Entry, Error> {
        let content_check = match self {
            Self::None => {
                out.clear();
                out.extend_from_slice(content);
                xxh64(content, 0) as u32
            }
            Self::Gzip(engine) => gzip(engine, content, out)?,
            Self::Zstd(context) => {
                out.clear();
                out.reserve(zstd_safe::compress_bound(content.len()));
                context.compress2(out, content).map_err(refused)?;
                match out.last_chunk::<CHECKSUM_LEN>() {
                    Some(check) => u32::from_le_bytes(*check),
                    None => return Err(Error::Options("zstd wrote no frame".into())),
                }
            }
        };
        Ok(Entry {
            // A frame of at most 64 MiB of content fits in 32 bits.
            stored_len: out.len() as u32,
            content_check,
            stored_check: (xxh64(out, 0) >> 32) as u32,
        })
    }
}

/// Writes a member with its lengths in the extra field. Returns the CRC-32 of its content.
fn gzip(engine: &mut Compressor, content: &[u8], out: &mut Vec<u8>) -> Result<u32, Error> {
    let bound = engine.deflate_compress_bound(content.len());
    out.resize(GZIP_DATA_HEADER_LEN + bound + TRAILER_LEN, 0);
    let deflated = engine
        .deflate_compress(content, &mut out[GZIP_DATA_HEADER_LEN..])
        .map_err(|e| Error::Options(e.to_string()))?;
    out.truncate(GZIP_DATA_HEADER_LEN + deflated);
    let crc = crc32fast::hash(content);
    // Content and frame have little more than 64 MiB.
    let content_len = content.len() as u32;
    out.extend(crc.to_le_bytes());
    out.extend(content_len.to_le_bytes());
    let stored_len = out.len() as u32;
    out[..GZIP_DATA_HEADER_LEN].copy_from_slice(&gzip_data_header(stored_len, content_len));
    Ok(crc)
}

/// The header of a data member with these lengths.
pub(crate) fn gzip_data_header(stored_len: u32, content_len: u32) -> [u8; GZIP_DATA_HEADER_LEN] {
    let mut header = [0; GZIP_DATA_HEADER_LEN];
    header[..10].copy_from_slice(&EXTRA_HEADER);
    header[10..12].copy_from_slice(&(GZIP_DATA_LEN as u16 + 4).to_le_bytes());
    header[12..14].copy_from_slice(&GZIP_DATA);
    header[14..16].copy_from_slice(&(GZIP_DATA_LEN as u16).to_le_bytes());
    header[16..20].copy_from_slice(&stored_len.to_le_bytes());
    header[20..24].copy_from_slice(&content_len.to_le_bytes());
    header
}

/// An error of the zstd library about a parameter or memory.
pub(super) fn refused(code: usize) -> Error {
    Error::Options(format!("zstd: {}", zstd_safe::get_error_name(code)))
}
