//! Owners of locks and deadlocks in emulated machines.

use std::collections::{BTreeMap, BTreeSet};

use livecore_kernel::{Kernel, LOCK_STRUCTURES, Locks, Owner, Processes};
use livecore_minidump::{KernelElf, KernelMemory, PhysAddr, ReadError, VirtAddr};
use livecore_synth::{Machine, Truth};
use livecore_tests::random::Random;

const DEADLOCK: &str = machine_text!("deadlock");

fn read(kernel: &Kernel<'_>) -> (Processes, Locks) {
    let processes = kernel.processes().unwrap();
    let locks = kernel.locks(&processes.list).unwrap();
    (processes, locks)
}

/// Calls `of` with the kernel of a machine and the types of these structures.
pub(crate) fn with_kernel<T>(
    machine: &Machine,
    structures: &[&str],
    of: impl FnOnce(Kernel<'_>) -> T,
) -> T {
    let elf = KernelElf::from_bytes(machine.kernel().to_vec()).unwrap();
    let found = livecore_kernel::locate::Machine::find(machine.memory(), &elf).unwrap();
    let kernel = found.kernel(&elf);
    of(kernel.detailed_with(structures))
}

/// Compares owners, waiting threads and deadlocks with what the builder made.
fn check(locks: &Locks, truth: &Truth) {
    assert_eq!(locks.problems, [""; 0]);
    let tid_at: BTreeMap<VirtAddr, u32> = truth.threads.iter().map(|t| (t.va, t.tid)).collect();
    let waited: BTreeSet<&String> = truth
        .threads
        .iter()
        .filter_map(|t| t.lock.as_ref())
        .collect();
    let found: BTreeMap<&str, &livecore_kernel::Lock> = locks
        .locks
        .iter()
        .map(|lock| (lock.name.as_str(), lock))
        .collect();
    assert_eq!(found.len(), waited.len(), "{:?}", found.keys());
    let mut owner_of = BTreeMap::new();
    for lock in truth
        .locks
        .iter()
        .filter(|lock| waited.contains(&lock.name))
    {
        let read = found[lock.name.as_str()];
        assert_eq!(read.at, lock.va, "{}", lock.name);
        let class = format!("{:?}", lock.class).to_lowercase();
        assert_eq!(read.class.name(), class, "{}", lock.name);
        match (read.owner, lock.owner) {
            (Owner::Thread(at), Some(tid)) => assert_eq!(tid_at[&at], tid, "{}", lock.name),
            (Owner::Shared(sharers), None) => assert_eq!(sharers, u64::from(lock.sharers)),
            other => panic!("{}: {other:?}", lock.name),
        }
        owner_of.insert(&lock.name, lock.owner);
        let mut waiters: Vec<i32> = read.waiters.iter().map(|i| locks.waits[*i].tid).collect();
        let mut expected: Vec<i32> = truth
            .threads
            .iter()
            .filter(|t| t.lock.as_ref() == Some(&lock.name))
            .map(|t| t.tid as i32)
            .collect();
        waiters.sort_unstable();
        expected.sort_unstable();
        assert_eq!(waiters, expected, "{}", lock.name);
    }
    // A thread is deadlocked if the owners that it waits for lead back to it.
    let next: BTreeMap<u32, u32> = truth
        .threads
        .iter()
        .filter_map(|t| Some((t.tid, owner_of[t.lock.as_ref()?]?)))
        .collect();
    let expected: BTreeSet<u32> = next
        .keys()
        .copied()
        .filter(|tid| {
            let mut at = next.get(tid).copied();
            (0..next.len()).any(|_| {
                let here = at == Some(*tid);
                at = at.and_then(|at| next.get(&at).copied());
                here
            })
        })
        .collect();
    let cycles = locks.deadlocks.iter().map(|d| &d.cycle);
    let found: BTreeSet<u32> = cycles
        .clone()
        .flatten()
        .map(|i| locks.waits[*i].tid as u32)
        .collect();
    assert_eq!(found, expected);
    for cycle in cycles {
        for (i, j) in cycle.iter().zip(cycle.iter().cycle().skip(1)) {
            let (one, two) = (locks.waits[*i].tid as u32, locks.waits[*j].tid as u32);
            assert_eq!(next[&one], two);
        }
    }
}

#[test]
fn deadlocks_of_two_and_three_threads_are_found_on_all_architectures_and_releases() {
    for (architecture, release) in [
        ("amd64", "15.0"),
        ("amd64", "12.1"),
        ("amd64", "10.4"),
        ("aarch64", "15.0"),
        ("riscv64", "14.0"),
        ("i386", "12.1"),
        ("i386", "14.0"),
    ] {
        let text = DEADLOCK.replace("release = \"15.0\"", &format!("release = \"{release}\""));
        let machine = Machine::parse(&format!("architecture = \"{architecture}\"\n{text}"));
        let machine = machine.unwrap();
        with_kernel(&machine, &LOCK_STRUCTURES, |kernel| {
            let (_, locks) = read(&kernel);
            assert_eq!(locks.deadlocks.len(), 3, "{architecture} {release}");
            check(&locks, machine.truth());
        });
    }
}

#[test]
fn threads_that_wait_without_a_cycle_are_not_deadlocked() {
    // "waits behind" no longer waits for a deadlocked thread, and each cycle misses one wait.
    let mut text = DEADLOCK.to_owned();
    for (whole, cut) in [
        ("holds = [\"arp\"], lock = \"route\"", "holds = [\"arp\"]"),
        (
            "holds = [\"ufs\"], lock = \"module subsystem sx lock\"",
            "holds = [\"ufs\"]",
        ),
        (
            "holds = [\"geom topology\"], lock = \"vm map (user)\"",
            "holds = [\"geom topology\"]",
        ),
    ] {
        assert!(text.contains(whole));
        text = text.replace(whole, cut);
    }
    let machine = Machine::parse(&text).unwrap();
    with_kernel(&machine, &LOCK_STRUCTURES, |kernel| {
        let (_, locks) = read(&kernel);
        assert_eq!(locks.deadlocks, []);
        check(&locks, machine.truth());
    });
}

#[test]
fn a_thread_that_waits_for_its_own_lock_is_deadlocked_alone() {
    let text = "[memory]\nsize = '16 MiB'\n[kernel]\nkind = 'ctf'\n\
                [[lock]]\nname = 'a'\nclass = 'mutex'\n\
                [[process]]\nname = 'p'\npid = 1\nthread = [{ holds = ['a'], lock = 'a' }]\n";
    with_kernel(&Machine::parse(text).unwrap(), &LOCK_STRUCTURES, |kernel| {
        let (_, locks) = read(&kernel);
        assert_eq!(locks.deadlocks.len(), 1);
        assert_eq!(locks.deadlocks[0].cycle, [0]);
    });
}

#[test]
fn without_types_15_0_has_its_locks_and_14_0_names_the_missing_member() {
    let text = DEADLOCK.replace("kind = \"ctf\"", "kind = \"symbols\"");
    // The offsets of 15.0 are known without types.
    let machine = Machine::parse(&text).unwrap();
    with_kernel(&machine, &LOCK_STRUCTURES, |kernel| {
        let (_, locks) = read(&kernel);
        check(&locks, machine.truth());
    });
    let text = text.replace("release = \"15.0\"", "release = \"14.0\"");
    with_kernel(
        &Machine::parse(&text).unwrap(),
        &LOCK_STRUCTURES,
        |kernel| {
            let processes = kernel.processes().unwrap();
            let error = kernel.locks(&processes.list).unwrap_err();
            assert_eq!(
                error.to_string(),
                "the kernel file has no type information about thread.td_blocked"
            );
        },
    );
}

/// The memory of a kernel with changed words.
pub(crate) struct Changed<'a> {
    pub(crate) memory: &'a dyn KernelMemory,
    pub(crate) words: BTreeMap<u64, u64>,
}

