//! `struct msgbuf`, which `msgbufinit` places after its ring.
//!
//! FreeBSD `sys/sys/msgbuf.h`, `sys/kern/subr_msgbuf.c`. In a crash dump the struct is at offset
//! `msgbufsize` of the message buffer's section; in a live dump those bytes are heap garbage.

use crate::{Field, at};

/// `MSG_MAGIC`
pub const MSG_MAGIC: u32 = 0x06_3062;

/// The fields of `struct msgbuf`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MsgbufFields {
    /// Address of the ring.
    pub msg_ptr: Field,
    /// [`MSG_MAGIC`].
    pub msg_magic: Field,
    /// Size of the ring.
    pub msg_size: Field,
    /// Sequence number of the next byte to write; its offset in the ring is this modulo `msg_size`.
    pub msg_wseq: Field,
    /// Sequence number of the next byte for syslogd(8).
    pub msg_rseq: Field,
    /// Sum of the ring's bytes, modulo 2^32.
    pub msg_cksum: Field,
    /// Modulus of sequence numbers: [`SEQMOD_RINGS`] times `msg_size`.
    pub msg_seqmod: Field,
    /// The last priority, or -1.
    pub msg_lastpri: Field,
    /// [`MSGBUF_NEEDNL`], [`MSGBUF_WRAP`]
    pub msg_flags: Field,
    /// `sizeof(struct msgbuf)`
    pub sizeof: usize,
}

/// 64-bit kernels.
pub const LP64: MsgbufFields = MsgbufFields {
    msg_ptr: at(0, 8),
    msg_magic: at(8, 4),
    msg_size: at(12, 4),
    msg_wseq: at(16, 4),
    msg_rseq: at(20, 4),
    msg_cksum: at(24, 4),
    msg_seqmod: at(28, 4),
    msg_lastpri: at(32, 4),
    msg_flags: at(36, 4),
    sizeof: 72,
};

/// 32-bit kernels.
pub const ILP32: MsgbufFields = MsgbufFields {
    msg_ptr: at(0, 4),
    msg_magic: at(4, 4),
    msg_size: at(8, 4),
    msg_wseq: at(12, 4),
    msg_rseq: at(16, 4),
    msg_cksum: at(20, 4),
    msg_seqmod: at(24, 4),
    msg_lastpri: at(28, 4),
    msg_flags: at(32, 4),
    sizeof: 56,
};

/// `msg_seqmod` divided by `msg_size`.
pub const SEQMOD_RINGS: u32 = 16;
/// `msg_flags`: the last line lacks its newline.
pub const MSGBUF_NEEDNL: u32 = 1;
/// `msg_flags`, newer kernels: the ring has wrapped.
pub const MSGBUF_WRAP: u32 = 2;
/// Default size of a message buffer, including `struct msgbuf`.
pub const DEFAULT_MSGBUF_SIZE: usize = 98304;
