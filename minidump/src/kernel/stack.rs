//! Call chains by frame pointers, through trap frames, up to user mode.

use crate::VirtAddr;
use crate::defs::pcb::{
    CS_RPL, STACK_ENDS, TRAP_AMD64, TRAP_ENTRIES, TRAP_ENTRY_PREFIXES, TrapFields,
};
use crate::kernel::{Kernel, Registers};

/// The most frames of one stack: a chain that goes round ends there.
const LIMIT: usize = 256;

/// A trap or an interrupt between two frames.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Trap {
    /// Address of the `struct trapframe`.
    pub at: u64,
    /// `tf_trapno`; interrupt entries leave it as it was.
    pub number: u32,
    /// Whether user mode was interrupted: the chain ends here.
    pub from_user: bool,
}

/// One frame, innermost first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// The program counter: the registers' own, then return addresses.
    pub pc: u64,
    /// The frame pointer while it runs.
    pub fp: u64,
    /// The function it lies in, and how far.
    pub function: Option<(String, u64)>,
    /// The trap that led from the next frame to this one, a trap's entry.
    pub trap: Option<Trap>,
}

impl Kernel<'_> {
    /// The call chain of saved registers, innermost first.
    ///
    /// The chain ends where the kernel's part of the stack does, where a frame pointer does not go
    /// up or cannot be read, and after 256 frames.
    pub fn stack(&self, registers: &Registers) -> Vec<Frame> {
        let word = self.elf().pointer_size() as u64;
        let form = (self.elf().machine() == TRAP_AMD64.machine).then_some(&TRAP_AMD64);
        let mut frames: Vec<Frame> = Vec::new();
        let (mut pc, mut fp) = (registers.pc, registers.fp);
        // The frame pointer of the function that this one called.
        let mut below = None;
        while frames.len() < LIMIT {
            let function = self.function(pc);
            let name = function.as_ref().map_or("", |(name, _)| name.as_str());
            let ends = STACK_ENDS.contains(&name);
            let trap = form
                .filter(|_| is_trap_entry(name))
                .zip(below)
                .and_then(|(form, below)| self.trap(form, below));
            frames.push(Frame {
                pc,
                fp,
                function,
                trap: trap.map(|(trap, ..)| trap),
            });
            if ends {
                break;
            }
            match trap {
                Some((trap, ..)) if trap.from_user => break,
                Some((_, to, caller)) => {
                    (pc, fp) = (to, caller);
                    below = None;
                }
                None => {
                    let Some((to, caller)) = self.call(fp, word) else {
                        break;
                    };
                    if !self.is_text(to) {
                        break;
                    }
                    below = Some(fp);
                    // A stack grows down, so callers lie above. The outermost frame's caller is
                    // another world, and an entry may have come from another stack.
                    let name = self.function(to).map_or(String::new(), |(name, _)| name);
                    let on = caller > fp || is_trap_entry(&name);
                    (pc, fp) = (to, if on { caller } else { 0 });
                }
            }
        }
        frames
    }

    fn function(&self, at: u64) -> Option<(String, u64)> {
        let (name, offset) = self.elf().lookup(at)?;
        Some((name.to_string(), offset))
    }

    /// Return address and caller's frame pointer of the frame at `fp`.
    fn call(&self, fp: u64, word: u64) -> Option<(u64, u64)> {
        if fp == 0 || !fp.is_multiple_of(word) {
            return None;
        }
        let caller = self.pointer_at("frame", fp).ok()?;
        let to = self.pointer_at("frame", fp.checked_add(word)?).ok()?;
        (to != 0).then_some((to, caller))
    }

    /// The trap frame above the frame at `below`, with the program counter and frame pointer of
    /// what was interrupted.
    fn trap(&self, form: &TrapFields, below: u64) -> Option<(Trap, u64, u64)> {
        let at = below.checked_add(form.from_fp)?;
        let field = |offset, len| {
            let here = at.checked_add(offset)?;
            self.uint_at("trap frame", here, len).ok()
        };
        let trap = Trap {
            at,
            number: field(form.trapno, 4)? as u32, // 4 bytes were read
            from_user: field(form.cs, form.word)? & CS_RPL != 0,
        };
        Some((trap, field(form.pc, form.word)?, field(form.fp, form.word)?))
    }

    /// Whether code can be at `at`. A file that names no function cannot tell; then it has to be
    /// mapped at least.
    fn is_text(&self, at: u64) -> bool {
        if self.elf().has_functions() {
            self.elf().lookup(at).is_some()
        } else {
            self.memory().translate(VirtAddr(at)).is_ok()
        }
    }
}

fn is_trap_entry(name: &str) -> bool {
    TRAP_ENTRIES.contains(&name)
        || TRAP_ENTRY_PREFIXES
            .iter()
            .any(|prefix| name.starts_with(prefix))
}
