//! Processes, threads, registers and backtraces of every architecture, in kernels built by the tests.

mod builder;
mod damaged;
mod debugger;
mod ends;
mod forms;
mod lldb;
mod mips;
mod reads;
mod scene;
mod typed;

use std::collections::BTreeMap;

use livecore_kernel::{Context, Kernel, Module, Modules, State};
use livecore_minidump::VirtAddr;

use builder::{
    AMD64, ARM, ARM64, I386, I386_PAE, KernelBuilder, POWERPC64, POWERPC64_RADIX, POWERPC64LE,
    POWERPC64LE_RADIX, Port, RISCV64,
};
use scene::{Scene, Variant};

/// Asserts that titles, contexts, registers and backtraces of a scene are those that were written.
#[track_caller]
fn check(port: Port, variant: Variant) {
    check_with(port, variant, (0x70, 4));
}

/// [`check`] with offset and size of `td_oncpu`.
#[track_caller]
fn check_with(port: Port, variant: Variant, oncpu: (u64, u64)) {
    let scene = Scene::with_oncpu(port, variant, oncpu);
    let (dump, elf) = scene.builder.build();
    let kernel = Kernel::of_dump(&dump, &elf);
    let found = kernel.processes().unwrap();
    let threads: Vec<_> = found.threads().collect();
    assert_eq!(found.problems, [""; 0]);
    assert_eq!(found.missing, []);
    let titles: Vec<String> = threads.iter().map(|t| t.title()).collect();
    assert_eq!(
        titles,
        [
            "(pid 800) sysctl (crashed)",
            "(pid 28) pagedaemon/dom0 (on CPU 1)",
            "(pid 28) pagedaemon/laundry: dom0",
            "(pid 11) idle/idle: cpu2 (on CPU 2)",
            "(pid 902) true",
        ]
    );
    let contexts: Vec<Context> = threads.iter().map(|t| t.context).collect();
    assert_eq!(
        contexts,
        [
            Context::Crashed,
            Context::Stopped(1),
            Context::SwitchedOut,
            Context::OnCpu(2),
            Context::SwitchedOut,
        ]
    );
    let states: Vec<State> = threads.iter().map(|t| kernel.state(t)).collect();
    assert_eq!(
        states,
        [
            State::Running,
            State::Running,
            State::Sleeping,
            State::Running,
            State::Zombie,
        ]
    );
    for (thread, expected) in threads.iter().copied().zip(&scene.threads) {
        let name = thread.title();
        let registers = kernel.registers(thread).unwrap();
        let found: BTreeMap<&str, u64> = registers.known().collect();
        assert_eq!(found, expected.registers, "{name}");
        let stack = kernel.stack(&registers);
        let found: Vec<(String, u64, Option<u64>)> = stack
            .iter()
            .map(|f| {
                let (function, offset) = f.function.clone().unwrap_or_default();
                (function, offset, f.trap.as_ref().map(|t| t.at.0))
            })
            .collect();
        assert_eq!(found, expected.frames, "{name}");
        let lines: Vec<String> = stack
            .iter()
            .filter_map(|f| f.trap.as_ref().map(ToString::to_string))
            .collect();
        assert_eq!(lines, expected.traps, "{name}");
    }
}

#[test]
fn threads_registers_and_stacks_of_amd64() {
    check(AMD64, Variant::New);
}

/// In 10.4 the entry code of system calls is one function.
#[test]
fn threads_registers_and_stacks_of_amd64_10_4() {
    let port = Port {
        version: Some(1_004_000),
        ..AMD64
    };
    check_with(port, Variant::New, (0x70, 1));
}

#[test]
fn threads_registers_and_stacks_of_i386() {
    check(I386, Variant::New);
}

#[test]
fn threads_registers_and_stacks_of_i386_with_pae() {
    check(I386_PAE, Variant::New);
}

#[test]
fn threads_registers_and_stacks_of_arm64() {
    check(ARM64, Variant::New);
}

