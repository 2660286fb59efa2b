//! Changes to the dump of a guest: registers of its CPUs are added, and changing memory is reread.

use crate::common;

use std::collections::BTreeSet;
use std::io;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use livecore_compress::{Codec, Encoding, NoProgress, Progress, ReadAt};
use livecore_kernel::{Context, Kernel};
use livecore_livedump::image::{Control, CpuState, Segment, Segments, X86};
use livecore_livedump::take::{Left, Note, PlanOptions, TakeError, Taken, plan};
use livecore_minidump::PhysMemory;
use livecore_minidump::convert::{Target, finish_with};
use livecore_minidump::provenance::{CpuPlace, Provenance};
use livecore_minidump::{
    Container, Dump, KernelElf, KernelMemory, OpenOptions, PhysAddr, VirtAddr,
};
use livecore_synth::{Context as TruthContext, Machine};

use common::differing;

const PAGE: u64 = 4096;

fn machine(text: &str) -> (Machine, KernelElf) {
    let machine = Machine::parse(text).unwrap();
    let elf = KernelElf::from_bytes(machine.kernel().to_vec()).unwrap();
    (machine, elf)
}

fn running() -> (Machine, KernelElf) {
    machine(include_str!("../../../testdata/machines/running.toml"))
}

fn planned(memory: Arc<dyn PhysMemory>, elf: &KernelElf) -> Taken {
    plan(memory, elf, &PlanOptions::default()).unwrap()
}

fn dump(taken: &Taken) -> Dump {
    Dump::from_source(Arc::new(taken.payload()), &OpenOptions::default()).unwrap()
}

fn bytes(taken: &Taken) -> Vec<u8> {
    let payload = taken.payload();
    let mut bytes = vec![0; payload.size().unwrap() as usize];
    payload.read_exact_at(&mut bytes, 0).unwrap();
    bytes
}

/// A CPU whose registers are all different and encode its number.
fn cpu(number: u32) -> CpuState {
    CpuState::new(number, registers(number))
}

fn registers(number: u32) -> X86 {
    let value = |n: u64| 0xffff_ffff_8000_0000 + u64::from(number) * 0x1000 + n;
    let base = |n| Segment {
        base: value(n),
        ..Segment::default()
    };
    X86 {
        rax: value(1),
        rbx: value(2),
        rsp: value(3),
        rbp: value(4),
        r12: value(5),
        r13: value(6),
        r14: value(7),
        r15: value(8),
        rip: value(9),
        segments: Some(Segments {
            fs: base(10),
            gs: base(11),
            kernel_gs_base: Some(value(12)),
            ..Segments::default()
        }),
        control: Some(Control {
            cr0: value(13),
            cr2: value(14),
            cr3: value(15),
            cr4: value(16),
        }),
        ..X86::default()
    }
}

/// The physical pages of variables, translated by the dump.
fn pages_of(dump: &Dump, elf: &KernelElf, names: &[&str]) -> BTreeSet<u64> {
    let mut pages = BTreeSet::new();
    for name in names {
        let symbol = elf.symbol(name).unwrap();
        let (mut at, mut len) = (symbol.value, symbol.size);
        if *name == "stoppcbs" && len == 8 {
            let mut pointer = [0; 8];
            dump.read_virt(VirtAddr(at), &mut pointer).unwrap();
            // The array in use, for 3 CPUs.
            (at, len) = (u64::from_le_bytes(pointer), 3 * 320);
        }
        for va in (at..at + len).step_by(8) {
            pages.insert(dump.translate(VirtAddr(va)).unwrap().0 / PAGE * PAGE);
        }
    }
    pages
}

