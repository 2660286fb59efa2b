//! Call chains of mips: there is no frame pointer, so what a function's first instructions did is
//! undone.
//!
//! A function that calls others takes its frame with `addiu sp, sp, -N` (`daddiu` where registers
//! have 64 bits) and saves its return address with `sw ra, n(sp)` (`sd`). Both are looked for from the
//! function's beginning, which the symbols tell, up to where it was left. So does ddb (FreeBSD 12.1
//! `sys/mips/mips/db_trace.c`), which has to guess where functions begin. Functions that move their
//! stack pointer later on as well are not understood; kernels have hardly any.

use std::collections::HashSet;

use crate::frame::{End, FOLLOWED, Frame};
use crate::kernel::Kernel;
use crate::registers::Registers;
use crate::trap::Around;
use livecore_defs::trapframe::{MIPS_STARTS, STACK_ENDS};

/// The most bytes of a function that are looked at.
const FUNCTION_MAX: u64 = 64 << 10;
/// The most instructions in which the beginning of a function without symbol is looked for.
const GUESS_MAX: u64 = 2048;
/// Bytes of an instruction.
const INSTRUCTION: u64 = 4;
/// `jr ra`
const JR_RA: u32 = 0x03e0_0008;

/// Where a function is left: by a call, or by a trap.
#[derive(Debug, Clone, Copy)]
struct Left {
    pc: u64,
    sp: u64,
    /// The return address, as long as it is in its register only.
    ra: Option<u64>,
    /// Whether by a call, which returns to `pc`.
    calls: bool,
}

/// What a function had done when it was left.
#[derive(Debug, Clone, Copy, Default)]
struct Prologue {
    /// Bytes of its frame.
    frame: u64,
    /// Where its return address is, from the stack pointer; and its bytes.
    saved: Option<(u64, usize)>,
}

impl Prologue {
    /// Goes over one instruction.
    fn step(&mut self, instruction: u32) {
        let offset = instruction as u16 as i16;
        match (instruction >> 16, u64::try_from(offset)) {
            // addi, addiu, daddi and daddiu of sp to itself.
            (0x23bd | 0x27bd | 0x63bd | 0x67bd, Err(_)) if self.frame == 0 => {
                self.frame = u64::from(offset.unsigned_abs());
            }
            // sw and sd of ra.
            (0xafbf, Ok(offset)) if self.saved.is_none() => self.saved = Some((offset, 4)),
            (0xffbf, Ok(offset)) if self.saved.is_none() => self.saved = Some((offset, 8)),
            _ => {}
        }
    }
}

