//! Open minidumps.

use std::io;
use std::sync::Arc;

use livecore_compress::ReadAt;

use super::envelope::Envelope;
use super::table_cache::TableCache;
use super::warning::{Shortness, Warning};
use crate::{Bitmap, DumpAvail, Error, Layout, MinidumpHeader};

/// An open minidump.
///
/// The bitmap with its counts, `dump_avail`, some page tables and the caches of the stream are in
/// memory. Other data is read when needed. Several threads can read concurrently. [`Envelope`] has
/// the properties of all kinds of dumps.
pub struct Dump {
    pub(super) envelope: Envelope,
    pub(super) mini: MinidumpHeader,
    pub(super) layout: Layout,
    pub(super) ranges: DumpAvail,
    pub(super) bitmap: Bitmap,
    pub(super) zero_tail: bool,
    pub(super) tables: TableCache,
}

impl Dump {
    /// The container, stream, kerneldumpheader, info file, seal and warnings.
    pub fn envelope(&self) -> &Envelope {
        &self.envelope
    }

    pub(super) fn envelope_mut(&mut self) -> &mut Envelope {
        &mut self.envelope
    }

    /// The minidump header.
    pub fn header(&self) -> &MinidumpHeader {
        &self.mini
    }

    /// The offsets of the sections in the payload.
    pub fn layout(&self) -> Layout {
        self.layout
    }

    /// The physical addresses of the bitmap's bits.
    pub fn dump_avail(&self) -> &DumpAvail {
        &self.ranges
    }

    /// The set of pages in the dump.
    pub fn bitmap(&self) -> &Bitmap {
        &self.bitmap
    }

    /// Whether missing page data at the end is read as zeros.
    pub fn zero_tail(&self) -> bool {
        self.zero_tail
    }

    /// Returns the amount of page data missing at the end of the payload, if any. This decodes a
    /// foreign stream to its end.
    ///
    /// # Errors
    ///
    /// [`Error`] if the stream cannot be decoded.
    pub fn shortness(&self) -> Result<Option<Shortness>, Error> {
        Ok(self.short_by(self.envelope.content.size()?))
    }

    /// What to warn of if so much is missing.
    pub(super) fn loss_of(&self, short: Shortness) -> Warning {
        match self.zero_tail {
            true => Warning::ZeroTail(short),
            false => self.envelope.explain_loss(Warning::Short(short)),
        }
    }

    /// Returns the decoded payload. With [`Dump::zero_tail`], it is padded with zeros to the length
    /// required by the bitmap. Getting its size can decode all of it.
    pub fn payload(&self) -> Arc<dyn ReadAt> {
        if !self.zero_tail {
            return Arc::clone(&self.envelope.content);
        }
        Arc::new(ZeroTail {
            inner: Arc::clone(&self.envelope.content),
            end: self.layout.end(),
        })
    }

    /// Reads the section of the message buffer: the ring and the memory after it up to a page boundary.
    ///
    /// # Errors
    ///
    /// [`Error::Io`] if it cannot be read, [`Error::Broken`] if its frame is damaged or it claims more than
    /// 256 MiB.
    pub fn read_msgbuf_section(&self) -> Result<Vec<u8>, Error> {
        // Opening the dump has checked that the section is in the payload.
        let len = usize::try_from(self.layout.msgbuf_len()).unwrap_or(usize::MAX);
        let mut bytes = Vec::new();
        // The default size is 96 KiB.
        if len > 256 << 20 {
            return Err(Error::broken(
                "minidump header, msgbufsize",
                0,
                format!("{len:#x}"),
                "at most 256 MiB",
            ));
        }
        reserve(&mut bytes, len, "message buffer")?;
        bytes.resize(len, 0);
        self.envelope
            .content
            .read_exact_at(&mut bytes, self.layout.msgbuf_offset())?;
        Ok(bytes)
    }

    pub(super) fn short_by(&self, actual: u64) -> Option<Shortness> {
        let expected = self.layout.end();
        let missing = expected.checked_sub(actual).filter(|m| *m > 0)?;
        Some(Shortness {
            expected,
            actual,
            pages: missing.div_ceil(self.layout.page_size()),
        })
    }

    pub(super) fn ends_before(&self, offset: u64) -> bool {
        self.envelope.content.size().is_ok_and(|size| size < offset)
    }
}

impl std::fmt::Debug for Dump {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Dump")
            .field("container", &self.envelope.container())
            .field("minidump", &self.mini)
            .field("layout", &self.layout)
            .finish_non_exhaustive()
    }
}

/// Reserves memory whose size comes from the dump.
pub(super) fn reserve<T>(list: &mut Vec<T>, len: usize, what: &str) -> Result<(), Error> {
    list.try_reserve_exact(len).map_err(|_| {
        let bytes = len.saturating_mul(size_of::<T>());
        Error::Options(format!(
            "{what}: cannot allocate {bytes:#x} bytes of memory"
        ))
    })
}

/// Data padded with zeros up to `end`.
struct ZeroTail {
    inner: Arc<dyn ReadAt>,
    end: u64,
}

impl ReadAt for ZeroTail {
    fn size(&self) -> io::Result<u64> {
        Ok(self.inner.size()?.max(self.end))
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        let got = self.inner.read_at(buf, offset)?;
        if got > 0 || buf.is_empty() {
            return Ok(got);
        }
        let left = self.end.saturating_sub(offset).min(buf.len() as u64) as usize;
        buf[..left].fill(0);
        Ok(left)
    }

    fn known_zero(&self, offset: u64, len: u64) -> bool {
        self.inner.known_zero(offset, len)
    }
}
