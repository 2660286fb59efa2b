//! A directory with the restart points of foreign streams.
//!
//! A file contains the decoder's states, which include parts of the content, then the tables of
//! restart points and frames. All numbers are little-endian.
//!
//! | bytes   | field |
//! |---------|-------|
//! | 0..8    | `LCRESTA1` |
//! | 8..12   | codec: 1 gzip, 2 zstd |
//! | 12..16  | bit 0: the stream looks truncated after a frame |
//! | 16..24  | length of the stream |
//! | 24..32  | when the stream was changed, in nanoseconds since 1970 |
//! | 32..48  | XXH64 of its first and its last 64 KiB |
//! | 48..56  | length of the content |
//! | 56..64  | number of restart points |
//! | 64..72  | offset of the tables, which end the file |
//! | 72..80  | XXH64 of the tables |
//! | 80..88  | XXH64 of bytes 0..80 |
//!
//! A restart point has 40 bytes: offset in the stream, offset in the content, size of the window
//! (all ones at the beginning of a frame), offset of its state, size of the state (`u32`), low half of
//! the state's XXH64 (`u32`). A frame has the XXH64 of its content.

use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::{DirBuilderExt, FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use xxhash_rust::xxh64::xxh64;

use super::point::{Point, SEGMENT_MAX, STORED_STATE_MAX, WINDOW_MAX, entry};
use crate::decode::StreamPosition;
use crate::table::FrameTable;
use crate::{Codec, ReadAt};

const MAGIC: [u8; 8] = *b"LCRESTA1";
/// Size of the header.
pub(super) const HEADER_LEN: usize = 88;
const POINT_LEN: usize = 40;
const DIGEST_LEN: usize = 8;
/// Number of bytes at each end of a stream that identify it.
const END_LEN: u64 = 64 << 10;
const SUFFIX: &str = ".restart";
/// Prefix of files that are being written.
const TEMPORARY: &str = "new-";

/// A directory with the restart points of foreign streams.
///
/// The files contain parts of the content. They have mode 0600, and are used only if they belong to the
/// user and have no other permissions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RestartCache {
    /// The directory. It is created when it is needed, if its parent exists.
    pub dir: PathBuf,
    /// Maximum size of all files, in bytes. The oldest are removed.
    pub max_bytes: u64,
    /// Minimum length of content whose restart points are kept, in bytes.
    pub min_content: u64,
}

/// What identifies a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Key {
    codec: u32,
    len: u64,
    modified: u64,
    ends: [u64; 2],
}

/// A file of the cache.
pub(super) struct Kept {
    pub(super) points: Vec<Point>,
    pub(super) table: FrameTable,
    pub(super) looks_cut: bool,
    pub(super) file: File,
}

impl Key {
    /// The key of a stream; `None` if it is not known when it was changed.
    pub(super) fn of(source: &dyn ReadAt, codec: Codec) -> Option<Self> {
        let modified = source.modified()?.duration_since(UNIX_EPOCH).ok()?;
        let len = source.size().ok()?;
        let digest = |from: u64| {
            let mut bytes = vec![0; END_LEN.min(len) as usize];
            source.read_exact_at(&mut bytes, from).ok()?;
            Some(xxh64(&bytes, 0))
        };
        Some(Self {
            codec: match codec {
                Codec::None => return None,
                Codec::Gzip => 1,
                Codec::Zstd => 2,
            },
            len,
            modified: u64::try_from(modified.as_nanos()).ok()?,
            ends: [digest(0)?, digest(len.saturating_sub(END_LEN))?],
        })
    }

    fn name(&self) -> String {
        format!(
            "{:016x}{SUFFIX}",
            xxh64(&self.header(0, 0, 0, 0, false)[..48], 0)
        )
    }

