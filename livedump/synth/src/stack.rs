//! Kernel stacks: frame-pointer chains through the kernel's text, with trap frames.

use livecore_minidump::VirtAddr;

use super::builder::Builder;
use super::chains;
use super::error::Error;
use super::processor::{Registers, Trap};
use super::rng::Rng;
use super::truth::Frame;

/// The situation of a stack's thread.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Purpose {
    /// Whether the thread came from user mode.
    pub(crate) user: bool,
    /// Whether the stack slot of the innermost return address has been overwritten since.
    pub(crate) stale: bool,
    /// Whether the thread is running: its innermost function has not called another.
    pub(crate) running: bool,
}

/// The address that a fault in the kernel accessed.
const FAULT_ADDRESS: u64 = 0x28;

/// Writes a chain to the stack below `top`, and returns the context of its innermost function.
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
    let names = processor.names(b.description);
    let entries = names.entries;
    let starts = ["fork_trampoline", "fork_trampoline_kthread"];
    let mut saved = [0u64; 5];
    for (i, value) in saved.iter_mut().enumerate() {
        *value = match i {
            0 => thread,
            1 => 0,
            _ => b.space.dmap.start | rng.below(1 << 24) << 4,
        };
    }
    let half = b.space.user_end.min(0x0000_0010_0000_0000) / 2;
    let user = Registers {
        pc: half | 0x2280_0000 | rng.below(1 << 20),
        sp: half | 0x20e0_0000 | rng.below(1 << 16) << 4,
        fp: half | 0x20e1_0000 | rng.below(1 << 12) << 4,
        saved: [0; 5],
        root,
    };
    // The entry into the kernel.
    let outer = processor.trap(top, purpose.user);
    let mut sp = outer.frame;
    let mut fp = 0;
    if purpose.user {
        b.poke(outer.frame, &processor.trap_frame(&user, Trap::User))?;
        fp = enter(b, outer.record, &user)?;
        let entry = chain.last().copied().unwrap_or_default();
        sp = pass(b, entry, sp)?;
    } else if chain.len() > 1 {
        // A kernel thread's frame is empty.
        let empty = processor.trap_frame(&Registers::default(), Trap::Interrupt);
        b.poke(outer.frame, &vec![0; empty.len()])?;
        let entry = names.kthread.last().copied().unwrap_or_default();
        sp = pass(b, entry, sp)?;
    }

    if let [entry] = chain
        && starts.contains(entry)
    {
        let pc = b.kernel.address(entry)?;
        let registers = Registers {
            pc,
            sp: processor.saved_sp(outer.frame).0,
            fp: 0,
            saved: [thread, b.kernel.address("fork_exit")?, 0, 0, 0],
            root,
        };
        return Ok((registers, vec![frame(b, pc, 0, None)]));
    }

    // From the outermost function to the innermost. `sp` is the caller's stack pointer.
    let mut frames = Vec::new();
    let mut i = chain.len() - 1;
    while i > 0 {
        let caller = chain[i];
        let mut callee = chain[i - 1];
        let back = if entries.contains(&callee) {
            // `caller` was interrupted. The trap entry calls the function before it.
            let interrupted = Registers {
                pc: b.kernel.inside(caller)?,
                sp,
                fp,
                saved,
                root,
            };
            let Some(&handler) = i.checked_sub(2).and_then(|k| chain.get(k)) else {
                return Err(Error::Kernel("a chain ends in a trap entry".into()));
            };
            let trap = match callee {
                "nmi_calltrap" => Trap::Nmi,
                "fred_events_handlers" if chain[..i].contains(&"ipi_nmi_handler") => Trap::Nmi,
                "fred_events_handlers" if chain[..i].contains(&"cpustop_handler") => {
                    Trap::Interrupt
                }
                "Xcpustop" | "handle_el1h_irq" => Trap::Interrupt,
                _ if handler == "do_trap_supervisor" && chain[..i].contains(&"ipi_stop") => {
                    Trap::Interrupt
                }
                _ => Trap::Fault(FAULT_ADDRESS),
            };
            let at = processor.trap(sp, false);
            b.poke(at.frame, &processor.trap_frame(&interrupted, trap))?;
            frames.push(frame(b, interrupted.pc, fp, None));
            fp = enter(b, at.record, &interrupted)?;
            sp = pass(b, callee, at.frame)?;
            let back = b.kernel.call_site(callee, handler)?;
            frames.push(frame(b, back, fp, Some(at.frame)));
            callee = handler;
            i -= 1;
            back
        } else {
            let back = b.kernel.call_site(caller, callee)?;
            frames.push(frame(b, back, fp, None));
            // A function that left by a tail call has no frame.
            while let Some(&next) = i.checked_sub(2).and_then(|k| chain.get(k))
                && b.kernel.tail_calls.contains(&(callee, next))
            {
                callee = next;
                i -= 1;
            }
            back
        };
        debug_assert_eq!(callee, chain[i - 1]);
        let locals = 16 * (1 + rng.below(6));
        let at = processor.frame(sp, locals);
        b.poke_word(at.record, fp)?;
        b.poke_word(at.record + u64::from(b.layout.word), back)?;
        fill(b, rng, at.locals, locals, at.fp)?;
        fp = at.fp;
        sp = at.sp;
        i -= 1;
    }
    let inner = chain[0];
    let (pc, (sp, slot)) = if purpose.running {
        (b.kernel.inside(inner)?, (sp, None))
    } else {
        let pc = b.kernel.call_site(inner, chains::saver(inner))?;
        (pc, processor.saved_sp(sp))
    };
    frames.push(frame(b, pc, fp, None));
    if let Some(slot) = slot {
        let value = if purpose.stale {
            b.kernel.address("vpanic")? + 5
        } else {
            pc
        };
        b.poke_word(slot, value)?;
    }
    frames.reverse();
    let registers = Registers {
        pc,
        sp,
        fp,
        saved,
        root,
    };
    Ok((registers, frames))
}

