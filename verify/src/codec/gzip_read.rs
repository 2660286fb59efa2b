//! Inflating and checks of gzip members.

use std::cell::RefCell;

use flate2::{Decompress, FlushDecompress, Status};
use libdeflater::Decompressor;
use livecore_compress::seal::format::{GZIP_SUBFIELD_AT, PART_MAGIC};

use super::buffers::cost;
use super::content::Context;
use super::frames::{Frames, Words};
use super::gzip::{KERNEL_HEADER, Member, Step, TRAILER, step};
use super::walked::{CONTENT_MAX, Derived, Malformed, PIECE, STORED_MAX, Walked, stored_check};
use crate::container::Layout;
use crate::facts::Container;
use crate::finding::{Finding, Location};
use crate::input::{Input, hex, number};
use crate::report::Stop;
use crate::rules;
use crate::workers::{self, Pump};

thread_local! {
    /// A worker's fast decoder, which reports no details of an error.
    static FAST: RefCell<Decompressor> = RefCell::new(Decompressor::new());
}

/// One byte of a deflate stream inflates to at most 1032 bytes.
const RATIO_MAX: u64 = 1032;

static WORDS: Words = Words {
    frame: "gzip member",
    stream: "gzip stream",
    frames: "members",
    one: "one member, as a kernel writes",
    malformed: &rules::GZIP_HEADER,
};

/// Walks, inflates and checks all members of `layout`.
pub(super) fn walk(layout: &Layout, cx: &mut Context<'_>) -> Result<Walked, Stop> {
    let (threads, memory) = (cx.options.threads, cx.frame_memory());
    let mut walk = Walk(Frames::new(layout, &WORDS, cx));
    while !walk.0.ended {
        workers::run(&mut walk, threads, memory)?;
        if let Some(member) = walk.0.large.take() {
            walk.inflate_large(member)?;
        }
    }
    let mut walked = walk.0.finish(layout)?;
    walked.has_lengths = walked.without_length.is_none();
    Ok(walked)
}

struct Walk<'a, 'b>(Frames<'a, 'b, Member>);

struct Job {
    member: Member,
    end: u64,
    content_len: u32,
    bytes: Vec<u8>,
    output: Vec<u8>,
}

struct Done {
    bytes: Vec<u8>,
    member: Member,
    end: u64,
    content_len: u32,
    crc: u32,
    stored_check: u32,
    content: Result<Vec<u8>, Fault>,
}

/// What is wrong with a member.
#[derive(Debug)]
enum Fault {
    /// The deflate stream does not inflate.
    Body(String),
    /// The lengths differ from those in the extra field.
    Length { found: String, expected: String },
    /// The content's CRC-32 differs from the trailer's.
    Crc { found: u32, expected: u32 },
    /// The content's length modulo 2^32 differs from the trailer's.
    Isize { found: u32, expected: u32 },
    /// The stream ends within the member.
    Truncated,
}

impl Pump for Walk<'_, '_> {
    type Job = Job;
    type Done = Done;

    fn next_job(&mut self) -> Result<Option<(Job, u64)>, Stop> {
        while self.0.walked.skimmed && !self.0.ended {
            match step(self.0.cx.input, self.0.at, self.0.limit)? {
                Step::Member(member) => {
                    self.0.walked.frames += 1;
                    self.skim(&member)?;
                }
                other => self.no_member(other)?,
            }
        }
        if self.0.ended || self.0.large.is_some() {
            return Ok(None);
        }
        match step(self.0.cx.input, self.0.at, self.0.limit)? {
            Step::Member(member) => {
                let stated = self.stated(&member).filter(|_| !self.0.cx.quick());
                if let Some(stated) = stated {
                    self.0.at = stated.0;
                    let job = self.job(member, stated)?;
                    let cost = cost(&job.bytes, &job.output);
                    return Ok(Some((job, cost)));
                }
                self.0.large = Some(member);
            }
            other => self.no_member(other)?,
        }
        Ok(None)
    }