#[test]
fn threads_registers_and_stacks_of_arm64_before_1400084() {
    let port = Port {
        version: Some(1_400_083),
        ..ARM64
    };
    check(port, Variant::Old);
}

#[test]
fn threads_registers_and_stacks_of_riscv64() {
    check(RISCV64, Variant::New);
}

#[test]
fn threads_registers_and_stacks_of_riscv64_12_1() {
    let port = Port {
        version: Some(1_201_000),
        pcb_size: 792,
        ..RISCV64
    };
    check(port, Variant::Old);
}

#[test]
fn threads_registers_and_stacks_of_arm() {
    check(ARM, Variant::New);
}

#[test]
fn threads_registers_and_stacks_of_powerpc64() {
    check(POWERPC64, Variant::New);
}

#[test]
fn threads_registers_and_stacks_of_powerpc64le() {
    check(POWERPC64LE, Variant::New);
}

#[test]
fn threads_registers_and_stacks_of_powerpc64_with_radix_page_tables() {
    check(POWERPC64_RADIX, Variant::New);
    check(POWERPC64LE_RADIX, Variant::New);
}

#[test]
fn pcb_layout_is_detected_without_a_version() {
    for (port, variant) in [
        (ARM64, Variant::New),
        (ARM64, Variant::Old),
        (RISCV64, Variant::New),
    ] {
        let unknown = Port {
            version: None,
            ..port
        };
        check(unknown, variant);
    }
    // An osreldate of 0 is ignored.
    let zeroed = Port {
        version: Some(0),
        ..ARM64
    };
    check(zeroed, Variant::Old);
}

#[test]
fn riscv64_pcb_layout_is_detected_by_its_size() {
    for version in [None, Some(1_400_097)] {
        let old = Port {
            version,
            pcb_size: 792,
            ..RISCV64
        };
        check(old, Variant::Old);
        let new = Port {
            version,
            pcb_size: 664,
            ..RISCV64
        };
        check(new, Variant::New);
    }
}

#[test]
fn stoppcbs_is_an_array_or_a_pointer_by_its_symbol_size() {
    check(AMD64, Variant::StoppcbsArray);
    check(AMD64, Variant::New);
    check(I386, Variant::StoppcbsArray);
}

/// The entry code of i386 pushes nothing, the address of the frame, or the interrupt number and the
/// address of the frame.
#[test]
fn i386_trap_frames_are_found_after_the_arguments_of_their_handler() {
    for entry in ["Xcpustop", "Xtimerint", "Xapic_isr1"] {
        check(I386, Variant::Interrupt(entry));
    }
}

/// Since 12.0, return addresses are in a copy of the entry code that is not in the dump.
#[test]
fn i386_entry_code_is_recognized_in_its_copy() {
    check(I386, Variant::Copied);
    check(I386_PAE, Variant::Copied);
}

/// The program counter is zero, and the frame pointer is still the caller's.
#[test]
fn backtrace_of_a_null_pointer_call_continues_at_its_caller() {
    for port in [AMD64, I386, ARM64, RISCV64, POWERPC64, ARM] {
        check(port, Variant::NullCall);
    }
}

