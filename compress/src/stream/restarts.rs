//! Random access to a foreign stream that a pass has decoded before, from its restart points.
//!
//! The content is divided into frames of equal length. A frame is decoded from the last restart point
//! before it, and compared with the digest that the pass has made. Frames on the way to it go into the
//! cache, and the decoder continues there for a later read.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::{Arc, Mutex, OnceLock, PoisonError, RwLock};

use xxhash_rust::xxh64::xxh64;
use zstd::bulk::{Compressor, Decompressor};

use super::cache::FrameCache;
use super::options::OpenOptions;
use super::point::{Point, STATE_MAX, WINDOW_MAX, entry};
use super::reader::Find;
use super::restart_cache::HEADER_LEN;
use crate::decode::{Pass, StreamPosition};
use crate::table::Frame;
use crate::zstd_format::FrameHeader;
use crate::{Codec, Error, ReadAt};

/// Least distance of restart points.
const DISTANCE_MIN: u64 = 1 << 20;
/// Usual maximum distance of restart points, which limits the time of a read.
const DISTANCE_MAX: u64 = 32 << 20;
/// Content bytes for each byte of a state: the index takes less than 3 % of the content of zstd, and
/// less than 1 % of gzip.
const ZSTD_RATIO: u64 = 34;
const GZIP_RATIO: u64 = 110;
/// Least distance in windows: after each restart point, the pass parses the blocks of a window.
const WINDOWS: u64 = 6;
/// Maximum number of decoders to keep for later reads.
const CURSORS: usize = 3;

/// A decoder on its way.
struct Cursor {
    pass: Pass,
    /// Content offset of what it returns next.
    at: u64,
}

/// The restart points of a stream.
pub(super) struct Restarts {
    source: Arc<dyn ReadAt>,
    codec: Codec,
    max_window: u64,
    frame_size: u64,
    points: RwLock<Vec<Point>>,
    /// The file with states, made when the first one is written.
    file: OnceLock<Arc<File>>,
    cursors: Mutex<Vec<Cursor>>,
    cache: FrameCache,
    storing: Mutex<Storing>,
    loading: Mutex<Loading>,
}

/// What decompresses states.
#[derive(Default)]
struct Loading {
    decompressor: Option<Decompressor<'static>>,
    stored: Vec<u8>,
    state: Vec<u8>,
}

/// What compresses states.
#[derive(Default)]
struct Storing {
    compressor: Option<Compressor<'static>>,
    stored: Vec<u8>,
}

/// What a frame decoded from a restart point has to be.
const EXPECTED: &str = "the content of the first pass; unless the file has changed, its cached restart points \
                        are damaged: use `livecore cache clear`";

impl Restarts {
    pub(super) fn new(
        source: Arc<dyn ReadAt>,
        codec: Codec,
        frame_size: u32,
        options: &OpenOptions,
    ) -> Self {
        Self {
            source,
            codec,
            max_window: options.max_window(),
            frame_size: frame_size.into(),
            points: RwLock::default(),
            file: OnceLock::new(),
            cursors: Mutex::default(),
            cache: FrameCache::new(options.cache(), frame_size),
            storing: Mutex::default(),
            loading: Mutex::default(),
        }
    }

    /// Restart points from a cache.
    pub(super) fn load(&self, points: Vec<Point>, file: File) {
        *self.points.write().unwrap_or_else(PoisonError::into_inner) = points;
        self.file.get_or_init(|| Arc::new(file));
    }

    /// The file with states, if there is one.
    pub(super) fn file(&self) -> Option<&File> {
        self.file.get().map(Arc::as_ref)
    }

    /// All points.
    pub(super) fn points(&self) -> Vec<Point> {
        let points = self.points.read().unwrap_or_else(PoisonError::into_inner);
        points.clone()
    }

    /// The last point.
    pub(super) fn last(&self) -> Option<Point> {
        let points = self.points.read().unwrap_or_else(PoisonError::into_inner);
        points.last().copied()
    }

