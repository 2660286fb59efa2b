//! Adds the registers of a machine's CPUs to a dump, where debuggers look for them.
//!
//! A kernel that dumps saves its own registers in `dumppcb`, its thread's id in `dumptid`, and the
//! registers of the CPUs that it stopped in `stoppcbs`, with a bit each in `stopped_cpus`. In the
//! memory of a running machine these are empty or old, and the hypervisor has the registers. They
//! are filled in, in the copies of those pages in the dump: FreeBSD `sys/kern/kern_shutdown.c`
//! (`doadump`), `sys/kern/subr_smp.c` (`stoppcbs`).
//!
//! The registers are stored unchanged, the stack pointer too: the CPU was at `rip` with these
//! values, unlike a thread that was switched out, whose `pcb_rsp` is one word below.
//!
//! A CPU that the kernel has already stopped waits in a function for that, and `stoppcbs` has its
//! earlier registers. They are what a debugger needs, so they are kept. A CPU in the kernel's
//! debugger waits for input; its earlier registers are in `kdb_pcb`, which that debugger shows, and
//! are added. If they are those of a user program ([`Kernel::is_of_program`]), the CPU's own are
//! added.
//!
//! A CPU that has left the kernel, for a reset or into firmware, is ignored, and what the kernel
//! saved before is kept (for example of a machine that panicked and then rebooted).

mod processor;

use livecore_defs::pcb::PcbFields;
use livecore_kernel::{Kernel, Thread};
use livecore_minidump::KernelElf;
use livecore_minidump::VirtAddr;
use livecore_minidump::provenance::{Cpu, CpuPlace};

use super::error::TakeError;
use super::note::Note;
use super::patch::Patches;
use crate::image::CpuState;
use livecore_minidump::mmu::MachineView;

/// The patches, and notes about registers that were not added.
#[derive(Debug, Default)]
pub(super) struct CpuPatches {
    pub(super) patches: Patches,
    pub(super) cpus: Vec<Cpu>,
    pub(super) notes: Vec<Note>,
}

/// Adds the registers of `cpus` to a dump. The thread on CPU `chosen` (its number in the image)
/// becomes the one that dumped; by default the one in the kernel's debugger, or else the one on the
/// only CPU that is not stopped, or else the one on the first.
pub(super) fn patch(
    view: &MachineView,
    elf: &KernelElf,
    cpus: &[CpuState],
    chosen: Option<u32>,
) -> Result<CpuPatches, TakeError> {
    let mut patched = CpuPatches::default();
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
        let cpus = others.iter().map(|cpu| cpu.number).collect();
        patched.notes.push(Note::UnknownRegisters { cpus });
    }
    let mut others_left = false;
    known.retain(|cpu| {
        let why = processor::left(&cpu.registers, elf.is_64(), view.memory().ranges());
        if let Some(why) = why {
            let cpu = cpu.number;
            patched.notes.push(Note::LeftKernel { cpu, why });
        }
        others_left |= why.is_some();
        why.is_none()
    });
    if known.is_empty() {
        return Ok(patched);
    }
    let kernel = Kernel::new(view, elf);
    let Some(layout) = kernel.pcb_layout() else {
        let why = "unknown layout of struct pcb".into();
        patched.notes.push(Note::NoRegisters { why });
        return Ok(patched);
    };
    let threads = match kernel.threads() {
        Ok(threads) => threads,
        Err(error) => {
            let why = format!("no threads: {error}");
            patched.notes.push(Note::NoRegisters { why });
            return Ok(patched);
        }
    };
    let found = identify(&kernel, &known, &threads);
    let first = choose(&kernel, &found, chosen, others_left);
    for (index, on) in found.iter().enumerate() {
        if on.in_debugger {
            patched.notes.push(Note::InDebugger {
                cpu: on.state.number,
                on_entry: on.entry.is_some(),
            });
        }
        if Some(index) != first && waits_stopped(&kernel, layout, on) {
            let cpu = on.state.number;
            patched.notes.push(Note::StoppedByKernel { cpu });
            continue;
        }
        let place = if Some(index) == first {
            dumping(&kernel, layout, on, &mut patched.patches)
        } else {
            stopped(&kernel, layout, on, &mut patched.patches)
        };
        let place = place.unwrap_or_else(|why| {
            let cpu = on.state.number;
            patched.notes.push(Note::RegistersNotAdded { cpu, why });
            CpuPlace::Nowhere
        });
        patched.cpus.push(Cpu {
            number: on.state.number,
            cpuid: Some(on.cpuid),
            tid: on.thread.map(|thread| thread.tid),
            place,
        });
    }
    let bits = stopped_cpus(&kernel, &patched.cpus, &mut patched.patches);
    if let Err(why) = bits {
        patched.notes.push(Note::StoppedCpus { why });
    }
    Ok(patched)
}

