//! Frames of a backtrace.

use std::fmt;

use livecore_minidump::VirtAddr;

use livecore_defs::text::printable;

use crate::error::KernelError;
use crate::source_line::SourceLine;
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

/// The way a frame was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum FoundBy {
    /// The saved registers of the thread: the innermost frame.
    Registers,
    /// A trap frame: the interrupted function.
    Trap,
    /// Call frame information (`.debug_frame` or `.eh_frame`).
    Cfi,
    /// The frame pointer.
    FramePointer,
    /// The stack pointer or the link register, since the interrupted function had no frame.
    Frameless,
    /// The instructions of the function (mips).
    Code,
    /// Debug information: the compiler inlined the function into that of the next frame.
    Inlined,
    /// Debug information: the function left by a tail call, and only its caller is on the stack.
    TailCall,
}

impl FoundBy {
    /// The name of the way.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Registers => "registers",
            Self::Trap => "trap",
            Self::Cfi => "cfi",
            Self::FramePointer => "frame-pointer",
            Self::Frameless => "frameless",
            Self::Code => "code",
            Self::Inlined => "inlined",
            Self::TailCall => "tail-call",
        }
    }
}

/// One frame. In a backtrace, the innermost frame is first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// The program counter of the first frame; the return address of the others.
    pub pc: VirtAddr,
    /// The frame pointer register. Without frame pointers, it has another value of the function.
    pub fp: VirtAddr,
    /// The function that contains `pc`, and the offset in it. A return address belongs to the
    /// calling function, even if the call is its last instruction. An inlined function has offset 0.
    pub function: Option<(String, u64)>,
    /// The way the frame was found.
    pub by: FoundBy,
    /// The line of the source file, with debug information.
    pub line: Option<SourceLine>,
    /// Whether a call returns to `pc`, so that the call is before it.
    pub is_call: bool,
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

    /// A frame without trap and end.
    pub(crate) fn new(
        pc: VirtAddr,
        fp: VirtAddr,
        function: Option<(String, u64)>,
        by: FoundBy,
    ) -> Self {
        Self {
            pc,
            fp,
            function,
            by,
            line: None,
            is_call: false,
            trap: None,
            ends: None,
            omitted: 0,
        }
    }

    /// The function and the line, as `sleepq_wait+0x3c [tail call] at kern/subr_sleepqueue.c:662`.
    /// An inlined function has no offset. Empty if neither is known. Control characters are escaped.
    #[must_use]
    pub fn place(&self) -> String {
        let function = match (&self.function, self.by) {
            (Some((name, _)), FoundBy::Inlined) => format!("{} [inlined]", printable(name)),
            (Some((name, offset)), FoundBy::TailCall) => {
                format!("{}+{offset:#x} [tail call]", printable(name))
            }
            (Some((name, offset)), _) => format!("{}+{offset:#x}", printable(name)),
            (None, _) => String::new(),
        };
        let line = self.line.as_ref().map(|line| format!("at {line}"));
        let parts = [Some(function).filter(|text| !text.is_empty()), line];
        let parts: Vec<_> = parts.into_iter().flatten().collect();
        parts.join(" ")
    }
}

impl fmt::Display for Frame {
    /// Formats as `0xffffffff80c09ade kdb_enter+0x3e`, with the line if it is known. Control
    /// characters are escaped.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}", self.pc)?;
        match self.place() {
            place if place.is_empty() => Ok(()),
            place => write!(f, " {place}"),
        }
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
