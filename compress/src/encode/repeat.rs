//! Frames that repeat one page, above all zeros: encoded once, then copied.

use std::sync::Mutex;

use crate::zero::{PERIOD, repeated};
use crate::{Codec, Error};

/// Pages remembered at most.
const KEPT: usize = 16;
/// Longest frame worth remembering. A page again and again is far shorter with either codec.
const LONGEST: usize = 256 << 10;

/// What has been made of frames of one repeated page.
///
/// An engine's output depends on nothing but the content, so a copy is the same bytes.
pub(super) struct Repeats<N> {
    /// Without a codec there is nothing to be saved.
    off: bool,
    kept: Mutex<Vec<Kept<N>>>,
}

struct Kept<N> {
    page: Vec<u8>,
    content_len: usize,
    stored: Vec<u8>,
    note: N,
}

impl<N: Copy> Repeats<N> {
    pub(super) fn new(codec: Codec) -> Self {
        Self {
            off: codec == Codec::None,
            kept: Mutex::new(Vec::new()),
        }
    }

    /// Encodes `content`, or `zeros` many zeros, into `out`: by a copy if that is known, else with
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
            let kept = self.kept.lock().unwrap_or_else(|e| e.into_inner());
            let known = kept.iter().find(|k| k.content_len == len && k.page == page);
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
            let mut kept = self.kept.lock().unwrap_or_else(|e| e.into_inner());
            if kept.len() < KEPT {
                kept.push(Kept {
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
