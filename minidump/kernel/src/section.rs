//! Reads and decompresses sections of a kernel file.
//!
//! Debug information can be uncompressed, compressed with `SHF_COMPRESSED` (a `Chdr`, then zlib or
//! zstd; `sys/elf_common.h`), or, in old files, in a section `.zdebug_*` (`ZLIB`, the length as 8
//! bytes big-endian, then zlib).

use std::io::Read;

use livecore_compress::ReadAt;

use livecore_minidump::elf::headers::Section;
use livecore_minidump::{ByteOrder, Error, KernelElf};

/// `ELFCOMPRESS_ZLIB`.
const ZLIB: u64 = 1;
/// `ELFCOMPRESS_ZSTD`.
const ZSTD: u64 = 2;
/// The magic of `.zdebug_*`.
const OLD_MAGIC: &[u8] = b"ZLIB";

fn broken(section: &Section, offset: u64, found: impl Into<String>, expected: &str) -> Error {
    let region = format!("kernel ELF, section {}", section.name);
    Error::broken(region, offset, found, expected)
}

/// Returns the section `name`, if it is not empty.
fn find<'a>(elf: &'a KernelElf, name: &str) -> Option<&'a Section> {
    let find = |name: &str| {
        elf.sections()
            .iter()
            .find(|s| s.name == name && s.file_size() > 0)
    };
    let old = name.strip_prefix(".debug_").map(|n| format!(".zdebug_{n}"));
    find(name).or_else(|| find(&old?))
}

/// Whether the section `name` exists and is not empty.
pub(crate) fn exists(elf: &KernelElf, name: &str) -> bool {
    find(elf, name).is_some()
}

/// Returns the contents of the section `name`, or `None` if the section does not exist or is empty.
///
/// Contents of more than `limit` bytes are an error. If the file has `.zdebug_x` but no `.debug_x`,
/// the former is read.
pub(crate) fn read(elf: &KernelElf, name: &str, limit: u64) -> Result<Option<Vec<u8>>, Error> {
    let Some(section) = find(elf, name) else {
        return Ok(None);
    };
    let raw = raw(elf, section, limit)?;
    if section.is_compressed() {
        return chdr(elf, section, &raw, limit).map(Some);
    }
    if section.name.starts_with(".zdebug_") && raw.starts_with(OLD_MAGIC) {
        let Some((len, stream)) = raw[OLD_MAGIC.len()..].split_at_checked(8) else {
            return Err(broken(section, 4, "end of the section", "8-byte length"));
        };
        // `len` has 8 bytes.
        let len = ByteOrder::Big.uint(len).unwrap_or(0);
        return inflate(section, stream, len, limit).map(Some);
    }
    Ok(Some(raw))
}

/// Reads the bytes of a section from the file.
fn raw(elf: &KernelElf, section: &Section, limit: u64) -> Result<Vec<u8>, Error> {
    let file = elf.file();
    let size = file.size()?;
    if section
        .offset
        .checked_add(section.size)
        .is_none_or(|end| end > size)
    {
        let found = format!("{:#x} bytes", section.size);
        let expected = format!("an end of at most {size:#x}, the file size");
        return Err(broken(section, section.offset, found, &expected));
    }
    let mut bytes = vec![0; within(section, section.size, limit)?];
    file.read_exact_at(&mut bytes, section.offset)?;
    Ok(bytes)
}

/// Returns `len`, or an error if it is more than `limit`.
fn within(section: &Section, len: u64, limit: u64) -> Result<usize, Error> {
    match usize::try_from(len) {
        Ok(fits) if len <= limit => Ok(fits),
        _ => Err(Error::Options(format!(
            "kernel ELF, section {}: {len:#x} bytes, limit is {limit:#x}",
            section.name
        ))),
    }
}

/// Decompresses contents that start with a `Chdr`.
fn chdr(elf: &KernelElf, section: &Section, raw: &[u8], limit: u64) -> Result<Vec<u8>, Error> {
    // Elf64_Chdr has a reserved word after the type.
    let (size_at, word, len) = if elf.is_64() { (8, 8, 24) } else { (4, 4, 12) };
    let head = (
        elf.order().uint_at(raw, 0, 4),
        elf.order().uint_at(raw, size_at, word),
        raw.get(len..),
    );
    let (Some(kind), Some(size), Some(stream)) = head else {
        return Err(broken(section, 0, format!("{} bytes", raw.len()), "Chdr"));
    };
    match kind {
        ZLIB => inflate(section, stream, size, limit),
        ZSTD => {
            let decoder = zstd::Decoder::with_buffer(stream)
                .map_err(|e| broken(section, len as u64, e.to_string(), "zstd stream"))?;
            exactly(section, decoder, size, limit)
        }
        other => Err(Error::Unsupported {
            what: format!("compression type {other} of section {}", section.name),
        }),
    }
}

pub(crate) fn inflate(
    section: &Section,
    stream: &[u8],
    len: u64,
    limit: u64,
) -> Result<Vec<u8>, Error> {
    exactly(section, flate2::read::ZlibDecoder::new(stream), len, limit)
}

/// Reads exactly `len` bytes from `decoder`. Memory use depends on the decoded data, not on `len`.
fn exactly(section: &Section, decoder: impl Read, len: u64, limit: u64) -> Result<Vec<u8>, Error> {
    let len = within(section, len, limit)?;
    let mut bytes = Vec::new();
    // The decoder checks the stream's checksum only when it is read beyond the end.
    decoder
        .take(len as u64 + 1)
        .read_to_end(&mut bytes)
        .map_err(|e| broken(section, bytes.len() as u64, e.to_string(), "valid stream"))?;
    if bytes.len() == len {
        return Ok(bytes);
    }
    let found = format!("{:#x} decompressed bytes", bytes.len());
    Err(broken(section, 0, found, &format!("{len:#x} bytes")))
}