    fn work(mut job: Job) -> Done {
        let output = std::mem::take(&mut job.output);
        let content = inflate_whole(&job, output);
        // The trailer's CRC; `inflate_whole` has compared it with the content's.
        let trailer = job.bytes.len().saturating_sub(TRAILER as usize);
        let crc = trailer_of(&job.bytes[trailer..]).map_or(0, |[crc, _]| crc);
        Done {
            member: job.member,
            end: job.end,
            content_len: job.content_len,
            crc,
            stored_check: stored_check(&job.bytes),
            content,
            bytes: job.bytes,
        }
    }

    fn done(&mut self, done: Done) -> Result<(), Stop> {
        let stored = done.end - done.member.at;
        self.begin(&done.member);
        let derived = Derived {
            // STORED_MAX is far below 2^32.
            stored_len: stored as u32,
            content_check: done.crc,
            stored_check: done.stored_check,
            content_len: done.content_len,
        };
        self.0.walked.derive(self.0.cx.options.memory, derived)?;
        let content_len = u64::from(done.content_len);
        self.0.buffers.give(done.bytes);
        match done.content {
            Ok(content) => {
                self.passed();
                self.0.cx.intake.push(&content, self.0.cx.sink)?;
                self.0.buffers.give(content);
            }
            Err(fault) => {
                self.damaged(&done.member, done.end, &fault);
                self.0.cx.intake.gap(Some(content_len), self.0.cx.sink);
            }
        }
        self.0.walked.add(Some(content_len));
        self.0.cx.advance(content_len, stored)
    }
}

impl Walk<'_, '_> {
    /// End and content length of `member`, if it states them and they are possible.
    fn stated(&self, member: &Member) -> Option<(u64, u32)> {
        let (stored, content) = member.lens?;
        let end = member.at.checked_add(stored.into())?;
        let body = u64::from(stored).checked_sub(member.body - member.at + TRAILER)?;
        let most = self.0.cx.frame_memory().min(CONTENT_MAX);
        (end <= self.0.limit
            && u64::from(stored) <= STORED_MAX.min(most)
            && u64::from(content) <= most
            && u64::from(content) <= body.saturating_mul(RATIO_MAX))
        .then_some((end, content))
    }

    /// Reads `member` up to the end that [`Walk::stated`] returned.
    fn job(&mut self, member: Member, (end, content_len): (u64, u32)) -> Result<Job, Stop> {
        let (input, len) = (self.0.cx.input, (end - member.at) as usize);
        Ok(Job {
            member,
            end,
            content_len,
            bytes: self.0.buffers.filled(input, member.at, len)?,
            output: self.0.buffers.with_capacity(content_len.into())?,
        })
    }

    /// Handles a step that is not a member.
    fn no_member(&mut self, step: Step) -> Result<(), Stop> {
        match step {
            Step::Member(_) => {}
            Step::Seal { at } => {
                self.0.walked.seal = Some(seal_after(self.0.cx.input, at, self.0.limit)?);
                self.0.end(at);
            }
            Step::End(0) => {
                // The end of the file is that of a sealed gzip stream.
                let bytes = self.0.cx.input.up_to(0, 2)?;
                self.0.malformed(Malformed {
                    at: 0,
                    found: format!("{} at the beginning of the file", hex(&bytes)),
                    expected: "1f 8b, the magic of a member".into(),
                });
            }
            Step::End(at) => self.0.end(at),
            Step::Malformed(malformed) => self.0.malformed(malformed),
        }
        Ok(())
    }

    /// Skips a member that states its length; ends the walk at one that does not.
    ///
    /// A member whose trailer contradicts its extra field is inflated.
    fn skim(&mut self, member: &Member) -> Result<(), Stop> {
        if member.lens.is_none() {
            self.0.walked.without_length.get_or_insert(member.at);
        }
        let end = member.lens.and_then(|l| member.at.checked_add(l.0.into()));
        self.0.walked.add(member.lens.map(|lens| lens.1.into()));
        let Some(end) = end else {
            self.0.walked.complete = false;
            self.0.end(self.0.limit);
            return Ok(());
        };
        self.0.at = end;
        match end <= self.0.limit && self.trailer_agrees(member, end)? {
            true => Ok(()),
            false => self.inflate_doubtful(*member),
        }
    }