#[test]
fn registers_are_added_where_debuggers_look_only() {
    for text in [
        include_str!("../../../testdata/machines/running.toml"),
        // `stoppcbs` is an array there, and CPUs are already stopped.
        include_str!("../../../testdata/machines/old-12.1.toml"),
    ] {
        let (machine, elf) = machine(text);
        let plain = planned(machine.memory(), &elf);
        let plain_dump = dump(&plain);
        let on_cpu = |context: Context| matches!(context, Context::OnCpu(_) | Context::Stopped(_));
        let threads = Kernel::new(&plain_dump, &elf).threads().unwrap();
        let mut ids = threads.iter().filter_map(|t| t.cpu).collect::<Vec<_>>();
        ids.sort_unstable();
        assert!(ids.len() > 1, "{ids:?}");
        let cpus = ids.iter().copied().map(cpu).collect::<Vec<_>>();
        let chosen = *ids.last().unwrap();

        let mut taken = planned(machine.memory(), &elf);
        taken.put_cpus(&elf, &cpus, Some(chosen)).unwrap();
        let dump = dump(&taken);
        let record = taken.provenance_record().provenance();
        assert_eq!(record.cpus.len(), cpus.len(), "{:?}", taken.notes);
        assert_eq!(record.torn, None);

        let changed = differing(&plain_dump, &dump);
        let names = ["dumptid", "dumppcb", "stoppcbs", "stopped_cpus"];
        let allowed = pages_of(&plain_dump, &elf, &names);
        assert!(changed.is_subset(&allowed), "{changed:x?} {allowed:x?}");
        for name in ["dumptid", "dumppcb"] {
            assert!(!changed.is_disjoint(&pages_of(&plain_dump, &elf, &[name])));
        }

        let kernel = Kernel::new(&dump, &elf);
        let mut seen = 0;
        for thread in kernel.threads().unwrap() {
            let Some(id) = thread.cpu else {
                assert!(!on_cpu(thread.context));
                continue;
            };
            let expected = match (id == chosen, machine.truth().dumptid) {
                (true, Some(_)) => Context::Crashed,
                // As in a live dump.
                (true, None) => Context::OnCpu(id),
                (false, _) => Context::Stopped(id),
            };
            assert_eq!(thread.context, expected, "{}", thread.title());
            assert_eq!(
                thread.title().contains("crashed"),
                expected == Context::Crashed
            );
            let record = record.cpus.iter().find(|cpu| cpu.number == id).unwrap();
            assert_eq!((record.cpuid, record.tid), (Some(id), Some(thread.tid)));
            let place = if id == chosen {
                CpuPlace::Dumppcb
            } else {
                CpuPlace::Stoppcbs
            };
            assert_eq!(record.place, place);
            let registers = kernel.registers(&thread).unwrap();
            let state = self::registers(id);
            for (name, value) in [
                ("rbx", state.rbx),
                ("rbp", state.rbp),
                ("rsp", state.rsp),
                ("r12", state.r12),
                ("r13", state.r13),
                ("r14", state.r14),
                ("r15", state.r15),
                ("rip", state.rip),
            ] {
                assert_eq!(registers.get(name), Some(value), "{name} of CPU {id}");
            }
            // FreeBSD sys/amd64/include/pcb.h: bases from 64, control registers from 88.
            let mut words = [0; 56];
            let at = thread.pcb.unwrap().wrapping_add(64);
            dump.read_virt(at, &mut words).unwrap();
            let words = words.chunks_exact(8).map(|w| w.try_into().unwrap());
            let words = words.map(u64::from_le_bytes).collect::<Vec<_>>();
            let base = 0xffff_ffff_8000_0000 + u64::from(id) * 0x1000;
            assert_eq!(words, (10..17).map(|n| base + n).collect::<Vec<_>>());
            seen += 1;
        }
        assert_eq!(seen, ids.len());
        // The memory itself is unchanged.
        assert!(bytes(&planned(machine.memory(), &elf)) == bytes(&plain));
    }
}

