//! What can still be had of a damaged or truncated stream, and where in the content it belongs.
//!
//! A seal's index says where every frame lies, so a frame that is damaged costs itself and nothing
//! else. Without an index the stream is walked by its own structure. Where the walk comes upon
//! something that is no frame, or upon one that does not decode, it looks for the next place at
//! which a frame begins that does (`walk`). What lies between is a *gap*: it is known how many
//! stored bytes it has, and perhaps not how much content those held. Then the frames behind it are
//! good and nobody knows where they belong, until something says how long the content is
//! ([`Salvage::place`]).
//!
//! A stream in one piece, as kernels and savecore(8) write it, cannot be entered in its middle:
//! what decodes before the damage is all there is.
//!
//! Memory is 48 bytes for each frame and a few frames for each thread. Nothing is kept of a frame
//! but that it is good; reading decodes it again.

mod find;
mod mosaic;
mod piece;
mod place;
mod read;
mod walk;
mod window;

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

/// A place where the stored bytes are not what they should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Damage {
    /// The part: `seal`, `zstd frame 12`, `frame 3`.
    pub region: String,
    /// Where it begins in the stream.
    pub offset: u64,
    /// Stored bytes up to where things are right again, if anything is.
    pub len: Option<u64>,
    /// What is there, in words.
    pub found: String,
}

/// A stream, and what of its content can be had.
pub struct Salvage {
    codec: Codec,
    attachment: Option<Vec<u8>>,
    sealed: bool,
    stated_len: Option<u64>,
    damage: Vec<Damage>,
    /// Frames found by walking, between gaps.
    runs: Vec<Run>,
    /// Stored bytes of frames that are good and have no place.
    unplaced: u64,
    pieces: Vec<Piece>,
    /// Parts of the seal that are good.
    parts: Vec<PartAt>,
    content: Arc<dyn ReadAt>,
    source: Arc<dyn ReadAt>,
    options: OpenOptions,
}

/// Whether there is a seal in `source`, or what is left of one: its header with the digest that it
/// states.
///
/// # Errors
///
/// [`Error::Read`].
pub fn has_seal(source: &dyn ReadAt) -> Result<bool, Error> {
    let len = source.size().map_err(Error::Read)?;
    let found = find::seal(source, len)?;
    Ok(found.is_some_and(|seal| seal.parsed.header.seal_start() == Some(seal.start)))
}

/// Damage that is kept; the rest is one more entry without end.
const DAMAGE_MAX: usize = 4096;

impl Salvage {
    /// Looks through all of `source` for what can be had. Decodes everything once.
    ///
    /// # Errors
    ///
    /// [`Error::Read`], [`Error::Write`] of a spool, [`Error::Memory`] of a window that is larger
    /// than the options allow, [`Error::Cancelled`]: never what is wrong with the stream.
    pub fn recover(
        source: Arc<dyn ReadAt>,
        options: &OpenOptions,
        progress: &dyn Progress,
    ) -> Result<Self, Error> {
        let len = source.size().map_err(Error::Read)?;
        let mut salvage = Self {
            codec: find::codec(&*source)?,
            attachment: None,
            sealed: false,
            stated_len: None,
            damage: Vec::new(),
            runs: Vec::new(),
            unplaced: 0,
            pieces: Vec::new(),
            parts: Vec::new(),
            content: Arc::new(Vec::new()),
            source,
            options: options.clone(),
        };
        let sealed = match find::seal(&*salvage.source, len)? {
            Some(found) => salvage.sealed(found, progress)?,
            None => false,
        };
        if !sealed {
            salvage.unsealed(len, progress)?;
        }
        Ok(salvage)
    }

    /// The codec.
    pub fn codec(&self) -> Codec {
        self.codec
    }

    /// Whether there is a seal, or what is left of one.
    pub fn is_sealed(&self) -> bool {
        self.sealed
    }

    /// The attachment of the seal, if it is what its digest says.
    pub fn attachment(&self) -> Option<&[u8]> {
        self.attachment.as_deref()
    }

    /// How long the content was, if a seal says so.
    pub fn stated_len(&self) -> Option<u64> {
        self.stated_len
    }

    /// What is wrong with the stored bytes, by offset.
    pub fn damage(&self) -> &[Damage] {
        &self.damage
    }

    /// What can be had, ascending; pieces that touch and have the same proof are one.
    pub fn pieces(&self) -> &[Piece] {
        &self.pieces
    }

    /// Content bytes that can be had but whose place is not known.
    pub fn unplaced(&self) -> u64 {
        self.unplaced
    }

    /// The content; a read of what was lost is an error.
    pub fn content(&self) -> Arc<dyn ReadAt> {
        Arc::clone(&self.content)
    }

    /// Says how long the content was, which may tell where the frames behind a gap belong.
    pub fn place(&mut self, content_len: u64) {
        if !self.runs.is_empty() {
            let placed = place::frames(&self.runs, Some(content_len));
            self.unplaced = placed.unplaced;
            self.serve(placed.frames, false, Vec::new());
        }
    }