    /// Whether the trailer before `end` states the same content length as the member's extra field.
    fn trailer_agrees(&self, member: &Member, end: u64) -> Result<bool, Stop> {
        let Some(at) = end.checked_sub(TRAILER).filter(|at| *at >= member.body) else {
            return Ok(false);
        };
        let trailer = trailer_of(&self.0.cx.input.up_to(at, TRAILER as usize)?);
        Ok(trailer.map(|[_, size]| size) == member.lens.map(|lens| lens.1))
    }

    /// Inflates a member that was skipped, to report what is wrong with it. Its stated lengths are
    /// not trusted.
    fn inflate_doubtful(&mut self, member: Member) -> Result<(), Stop> {
        self.0.walked.lose();
        if let Some(stated) = self.stated(&member) {
            let mut job = self.job(member, stated)?;
            let output = std::mem::take(&mut job.output);
            match inflate_whole(&job, output) {
                Ok(content) => self.0.buffers.give(content),
                Err(fault) => self.damaged(&member, job.end, &fault),
            }
            self.0.buffers.give(job.bytes);
            return Ok(());
        }
        let (cx, mut content_len) = (&*self.0.cx, 0);
        let outcome = inflate(cx.input, &member, self.0.limit, &mut |content, stored| {
            content_len += content.len() as u64;
            cx.advance(content.len() as u64, stored)?;
            Ok(true)
        })?;
        self.inflated(&member, outcome, content_len);
        Ok(())
    }

    /// Checks a member's header, and counts the member.
    fn begin(&mut self, member: &Member) {
        let sink = &mut *self.0.cx.sink;
        sink.passed(&rules::GZIP_HEADER);
        if self.0.walked.frames == 0 {
            let rule = match self.0.container {
                Container::Raw | Container::DumpDevice => Some(&rules::GZIP_KERNEL_HEADER),
                Container::Saved if member.lens.is_none() => Some(&rules::GZIP_FOREIGN_HEADER),
                _ => None,
            };
            if let Some(rule) = rule {
                let place = Location::file("gzip header", member.at);
                sink.check(rule, member.fixed == KERNEL_HEADER, &place, |f| {
                    f.found(hex(&member.fixed))
                        .expected(hex(&KERNEL_HEADER))
                        .bytes(member.at, &member.fixed)
                });
            }
        }
        if member.lens.is_none() {
            self.0.walked.without_length.get_or_insert(member.at);
        }
        self.0.count(member.at);
    }

    fn passed(&mut self) {
        for rule in [
            &rules::GZIP_CONTENT,
            &rules::GZIP_CRC,
            &rules::GZIP_ISIZE,
            &rules::GZIP_TRUNCATED,
        ] {
            self.0.cx.sink.passed(rule);
        }
    }

    fn damaged(&mut self, member: &Member, end: u64, fault: &Fault) {
        self.0.walked.lose();
        let region = self.0.this_region();
        let trailer = end.saturating_sub(TRAILER);
        let (rule, at) = match fault {
            Fault::Body(_) => (&rules::GZIP_CONTENT, member.body),
            Fault::Length { .. } => (&rules::GZIP_LENGTH, member.at),
            Fault::Crc { .. } => (&rules::GZIP_CRC, trailer),
            Fault::Isize { .. } => (&rules::GZIP_ISIZE, trailer + 4),
            Fault::Truncated => (&rules::GZIP_TRUNCATED, member.at),
        };
        let limit = self.0.limit;
        let describe = |f: Finding| match fault {
            Fault::Body(why) => f
                .found(format!("a deflate stream that does not inflate: {why}"))
                .expected("content"),
            Fault::Length { found, expected } => f.found(found).expected(expected),
            Fault::Crc { found, expected } => f
                .found(format!("content with CRC-32 {found:#010x}"))
                .expected(format!("{expected:#010x}")),
            Fault::Isize { found, expected } => f
                .found(format!("{found} bytes of content, modulo 2^32"))
                .expected(expected.to_string()),
            Fault::Truncated => f
                .found(format!("the stream ends at {limit:#x}"))
                .expected("the end of the member before that"),
        };
        self.0
            .cx
            .sink
            .broken(rule, &Location::file(region, at), describe);
    }