#[test]
fn unknown_segments_are_not_changed() {
    let (machine, elf) = running();
    let plain = dump(&planned(machine.memory(), &elf));
    let threads = Kernel::new(&plain, &elf).threads().unwrap();
    let id = threads.iter().find_map(|thread| thread.cpu).unwrap();
    // As in VMware's states.
    let state = X86 {
        segments: None,
        ..registers(id)
    };
    let mut taken = planned(machine.memory(), &elf);
    taken
        .put_cpus(&elf, &[CpuState::new(id, state)], None)
        .unwrap();
    let record = taken.provenance_record().provenance().cpus;
    // Identified by its number, since the address of `struct pcpu` is unknown.
    assert_eq!(record[0].cpuid, Some(id));
    assert_eq!(record[0].place, CpuPlace::Dumppcb);
    let dump = dump(&taken);
    let pcb = elf.symbol("dumppcb").unwrap().value;
    let words = |dump: &Dump, offset: u64| {
        let mut words = [0; 24];
        dump.read_virt(VirtAddr(pcb + offset), &mut words).unwrap();
        words
    };
    assert_eq!(
        words(&dump, 64),
        words(&plain, 64),
        "fsbase, gsbase, kgsbase"
    );
    assert_ne!(words(&dump, 88), words(&plain, 88), "cr0, cr2, cr3");
}

/// A guest that panicked and then rebooted: `dumppcb` and `stoppcbs` are those of the panic.
#[test]
fn cpu_that_has_left_the_kernel_is_ignored() {
    let (machine, elf) = machine(include_str!("../../../testdata/machines/tiny.toml"));
    let plain = planned(machine.memory(), &elf);
    let (plain, notes) = (dump(&plain), plain.notes);
    // As after a reset by QEMU.
    let mut reset = X86 {
        rip: 0xfff0,
        rdx: 0x663,
        segments: Some(Segments::default()),
        control: Some(Control {
            cr0: 0x6000_0010,
            ..Control::default()
        }),
        ..X86::default()
    };
    if let Some(segments) = &mut reset.segments {
        segments.cs = Segment {
            selector: 0xf000,
            base: 0xffff_0000,
            ..Segment::default()
        };
    }
    let in_firmware = X86 {
        rip: 0x7ff1_2345,
        segments: reset.segments,
        control: None,
        ..registers(0)
    };
    let without_tables = X86 {
        control: Some(Control {
            cr0: 0x8000_0011,
            ..Control::default()
        }),
        ..registers(0)
    };
    let nowhere = X86 {
        rip: 0x1234_5678_0000_0000,
        ..registers(0)
    };
    for (registers, why) in [
        (reset, Left::PagingOff),
        (in_firmware, Left::Outside),
        (without_tables, Left::NoTables),
        (nowhere, Left::Outside),
        (X86::default(), Left::Zero),
    ] {
        let cpus = [0, 1].map(|number| CpuState::new(number, registers));
        for chosen in [None, Some(0)] {
            let mut taken = planned(machine.memory(), &elf);
            taken.put_cpus(&elf, &cpus, chosen).unwrap();
            let record = taken.notes.split_off(notes.len());
            assert_eq!(record, [0, 1].map(|cpu| Note::LeftKernel { cpu, why }));
            assert!(taken.provenance_record().provenance().cpus.is_empty());
            assert!(differing(&plain, &dump(&taken)).is_empty(), "{why}");
        }
        // None of the others becomes the one that dumped, unless it is chosen.
        let cpus = [CpuState::new(0, registers), cpu(1)];
        for (chosen, place) in [(None, CpuPlace::Stoppcbs), (Some(1), CpuPlace::Dumppcb)] {
            let mut taken = planned(machine.memory(), &elf);
            taken.put_cpus(&elf, &cpus, chosen).unwrap();
            let record = taken.provenance_record().provenance().cpus;
            let record = record.iter().map(|cpu| (cpu.number, cpu.place));
            assert_eq!(record.collect::<Vec<_>>(), [(1, place)], "{why}");
        }
    }
}