/// A CPU of the image with its data in the kernel.
struct OnCpu<'a> {
    state: &'a CpuState,
    cpuid: u32,
    thread: Option<&'a Thread>,
    /// Whether it is in the kernel's debugger.
    in_debugger: bool,
    /// The address of `kdb_pcb`, if it has the registers on entry to the debugger.
    entry: Option<VirtAddr>,
}

/// Finds the thread of each CPU.
///
/// In the kernel a register has the address of `struct pcpu`, whose first member is `pc_curthread`.
/// If that does not lead to a thread, the CPU numbers of the image and of the kernel are assumed to
/// agree.
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
                let at = kernel.pointer_at("pc_curthread", VirtAddr(base)).ok()?;
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
                entry: debugger.filter(|pcb| Some(*pcb) == kdb_pcb && !kernel.is_of_program(*pcb)),
            }
        })
        .collect()
}

/// The index of the CPU whose thread becomes the dumping one. If other CPUs have left the kernel,
/// the dumping thread may have been on one of them, so only a CPU in the kernel's debugger is
/// chosen.
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
    let thread = on.thread.ok_or("no thread runs on it")?;
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
    let pcb = kernel.stoppcb(on.cpuid).ok_or("stoppcbs is too small")?;
    if kernel.stopped_cpus_bit(on.cpuid).is_none() {
        return Err("stopped_cpus has no bit for it".into());
    }
    registers(kernel, layout, on, pcb, patches)?;
    Ok(CpuPlace::Stoppcbs)
}

/// Whether a CPU waits in the kernel's stop function, after saving its registers.
fn waits_stopped(kernel: &Kernel<'_>, layout: &PcbFields, on: &OnCpu<'_>) -> bool {
    let handlers = processor::waits_in(kernel.elf().machine());
    let location = on.state.registers.place();
    let function = location.and_then(|(pc, _)| kernel.function(pc));
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

/// Whether `stopped_cpus` in memory has the CPU's bit.
fn is_stopped(kernel: &Kernel<'_>, cpuid: u32) -> bool {
    kernel.stopped_cpus_bit(cpuid).is_some_and(|(at, mask)| {
        let byte = kernel.uint_at("stopped_cpus", at, 1).unwrap_or(0);
        byte & u64::from(mask) != 0
    })
}

/// Writes a CPU's registers to the `struct pcb` at `at`.
fn registers(
    kernel: &Kernel<'_>,
    layout: &PcbFields,
    on: &OnCpu<'_>,
    at: VirtAddr,
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
    // The registers on entry, for a CPU in the debugger.
    let before = |name: &str, offset: usize| {
        let pcb = on.entry?;
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
        // A pcb contains only registers that the CPU has.
        if let Some(value) = value {
            put(offset as u64, value)?;
        }
    }
    if let Some(offset) = trapped
        && let Some(pc) = came.or_else(|| processor::value(registers, layout, layout.pc))
    {
        put(offset as u64, pc)?;
    }
    for (offset, value) in processor::other_fields(registers, layout) {
        put(offset, value)?;
    }
    Ok(())
}

/// Sets the bits of the CPUs that count as stopped, and clears the dumping CPU's bit.
fn stopped_cpus(kernel: &Kernel<'_>, cpus: &[Cpu], patches: &mut Patches) -> Result<(), String> {
    let mut bytes = std::collections::BTreeMap::<VirtAddr, u8>::new();
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
