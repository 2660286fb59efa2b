//! Kernel stacks: frame-pointer chains through the kernel's text, with trap frames in them.
//!
//! A frame is (address of the frame) saved frame pointer, return address; a trap frame lies
//! behind the frame whose return address is in a trap entry. Written for amd64, where the stack
//! pointer of a saved context points at the slot of its return address.

use super::builder::Builder;
use super::chains::{self, TRAP_ENTRIES};
use super::error::Error;
use super::processor::Registers;
use super::rng::Rng;
use super::truth::Frame;

/// What a stack was built for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Purpose {
    /// Whether the thread came from user mode.
    pub(crate) user: bool,
    /// Whether the slot of the innermost return address has been used again since.
    pub(crate) stale: bool,
}

/// The trap number of a page fault, and of a non-maskable interrupt.
const T_PAGEFLT: u32 = 12;
const T_NMI: u32 = 19;

/// Writes a chain onto the stack below `top`, and gives the context of its innermost function.
pub(crate) fn build(
    b: &mut Builder<'_>,
    rng: &mut Rng,
    top: u64,
    chain: &[&'static str],
    purpose: Purpose,
    thread: u64,
    root: u64,
) -> Result<(Registers, Vec<Frame>), Error> {
    let processor = b.processor;
    let mut saved = [0u64; 5];
    for (i, value) in saved.iter_mut().enumerate() {
        *value = match i {
            0 => thread,
            1 => 0,
            _ => b.space.dmap.start | rng.below(1 << 24) << 4,
        };
    }
    let user = Registers {
        pc: 0x0000_0008_2280_0000 | rng.below(1 << 20),
        sp: 0x0000_0008_20e0_0000 | rng.below(1 << 16) << 4,
        fp: 0x0000_0008_20e1_0000 | rng.below(1 << 12) << 4,
        saved: [0; 5],
        root,
    };
    let outer = processor.user_frame(&user);
    let frame_size = outer.len() as u64;
    let base = (top - frame_size) & !15;
    let fp0 = if purpose.user {
        b.poke(base, &outer)?;
        user.fp
    } else {
        0
    };

    if chain == ["fork_trampoline"] {
        let pc = b.kernel.address("fork_trampoline")?;
        let registers = Registers {
            pc,
            sp: base - 8,
            fp: 0,
            saved: [thread, b.kernel.address("fork_exit")?, 0, 0, 0],
            root,
        };
        return Ok((registers, vec![frame(b, pc, 0, None)]));
    }

    // From the outermost function inwards. `sp` is the stack pointer of the caller.
    let mut frames = Vec::new();
    let mut sp = base;
    let mut fp = fp0;
    let mut i = chain.len() - 1;
    while i > 0 {
        let caller = chain[i];
        let callee = chain[i - 1];
        if TRAP_ENTRIES.contains(&callee) {
            // `caller` was interrupted; the trap entry calls the function before it.
            let handler = i.checked_sub(2).map(|k| chain[k]);
            let interrupted = Registers {
                pc: b.kernel.inside(caller)?,
                sp,
                fp,
                saved,
                root,
            };
            let (trap, address) = match callee {
                "calltrap" => (T_PAGEFLT, 0x28),
                "nmi_calltrap" => (T_NMI, 0),
                _ => (0, 0),
            };
            let bytes = processor.trap_frame(&interrupted, trap, address);
            let at = (sp & !15) - bytes.len() as u64;
            b.poke(at, &bytes)?;
            frames.push(frame(b, interrupted.pc, fp, None));
            let Some(handler) = handler else {
                return Err(Error::Kernel("a chain ends in a trap entry".into()));
            };
            let back = b.kernel.call_site(callee, handler)?;
            frames.push(frame(b, back, fp, Some(at)));
            b.poke_u64(at - 8, back)?;
            b.poke_u64(at - 16, fp)?;
            fp = at - 16;
            sp = locals(b, rng, fp)?;
            i -= 2;
            continue;
        }
        let back = b.kernel.call_site(caller, callee)?;
        frames.push(frame(b, back, fp, None));
        b.poke_u64(sp - 8, back)?;
        b.poke_u64(sp - 16, fp)?;
        fp = sp - 16;
        sp = locals(b, rng, fp)?;
        i -= 1;
    }
    let inner = chain[0];
    let into = chains::saver(inner);
    let pc = b.kernel.call_site(inner, into)?;
    frames.push(frame(b, pc, fp, None));
    let slot = if purpose.stale {
        b.kernel.address("vpanic")? + 5
    } else {
        pc
    };
    b.poke_u64(sp - 8, slot)?;
    frames.reverse();
    let registers = Registers {
        pc,
        sp: sp - 8,
        fp,
        saved,
        root,
    };
    Ok((registers, frames))
}

/// Fills the locals of a function below its frame; gives the stack pointer.
fn locals(b: &mut Builder<'_>, rng: &mut Rng, fp: u64) -> Result<u64, Error> {
    let words = 2 * (1 + rng.below(6));
    for i in 1..=words {
        let value = match rng.below(5) {
            0 => 0,
            1 => rng.below(256),
            2 => b.space.dmap.start | rng.below(1 << 24) << 3,
            // What an earlier call left: a return address that is no part of the chain.
            3 => b.kernel.start + rng.below(1 << 14),
            _ => fp + rng.below(512),
        };
        b.poke_u64(fp - 8 * i, value)?;
    }
    Ok(fp - 8 * words)
}

fn frame(b: &Builder<'_>, pc: u64, fp: u64, trap: Option<u64>) -> Frame {
    let (function, offset) = b.kernel.function_at(pc);
    Frame {
        pc,
        fp,
        function: function.into(),
        offset,
        trap,
    }
}
