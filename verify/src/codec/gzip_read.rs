//! gzip members inflated.

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
use crate::finding::{Finding, Place};
use crate::input::{Input, hex, number};
use crate::report::Stop;
use crate::rules;
use crate::workers::{self, Pump};

thread_local! {
    /// A worker's engine for members that are right.
    static FAST: RefCell<Decompressor> = RefCell::new(Decompressor::new());
}

/// Deflate makes at most 1032 bytes out of one.
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
    walked.said = walked.unsaid.is_none();
    Ok(walked)
}

struct Walk<'a, 'b>(Frames<'a, 'b, Member>);

struct Job {
    member: Member,
    end: u64,
    content_len: u32,
    bytes: Vec<u8>,
    /// Where the content goes.
    room: Vec<u8>,
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
    /// The deflate stream.
    Body(String),
    /// Where it ends, against where the extra field says.
    Length { found: String, expected: String },
    /// The content's CRC-32.
    Crc { found: u32, expected: u32 },
    /// The content's length modulo 2^32.
    Isize { found: u32, expected: u32 },
    /// The stream ends first.
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
                    let cost = cost(&job.bytes, &job.room);
                    return Ok(Some((job, cost)));
                }
                self.0.large = Some(member);
            }
            other => self.no_member(other)?,
        }
        Ok(None)
    }

    fn work(mut job: Job) -> Done {
        let room = std::mem::take(&mut job.room);
        let content = inflate_whole(&job, room);
        // That of the trailer, with which the content has been compared if it could be had.
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
                self.held();
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
    /// Where `member` ends and how much content it has, if it says so and that can be.
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

    /// `member`, read up to where [`Walk::stated`] says that it ends.
    fn job(&mut self, member: Member, (end, content_len): (u64, u32)) -> Result<Job, Stop> {
        let (input, len) = (self.0.cx.input, (end - member.at) as usize);
        Ok(Job {
            member,
            end,
            content_len,
            bytes: self.0.buffers.filled(input, member.at, len)?,
            room: self.0.buffers.room(content_len.into())?,
        })
    }

    /// What is met where a member could begin and none does.
    fn no_member(&mut self, step: Step) -> Result<(), Stop> {
        match step {
            Step::Member(_) => {}
            Step::Seal { at } => {
                self.0.walked.seal = Some(seal_after(self.0.cx.input, at, self.0.limit)?);
                self.0.end(at);
            }
            Step::End(0) => {
                // The file's end says that it is a stream.
                let bytes = self.0.cx.input.up_to(0, 2)?;
                self.0.malformed(Malformed {
                    at: 0,
                    found: format!("{} at the file's beginning", hex(&bytes)),
                    expected: "1f 8b, which a member begins with".into(),
                });
            }
            Step::End(at) => self.0.end(at),
            Step::Malformed(malformed) => self.0.malformed(malformed),
        }
        Ok(())
    }

    /// Steps over a member that says its length; ends the walk at one that does not.
    ///
    /// A member whose trailer contradicts its extra field is inflated after all.
    fn skim(&mut self, member: &Member) -> Result<(), Stop> {
        if member.lens.is_none() {
            self.0.walked.unsaid.get_or_insert(member.at);
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

    /// Whether the last bytes of a member that is said to end at `end` are the content length that
    /// its extra field says.
    fn trailer_agrees(&self, member: &Member, end: u64) -> Result<bool, Stop> {
        let Some(at) = end.checked_sub(TRAILER).filter(|at| *at >= member.body) else {
            return Ok(false);
        };
        let trailer = trailer_of(&self.0.cx.input.up_to(at, TRAILER as usize)?);
        Ok(trailer.map(|[_, size]| size) == member.lens.map(|lens| lens.1))
    }

    /// Finds out what is wrong with a member that was stepped over, as a walk that inflates every
    /// member does. What it says of its content is not believed.
    fn inflate_doubtful(&mut self, member: Member) -> Result<(), Stop> {
        self.0.walked.lose();
        if let Some(stated) = self.stated(&member) {
            let mut job = self.job(member, stated)?;
            let room = std::mem::take(&mut job.room);
            match inflate_whole(&job, room) {
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

    /// The checks of a member's header, and its count.
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
                let place = Place::file("gzip header", member.at);
                sink.check(rule, member.fixed == KERNEL_HEADER, &place, |f| {
                    f.found(hex(&member.fixed))
                        .expected(hex(&KERNEL_HEADER))
                        .bytes(member.at, &member.fixed)
                });
            }
        }
        if member.lens.is_none() {
            self.0.walked.unsaid.get_or_insert(member.at);
        }
        self.0.count(member.at);
    }

    fn held(&mut self) {
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
        let say = |f: Finding| match fault {
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
        self.0.cx.sink.broken(rule, &Place::file(region, at), say);
    }

    /// Inflates one member piece by piece, and finds out where it ends.
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

    /// Judges a member of `content_len` bytes that was inflated piece by piece; the walk goes on
    /// where it ends.
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
        self.held();
        if let Some((stored, content)) = member.lens {
            let found = (end - member.at, content_len);
            let right = found == (u64::from(stored), u64::from(content));
            let place = Place::file(self.0.this_region(), member.at);
            let sink = &mut *self.0.cx.sink;
            sink.check(&rules::GZIP_LENGTH, right, &place, |f| {
                f.found(format!("{} bytes stored, {} of content", found.0, found.1))
                    .expected(format!("{stored} and {content}, as its extra field says"))
            });
        }
    }
}

/// Inflates a member whose lengths are stated, and compares everything that it says of itself.
fn inflate_whole(job: &Job, mut content: Vec<u8>) -> Result<Vec<u8>, Fault> {
    let header = (job.member.body - job.member.at) as usize;
    let split = job.bytes.len().saturating_sub(TRAILER as usize);
    let (body, trailer) = job.bytes.split_at(split.max(header));
    let body = &body[header..];
    let [crc, size] = trailer_of(trailer).ok_or(Fault::Truncated)?;
    let wanted = job.content_len as usize;
    // `stated` has seen that a body of this length can hold so much.
    content.reserve_exact(wanted);
    content.resize(wanted, 0);
    // The fast way says no more than whether all is right; what is wrong the other way tells.
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
                "{} bytes inflate to {}, then {status:?}",
                lengths.0, lengths.1
            ),
            expected: format!("{} bytes to inflate to {wanted}, then the end", body.len()),
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

/// Where the seal begins, the first of whose members, or of the parts in front of it, is at `from`.
fn seal_after(input: &Input, from: u64, limit: u64) -> Result<u64, Stop> {
    let mut at = from;
    while input.array(at + GZIP_SUBFIELD_AT)? == Some(PART_MAGIC) {
        let len = input.up_to(at + GZIP_SUBFIELD_AT - 2, 2)?;
        // The deflate stream of nothing, and its trailer.
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

/// Inflates `member`, which ends at `limit` at the latest, and hands its content and the stored
/// bytes behind it to `take` until that says `false`. The inner result says where it ends.
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
                return Ok(Err((at, Fault::Body("it does not go on".into()))));
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
