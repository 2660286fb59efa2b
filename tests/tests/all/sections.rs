//! Sections of reports on emulated machines.

use std::collections::{BTreeMap, BTreeSet};

use livecore_kernel::{Cell, Kernel, SECTION_STRUCTURES, SECTIONS, Types};
use livecore_minidump::{KernelElf, KernelMemory, PhysAddr, ReadError, VirtAddr};
use livecore_synth::{Machine, SectionRow};
use livecore_tests::random::Random;

use crate::locks::{Changed, with_kernel};

const MACHINE: &str = machine_text!("deadlock");

/// The rows of all sections, as text. Only the columns of `ps` that the builder describes.
fn rows(kernel: &Kernel<'_>) -> BTreeMap<&'static str, Vec<Vec<String>>> {
    let processes = kernel.processes().unwrap();
    let mut all = BTreeMap::new();
    for kind in &SECTIONS {
        let section = kernel.section(kind.name, &processes.list).unwrap();
        for row in &section.rows {
            assert_eq!(row.len(), kind.columns.len(), "{}", kind.name);
        }
        let text = |row: &Vec<Cell>| -> Vec<String> {
            let cells = row.iter().map(ToString::to_string).collect::<Vec<_>>();
            match kind.name {
                "ps" => [0, 1, 9].map(|i| cells[i].clone()).to_vec(),
                _ => cells,
            }
        };
        let mut rows: Vec<_> = section.rows.iter().map(text).collect();
        rows.sort();
        all.insert(kind.name, rows);
    }
    all
}

#[test]
fn sections_have_the_rows_of_the_machine_on_all_architectures() {
    for (architecture, release) in [
        ("amd64", "15.0"),
        ("amd64", "14.0"),
        ("aarch64", "15.0"),
        ("riscv64", "14.0"),
    ] {
        let text = MACHINE.replace("release = \"15.0\"", &format!("release = \"{release}\""));
        let machine = Machine::parse(&format!("architecture = \"{architecture}\"\n{text}"));
        let machine = machine.unwrap();
        let mut expected: BTreeMap<&str, Vec<Vec<String>>> = BTreeMap::new();
        for SectionRow { section, cells } in &machine.truth().sections {
            expected.entry(section).or_default().push(cells.clone());
        }
        expected.values_mut().for_each(|rows| rows.sort());
        let names: BTreeSet<&str> = expected.keys().copied().collect();
        assert_eq!(names.len(), 17, "{names:?}");
        with_kernel(&machine, &SECTION_STRUCTURES, |kernel| {
            let found = rows(&kernel);
            for (name, expected) in &expected {
                assert_eq!(&found[name], expected, "{architecture} {release} {name}");
            }
        });
    }
}

#[test]
fn a_section_without_types_or_symbols_names_what_is_missing() {
    let text = MACHINE.replace("kind = \"ctf\"", "kind = \"symbols\"");
    let machine = Machine::parse(&text).unwrap();
    with_kernel(&machine, &SECTION_STRUCTURES, |kernel| {
        let list = kernel.processes().unwrap().list;
        for (name, problem) in [
            ("memory", "the kernel file has no symbol vm_cnt"),
            ("vmstat-m", "the kernel file has no symbol kmemstatistics"),
            ("vmstat-z", "the kernel file has no symbol uma_kegs"),
            (
                "fstat",
                "the kernel file has no type information about filedescent",
            ),
            ("config", "the kernel file has no symbol kernconfstring"),
        ] {
            let section = kernel.section(name, &list).unwrap();
            assert_eq!(section.rows, [[]; 0], "{name}");
            assert_eq!(section.problems[0], problem, "{name}");
        }
        assert_eq!(kernel.section("no such section", &list), None);
    });
}

#[test]
fn sections_of_damaged_memory_end_and_have_bounded_problems() {
    let machine = Machine::parse(MACHINE).unwrap();
    let truth = machine.truth();
    let elf = KernelElf::from_bytes(machine.kernel().to_vec()).unwrap();
    let found = livecore_kernel::locate::Machine::find(machine.memory(), &elf).unwrap();
    let kernel = found.kernel(&elf);
    let list = kernel.processes().unwrap().list;
    let types = Types::read(
        &elf,
        &[&["proc", "thread"], &SECTION_STRUCTURES[..]].concat(),
    );
    let mut random = Random::new(0x7365_6374);
    // Structures are in the same slabs as locks, in front of them and after them.
    let first = truth.locks.iter().map(|lock| lock.va.0).min().unwrap() & !0xfff;
    let symbols = [
        "vm_cnt",
        "kmemstatistics",
        "uma_kegs",
        "swtailq",
        "nintrcnt",
        "device_statq",
        "vnet0",
        "vnet_entry_tcpstat",
        "vnet_entry_udbinfo",
        "unp_dhead",
        "msqids",
        "shmalloced",
    ];
    let symbols = symbols.map(|name| truth.symbol(name).unwrap());
    let mut problems = 0;
    for _ in 0..120 {
        let mut words = BTreeMap::new();
        for _ in 0..=random.below(40) {
            let at = match random.below(4) {
                0 => symbols[random.index(symbols.len())],
                _ => first + 8 * random.below(4 * 512),
            };
            let value = match random.below(4) {
                0 => random.next(),
                1 => u64::MAX - random.below(64),
                _ => first + 64 * random.below(4 * 64),
            };
            if let Ok(at) = kernel.memory().translate(VirtAddr(at & !7)) {
                words.insert(at.0, value);
            }
        }
        let memory = Changed {
            memory: kernel.memory(),
            words,
        };
        let changed = Kernel::new(memory, &elf).with_types(&types);
        for kind in &SECTIONS {
            let section = changed.section(kind.name, &list).unwrap();
            assert!(section.problems.len() <= 64, "{}", kind.name);
            assert!(section.rows.len() <= 1 << 17, "{}", kind.name);
            problems += section.problems.len();
        }
    }
    assert!(problems > 100, "{problems}");
}

/// Memory with a list that does not end: each word at and after `START` is the address of the next.
struct Endless<'a>(Changed<'a>);

