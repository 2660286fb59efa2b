//! Registers of arm64 and riscv64 CPUs in a dump.
//!
//! They are stored in FreeBSD's `struct pcb` (`sys/arm64/include/pcb.h` of 14.0,
//! `sys/riscv/include/pcb.h` of 15.0), whose layout is repeated here.

use crate::common;

use std::collections::BTreeSet;
use std::sync::Arc;

use livecore_defs::{arm64, riscv};
use livecore_kernel::{Context, Kernel};
use livecore_livedump::image::{CpuState, Named, Registers, X86};
use livecore_livedump::take::{Left, Note, PlanOptions, Taken, plan};
use livecore_minidump::provenance::{Cpu, CpuPlace};
use livecore_minidump::{Dump, KernelElf, KernelMemory, OpenOptions, VirtAddr};
use livecore_synth::{Context as TruthContext, Machine};

use common::differing;

const ARM64: &str = include_str!("../../../testdata/machines/arm64.toml");
const ARM64_16K: &str = include_str!("../../../testdata/machines/arm64-16k.toml");
const RISCV64: &str = include_str!("../../../testdata/machines/riscv64.toml");
const RISCV64_SV48: &str = include_str!("../../../testdata/machines/riscv64-sv48.toml");

/// A machine with its dump without changes.
struct Guest {
    machine: livecore_synth::Machine,
    elf: KernelElf,
    plain: Dump,
}

impl Guest {
    fn new(text: &str) -> Self {
        let machine = Machine::parse(text).unwrap();
        let elf = KernelElf::from_bytes(machine.kernel().to_vec()).unwrap();
        let plain = dump(&plan(machine.memory(), &elf, &PlanOptions::default()).unwrap());
        Self {
            machine,
            elf,
            plain,
        }
    }

    /// The CPUs of threads, with the threads' ids.
    fn on_cpu(&self) -> Vec<(u32, i32)> {
        let threads = Kernel::new(&self.plain, &self.elf).threads().unwrap();
        let mut on: Vec<_> = threads
            .iter()
            .filter_map(|t| Some((t.cpu?, t.tid)))
            .collect();
        on.sort_unstable();
        on
    }

    fn put(&self, cpus: &[CpuState], chosen: Option<u32>) -> Taken {
        let options = PlanOptions::default();
        let mut taken = plan(self.machine.memory(), &self.elf, &options).unwrap();
        taken.put_cpus(&self.elf, cpus, chosen).unwrap();
        taken
    }

    fn words<const N: usize>(&self, dump: &Dump, at: u64) -> [u64; N] {
        let mut bytes = vec![0; 8 * N];
        dump.read_virt(VirtAddr(at), &mut bytes).unwrap();
        let mut words = bytes
            .chunks_exact(8)
            .map(|w| u64::from_le_bytes(w.try_into().unwrap()));
        std::array::from_fn(|_| words.next().unwrap())
    }

    /// The physical pages of `len` bytes.
    fn pages(&self, at: u64, len: u64) -> BTreeSet<u64> {
        let page = self.plain.page_size();
        let all = (at..at + len).step_by(4);
        all.map(|va| self.plain.translate(VirtAddr(va)).unwrap().0 / page * page)
            .collect()
    }
}

fn dump(taken: &Taken) -> Dump {
    Dump::from_source(Arc::new(taken.payload()), &OpenOptions::default()).unwrap()
}

/// A unique value.
fn value(number: u32, n: u64) -> u64 {
    0xffff_ffff_5a00_0000 + u64::from(number) * 0x1000 + n
}

/// An arm64 CPU in the kernel, whose `x18` has no valid address.
fn arm64(number: u32) -> Named {
    let x = (0..31).map(|x| value(number, x));
    let values = x.chain([value(number, 0x40), value(number, 0x41), 0x3c5]);
    Named::new(&arm64::ARCHITECTURE, values).unwrap()
}

/// A riscv64 CPU: `pc`, then `x1` to `x31`.
fn riscv64(number: u32) -> Named {
    let values = (0..32).map(|x| value(number, if x == 0 { 0x41 } else { x }));
    Named::new(&riscv::ARCHITECTURE, values).unwrap()
}

fn registers(is_arm: bool, number: u32) -> Named {
    match is_arm {
        true => arm64(number),
        false => riscv64(number),
    }
}

fn cpu(is_arm: bool, number: u32) -> CpuState {
    CpuState::new(number, registers(is_arm, number))
}

