//! The message buffer: a ring, and in a crash dump `struct msgbuf` right behind it.
//!
//! FreeBSD `sys/sys/msgbuf.h`, `sys/kern/subr_msgbuf.c`. The ring is summed while it goes by; only
//! the struct is kept. In a live dump the bytes behind the ring are heap rubbish, so a struct that
//! is not there proves nothing.

use livecore_defs::Field;
use livecore_defs::msgbuf::{ILP32, LP64, MSG_MAGIC, MsgbufFields, SEQMOD_RINGS};

use crate::finding::{Place, Sink};
use crate::input::{big, little};
use crate::rules;

/// What is kept of the section.
#[derive(Debug)]
pub(crate) struct Msgbuf {
    /// Bytes of the ring, from the minidump header.
    size: u64,
    seen: u64,
    sum: u32,
    text: bool,
    tail: Vec<u8>,
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
            tail: Vec::new(),
            fields: if wide { &LP64 } else { &ILP32 },
            big,
        }
    }

    /// Takes the section's next bytes.
    pub(crate) fn feed(&mut self, bytes: &[u8]) {
        let left = usize::try_from(self.size.saturating_sub(self.seen)).unwrap_or(usize::MAX);
        let (ring, behind) = bytes.split_at(left.min(bytes.len()));
        for byte in ring {
            self.sum = self.sum.wrapping_add(u32::from(*byte));
            self.text |= *byte != 0;
        }
        let room = self.fields.sizeof - self.tail.len();
        self.tail
            .extend_from_slice(&behind[..behind.len().min(room)]);
        self.seen += bytes.len() as u64;
    }

    /// The sum of the ring's bytes, modulo 2^32: what `msg_cksum` is.
    pub(crate) fn sum(&self) -> u32 {
        self.sum
    }

    /// Applies the rules about a section that begins at payload offset `at`.
    pub(crate) fn check(&self, at: u64, sink: &mut Sink) {
        let place = Place::payload("message buffer", at);
        let text = self.text || self.size == 0;
        sink.check(&rules::MSG_EMPTY, text, &place, |f| {
            f.found(format!("{} bytes, all zero", self.size))
                .expected("the messages of a kernel that has started")
        });
        let start = at + self.size;
        let number = |f: Field| {
            if self.big {
                big(&self.tail, f)
            } else {
                little(&self.tail, f)
            }
        };
        let place = |f: Field| Place::payload("struct msgbuf", start + f.offset as u64);
        let fields = self.fields;
        if self.tail.len() < fields.sizeof {
            return;
        }
        let magic = number(fields.msg_magic);
        let known = magic == u64::from(MSG_MAGIC);
        sink.check(&rules::MSG_MAGIC, known, &place(fields.msg_magic), |f| {
            f.found(format!("magic {magic:#x}"))
                .expected(format!("{MSG_MAGIC:#x}"))
                .bytes(start, &self.tail)
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
