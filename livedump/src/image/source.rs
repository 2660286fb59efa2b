//! The file of an image: bytes at an offset, decompressed if needed.

use std::fs::File;
use std::io;
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::Path;
use std::sync::Arc;

use livecore_compress::{Codec, ReadAt, Stream};
use livecore_minidump::Error;
use rustix::fs::OFlags;

use super::extents::Extents;
use super::options::Options;

/// The open file of an image. Cloning is cheap.
#[derive(Clone)]
pub(super) struct Source {
    bytes: Arc<dyn ReadAt>,
    /// The file itself, if it is not compressed; it provides its holes.
    file: Option<Arc<File>>,
    len: u64,
    codec: Codec,
    /// The parts that were written, if the file contains its pieces in any order and is truncated.
    written: Option<Arc<Extents>>,
}

impl Source {
    /// Opens the file at `path`, and decompresses a gzip or zstd stream.
    pub(super) fn open(path: &Path, options: &Options) -> Result<Self, Error> {
        let unseekable = || Error::Unsupported {
            what: "an image in a pipe or device; copy it to a file".into(),
        };
        if path == Path::new("-") {
            return Err(unseekable());
        }
        // Do not block on a pipe without a writer.
        let file = File::options()
            .read(true)
            .custom_flags(OFlags::NONBLOCK.bits() as i32)
            .open(path)?;
        let file = Arc::new(file);
        let kind = file.metadata()?.file_type();
        if kind.is_dir() {
            return Err(io::Error::from(io::ErrorKind::IsADirectory).into());
        }
        if kind.is_fifo() || kind.is_socket() || kind.is_char_device() {
            return Err(unseekable());
        }
        let mut source = Self::of(file.clone(), options)?;
        if source.codec == Codec::None {
            source.file = Some(file);
        }
        Ok(source)
    }

    /// Opens bytes from any origin, and decompresses a gzip or zstd stream.
    pub(super) fn of(bytes: Arc<dyn ReadAt>, options: &Options) -> Result<Self, Error> {
        let stream = Stream::from_source(Arc::clone(&bytes), &options.stream())?;
        if stream.codec() == Codec::None {
            let len = bytes.size()?;
            return Ok(Self {
                bytes,
                file: None,
                len,
                codec: Codec::None,
                written: None,
            });
        }
        let content = stream.content();
        Ok(Self {
            // For a foreign stream this decodes all of it, once.
            len: content.size()?,
            bytes: content,
            file: None,
            codec: stream.codec(),
            written: None,
        })
    }

    /// The same image with other contents. `written`: the parts of them that are known, if the image is
    /// truncated.
    pub(super) fn rearranged(
        &self,
        bytes: Arc<dyn ReadAt>,
        written: Option<Extents>,
    ) -> Result<Self, Error> {
        Ok(Self {
            len: bytes.size()?,
            bytes,
            file: None,
            codec: self.codec,
            written: written.map(Arc::new),
        })
    }

    /// Whether parts of the contents were not written, since the file that contains them in pieces is
    /// truncated.
    pub(super) fn is_cut(&self) -> bool {
        self.written.is_some()
    }

    /// Whether the file has the `len` bytes at `offset`.
    pub(super) fn has(&self, offset: u64, len: u64) -> bool {
        let end = offset.checked_add(len).filter(|end| *end <= self.len);
        let written = |end| {
            let written = self.written.as_ref();
            written.is_none_or(|written| written.contain(offset..end))
        };
        end.is_some_and(written)
    }

    /// The size of the contents.
    pub(super) fn len(&self) -> u64 {
        self.len
    }

    /// The compression of the file.
    pub(super) fn codec(&self) -> Codec {
        self.codec
    }

    /// The contents.
    pub(super) fn bytes(&self) -> &Arc<dyn ReadAt> {
        &self.bytes
    }

    /// The first `N` bytes, padded with zeros.
    pub(super) fn head<const N: usize>(&self) -> Result<[u8; N], Error> {
        let mut head = [0; N];
        self.bytes.read_full_at(&mut head, 0)?;
        Ok(head)
    }

