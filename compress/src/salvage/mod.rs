//! Recovery of content from damaged or truncated streams.
//!
//! A seal's index gives the offset of every frame, so a damaged frame loses only its own content.
//! Without an index, salvage walks the stream by its structure. Where the walk finds no frame, or one
//! that does not decode, it searches for the next frame that does (`walk`). The bytes between are a
//! *gap*. Its stored size is known, but perhaps not its content size. The content offset of the frames
//! after it is then unknown until the total content length is known ([`Salvage::place`]).
//!
//! A single stream, as kernels and savecore(8) write it, cannot be decoded from its middle: only the
//! content before the damage can be recovered.
//!
//! Memory is at most 256 bytes for each frame, within [`OpenOptions::memory`], and a few frames for each
//! thread. Salvage stores only whether a
//! frame is good; reading decodes it again.

mod budget;
mod find;
mod mosaic;
mod piece;
mod place;
mod read;
mod walk;
mod window;

use std::ops::Range;
use std::sync::Arc;

use crate::decode::frame::{content_check, front};
use crate::seal::format::PART_COPY;
use crate::seal::part::{self, PartAt};
use crate::stream::OpenOptions;
use crate::table::Frame;
use crate::{Codec, Error, Progress, ReadAt, Stream, Window};

pub use piece::{Piece, Proof};

use mosaic::{From, Mosaic, Stretch};
use piece::piece;
use place::Run;
use read::Recovered;

/// A damaged range of the stored bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Damage {
    /// The region: `seal`, `zstd frame 12`, `frame 3`.
    pub region: String,
    /// Offset in the stream.
    pub offset: u64,
    /// Number of stored bytes up to the next good frame, if there is one.
    pub len: Option<u64>,
    /// A description of the damage.
    pub found: String,
}

/// A stream and its recoverable content.
pub struct Salvage {
    codec: Codec,
    attachment: Option<Vec<u8>>,
    sealed: bool,
    seal_in_place: bool,
    stated_len: Option<u64>,
    damage: Vec<Damage>,
    /// Frames found by walking, between gaps.
    runs: Vec<Run>,
    /// Content size of good frames with an unknown content offset.
    unplaced: u64,
    pieces: Vec<Piece>,
    /// Valid parts of the seal.
    parts: Vec<PartAt>,
    /// For a stream that is not walked: the offset up to which it decodes without error.
    decoded: u64,
    content: Arc<dyn ReadAt>,
    source: Arc<dyn ReadAt>,
    options: OpenOptions,
}

/// Whether `source` contains a seal, or the valid header of one, at the offset that it states.
///
/// # Errors
///
/// [`Error::Read`].
pub fn has_seal(source: &dyn ReadAt) -> Result<bool, Error> {
    let len = source.size().map_err(Error::Read)?;
    let found = find::seal(source, len, None)?;
    Ok(found.is_some_and(|seal| seal.parsed.header.seal_start() == Some(seal.start)))
}

/// The verifier searches this many bytes at the end of an uncompressed stream for a seal.
const END: u64 = 1 << 20;

/// Maximum number of entries of damage; one more entry represents the rest.
const DAMAGE_MAX: usize = 4096;

impl Salvage {
    /// Searches all of `source` for recoverable content. Decodes everything once.
    ///
    /// # Errors
    ///
    /// [`Error::Read`], [`Error::Write`] of a temporary file, [`Error::Memory`] if a window exceeds
    /// the limit, [`Error::Cancelled`]. Damage of the stream is not an error.
    pub fn recover(
        source: Arc<dyn ReadAt>,
        options: &OpenOptions,
        progress: &dyn Progress,
    ) -> Result<Self, Error> {
        let mut len = source.size().map_err(Error::Read)?;
        let begins = options.codec_of(&source)?;
        let codec = begins.unwrap_or(Codec::None);
        let mut salvage = match source.lost().first() {
            // Zeros in place of what was lost could decode to something else.
            Some(lost) if codec != Codec::None => {
                len = lost.start;
                let found = "sectors that cannot be read";
                let mut salvage = Self::new(Arc::new(Window::new(source, 0, len)), codec, options);
                salvage.note(len, None, "stream", found);
                salvage
            }
            _ => Self::new(source, codec, options),
        };
        let found = find::seal(&*salvage.source, len, begins)?;
        if let Some(found) = &found
            && !found.ends_stream
            && salvage.codec != Codec::None
        {
            // The memory in a dump may contain a seal, which some codecs store as it is.
            let mut unsealed = Self::new(Arc::clone(&salvage.source), salvage.codec, options);
            unsealed.unsealed(len, progress)?;
            if unsealed.has_frame_around(found.start) {
                return Ok(unsealed);
            }
        }
        let sealed = match found {
            Some(found) => salvage.sealed(found, progress)?,
            None => false,
        };
        if !sealed {
            salvage.unsealed(len, progress)?;
        }
        Ok(salvage)
    }

