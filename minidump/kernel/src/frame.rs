//! A frame of a backtrace.

use std::fmt;

use livecore_defs::text::printable;

use crate::trap::Trap;

/// The most frames of one stack.
pub const LIMIT: usize = 256;

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
    /// Why the chain goes no further, where that is not its end: mips has no frame pointers, and
    /// what its functions did is not always known.
    pub ends: Option<&'static str>,
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
