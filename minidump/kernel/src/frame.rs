//! A frame of a backtrace.

use std::fmt;

use livecore_defs::text::printable;

use crate::error::KernelError;
use crate::trap::Trap;

/// The most frames that are followed.
pub(crate) const FOLLOWED: usize = 4096;
/// The most frames of a backtrace that is given whole.
pub const LIMIT: usize = 256;
/// Of a longer one, how many are given at each end.
pub const ENDS: usize = 100;

/// Why a backtrace goes no further than its last frame, where that is neither where a thread begins
/// nor where it came from user mode.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum End {
    /// The frame pointer is zero.
    NoFrame,
    /// The frame pointer is not a multiple of the word's size.
    Unaligned,
    /// The frame pointer is an address of user mode.
    UserFrame(u64),
    /// The frame cannot be read; why.
    Unreadable(String),
    /// The return address is zero.
    ReturnsToZero,
    /// No code can be at the return address.
    NotCode(u64),
    /// The caller's frame, here, is not above this one.
    NotAbove(u64),
    /// The caller's frame, here, is one of those before.
    Again(u64),
    /// The trap frame cannot be read.
    NoTrapFrame,
    /// There are more frames than are followed.
    Limit,
    /// The stack pointer is not aligned (mips).
    StackPointer,
    /// The code that would tell where the frame is cannot be read (mips).
    NoCode,
    /// The function saves no return address (mips).
    SavesNone,
    /// The frame is its caller's (mips).
    Same,
}

impl From<KernelError> for End {
    fn from(error: KernelError) -> Self {
        Self::Unreadable(match error {
            KernelError::Unreadable { source, .. } => source.to_string(),
            other => other.to_string(),
        })
    }
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoFrame => f.write_str("its frame pointer is zero"),
            Self::Unaligned => f.write_str("its frame pointer is not aligned"),
            Self::UserFrame(at) => write!(f, "its frame pointer {at:#x} is user mode's"),
            Self::Unreadable(why) => write!(f, "its frame cannot be read: {why}"),
            Self::ReturnsToZero => f.write_str("its return address is zero"),
            Self::NotCode(at) => write!(f, "its return address {at:#x} is not code"),
            Self::NotAbove(at) => write!(f, "its caller's frame {at:#x} is not above it"),
            Self::Again(at) => write!(f, "its caller's frame {at:#x} was there before"),
            Self::NoTrapFrame => f.write_str("its trap frame cannot be read"),
            Self::Limit => write!(f, "more than {FOLLOWED} frames"),
            Self::StackPointer => f.write_str("its stack pointer is not aligned"),
            Self::NoCode => f.write_str("its code cannot be read, which tells where its frame is"),
            Self::SavesNone => f.write_str("it saves no return address"),
            Self::Same => f.write_str("its frame is its caller's"),
        }
    }
}

/// One frame, innermost first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// The program counter: the registers' own, then return addresses.
    pub pc: u64,
    /// The frame pointer while it runs.
    pub fp: u64,
    /// The function it lies in, and how far. A return address belongs to the function that calls,
    /// even where the call is its last instruction.
    pub function: Option<(String, u64)>,
    /// The trap that led from the next frame to this one, a trap's entry.
    pub trap: Option<Trap>,
    /// Why the backtrace goes no further; `None` where a thread begins, or came from user mode.
    pub ends: Option<End>,
    /// Frames that are left out before this one, in a backtrace of more than [`LIMIT`].
    pub omitted: usize,
}

impl fmt::Display for Frame {
    /// `0xffffffff80c09ade kdb_enter+0x3e`, with control characters of the name escaped.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}", self.pc)?;
        let Some((name, offset)) = &self.function else {
            return Ok(());
        };
        write!(f, " {}+{offset:#x}", printable(name))
    }
}

/// The frames of a backtrace, without those in the middle of a long one.
pub(crate) fn shortened(mut frames: Vec<Frame>) -> Vec<Frame> {
    if frames.len() >= FOLLOWED
        && let Some(last) = frames.last_mut()
    {
        last.ends = Some(End::Limit);
    }
    if frames.len() > LIMIT {
        let tail = frames.len() - ENDS;
        frames.drain(ENDS..tail);
        // As many are left at each end.
        frames[ENDS].omitted = tail - ENDS;
    }
    frames
}
