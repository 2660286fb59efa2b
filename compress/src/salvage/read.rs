//! Content with gaps: good frames at their content offsets.

use std::io;
use std::sync::Arc;

use crate::decode::frame::Kind;
use crate::stream::OpenOptions;
use crate::stream::reader::FrameReader;
use crate::table::Frame;
use crate::{Codec, Error, ReadAt};

/// Good frames in ascending content order, with gaps between.
pub(super) struct Recovered {
    source: Arc<dyn ReadAt>,
    frames: Vec<Frame>,
    reader: FrameReader,
}

impl Recovered {
    pub(super) fn new(
        source: Arc<dyn ReadAt>,
        codec: Codec,
        checked: bool,
        mut frames: Vec<Frame>,
        options: &OpenOptions,
    ) -> Self {
        // The reader's cache identifies frames by number.
        for (number, frame) in (0..).zip(&mut frames) {
            frame.number = number;
        }
        let largest = frames.iter().map(|f| f.content_len).max().unwrap_or(0);
        let kind = Kind { codec, checked };
        Self {
            source,
            frames,
            reader: FrameReader::new(kind, largest, options.cache(), options.threads.get()),
        }
    }
}

impl ReadAt for Recovered {
    fn size(&self) -> io::Result<u64> {
        let last = self.frames.last();
        Ok(last.map_or(0, |f| f.content_offset + u64::from(f.content_len)))
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        if buf.is_empty() {
            return Ok(0);
        }
        let after = self.frames.partition_point(|f| f.content_offset <= offset);
        let frame = after.checked_sub(1).map(|i| &self.frames[i]);
        let frame = frame.filter(|f| offset - f.content_offset < u64::from(f.content_len));
        let Some(frame) = frame else {
            if after == self.frames.len() {
                return Ok(0);
            }
            return Err(Error::Broken {
                region: "content".into(),
                offset,
                found: "a lost frame".into(),
                expected: "content".into(),
            }
            .into());
        };
        let find = |number: u64| self.frames.get(usize::try_from(number).ok()?).copied();
        self.reader
            .read(&*self.source, frame, &find, buf, offset)
            .map_err(io::Error::from)
    }
}
