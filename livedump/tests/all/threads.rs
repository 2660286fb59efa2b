//! Threads, registers and backtraces of emulated machines, read from their dumps.

use std::collections::BTreeMap;
use std::sync::Arc;

use livecore_defs::trapframe::Cause;
use livecore_kernel::{Context, Kernel, STRUCTURES, State, Types};
use livecore_livedump::take::{PlanOptions, plan};
use livecore_minidump::{Dump, KernelElf, OpenOptions, VirtAddr};
use livecore_synth::{Context as TruthContext, Doing, Machine, ThreadTruth};

macro_rules! machine {
    ($name:literal) => {
        (
            $name,
            include_str!(concat!("../../../testdata/machines/", $name, ".toml")),
        )
    };
}

const AMD64: [(&str, &str); 8] = [
    machine!("tiny"),
    machine!("small"),
    machine!("old-12.1"),
    machine!("old-10.4"),
    machine!("relocated"),
    machine!("running"),
    machine!("cfi"),
    machine!("fred"),
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

/// Checks all threads with registers and backtraces in order. Returns the number of frames with a
/// trap.
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
                t.at.0,
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
                t.va.0,
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
    for (thread, truth) in threads.iter().copied().zip(truth) {
        let name = format!("{machine_name}: {}", thread.title());
        let context = match truth.context {
            TruthContext::Dump | TruthContext::Debugger => Context::Crashed,
            TruthContext::Stopped(cpu) => Context::Stopped(cpu),
            TruthContext::Running(cpu) => Context::OnCpu(cpu),
            TruthContext::Saved => Context::SwitchedOut,
        };
        assert_eq!(thread.context, context, "{name}");
        let registers = kernel.registers(thread).unwrap();
        if matches!(context, Context::OnCpu(_)) {
            assert!(registers.is_unknown(), "{name}");
            continue;
        }
        let mut found: BTreeMap<_, _> = registers.known().collect();
        let mut expected: BTreeMap<_, _> = truth.registers.iter().copied().collect();
        // These pcbs have a link register, where GDB continues, and other names for some registers
        // than GDB.
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
                // The frame of a kernel thread's start has no trap.
                let trap = f.trap.as_ref().filter(|t| !t.from_user);
                let trap = trap.filter(|t| t.registers.pc() != Some(VirtAddr(0)));
                (f.pc.0, function, offset, trap.map(|t| t.at.0))
            })
            .collect();
        let expected: Vec<_> = truth
            .frames
            .iter()
            .map(|f| (f.pc.0, f.function.clone(), f.offset, f.trap.map(|at| at.0)))
            .collect();
        assert_eq!(found, expected, "{name}");
        traps += found.iter().filter(|f| f.3.is_some()).count();
        // A thread of a user process in the kernel came from user mode.
        let from_user = stack.last().and_then(|f| f.trap.as_ref());
        let user = truth.frames.len() > 1 && from_user.is_some_and(|t| t.from_user);
        let last = truth.frames.last().map(|f| f.function.as_str());
        let starts = ["fork_trampoline", "fork_trampoline_kthread"];
        let begins = last.filter(|last| starts.contains(last));
        assert_eq!(user, begins.is_none(), "{name}");
        // ddb's last line of a kernel thread.
        if begins == Some("fork_trampoline") && truth.frames.len() > 1 && x86 {
            let line = from_user.map(ToString::to_string).unwrap_or_default();
            let begins = line.starts_with("--- trap 0, rip = 0, rsp = 0, rbp = 0 ---")
                || line.starts_with("--- trap 0, eip = 0, esp = 0x");
            assert!(begins, "{name}: {line}");
        }
        // A system call is not an interrupt.
        if user && x86 {
            let cause = from_user.map(|trap| trap.cause);
            assert_eq!(cause, Some(Cause::Syscall), "{name}");
        }
    }
    traps
}