/// ddb shows its thread with the registers on entry, not with those while it waits for a key.
#[test]
fn cpu_in_the_kernel_debugger_is_the_dumping_one_with_its_entry_registers() {
    for text in [
        include_str!("../../../testdata/machines/tiny.toml"),
        include_str!("../../../testdata/machines/old-12.1.toml"),
    ] {
        let text = text.replacen("\npanic =", "\ndebugger = true\npanic =", 1);
        let (machine, elf) = machine(&text);
        let truth = machine.truth();
        let record = truth
            .threads
            .iter()
            .find(|t| t.context == TruthContext::Debugger);
        let record = record.unwrap();
        let on = truth.threads.iter().filter_map(|t| t.cpu);
        let cpus = on.map(cpu).collect::<Vec<_>>();
        assert!(cpus.len() > 1);
        let mut taken = planned(machine.memory(), &elf);
        taken.put_cpus(&elf, &cpus, None).unwrap();
        let dump = dump(&taken);
        let kernel = Kernel::new(&dump, &elf);
        let threads = kernel.threads().unwrap();
        let crashed = threads.iter().filter(|t| t.context == Context::Crashed);
        let [thread] = crashed.collect::<Vec<_>>()[..] else {
            panic!("one thread dumped");
        };
        assert_eq!(thread.at, record.va);
        let dumptid = kernel.variable("dumptid", 4).unwrap();
        assert_eq!(dumptid, u64::from(record.tid));
        // The place where other debuggers look.
        let dumppcb = kernel.address("dumppcb").unwrap();
        for at in [dumppcb, thread.pcb.unwrap()] {
            let registers = kernel.registers_at(at).unwrap();
            for (name, value) in &record.registers {
                assert_eq!(registers.get(name), Some(*value), "{name}");
            }
        }
        let is_in_debugger = |n: &&Note| matches!(n, Note::InDebugger { .. });
        let notes = taken.notes.iter().filter(is_in_debugger);
        assert_eq!(notes.count(), 1, "{:?}", taken.notes);
    }
}

#[test]
fn pc_curthread_identifies_the_cpus() {
    let (machine, elf) = running();
    let plain = planned(machine.memory(), &elf);
    let plain_dump = dump(&plain);
    let threads = Kernel::new(&plain_dump, &elf).threads().unwrap();
    let on = threads.iter().filter(|t| t.cpu.is_some());
    let on = on.collect::<Vec<_>>();
    // The image counts in reverse. Any kernel address with the thread's address serves as `struct
    // pcpu`, here the head of the thread list of its process.
    let mut head = [0; 4];
    let name = elf.symbol("proc_off_p_threads").unwrap().value;
    plain_dump.read_virt(VirtAddr(name), &mut head).unwrap();
    let head = u64::from(u32::from_le_bytes(head));
    let mut cpus = Vec::new();
    for (thread, number) in on.iter().zip((0..on.len() as u32).rev()) {
        let mut first = [0; 8];
        let at = VirtAddr(thread.process.0 + head);
        plain_dump.read_virt(at, &mut first).unwrap();
        let first = u64::from_le_bytes(first);
        let mut state = registers(number);
        if first == thread.at.0 {
            let mut segments = Segments::default();
            segments.gs.base = thread.process.0 + head;
            state.segments = Some(segments);
            cpus.push((CpuState::new(number, state), thread.tid));
        }
    }
    assert!(!cpus.is_empty());
    let mut taken = planned(machine.memory(), &elf);
    let states = cpus.iter().map(|(state, _)| *state).collect::<Vec<_>>();
    taken.put_cpus(&elf, &states, None).unwrap();
    for (record, (state, tid)) in taken
        .provenance_record()
        .provenance()
        .cpus
        .iter()
        .zip(&cpus)
    {
        assert_eq!((record.number, record.tid), (state.number, Some(*tid)));
    }
}