    /// Whether the byte at offset `at` of the stream is within a frame that decodes.
    fn has_frame_around(&self, at: u64) -> bool {
        let mut frames = self.runs.iter().flat_map(|run| &run.frames);
        frames.any(|f| f.good && f.offset < at && at < f.end()) || at < self.decoded
    }

    /// An uncompressed stream without a seal: all of its bytes, which no checksum proves.
    ///
    /// # Errors
    ///
    /// [`Error::Read`].
    pub fn unproven(source: Arc<dyn ReadAt>, options: &OpenOptions) -> Result<Self, Error> {
        let len = source.size().map_err(Error::Read)?;
        let mut salvage = Self::new(source, Codec::None, options);
        salvage.plain(len);
        Ok(salvage)
    }

    fn new(source: Arc<dyn ReadAt>, codec: Codec, options: &OpenOptions) -> Self {
        Self {
            codec,
            attachment: None,
            sealed: false,
            seal_in_place: false,
            stated_len: None,
            damage: Vec::new(),
            runs: Vec::new(),
            unplaced: 0,
            pieces: Vec::new(),
            parts: Vec::new(),
            decoded: 0,
            content: Arc::new(Vec::new()),
            source,
            options: options.clone(),
        }
    }

    /// The codec.
    pub fn codec(&self) -> Codec {
        self.codec
    }

    /// Whether the stream has a seal, or a remnant of one.
    pub fn is_sealed(&self) -> bool {
        self.sealed
    }

    /// Whether the stream ends with its seal, or its last bytes have the header of a seal at the offset
    /// that it states. Otherwise, the seal of an uncompressed stream may be that of another stream
    /// within its content.
    pub fn is_seal_in_place(&self) -> bool {
        self.seal_in_place
    }

    /// The attachment of the seal, if it matches its digest.
    pub fn attachment(&self) -> Option<&[u8]> {
        self.attachment.as_deref()
    }

    /// The original content length, if the seal states it.
    pub fn stated_len(&self) -> Option<u64> {
        self.stated_len
    }

    /// The damage of the stored bytes.
    pub fn damage(&self) -> &[Damage] {
        &self.damage
    }

    /// The recoverable pieces, ascending; adjacent pieces with the same proof are merged.
    pub fn pieces(&self) -> &[Piece] {
        &self.pieces
    }

    /// Size of recoverable content with an unknown offset.
    pub fn unplaced(&self) -> u64 {
        self.unplaced
    }

    /// The content; a read of lost content fails.
    pub fn content(&self) -> Arc<dyn ReadAt> {
        Arc::clone(&self.content)
    }

    /// Sets the original content length, which may determine the content offset of frames after a gap.
    pub fn place(&mut self, content_len: u64) {
        if !self.runs.is_empty() {
            let placed = place::frames(&self.runs, Some(content_len));
            self.unplaced = placed.unplaced;
            self.set_frames(placed.frames, false, Vec::new());
        }
    }

    /// Removes ranges of an uncompressed stream whose bytes are known to be wrong. `lost` is ascending.
    /// Has no effect on a compressed stream.
    pub fn exclude(&mut self, lost: &[Range<u64>]) {
        if self.codec != Codec::None || lost.is_empty() {
            return;
        }
        let end = self.pieces.last().map_or(0, |piece| piece.content.end);
        for range in lost.iter().filter(|range| range.start < end) {
            let size = Some(range.end.min(end) - range.start);
            self.note(range.start, size, "data", "missing bytes");
        }
        self.pieces = piece::without(&self.pieces, lost);
    }

