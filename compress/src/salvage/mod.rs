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
mod place;
mod read;
mod walk;

use std::ops::Range;
use std::sync::Arc;

use crate::stream::OpenOptions;
use crate::table::Frame;
use crate::{Codec, Error, Progress, ReadAt, Stream, Window};

use place::Run;
use read::Recovered;

/// What says that a piece of content is what was stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Proof {
    /// Nothing: uncompressed bytes without an index, or a stream whose end is lost and with it its
    /// checksum.
    None,
    /// The frame's own checksum, or its digest in a seal's index.
    Checksum,
}

/// A piece of content that can be had.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Piece {
    /// Where in the content.
    pub content: Range<u64>,
    /// What says that it is right.
    pub proof: Proof,
}

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
    Ok(found.is_some_and(|seal| seal.start == seal.parsed.header.stored_len))
}

/// Damage that is kept; the rest is one more entry without end.
const DAMAGE_MAX: usize = 4096;

impl Salvage {
    /// Looks through all of `source` for what can be had. Decodes everything once.
    ///
    /// # Errors
    ///
    /// [`Error::Read`], [`Error::Write`] of a spool, [`Error::Cancelled`]: never what is wrong with
    /// the stream.
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
            self.serve(placed.frames, false);
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
        let moved = start != header.stored_len;
        let checked = parsed.table.is_some();
        let mut by_table = None;
        if let Some(table) = parsed.table.or(table) {
            let mut frames: Vec<_> = (0..table.count()).filter_map(|n| table.get(n)).collect();
            let source = &self.source;
            let mut good = walk::check(source, codec, checked, &frames, threads, progress)?;
            if moved {
                let shift = start.wrapping_sub(header.stored_len);
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
            self.by_table(frames, good, checked);
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
                self.by_table(&frames, &good, checked);
            }
            other => {
                if other.is_some() {
                    self.note(start, None, "seal index", "an index of other frames");
                } else {
                    self.stated_len = Some(header.content_len);
                }
                self.by_walk(runs);
            }
        }
        Ok(true)
    }

    fn unsealed(&mut self, len: u64, progress: &dyn Progress) -> Result<(), Error> {
        if self.codec == Codec::None {
            self.plain(len);
            return Ok(());
        }
        if walk::begins_with_small_frame(&*self.source, self.codec, len)? {
            let runs = walk::walk(
                &self.source,
                self.codec,
                len,
                self.options.threads,
                progress,
            )?;
            self.by_walk(runs);
            return Ok(());
        }
        // In one piece: what decodes before the damage. The options keep it on disk.
        let stream = Stream::from_source(Arc::clone(&self.source), &self.options)?;
        let (len, error) = stream.readable()?;
        let proof = match &error {
            Some(_) => Proof::None,
            None => Proof::Checksum,
        };
        if let Some(error) = error {
            self.note_error("stream", &error);
        }
        self.content = stream.content();
        self.pieces = piece(0..len, proof);
        progress.advance(len, self.source.size().map_err(Error::Read)?);
        Ok(())
    }

    /// Uncompressed bytes that nothing proves.
    fn plain(&mut self, len: u64) {
        self.content = Arc::new(Window::new(Arc::clone(&self.source), 0, len));
        let there = self.source.size().unwrap_or(0).min(len);
        self.pieces = piece(0..there, Proof::None);
    }

    fn by_table(&mut self, frames: &[Frame], good: &[bool], checked: bool) {
        for (frame, good) in frames.iter().zip(good) {
            if !good {
                let region = self.codec.region(frame.number);
                let len = Some(frame.entry.stored_len.into());
                self.note(frame.offset, len, &region, "other bytes than were stored");
            }
        }
        let kept = frames.iter().zip(good).filter(|(_, good)| **good);
        self.serve(kept.map(|(frame, _)| *frame).collect(), checked);
    }

    fn by_walk(&mut self, runs: Vec<Run>) {
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
        self.serve(placed.frames, false);
    }

    /// Serves these frames, which ascend in the content.
    fn serve(&mut self, frames: Vec<Frame>, checked: bool) {
        self.pieces.clear();
        for frame in &frames {
            let end = frame.content_offset + u64::from(frame.content_len);
            match self.pieces.last_mut() {
                Some(last) if last.content.end == frame.content_offset => last.content.end = end,
                _ => self
                    .pieces
                    .extend(piece(frame.content_offset..end, Proof::Checksum)),
            }
        }
        let source = Arc::clone(&self.source);
        let recovered = Recovered::new(source, self.codec, checked, frames, &self.options);
        self.content = Arc::new(recovered);
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

fn piece(content: Range<u64>, proof: Proof) -> Vec<Piece> {
    match content.is_empty() {
        true => Vec::new(),
        false => vec![Piece { content, proof }],
    }
}
