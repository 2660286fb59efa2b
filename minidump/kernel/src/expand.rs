//! Adds the functions that have no frame of their own to a backtrace: those that the compiler inlined,
//! and those that left by a tail call.

use std::collections::HashSet;
use std::sync::Arc;

use livecore_minidump::VirtAddr;

use crate::code::{At, Code, Place, TailCall, Target};
use crate::frame::{FoundBy, Frame};
use crate::kernel::Kernel;

/// The maximum number of tail calls between two frames.
const TAIL_CALLS: usize = 64;
/// The maximum number of tail calls tried between two frames.
const TRIED: usize = 4096;

impl Kernel<'_> {
    /// Adds inlined functions, functions that left by a tail call, and source lines to the frames on
    /// the stack. Returns `frames` if there is no debug information.
    pub(crate) fn expanded(&self, frames: Vec<Frame>) -> Vec<Frame> {
        if frames.is_empty() {
            return frames;
        }
        let Some(code) = self.debug().code(self.elf()) else {
            return frames;
        };
        let mut all = Vec::with_capacity(frames.len());
        // The frame that the next one called.
        let mut callee: Option<u64> = None;
        for frame in frames {
            let at = At {
                pc: self.linked(frame.pc).0,
                after: frame.is_call,
            };
            let place = code.place(self.elf(), at);
            let target = place.as_ref().and_then(|place| place.target);
            if let (Some(target), Some(entry), 0) = (target, callee, frame.omitted) {
                for call in self.tail_calls(code, target, entry) {
                    self.push_tail_call(code, call, frame.fp, &mut all);
                }
            }
            let entry = || {
                let pc = VirtAddr(at.pc.wrapping_sub(u64::from(at.after)));
                self.elf().function_start(pc).map(|start| start.0)
            };
            // A trap is no call.
            callee = match &place {
                _ if frame.trap.is_some() => None,
                Some(place) => Some(place.entry),
                None => entry(),
            };
            push(frame, place, &mut all);
        }
        all
    }

    fn push_tail_call(&self, code: &Code, call: TailCall, fp: VirtAddr, all: &mut Vec<Frame>) {
        let pc = self.placed(VirtAddr(call.pc));
        let function = match call.after {
            true => self.caller(pc),
            false => self.function(pc),
        };
        let at = At {
            pc: call.pc,
            after: call.after,
        };
        let frame = Frame {
            is_call: call.after,
            ..Frame::new(pc, fp, function, FoundBy::TailCall)
        };
        push(frame, code.place(self.elf(), at), all);
    }

    /// Returns the tail calls that lead from a call of `target` to the function at `entry`, innermost
    /// first. If there are several ways, returns the calls that all of them have at their ends.
    ///
    /// The same calls as GDB finds (`gdb/dwarf2/loc.c`, `call_site_find_chain`). If a function on a
    /// way can call any function, nothing is known.
    fn tail_calls(&self, code: &Code, target: Target, entry: u64) -> Vec<TailCall> {
        let Target::Function(first) = target else {
            return Vec::new();
        };
        if first == entry {
            return Vec::new();
        }
        self.find_tail_calls(code, first, entry).unwrap_or_default()
    }

    fn find_tail_calls(&self, code: &Code, first: u64, entry: u64) -> Option<Vec<TailCall>> {
        // The calls of the functions on the way, and the number of those that were tried.
        let mut levels: Vec<(Arc<[TailCall]>, usize)> = Vec::new();
        let mut way: Vec<TailCall> = Vec::new();
        let mut on_way = HashSet::new();
        let mut found: Option<Ways> = None;
        levels.push((code.tail_calls(self.elf(), first)?, 0));
        for _ in 0..TRIED {
            let Some((calls, tried)) = levels.last_mut() else {
                return found.map(Ways::into_calls);
            };
            let Some(call) = calls.get(*tried).copied() else {
                levels.pop();
                if let Some(last) = way.pop() {
                    on_way.remove(&last.pc);
                }
                continue;
            };
            *tried += 1;
            if !on_way.insert(call.pc) {
                continue;
            }
            way.push(call);
            let Target::Function(target) = call.target else {
                return None;
            };
            if target == entry {
                found = Some(match found {
                    None => Ways::new(&way),
                    Some(ways) => ways.and(&way)?,
                });
                way.pop();
                on_way.remove(&call.pc);
                continue;
            }
            if way.len() >= TAIL_CALLS {
                return None;
            }
            levels.push((code.tail_calls(self.elf(), target)?, 0));
        }
        None
    }
}

/// What several ways of tail calls have in common.
struct Ways {
    /// The first way, outermost call first.
    first: Vec<TailCall>,
    /// The number of calls at its start and at its end that all ways have.
    start: usize,
    end: usize,
}

impl Ways {
    fn new(way: &[TailCall]) -> Self {
        Self {
            first: way.to_vec(),
            start: way.len(),
            end: way.len(),
        }
    }

    /// Adds a way. Returns `None` if nothing remains.
    fn and(mut self, way: &[TailCall]) -> Option<Self> {
        let same = |(a, b): &(&TailCall, &TailCall)| a.pc == b.pc;
        let start = self.first.iter().zip(way).take_while(same).count();
        let end = self.first.iter().rev().zip(way.iter().rev());
        let end = end.take_while(same).count();
        self.start = self.start.min(start);
        self.end = self.end.min(end);
        (self.start > 0 || self.end > 0).then_some(self)
    }

    /// The calls that all ways have, innermost first.
    fn into_calls(self) -> Vec<TailCall> {
        let len = self.first.len();
        let start = match self.end == len {
            true => 0,
            false => self.start.min(len - self.end),
        };
        let inner = self.first[len - self.end..].iter().rev();
        let outer = self.first[..start].iter().rev();
        inner.chain(outer).copied().collect()
    }
}

/// Adds a frame after the functions that were inlined into it.
fn push(mut frame: Frame, place: Option<Arc<Place>>, all: &mut Vec<Frame>) {
    if let Some(place) = place {
        for inlined in &place.inlined {
            let function = Some((inlined.name.clone(), 0));
            all.push(Frame {
                line: inlined.line.clone(),
                omitted: std::mem::take(&mut frame.omitted),
                ..Frame::new(frame.pc, frame.fp, function, FoundBy::Inlined)
            });
        }
        frame.line = place.line.clone();
    }
    all.push(frame);
}