    /// Recovers content by a seal; returns `false` if the seal is not that of this stream. A seal that
    /// is not at the end of its data counts only if its frames are found: the memory in a dump may
    /// contain seals of other dumps.
    fn sealed(&mut self, found: find::Found, progress: &dyn Progress) -> Result<bool, Error> {
        let find::Found {
            codec,
            parsed,
            start,
            table,
            ends_stream,
        } = found;
        let (header, threads) = (parsed.header, self.options.threads);
        let Some(own_start) = header.seal_start() else {
            return Ok(false);
        };
        let moved = start != own_start;
        let shift = start.wrapping_sub(own_start);
        let checked = parsed.table.is_some();
        let mut by_table = None;
        if let Some(table) = parsed.table.or(table) {
            budget::check_memory(table.count(), self.options.memory)?;
            let mut frames: Vec<_> = (0..table.count()).filter_map(|n| table.get(n)).collect();
            let source = &self.source;
            let mut good = walk::check(source, codec, checked, &frames, threads, progress)?;
            if moved {
                let (at, far): (Vec<_>, Vec<_>) = (0..frames.len())
                    .filter(|i| !good[*i])
                    .map(|i| {
                        let offset = frames[i].offset.wrapping_add(shift);
                        (
                            i,
                            Frame {
                                offset,
                                ..frames[i]
                            },
                        )
                    })
                    .unzip();
                let found = walk::check(source, codec, checked, &far, threads, progress)?;
                for ((i, frame), found) in at.into_iter().zip(far).zip(found) {
                    if found {
                        frames[i] = frame;
                        good[i] = true;
                    }
                }
            }
            by_table = Some((frames, good));
        }
        let none_good = by_table
            .as_ref()
            .is_none_or(|(_, good)| good.iter().all(|g| !g));
        let foreign = by_table.as_ref().is_some_and(|(_, good)| is_foreign(good));
        if moved && none_good || codec == Codec::None && foreign {
            self.note(start, None, "seal", "a seal without its frames");
            return Ok(false);
        }
        self.codec = codec;
        self.sealed = true;
        let len = self.source.size().map_err(Error::Read)?;
        self.seal_in_place = ends_stream || !moved && len - start <= END;
        self.attachment = parsed.attachment;
        let parts_start = header.stored_len.wrapping_add(shift);
        self.parts = part::search(&*self.source, parts_start, start, shift)?;
        if moved {
            let what = format!("a seal for {:#x} bytes of data", header.stored_len);
            self.note(start, None, "seal", &what);
        } else if let Some(error) = &parsed.damage {
            self.note_error("seal", error);
        }
        let whole = |good: &[bool]| good.iter().all(|g| *g);
        if let Some((frames, good)) = &by_table
            && (whole(good) || moved || codec == Codec::None)
        {
            self.stated_len = Some(header.content_len);
            self.by_table(frames, good, checked)?;
            return Ok(true);
        }
        if codec == Codec::None {
            self.stated_len = Some(header.content_len);
            self.plain(header.stored_len);
            return Ok(true);
        }
        // The index may be that of another stream; the walk then finds more content.
        let (source, options) = (&self.source, &self.options);
        let runs = walk::walk(source, codec, header.stored_len, options, progress)?;
        let walked: u64 = runs.iter().map(Run::content_len).sum();
        match by_table {
            Some((frames, good)) if content_of(&frames, &good) >= walked => {
                self.stated_len = Some(header.content_len);
                self.by_table(&frames, &good, checked)?;
            }
            other => {
                if other.is_some() {
                    self.note(
                        start,
                        None,
                        "seal index",
                        "an index that does not match the frames",
                    );
                } else {
                    self.stated_len = Some(header.content_len);
                }
                self.by_walk(runs)?;
            }
        }
        Ok(true)
    }