/// The expected start of a pcb; `None` is unchanged.
fn pcb(is_arm: bool, number: u32) -> [u64; 16] {
    let x = |n: u64| value(number, n);
    if is_arm {
        // pcb_x[13]: x19 to x28, fp, lr; pcb_sp. Debuggers continue at lr.
        let mut words = [0; 16];
        for (word, n) in words.iter_mut().zip(19..30) {
            *word = x(n);
        }
        words[11] = x(0x41);
        words[12] = x(0x40);
        return words;
    }
    // ra, sp, gp, tp, s0 to s11; the first two of these are x8 and x9, the others x18 and up.
    let mut words = [
        x(0x41),
        x(2),
        x(3),
        x(4),
        x(8),
        x(9),
        0,
        0,
        0,
        0,
        0,
        0,
        0,
        0,
        0,
        0,
    ];
    for (word, n) in words[6..].iter_mut().zip(18..28) {
        *word = x(n);
    }
    words
}

fn check_registers(text: &str) {
    let is_arm = text.contains("aarch64");
    let guest = Guest::new(text);
    let on = guest.on_cpu();
    assert!(on.len() > 1, "{on:?}");
    let cpus: Vec<_> = on.iter().map(|(id, _)| cpu(is_arm, *id)).collect();
    let chosen = on.last().unwrap().0;
    let taken = guest.put(&cpus, Some(chosen));
    assert_eq!(taken.notes, []);
    let with = dump(&taken);
    let kernel = Kernel::new(&with, &guest.elf);
    let threads = kernel.threads().unwrap();
    let record = taken.provenance_record().provenance().cpus;
    let address = |name: &str| guest.elf.symbol(name).unwrap().value;
    let [stoppcbs] = guest.words(&guest.plain, address("stoppcbs"));
    let pcb_size = kernel.variable("pcb_size", 4).unwrap();
    let mut allowed = BTreeSet::new();
    let dumping = match guest.machine.truth().dumptid {
        Some(_) => Context::Crashed,
        // As in a live dump.
        None => Context::OnCpu(chosen),
    };
    for (id, tid) in &on {
        let (at, place, context) = match *id == chosen {
            true => (address("dumppcb"), CpuPlace::Dumppcb, dumping),
            false => {
                let at = stoppcbs + u64::from(*id) * pcb_size;
                (at, CpuPlace::Stoppcbs, Context::Stopped(*id))
            }
        };
        let expected = Cpu {
            number: *id,
            cpuid: Some(*id),
            tid: Some(*tid),
            place,
        };
        assert!(record.contains(&expected), "{record:?}");
        // 13 words of arm64's pcb are registers.
        let len = if is_arm { 13 } else { 16 };
        let words: [u64; 16] = guest.words(&with, at);
        assert_eq!(words[..len], pcb(is_arm, *id)[..len], "CPU {id}");
        let before: [u64; 40] = guest.words(&guest.plain, at);
        let after: [u64; 40] = guest.words(&with, at);
        assert_eq!(before[len..], after[len..], "after the registers");
        let thread = threads.iter().find(|t| t.tid == *tid).unwrap();
        assert_eq!(thread.context, context);
        let registers = kernel.registers(thread).unwrap();
        assert_eq!(registers.pc(), Some(VirtAddr(value(*id, 0x41))));
        allowed.extend(guest.pages(at, pcb_size));
    }
    for (name, len) in [("dumptid", 4), ("stopped_cpus", 128)] {
        allowed.extend(guest.pages(address(name), len));
    }
    let changed = differing(&guest.plain, &with);
    assert!(!changed.is_empty() && changed.is_subset(&allowed));
}

#[test]
fn arm64_registers_are_added_where_debuggers_look_only() {
    check_registers(ARM64);
}

#[test]
fn arm64_registers_with_16k_pages_are_added_where_debuggers_look_only() {
    check_registers(ARM64_16K);
}

#[test]
fn riscv64_registers_are_added_where_debuggers_look_only() {
    check_registers(RISCV64);
    check_registers(RISCV64_SV48);
}

#[test]
fn cpu_with_the_mmu_off_is_ignored() {
    for text in [ARM64, RISCV64] {
        let is_arm = text.contains("aarch64");
        let guest = Guest::new(text);
        let ram = guest.machine.memory().ranges()[0].start.0;
        let state = |number: u32, pc: u64, sp: u64| {
            let state = registers(is_arm, number);
            CpuState::new(number, state.with("pc", pc).with("sp", sp))
        };
        // As after a reset by QEMU, and in firmware in RAM.
        for (pc, sp) in [(0x1000, 0), (ram + 0x400, ram + 0x8000)] {
            let cpus = [state(0, pc, sp), state(1, pc, sp)];
            let taken = guest.put(&cpus, None);
            let why = Left::MmuOff;
            let expected = [0, 1].map(|cpu| Note::LeftKernel { cpu, why });
            assert!(taken.notes.ends_with(&expected), "{:?}", taken.notes);
            assert!(taken.provenance_record().provenance().cpus.is_empty());
            assert!(differing(&guest.plain, &dump(&taken)).is_empty());
        }
        // A user program has its stack elsewhere; arm64 records the mode.
        let mut program = state(0, ram + 0x400, 0x3f_ffff_e000);
        if let Registers::Named(registers) = program.registers {
            program = CpuState::new(0, registers.with("cpsr", 0));
        }
        let record = guest
            .put(&[program], None)
            .provenance_record()
            .provenance()
            .cpus;
        assert_eq!(record.len(), 1);
    }
}