/// The kernel file does not contain the functions of loaded modules.
#[test]
fn frames_in_modules_have_the_modules_name_and_offset() {
    let mut builder = KernelBuilder::new(AMD64, &["cpu_switch", "sched_switch", "fork_trampoline"]);
    let head = builder.address("allproc");
    let pcb = builder.allocate(320);
    let wanted = builder::NewThread {
        tid: 100_001,
        name: "",
        cpu: None,
        pcb,
    };
    builder.list(head, &[(9, "zfskern", &[wanted])]);
    // Mapped pages that are not in the kernel file.
    let module = builder.stack(4) & !0xfff;
    let top = builder.stack(0);
    let (pc, out) = (
        builder.function("sched_switch") + 5,
        builder.function("fork_trampoline") + 9,
    );
    builder.word(pcb + 56, pc);
    builder.word(pcb + 32, top - 0x80);
    builder.word(top - 0x80, top - 0x40);
    builder.word(top - 0x78, module + 0x123);
    builder.word(top - 0x40, 0);
    builder.word(top - 0x38, out);
    let (dump, elf) = builder.build();
    let modules = Modules {
        list: vec![Module {
            at: VirtAddr(0),
            name: "zfs.ko".into(),
            path: "/boot/kernel/zfs.ko".into(),
            id: 2,
            address: VirtAddr(module),
            size: 0x800,
            is_kernel: false,
        }],
        ..Modules::default()
    };
    let kernel = Kernel::of_dump(&dump, &elf);
    for (kernel, middle) in [
        (
            kernel.clone().with_functions(&modules),
            Some(("zfs.ko".to_string(), 0x123)),
        ),
        // Without module information the backtrace continues.
        (kernel, None),
    ] {
        let threads = kernel.threads().unwrap();
        let registers = kernel.registers(&threads[0]).unwrap();
        let found: Vec<_> = kernel
            .stack(&registers)
            .into_iter()
            .map(|f| f.function)
            .collect();
        let own = |name: &str, offset| Some((name.to_string(), offset));
        assert_eq!(
            found,
            [own("sched_switch", 5), middle, own("fork_trampoline", 9)]
        );
    }
}

/// The kernel linker has the symbols of modules in memory: addresses for object files (amd64), offsets
/// from the load address for shared objects (i386). Structure offsets are those of 12.1 and 10.4.
#[test]
fn module_functions_are_named_by_the_kernel_linkers_symbols() {
    // Offsets of next, filename, pathname and address in `struct linker_file`, and of address and
    // symbols in the linker's private structure.
    let of_12_1 = [24, 40, 48, 64, 184, 256];
    let of_10_4 = [24, 40, 48, 64, 168, 240];
    let i386_12_1 = [16, 24, 28, 36, 100, 180];
    for (port, at) in [(AMD64, of_12_1), (AMD64, of_10_4), (I386, i386_12_1)] {
        let functions = ["cpu_switch", "sched_switch", "fork_trampoline"];
        let mut builder = KernelBuilder::new(port, &functions);
        let (head, pcb) = (builder.address("allproc"), builder.allocate(320));
        let wanted = builder::NewThread {
            tid: 100_001,
            name: "",
            cpu: None,
            pcb,
        };
        builder.list(head, &[(9, "guest", &[wanted])]);
        let (module, top, word) = (builder.stack(4) & !0xfff, builder.stack(0), port.word);
        let [next, filename, pathname, address, again, tables] = at;
        let mut link = builder.variable("linker_files", 2 * word);
        let mut files = Vec::new();
        for (name, at, size) in [("kernel", port.base, 0x3000), ("guest.ko", module, 0x800)] {
            let (file, text) = (builder.allocate(320), builder.allocate(64));
            builder.text(text, name);
            builder.word(link, file);
            builder.word(file + filename, text);
            builder.word(file + pathname, text);
            builder.word(file + address, at);
            builder.word(file + address + word, size);
            builder.word(file + again, at);
            link = file + next;
            files.push(file);
        }
        let (symbols, names) = (builder.allocate(4 * 24), builder.allocate(64));
        builder.text(names + 1, "guest_crash");
        builder.text(names + 20, "guest_data");
        builder.text(names + 40, "guest_end");
        // Data symbols and symbols after the end of the module are not functions.
        for (i, name, kind, value) in [(1, 1, 2, 0x100), (2, 20, 1, 0x120), (3, 40, 2, 0x900)] {
            let value = if word == 8 { module + value } else { value };
            let symbol = symbols + i * if word == 8 { 24 } else { 16 };
            builder.put(symbol, 4, name);
            let [kind_at, section_at, value_at] = if word == 8 { [4, 6, 8] } else { [12, 14, 4] };
            builder.put(symbol + kind_at, 1, kind);
            builder.put(symbol + section_at, 2, 1);
            builder.word(symbol + value_at, value);
        }
        for (i, value) in [symbols, 4, names, 60].into_iter().enumerate() {
            builder.word(files[1] + tables + i as u64 * word, value);
        }
        // sched_switch, called by the module, called by fork_trampoline.
        let (rip, rbp) = if word == 8 { (56, 32) } else { (20, 8) };
        let pc = builder.function("sched_switch") + 5;
        let out = builder.function("fork_trampoline") + 9;
        builder.word(pcb + rip, pc);
        builder.word(pcb + rbp, top - 0x80);
        builder.word(top - 0x80, top - 0x40);
        builder.word(top - 0x80 + word, module + 0x123);
        builder.word(top - 0x40, 0);
        builder.word(top - 0x40 + word, out);

        let function = |builder: &KernelBuilder| {
            let (dump, elf) = builder.build();
            let kernel = Kernel::of_dump(&dump, &elf);
            let modules = kernel.modules().unwrap();
            assert_eq!(modules.problems, [""; 0]);
            let kernel = kernel.with_functions(&modules);
            let threads = kernel.threads().unwrap();
            let registers = kernel.registers(&threads[0]).unwrap();
            let stack = kernel.stack(&registers);
            stack[1].function.clone().unwrap()
        };
        let name = port.name;
        assert_eq!(function(&builder), ("guest_crash".into(), 0x23), "{name}");
        // Inconsistent symbols are ignored.
        for (at, value) in [
            (files[1] + again, module + 0x1000),
            (files[1] + tables + word, 1 << 40),
            (files[1] + tables + 3 * word, 1 << 30),
            (files[1] + tables, module + 0x8_0000),
            (symbols, 7),
        ] {
            let mut builder = builder.clone();
            builder.word(at, value & if word == 8 { u64::MAX } else { 0xffff_ffff });
            let expected = ("guest.ko".into(), 0x123);
            assert_eq!(function(&builder), expected, "{name} {at:#x}");
        }
    }
}