    fn unsealed(&mut self, len: u64, progress: &dyn Progress) -> Result<(), Error> {
        self.parts = part::search(&*self.source, 0, len, 0)?;
        let first = self.parts.iter().find(|part| part.offset == 0);
        let first = first.map(PartAt::start);
        if let Some(first) = first {
            self.sealed = true;
            self.note(first, None, "seal", "parts without a seal");
        }
        if self.codec == Codec::None {
            self.stated_len = first;
            self.plain(first.unwrap_or(len));
            return Ok(());
        }
        self.compressed(len, progress)?;
        let cut = |d: &Damage| d.found.starts_with("the end of the stream");
        if self.damage.iter().all(cut) {
            return Ok(());
        }
        let Some(source) = window::widened(&self.source, self.options.max_window())? else {
            return Ok(());
        };
        let mut wide = Self {
            sealed: self.sealed,
            parts: self.parts.clone(),
            ..Self::new(source, self.codec, &self.options)
        };
        wide.compressed(len, progress)?;
        if wide.recovered() > self.recovered() {
            let found = "a window size smaller than the frame needs";
            wide.note(0, None, &self.codec.region(0), found);
            *self = wide;
        }
        Ok(())
    }

    /// Size of the recoverable content.
    fn recovered(&self) -> u64 {
        let lens = self.pieces.iter().map(|p| p.content.end - p.content.start);
        lens.sum()
    }

    /// Recovers a compressed stream without a seal.
    fn compressed(&mut self, len: u64, progress: &dyn Progress) -> Result<(), Error> {
        if walk::begins_with_small_frame(&*self.source, self.codec, len)? {
            let runs = walk::walk(&self.source, self.codec, len, &self.options, progress)?;
            if runs.iter().any(|run| run.frames.iter().any(|f| f.good)) {
                self.by_walk(runs)?;
                return Ok(());
            }
            // `zstd FILE` states the content length of its only frame, part of which may decode.
        }
        // A single stream: only the content before the damage.
        let options = OpenOptions {
            unproven: true,
            ..self.options.clone()
        };
        let stream = Stream::from_source(Arc::clone(&self.source), &options)?;
        let (len, error) = stream.readable()?;
        let proof = match &error {
            Some(_) => Proof::None,
            None => Proof::Checksum,
        };
        if let Some(limit @ Error::Memory { .. }) = error {
            // The stream is not damaged.
            return Err(limit);
        }
        self.decoded = match (&error, stream.trailing()) {
            (None, None) => self.source.size().map_err(Error::Read)?,
            (None, Some(Error::Broken { offset, .. })) => *offset,
            _ => 0,
        };
        if let Some(error) = error.as_ref().or(stream.trailing()) {
            self.note_error("stream", error);
        }
        self.content = stream.content();
        self.pieces = piece(0..len, proof);
        progress.advance(len, self.source.size().map_err(Error::Read)?);
        Ok(())
    }

    /// Recovers uncompressed bytes. Only the copy in the parts proves some of them.
    fn plain(&mut self, len: u64) {
        let present = self.source.size().unwrap_or(0).min(len);
        let plain = Stretch {
            content: 0..present,
            from: From::Plain(0),
            proof: Proof::None,
        };
        if self.parts.is_empty() {
            self.content = Arc::new(Window::new(Arc::clone(&self.source), 0, len));
            self.pieces = piece(0..present, Proof::None);
        } else {
            self.compose(Arc::new(Vec::new()), &[], vec![plain]);
        }
        let lost = self.source.lost();
        self.exclude(&lost);
    }

    fn by_table(&mut self, frames: &[Frame], good: &[bool], checked: bool) -> Result<(), Error> {
        let mut rest = Vec::new();
        for (frame, good) in frames.iter().zip(good) {
            if !good {
                let region = self.codec.region(frame.number);
                let len = Some(frame.entry.stored_len.into());
                self.note(frame.offset, len, &region, "a damaged frame");
                rest.extend(self.remainder(frame, checked)?);
            }
        }
        let good = frames.iter().zip(good).filter(|(_, good)| **good);
        self.set_frames(good.map(|(frame, _)| *frame).collect(), checked, rest);
        Ok(())
    }

