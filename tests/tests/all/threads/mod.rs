//! Processes, threads, registers and stacks of every architecture, from dumps laid out by hand.

mod damaged;
mod debugger;
mod ends;
mod forms;
mod lldb;
mod mips;
mod scene;
mod typed;
mod world;

use std::collections::BTreeMap;

use livecore_kernel::{Context, Kernel, Module, Modules, State};

use scene::{Scene, Variant};
use world::{AMD64, ARM, ARM64, I386, I386_PAE, POWERPC64, POWERPC64LE, Port, RISCV64, World};

/// Reads a scene back: titles, contexts, registers and chains must be those that were laid out.
#[track_caller]
fn check(port: Port, variant: Variant) {
    check_with(port, variant, (0x70, 4));
}

/// The same, with `td_oncpu` at an offset with so many bytes.
#[track_caller]
fn check_with(port: Port, variant: Variant, oncpu: (u64, u64)) {
    let scene = Scene::with_oncpu(port, variant, oncpu);
    let (dump, elf) = scene.world.made();
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
    for (thread, told) in threads.iter().copied().zip(&scene.threads) {
        let name = thread.title();
        let registers = kernel.registers(thread).unwrap();
        let found: BTreeMap<&str, u64> = registers.known().collect();
        assert_eq!(found, told.registers, "{name}");
        let stack = kernel.stack(&registers);
        let found: Vec<(String, u64, Option<u64>)> = stack
            .iter()
            .map(|f| {
                let (function, offset) = f.function.clone().unwrap_or_default();
                (function, offset, f.trap.as_ref().map(|t| t.at))
            })
            .collect();
        assert_eq!(found, told.frames, "{name}");
        let lines: Vec<String> = stack
            .iter()
            .filter_map(|f| f.trap.as_ref().map(ToString::to_string))
            .collect();
        assert_eq!(lines, told.traps, "{name}");
    }
}

#[test]
fn threads_registers_and_stacks_of_amd64() {
    check(AMD64, Variant::New);
}

/// 10.4: a system call's way in is one function, and is no interrupt.
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
fn layouts_are_told_by_what_makes_sense_where_the_version_is_not_known() {
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
    // An osreldate of zeros is none.
    let zeroed = Port {
        version: Some(0),
        ..ARM64
    };
    check(zeroed, Variant::Old);
}

#[test]
fn layouts_of_riscv64_are_told_by_the_size_of_a_pcb() {
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
fn stoppcbs_is_an_array_or_a_pointer_as_its_size_says() {
    check(AMD64, Variant::StoppcbsArray);
    check(AMD64, Variant::New);
    check(I386, Variant::StoppcbsArray);
}

/// What the entry code of i386 pushes differs: nothing, the frame's address, the interrupt's number
/// and the frame's address.
#[test]
fn trap_frames_of_i386_are_found_behind_the_arguments_of_their_handler() {
    for entry in ["Xcpustop", "Xtimerint", "Xapic_isr1"] {
        check(I386, Variant::Interrupt(entry));
    }
}

/// Since 12.0, return addresses lie in a copy of the entry code that is not in the dump.
#[test]
fn entry_code_of_i386_is_known_in_its_copy() {
    check(I386, Variant::Copied);
    check(I386_PAE, Variant::Copied);
}

/// The commonest of panics: nothing is at the program counter, and the caller's frame pointer is
/// in its register yet.
#[test]
fn a_call_of_a_null_pointer_is_followed_to_its_caller() {
    for port in [AMD64, I386, ARM64, RISCV64, POWERPC64, ARM] {
        check(port, Variant::NullCall);
    }
}

/// Chains go on through loaded kernel files, whose functions the kernel's file does not have.
#[test]
fn frames_in_loaded_files_are_told_by_file_and_offset() {
    let mut world = World::new(AMD64, &["cpu_switch", "sched_switch", "fork_trampoline"]);
    let head = world.address("allproc");
    let pcb = world.allocate(320);
    let wanted = world::Wanted {
        tid: 100_001,
        name: "",
        cpu: None,
        pcb,
    };
    world.list(head, &[(9, "zfskern", &[wanted])]);
    // Pages that are mapped, and no part of the kernel's file.
    let module = world.stack(4) & !0xfff;
    let top = world.stack(0);
    let (pc, out) = (
        world.function("sched_switch") + 5,
        world.function("fork_trampoline") + 9,
    );
    world.word(pcb + 56, pc);
    world.word(pcb + 32, top - 0x80);
    world.word(top - 0x80, top - 0x40);
    world.word(top - 0x78, module + 0x123);
    world.word(top - 0x40, 0);
    world.word(top - 0x38, out);
    let (dump, elf) = world.made();
    let modules = Modules {
        list: vec![Module {
            at: 0,
            name: "zfs.ko".into(),
            path: "/boot/kernel/zfs.ko".into(),
            id: 2,
            address: module,
            size: 0x800,
            is_kernel: false,
        }],
        ..Modules::default()
    };
    let kernel = Kernel::of_dump(&dump, &elf);
    for (kernel, told) in [
        (
            kernel.clone().with_functions(&modules),
            Some(("zfs.ko".to_string(), 0x123)),
        ),
        // Who does not know the file goes on all the same.
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
            [own("sched_switch", 5), told, own("fork_trampoline", 9)]
        );
    }
}