/// Writes the frame record of a trap entry, if it has one, and returns the new frame pointer.
fn enter(b: &mut Builder<'_>, record: Option<u64>, r: &Registers) -> Result<u64, Error> {
    let Some(record) = record else {
        return Ok(r.fp);
    };
    b.poke_word(record, r.fp)?;
    b.poke_word(record + u64::from(b.layout.word), r.saved[2])?;
    Ok(record)
}

/// Pushes the arguments of entry code, and returns the new stack pointer.
fn pass(b: &mut Builder<'_>, entry: &str, frame: u64) -> Result<u64, Error> {
    let mut sp = frame;
    for argument in b.processor.arguments(entry, frame) {
        sp -= u64::from(b.layout.word);
        b.poke_word(sp, argument)?;
    }
    Ok(sp)
}

/// Fills the locals of a function.
fn fill(b: &mut Builder<'_>, rng: &mut Rng, at: u64, len: u64, fp: u64) -> Result<(), Error> {
    let size = u64::from(b.layout.word);
    for word in (0..len / size).rev() {
        let value = match rng.below(5) {
            0 => 0,
            1 => rng.below(256),
            2 => b.space.dmap.start | rng.below(1 << 24) << 3,
            // Left by an earlier call: a return address that is not part of the chain.
            3 => b.kernel.start + rng.below(1 << 14),
            _ => fp + rng.below(512),
        };
        b.poke_word(at + size * word, value)?;
    }
    Ok(())
}

fn frame(b: &Builder<'_>, pc: u64, fp: u64, trap: Option<u64>) -> Frame {
    let (function, offset) = b.kernel.function_at(pc);
    Frame {
        pc: VirtAddr(pc),
        fp: VirtAddr(fp),
        function: function.into(),
        offset,
        trap: trap.map(VirtAddr),
    }
}
