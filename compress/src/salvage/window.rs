//! A zstd frame whose header states too small a window.

use std::io;
use std::sync::Arc;

use crate::zstd_format::{FRAME_HEADER_MAX, FrameHeader};
use crate::{Error, ReadAt};

/// Offset of the window descriptor, after magic and frame descriptor.
const WINDOW_AT: u64 = 5;

/// A stream whose window descriptor is replaced.
struct Widened {
    source: Arc<dyn ReadAt>,
    byte: u8,
}

/// `source` with a first frame that states the largest window up to `limit` bytes; `None` if its
/// first frame states no window, or one as large.
pub(super) fn widened(
    source: &Arc<dyn ReadAt>,
    limit: u64,
) -> Result<Option<Arc<dyn ReadAt>>, Error> {
    let mut head = [0; FRAME_HEADER_MAX];
    let got = source.read_full_at(&mut head, 0).map_err(Error::Read)?;
    let Some(header) = FrameHeader::parse(&head[..got]) else {
        return Ok(None);
    };
    // A single segment states no window.
    let stated = head[4] & 0b0010_0000 == 0;
    // RFC 8878 3.1.1.1.2: the smallest window is 2^10 bytes.
    let log = limit.max(1 << 10).ilog2().min(31);
    if !stated || header.window >= 1 << log {
        return Ok(None);
    }
    Ok(Some(Arc::new(Widened {
        source: Arc::clone(source),
        byte: ((log - 10) << 3) as u8,
    })))
}

impl ReadAt for Widened {
    fn size(&self) -> io::Result<u64> {
        self.source.size()
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        let n = self.source.read_at(buf, offset)?;
        if let Some(at) = WINDOW_AT.checked_sub(offset)
            && let Some(byte) = buf[..n].get_mut(usize::try_from(at).unwrap_or(usize::MAX))
        {
            *byte = self.byte;
        }
        Ok(n)
    }
}
