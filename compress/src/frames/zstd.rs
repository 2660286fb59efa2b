//! Walking zstd frames by their headers and block headers.

use super::{Found, FoundKind};
use crate::decode::input::cut;
use crate::zstd_format::*;
use crate::{Error, ReadAt};

/// The frames of a stream, skippable ones included, in order. Ends after the first error.
pub struct ZstdFrames<'a> {
    source: &'a dyn ReadAt,
    at: u64,
    end: u64,
    number: u64,
    failed: bool,
}

impl<'a> ZstdFrames<'a> {
    /// Walks `source` up to `end`, or its own end.
    pub fn new(source: &'a dyn ReadAt, end: u64) -> Self {
        Self::starting(source, 0, end)
    }

    /// Walks from `at`, where one begins, up to `end`.
    pub fn starting(source: &'a dyn ReadAt, at: u64, end: u64) -> Self {
        Self {
            source,
            at,
            end,
            number: 0,
            failed: false,
        }
    }

    /// Where the next frame would begin.
    pub fn position(&self) -> u64 {
        self.at
    }

    /// The header of the next frame, if that is one with content and its header is whole. Costs one
    /// read; to step over the frame costs one for each of its blocks.
    pub fn peek(&self) -> Result<Option<FrameHeader>, Error> {
        let mut head = [0; FRAME_HEADER_MAX];
        let got = self.read(&mut head, self.at)?;
        Ok(FrameHeader::parse(&head[..got]))
    }

    fn read(&self, buf: &mut [u8], at: u64) -> Result<usize, Error> {
        let left = usize::try_from(self.end.saturating_sub(at)).unwrap_or(usize::MAX);
        let len = buf.len().min(left);
        self.source
            .read_full_at(&mut buf[..len], at)
            .map_err(Error::Read)
    }

    /// Reads all of `buf` at `at`, which lies in the frame that begins at `self.at`.
    fn need(&self, buf: &mut [u8], at: u64, what: &str) -> Result<(), Error> {
        let got = self.read(buf, at)?;
        if got == buf.len() {
            return Ok(());
        }
        Err(cut(self.region(), self.at, at + got as u64, what))
    }

    fn region(&self) -> String {
        format!("zstd frame {}", self.number)
    }

    fn broken(&self, found: String, expected: &str) -> Error {
        Error::Broken {
            region: self.region(),
            offset: self.at,
            found,
            expected: expected.into(),
        }
    }

    fn step(&mut self) -> Result<Option<Found>, Error> {
        let mut head = [0; FRAME_HEADER_MAX];
        let got = self.read(&mut head, self.at)?;
        let head = &head[..got];
        if head.is_empty() {
            return Ok(None);
        }
        let Some(magic) = head.first_chunk().map(|m| u32::from_le_bytes(*m)) else {
            return Err(self.broken(format!("{head:02x?}"), "a frame"));
        };
        if is_skippable(magic) {
            let Some(len) = head
                .get(4..SKIPPABLE_HEADER_LEN)
                .and_then(|l| l.first_chunk())
            else {
                let end = self.at + got as u64;
                return Err(cut(
                    self.region(),
                    self.at,
                    end,
                    "a skippable frame's length",
                ));
            };
            let stored_len = SKIPPABLE_HEADER_LEN as u64 + u64::from(u32::from_le_bytes(*len));
            // Whether it is all there shows its last byte.
            self.need(
                &mut [0],
                self.at + stored_len - 1,
                "a whole skippable frame",
            )?;
            return Ok(Some(Found {
                kind: FoundKind::Skippable(magic),
                offset: self.at,
                stored_len,
                content_len: Some(0),
                content_check: None,
            }));
        }
        let Some(header) = FrameHeader::parse(head) else {
            return Err(self.broken(format!("{head:02x?}"), "a frame header"));
        };
        let mut at = self.at + header.len as u64;
        loop {
            let mut bytes = [0; BLOCK_HEADER_LEN];
            self.need(&mut bytes, at, "a block header")?;
            let Some(block) = BlockHeader::parse(bytes) else {
                let found = format!("block header {bytes:02x?} at {at:#x}");
                return Err(self.broken(found, "a block of a known type, up to 128 KiB"));
            };
            at += BLOCK_HEADER_LEN as u64 + u64::from(block.stored_len);
            if block.last {
                break;
            }
        }
        let mut content_check = None;
        if header.checksum {
            let mut bytes = [0; CHECKSUM_LEN];
            self.need(&mut bytes, at, "a checksum")?;
            content_check = Some(u32::from_le_bytes(bytes));
            at += CHECKSUM_LEN as u64;
        } else {
            self.need(&mut [0], at - 1, "the rest of a block")?;
        }
        Ok(Some(Found {
            kind: FoundKind::Data,
            offset: self.at,
            stored_len: at - self.at,
            content_len: header.content_len,
            content_check,
        }))
    }
}

impl Iterator for ZstdFrames<'_> {
    type Item = Result<Found, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.failed {
            return None;
        }
        let found = self.step().transpose()?;
        match &found {
            Ok(found) => {
                self.at += found.stored_len;
                self.number += 1;
            }
            Err(_) => self.failed = true,
        }
        Some(found)
    }
}