    /// Checks that the `len` bytes of `region` at `offset` are in the file.
    pub(super) fn require(&self, region: &str, offset: u64, len: u64) -> Result<(), Error> {
        match offset.checked_add(len) {
            Some(end) if end <= self.len => match self.has(offset, len) {
                true => Ok(()),
                false => Err(Error::broken(
                    region,
                    offset,
                    "a part that the truncated file lacks",
                    format!("{len:#x} bytes"),
                )),
            },
            end => Err(Error::broken(
                region,
                offset,
                match end {
                    Some(end) => format!("an end at {end:#x}"),
                    None => format!("{len:#x} bytes"),
                },
                format!("an end of at most {:#x}, the file size", self.len),
            )),
        }
    }

    /// Fills `buf` with `region` at `offset`.
    pub(super) fn exact(&self, region: &str, offset: u64, buf: &mut [u8]) -> Result<(), Error> {
        self.require(region, offset, buf.len() as u64)?;
        self.bytes.read_exact_at(buf, offset)?;
        Ok(())
    }

    /// Reads the `N` bytes of `region` at `offset`.
    pub(super) fn array<const N: usize>(
        &self,
        region: &str,
        offset: u64,
    ) -> Result<[u8; N], Error> {
        let mut bytes = [0; N];
        self.exact(region, offset, &mut bytes)?;
        Ok(bytes)
    }

    /// Reads all of `region`, if the file contains it and the options allow its size.
    pub(super) fn table(
        &self,
        region: &str,
        offset: u64,
        len: u64,
        options: &Options,
    ) -> Result<Vec<u8>, Error> {
        self.require(region, offset, len)?;
        options.allow(region, len)?;
        // Within the limit of the options, which is a valid length of memory.
        let mut bytes = vec![0; usize::try_from(len).unwrap_or(usize::MAX)];
        self.bytes.read_exact_at(&mut bytes, offset)?;
        Ok(bytes)
    }

    /// Whether `len` bytes at `offset` are known to be zero without reading them.
    pub(super) fn known_zero(&self, offset: u64, len: u64) -> bool {
        let Some(end) = offset.checked_add(len).filter(|end| *end <= self.len) else {
            return false;
        };
        let Some(file) = &self.file else {
            return self.bytes.known_zero(offset, len);
        };
        // The offset of the next data. This changes the file's position, which is not used.
        match rustix::fs::seek(&**file, rustix::fs::SeekFrom::Data(offset)) {
            Ok(data) => data >= end,
            // A hole up to the end of the file, or a file that has become shorter.
            Err(rustix::io::Errno::NXIO) => file.metadata().is_ok_and(|file| file.len() >= end),
            Err(_) => false,
        }
    }
}

/// The error for broken data that is found when it is read.
pub(super) fn broken(
    region: impl Into<String>,
    offset: u64,
    found: impl Into<String>,
    expected: impl Into<String>,
) -> io::Error {
    livecore_compress::Error::Broken {
        region: region.into(),
        offset,
        found: found.into(),
        expected: expected.into(),
    }
    .into()
}

/// A little-endian number. Each caller has read at least `at + N` bytes.
pub(super) fn le<const N: usize>(bytes: &[u8], at: usize) -> u64 {
    let mut word = [0; 8];
    if let Some(part) = bytes.get(at..at + N) {
        word[..N].copy_from_slice(part);
    }
    u64::from_le_bytes(word)
}

/// A 16-bit little-endian number; 0 beyond the end.
pub(super) fn le16(bytes: &[u8], at: usize) -> u16 {
    le::<2>(bytes, at) as u16
}

/// A 32-bit little-endian number; 0 beyond the end.
pub(super) fn le32(bytes: &[u8], at: usize) -> u32 {
    le::<4>(bytes, at) as u32
}

/// A 64-bit little-endian number; 0 beyond the end.
pub(super) fn le64(bytes: &[u8], at: usize) -> u64 {
    le::<8>(bytes, at)
}
