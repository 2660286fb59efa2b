//! The registers of a machine's processors, put where a debugger looks for them.
//!
//! A kernel that dumps leaves its own registers in `dumppcb`, its thread's number in `dumptid`, and
//! those of the processors that it stopped in `stoppcbs`, with a bit each in `stopped_cpus`. Who has
//! a machine's memory from outside finds all four empty, or old, and the registers elsewhere: with
//! the hypervisor. So they are filled in, in the copies of those pages that go into the dump:
//! FreeBSD `sys/kern/kern_shutdown.c` (`doadump`), `sys/kern/subr_smp.c` (`stoppcbs`).
//!
//! Registers are put in as they are, stack pointer included: the processor was at `rip` when it had
//! them, unlike a thread that was switched out, whose `pcb_rsp` is one word below.
//!
//! A processor that the kernel has stopped already waits in a function for that, and `stoppcbs` has
//! what it did before. That is what a debugger wants, so it stays. One that sits in the kernel's own
//! debugger waits for a key; what it did before is in `kdb_pcb`, which is what that debugger shows, and
//! is put in. Where that is a program's ([`Kernel::is_of_program`]), the processor's own are.
//!
//! A processor that has left the kernel, for a reset or into firmware, says nothing about it: it is
//! left alone, and so is what the kernel saved before (a machine that panicked and went on to reboot).

mod processor;

use livecore_defs::pcb::PcbFields;
use livecore_kernel::{Kernel, Thread};
use livecore_minidump::KernelElf;
use livecore_minidump::provenance::{Cpu, CpuPlace};

use super::error::TakeError;
use super::patch::Patches;
use crate::image::cpu::CpuState;
use livecore_minidump::mmu::MachineView;

/// What was put where, and what could not be.
#[derive(Debug, Default)]
pub(super) struct Placed {
    pub(super) patches: Patches,
    pub(super) cpus: Vec<Cpu>,
    pub(super) notes: Vec<String>,
}

/// Puts the registers of `cpus` into a dump. The thread on processor `chosen` (its number in the
/// image) becomes the one that dumped; by default that is the one in the kernel's debugger, else the
/// one on the only processor that is not stopped, else on the first.
pub(super) fn place(
    view: &MachineView,
    elf: &KernelElf,
    cpus: &[CpuState],
    chosen: Option<u32>,
) -> Result<Placed, TakeError> {
    let mut placed = Placed::default();
    if let Some(number) = chosen
        && !cpus.iter().any(|cpu| cpu.number == number)
    {
        let has = cpus.iter().map(|cpu| cpu.number.to_string());
        return Err(TakeError::NoCpu {
            number,
            has: has.collect::<Vec<_>>().join(", "),
        });
    }
    let (mut known, others): (Vec<&CpuState>, Vec<&CpuState>) = cpus
        .iter()
        .partition(|cpu| processor::is_of(&cpu.registers, elf.machine()));
    if !others.is_empty() {
        let numbers = others.iter().map(|cpu| cpu.number.to_string());
        let numbers = numbers.collect::<Vec<_>>().join(", ");
        placed.notes.push(format!(
            "registers of CPU {numbers} are not in the dump: they are told in a form that is not read"
        ));
    }
    let mut others_left = false;
    known.retain(|cpu| {
        let why = processor::left(&cpu.registers, elf.is_64(), view.memory().ranges());
        if let Some(why) = why {
            let number = cpu.number;
            placed.notes.push(format!(
                "CPU {number} has left the kernel ({why}): its registers are not in the dump"
            ));
        }
        others_left |= why.is_some();
        why.is_none()
    });
    if known.is_empty() {
        return Ok(placed);
    }
    let kernel = Kernel::new(view, elf);
    let Some(layout) = kernel.pcb_layout() else {
        let what = "no place for registers: which form a struct pcb has is not known";
        placed.notes.push(what.into());
        return Ok(placed);
    };
    let threads = match kernel.threads() {
        Ok(threads) => threads,
        Err(error) => {
            let what = format!("no threads, so no place for registers: {error}");
            placed.notes.push(what);
            return Ok(placed);
        }
    };
    let found = identify(&kernel, &known, &threads);
    let first = choose(&kernel, &found, chosen, others_left);
    for (index, on) in found.iter().enumerate() {
        if on.in_debugger {
            let number = on.state.number;
            let own = match on.came {
                Some(_) => "those that it came with",
                None => "its own, not the program's that it came with",
            };
            let what = format!("CPU {number} is in the kernel's debugger: its registers are {own}");
            placed.notes.push(what);
        }
        if Some(index) != first && waits_stopped(&kernel, layout, on) {
            let number = on.state.number;
            let what = format!("the kernel had stopped CPU {number}: its own copy of it is kept");
            placed.notes.push(what);
            continue;
        }
        let place = if Some(index) == first {
            dumping(&kernel, layout, on, &mut placed.patches)
        } else {
            stopped(&kernel, layout, on, &mut placed.patches)
        };
        let place = place.unwrap_or_else(|why| {
            let number = on.state.number;
            let what = format!("registers of CPU {number} are not in the dump: {why}");
            placed.notes.push(what);
            CpuPlace::Nowhere
        });
        placed.cpus.push(Cpu {
            number: on.state.number,
            cpuid: Some(on.cpuid),
            tid: on.thread.map(|thread| thread.tid),
            place,
        });
    }
    let bits = stopped_cpus(&kernel, &placed.cpus, &mut placed.patches);
    if let Err(why) = bits {
        placed.notes.push(format!("stopped_cpus: {why}"));
    }
    Ok(placed)
}

