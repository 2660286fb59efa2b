//! A minidump, opened.

use std::io;
use std::sync::Arc;

use livecore_compress::ReadAt;

use super::envelope::Envelope;
use super::table_cache::TableCache;
use super::warning::{Shortness, Warning};
use crate::{Bitmap, DumpAvail, Error, Layout, MinidumpHeader};

/// A minidump, opened.
///
/// Kept in memory: the bitmap with its counts, `dump_avail`, a few pages of page tables, and what
/// the stream keeps. Everything else is read when it is asked for, from any number of threads.
/// What it shares with dumps of other kinds is its [`Envelope`].
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
    /// What it lies in: container, stream, kerneldumpheader, info file, seal; and its warnings.
    pub fn envelope(&self) -> &Envelope {
        &self.envelope
    }

    /// The minidump's own header.
    pub fn header(&self) -> &MinidumpHeader {
        &self.mini
    }

    /// Where the sections are in the payload.
    pub fn layout(&self) -> Layout {
        self.layout
    }

    /// Which physical addresses the bitmap is over.
    pub fn dump_avail(&self) -> &DumpAvail {
        &self.ranges
    }

    /// Which pages are in the dump.
    pub fn bitmap(&self) -> &Bitmap {
        &self.bitmap
    }

    /// Whether missing page data at the end is served as zeros.
    pub fn zero_tail(&self) -> bool {
        self.zero_tail
    }

    /// The page data that is missing at the end of the payload, if any. Decodes a foreign stream to
    /// its end.
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

    /// The payload: what `zstd -d` or `gunzip` would give, with zeros behind it up to the length
    /// that the bitmap promises if [`Dump::zero_tail`]. Asking for its size may decode it whole.
    pub fn payload(&self) -> Arc<dyn ReadAt> {
        if !self.zero_tail {
            return Arc::clone(&self.envelope.content);
        }
        Arc::new(ZeroTail {
            inner: Arc::clone(&self.envelope.content),
            end: self.layout.end(),
        })
    }

    /// The message buffer's section: the ring, and what stood behind it up to a page boundary.
    ///
    /// # Errors
    ///
    /// [`Error::Io`] if it cannot be read, [`Error::Broken`] if its frame is damaged or it claims more than
    /// 256 MiB.
    pub fn read_msgbuf_section(&self) -> Result<Vec<u8>, Error> {
        // The section lies within the payload: opening has proved it.
        let len = usize::try_from(self.layout.msgbuf_len()).unwrap_or(usize::MAX);
        let mut bytes = Vec::new();
        // A ring is 96 KiB by default; nobody has one that does not fit this.
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

/// Reserves memory whose size the dump decides.
pub(super) fn reserve<T>(list: &mut Vec<T>, len: usize, what: &str) -> Result<(), Error> {
    list.try_reserve_exact(len).map_err(|_| {
        let bytes = len.saturating_mul(size_of::<T>());
        Error::Options(format!(
            "{what} needs {bytes:#x} bytes, which memory does not have"
        ))
    })
}

/// Bytes with zeros behind them up to `end`.
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
