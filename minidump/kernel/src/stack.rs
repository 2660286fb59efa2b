//! Backtraces through trap frames, up to user mode. A caller is found by call frame information, or
//! else by the frame pointer.

use livecore_minidump::VirtAddr;
use std::collections::HashSet;

use crate::error::KernelError;
use crate::frame::{End, FOLLOWED, FoundBy, Frame, shortened};
use crate::kernel::Kernel;
use crate::registers::Registers;
use crate::thread::Thread;
use crate::trap::EntryContext;
use crate::unwind::Unwound;
use livecore_defs::Chain;
use livecore_defs::trapframe::STACK_ENDS;

impl Kernel<'_> {
    /// Returns the backtrace of a thread, innermost frame first. It is empty for a thread that was
    /// still running.
    ///
    /// # Errors
    ///
    /// Returns an error if the thread's registers cannot be read or the register layout is unknown.
    pub fn backtrace(&self, thread: &Thread) -> Result<Vec<Frame>, KernelError> {
        Ok(self.stack(&self.registers(thread)?))
    }

    /// Returns the backtrace of saved registers, innermost frame first.
    ///
    /// It ends at the end of the kernel's part of the stack, or at a frame that cannot be followed;
    /// [`Frame::ends`] has the reason. If there are more than [`Frame::LIMIT`] frames,
    /// those in the middle are omitted. With debug information, it contains inlined functions and
    /// functions that left by a tail call.
    pub fn stack(&self, registers: &Registers) -> Vec<Frame> {
        self.expanded(self.physical(registers))
    }

    /// Returns the frames on the stack, like [`Kernel::stack`].
    pub(crate) fn physical(&self, registers: &Registers) -> Vec<Frame> {
        let (Some(pc), Some(fp)) = (registers.pc(), registers.fp()) else {
            return Vec::new();
        };
        let architecture = self.architecture();
        let chain = architecture.map_or(Some(Chain::PLAIN), |row| row.chain);
        let Some(chain) = chain else {
            return shortened(self.stack_of_mips(registers));
        };
        let word = self.elf().pointer_size() as u64;
        let set = registers.set();
        let mut frames: Vec<Frame> = Vec::new();
        let mut traps = HashSet::new();
        let (mut pc, mut fp) = (pc, fp);
        let mut function = self.function(pc);
        let mut by = FoundBy::Registers;
        // The registers of this frame, and whether it was interrupted and not left by a call.
        let mut known = registers.clone();
        let mut interrupted = !registers.is_left_by_call();
        let pushes = architecture.is_some_and(|row| row.frame_code.is_some());
        if !interrupted
            && pushes
            && let Some(sp) = known.sp()
        {
            known.put(set.sp, sp.wrapping_add(word).0);
        }
        // A thread that has never run starts at the first instruction of a function.
        let starts = function.as_ref().is_some_and(|(_, offset)| *offset == 0);
        interrupted |= starts;
        // The frame pointer of the function that this one called.
        let mut below = None;
        // The return address of an interrupted function without a frame.
        let mut frameless = self.interrupted_frameless(registers);
        // The addresses of frames, and the reason why the last frame cannot be followed.
        let mut visited = HashSet::new();
        let mut stuck = None;
        while frames.len() < FOLLOWED {
            let name = function.as_ref().map_or("", |(name, _)| name.as_str());
            let ends = STACK_ENDS.contains(&name);
            let handler = frames.last().and_then(|f| f.function.as_ref());
            let handler = handler.map_or("", |(name, _)| name.as_str());
            let context = |callee| EntryContext {
                handler,
                callee,
                entry: fp,
            };
            let trap = self
                .entry(name)
                .zip(below)
                .and_then(|(entry, callee)| self.trap(entry, context(callee)))
                .filter(|trap| traps.insert(trap.at));
            let next = trap.as_ref().map(|trap| {
                let registers = &trap.registers;
                let back = self.frameless(registers);
                (registers.clone(), trap.from_user, back)
            });
            frames.push(Frame {
                trap,
                is_call: !interrupted,
                ..Frame::new(pc, fp, function.take(), by)
            });
            visited.insert(fp);
            if let Some((registers, from_user, back)) = next {
                let to = registers.pc().zip(registers.fp());
                let Some((to, caller)) = to.filter(|_| !from_user && !ends) else {
                    let why = (!from_user && !ends).then_some(End::NoTrapFrame);
                    end(&mut frames, why);
                    break;
                };
                (pc, fp, frameless) = (to, caller, back);
                (known, interrupted, by) = (registers, true, FoundBy::Trap);
                function = self.function(pc);
                below = None;
                continue;
            }
            if ends {
                break;
            }
            let instruction = VirtAddr(pc.0.wrapping_sub(u64::from(!interrupted)));
            let unwound = self.unwound(&known, instruction, !interrupted);
            interrupted = false;
            match unwound {
                Some(Unwound::Outermost) => break,
                Some(Unwound::Caller(registers, cfa)) => {
                    // Where the frame pointer of a function with this frame would be.
                    let frame = chain
                        .cfa
                        .map(|words| cfa.0.wrapping_sub(words as u64 * word));
                    below = Some(frame.map_or(fp, VirtAddr));
                    pc = registers.pc().unwrap_or_default();
                    fp = registers.fp().unwrap_or_default();
                    function = self.caller(pc);
                    (known, by, frameless, stuck) = (registers, FoundBy::Cfi, None, None);
                    continue;
                }
                Some(Unwound::Interrupted(registers)) => {
                    pc = registers.pc().unwrap_or_default();
                    fp = registers.fp().unwrap_or_default();
                    frameless = self.frameless(&registers);
                    function = self.function(pc);
                    (known, by, interrupted) = (registers, FoundBy::Cfi, true);
                    (below, stuck) = (None, None);
                    continue;
                }
                None => {}
            }
            if let Some(to) = frameless.take() {
                pc = to;
                function = self.caller(pc);
                by = FoundBy::Frameless;
                known = Registers::unknown(set);
                known.put(set.fp, fp.0);
                continue;
            }
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
            // The stack grows down, so callers are above. A trap entry, or a function
            // without a name that could be one, can switch stacks: an NMI and a double
            // fault have their own stacks.
            let follow = match &function {
                Some((name, _)) => caller > fp || self.entry(name).is_some(),
                None => !visited.contains(&caller),
            };
            stuck = match follow || caller == VirtAddr(0) {
                true => None,
                false if visited.contains(&caller) => Some(End::Again(caller)),
                false => Some(End::NotAbove(caller)),
            };
            known = Registers::unknown(set);
            if let Some(words) = chain.cfa {
                known.put(set.sp, fp.0.wrapping_add(words as u64 * word));
            }
            by = FoundBy::FramePointer;
            (pc, fp) = (to, if follow { caller } else { VirtAddr(0) });
            known.put(set.fp, fp.0);
        }
        shortened(frames)
    }

    /// Like [`Kernel::frameless`], for the registers of a thread that was interrupted without a trap
    /// frame.
    ///
    /// Returns `None` for registers saved by a context switch. Their stack pointer points at a copy
    /// of the program counter (amd64, i386), unless a later call has overwritten it, so a known
    /// function is also required.
    fn interrupted_frameless(&self, registers: &Registers) -> Option<VirtAddr> {
        self.architecture()?.frame_code?;
        let slot = self.pointer_at("stack", registers.sp()?).ok();
        if slot == registers.pc() {
            return None;
        }
        self.function(registers.pc()?)?;
        self.frameless(registers)
    }

    /// Returns the return address of an interrupted function that has no frame: it was in its
    /// prologue or epilogue, or it is the target of a bad function pointer. The frame pointer is
    /// then its caller's.
    fn frameless(&self, registers: &Registers) -> Option<VirtAddr> {
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
            // Only at a function's first instruction, or after a call of a bad pointer, is the link
            // register certain to be unchanged.
            let link = ["x30", "ra", "lr"]
                .into_iter()
                .find_map(|r| registers.get(r));
            return link.map(VirtAddr).filter(|to| begins && self.is_code(*to));
        };
        let to = self.pointer_at("stack", slot?).ok()?;
        self.is_code(to).then_some(to)
    }

    /// Reads the return address and the caller's frame pointer from the frame at `fp`.
    fn call(&self, chain: Chain, fp: VirtAddr, word: u64) -> Result<(VirtAddr, VirtAddr), End> {
        if fp == VirtAddr(0) {
            return Err(End::NoFrame);
        }
        // The kernel has the upper half of the 64-bit addresses, except on powerpc64.
        if word == 8 && !chain.in_caller && fp.0 >> 63 == 0 {
            return Err(End::UserFrame(fp));
        }
        if fp.offset_in(word) != 0 {
            return Err(End::Unaligned);
        }
        let saved = |frame: VirtAddr, words: i64| -> Result<VirtAddr, End> {
            let at = frame.0.checked_add_signed(words * word as i64);
            let at = VirtAddr(at.ok_or(End::Unaligned)?);
            Ok(self.pointer_at("frame", at)?)
        };
        let caller = saved(fp, chain.caller)?;
        let frame = if chain.in_caller { caller } else { fp };
        if frame == VirtAddr(0) {
            return Err(End::NoFrame);
        }
        match saved(frame, chain.back)? {
            VirtAddr(0) => Err(End::ReturnsToZero),
            to => Ok((to, caller)),
        }
    }
}

/// Sets the reason why the backtrace ends at the last frame.
fn end(frames: &mut [Frame], why: Option<End>) {
    if let Some(last) = frames.last_mut() {
        last.ends = why;
    }
}
