//! Reading threads from damaged or malicious kernel memory.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};

use livecore_kernel::Kernel;
use livecore_minidump::{Dump, KernelMemory, PhysAddr, ReadError, VirtAddr};
use livecore_tests::random::Random;

use super::builder::{AMD64, I386, KernelBuilder, LEN, NewThread, PORTS, STACKS};
use super::scene::{Scene, Variant};

/// A dump with some bytes changed, which counts reads.
struct Changed {
    dump: Dump,
    bytes: HashMap<u64, u8>,
    reads: AtomicU64,
}

impl KernelMemory for Changed {
    fn page_size(&self) -> u64 {
        self.dump.page_size()
    }

    fn read_phys(&self, at: PhysAddr, buf: &mut [u8]) -> Result<(), ReadError> {
        self.reads.fetch_add(1, Ordering::Relaxed);
        self.dump.read_phys(at, buf)?;
        for (i, byte) in buf.iter_mut().enumerate() {
            if let Some(changed) = self.bytes.get(&(at.0 + i as u64)) {
                *byte = *changed;
            }
        }
        Ok(())
    }

    fn translate(&self, at: VirtAddr) -> Result<PhysAddr, ReadError> {
        self.dump.translate(at)
    }
}

/// Reads all threads with registers and stacks. Returns the number of threads and frames.
fn read_all(kernel: Kernel<'_>) -> (usize, usize) {
    let Ok(found) = kernel.processes() else {
        return (0, 0);
    };
    let threads: Vec<_> = found.threads().collect();
    let mut frames = 0;
    for thread in &threads {
        let _ = (thread.title(), kernel.state(thread));
        if let Ok(registers) = kernel.registers(thread) {
            let stack = kernel.stack(&registers);
            assert!(stack.len() <= livecore_kernel::Frame::LIMIT);
            frames += stack.len();
            for frame in stack {
                let _ = frame.trap.map(|trap| trap.to_string());
            }
        }
    }
    assert!(found.problems.len() <= 70, "{}", found.problems.len());
    (threads.len(), frames)
}

/// Replaces words of processes, threads, pcbs and stacks with pointers into the same memory, addresses
/// near the end of the address space, or random values.
#[test]
fn reading_damaged_threads_neither_panics_nor_loops() {
    let seed = 0x7468_7265_6164;
    let mut random = Random::new(seed);
    for port in PORTS {
        let (dump, elf) = Scene::new(port, Variant::New).builder.build();
        let mut memory = Changed {
            dump,
            bytes: HashMap::new(),
            reads: AtomicU64::new(0),
        };
        let sound = read_all(Kernel::of_dump(&memory.dump, &elf));
        assert_eq!(sound.0, 5);
        let displacement = port.base.wrapping_sub(port.linked);
        let mut broken = 0;
        for round in 0..400 {
            memory.bytes.clear();
            for _ in 0..1 + random.below(30) {
                let at = match random.below(3) {
                    // Variables and structures, stacks, or anywhere.
                    0 => 0x3000 + random.below(0x3000),
                    1 => STACKS + random.below(0x4000),
                    _ => random.below(LEN),
                } & !(port.word - 1);
                let value = match random.below(6) {
                    0 => random.next(),
                    1 => u64::MAX - random.below(64),
                    2 => 0,
                    3 => random.below(1 << 20),
                    _ => port.base + (random.below(LEN) & !7),
                };
                let bytes = if port.name == "powerpc64" {
                    value.to_be_bytes()
                } else {
                    value.to_le_bytes()
                };
                for (i, byte) in bytes.into_iter().take(port.word as usize).enumerate() {
                    memory.bytes.insert(port.phys + at + i as u64, byte);
                }
            }
            memory.reads.store(0, Ordering::Relaxed);
            let kernel = Kernel::new(&memory, &elf).displaced(displacement);
            let found = read_all(kernel);
            let reads = memory.reads.load(Ordering::Relaxed);
            assert!(
                reads < 300_000,
                "seed {seed:#x}, {}, round {round}: {reads} reads",
                port.name
            );
            broken += u32::from(found != sound);
        }
        assert!(
            broken > 20,
            "{}: only {broken} rounds had an effect",
            port.name
        );
    }
}

fn wanted(tid: u32, pcb: u64) -> NewThread {
    NewThread {
        tid,
        name: "",
        cpu: None,
        pcb,
    }
}

