//! The offsets and lengths of a stream's frames.

use crate::Error;

/// The entry of a frame in a seal's index.
///
/// | bytes | field           |
/// |-------|-----------------|
/// | 0..4  | `stored_len`    |
/// | 4..8  | `content_check` |
/// | 8..12 | `stored_check`  |
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Entry {
    /// Size of the stored frame.
    pub stored_len: u32,
    /// Check of the content. zstd: the frame's last four bytes, the low half of the content's XXH64.
    /// gzip: the content's CRC-32. Uncompressed: the low half of the content's XXH64.
    pub content_check: u32,
    /// The high half of the XXH64 of the stored frame.
    pub stored_check: u32,
}

/// One frame: its offsets and lengths.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Frame {
    /// Number, from 0.
    pub number: u64,
    /// Offset in the stored stream.
    pub offset: u64,
    /// Offset of its content in the whole content.
    pub content_offset: u64,
    /// Size of its content.
    pub content_len: u32,
    /// Its entry. The checks are 0 in a table made by a walk.
    pub entry: Entry,
}

/// Number of frames between two marks.
const STEP: usize = 64;

/// All frames of a stream, in order and without gaps.
///
/// Needs 12 bytes per frame, and 4 more if the frames' content lengths differ.
#[derive(Debug, Clone, Default)]
pub struct FrameTable {
    frame_size: u32,
    entries: Vec<Entry>,
    /// Content length of each frame; empty while all except the last have `frame_size` bytes.
    lens: Vec<u32>,
    /// Stored offset and content offset of every `STEP`th frame.
    marks: Vec<(u64, u64)>,
    stored_len: u64,
    content_len: u64,
    /// Content length of the last frame.
    last_len: u32,
}

impl FrameTable {
    /// An empty table for frames of `frame_size` content bytes.
    pub fn new(frame_size: u32) -> Self {
        Self {
            frame_size,
            ..Self::default()
        }
    }

    /// Adds the next frame, with `content_len` bytes of content. `None` if the sums overflow or memory
    /// is exhausted.
    #[must_use]
    pub fn push(&mut self, content_len: u32, entry: Entry) -> Option<()> {
        let stored = self.stored_len.checked_add(entry.stored_len.into())?;
        let content = self.content_len.checked_add(content_len.into())?;
        let count = self.entries.len();
        // The number of frames comes from a file.
        self.entries.try_reserve(1).ok()?;
        let odd = content_len > self.frame_size || count > 0 && self.last_len != self.frame_size;
        if odd && self.lens.is_empty() {
            self.lens = vec![self.frame_size; count];
            if let Some(last) = self.lens.last_mut() {
                *last = self.last_len;
            }
            self.lens.push(content_len);
        } else if !self.lens.is_empty() {
            self.lens.push(content_len);
        }
        if count.is_multiple_of(STEP) {
            self.marks.push((self.stored_len, self.content_len));
        }
        self.entries.push(entry);
        self.stored_len = stored;
        self.content_len = content;
        self.last_len = content_len;
        Some(())
    }

    /// Number of frames.
    pub fn count(&self) -> u64 {
        self.entries.len() as u64
    }

    /// Content length of each frame except the last, if the table is uniform.
    pub fn frame_size(&self) -> u32 {
        self.frame_size
    }

    /// Whether all frames except the last have [`Self::frame_size`] bytes, and the last no more.
    pub fn is_uniform(&self) -> bool {
        self.lens.is_empty()
    }

    /// The largest content length of a frame.
    pub fn largest(&self) -> u32 {
        let most = self.lens.iter().copied().max();
        most.unwrap_or(0).max(self.last_len.max(self.frame_size))
    }

    /// Total stored size of all frames.
    pub fn stored_len(&self) -> u64 {
        self.stored_len
    }

    /// Total content length.
    pub fn content_len(&self) -> u64 {
        self.content_len
    }

    /// The entries, as in a seal's index.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// Frame `number`, if there is one.
    pub fn get(&self, number: u64) -> Option<Frame> {
        let at = usize::try_from(number).ok()?;
        let entry = *self.entries.get(at)?;
        let mark = at / STEP;
        // There is a mark for every STEP entries.
        let (mut offset, mut content_offset) = self.marks[mark];
        for before in mark * STEP..at {
            // `push` has checked that the sums do not overflow.
            offset += u64::from(self.entries[before].stored_len);
            content_offset += u64::from(self.len_of(before));
        }
        Some(Frame {
            number,
            offset,
            content_offset,
            content_len: self.len_of(at),
            entry,
        })
    }

    /// The frame that contains the content byte at `offset`.
    pub fn find(&self, offset: u64) -> Option<Frame> {
        if offset >= self.content_len {
            return None;
        }
        if self.is_uniform() {
            return self.get(offset / u64::from(self.frame_size));
        }
        // The first mark is at content 0, so at least one is at or before `offset`.
        let mark = self
            .marks
            .partition_point(|(_, content)| *content <= offset)
            - 1;
        let mut frame = self.get((mark * STEP) as u64)?;
        while offset - frame.content_offset >= u64::from(frame.content_len) {
            frame = self.get(frame.number + 1)?;
        }
        Some(frame)
    }

    fn len_of(&self, at: usize) -> u32 {
        match self.lens.get(at) {
            Some(len) => *len,
            None if at + 1 == self.entries.len() => self.last_len,
            None => self.frame_size,
        }
    }
}

/// The error for sums that exceed 64 bits.
pub(crate) fn too_long() -> Error {
    Error::Limit {
        what: "a stream's length".into(),
        needed: u64::MAX,
        limit: u64::MAX - 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(stored_len: u32) -> Entry {
        Entry {
            stored_len,
            ..Entry::default()
        }
    }

    #[test]
    fn frames_are_found_by_content_offset_if_sizes_are_equal_or_differ() {
        for odd in [false, true] {
            let mut table = FrameTable::new(100);
            let lens: Vec<u32> = (0..1000)
                .map(|i| match i {
                    999 => 7,
                    500 if odd => 0,
                    i if odd && i % 3 == 0 => 130,
                    _ => 100,
                })
                .collect();
            for (i, len) in lens.iter().enumerate() {
                table.push(*len, entry(i as u32 + 1)).unwrap();
            }
            assert_eq!(table.is_uniform(), !odd);
            let (mut offset, mut content) = (0, 0);
            for (i, len) in lens.iter().enumerate() {
                let frame = table.get(i as u64).unwrap();
                assert_eq!((frame.offset, frame.content_offset), (offset, content));
                assert_eq!(frame.content_len, *len);
                if *len > 0 {
                    for at in [content, content + u64::from(*len) - 1] {
                        assert_eq!(table.find(at).unwrap().number, i as u64);
                    }
                }
                offset += i as u64 + 1;
                content += u64::from(*len);
            }
            assert_eq!((table.stored_len(), table.content_len()), (offset, content));
            assert_eq!(table.find(content), None);
            assert_eq!(table.get(1000), None);
        }
    }
}
