//! The message buffer: a ring, followed in a crash dump by `struct msgbuf`.
//!
//! FreeBSD `sys/sys/msgbuf.h`, `sys/kern/subr_msgbuf.c`. The verifier sums the ring and stores only
//! the struct. In a live dump heap garbage follows the ring, so a missing struct is normal.

use livecore_defs::Field;
use livecore_defs::msgbuf::{ILP32, LP64, MSG_MAGIC, MsgbufFields, SEQMOD_RINGS};

use crate::finding::{Location, Sink};
use crate::input::{big, little};
use crate::rules;

/// The state of reading the section.
#[derive(Debug)]
pub(crate) struct Msgbuf {
    /// Size of the ring, from the minidump header.
    size: u64,
    seen: u64,
    sum: u32,
    text: bool,
    /// The last bytes of the ring and the bytes after it, where a struct may be.
    near: Vec<u8>,
    /// Number of bytes of `near` before the end of the ring.
    before: usize,
    fields: &'static MsgbufFields,
    big: bool,
}

impl Msgbuf {
    pub(crate) fn new(size: u64, wide: bool, big: bool) -> Self {
        Self {
            size,
            seen: 0,
            sum: 0,
            text: false,
            near: Vec::new(),
            before: 0,
            fields: if wide { &LP64 } else { &ILP32 },
            big,
        }
    }

    /// Receives the section's next bytes.
    pub(crate) fn feed(&mut self, bytes: &[u8]) {
        let left = usize::try_from(self.size.saturating_sub(self.seen)).unwrap_or(usize::MAX);
        let (ring, after) = bytes.split_at(left.min(bytes.len()));
        for byte in ring {
            self.sum = self.sum.wrapping_add(u32::from(*byte));
            self.text |= *byte != 0;
        }
        let reach = self.fields.sizeof;
        if !ring.is_empty() {
            self.near
                .extend_from_slice(&ring[ring.len().saturating_sub(reach)..]);
            let old = self.near.len().saturating_sub(reach);
            self.near.drain(..old);
            self.before = self.near.len();
        }
        let left = (self.before + 2 * reach).saturating_sub(self.near.len());
        self.near.extend_from_slice(&after[..after.len().min(left)]);
        self.seen += bytes.len() as u64;
    }

    /// The sum of the ring's bytes, modulo 2^32, as in `msg_cksum`.
    pub(crate) fn sum(&self) -> u32 {
        self.sum
    }

    fn number(&self, bytes: &[u8], at: Field) -> u64 {
        match self.big {
            true => big(bytes, at),
            false => little(bytes, at),
        }
    }

    /// Offset of a struct whose `msg_size` equals its offset, near the end of the ring but not at it:
    /// the ring size in the minidump header is wrong.
    fn other_size(&self) -> Option<u64> {
        let fields = self.fields;
        let first = self.size.checked_sub(self.before as u64)?;
        let structs = self.near.windows(fields.sizeof).enumerate();
        let mut found = structs.filter_map(|(i, bytes)| {
            let magic = self.number(bytes, fields.msg_magic);
            let size = self.number(bytes, fields.msg_size);
            let here = first + i as u64;
            (magic == u64::from(MSG_MAGIC) && size == here).then_some(here)
        });
        found.find(|here| *here != self.size)
    }

    /// Applies the rules about the section, which is at payload offset `at`.
    pub(crate) fn check(&self, at: u64, sink: &mut Sink) {
        let place = Location::payload("message buffer", at);
        let text = self.text || self.size == 0;
        sink.check(&rules::MSG_EMPTY, text, &place, |f| {
            f.found(format!("{} bytes, all zero", self.size))
                .expected("messages")
        });
        let start = at + self.size;
        let tail = &self.near[self.before.min(self.near.len())..];
        let number = |f: Field| self.number(tail, f);
        let place = |f: Field| Location::payload("struct msgbuf", start + f.offset as u64);
        let fields = self.fields;
        if let Some(size) = self.other_size() {
            let place = Location::payload("struct msgbuf", at + size);
            sink.broken(&rules::MSG_SIZE, &place, |f| {
                f.found(format!(
                    "a struct msgbuf with msg_size {size} at that offset"
                ))
                .expected(format!("{}, the header's msgbufsize", self.size))
            });
            return;
        }
        if tail.len() < fields.sizeof {
            return;
        }
        let magic = number(fields.msg_magic);
        let known = magic == u64::from(MSG_MAGIC);
        sink.check(&rules::MSG_MAGIC, known, &place(fields.msg_magic), |f| {
            f.found(format!("magic {magic:#x}"))
                .expected(format!("{MSG_MAGIC:#x}"))
        });
        if !known {
            return;
        }
        let size = number(fields.msg_size);
        let right = sink.check(
            &rules::MSG_SIZE,
            size == self.size,
            &place(fields.msg_size),
            |f| {
                f.found(format!("msg_size {size}"))
                    .expected(format!("{}, the header's msgbufsize", self.size))
            },
        );
        if !right {
            return;
        }
        let sum = number(fields.msg_cksum);
        let right = sum == u64::from(self.sum);
        sink.check(&rules::MSG_CHECKSUM, right, &place(fields.msg_cksum), |f| {
            f.found(format!("msg_cksum {sum:#x}"))
                .expected(format!("{:#x}, the sum of the ring's bytes", self.sum))
        });
        let modulus = number(fields.msg_seqmod);
        let expected = size.saturating_mul(SEQMOD_RINGS.into());
        let (write, read) = (number(fields.msg_wseq), number(fields.msg_rseq));
        let right = modulus == expected && write < modulus && read < modulus;
        sink.check(&rules::MSG_SEQUENCE, right, &place(fields.msg_wseq), |f| {
            f.found(format!("wseq {write}, rseq {read}, seqmod {modulus}"))
                .expected(format!("both below seqmod, seqmod {expected}"))
        });
    }
}