impl KernelMemory for Changed<'_> {
    fn page_size(&self) -> u64 {
        self.memory.page_size()
    }

    fn read_phys(&self, at: PhysAddr, buf: &mut [u8]) -> Result<(), ReadError> {
        self.memory.read_phys(at, buf)?;
        for (word, value) in self
            .words
            .range(at.0.saturating_sub(7)..at.0 + buf.len() as u64)
        {
            for (i, byte) in value.to_le_bytes().into_iter().enumerate() {
                let place = (word + i as u64).checked_sub(at.0);
                if let Some(target) = place.and_then(|place| buf.get_mut(place as usize)) {
                    *target = byte;
                }
            }
        }
        Ok(())
    }

    fn translate(&self, at: VirtAddr) -> Result<PhysAddr, ReadError> {
        self.memory.translate(at)
    }
}

#[test]
fn damaged_locks_and_threads_neither_panic_nor_loop() {
    let machine = Machine::parse(DEADLOCK).unwrap();
    let truth = machine.truth();
    let elf = KernelElf::from_bytes(machine.kernel().to_vec()).unwrap();
    let found = livecore_kernel::locate::Machine::find(machine.memory(), &elf).unwrap();
    let kernel = found.kernel(&elf);
    let (whole, _) = read(&kernel.clone().detailed_with(&LOCK_STRUCTURES));
    let threads = whole.threads().count();
    let mut random = Random::new(0x6c6f_636b);
    let mut targets: Vec<u64> = truth.locks.iter().map(|lock| lock.va.0).collect();
    targets.extend(truth.threads.iter().map(|thread| thread.va.0 + 0x140));
    targets.push(truth.symbol("lock_classes").unwrap());
    let pointers: Vec<u64> = targets.iter().map(|at| at & !7).collect();
    let types =
        livecore_kernel::Types::read(&elf, &[&["proc", "thread"], &LOCK_STRUCTURES[..]].concat());
    let mut deadlocks = 0;
    for _ in 0..300 {
        let mut words = BTreeMap::new();
        for _ in 0..=random.below(12) {
            let at = targets[random.below(targets.len() as u64) as usize];
            let at = VirtAddr((at & !7) + 8 * random.below(8));
            let value = match random.below(4) {
                0 => random.next(),
                1 => u64::MAX - random.below(64),
                _ => pointers[random.below(pointers.len() as u64) as usize],
            };
            words.insert(kernel.memory().translate(at).unwrap().0, value);
        }
        let memory = Changed {
            memory: kernel.memory(),
            words,
        };
        let changed = Kernel::new(memory, &elf).with_types(&types);
        let Ok(locks) = changed.locks(&whole.list) else {
            continue;
        };
        assert!(locks.waits.len() <= threads && locks.locks.len() <= threads);
        assert!(locks.problems.len() <= 64);
        let in_cycles: Vec<usize> = locks
            .deadlocks
            .iter()
            .flat_map(|d| &d.cycle)
            .copied()
            .collect();
        let distinct: BTreeSet<usize> = in_cycles.iter().copied().collect();
        assert_eq!(in_cycles.len(), distinct.len());
        deadlocks += locks.deadlocks.len();
    }
    assert!(deadlocks > 100, "{deadlocks}");
}