/// A processor, as the image and as the kernel know it.
struct OnCpu<'a> {
    state: &'a CpuState,
    cpuid: u32,
    thread: Option<&'a Thread>,
    /// It is in the kernel's debugger.
    in_debugger: bool,
    /// `kdb_pcb`, if that has what it came there with.
    came: Option<u64>,
}

/// Which thread runs on each processor.
///
/// In the kernel a register has the address of `struct pcpu`, whose first member is `pc_curthread`.
/// Where that leads to no thread, numbers are taken for the same here and there.
fn identify<'a>(
    kernel: &Kernel<'_>,
    cpus: &[&'a CpuState],
    threads: &'a [Thread],
) -> Vec<OnCpu<'a>> {
    let of_cpu = |id: u32| threads.iter().find(|thread| thread.cpu == Some(id));
    let kdb_pcb = kernel.address("kdb_pcb").ok();
    cpus.iter()
        .map(|&state| {
            let mut pcpus = processor::pcpus(&state.registers).into_iter();
            let current = pcpus.find_map(|base| {
                let at = kernel.pointer_at("pc_curthread", base).ok()?;
                threads.iter().find(|thread| thread.at == at)
            });
            let cpuid = current.and_then(|thread| thread.cpu);
            let cpuid = cpuid.unwrap_or(state.number);
            let thread = current.or_else(|| of_cpu(cpuid));
            let debugger = thread.and_then(|thread| thread.pcb);
            OnCpu {
                state,
                cpuid,
                thread,
                in_debugger: debugger.is_some() && debugger == kdb_pcb,
                came: debugger.filter(|pcb| Some(*pcb) == kdb_pcb && !kernel.is_of_program(*pcb)),
            }
        })
        .collect()
}