#[test]
fn missing_cpu_is_an_error() {
    let (machine, elf) = running();
    let mut taken = planned(machine.memory(), &elf);
    let error = taken.put_cpus(&elf, &[cpu(0), cpu(1)], Some(7));
    let error = error.unwrap_err().to_string();
    assert_eq!(error, "no CPU 7 in the image: found 0, 1");
}

/// Memory of which some pages change with every read, or up to some read.
struct Changing {
    inner: Arc<dyn PhysMemory>,
    /// The pages, with the last read that changes them.
    pages: Vec<(u64, u64)>,
    readings: Mutex<Vec<u64>>,
    /// Whether pages change; they do not during the plan.
    begun: AtomicU64,
}

impl Changing {
    fn new(inner: Arc<dyn PhysMemory>, pages: &[(u64, u64)]) -> Self {
        Self {
            inner,
            pages: pages.to_vec(),
            readings: Mutex::new(vec![0; pages.len()]),
            begun: AtomicU64::new(0),
        }
    }
}

impl PhysMemory for Changing {
    fn ranges(&self) -> &[Range<PhysAddr>] {
        self.inner.ranges()
    }

    fn read(&self, PhysAddr(at): PhysAddr, buf: &mut [u8]) -> io::Result<()> {
        self.inner.read(PhysAddr(at), buf)?;
        if self.begun.load(Ordering::Relaxed) == 0 {
            return Ok(());
        }
        let mut readings = self.readings.lock().unwrap();
        for ((page, until), reading) in self.pages.iter().zip(readings.iter_mut()) {
            // Only reads of the complete page count.
            if at <= *page && page + PAGE <= at + buf.len() as u64 {
                *reading += 1;
                let skip = (page - at) as usize;
                let seen = (*reading).min(*until);
                buf[skip..skip + 8].copy_from_slice(&seen.to_le_bytes());
            }
        }
        Ok(())
    }
}

/// Two pages of user memory in the dump, which are not needed to locate the kernel.
fn two_pages(taken: &Taken) -> [u64; 2] {
    let (bitmap, avail) = (taken.plan.bitmap(), taken.plan.dump_avail());
    let pages = [bitmap.count() - 3, bitmap.count() - 40];
    pages.map(|rank| avail.addr_of(bitmap.select(rank).unwrap()).unwrap().0)
}

/// Takes a dump of running.toml in which the first page changes until its read number `first`, the
/// other until `second`. Returns the provenance, and the dump's values of the two pages.
fn converge(rounds: u32, first: u64, second: u64) -> (Provenance, [u64; 2], Vec<u8>) {
    let (machine, elf) = running();
    let pages = two_pages(&planned(machine.memory(), &elf));
    let changes = [(pages[0], first), (pages[1], second)];
    let memory = Arc::new(Changing::new(machine.memory(), &changes));
    let mut taken = planned(memory.clone(), &elf);
    memory.begun.store(1, Ordering::Relaxed);
    taken.watch(rounds, &NoProgress).unwrap();
    let target = Target {
        container: Container::Sealed,
        encoding: Encoding::new(Codec::Zstd),
    };
    let record = taken.provenance_record();
    let header = taken.header();
    let payload = taken.into_payload();
    let mut file = Vec::new();
    let provenance = || record.provenance();
    let written = finish_with(
        &payload,
        header,
        &provenance,
        &target,
        &mut file,
        &NoProgress,
    );
    let record = written.unwrap().provenance;
    let dump = Dump::from_source(Arc::new(file.clone()), &OpenOptions::default()).unwrap();
    assert_eq!(
        Provenance::of(dump.envelope().seal().unwrap()),
        record,
        "provenance in the seal"
    );
    let value = |at: u64| {
        let mut bytes = [0; 8];
        dump.read_phys(PhysAddr(at), &mut bytes).unwrap();
        u64::from_le_bytes(bytes)
    };
    (record, pages.map(value), file)
}