    /// Inflates one member piece by piece, which finds its end.
    fn inflate_large(&mut self, member: Member) -> Result<(), Stop> {
        self.begin(&member);
        let cx = &mut *self.0.cx;
        let quick = cx.quick();
        let (mut content_len, mut stopped) = (0_u64, false);
        let outcome = inflate(cx.input, &member, self.0.limit, &mut |content, stored| {
            content_len += content.len() as u64;
            cx.intake.push(content, cx.sink)?;
            cx.advance(content.len() as u64, stored)?;
            stopped = quick && cx.intake.has_sections();
            Ok(!stopped)
        })?;
        if stopped {
            self.0.walked.skimmed = true;
            self.0.walked.whole = false;
            return self.skim(&member);
        }
        self.0.walked.add(Some(content_len));
        self.inflated(&member, outcome, content_len);
        Ok(())
    }

    /// Reports the outcome of a member of `content_len` bytes that was inflated piece by piece, and
    /// continues the walk at its end.
    fn inflated(&mut self, member: &Member, outcome: Result<u64, (u64, Fault)>, content_len: u64) {
        let (end, fault) = match outcome {
            Ok(end) => (end, None),
            Err((end, fault)) => (end, Some(fault)),
        };
        self.0.at = end;
        if let Some(fault) = fault {
            self.damaged(member, end, &fault);
            if !matches!(fault, Fault::Crc { .. } | Fault::Isize { .. }) {
                self.0.cx.intake.gap(None, self.0.cx.sink);
                self.0.end(self.0.limit);
            }
            return;
        }
        self.passed();
        if let Some((stored, content)) = member.lens {
            let found = (end - member.at, content_len);
            let right = found == (u64::from(stored), u64::from(content));
            let place = Location::file(self.0.this_region(), member.at);
            let sink = &mut *self.0.cx.sink;
            sink.check(&rules::GZIP_LENGTH, right, &place, |f| {
                f.found(format!("{} bytes stored, {} of content", found.0, found.1))
                    .expected(format!("{stored} and {content}, from its extra field"))
            });
        }
    }
}

/// Inflates a member that states its lengths, and compares lengths and CRC-32.
fn inflate_whole(job: &Job, mut content: Vec<u8>) -> Result<Vec<u8>, Fault> {
    let header = (job.member.body - job.member.at) as usize;
    let split = job.bytes.len().saturating_sub(TRAILER as usize);
    let (body, trailer) = job.bytes.split_at(split.max(header));
    let body = &body[header..];
    let [crc, size] = trailer_of(trailer).ok_or(Fault::Truncated)?;
    let wanted = job.content_len as usize;
    // `stated` has checked that a body of this length can inflate to that many bytes.
    content.reserve_exact(wanted);
    content.resize(wanted, 0);
    // The fast decoder reports only success; on failure the slow one finds what is wrong.
    let fast = FAST.with_borrow_mut(|engine| engine.gzip_decompress(&job.bytes, &mut content));
    if fast == Ok(wanted) && crc32fast::hash(&content) == crc && job.content_len == size {
        return Ok(content);
    }
    content.clear();
    content.reserve_exact(wanted.max(1));
    let mut inflater = Decompress::new(false);
    let status = inflater
        .decompress_vec(body, &mut content, FlushDecompress::Finish)
        .map_err(|e| Fault::Body(e.to_string()))?;
    let lengths = (inflater.total_in() as usize, content.len());
    if status != Status::StreamEnd || lengths != (body.len(), wanted) {
        return Err(Fault::Length {
            found: format!(
                "{} bytes that inflate to {}, with status {status:?}",
                lengths.0, lengths.1
            ),
            expected: format!(
                "{} bytes that inflate to {wanted}, with status StreamEnd",
                body.len()
            ),
        });
    }
    let found = crc32fast::hash(&content);
    if found != crc {
        return Err(Fault::Crc {
            found,
            expected: crc,
        });
    }
    if job.content_len != size {
        return Err(Fault::Isize {
            found: job.content_len,
            expected: size,
        });
    }
    Ok(content)
}