    /// Content under a seal; `false` if that is not this stream's. A seal that does not lie where
    /// its data ends has to prove itself by its frames: the content of a machine that has written
    /// dumps may hold seals.
    fn sealed(&mut self, found: find::Found, progress: &dyn Progress) -> Result<bool, Error> {
        let find::Found {
            codec,
            parsed,
            start,
            table,
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
                let there = walk::check(source, codec, checked, &far, threads, progress)?;
                for ((i, frame), there) in at.into_iter().zip(far).zip(there) {
                    if there {
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
            self.note(start, None, "seal", "a seal whose frames are not here");
            return Ok(false);
        }
        self.codec = codec;
        self.sealed = true;
        self.attachment = parsed.attachment;
        let parts_start = header.stored_len.wrapping_add(shift);
        self.parts = part::search(&*self.source, parts_start, start, shift)?;
        if moved {
            let what = format!("a seal of {:#x} bytes of data", header.stored_len);
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
        // The walk may find what an index of another stream does not.
        let runs = walk::walk(&self.source, codec, header.stored_len, threads, progress)?;
        let walked: u64 = runs.iter().map(Run::content_len).sum();
        match by_table {
            Some((frames, good)) if content_of(&frames, &good) >= walked => {
                self.stated_len = Some(header.content_len);
                self.by_table(&frames, &good, checked)?;
            }
            other => {
                if other.is_some() {
                    self.note(start, None, "seal index", "an index of other frames");
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
            self.note(first, None, "seal", "parts of a seal, and no seal");
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
            codec: self.codec,
            attachment: None,
            sealed: self.sealed,
            stated_len: None,
            damage: Vec::new(),
            runs: Vec::new(),
            unplaced: 0,
            pieces: Vec::new(),
            parts: self.parts.clone(),
            content: Arc::new(Vec::new()),
            source,
            options: self.options.clone(),
        };
        wide.compressed(len, progress)?;
        if wide.kept() > self.kept() {
            let found = "a window that is smaller than the frame needs";
            wide.note(0, None, &self.codec.region(0), found);
            *self = wide;
        }
        Ok(())
    }

    /// Content bytes that can be had.
    fn kept(&self) -> u64 {
        let lens = self.pieces.iter().map(|p| p.content.end - p.content.start);
        lens.sum()
    }

    /// A compressed stream without a seal.
    fn compressed(&mut self, len: u64, progress: &dyn Progress) -> Result<(), Error> {
        if walk::begins_with_small_frame(&*self.source, self.codec, len)? {
            let runs = walk::walk(
                &self.source,
                self.codec,
                len,
                self.options.threads,
                progress,
            )?;
            self.by_walk(runs)?;
            return Ok(());
        }
        // In one piece: what decodes before the damage. The options keep it on disk.
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
            // Nothing is wrong with the stream.
            return Err(limit);
        }
        if let Some(error) = error.as_ref().or(stream.trailing()) {
            self.note_error("stream", error);
        }
        self.content = stream.content();
        self.pieces = piece(0..len, proof);
        progress.advance(len, self.source.size().map_err(Error::Read)?);
        Ok(())
    }

    /// Uncompressed bytes that nothing proves, but for what the copy has of them.
    fn plain(&mut self, len: u64) {
        let there = self.source.size().unwrap_or(0).min(len);
        let plain = Stretch {
            content: 0..there,
            from: From::Plain(0),
            proof: Proof::None,
        };
        if self.parts.is_empty() {
            self.content = Arc::new(Window::new(Arc::clone(&self.source), 0, len));
            self.pieces = piece(0..there, Proof::None);
        } else {
            self.compose(Arc::new(Vec::new()), &[], vec![plain]);
        }
    }

    fn by_table(&mut self, frames: &[Frame], good: &[bool], checked: bool) -> Result<(), Error> {
        let mut rest = Vec::new();
        for (frame, good) in frames.iter().zip(good) {
            if !good {
                let region = self.codec.region(frame.number);
                let len = Some(frame.entry.stored_len.into());
                self.note(frame.offset, len, &region, "other bytes than were stored");
                rest.extend(self.left_of(frame, checked)?);
            }
        }
        let kept = frames.iter().zip(good).filter(|(_, good)| **good);
        self.serve(kept.map(|(frame, _)| *frame).collect(), checked, rest);
        Ok(())
    }

    /// What a damaged frame still gives: the bytes that lie there, or what decodes of its front.
    /// They are proven if they have the check of the whole content that the index keeps.
    fn left_of(&self, frame: &Frame, checked: bool) -> Result<Option<Stretch>, Error> {
        let begins = frame.content_offset;
        let (len, from, proof) = if self.codec == Codec::None {
            let there = self.source.size().map_err(Error::Read)?;
            let len = there.saturating_sub(frame.offset);
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
        self.serve(placed.frames, false, Vec::new());
        Ok(())
    }

    /// Serves these frames, which ascend in the content, then what the copy has, then `rest`.
    fn serve(&mut self, frames: Vec<Frame>, checked: bool, rest: Vec<Stretch>) {
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

/// Whether an index is probably that of another stream: of several frames none is right.
fn is_foreign(good: &[bool]) -> bool {
    good.len() >= 4 && good.iter().all(|g| !g)
}

fn content_of(frames: &[Frame], good: &[bool]) -> u64 {
    let kept = frames.iter().zip(good).filter(|(_, good)| **good);
    kept.map(|(frame, _)| u64::from(frame.content_len)).sum()
}