    /// Whether a pass should make a restart point at `place`. `last` is the content offset of the last
    /// one, and `state` the size of a compressed state before it, 0 without one.
    pub(super) fn wants(&self, place: &StreamPosition, last: Option<u64>, state: u32) -> bool {
        let Some(last) = last else {
            return place.window.is_none();
        };
        let distance = place.content - last;
        let Some(window) = place.window else {
            return distance >= DISTANCE_MIN;
        };
        if window > WINDOW_MAX {
            return false;
        }
        // Without an earlier state, assume that the window is compressed to a third.
        let state = match state {
            0 => window / 3,
            len => len.into(),
        };
        let ratio = match self.codec {
            Codec::Gzip => GZIP_RATIO,
            Codec::Zstd | Codec::None => ZSTD_RATIO,
        };
        let least = (ratio * state).max(WINDOWS * window);
        distance >= least.clamp(DISTANCE_MIN, DISTANCE_MAX)
    }

    /// The file with states, which `create` makes if there is none.
    pub(super) fn states(&self, create: impl FnOnce() -> io::Result<File>) -> Option<Arc<File>> {
        if let Some(file) = self.file.get() {
            return Some(Arc::clone(file));
        }
        let file = Arc::new(create().ok()?);
        Some(Arc::clone(self.file.get_or_init(|| file)))
    }

    /// Compresses the state of a restart point and writes it to `file`. Call it again only after
    /// [`Self::add`]. Without space for the state, there is no restart point.
    pub(super) fn store(
        &self,
        place: StreamPosition,
        state: &[u8],
        file: &File,
    ) -> Result<Option<Point>, Error> {
        let mut storing = self.storing.lock().unwrap_or_else(PoisonError::into_inner);
        let Storing { compressor, stored } = &mut *storing;
        let compressor = match compressor {
            Some(compressor) => compressor,
            none => none.insert(Compressor::new(1).map_err(Error::Read)?),
        };
        stored.clear();
        stored.reserve(zstd::zstd_safe::compress_bound(state.len()));
        compressor
            .compress_to_buffer(state, stored)
            .map_err(Error::Read)?;
        let at = self.states_end();
        if file.write_all_at(stored, at).is_err() {
            return Ok(None);
        }
        Ok(Some(Point {
            place,
            at,
            // A state has at most STATE_MAX bytes.
            len: stored.len() as u32,
            check: xxh64(stored, 0) as u32,
        }))
    }

    /// Adds a restart point after all others.
    pub(super) fn add(&self, point: Point) {
        let mut points = self.points.write().unwrap_or_else(PoisonError::into_inner);
        points.push(point);
    }

    /// Frees the memory that [`Self::store`] needs.
    pub(super) fn stored_all(&self) {
        let mut storing = self.storing.lock().unwrap_or_else(PoisonError::into_inner);
        *storing = Storing::default();
    }

    /// Offset in the file after the last state.
    fn states_end(&self) -> u64 {
        let points = self.points.read().unwrap_or_else(PoisonError::into_inner);
        let state = points.iter().rev().find(|point| point.len > 0);
        state.map_or(HEADER_LEN as u64, |point| point.at + u64::from(point.len))
    }

    /// Puts a frame that the pass has decoded into the cache; if it is full, only if `evict`. Returns a
    /// buffer with old bytes, if there is one.
    pub(super) fn offer(&self, number: u64, content: Arc<Vec<u8>>, evict: bool) -> Vec<u8> {
        self.cache.offer(number, content, evict)
    }

    /// Copies content of `frame` from content offset `offset`, which is in the frame, to `buf`.
    pub(super) fn read(
        &self,
        frame: &Frame,
        find: &Find<'_>,
        buf: &mut [u8],
        offset: u64,
    ) -> Result<usize, Error> {
        let decode = |spare| self.decode(frame, find, spare);
        let content = self.cache.get(frame.number, decode)?;
        Ok(content.copy((offset - frame.content_offset) as usize, buf))
    }

    fn decode(&self, frame: &Frame, find: &Find<'_>, spare: Vec<u8>) -> Result<Vec<u8>, Error> {
        let mut content = spare;
        let mut cursor = self.cursor(frame.content_offset)?;
        loop {
            let number = cursor.at.div_ceil(self.frame_size);
            let start = number * self.frame_size;
            // Content between the restart point and the next frame.
            let mut skipped = vec![0; (start - cursor.at) as usize];
            self.fill(&mut cursor, &mut skipped)?;
            let Some(next) = find(number).filter(|next| next.number <= frame.number) else {
                return Err(self.changed(start, "no frame", "a frame"));
            };
            content.resize(next.content_len as usize, 0);
            self.fill(&mut cursor, &mut content)?;
            let digest = xxh64(&content, 0);
            if entry(digest) != next.entry {
                return Err(self.changed(start, "other content", EXPECTED));
            }
            if number == frame.number {
                let mut cursors = self.cursors.lock().unwrap_or_else(PoisonError::into_inner);
                if cursors.len() == CURSORS {
                    cursors.remove(0);
                }
                cursors.push(cursor);
                return Ok(content);
            }
            content = self.cache.offer(number, Arc::new(content), true);
        }
    }