/// The kernel's linker has a file's symbols in memory: of an object file (amd64) their addresses, of a
/// shared object (i386) how far they are from where it was loaded. Offsets are those of 12.1 and 10.4.
#[test]
fn functions_of_loaded_files_are_named_as_the_kernel_s_debugger_names_them() {
    // Where `struct linker_file` has next, filename, pathname, address, and where the linker's own
    // structure has the address again and the symbols.
    let of_12_1 = [24, 40, 48, 64, 184, 256];
    let of_10_4 = [24, 40, 48, 64, 168, 240];
    let i386_12_1 = [16, 24, 28, 36, 100, 180];
    for (port, at) in [(AMD64, of_12_1), (AMD64, of_10_4), (I386, i386_12_1)] {
        let functions = ["cpu_switch", "sched_switch", "fork_trampoline"];
        let mut world = World::new(port, &functions);
        let (head, pcb) = (world.address("allproc"), world.allocate(320));
        let wanted = world::Wanted {
            tid: 100_001,
            name: "",
            cpu: None,
            pcb,
        };
        world.list(head, &[(9, "guest", &[wanted])]);
        let (module, top, word) = (world.stack(4) & !0xfff, world.stack(0), port.word);
        let [next, filename, pathname, address, again, tables] = at;
        let mut link = world.variable("linker_files", 2 * word);
        let mut files = Vec::new();
        for (name, at, size) in [("kernel", port.base, 0x3000), ("guest.ko", module, 0x800)] {
            let (file, text) = (world.allocate(320), world.allocate(64));
            world.text(text, name);
            world.word(link, file);
            world.word(file + filename, text);
            world.word(file + pathname, text);
            world.word(file + address, at);
            world.word(file + address + word, size);
            world.word(file + again, at);
            link = file + next;
            files.push(file);
        }
        let (symbols, names) = (world.allocate(4 * 24), world.allocate(64));
        world.text(names + 1, "guest_crash");
        world.text(names + 20, "guest_data");
        world.text(names + 40, "guest_end");
        // Neither data nor what is behind the file is a function of it.
        for (i, name, kind, value) in [(1, 1, 2, 0x100), (2, 20, 1, 0x120), (3, 40, 2, 0x900)] {
            let value = if word == 8 { module + value } else { value };
            let symbol = symbols + i * if word == 8 { 24 } else { 16 };
            world.put(symbol, 4, name);
            let [kind_at, section_at, value_at] = if word == 8 { [4, 6, 8] } else { [12, 14, 4] };
            world.put(symbol + kind_at, 1, kind);
            world.put(symbol + section_at, 2, 1);
            world.word(symbol + value_at, value);
        }
        for (i, value) in [symbols, 4, names, 60].into_iter().enumerate() {
            world.word(files[1] + tables + i as u64 * word, value);
        }
        // sched_switch, called by the file, called by fork_trampoline.
        let (rip, rbp) = if word == 8 { (56, 32) } else { (20, 8) };
        let pc = world.function("sched_switch") + 5;
        let out = world.function("fork_trampoline") + 9;
        world.word(pcb + rip, pc);
        world.word(pcb + rbp, top - 0x80);
        world.word(top - 0x80, top - 0x40);
        world.word(top - 0x80 + word, module + 0x123);
        world.word(top - 0x40, 0);
        world.word(top - 0x40 + word, out);

        let told = |world: &World| {
            let (dump, elf) = world.made();
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
        assert_eq!(told(&world), ("guest_crash".into(), 0x23), "{name}");
        // What does not agree with the file is not believed.
        for (at, value) in [
            (files[1] + again, module + 0x1000),
            (files[1] + tables + word, 1 << 40),
            (files[1] + tables + 3 * word, 1 << 30),
            (files[1] + tables, module + 0x8_0000),
            (symbols, 7),
        ] {
            let mut world = world.clone();
            world.word(at, value & if word == 8 { u64::MAX } else { 0xffff_ffff });
            assert_eq!(told(&world), ("guest.ko".into(), 0x123), "{name} {at:#x}");
        }
    }
}

/// Registers that a processor had when it was looked at from outside are in no frame of its own
/// function if that has just begun, or is about to return.
#[test]
fn a_processor_caught_at_either_end_of_a_function_is_followed_to_its_caller() {
    for port in [AMD64, I386] {
        let mut world = World::new(port, &["btext", "caught", "caller", "fork_trampoline"]);
        let (top, word) = (world.stack(0), port.word);
        let back = world.function("caller") + 5;
        let out = world.function("fork_trampoline") + 9;
        let begins = world.function("caught");
        let (sp, fp) = (top - 0x80, top - 0x40);
        world.word(sp, back);
        world.word(fp, 0);
        world.word(fp + word, out);
        // ret
        world.put(begins + 0x20, 1, 0xc3);
        let (dump, elf) = world.made();
        let kernel = Kernel::of_dump(&dump, &elf);
        let names = |pc: u64| {
            let mut registers = kernel.registers_at(port.base + 0x4000).unwrap();
            let set = registers.set();
            for (name, value) in [(set.pc, pc), (set.sp, sp), (set.fp, fp)] {
                assert!(registers.put(name, value));
            }
            let stack = kernel.stack(&registers).into_iter();
            let names = stack.filter_map(|f| f.function.map(|(name, _)| name));
            names.collect::<Vec<_>>()
        };
        let whole = ["caught", "caller", "fork_trampoline"];
        assert_eq!(names(begins), whole);
        assert_eq!(names(begins + 0x20), whole);
        // In the middle it has a frame. What was saved for a switch points at its program counter.
        assert_eq!(names(begins + 0x10), ["caught", "fork_trampoline"]);
        assert_eq!(names(back), ["caller", "fork_trampoline"]);
    }
}

/// 10.4: one byte at an odd offset, 255 for none. On i386 the offset may be even.
#[test]
fn td_oncpu_is_a_byte_before_11() {
    for (port, at) in [(AMD64, 0x101), (I386, 0xf0)] {
        let port = Port {
            version: Some(1_004_000),
            ..port
        };
        let mut world = World::with_oncpu(port, &["cpu_switch"], (at, 1));
        let head = world.address("allproc");
        let thread = |tid, cpu| world::Wanted {
            tid,
            name: "",
            cpu,
            pcb: 0,
        };
        let two = [thread(100_001, Some(3)), thread(100_002, None)];
        let made = world.list(head, &[(1, "init", &two)]);
        // Neighbours of the byte.
        for at in made[0].1.iter().map(|thread| thread + at + 1) {
            world.put(at, 1, 0x5a);
        }
        let (dump, elf) = world.made();
        let threads = Kernel::of_dump(&dump, &elf).threads().unwrap();
        let found: Vec<_> = threads.iter().map(|t| t.cpu).collect();
        assert_eq!(found, [Some(3), None], "{}", port.name);
    }
}

#[test]
fn zombies_are_what_only_pidhashtbl_has_where_there_is_no_zombproc() {
    let mut world = World::new(AMD64, &["cpu_switch"]);
    let head = world.address("allproc");
    let thread = |tid| world::Wanted {
        tid,
        name: "",
        cpu: None,
        pcb: 0,
    };
    let hash = 0x20;
    let alive = world.list(
        head,
        &[
            (5, "sh", &[thread(100_005)]),
            (1, "init", &[thread(100_001)]),
        ],
    );
    let at = world.variable("proc_off_p_hash", 4);
    world.put(at, 4, hash);
    let at = world.variable("pidhash", 8);
    world.put(at, 8, 3);
    let at = world.variable("pidhashtbl", 8);
    let table = world.allocate(4 * 8);
    world.put(at, 8, table);
    // Pids 1 and 5 share a slot, with the zombie 9 between them.
    let unlinked = world.allocate(8);
    let dead = world.list(unlinked, &[(9, "true", &[thread(100_009)])]);
    world.put(table + 8, 8, alive[0].0);
    world.put(alive[0].0 + hash, 8, dead[0].0);
    world.put(dead[0].0 + hash, 8, alive[1].0);
    let (dump, elf) = world.made();
    let found = Kernel::of_dump(&dump, &elf).processes().unwrap();
    assert_eq!(found.problems, [""; 0]);
    let pids: Vec<_> = found.list.iter().map(|p| (p.pid, p.zombie)).collect();
    assert_eq!(pids, [(5, false), (1, false), (9, true)]);
}

#[test]
fn missing_symbols_are_named_and_only_the_exported_offsets_are_needed() {
    let mut world = World::new(AMD64, &["cpu_switch"]);
    let head = world.address("allproc");
    let wanted = world::Wanted {
        tid: 100_001,
        name: "worker",
        cpu: Some(1),
        pcb: 0,
    };
    world.list(head, &[(7, "daemon", &[wanted])]);
    let (dump, elf) = world.made();
    let found = Kernel::of_dump(&dump, &elf).processes().unwrap();
    let threads: Vec<_> = found.threads().collect();
    assert_eq!(threads[0].title(), "(pid 7) daemon/worker (on CPU 1)");
    let missing: Vec<_> = found.missing.iter().map(|m| m.symbol).collect();
    assert_eq!(
        missing,
        ["dumptid", "dumppcb", "stopped_cpus", "stoppcbs", "zombproc"]
    );
    // A kernel for one processor has no others to stop; one for more that lacks them has.
    let at = world.variable("mp_ncpus", 4);
    for (cpus, named) in [(1, 3), (2, 5)] {
        world.put(at, 4, cpus);
        let (dump, elf) = world.made();
        let found = Kernel::of_dump(&dump, &elf).processes().unwrap();
        assert_eq!(found.missing.len(), named, "{cpus}");
    }
}