    fn header(&self, content: u64, points: u64, tables: u64, digest: u64, cut: bool) -> Vec<u8> {
        let mut out = MAGIC.to_vec();
        out.extend(self.codec.to_le_bytes());
        out.extend(u32::from(cut).to_le_bytes());
        let [head, tail] = self.ends;
        for word in [
            self.len,
            self.modified,
            head,
            tail,
            content,
            points,
            tables,
            digest,
        ] {
            out.extend(word.to_le_bytes());
        }
        let check = xxh64(&out, 0);
        out.extend(check.to_le_bytes());
        out
    }
}

impl RestartCache {
    /// The restart points of a stream, if the directory has them. `memory` limits the tables.
    pub(super) fn load(&self, key: &Key, frame_size: u32, memory: u64) -> Option<Kept> {
        let file = File::open(self.dir.join(key.name())).ok()?;
        let found = file.metadata().ok()?;
        let own = found.uid() == rustix::process::geteuid().as_raw();
        if !found.is_file() || !own || found.mode() & 0o077 != 0 {
            return None;
        }
        let mut header = [0; HEADER_LEN];
        FileExt::read_exact_at(&file, &mut header, 0).ok()?;
        let word = |at: usize| {
            let bytes = header.get(at..).and_then(|bytes| bytes.first_chunk());
            bytes.map_or(0, |bytes| u64::from_le_bytes(*bytes))
        };
        let looks_cut = header[12] & 1 == 1;
        let (content, count, at, digest) = (word(48), word(56), word(64), word(72));
        if header[..] != key.header(content, count, at, digest, looks_cut) {
            return None;
        }
        let frames = content.div_ceil(frame_size.into());
        let points_len = count.checked_mul(POINT_LEN as u64)?;
        let len = frames
            .checked_mul(DIGEST_LEN as u64)?
            .checked_add(points_len)?;
        if len > memory / 4 || at.checked_add(len)? != found.len() {
            return None;
        }
        let mut tables = vec![0; usize::try_from(len).ok()?];
        FileExt::read_exact_at(&file, &mut tables, at).ok()?;
        if xxh64(&tables, 0) != digest {
            return None;
        }
        // At most `len`.
        let (points, digests) = tables.split_at(points_len as usize);
        let points = parse_points(points, key.len, content, at)?;
        let mut table = FrameTable::new(frame_size);
        for digest in digests.as_chunks::<DIGEST_LEN>().0 {
            let len = (content - table.content_len()).min(frame_size.into()) as u32;
            table.push(len, entry(u64::from_le_bytes(*digest)))?;
        }
        Some(Kept {
            points,
            table,
            looks_cut,
            file,
        })
    }

    /// A new unlinked file in the directory.
    pub(super) fn unlinked(&self) -> io::Result<File> {
        self.make_dir()?;
        tempfile::tempfile_in(&self.dir)
    }