const START: u64 = 0xffff_fa00_0000_0000;
/// The physical address of `START`.
const BASE: u64 = 1 << 51;

impl KernelMemory for Endless<'_> {
    fn page_size(&self) -> u64 {
        self.0.page_size()
    }

    fn read_phys(&self, at: PhysAddr, buf: &mut [u8]) -> Result<(), ReadError> {
        if at.0 < BASE {
            return self.0.read_phys(at, buf);
        }
        for (byte, at) in buf.iter_mut().zip(at.0 - BASE..) {
            let next = START + (at & !7) + 8;
            *byte = next.to_le_bytes()[(at & 7) as usize];
        }
        Ok(())
    }

    fn translate(&self, at: VirtAddr) -> Result<PhysAddr, ReadError> {
        match at.0.checked_sub(START) {
            Some(offset) if offset < 1 << 32 => Ok(PhysAddr(BASE + offset)),
            _ => self.0.translate(at),
        }
    }
}

#[test]
fn lists_in_lists_and_values_of_many_cpus_end_at_a_limit() {
    let machine = Machine::parse(MACHINE).unwrap();
    let truth = machine.truth();
    let elf = KernelElf::from_bytes(machine.kernel().to_vec()).unwrap();
    let found = livecore_kernel::locate::Machine::find(machine.memory(), &elf).unwrap();
    let kernel = found.kernel(&elf);
    let types = Types::read(
        &elf,
        &[&["proc", "thread"], &SECTION_STRUCTURES[..]].concat(),
    );
    let word = |name: &str, value: u64| {
        let at = VirtAddr(truth.symbol(name).unwrap() & !7);
        (kernel.memory().translate(at).unwrap().0, value)
    };
    let memory = Endless(Changed {
        memory: kernel.memory(),
        words: [
            word("kmemstatistics", START),
            word("uma_kegs", START),
            word("mp_maxid", 1023 << 32 | 1023),
        ]
        .into(),
    });
    let kernel = Kernel::new(memory, &elf).with_types(&types);
    let section = kernel.section("memory", &[]).unwrap();
    let limit = "values of the section";
    assert!(
        section
            .problems
            .iter()
            .any(|problem| problem.contains(limit)),
        "{:?}",
        section.problems
    );
    assert!(section.problems.len() <= 16);
}