/// At the first instruction and at the return instruction a function has no frame.
#[test]
fn backtrace_from_the_first_or_last_instruction_of_a_function_includes_its_caller() {
    for port in [AMD64, I386] {
        let mut builder =
            KernelBuilder::new(port, &["btext", "callee", "caller", "fork_trampoline"]);
        let (top, word) = (builder.stack(0), port.word);
        let back = builder.function("caller") + 5;
        let out = builder.function("fork_trampoline") + 9;
        let start = builder.function("callee");
        let (sp, fp) = (top - 0x80, top - 0x40);
        builder.word(sp, back);
        builder.word(fp, 0);
        builder.word(fp + word, out);
        // ret
        builder.put(start + 0x20, 1, 0xc3);
        let (dump, elf) = builder.build();
        let kernel = Kernel::of_dump(&dump, &elf);
        let names = |pc: u64| {
            let mut registers = kernel.registers_at(VirtAddr(port.base + 0x4000)).unwrap();
            let set = registers.set();
            for (name, value) in [(set.pc, pc), (set.sp, sp), (set.fp, fp)] {
                assert!(registers.put(name, value));
            }
            let stack = kernel.stack(&registers).into_iter();
            let names = stack.filter_map(|f| f.function.map(|(name, _)| name));
            names.collect::<Vec<_>>()
        };
        let whole = ["callee", "caller", "fork_trampoline"];
        assert_eq!(names(start), whole);
        assert_eq!(names(start + 0x20), whole);
        // In the middle it has a frame.
        assert_eq!(names(start + 0x10), ["callee", "fork_trampoline"]);
        assert_eq!(names(back), ["caller", "fork_trampoline"]);
    }
}

