//! Call chains by frame pointers, through trap frames, up to user mode.

use std::collections::HashSet;

use crate::error::KernelError;
use crate::frame::{End, FOLLOWED, Frame, shortened};
use crate::kernel::Kernel;
use crate::registers::Registers;
use crate::thread::Thread;
use crate::trap::Around;
use livecore_defs::architecture::Chain;
use livecore_defs::trapframe::STACK_ENDS;

impl Kernel<'_> {
    /// The backtrace of a thread, innermost frame first; empty for a thread that ran on.
    ///
    /// # Errors
    ///
    /// If the thread's registers cannot be read, or the architecture's are not known.
    pub fn backtrace(&self, thread: &Thread) -> Result<Vec<Frame>, KernelError> {
        Ok(self.stack(&self.registers(thread)?))
    }

    /// The call chain of saved registers, innermost first.
    ///
    /// It ends where the kernel's part of the stack does, and where a frame cannot be followed:
    /// [`Frame::ends`] tells why. Of more than [`LIMIT`](crate::frame::LIMIT) frames those in the
    /// middle are left out.
    pub fn stack(&self, registers: &Registers) -> Vec<Frame> {
        let (Some(pc), Some(fp)) = (registers.pc(), registers.fp()) else {
            return Vec::new();
        };
        let architecture = self.architecture();
        let chain = architecture.map_or(Some(Chain::PLAIN), |row| row.chain);
        let Some(chain) = chain else {
            return shortened(self.stack_of_mips(registers));
        };
        let word = self.elf().pointer_size() as u64;
        let mut frames: Vec<Frame> = Vec::new();
        let mut traps = HashSet::new();
        let (mut pc, mut fp) = (pc, fp);
        let mut function = self.function(pc);
        // The frame pointer of the function that this one called.
        let mut below = None;
        // Where an interrupted function that has no frame yet, or no longer, returns to.
        let mut frameless = self.caught(registers);
        // Where frames are, and why the last one found leads nowhere.
        let mut visited = HashSet::new();
        let mut stuck = None;
        while frames.len() < FOLLOWED {
            let name = function.as_ref().map_or("", |(name, _)| name.as_str());
            let ends = STACK_ENDS.contains(&name);
            let handler = frames.last().and_then(|f| f.function.as_ref());
            let handler = handler.map_or("", |(name, _)| name.as_str());
            let around = |callee| Around {
                handler,
                callee,
                entry: fp,
            };
            let trap = self
                .entry(name)
                .zip(below)
                .and_then(|(entry, callee)| self.trap(entry, around(callee)))
                .filter(|trap| traps.insert(trap.at));
            let next = trap.as_ref().map(|trap| {
                let registers = &trap.registers;
                let back = self.frameless(registers);
                (trap.from_user, registers.pc(), registers.fp(), back)
            });
            frames.push(Frame {
                pc,
                fp,
                function,
                trap,
                ends: None,
                omitted: 0,
            });
            visited.insert(fp);
            match next {
                Some((false, Some(to), Some(caller), back)) if !ends => {
                    (pc, fp, frameless) = (to, caller, back);
                    function = self.function(pc);
                    below = None;
                }
                Some((from_user, ..)) => {
                    end(
                        &mut frames,
                        (!from_user && !ends).then_some(End::NoTrapFrame),
                    );
                    break;
                }
                None if ends => break,
                None if let Some(to) = frameless.take() => {
                    pc = to;
                    function = self.caller(pc);
                }
                None => {
                    let (to, caller) = match self.call(chain, fp, word) {
                        Ok((to, _)) if !self.is_code(to) => {
                            end(&mut frames, Some(End::NotCode(to)));
                            break;
                        }
                        Ok(found) => found,
                        Err(why) => {
                            end(&mut frames, stuck.or(Some(why)));
                            break;
                        }
                    };
                    function = self.caller(to);
                    below = Some(fp);
                    // A stack grows down, so callers lie above. An entry, and what may be one for
                    // want of a name, may have come from another stack: that of an NMI or a double
                    // fault leads to the thread's own.
                    let on = match &function {
                        Some((name, _)) => caller > fp || self.entry(name).is_some(),
                        None => !visited.contains(&caller),
                    };
                    stuck = match on || caller == 0 {
                        true => None,
                        false if visited.contains(&caller) => Some(End::Again(caller)),
                        false => Some(End::NotAbove(caller)),
                    };
                    (pc, fp) = (to, if on { caller } else { 0 });
                }
            }
        }
        shortened(frames)
    }

    /// The same of registers that a thread is shown by, if they are the processor's own: an
    /// interruption that left no trap frame. The stack pointer of registers that were saved for a
    /// switch points at a copy of the program counter (amd64, i386), or at what was called later and
    /// overwrote it: so only a function that is known, and its code, tell.
    fn caught(&self, registers: &Registers) -> Option<u64> {
        self.architecture()?.frame_code?;
        let slot = self.pointer_at("stack", registers.sp()?).ok();
        if slot == registers.pc() {
            return None;
        }
        self.function(registers.pc()?)?;
        self.frameless(registers)
    }

    /// Where an interrupted function returns to, if it has no frame of its own: it was about to make
    /// one, or to return, or it is no function at all but a null pointer that was called. The frame
    /// pointer is its caller's then.
    fn frameless(&self, registers: &Registers) -> Option<u64> {
        let pc = registers.pc()?;
        let begins = self.function(pc).is_none_or(|(_, offset)| offset == 0) || !self.is_code(pc);
        let slot = if let Some(around) = self.architecture().and_then(|row| row.frame_code) {
            let word = self.elf().pointer_size() as u64;
            let mut code = [0; 4];
            let read = !begins && self.bytes_at("code", pc, &mut code).is_ok();
            let is = |bytes: &[u8]| read && code.starts_with(bytes);
            if begins || is(around.push) || is(around.leave) {
                registers.sp()
            } else if is(around.set) {
                registers.sp()?.checked_add(word)
            } else {
                None
            }
        } else {
            // Of these, only a call that went astray is sure to have left the link register alone.
            let link = ["x30", "ra", "lr"]
                .into_iter()
                .find_map(|r| registers.get(r));
            return link.filter(|to| begins && self.is_code(*to));
        };
        let to = self.pointer_at("stack", slot?).ok()?;
        self.is_code(to).then_some(to)
    }

    /// Return address and caller's frame pointer of the frame at `fp`.
    fn call(&self, chain: Chain, fp: u64, word: u64) -> Result<(u64, u64), End> {
        if fp == 0 {
            return Err(End::NoFrame);
        }
        // Kernels have the upper half of 64-bit addresses; powerpc64 need not.
        if word == 8 && !chain.in_caller && fp >> 63 == 0 {
            return Err(End::UserFrame(fp));
        }
        if !fp.is_multiple_of(word) {
            return Err(End::Unaligned);
        }
        let saved = |frame: u64, words: i64| -> Result<u64, End> {
            let at = frame.checked_add_signed(words * word as i64);
            Ok(self.pointer_at("frame", at.ok_or(End::Unaligned)?)?)
        };
        let caller = saved(fp, chain.caller)?;
        let frame = if chain.in_caller { caller } else { fp };
        if frame == 0 {
            return Err(End::NoFrame);
        }
        match saved(frame, chain.back)? {
            0 => Err(End::ReturnsToZero),
            to => Ok((to, caller)),
        }
    }
}

/// The last frame ends the backtrace, for this reason.
fn end(frames: &mut [Frame], why: Option<End>) {
    if let Some(last) = frames.last_mut() {
        last.ends = why;
    }
}
