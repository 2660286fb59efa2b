//! Backtraces of mips. mips has no frame pointer, so the prologue of each function is decoded.
//!
//! A function that calls others allocates its frame with `addiu sp, sp, -N` (`daddiu` with 64-bit
//! registers) and saves its return address with `sw ra, n(sp)` (`sd`). Both are searched from the
//! start of the function, which comes from the symbols, to the instruction where the function was
//! left. ddb does the same (FreeBSD 12.1 `sys/mips/mips/db_trace.c`), but guesses function starts.
//! Functions that also move the stack pointer later are not supported; kernels have very few.

use livecore_minidump::VirtAddr;
use std::collections::HashSet;

use crate::frame::{End, FOLLOWED, FoundBy, Frame};
use crate::kernel::Kernel;
use crate::registers::Registers;
use crate::trap::EntryContext;
use livecore_defs::trapframe::{MIPS_STARTS, STACK_ENDS};

/// The maximum number of bytes decoded of a function.
const FUNCTION_MAX: u64 = 64 << 10;
/// The maximum number of instructions searched for the start of a function without a symbol.
const GUESS_MAX: u64 = 2048;
/// The size of an instruction.
const INSTRUCTION: u64 = 4;
/// `jr ra`
const JR_RA: u32 = 0x03e0_0008;

/// The point where a function was left, by a call or by a trap.
#[derive(Debug, Clone, Copy)]
struct ExitPoint {
    pc: VirtAddr,
    sp: VirtAddr,
    /// The return address, if it can still be in its register only.
    ra: Option<VirtAddr>,
    /// Whether the function was left by a call, which returns to `pc`.
    is_call: bool,
}

/// The effect of the instructions that a function executed before it was left.
#[derive(Debug, Clone, Copy, Default)]
struct Prologue {
    /// The size of its frame.
    frame: u64,
    /// The offset of its saved return address from the stack pointer, and the size of that address.
    saved: Option<(u64, usize)>,
}

impl Prologue {
    /// Applies one instruction.
    fn step(&mut self, instruction: u32) {
        let offset = instruction as u16 as i16;
        match (instruction >> 16, u64::try_from(offset)) {
            // addi, addiu, daddi and daddiu of sp to sp.
            (0x23bd | 0x27bd | 0x63bd | 0x67bd, Err(_)) if self.frame == 0 => {
                self.frame = u64::from(offset.unsigned_abs());
            }
            // sw and sd of ra to the stack.
            (0xafbf, Ok(offset)) if self.saved.is_none() => self.saved = Some((offset, 4)),
            (0xffbf, Ok(offset)) if self.saved.is_none() => self.saved = Some((offset, 8)),
            _ => {}
        }
    }
}