/// In 10.4 `td_oncpu` is a byte, 255 for no CPU, at an odd offset; on i386 the offset may be even.
#[test]
fn td_oncpu_is_read_as_a_byte_before_11() {
    for (port, at) in [(AMD64, 0x101), (I386, 0xf0)] {
        let port = Port {
            version: Some(1_004_000),
            ..port
        };
        let mut builder = KernelBuilder::with_oncpu(port, &["cpu_switch"], (at, 1));
        let head = builder.address("allproc");
        let thread = |tid, cpu| builder::NewThread {
            tid,
            name: "",
            cpu,
            pcb: 0,
        };
        let two = [thread(100_001, Some(3)), thread(100_002, None)];
        let made = builder.list(head, &[(1, "init", &two)]);
        // The bytes after it.
        for at in made[0].1.iter().map(|thread| thread + at + 1) {
            builder.put(at, 1, 0x5a);
        }
        let (dump, elf) = builder.build();
        let threads = Kernel::of_dump(&dump, &elf).threads().unwrap();
        let found: Vec<_> = threads.iter().map(|t| t.cpu).collect();
        assert_eq!(found, [Some(3), None], "{}", port.name);
    }
}

#[test]
fn without_zombproc_processes_only_in_pidhashtbl_are_zombies() {
    let mut builder = KernelBuilder::new(AMD64, &["cpu_switch"]);
    let head = builder.address("allproc");
    let thread = |tid| builder::NewThread {
        tid,
        name: "",
        cpu: None,
        pcb: 0,
    };
    let hash = 0x20;
    let alive = builder.list(
        head,
        &[
            (5, "sh", &[thread(100_005)]),
            (1, "init", &[thread(100_001)]),
        ],
    );
    let at = builder.variable("proc_off_p_hash", 4);
    builder.put(at, 4, hash);
    let at = builder.variable("pidhash", 8);
    builder.put(at, 8, 3);
    let at = builder.variable("pidhashtbl", 8);
    let table = builder.allocate(4 * 8);
    builder.put(at, 8, table);
    // Pids 1 and 5 share a slot, with the zombie 9 between them.
    let unlinked = builder.allocate(8);
    let dead = builder.list(unlinked, &[(9, "true", &[thread(100_009)])]);
    builder.put(table + 8, 8, alive[0].0);
    builder.put(alive[0].0 + hash, 8, dead[0].0);
    builder.put(dead[0].0 + hash, 8, alive[1].0);
    let (dump, elf) = builder.build();
    let found = Kernel::of_dump(&dump, &elf).processes().unwrap();
    assert_eq!(found.problems, [""; 0]);
    let pids: Vec<_> = found.list.iter().map(|p| (p.pid, p.zombie)).collect();
    assert_eq!(pids, [(5, false), (1, false), (9, true)]);
}

#[test]
fn threads_are_read_without_optional_symbols_which_are_listed() {
    let mut builder = KernelBuilder::new(AMD64, &["cpu_switch"]);
    let head = builder.address("allproc");
    let wanted = builder::NewThread {
        tid: 100_001,
        name: "worker",
        cpu: Some(1),
        pcb: 0,
    };
    builder.list(head, &[(7, "daemon", &[wanted])]);
    let (dump, elf) = builder.build();
    let found = Kernel::of_dump(&dump, &elf).processes().unwrap();
    let threads: Vec<_> = found.threads().collect();
    assert_eq!(threads[0].title(), "(pid 7) daemon/worker (on CPU 1)");
    let missing: Vec<_> = found.missing.iter().map(|m| m.symbol).collect();
    assert_eq!(
        missing,
        ["dumptid", "dumppcb", "stopped_cpus", "stoppcbs", "zombproc"]
    );
    // A kernel with one CPU does not need the symbols of stopped CPUs.
    let at = builder.variable("mp_ncpus", 4);
    for (cpus, named) in [(1, 3), (2, 5)] {
        builder.put(at, 4, cpus);
        let (dump, elf) = builder.build();
        let found = Kernel::of_dump(&dump, &elf).processes().unwrap();
        assert_eq!(found.missing.len(), named, "{cpus}");
    }
}