/// The expected state of a described thread, by its structure or by its stack.
fn state(truth: &ThreadTruth, typed: bool) -> State {
    match truth.doing {
        _ if truth.zombie => State::Zombie,
        Doing::Running => State::Running,
        Doing::Runnable => State::Runnable,
        Doing::Stopped => State::Suspended,
        // According to its structure it is on a run queue; according to its stack it has not run.
        Doing::Fresh if typed => State::Runnable,
        Doing::Fresh => State::New,
        // An interrupt thread waits; the stack shows this better than the description.
        Doing::Sleeping if !typed && truth.wait.as_deref() == Some("intr") => State::InterruptWait,
        Doing::Sleeping => State::Sleeping,
    }
}

#[test]
fn threads_registers_and_backtraces_of_amd64_dumps() {
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

/// A guest that panicked and waits in its kernel's debugger: it has not dumped, and ddb has the
/// registers of its thread.
#[test]
fn thread_in_the_kernel_debugger_has_its_entry_registers() {
    for (name, text) in [
        machine!("tiny"),
        machine!("old-12.1"),
        machine!("old-10.4"),
        machine!("i386-10.4"),
        machine!("i386-pae-12.1"),
    ] {
        let machine = built(&in_debugger(text));
        let truth = machine.truth();
        let mut threads = truth.threads.iter();
        let waiting = threads.find(|t| t.context == TruthContext::Debugger);
        let waiting = waiting.unwrap_or_else(|| panic!("{name} has no panic"));
        assert_eq!(waiting.frames[0].function, "kdb_enter", "{name}");
        assert_eq!(waiting.frames[1].function, "vpanic", "{name}");
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
fn threads_registers_and_backtraces_of_arm64_dumps() {
    check_port(machine!("arm64"));
}

#[test]
fn threads_registers_and_backtraces_of_arm64_dumps_with_16k_pages() {
    check_port(machine!("arm64-16k"));
}

#[test]
fn threads_registers_and_backtraces_of_arm64_dumps_with_lpa2() {
    check_port(machine!("arm64-lpa2"));
    check_port(machine!("arm64-lpa2-16k"));
}

#[test]
fn threads_registers_and_backtraces_of_riscv64_dumps() {
    check_port(machine!("riscv64"));
    check_port(machine!("riscv64-sv48"));
}

#[test]
fn threads_registers_and_backtraces_of_dumps_with_57_bit_addresses() {
    check_port(machine!("la57"));
}

#[test]
fn threads_registers_and_backtraces_of_i386_dumps() {
    check_port(machine!("i386"));
    check_port(machine!("i386-pae"));
}

#[test]
fn states_come_from_stacks_without_type_information() {
    let mut states = std::collections::HashSet::new();
    for (name, text) in [machine!("tiny"), machine!("arm64"), machine!("riscv64")] {
        let machine = built(text);
        let (dump, elf) = opened(&machine);
        let kernel = Kernel::of_dump(&dump, &elf);
        let threads = kernel.threads().unwrap();
        for (thread, truth) in threads.iter().zip(&machine.truth().threads) {
            let found = kernel.state(thread);
            assert_eq!(found, state(truth, false), "{name}: {}", thread.title());
            assert_eq!(thread.wait, None);
            states.insert(found);
        }
    }
    assert_eq!(states.len(), 7, "{states:?}");
}

#[test]
fn type_information_gives_states_waits_and_stacks() {
    let (name, text) = machine!("debug");
    let machine = built(text);
    let (dump, elf) = opened(&machine);
    let types = Types::read(&elf, &STRUCTURES);
    let kernel = Kernel::of_dump(&dump, &elf).with_types(&types);
    let threads = kernel.threads().unwrap();
    let mut waits = 0;
    for (thread, truth) in threads.iter().zip(&machine.truth().threads) {
        let title = thread.title();
        assert_eq!(kernel.state(thread), state(truth, true), "{name}: {title}");
        assert_eq!(thread.wait, truth.wait, "{title}");
        waits += usize::from(truth.wait.is_some());
        let kstack = thread.kstack.clone().expect("td_kstack");
        assert_eq!(
            kstack.end.offset_from(kstack.start),
            Some(4 * 4096),
            "{title}"
        );
        let registers = kernel.registers(thread).unwrap();
        if let Some(sp) = registers.sp() {
            assert!(kstack.contains(&sp), "{title}: {sp:#x} in {kstack:#x?}");
        }
    }
    assert!(waits > 5, "{waits}");
}

/// The kernel file with other names of functions, of the same length.
fn renamed(kernel: &[u8], names: &[(&str, &str)]) -> Vec<u8> {
    let mut file = kernel.to_vec();
    for (name, other) in names {
        assert_eq!(name.len(), other.len());
        let mut count = 0;
        for at in 0..file.len() - name.len() {
            if file[at - at.min(1)] == 0
                && file[at..].starts_with(name.as_bytes())
                && file[at + name.len()] == 0
            {
                file[at..at + name.len()].copy_from_slice(other.as_bytes());
                count += 1;
            }
        }
        assert_eq!(count, 1, "{name}");
    }
    file
}

/// Entry code of a name that Livecore does not know: its call frame information leads to the interrupted
/// function.
#[test]
fn entry_code_with_call_frame_information_needs_no_name() {
    for (name, text, entry, other) in [
        (machine!("cfi"), "calltrap", "callsome"),
        (
            machine!("fred"),
            "fred_events_handlers",
            "some_events_handlers",
        ),
    ]
    .map(|((name, text), entry, other)| (name, text, entry, other))
    {
        let machine = built(text);
        let file = renamed(machine.kernel(), &[(entry, other)]);
        let elf = KernelElf::from_bytes(file).unwrap();
        let (dump, _) = opened(&machine);
        let kernel = Kernel::of_dump(&dump, &elf);
        let (mut found, mut interrupted) = (Vec::new(), 0);
        for (thread, truth) in kernel
            .threads()
            .unwrap()
            .iter()
            .zip(&machine.truth().threads)
        {
            let stack = kernel.backtrace(thread).unwrap();
            let functions = |name: &str| if name == other { entry } else { name }.to_owned();
            let names: Vec<_> = stack
                .iter()
                .map(|frame| functions(&frame.function.clone().unwrap_or_default().0))
                .collect();
            let expected: Vec<_> = truth.frames.iter().map(|f| f.function.clone()).collect();
            assert_eq!(names, expected, "{name}: {}", thread.title());
            for (frame, next) in stack.iter().zip(&stack[1..]) {
                let is_entry = frame
                    .function
                    .as_ref()
                    .is_some_and(|(name, _)| name == other);
                if is_entry {
                    assert_eq!(next.by, livecore_kernel::FoundBy::Cfi);
                    assert!(!next.is_call && frame.trap.is_none());
                    interrupted += 1;
                }
            }
            found.push(stack);
        }
        assert!(interrupted > 0, "{name}");
    }
}

#[test]
fn causes_of_fred_frames_are_those_of_the_processor() {
    let (_, text) = machine!("fred");
    let machine = built(text);
    let (dump, elf) = opened(&machine);
    let kernel = Kernel::of_dump(&dump, &elf);
    let mut causes = std::collections::BTreeSet::new();
    for thread in kernel.threads().unwrap() {
        let stack = kernel.backtrace(&thread).unwrap();
        for frame in stack.iter().filter(|frame| frame.trap.is_some()) {
            let trap = frame.trap.as_ref().unwrap();
            let line = trap.to_string();
            let line = line.split(',').next().unwrap();
            let name = frame.function.clone().unwrap().0;
            causes.insert(format!("{name} {} {line}", trap.from_user));
        }
    }
    let expected = [
        "fred_events_handlers false --- interrupt",
        "fred_events_handlers false --- trap 0x13",
        "fred_events_handlers false --- trap 0xc",
        "user_fred_syscall true --- syscall",
    ];
    let expected = expected.map(String::from).into();
    assert_eq!(causes, expected);
}