/// `x18` and `tp` have the address of `struct pcpu` in the kernel, whose first member is the
/// thread.
#[test]
fn pc_curthread_identifies_cpus_in_the_kernel_only() {
    for text in [ARM64, RISCV64] {
        let is_arm = text.contains("aarch64");
        let guest = Guest::new(text);
        let kernel = Kernel::new(&guest.plain, &guest.elf);
        let threads = kernel.threads().unwrap();
        // Any word with a thread's address serves, here the thread list of its process.
        let head = kernel.variable("proc_off_p_threads", 4).unwrap();
        let next = kernel.variable("thread_off_td_plist", 4).unwrap();
        let words = threads
            .iter()
            .flat_map(|t| [t.process.0 + head, t.at.0 + next]);
        let mut leads = words.filter_map(|at| {
            let [to] = guest.words(&guest.plain, at);
            let thread = threads.iter().find(|t| t.at == VirtAddr(to))?;
            thread.cpu.filter(|cpu| *cpu != 0)?;
            Some((at, thread))
        });
        let (pcpu, thread) = leads.next().unwrap();
        // The image has it as the first CPU.
        let state = |user: bool| {
            let register = if is_arm { "x18" } else { "tp" };
            let mut r = registers(is_arm, 0).with(register, pcpu);
            if user {
                // riscv64 does not have the first.
                r = r.with("cpsr", 0).with("pc", 0x1_0000);
            }
            CpuState::new(0, r)
        };
        let record = guest
            .put(&[state(false)], None)
            .provenance_record()
            .provenance()
            .cpus;
        assert_eq!(
            (record[0].cpuid, record[0].tid),
            (thread.cpu, Some(thread.tid))
        );
        // In user mode the register belongs to the program.
        let record = guest
            .put(&[state(true)], None)
            .provenance_record()
            .provenance()
            .cpus;
        assert_eq!(record[0].cpuid, Some(0));
        assert_ne!(record[0].tid, Some(thread.tid));
    }
}

#[test]
fn cpu_in_the_kernel_debugger_is_the_dumping_one_with_its_entry_registers() {
    for text in [ARM64, RISCV64] {
        let is_arm = text.contains("aarch64");
        let text = text.replacen("\npanic =", "\ndebugger = true\npanic =", 1);
        let guest = Guest::new(&text);
        let threads = &guest.machine.truth().threads;
        let truth = threads.iter().find(|t| t.context == TruthContext::Debugger);
        let truth = truth.unwrap();
        let on = guest.on_cpu();
        let cpus: Vec<_> = on.iter().map(|(id, _)| cpu(is_arm, *id)).collect();
        let taken = guest.put(&cpus, None);
        let with = dump(&taken);
        let kernel = Kernel::new(&with, &guest.elf);
        let threads = kernel.threads().unwrap();
        let thread = threads.iter().find(|t| t.context == Context::Crashed);
        assert_eq!(thread.unwrap().at, truth.va);
        // The registers that the emulated kernel has saved in kdb_pcb.
        let address = |name: &str| guest.elf.symbol(name).unwrap().value;
        let kdb: [u64; 13] = guest.words(&guest.plain, address("kdb_pcb"));
        let dumped: [u64; 13] = guest.words(&with, address("dumppcb"));
        assert_eq!(kdb, dumped);
        assert_ne!(kdb, [0; 13]);
        let is_on_entry = |n: &&Note| matches!(n, Note::InDebugger { on_entry: true, .. });
        let notes = taken.notes.iter().filter(is_on_entry);
        assert_eq!(notes.count(), 1, "{:?}", taken.notes);
    }
}

#[test]
fn registers_of_another_processor_are_ignored_with_a_note() {
    let guest = Guest::new(ARM64);
    let others = [
        CpuState::new(0, Registers::Unknown),
        CpuState::new(1, X86::default()),
        CpuState::new(2, riscv64(2)),
    ];
    for chosen in [None, Some(1)] {
        let taken = guest.put(&others, chosen);
        let cpus = vec![0, 1, 2];
        let note = Note::UnknownRegisters { cpus };
        assert!(taken.notes.contains(&note), "{:?}", taken.notes);
        assert!(taken.provenance_record().provenance().cpus.is_empty());
        assert!(differing(&guest.plain, &dump(&taken)).is_empty());
    }
    // A supported one is added.
    let taken = guest.put(&[others[0], cpu(true, 1)], None);
    let record = taken.provenance_record().provenance().cpus;
    assert_eq!((record.len(), record[0].number), (1, 1));
    let note = Note::UnknownRegisters { cpus: vec![0] };
    assert!(taken.notes.contains(&note), "{:?}", taken.notes);
}
