//! The backtrace of a thread as text.

use std::io::{self, Write};

use livecore_kernel::{Kernel, Registers};

/// Prints the backtrace from `registers`: the frames with their numbers, traps, and why it ends.
pub(crate) fn write(
    kernel: &Kernel<'_>,
    registers: &Registers,
    out: &mut dyn Write,
) -> io::Result<()> {
    let mut number = 0;
    for frame in kernel.stack(registers) {
        if frame.omitted > 0 {
            writeln!(out, "  ({} frames omitted)", frame.omitted)?;
            number += frame.omitted;
        }
        writeln!(out, "  #{number:<3} {frame}")?;
        number += 1;
        if let Some(trap) = &frame.trap {
            writeln!(out, "  {trap}")?;
        }
        if let Some(why) = &frame.ends {
            writeln!(out, "  end of backtrace: {why}")?;
        }
    }
    Ok(())
}
