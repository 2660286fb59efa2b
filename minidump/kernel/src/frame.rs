//! Frames of a backtrace.

use std::fmt;

use livecore_minidump::VirtAddr;

use livecore_defs::text::printable;

use crate::error::KernelError;
use crate::trap::Trap;

/// The maximum number of frames followed.
pub(crate) const FOLLOWED: usize = 4096;

/// The reason why a backtrace ends before the start of the thread or its entry from user mode.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum End {
    /// The frame pointer is zero.
    NoFrame,
    /// The frame pointer is not a multiple of the word size.
    Unaligned,
    /// The frame pointer is a user-mode address.
    UserFrame(VirtAddr),
    /// The frame cannot be read, for this reason.
    Unreadable(String),
    /// The return address is zero.
    ReturnsToZero,
    /// The return address is not in code.
    NotCode(VirtAddr),
    /// The caller's frame, at this address, is not above this frame.
    NotAbove(VirtAddr),
    /// The caller's frame, at this address, is an earlier frame of the backtrace.
    Again(VirtAddr),
    /// The trap frame cannot be read.
    NoTrapFrame,
    /// The backtrace has more frames than are followed.
    Limit,
    /// The stack pointer is not aligned (mips).
    StackPointer,
    /// The code that locates the frame cannot be read (mips).
    NoCode,
    /// The function does not save its return address (mips).
    SavesNone,
    /// The caller has the same program counter and stack pointer (mips).
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
            Self::NoFrame => f.write_str("frame pointer is zero"),
            Self::Unaligned => f.write_str("frame pointer is not aligned"),
            Self::UserFrame(at) => write!(f, "frame pointer {at:#x} is a user-mode address"),
            Self::Unreadable(why) => write!(f, "frame cannot be read: {why}"),
            Self::ReturnsToZero => f.write_str("return address is zero"),
            Self::NotCode(at) => write!(f, "return address {at:#x} is not in code"),
            Self::NotAbove(at) => write!(f, "caller's frame {at:#x} is not above this frame"),
            Self::Again(at) => write!(f, "caller's frame {at:#x} repeats an earlier frame"),
            Self::NoTrapFrame => f.write_str("trap frame cannot be read"),
            Self::Limit => write!(f, "more than {FOLLOWED} frames"),
            Self::StackPointer => f.write_str("stack pointer is not aligned"),
            Self::NoCode => f.write_str("code of the function cannot be read"),
            Self::SavesNone => f.write_str("function does not save its return address"),
            Self::Same => f.write_str("caller has the same pc and sp"),
        }
    }
}

/// One frame. In a backtrace, the innermost frame is first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// The program counter of the first frame; the return address of the others.
    pub pc: VirtAddr,
    /// The frame pointer.
    pub fp: VirtAddr,
    /// The function that contains `pc`, and the offset in it. A return address belongs to the
    /// calling function, even if the call is its last instruction.
    pub function: Option<(String, u64)>,
    /// The trap that interrupted the next frame, if this frame is a trap entry.
    pub trap: Option<Trap>,
    /// The reason why the backtrace ends here. `None` at the start of a thread and at its entry
    /// from user mode.
    pub ends: Option<End>,
    /// The number of frames omitted before this one, in a backtrace of more than [`Frame::LIMIT`].
    pub omitted: usize,
}

impl Frame {
    /// The maximum number of frames of a backtrace that is not shortened.
    pub const LIMIT: usize = 256;
    /// The number of frames that a shortened backtrace has at each end.
    pub const ENDS: usize = 100;
}

impl fmt::Display for Frame {
    /// Formats as `0xffffffff80c09ade kdb_enter+0x3e`. Control characters in the name are escaped.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}", self.pc)?;
        let Some((name, offset)) = &self.function else {
            return Ok(());
        };
        write!(f, " {}+{offset:#x}", printable(name))
    }
}

/// Removes the middle frames of a long backtrace.
pub(crate) fn shortened(mut frames: Vec<Frame>) -> Vec<Frame> {
    if frames.len() >= FOLLOWED
        && let Some(last) = frames.last_mut()
    {
        last.ends = Some(End::Limit);
    }
    if frames.len() > Frame::LIMIT {
        let tail = frames.len() - Frame::ENDS;
        frames.drain(Frame::ENDS..tail);
        frames[Frame::ENDS].omitted = tail - Frame::ENDS;
    }
    frames
}
