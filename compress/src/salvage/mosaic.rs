//! Content composed of good frames, the copy in the seal's parts, and unproven bytes, in this order
//! of preference.

use std::io;
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

use super::piece::{Piece, Proof};
use crate::decode::frame::front;
use crate::seal::part::PartAt;
use crate::table::Frame;
use crate::{Codec, Error, ReadAt};

/// The source of a stretch of content.
#[derive(Debug, Clone, Copy)]
pub(super) enum From {
    /// The content of good frames, at the same offset.
    Base,
    /// A part of the copy.
    Copy(PartAt),
    /// The stored bytes at this offset of the stream.
    Plain(u64),
    /// The decodable beginning of a damaged frame.
    Front(Frame),
}

/// A contiguous range of content from one source.
#[derive(Debug, Clone)]
pub(super) struct Stretch {
    pub(super) content: Range<u64>,
    pub(super) from: From,
    pub(super) proof: Proof,
}

/// Stretches that ascend and do not overlap.
pub(super) struct Mosaic {
    source: Arc<dyn ReadAt>,
    codec: Codec,
    base: Arc<dyn ReadAt>,
    stretches: Vec<Stretch>,
    /// The last decoded stretch, with its number.
    last: Mutex<Option<(usize, Arc<Vec<u8>>)>>,
}

impl Mosaic {
    /// The content of `base` in `pieces`, with the gaps between them filled from `more`, in order of
    /// preference.
    pub(super) fn new(
        source: Arc<dyn ReadAt>,
        codec: Codec,
        base: Arc<dyn ReadAt>,
        pieces: &[Piece],
        more: impl IntoIterator<Item = Stretch>,
    ) -> Self {
        let mut stretches: Vec<Stretch> = pieces
            .iter()
            .map(|piece| Stretch {
                content: piece.content.clone(),
                from: From::Base,
                proof: piece.proof,
            })
            .collect();
        for stretch in more {
            fill(&mut stretches, &stretch);
        }
        Self {
            source,
            codec,
            base,
            stretches,
            last: Mutex::new(None),
        }
    }

    /// The pieces of content, ascending; adjacent pieces with the same proof are merged.
    pub(super) fn pieces(&self) -> Vec<Piece> {
        let mut pieces: Vec<Piece> = Vec::new();
        for stretch in &self.stretches {
            let proof = stretch.proof;
            match pieces.last_mut() {
                Some(last) if last.proof == proof && last.content.end == stretch.content.start => {
                    last.content.end = stretch.content.end;
                }
                _ => pieces.push(Piece {
                    content: stretch.content.clone(),
                    proof,
                }),
            }
        }
        pieces
    }

    /// The decoded bytes of stretch `number`, and their content offset.
    fn decoded(&self, number: usize) -> Result<(u64, Arc<Vec<u8>>), Error> {
        let begins = match self.stretches[number].from {
            From::Copy(part) => part.offset,
            From::Front(frame) => frame.content_offset,
            From::Base | From::Plain(_) => 0,
        };
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((of, bytes)) = &*last
            && *of == number
        {
            return Ok((begins, Arc::clone(bytes)));
        }
        let bytes = match self.stretches[number].from {
            From::Copy(part) => part.read(&*self.source)?,
            From::Front(frame) => front(&self.source, self.codec, &frame)?,
            From::Base | From::Plain(_) => Vec::new(),
        };
        let bytes = Arc::new(bytes);
        *last = Some((number, Arc::clone(&bytes)));
        Ok((begins, bytes))
    }
}

/// Fills the gaps of `stretches` from `new`.
fn fill(stretches: &mut Vec<Stretch>, new: &Stretch) {
    let mut at = new.content.start;
    let mut next = stretches.partition_point(|s| s.content.end <= at);
    while at < new.content.end {
        let taken = stretches.get(next).map(|s| s.content.clone());
        let until = taken.as_ref().map_or(new.content.end, |t| t.start);
        let until = until.min(new.content.end);
        if at < until {
            let from = match new.from {
                From::Plain(offset) => From::Plain(offset + (at - new.content.start)),
                from => from,
            };
            let content = at..until;
            let proof = new.proof;
            stretches.insert(
                next,
                Stretch {
                    content,
                    from,
                    proof,
                },
            );
            next += 1;
        }
        match taken {
            Some(taken) => at = at.max(taken.end),
            None => return,
        }
        next += 1;
    }
}

impl ReadAt for Mosaic {
    fn size(&self) -> io::Result<u64> {
        Ok(self.stretches.last().map_or(0, |s| s.content.end))
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        let number = self.stretches.partition_point(|s| s.content.end <= offset);
        let Some(stretch) = self.stretches.get(number) else {
            return Ok(0);
        };
        if stretch.content.start > offset {
            return Err(Error::Broken {
                region: "content".into(),
                offset,
                found: "a lost frame".into(),
                expected: "content".into(),
            }
            .into());
        }
        let left = stretch.content.end - offset;
        let n = usize::try_from(left).unwrap_or(usize::MAX).min(buf.len());
        let buf = &mut buf[..n];
        match stretch.from {
            From::Base => self.base.read_at(buf, offset),
            From::Plain(at) => self
                .source
                .read_at(buf, at + (offset - stretch.content.start)),
            From::Copy(_) | From::Front(_) => {
                let (begins, bytes) = self.decoded(number)?;
                (*bytes).read_at(buf, offset - begins)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn later_stretches_fill_only_the_gaps() {
        let plain = |content: Range<u64>, at| Stretch {
            content,
            from: From::Plain(at),
            proof: Proof::None,
        };
        let mut stretches = vec![plain(10..20, 100), plain(30..40, 200)];
        fill(&mut stretches, &plain(15..50, 1000));
        fill(&mut stretches, &plain(0..60, 2000));
        let found: Vec<_> = stretches
            .iter()
            .map(|s| match s.from {
                From::Plain(at) => (s.content.start, s.content.end, at),
                _ => (0, 0, 0),
            })
            .collect();
        assert_eq!(
            found,
            [
                (0, 10, 2000),
                (10, 20, 100),
                (20, 30, 1005),
                (30, 40, 200),
                (40, 50, 1025),
                (50, 60, 2050)
            ]
        );
    }
}
