//! Call chains by frame pointers, through trap frames, up to user mode.

use std::collections::HashSet;

use crate::defs::registers;
use crate::defs::trapframe::STACK_ENDS;
use crate::kernel::trap::{self, Around};
use crate::kernel::{Kernel, Registers, Trap};

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
}

/// How frames are chained, as offsets from a frame pointer.
#[derive(Debug, Clone, Copy)]
struct Chain {
    /// Where the caller's frame pointer was saved.
    caller: i64,
    /// Where the return address was saved.
    back: i64,
    /// Whether the return address is in the caller's frame (powerpc64), not in this one.
    in_caller: bool,
}

/// By `e_machine`.
fn chain(machine: u16, word: i64) -> Chain {
    let plain = Chain {
        caller: 0,
        back: word,
        in_caller: false,
    };
    match machine {
        m if m == registers::RISCV64.machine => Chain {
            caller: -2 * word,
            back: -word,
            ..plain
        },
        m if m == registers::POWERPC64.machine => Chain {
            back: 2 * word,
            in_caller: true,
            ..plain
        },
        _ => plain,
    }
}

impl Kernel<'_> {
    /// The call chain of saved registers, innermost first.
    ///
    /// The chain ends where the kernel's part of the stack does, where a frame pointer does not go
    /// up or cannot be read, and after [`LIMIT`] frames.
    pub fn stack(&self, registers: &Registers) -> Vec<Frame> {
        let (Some(pc), Some(fp)) = (registers.pc(), registers.fp()) else {
            return Vec::new();
        };
        let machine = self.elf().machine();
        let word = self.elf().pointer_size() as u64;
        let chain = chain(machine, word as i64);
        let mut frames: Vec<Frame> = Vec::new();
        let mut traps = HashSet::new();
        let (mut pc, mut fp) = (pc, fp);
        let mut function = self.function(pc);
        // The frame pointer of the function that this one called.
        let mut below = None;
        while frames.len() < LIMIT {
            let name = function.as_ref().map_or("", |(name, _)| name.as_str());
            let ends = STACK_ENDS.contains(&name);
            let trap = trap::entry(machine, name)
                .zip(below)
                .and_then(|(entry, callee)| self.trap(entry, Around { callee, entry: fp }))
                .filter(|trap| traps.insert(trap.at));
            let next = trap.as_ref().map(|trap| {
                let from_user = trap.from_user;
                (from_user, trap.registers.pc(), trap.registers.fp())
            });
            frames.push(Frame {
                pc,
                fp,
                function,
                trap,
            });
            match next {
                Some((false, Some(to), Some(caller))) if !ends => {
                    (pc, fp) = (to, caller);
                    function = self.function(pc);
                    below = None;
                }
                Some(_) => break,
                None if ends => break,
                None => {
                    let Some((to, caller)) = self.call(chain, fp, word) else {
                        break;
                    };
                    if !self.is_code(to) {
                        break;
                    }
                    function = self.caller(to);
                    below = Some(fp);
                    // A stack grows down, so callers lie above. The outermost frame's caller is
                    // another world, and an entry may have come from another stack.
                    let name = function.as_ref().map_or("", |(name, _)| name.as_str());
                    let on = caller > fp || trap::entry(machine, name).is_some();
                    (pc, fp) = (to, if on { caller } else { 0 });
                }
            }
        }
        frames
    }

    /// Return address and caller's frame pointer of the frame at `fp`.
    fn call(&self, chain: Chain, fp: u64, word: u64) -> Option<(u64, u64)> {
        if fp == 0 || !fp.is_multiple_of(word) {
            return None;
        }
        let caller = self
            .pointer_at("frame", fp.checked_add_signed(chain.caller)?)
            .ok()?;
        let holder = if chain.in_caller { caller } else { fp };
        if holder == 0 {
            return None;
        }
        let to = self
            .pointer_at("frame", holder.checked_add_signed(chain.back)?)
            .ok()?;
        (to != 0).then_some((to, caller))
    }
}
