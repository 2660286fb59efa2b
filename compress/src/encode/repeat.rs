//! A cache of encoded frames that repeat one page, such as zeros.

use std::sync::Mutex;

use crate::zero::{PERIOD, repeated};
use crate::{Codec, Error};

/// Maximum number of cached frames.
const CACHED: usize = 16;
/// Maximum size of a cached frame. Repetitions of a page are much shorter with both codecs.
const LONGEST: usize = 256 << 10;

/// The encoded frames of repeated pages.
///
/// The output of an encoder depends only on the content, so a copy is identical.
pub(super) struct Repeats<N> {
    /// Whether the cache is disabled: it is useless without compression.
    off: bool,
    cached: Mutex<Vec<Encoded<N>>>,
}

struct Encoded<N> {
    page: Vec<u8>,
    content_len: usize,
    stored: Vec<u8>,
    note: N,
}

impl<N: Copy> Repeats<N> {
    pub(super) fn new(codec: Codec) -> Self {
        Self {
            off: codec == Codec::None,
            cached: Mutex::new(Vec::new()),
        }
    }

    /// Encodes `content`, or that many `zeros`, into `out`: from the cache if possible, otherwise with
    /// `encode`.
    pub(super) fn encode(
        &self,
        zeros: Option<usize>,
        content: &[u8],
        out: &mut Vec<u8>,
        encode: impl FnOnce(&[u8], &mut Vec<u8>) -> Result<N, Error>,
    ) -> Result<N, Error> {
        let (page, len) = match zeros {
            Some(len) => (Some(&[0; PERIOD][..]), len),
            None => (repeated(content), content.len()),
        };
        let page = page.filter(|_| !self.off && len >= PERIOD);
        if let Some(page) = page {
            let cached = self.cached.lock().unwrap_or_else(|e| e.into_inner());
            let known = cached
                .iter()
                .find(|k| k.content_len == len && k.page == page);
            if let Some(known) = known {
                out.clear();
                out.extend_from_slice(&known.stored);
                return Ok(known.note);
            }
        }
        let note = match zeros {
            Some(len) => encode(&vec![0; len], out)?,
            None => encode(content, out)?,
        };
        if let Some(page) = page.filter(|_| out.len() <= LONGEST) {
            let mut cached = self.cached.lock().unwrap_or_else(|e| e.into_inner());
            if cached.len() < CACHED {
                cached.push(Encoded {
                    page: page.to_vec(),
                    content_len: len,
                    stored: out.clone(),
                    note,
                });
            }
        }
        Ok(note)
    }
}