/// The index of the processor whose thread is to be the dumping one. If others have left the kernel,
/// the thread that dumped may have been on one of those: then only the kernel's debugger tells.
fn choose(
    kernel: &Kernel<'_>,
    cpus: &[OnCpu<'_>],
    chosen: Option<u32>,
    others_left: bool,
) -> Option<usize> {
    if let Some(number) = chosen {
        return cpus.iter().position(|on| on.state.number == number);
    }
    let debugging = cpus.iter().position(|on| on.in_debugger);
    if others_left {
        return debugging;
    }
    let mut running = (0..cpus.len()).filter(|i| !is_stopped(kernel, cpus[*i].cpuid));
    let only = running.next().filter(|_| running.next().is_none());
    debugging.or(only).or((!cpus.is_empty()).then_some(0))
}

fn dumping(
    kernel: &Kernel<'_>,
    layout: &PcbFields,
    on: &OnCpu<'_>,
    patches: &mut Patches,
) -> Result<CpuPlace, String> {
    let thread = on.thread.ok_or("no thread is on it")?;
    let pcb = kernel.address("dumppcb").map_err(|e| e.to_string())?;
    let tid = kernel.address("dumptid").map_err(|e| e.to_string())?;
    registers(kernel, layout, on, pcb, patches)?;
    let order = kernel.elf().order();
    let mut bytes = [0; 4];
    order.put(&mut bytes, u64::from(thread.tid.cast_unsigned()));
    let put = patches.put(kernel.memory(), tid, &bytes);
    put.map_err(|e| format!("dumptid: {e}"))?;
    Ok(CpuPlace::Dumppcb)
}

fn stopped(
    kernel: &Kernel<'_>,
    layout: &PcbFields,
    on: &OnCpu<'_>,
    patches: &mut Patches,
) -> Result<CpuPlace, String> {
    let pcb = kernel.stoppcb(on.cpuid).ok_or("stoppcbs has no room")?;
    if kernel.stopped_cpus_bit(on.cpuid).is_none() {
        return Err("stopped_cpus has no bit".into());
    }
    registers(kernel, layout, on, pcb, patches)?;
    Ok(CpuPlace::Stoppcbs)
}

/// Whether a processor waits where the kernel has stopped it, after it has saved what it did.
fn waits_stopped(kernel: &Kernel<'_>, layout: &PcbFields, on: &OnCpu<'_>) -> bool {
    let handlers = processor::waits_in(kernel.elf().machine());
    let place = on.state.registers.place();
    let function = place.and_then(|(pc, _)| kernel.function(pc));
    let waits = function.is_some_and(|(name, _)| handlers.contains(&name.as_str()));
    if !waits || !is_stopped(kernel, on.cpuid) {
        return false;
    }
    let saved = || {
        let offset = layout.registers.iter().find(|(of, _)| *of == layout.pc)?.1;
        let at = kernel.stoppcb(on.cpuid)?.checked_add(offset as u64)?;
        kernel.uint_at(layout.pc, at, layout.word).ok()
    };
    saved().is_some_and(|pc| pc != 0)
}

/// Whether `stopped_cpus` in memory has the processor's bit.
fn is_stopped(kernel: &Kernel<'_>, cpuid: u32) -> bool {
    kernel.stopped_cpus_bit(cpuid).is_some_and(|(at, mask)| {
        let byte = kernel.uint_at("stopped_cpus", at, 1).unwrap_or(0);
        byte & u64::from(mask) != 0
    })
}

/// Puts a processor's registers into the `struct pcb` at `at`.
fn registers(
    kernel: &Kernel<'_>,
    layout: &PcbFields,
    on: &OnCpu<'_>,
    at: u64,
    patches: &mut Patches,
) -> Result<(), String> {
    let word = layout.word as u64;
    let order = kernel.elf().order();
    let mut put = |offset: u64, value: u64| {
        let mut bytes = [0; 8];
        let bytes = &mut bytes[..word as usize];
        order.put(bytes, value);
        patches
            .put(kernel.memory(), at.wrapping_add(offset), bytes)
            .map_err(|e| format!("struct pcb: {e}"))
    };
    let registers = &on.state.registers;
    // What it came with, of a processor in the debugger.
    let before = |name: &str, offset: usize| {
        let pcb = on.came?;
        let value = kernel.uint_at(name, pcb.wrapping_add(offset as u64), layout.word);
        Some(value.map_err(|e| e.to_string()))
    };
    let trapped = layout.trapped.map(|trapped| trapped.pc);
    let came = trapped.and_then(|offset| before("kdb_pcb", offset));
    let came = came.transpose()?.filter(|pc| *pc != 0);
    for (name, offset) in processor::registers_of(layout) {
        let value = match before(name, offset).transpose()? {
            Some(_) if name == layout.pc && came.is_some() => came,
            Some(value) => Some(value),
            None => processor::value(registers, layout, name),
        };
        // A pcb has no register that a processor lacks.
        if let Some(value) = value {
            put(offset as u64, value)?;
        }
    }
    if let Some(offset) = trapped
        && let Some(pc) = came.or_else(|| processor::value(registers, layout, layout.pc))
    {
        put(offset as u64, pc)?;
    }
    for (offset, value) in processor::beside(registers, layout) {
        put(offset, value)?;
    }
    Ok(())
}

/// Sets the bits of the processors that count as stopped, and clears the dumping one's.
fn stopped_cpus(kernel: &Kernel<'_>, cpus: &[Cpu], patches: &mut Patches) -> Result<(), String> {
    let mut bytes = std::collections::BTreeMap::<u64, u8>::new();
    for cpu in cpus {
        let bit = cpu.cpuid.and_then(|id| kernel.stopped_cpus_bit(id));
        let Some((at, mask)) = bit else {
            continue;
        };
        let byte = match bytes.get(&at) {
            Some(byte) => *byte,
            // One byte was read.
            None => kernel
                .uint_at("stopped_cpus", at, 1)
                .map_err(|e| e.to_string())? as u8,
        };
        let byte = match cpu.place {
            CpuPlace::Stoppcbs => byte | mask,
            CpuPlace::Dumppcb => byte & !mask,
            CpuPlace::Nowhere => byte,
        };
        bytes.insert(at, byte);
    }
    for (at, byte) in bytes {
        let put = patches.put(kernel.memory(), at, &[byte]);
        put.map_err(|e| e.to_string())?;
    }
    Ok(())
}
