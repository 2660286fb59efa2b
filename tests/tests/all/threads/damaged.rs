//! Memory of a kernel that is damaged, or made to mislead.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};

use livecore_kernel::Kernel;
use livecore_minidump::{Dump, KernelMemory, PhysAddr, ReadError, VirtAddr};
use livecore_tests::random::Random;

use super::scene::{Scene, Variant};
use super::world::{AMD64, I386, LEN, PORTS, STACKS, Wanted, World};

/// A dump of which some bytes read as others, and which counts what is read.
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

/// Everything that a reader does, to its end.
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
            assert!(stack.len() <= livecore_kernel::frame::LIMIT);
            frames += stack.len();
            for frame in stack {
                let _ = frame.trap.map(|trap| trap.to_string());
            }
        }
    }
    assert!(found.problems.len() <= 70, "{}", found.problems.len());
    (threads.len(), frames)
}

/// Words of processes, threads, pcbs and stacks become pointers to each other, to themselves, near
/// the end of memory, or anything.
#[test]
fn damaged_threads_neither_panic_nor_go_on_without_end() {
    let seed = 0x7468_7265_6164;
    let mut random = Random::new(seed);
    for port in PORTS {
        let (dump, elf) = Scene::new(port, Variant::New).world.made();
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
                    // Variables and structures, or anywhere.
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
        assert!(broken > 20, "{}: only {broken} rounds did harm", port.name);
    }
}

fn wanted(tid: u32, pcb: u64) -> Wanted {
    Wanted {
        tid,
        name: "",
        cpu: None,
        pcb,
    }
}

#[test]
fn lists_that_go_round_end_where_they_do_and_keep_what_they_had() {
    let mut world = World::new(AMD64, &["cpu_switch"]);
    let head = world.address("allproc");
    let two = [wanted(100_001, 0), wanted(100_002, 0)];
    let made = world.list(
        head,
        &[
            (3, "c", &two),
            (2, "b", &[wanted(100_003, 0)]),
            (1, "a", &[]),
        ],
    );
    // The last process leads to the second; the first one's last thread to its first.
    world.word(made[2].0, made[1].0);
    world.word(made[0].1[1] + 0x10, made[0].1[0]);
    let (dump, elf) = world.made();
    let found = Kernel::of_dump(&dump, &elf).processes().unwrap();
    let pids: Vec<_> = found
        .list
        .iter()
        .map(|p| (p.pid, p.threads.len()))
        .collect();
    assert_eq!(pids, [(3, 2), (2, 1), (1, 0)]);
    assert_eq!(found.problems.len(), 2, "{:?}", found.problems);
    assert!(found.problems.iter().all(|p| p.contains("round")));
}

/// Every slot leads into the same chain, and the mask claims all the slots there can be.
#[test]
fn a_hash_table_of_liars_costs_no_more_than_the_limit() {
    let mut world = World::new(AMD64, &["cpu_switch"]);
    let head = world.address("allproc");
    world.list(head, &[(1, "a", &[])]);
    let dead = world.allocate(8);
    let made = world.list(dead, &[(8, "x", &[]), (9, "y", &[])]);
    world.word(made[1].0, made[0].0);
    let at = world.variable("proc_off_p_hash", 4);
    world.put(at, 4, 0);
    let mask = world.variable("pidhash", 8);
    let at = world.variable("pidhashtbl", 8);
    let table = world.port.base + STACKS;
    world.put(at, 8, table);
    for slot in 0..0x400 {
        world.put(table + 8 * slot, 8, made[0].0);
    }
    for (claim, list) in [(0x3ff, 3), (u64::MAX, 1), ((1 << 18) - 1, 3)] {
        world.put(mask, 8, claim);
        let (dump, elf) = world.made();
        let found = Kernel::of_dump(&dump, &elf).processes().unwrap();
        assert_eq!(found.list.len(), list, "{claim:#x}");
        assert_eq!(found.problems.len(), 1, "{:?}", found.problems);
    }
}

#[test]
fn a_chain_of_frames_that_goes_round_ends() {
    let mut world = World::new(AMD64, &["cpu_switch", "loop", "calltrap"]);
    let head = world.address("allproc");
    let pcb = world.allocate(320);
    world.list(head, &[(1, "a", &[wanted(100_001, pcb)])]);
    let top = world.stack(0);
    let back = world.function("loop") + 5;
    // A frame that is its own caller's.
    world.word(top - 0x40, top - 0x40);
    world.word(top - 0x38, back);
    world.word(pcb + 56, back);
    world.word(pcb + 32, top - 0x40);
    let (dump, elf) = world.made();
    let kernel = Kernel::of_dump(&dump, &elf);
    let threads = kernel.threads().unwrap();
    let registers = kernel.registers(&threads[0]).unwrap();
    assert_eq!(kernel.stack(&registers).len(), 2);

    // A trap frame that interrupted its own handler.
    let entry = world.function("calltrap") + 5;
    let trap = top - 0x200;
    world.word(trap - 16, top - 0x40);
    world.word(trap - 8, entry);
    world.word(trap + 64, trap - 16);
    world.word(trap + 152, back);
    world.word(trap + 160, 0x20);
    world.word(pcb + 32, trap - 16);
    let (dump, elf) = world.made();
    let kernel = Kernel::of_dump(&dump, &elf);
    let threads = kernel.threads().unwrap();
    let registers = kernel.registers(&threads[0]).unwrap();
    let stack = kernel.stack(&registers);
    assert!(stack.len() <= 5, "{} frames", stack.len());
}

/// Offsets that cannot be are refused before anything is read by them.
#[test]
fn offsets_that_cannot_be_are_refused() {
    let mut world = World::new(I386, &["cpu_switch"]);
    let at = world.address("thread_off_td_pcb");
    world.put(at, 4, 0xffff_fff0);
    let (dump, elf) = world.made();
    let error = Kernel::of_dump(&dump, &elf).threads().unwrap_err();
    assert!(error.to_string().contains("thread_off_td_pcb"), "{error}");
}
