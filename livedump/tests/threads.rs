//! Threads, registers and stacks of emulated machines, read through their dumps.

use std::collections::BTreeMap;
use std::sync::Arc;

use livedump::synth::{Context as Told, Description, Machine, build};
use livedump::take::{PlanOptions, plan};
use minidump::kernel::{Context, Kernel};
use minidump::{Dump, KernelElf, OpenOptions};

fn machines() -> Vec<(&'static str, Machine)> {
    [
        ("tiny", include_str!("../../testdata/machines/tiny.toml")),
        ("small", include_str!("../../testdata/machines/small.toml")),
        (
            "old-12.1",
            include_str!("../../testdata/machines/old-12.1.toml"),
        ),
        (
            "relocated",
            include_str!("../../testdata/machines/relocated.toml"),
        ),
        (
            "running",
            include_str!("../../testdata/machines/running.toml"),
        ),
    ]
    .into_iter()
    .map(|(name, text)| (name, build(&Description::parse(text).unwrap()).unwrap()))
    .collect()
}

fn opened(machine: &Machine) -> (Dump, KernelElf) {
    let elf = KernelElf::from_bytes(machine.kernel().to_vec()).unwrap();
    let taken = plan(machine.memory(), &elf, &PlanOptions::default()).unwrap();
    let payload = Arc::new(taken.payload());
    (
        Dump::from_source(payload, &OpenOptions::default()).unwrap(),
        elf,
    )
}

#[test]
fn every_thread_is_listed_as_the_machine_was_described() {
    for (machine_name, machine) in machines() {
        let (dump, elf) = opened(&machine);
        let threads = Kernel::new(&dump, &elf).threads().unwrap();
        let truth = &machine.truth().threads;
        assert!(!truth.is_empty(), "{machine_name}");
        let found: Vec<_> = threads
            .list
            .iter()
            .map(|t| {
                (
                    t.at,
                    t.pid as u32,
                    t.comm.as_str(),
                    t.tid as u32,
                    t.name.as_str(),
                    t.zombie,
                )
            })
            .collect();
        let expected: Vec<_> = truth
            .iter()
            .map(|t| {
                (
                    t.va,
                    t.pid,
                    t.comm.as_str(),
                    t.tid,
                    t.name.as_str(),
                    t.zombie,
                )
            })
            .collect();
        assert_eq!(found, expected, "{machine_name}: {:?}", threads.problems);
    }
}

#[test]
fn registers_and_stacks_are_those_that_the_machine_was_given() {
    let (mut traps, mut frames) = (0, 0);
    for (machine_name, machine) in machines() {
        let (dump, elf) = opened(&machine);
        let kernel = Kernel::new(&dump, &elf);
        let threads = kernel.threads().unwrap();
        for (thread, told) in threads.list.iter().zip(&machine.truth().threads) {
            let name = format!("{machine_name}: {}", thread.title());
            let context = match told.context {
                Told::Dump => Context::Crashed,
                Told::Stopped(cpu) => Context::Stopped(cpu),
                Told::Running(cpu) => Context::OnCpu(cpu),
                Told::Saved => Context::SwitchedOut,
            };
            assert_eq!(thread.context, context, "{name}");
            let registers = kernel.registers(thread).unwrap();
            if matches!(context, Context::OnCpu(_)) {
                assert!(registers.is_unknown(), "{name}");
                continue;
            }
            let found: BTreeMap<_, _> = registers.known().collect();
            let expected: BTreeMap<_, _> = told.registers.iter().copied().collect();
            assert_eq!(found, expected, "{name}");
            let stack = kernel.stack(&registers);
            let found: Vec<_> = stack
                .iter()
                .map(|f| {
                    let (function, offset) = f.function.clone().unwrap_or_default();
                    let trap = f.trap.as_ref().filter(|t| !t.from_user);
                    (f.pc, function, offset, trap.map(|t| t.at))
                })
                .collect();
            let expected: Vec<_> = told
                .frames
                .iter()
                .map(|f| (f.pc, f.function.clone(), f.offset, f.trap))
                .collect();
            assert_eq!(found, expected, "{name}");
            frames += found.len();
            traps += found.iter().filter(|f| f.3.is_some()).count();
        }
    }
    assert!(traps > 0 && frames > 50, "{traps} traps in {frames} frames");
}