#[test]
fn circular_lists_end_with_a_problem_and_keep_their_entries() {
    let mut builder = KernelBuilder::new(AMD64, &["cpu_switch"]);
    let head = builder.address("allproc");
    let two = [wanted(100_001, 0), wanted(100_002, 0)];
    let made = builder.list(
        head,
        &[
            (3, "c", &two),
            (2, "b", &[wanted(100_003, 0)]),
            (1, "a", &[]),
        ],
    );
    // The last process points at the second, the last thread of the first process at its first.
    builder.word(made[2].0, made[1].0);
    builder.word(made[0].1[1] + 0x10, made[0].1[0]);
    let (dump, elf) = builder.build();
    let found = Kernel::of_dump(&dump, &elf).processes().unwrap();
    let pids: Vec<_> = found
        .list
        .iter()
        .map(|p| (p.pid, p.threads.len()))
        .collect();
    assert_eq!(pids, [(3, 2), (2, 1), (1, 0)]);
    assert_eq!(found.problems.len(), 2, "{:?}", found.problems);
    assert!(found.problems.iter().all(|p| p.contains("circular")));
}

/// Every slot points at the same chain, and the mask is the largest possible.
#[test]
fn reading_a_malicious_hash_table_is_limited() {
    let mut builder = KernelBuilder::new(AMD64, &["cpu_switch"]);
    let head = builder.address("allproc");
    builder.list(head, &[(1, "a", &[])]);
    let dead = builder.allocate(8);
    let made = builder.list(dead, &[(8, "x", &[]), (9, "y", &[])]);
    builder.word(made[1].0, made[0].0);
    let at = builder.variable("proc_off_p_hash", 4);
    builder.put(at, 4, 0);
    let mask = builder.variable("pidhash", 8);
    let at = builder.variable("pidhashtbl", 8);
    let table = builder.port.base + STACKS;
    builder.put(at, 8, table);
    for slot in 0..0x400 {
        builder.put(table + 8 * slot, 8, made[0].0);
    }
    for (value, list) in [(0x3ff, 3), (u64::MAX, 1), ((1 << 18) - 1, 3)] {
        builder.put(mask, 8, value);
        let (dump, elf) = builder.build();
        let found = Kernel::of_dump(&dump, &elf).processes().unwrap();
        assert_eq!(found.list.len(), list, "{value:#x}");
        assert_eq!(found.problems.len(), 1, "{:?}", found.problems);
    }
}

#[test]
fn backtraces_of_circular_frames_end() {
    let mut builder = KernelBuilder::new(AMD64, &["cpu_switch", "loop", "calltrap"]);
    let head = builder.address("allproc");
    let pcb = builder.allocate(320);
    builder.list(head, &[(1, "a", &[wanted(100_001, pcb)])]);
    let top = builder.stack(0);
    let back = builder.function("loop") + 5;
    // A frame that is its own caller.
    builder.word(top - 0x40, top - 0x40);
    builder.word(top - 0x38, back);
    builder.word(pcb + 56, back);
    builder.word(pcb + 32, top - 0x40);
    let (dump, elf) = builder.build();
    let kernel = Kernel::of_dump(&dump, &elf);
    let threads = kernel.threads().unwrap();
    let registers = kernel.registers(&threads[0]).unwrap();
    assert_eq!(kernel.stack(&registers).len(), 2);

    // A trap frame that interrupted its own handler.
    let entry = builder.function("calltrap") + 5;
    let trap = top - 0x200;
    builder.word(trap - 16, top - 0x40);
    builder.word(trap - 8, entry);
    builder.word(trap + 64, trap - 16);
    builder.word(trap + 152, back);
    builder.word(trap + 160, 0x20);
    builder.word(pcb + 32, trap - 16);
    let (dump, elf) = builder.build();
    let kernel = Kernel::of_dump(&dump, &elf);
    let threads = kernel.threads().unwrap();
    let registers = kernel.registers(&threads[0]).unwrap();
    let stack = kernel.stack(&registers);
    assert!(stack.len() <= 5, "{} frames", stack.len());
}

#[test]
fn impossible_offsets_of_structure_members_are_errors() {
    let mut builder = KernelBuilder::new(I386, &["cpu_switch"]);
    let at = builder.address("thread_off_td_pcb");
    builder.put(at, 4, 0xffff_fff0);
    let (dump, elf) = builder.build();
    let error = Kernel::of_dump(&dump, &elf).threads().unwrap_err();
    assert!(error.to_string().contains("thread_off_td_pcb"), "{error}");
}