/// Start of the seal. The member at `from` is the seal's first, or that of the parts before it.
fn seal_after(input: &Input, from: u64, limit: u64) -> Result<u64, Stop> {
    let mut at = from;
    while input.array(at + GZIP_SUBFIELD_AT)? == Some(PART_MAGIC) {
        let len = input.up_to(at + GZIP_SUBFIELD_AT - 2, 2)?;
        // An empty deflate stream and its trailer.
        at += GZIP_SUBFIELD_AT + number(&len, 0, 2) + 2 + TRAILER;
        if !matches!(step(input, at, limit)?, Step::Seal { .. }) {
            return Ok(from);
        }
    }
    Ok(at)
}

/// CRC-32 and length at the beginning of `bytes`.
fn trailer_of(bytes: &[u8]) -> Option<[u32; 2]> {
    let (crc, rest) = bytes.split_first_chunk::<4>()?;
    let size = rest.first_chunk::<4>()?;
    Some([u32::from_le_bytes(*crc), u32::from_le_bytes(*size)])
}

/// Inflates `member`, up to `limit`. Passes its content, and the number of stored bytes used, to
/// `take` until it returns `false`. The inner result is the member's end.
#[expect(
    clippy::type_complexity,
    reason = "a sink of pieces reads better in place"
)]
fn inflate(
    input: &Input,
    member: &Member,
    limit: u64,
    take: &mut dyn FnMut(&[u8], u64) -> Result<bool, Stop>,
) -> Result<Result<u64, (u64, Fault)>, Stop> {
    let mut inflater = Decompress::new(false);
    let mut stored = vec![0; PIECE];
    let mut content = vec![0; PIECE];
    let (mut crc, mut size) = (crc32fast::Hasher::new(), 0_u64);
    let mut at = member.body;
    'pieces: loop {
        let want = usize::try_from(limit.saturating_sub(at)).unwrap_or(usize::MAX);
        let got = input.read(&mut stored[..want.min(PIECE)], at)?;
        if got == 0 {
            return Ok(Err((limit, Fault::Truncated)));
        }
        let mut used = 0;
        loop {
            let (before_in, before_out) = (inflater.total_in(), inflater.total_out());
            let status =
                inflater.decompress(&stored[used..got], &mut content, FlushDecompress::None);
            let status = match status {
                Ok(status) => status,
                Err(e) => return Ok(Err((at + used as u64, Fault::Body(e.to_string())))),
            };
            let read = (inflater.total_in() - before_in) as usize;
            let filled = (inflater.total_out() - before_out) as usize;
            used += read;
            crc.update(&content[..filled]);
            size += filled as u64;
            if !take(&content[..filled], read as u64)? {
                return Ok(Ok(at + used as u64));
            }
            if status == Status::StreamEnd {
                at += used as u64;
                break 'pieces;
            }
            if used == got && filled < PIECE {
                break;
            }
            if read == 0 && filled == 0 {
                return Ok(Err((
                    at,
                    Fault::Body("the decoder makes no progress".into()),
                )));
            }
        }
        at += got as u64;
    }
    let end = at + TRAILER;
    let trailer = input.up_to(at, TRAILER as usize)?;
    let Some([stated_crc, stated_size]) = trailer_of(&trailer).filter(|_| end <= limit) else {
        return Ok(Err((limit, Fault::Truncated)));
    };
    let found = crc.finalize();
    if found != stated_crc {
        let expected = stated_crc;
        return Ok(Err((end, Fault::Crc { found, expected })));
    }
    if size as u32 != stated_size {
        let (found, expected) = (size as u32, stated_size);
        return Ok(Err((end, Fault::Isize { found, expected })));
    }
    Ok(Ok(end))
}

/// See [`super::replay`].
pub(super) fn replay(
    input: &Input,
    from: u64,
    end: u64,
    take: &mut dyn FnMut(&[u8]) -> bool,
) -> Result<(), Stop> {
    let mut at = from;
    let mut more = true;
    while more {
        let Step::Member(member) = step(input, at, end)? else {
            return Ok(());
        };
        let outcome = inflate(input, &member, end, &mut |content, _| {
            more = take(content);
            Ok(more)
        })?;
        match outcome {
            Ok(next) => at = next,
            Err(_) => return Ok(()),
        }
    }
    Ok(())
}