    fn make_dir(&self) -> io::Result<()> {
        match fs::DirBuilder::new().mode(0o700).create(&self.dir) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
            _ => Ok(()),
        }
    }

    /// Writes a file with restart points, whose states are in `states`. Removes the oldest files.
    pub(super) fn keep(
        &self,
        key: &Key,
        states: Option<&File>,
        points: &[Point],
        table: &FrameTable,
        looks_cut: bool,
    ) -> io::Result<()> {
        let last = points.iter().rev().find(|point| point.len > 0);
        let at = last.map_or(HEADER_LEN as u64, |point| point.at + u64::from(point.len));
        let mut tables = Vec::with_capacity(points.len() * POINT_LEN);
        for point in points {
            let place = &point.place;
            let window = place.window.unwrap_or(u64::MAX);
            for word in [place.stored, place.content, window, point.at] {
                tables.extend(word.to_le_bytes());
            }
            tables.extend(point.len.to_le_bytes());
            tables.extend(point.check.to_le_bytes());
        }
        for entry in table.entries() {
            tables.extend(entry.content_check.to_le_bytes());
            tables.extend(entry.stored_check.to_le_bytes());
        }
        let len = at + tables.len() as u64;
        if len > self.max_bytes {
            return Ok(());
        }
        self.make_dir()?;
        // The file has mode 0600.
        let mut file = tempfile::Builder::new()
            .prefix(TEMPORARY)
            .tempfile_in(&self.dir)?;
        self.evict(len, file.path())?;
        if let Some(mut states) = states {
            states.seek(SeekFrom::Start(0))?;
            io::copy(&mut states.take(at), file.as_file_mut())?;
        }
        file.as_file().write_all_at(&tables, at)?;
        let digest = xxh64(&tables, 0);
        let header = key.header(
            table.content_len(),
            points.len() as u64,
            at,
            digest,
            looks_cut,
        );
        file.as_file().write_all_at(&header, 0)?;
        file.persist(self.dir.join(key.name()))?;
        Ok(())
    }

    /// Removes the oldest files until there is space for the file at `new`, of `len` bytes.
    fn evict(&self, len: u64, new: &Path) -> io::Result<()> {
        let mut files = self.files()?;
        files.retain(|(path, _)| path != new);
        files.sort_by_key(|(_, found)| found.modified().ok());
        let mut sum = len;
        for (_, found) in &files {
            sum = sum.saturating_add(found.len());
        }
        for (path, found) in files {
            if sum <= self.max_bytes {
                break;
            }
            fs::remove_file(path)?;
            sum -= found.len();
        }
        Ok(())
    }

    /// The files with restart points.
    fn files(&self) -> io::Result<Vec<(PathBuf, fs::Metadata)>> {
        let entries = match fs::read_dir(&self.dir) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries?,
        };
        let mut files = Vec::new();
        for entry in entries {
            let entry = entry?;
            let name = entry.file_name();
            let name = name.to_string_lossy();
            let found = entry.metadata()?;
            if found.is_file() && (name.ends_with(SUFFIX) || name.starts_with(TEMPORARY)) {
                files.push((entry.path(), found));
            }
        }
        Ok(files)
    }

    /// Removes all restart points. Returns the number of files and their size in bytes.
    ///
    /// # Errors
    ///
    /// The system's.
    pub fn clear(&self) -> io::Result<(u64, u64)> {
        let mut removed = (0, 0);
        for (path, found) in self.files()? {
            fs::remove_file(path)?;
            removed = (removed.0 + 1, removed.1 + found.len());
        }
        Ok(removed)
    }
}

/// Parses restart points and checks that a decoder can use them. `states_end` is the end of the states.
fn parse_points(bytes: &[u8], stream: u64, content: u64, states_end: u64) -> Option<Vec<Point>> {
    let mut points: Vec<Point> = Vec::with_capacity(bytes.len() / POINT_LEN);
    for bytes in bytes.as_chunks::<POINT_LEN>().0 {
        let word = |index: usize| {
            let bytes = bytes.get(8 * index..).and_then(|bytes| bytes.first_chunk());
            bytes.map_or(0, |bytes| u64::from_le_bytes(*bytes))
        };
        let window = Some(word(2)).filter(|window| *window != u64::MAX);
        let point = Point {
            place: StreamPosition {
                stored: word(0),
                content: word(1),
                window,
            },
            at: word(3),
            len: word(4) as u32,
            check: (word(4) >> 32) as u32,
        };
        let place = &point.place;
        let next = match points.last() {
            None => place.content == 0 && window.is_none(),
            Some(last) => {
                place.stored > last.place.stored
                    && (last.place.content..=last.place.content + SEGMENT_MAX)
                        .contains(&place.content)
            }
        };
        let end = point.at.checked_add(point.len.into())?;
        let stated = window.is_none_or(|window| window <= WINDOW_MAX);
        if !next
            || !stated
            || window.is_some() != (point.len > 0)
            || end > states_end
            || u64::from(point.len) > STORED_STATE_MAX
            || place.stored >= stream
            || place.content > content
        {
            return None;
        }
        points.push(point);
    }
    (!points.is_empty() || content == 0).then_some(points)
}