    /// A decoder at or before content offset `at`: one on its way there, or from a restart point.
    fn cursor(&self, at: u64) -> Result<Cursor, Error> {
        let points = self.points.read().unwrap_or_else(PoisonError::into_inner);
        let count = points.partition_point(|point| point.place.content <= at);
        let Some(point) = count
            .checked_sub(1)
            .and_then(|last| points.get(last).copied())
        else {
            return Err(self.changed(at, "no restart point", "one at the beginning"));
        };
        drop(points);
        let mut cursors = self.cursors.lock().unwrap_or_else(PoisonError::into_inner);
        let useful = |cursor: &Cursor| (point.place.content..=at).contains(&cursor.at);
        let best = (0..cursors.len())
            .filter(|i| useful(&cursors[*i]))
            .max_by_key(|i| cursors[*i].at);
        if let Some(best) = best {
            return Ok(cursors.remove(best));
        }
        // The oldest one is not needed: use its memory again.
        let oldest = (cursors.len() == CURSORS).then(|| cursors.remove(0).pass);
        drop(cursors);
        let mut loading = self.loading.lock().unwrap_or_else(PoisonError::into_inner);
        self.load_state(&point, &mut loading)?;
        let state = &loading.state;
        let pass = match oldest.filter(|_| point.place.window.is_some()) {
            Some(mut pass) => pass.move_to(point.place, state).map(|()| pass),
            None => {
                let source = Arc::clone(&self.source);
                Pass::resume(source, self.codec, self.max_window, point.place, state)
            }
        };
        let pass = pass.ok_or_else(|| self.changed(at, "an invalid state", "a decoder's state"))?;
        Ok(Cursor {
            pass,
            at: point.place.content,
        })
    }

    /// Reads the state of a restart point.
    fn load_state(&self, point: &Point, loading: &mut Loading) -> Result<(), Error> {
        let Loading {
            decompressor,
            stored,
            state,
        } = loading;
        state.clear();
        let Some(file) = self.file.get().filter(|_| point.len > 0) else {
            return Ok(());
        };
        stored.resize(point.len as usize, 0);
        file.read_exact_at(stored, point.at).map_err(Error::Read)?;
        let wrong = || self.changed(point.place.content, "a damaged state", "its checksum");
        let header = FrameHeader::parse(stored).and_then(|header| header.content_len);
        let len = header.filter(|len| *len <= STATE_MAX).ok_or_else(wrong)?;
        if xxh64(stored, 0) as u32 != point.check {
            return Err(wrong());
        }
        // At most STATE_MAX.
        state.reserve(len as usize);
        let decompressor = match decompressor {
            Some(decompressor) => decompressor,
            none => none.insert(Decompressor::new().map_err(Error::Read)?),
        };
        let made = decompressor.decompress_to_buffer(stored, state);
        made.map(drop).map_err(|_| wrong())
    }

    fn fill(&self, cursor: &mut Cursor, mut buf: &mut [u8]) -> Result<(), Error> {
        while !buf.is_empty() {
            let n = cursor.pass.read(buf).map_err(|error| match error {
                Error::Read(error) => Error::Read(error),
                other => self.changed(cursor.at, &other.to_string(), "content that decodes"),
            })?;
            if n == 0 {
                return Err(self.changed(cursor.at, "the end", "more content"));
            }
            cursor.at += n as u64;
            buf = &mut buf[n..];
        }
        Ok(())
    }

    /// The error if the stream, or the cache, differs from what the pass has read.
    fn changed(&self, content: u64, found: &str, expected: &str) -> Error {
        Error::Broken {
            region: "content decoded from a restart point".into(),
            offset: content,
            found: found.into(),
            expected: format!("{expected}: the file has changed, or the cache is damaged"),
        }
    }
}
