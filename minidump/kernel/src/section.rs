//! Reads and decompresses sections of a kernel file.
//!
//! Debug information can be uncompressed, compressed with `SHF_COMPRESSED` (a `Chdr`, then zlib or
//! zstd; `sys/elf_common.h`), or, in old files, in a section `.zdebug_*` (`ZLIB`, the length as 8
//! bytes big-endian, then zlib).

use std::io::{self, Read};

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
    let mut stored = Stored::of(elf, section)?;
    if section.is_compressed() {
        return chdr(elf, section, stored, limit).map(Some);
    }
    if section.name.starts_with(".zdebug_") {
        // The magic and the length.
        let mut head = [0; 12];
        let got = stored.read_full(&mut head)?;
        if head[..got].starts_with(OLD_MAGIC) {
            if got < head.len() {
                return Err(broken(section, 4, "end of the section", "8-byte length"));
            }
            // The length has 8 bytes.
            let len = ByteOrder::Big.uint(&head[4..]).unwrap_or(0);
            return inflate(section, stored, len, limit).map(Some);
        }
        stored = Stored::of(elf, section)?;
    }
    exactly(section, stored, section.size, limit).map(Some)
}

/// The bytes of a section, which are read from the file in order.
struct Stored<'a> {
    file: &'a dyn ReadAt,
    offset: u64,
    left: u64,
}

impl<'a> Stored<'a> {
    fn of(elf: &'a KernelElf, section: &Section) -> Result<Self, Error> {
        let file = &**elf.file();
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
        Ok(Self {
            file,
            offset: section.offset,
            left: section.size,
        })
    }

    /// Reads the next bytes, up to the end of the section. Returns their number.
    fn read_full(&mut self, buf: &mut [u8]) -> Result<usize, Error> {
        let mut done = 0;
        while done < buf.len() {
            match self.read(&mut buf[done..])? {
                0 => break,
                n => done += n,
            }
        }
        Ok(done)
    }
}

impl Read for Stored<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let len = usize::try_from(self.left).map_or(buf.len(), |left| left.min(buf.len()));
        let got = self.file.read_at(&mut buf[..len], self.offset)?;
        // The section is within the file.
        self.offset = self.offset.saturating_add(got as u64);
        self.left = self.left.saturating_sub(got as u64);
        Ok(got)
    }
}

/// Returns `len`, or an error if it is more than `limit`.
fn within(section: &Section, len: u64, limit: u64) -> Result<usize, Error> {
    match usize::try_from(len) {
        Ok(fits) if len <= limit => Ok(fits),
        _ => Err(Error::Options(format!(
            "kernel ELF, section {}: {len:#x} bytes, the memory limit is {limit:#x}; raise --memory",
            section.name
        ))),
    }
}

/// Decompresses contents that start with a `Chdr`.
fn chdr(
    elf: &KernelElf,
    section: &Section,
    mut stream: Stored<'_>,
    limit: u64,
) -> Result<Vec<u8>, Error> {
    // Elf64_Chdr has a reserved word after the type.
    let (size_at, word, len) = if elf.is_64() { (8, 8, 24) } else { (4, 4, 12) };
    let mut head = [0; 24];
    let got = stream.read_full(&mut head[..len])?;
    let fields = (
        elf.order().uint_at(&head, 0, 4),
        elf.order().uint_at(&head, size_at, word),
    );
    let (Some(kind), Some(size), true) = (fields.0, fields.1, got == len) else {
        return Err(broken(section, 0, format!("{got} bytes"), "Chdr"));
    };
    match kind {
        ZLIB => inflate(section, stream, size, limit),
        ZSTD => {
            let decoder = zstd::Decoder::new(stream)
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
    stream: impl Read,
    len: u64,
    limit: u64,
) -> Result<Vec<u8>, Error> {
    exactly(section, flate2::read::ZlibDecoder::new(stream), len, limit)
}

/// Reads exactly `len` bytes from `decoder`. Memory use depends on the decoded data, not on `len`, and
/// fails without an abort.
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