#[test]
fn unchanging_memory_is_a_snapshot_after_one_round() {
    let (record, _, _) = converge(5, 1, 1);
    let torn = record.torn.unwrap();
    assert_eq!((torn.torn, torn.again, torn.rounds), (0, 0, 1));
    assert!(torn.pages > 1000 && torn.start > 0 && torn.end >= torn.start);
}

#[test]
fn changing_pages_are_reread_until_they_do_not_change() {
    // The first pass reads 1, rounds 1 and 2 read 2 and 3; round 3 reads 3 again.
    let (record, values, _) = converge(5, 3, 2);
    let torn = record.torn.unwrap();
    assert_eq!((torn.torn, torn.again, torn.rounds), (0, 2, 3));
    assert_eq!(values, [3, 2]);
}

#[test]
fn pages_that_always_change_are_torn_and_as_in_the_last_round() {
    let (record, values, _) = converge(2, u64::MAX, 1);
    let torn = record.torn.unwrap();
    assert_eq!((torn.torn, torn.again, torn.rounds), (1, 1, 2));
    assert_eq!(values, [3, 1], "two rounds and the first pass");
}

#[test]
fn pages_that_change_after_the_last_round_are_counted() {
    // No round: the pass reads 1, the dump reads 2.
    let (record, values, _) = converge(0, u64::MAX, 1);
    let torn = record.torn.unwrap();
    assert_eq!((torn.torn, torn.again, torn.rounds), (1, 0, 0));
    assert_eq!(values, [2, 1]);
}

#[test]
fn record_of_torn_pages_is_optional_for_readers() {
    let (record, _, file) = converge(0, u64::MAX, 1);
    let dump = Dump::from_source(Arc::new(file), &OpenOptions::default()).unwrap();
    let records = &dump.envelope().seal().unwrap().records;
    let torn = &records.iter().find(|(kind, _)| *kind == 3).unwrap().1;
    // According to docs/sealed.md: pages at 0, torn pages at 8, rounds at 24, little-endian.
    let number = |at: usize| u64::from_le_bytes(torn[at..at + 8].try_into().unwrap());
    assert_eq!((torn.len(), number(0)), (48, record.torn.unwrap().pages));
    assert_eq!((number(8), number(24)), (1, 0));
}

/// Cancels the work after some bytes.
struct CancelAfter(AtomicU64);

impl Progress for CancelAfter {
    fn advance(&self, content: u64, _: u64) {
        self.0.fetch_add(content, Ordering::Relaxed);
    }

    fn cancelled(&self) -> bool {
        self.0.load(Ordering::Relaxed) > 1 << 20
    }
}

#[test]
fn rereading_can_be_cancelled() {
    let (machine, elf) = running();
    let mut taken = planned(machine.memory(), &elf);
    let error = taken.watch(1000, &CancelAfter(AtomicU64::new(0)));
    assert!(matches!(error, Err(TakeError::Cancelled)));
}

#[test]
fn failing_memory_during_rereading_is_an_error() {
    struct Gone(Arc<dyn PhysMemory>, AtomicU64);
    impl PhysMemory for Gone {
        fn ranges(&self) -> &[Range<PhysAddr>] {
            self.0.ranges()
        }
        fn read(&self, PhysAddr(at): PhysAddr, buf: &mut [u8]) -> io::Result<()> {
            if self.1.load(Ordering::Relaxed) == 1 && buf.len() as u64 >= PAGE {
                return Err(io::Error::other("exit-42"));
            }
            self.0.read(PhysAddr(at), buf)
        }
    }
    let (machine, elf) = running();
    let memory = Arc::new(Gone(machine.memory(), AtomicU64::new(0)));
    let mut taken = planned(memory.clone(), &elf);
    memory.1.store(1, Ordering::Relaxed);
    let error = taken.watch(1, &NoProgress).unwrap_err();
    assert!(error.to_string().contains("exit-42"), "{error}");
}