impl Kernel<'_> {
    /// The call chain of mips's registers, innermost first.
    pub(crate) fn stack_of_mips(&self, registers: &Registers) -> Vec<Frame> {
        let (Some(pc), Some(sp)) = (registers.pc(), registers.sp()) else {
            return Vec::new();
        };
        let mut frames: Vec<Frame> = Vec::new();
        let mut traps = HashSet::new();
        // A thread goes on where its return address points, so that is no caller of it.
        let mut left = Left {
            pc,
            sp,
            ra: None,
            calls: true,
        };
        while frames.len() < FOLLOWED {
            let function = match left.calls {
                true => self.caller(left.pc),
                false => self.function(left.pc),
            };
            let name = function.as_ref().map_or("", |(name, _)| name.as_str());
            let ends = STACK_ENDS.contains(&name) || MIPS_STARTS.contains(&name);
            let entry = self.entry(name);
            let mut frame = Frame {
                pc: left.pc,
                fp: left.sp,
                function,
                trap: None,
                ends: None,
                omitted: 0,
            };
            let next = match entry {
                _ if ends => None,
                Some(entry) => {
                    let around = Around {
                        handler: "",
                        callee: left.sp,
                        entry: left.sp,
                    };
                    frame.trap = self.trap(entry, around).filter(|t| traps.insert(t.at));
                    match &frame.trap {
                        Some(trap) if trap.from_user => None,
                        Some(trap) => match (trap.registers.pc(), trap.registers.sp()) {
                            (Some(pc), Some(sp)) => Some(Left {
                                pc,
                                sp,
                                ra: trap.registers.get("ra"),
                                calls: false,
                            }),
                            _ => None,
                        },
                        None => {
                            frame.ends = Some(End::NoTrapFrame);
                            None
                        }
                    }
                }
                None => match self.returns_to(left) {
                    Ok(next) => Some(next),
                    Err(why) => {
                        frame.ends = Some(why);
                        None
                    }
                },
            };
            frames.push(frame);
            match next {
                Some(next) => left = next,
                None => break,
            }
        }
        frames
    }

    /// Where the caller of the function that was left goes on.
    fn returns_to(&self, left: Left) -> Result<Left, End> {
        if !left.sp.is_multiple_of(INSTRUCTION) {
            return Err(End::StackPointer);
        }
        let done = match left.ra {
            // A call of a null pointer: nothing has been done.
            Some(_) if !self.is_code(left.pc) => Prologue::default(),
            _ => self.prologue(left).ok_or(End::NoCode)?,
        };
        let pc = match (done.saved, left.ra) {
            (Some((offset, len)), _) => {
                let at = left.sp.checked_add(offset);
                let saved = self.uint_at("frame", at.ok_or(End::StackPointer)?, len);
                self.address_in(saved?)
            }
            (None, Some(ra)) => ra,
            (None, None) => return Err(End::SavesNone),
        };
        let sp = left.sp.checked_add(done.frame);
        match sp {
            _ if pc == 0 => Err(End::ReturnsToZero),
            _ if !self.is_code(pc) => Err(End::NotCode(pc)),
            Some(sp) if (pc, sp) != (left.pc, left.sp) => Ok(Left {
                pc,
                sp,
                ra: None,
                calls: true,
            }),
            _ => Err(End::Same),
        }
    }

    /// What the function that was left had done before.
    fn prologue(&self, left: Left) -> Option<Prologue> {
        // A call may be a function's last: what it returns to is the next one's then.
        let inside = match left.calls {
            true => left.pc.checked_sub(INSTRUCTION)?,
            false => left.pc,
        };
        let linked = self.linked(inside);
        let start = match self.elf().function_start(linked) {
            Some(start) => self.placed(start),
            None => self.guessed_start(inside)?,
        };
        let len = left.pc.checked_sub(start)?;
        if len > FUNCTION_MAX {
            return None;
        }
        let mut done = Prologue::default();
        for instruction in self.code(start, len)? {
            done.step(instruction);
        }
        Some(done)
    }

    /// Where the function around `at` seems to begin, of which no symbol is known: where a frame is
    /// taken, or behind a return and its delay slot.
    fn guessed_start(&self, at: u64) -> Option<u64> {
        for back in 0..GUESS_MAX {
            let here = at.checked_sub(back * INSTRUCTION)?;
            let instruction = self.uint_at("code", here, 4).ok()? as u32; // 4 bytes were read
            let takes = matches!(instruction >> 16, 0x27bd | 0x67bd) && instruction & 0x8000 != 0;
            if takes {
                return Some(here);
            }
            if instruction == JR_RA && back > 1 {
                return here.checked_add(2 * INSTRUCTION);
            }
        }
        None
    }

    /// The instructions from `start` on: the dump's, or those that the kernel's file has.
    fn code(&self, start: u64, len: u64) -> Option<impl Iterator<Item = u32>> {
        // At most FUNCTION_MAX.
        let mut bytes = vec![0; len as usize];
        if self.bytes_at("code", start, &mut bytes).is_err() {
            let linked = self.linked(start);
            let contents = self.elf().bytes_at(linked, bytes.len())?;
            bytes = contents.in_file.then_some(contents.bytes)?;
        }
        let order = self.elf().order();
        let words = bytes
            .chunks_exact(4)
            .map(|word| order.uint(word).unwrap_or(0) as u32) // four bytes
            .collect::<Vec<_>>();
        Some(words.into_iter())
    }
}