    /// The recoverable content of a damaged frame: its bytes, or what decodes of its beginning. It is
    /// proven if the index has a matching check of the whole content.
    fn remainder(&self, frame: &Frame, checked: bool) -> Result<Option<Stretch>, Error> {
        let begins = frame.content_offset;
        let (len, from, proof) = if self.codec == Codec::None {
            let size = self.source.size().map_err(Error::Read)?;
            let len = size.saturating_sub(frame.offset);
            let len = len.min(frame.content_len.into());
            (len, From::Plain(frame.offset), Proof::None)
        } else {
            let front = front(&self.source, self.codec, frame)?;
            let whole = front.len() as u64 == u64::from(frame.content_len);
            let right =
                whole && checked && content_check(self.codec, &front) == frame.entry.content_check;
            let proof = match right {
                true => Proof::Checksum,
                false => Proof::None,
            };
            (front.len() as u64, From::Front(*frame), proof)
        };
        Ok((len > 0).then(|| Stretch {
            content: begins..begins.saturating_add(len),
            from,
            proof,
        }))
    }

    fn by_walk(&mut self, runs: Vec<Run>) -> Result<(), Error> {
        for (i, run) in runs.iter().enumerate() {
            for frame in run.frames.iter().filter(|f| !f.good) {
                let region = self.codec.region(frame.number);
                let len = Some(frame.stored_len.into());
                self.note(frame.offset, len, &region, "a frame that does not decode");
            }
            if let Some(found) = &run.stopped {
                let next = runs.get(i + 1).map(|next| next.start - run.end());
                self.note(run.end(), next, "between frames", found);
            }
        }
        let placed = place::frames(&runs, self.stated_len);
        self.unplaced = placed.unplaced;
        self.runs = runs;
        self.set_frames(placed.frames, false, Vec::new());
        Ok(())
    }

    /// Composes the content from `frames`, in ascending order, then from the copy, then from `rest`.
    fn set_frames(&mut self, frames: Vec<Frame>, checked: bool, rest: Vec<Stretch>) {
        let mut pieces: Vec<Piece> = Vec::new();
        for frame in &frames {
            let end = frame.content_offset + u64::from(frame.content_len);
            match pieces.last_mut() {
                Some(last) if last.content.end == frame.content_offset => last.content.end = end,
                _ => pieces.extend(piece(frame.content_offset..end, Proof::Checksum)),
            }
        }
        let source = Arc::clone(&self.source);
        let recovered = Recovered::new(source, self.codec, checked, frames, &self.options);
        self.compose(Arc::new(recovered), &pieces, rest);
    }

    fn compose(&mut self, base: Arc<dyn ReadAt>, pieces: &[Piece], rest: Vec<Stretch>) {
        let copies = self.parts.iter().filter(|part| part.kind == PART_COPY);
        let copies = copies.map(|part| Stretch {
            content: part.offset..part.offset + u64::from(part.content_len),
            from: From::Copy(*part),
            proof: Proof::Checksum,
        });
        let source = Arc::clone(&self.source);
        let mosaic = Mosaic::new(source, self.codec, base, pieces, copies.chain(rest));
        self.pieces = mosaic.pieces();
        self.content = Arc::new(mosaic);
    }

    fn note(&mut self, offset: u64, len: Option<u64>, region: &str, found: &str) {
        if self.damage.len() > DAMAGE_MAX {
            return;
        }
        let last = self.damage.len() == DAMAGE_MAX;
        self.damage.push(Damage {
            region: if last { "and more" } else { region }.into(),
            offset,
            len: len.filter(|_| !last),
            found: if last { "damage" } else { found }.into(),
        });
    }

    fn note_error(&mut self, what: &str, error: &Error) {
        match error {
            Error::Broken {
                region,
                offset,
                found,
                ..
            } => self.note(*offset, None, region, found),
            other => self.note(0, None, what, &other.to_string()),
        }
    }
}

/// Whether an index is probably that of another stream: it has several frames, and none is good.
fn is_foreign(good: &[bool]) -> bool {
    good.len() >= 4 && good.iter().all(|g| !g)
}

fn content_of(frames: &[Frame], good: &[bool]) -> u64 {
    let kept = frames.iter().zip(good).filter(|(_, good)| **good);
    kept.map(|(frame, _)| u64::from(frame.content_len)).sum()
}