impl Kernel<'_> {
    /// Returns the backtrace of mips registers, innermost frame first.
    pub(crate) fn stack_of_mips(&self, registers: &Registers) -> Vec<Frame> {
        let (Some(pc), Some(sp)) = (registers.pc(), registers.sp()) else {
            return Vec::new();
        };
        let mut frames: Vec<Frame> = Vec::new();
        let mut traps = HashSet::new();
        // A thread resumes at its return address, so `pc` is handled like a return address.
        let mut point = ExitPoint {
            pc,
            sp,
            ra: None,
            is_call: true,
        };
        while frames.len() < FOLLOWED {
            let function = match point.is_call {
                true => self.caller(point.pc),
                false => self.function(point.pc),
            };
            let name = function.as_ref().map_or("", |(name, _)| name.as_str());
            let ends = STACK_ENDS.contains(&name) || MIPS_STARTS.contains(&name);
            let entry = self.entry(name);
            let by = match (frames.last(), point.is_call) {
                (None, _) => FoundBy::Registers,
                (Some(_), false) => FoundBy::Trap,
                (Some(_), true) => FoundBy::Code,
            };
            let mut frame = Frame {
                is_call: point.is_call,
                ..Frame::new(point.pc, point.sp, function, by)
            };
            let next = match entry {
                _ if ends => None,
                Some(entry) => {
                    let context = EntryContext {
                        handler: "",
                        callee: point.sp,
                        entry: point.sp,
                    };
                    frame.trap = self.trap(entry, context).filter(|t| traps.insert(t.at));
                    match &frame.trap {
                        Some(trap) if trap.from_user => None,
                        Some(trap) => match (trap.registers.pc(), trap.registers.sp()) {
                            (Some(pc), Some(sp)) => Some(ExitPoint {
                                pc,
                                sp,
                                ra: trap.registers.get("ra").map(VirtAddr),
                                is_call: false,
                            }),
                            _ => None,
                        },
                        None => {
                            frame.ends = Some(End::NoTrapFrame);
                            None
                        }
                    }
                }
                None => match self.call_site(point) {
                    Ok(next) => Some(next),
                    Err(why) => {
                        frame.ends = Some(why);
                        None
                    }
                },
            };
            frames.push(frame);
            match next {
                Some(next) => point = next,
                None => break,
            }
        }
        frames
    }

    /// Returns the point where the caller of a function called it.
    fn call_site(&self, point: ExitPoint) -> Result<ExitPoint, End> {
        if point.sp.offset_in(INSTRUCTION) != 0 {
            return Err(End::StackPointer);
        }
        let done = match point.ra {
            // After a call of a null pointer, no prologue has run.
            Some(_) if !self.is_code(point.pc) => Prologue::default(),
            _ => self.prologue(point).ok_or(End::NoCode)?,
        };
        let pc = match (done.saved, point.ra) {
            (Some((offset, len)), _) => {
                let at = point.sp.checked_add(offset);
                let saved = self.uint_at("frame", at.ok_or(End::StackPointer)?, len);
                VirtAddr(self.address_in(saved?))
            }
            (None, Some(ra)) => ra,
            (None, None) => return Err(End::SavesNone),
        };
        let sp = point.sp.checked_add(done.frame);
        match sp {
            _ if pc == VirtAddr(0) => Err(End::ReturnsToZero),
            _ if !self.is_code(pc) => Err(End::NotCode(pc)),
            Some(sp) if (pc, sp) != (point.pc, point.sp) => Ok(ExitPoint {
                pc,
                sp,
                ra: None,
                is_call: true,
            }),
            _ => Err(End::Same),
        }
    }

    /// Decodes the instructions of a function up to the point where it was left.
    fn prologue(&self, point: ExitPoint) -> Option<Prologue> {
        // If the call is the function's last instruction, it returns to the next function.
        let inside = match point.is_call {
            true => point.pc.checked_sub(INSTRUCTION)?,
            false => point.pc,
        };
        let linked = self.linked(inside);
        let start = match self.elf().function_start(linked) {
            Some(start) => self.placed(start),
            None => self.guessed_start(inside)?,
        };
        let len = point.pc.offset_from(start)?;
        if len > FUNCTION_MAX {
            return None;
        }
        let mut done = Prologue::default();
        for instruction in self.code(start, len)? {
            done.step(instruction);
        }
        Some(done)
    }

    /// Guesses the start of a function without a symbol that contains `at`: the instruction that
    /// allocates a frame, or the one after a return and its delay slot.
    fn guessed_start(&self, at: VirtAddr) -> Option<VirtAddr> {
        for back in 0..GUESS_MAX {
            let here = at.checked_sub(back * INSTRUCTION)?;
            let instruction = self.uint_at("code", here, 4).ok()? as u32; // 4 bytes were read
            let allocates =
                matches!(instruction >> 16, 0x27bd | 0x67bd) && instruction & 0x8000 != 0;
            if allocates {
                return Some(here);
            }
            if instruction == JR_RA && back > 1 {
                return here.checked_add(2 * INSTRUCTION);
            }
        }
        None
    }

    /// Reads `len` bytes of instructions at `start`, from memory or from the kernel file.
    fn code(&self, start: VirtAddr, len: u64) -> Option<impl Iterator<Item = u32>> {
        // `len` is at most FUNCTION_MAX.
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
