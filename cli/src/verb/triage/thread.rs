//! A thread with its registers and its backtrace.

use std::io::{self, Write};

use livecore_defs::text::printable;
use livecore_kernel::{Context, FoundBy, Frame, Kernel, Thread};
use serde::{Serialize, Serializer};

use crate::json::{Hex, SourceAnswer};

/// A thread with its backtrace.
#[derive(Debug, Serialize)]
pub(super) struct ThreadFacts {
    pub(super) title: String,
    pub(super) pid: i32,
    pub(super) tid: i32,
    pub(super) cpu: Option<u32>,
    pub(super) crashed: bool,
    pub(super) state: &'static str,
    #[serde(serialize_with = "by_name")]
    pub(super) registers: Vec<(&'static str, Option<Hex>)>,
    pub(super) frames: Vec<FrameFacts>,
}

/// Registers as one JSON object, as `threads` prints them.
fn by_name<S: Serializer>(
    registers: &[(&'static str, Option<Hex>)],
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.collect_map(registers.iter().copied())
}

/// A frame of a backtrace.
#[derive(Debug, Serialize)]
pub(super) struct FrameFacts {
    pub(super) pc: Hex,
    pub(super) function: Option<String>,
    pub(super) offset: Option<u64>,
    pub(super) by: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) source: Option<SourceAnswer>,
    /// The function and the line, as text.
    #[serde(skip)]
    place: String,
    pub(super) trap: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) ends: Option<String>,
    #[serde(skip_serializing_if = "crate::json::is_zero")]
    pub(super) omitted: usize,
}

impl ThreadFacts {
    /// Reads the registers and the backtrace of a thread.
    pub(super) fn of(kernel: &Kernel<'_>, thread: &Thread) -> Self {
        let registers = kernel.registers(thread).ok();
        let frames = registers
            .as_ref()
            .filter(|r| !r.is_unknown())
            .map_or_else(Vec::new, |r| kernel.stack(r));
        let values = registers.iter().flat_map(|r| r.iter());
        let values = values.map(|(register, value)| (register.name, value.map(Hex)));
        Self {
            title: thread.title(),
            pid: thread.pid,
            tid: thread.tid,
            cpu: thread.cpu,
            crashed: thread.context == Context::Crashed,
            state: kernel.state(thread).name(),
            registers: values.collect(),
            frames: frames.into_iter().map(frame).collect(),
        }
    }

    /// Prints a thread with its registers and its backtrace.
    pub(super) fn print(&self, digits: usize, out: &mut dyn Write) -> io::Result<()> {
        writeln!(
            out,
            "\n{} tid {}, {}",
            printable(&self.title),
            self.tid,
            self.state
        )?;
        let saved = self.registers.iter();
        let saved = saved.filter_map(|(name, value)| Some((name, value.as_ref()?)));
        let saved = saved.collect::<Vec<_>>();
        let width = digits + 2;
        for registers in saved.chunks(3) {
            for (name, value) in registers {
                write!(out, "  {name:>6} {:#0width$x}", value.0)?;
            }
            writeln!(out)?;
        }
        if saved.is_empty() {
            writeln!(out, "  registers were not saved")?;
        }
        let mut number = 0;
        for frame in &self.frames {
            if frame.omitted > 0 {
                writeln!(out, "  ({} frames omitted)", frame.omitted)?;
                number += frame.omitted;
            }
            let place = match frame.function {
                Some(_) => &frame.place,
                None => "?",
            };
            writeln!(out, "  #{number:<3} {:#0width$x} {place}", frame.pc.0)?;
            number += 1;
            if let Some(trap) = &frame.trap {
                writeln!(out, "  {}", printable(trap))?;
            }
            if let Some(why) = &frame.ends {
                writeln!(out, "  end of backtrace: {why}")?;
            }
        }
        Ok(())
    }
}

fn frame(frame: Frame) -> FrameFacts {
    let place = frame.place();
    let (function, offset) = frame.function.unzip();
    FrameFacts {
        pc: frame.pc.into(),
        function,
        offset: offset.filter(|_| frame.by != FoundBy::Inlined),
        by: frame.by.name(),
        source: frame.line.map(SourceAnswer::from),
        place,
        trap: frame.trap.map(|trap| trap.to_string()),
        ends: frame.ends.map(|why| why.to_string()),
        omitted: frame.omitted,
    }
}
