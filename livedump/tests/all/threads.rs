//! Threads, registers and stacks of emulated machines, read through their dumps.

use std::collections::BTreeMap;
use std::sync::Arc;

use livecore_defs::trapframe::Cause;
use livecore_kernel::{Context, Kernel, STRUCTURES, State, Types};
use livecore_livedump::take::{PlanOptions, plan};
use livecore_minidump::{Dump, KernelElf, OpenOptions};
use livecore_synth::{Context as Told, Doing, Machine, ThreadTruth};

macro_rules! machine {
    ($name:literal) => {
        (
            $name,
            include_str!(concat!("../../../testdata/machines/", $name, ".toml")),
        )
    };
}

const AMD64: [(&str, &str); 6] = [
    machine!("tiny"),
    machine!("small"),
    machine!("old-12.1"),
    machine!("old-10.4"),
    machine!("relocated"),
    machine!("running"),
];

fn built(text: &str) -> Machine {
    Machine::parse(text).unwrap()
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

/// Every thread, its registers and its stack, in order; how many frames have a trap.
#[track_caller]
fn check(machine_name: &str, kernel: Kernel<'_>, machine: &Machine) -> usize {
    let found = kernel.processes().unwrap();
    let threads: Vec<_> = found.threads().collect();
    assert_eq!(found.problems, [""; 0], "{machine_name}");
    assert_eq!(found.missing, [], "{machine_name}");
    let truth = &machine.truth().threads;
    let found: Vec<_> = threads
        .iter()
        .map(|t| {
            let (pid, tid) = (t.pid as u32, t.tid as u32);
            (
                t.at,
                pid,
                t.comm.as_str(),
                tid,
                t.name.as_str(),
                t.zombie,
                t.cpu,
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
                t.cpu,
            )
        })
        .collect();
    assert_eq!(found, expected, "{machine_name}");
    assert!(!found.is_empty(), "{machine_name}");

    let x86 = [62, 3].contains(&kernel.elf().machine().0);
    let mut traps = 0;
    for (thread, told) in threads.iter().copied().zip(truth) {
        let name = format!("{machine_name}: {}", thread.title());
        let context = match told.context {
            Told::Dump | Told::Debugger => Context::Crashed,
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
        let mut found: BTreeMap<_, _> = registers.known().collect();
        let mut expected: BTreeMap<_, _> = told.registers.iter().copied().collect();
        // A pcb of these has a link register, by which GDB knows where the thread goes on, and
        // other names for some registers than GDB.
        for (own, gdb) in [("fp", "x29"), ("lr", "x30"), ("s0", "fp")] {
            if let Some(value) = expected.remove(own) {
                expected.insert(gdb, value);
            }
        }
        for link in ["x30", "ra"] {
            if let Some(value) = expected.get(link) {
                assert_eq!(found.remove("pc"), Some(*value), "{name}");
            }
        }
        found.remove("zero");
        assert_eq!(found, expected, "{name}");
        let stack = kernel.stack(&registers);
        let found: Vec<_> = stack
            .iter()
            .map(|f| {
                let (function, offset) = f.function.clone().unwrap_or_default();
                // That of a kernel thread's beginning has nothing in it.
                let trap = f.trap.as_ref().filter(|t| !t.from_user);
                let trap = trap.filter(|t| t.registers.pc() != Some(0));
                (f.pc, function, offset, trap.map(|t| t.at))
            })
            .collect();
        let expected: Vec<_> = told
            .frames
            .iter()
            .map(|f| (f.pc, f.function.clone(), f.offset, f.trap))
            .collect();
        assert_eq!(found, expected, "{name}");
        traps += found.iter().filter(|f| f.3.is_some()).count();
        // A thread of a user process that is in the kernel came from user mode.
        let from_user = stack.last().and_then(|f| f.trap.as_ref());
        let user = told.frames.len() > 1 && from_user.is_some_and(|t| t.from_user);
        let last = told.frames.last().map(|f| f.function.as_str());
        assert_eq!(user, last != Some("fork_trampoline"), "{name}");
        // ddb's last line of a kernel thread.
        if !user && told.frames.len() > 1 && x86 {
            let line = from_user.map(ToString::to_string).unwrap_or_default();
            let begins = line.starts_with("--- trap 0, rip = 0, rsp = 0, rbp = 0 ---")
                || line.starts_with("--- trap 0, eip = 0, esp = 0x");
            assert!(begins, "{name}: {line}");
        }
        // A system call is no interrupt.
        if user && x86 {
            let cause = from_user.map(|trap| trap.cause);
            assert_eq!(cause, Some(Cause::Syscall), "{name}");
        }
    }
    traps
}

/// What a thread that is described so is found to do: by its structure, or by its stack.
fn state(told: &ThreadTruth, typed: bool) -> State {
    match told.doing {
        _ if told.zombie => State::Zombie,
        Doing::Running => State::Running,
        Doing::Runnable => State::Runnable,
        Doing::Stopped => State::Suspended,
        // Its structure says that it is on a run queue; its stack, that it has not run.
        Doing::Fresh if typed => State::Runnable,
        Doing::Fresh => State::New,
        // An interrupt's thread sleeps nowhere: the stack tells that better than this machine.
        Doing::Sleeping if !typed && told.wait.as_deref() == Some("intr") => State::InterruptWait,
        Doing::Sleeping => State::Sleeping,
    }
}

#[test]
fn threads_registers_and_stacks_of_amd64_dumps_are_those_that_the_machine_was_given() {
    let mut traps = 0;
    for (name, text) in AMD64 {
        let machine = built(text);
        let (dump, elf) = opened(&machine);
        traps += check(name, Kernel::of_dump(&dump, &elf), &machine);
    }
    assert!(traps >= 6, "{traps}");
}

/// The same machine, which has panicked and waits in its debugger.
fn in_debugger(text: &str) -> String {
    let lines = text.lines().filter(|line| !line.starts_with("panic ="));
    let text = lines.map(|line| format!("{line}\n")).collect::<String>();
    let state = "[state]\npanic = \"page fault\"\ndebugger = true\n";
    match text.contains("[state]\n") {
        true => text.replacen("[state]\n", state, 1),
        false => text + state,
    }
}

/// What an image of a guest is that panicked and waits in its kernel's debugger: nothing was dumped,
/// and the registers of its thread are where ddb has them.
#[test]
fn a_thread_in_the_kernel_s_debugger_has_the_registers_that_it_came_with() {
    for (name, text) in [
        machine!("tiny"),
        machine!("old-12.1"),
        machine!("old-10.4"),
        machine!("i386-10.4"),
        machine!("i386-pae-12.1"),
    ] {
        let machine = built(&in_debugger(text));
        let truth = machine.truth();
        let told = truth.threads.iter().find(|t| t.context == Told::Debugger);
        let told = told.unwrap_or_else(|| panic!("{name} has no panic"));
        assert_eq!(told.frames[0].function, "kdb_enter", "{name}");
        assert_eq!(told.frames[1].function, "vpanic", "{name}");
        assert_eq!(truth.dumptid, None, "{name}");
        let (dump, elf) = opened(&machine);
        check(name, Kernel::of_dump(&dump, &elf), &machine);
    }
}

#[track_caller]
fn check_port((name, text): (&str, &str)) {
    let machine = built(text);
    let (dump, elf) = opened(&machine);
    let traps = check(name, Kernel::of_dump(&dump, &elf), &machine);
    assert!(traps >= 1, "{name}");
}

#[test]
fn threads_registers_and_stacks_of_arm64_dumps_are_those_that_the_machine_was_given() {
    check_port(machine!("arm64"));
}

#[test]
fn threads_registers_and_stacks_of_arm64_dumps_with_16k_pages_are_those_that_the_machine_was_given()
{
    check_port(machine!("arm64-16k"));
}

#[test]
fn threads_registers_and_stacks_of_riscv64_dumps_are_those_that_the_machine_was_given() {
    check_port(machine!("riscv64"));
    check_port(machine!("riscv64-sv48"));
}

#[test]
fn threads_registers_and_stacks_of_dumps_with_57_bit_addresses_are_those_that_the_machine_was_given()
 {
    check_port(machine!("la57"));
}

#[test]
fn threads_registers_and_stacks_of_i386_dumps_are_those_that_the_machine_was_given() {
    check_port(machine!("i386"));
    check_port(machine!("i386-pae"));
}

#[test]
fn without_type_information_stacks_tell_what_threads_do() {
    let mut states = std::collections::HashSet::new();
    for (name, text) in [machine!("tiny"), machine!("arm64"), machine!("riscv64")] {
        let machine = built(text);
        let (dump, elf) = opened(&machine);
        let kernel = Kernel::of_dump(&dump, &elf);
        let threads = kernel.threads().unwrap();
        for (thread, told) in threads.iter().zip(&machine.truth().threads) {
            let found = kernel.state(thread);
            assert_eq!(found, state(told, false), "{name}: {}", thread.title());
            assert_eq!(thread.wait, None);
            states.insert(found);
        }
    }
    assert_eq!(states.len(), 7, "{states:?}");
}

#[test]
fn type_information_tells_states_waits_and_stacks() {
    let (name, text) = machine!("debug");
    let machine = built(text);
    let (dump, elf) = opened(&machine);
    let types = Types::read(&elf, &STRUCTURES);
    let kernel = Kernel::of_dump(&dump, &elf).with_types(&types);
    let threads = kernel.threads().unwrap();
    let mut waits = 0;
    for (thread, told) in threads.iter().zip(&machine.truth().threads) {
        let title = thread.title();
        assert_eq!(kernel.state(thread), state(told, true), "{name}: {title}");
        assert_eq!(thread.wait, told.wait, "{title}");
        waits += usize::from(told.wait.is_some());
        let kstack = thread.kstack.clone().expect("td_kstack");
        assert_eq!(kstack.end - kstack.start, 4 * 4096, "{title}");
        let registers = kernel.registers(thread).unwrap();
        if let Some(sp) = registers.sp() {
            assert!(kstack.contains(&sp), "{title}: {sp:#x} in {kstack:#x?}");
        }
    }
    assert!(waits > 5, "{waits}");
}
