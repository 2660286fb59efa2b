//! Hostile memory: a producer returns a dump or an error.
//!
//! Every variable that the producer reads is set to extreme values, and random words of the kernel
//! are changed. A resulting dump can be read to its end.

use std::io;
use std::ops::Range;
use std::sync::Arc;

use livecore_compress::ReadAt;
use livecore_defs::amd64::KERNSTART;
use livecore_livedump::take::{PlanOptions, TakeError, plan};
use livecore_minidump::KernelElf;
use livecore_minidump::{PhysAddr, PhysMemory};
use livecore_synth::Machine;
use livecore_tests::random::Random;

fn tiny() -> Machine {
    let text = include_str!("../../../testdata/machines/tiny.toml");
    Machine::parse(text).unwrap()
}

/// Memory with some changed bytes.
struct Changed {
    inner: Arc<dyn PhysMemory>,
    lies: Vec<(u64, [u8; 8])>,
}

impl PhysMemory for Changed {
    fn ranges(&self) -> &[Range<PhysAddr>] {
        self.inner.ranges()
    }

    fn read(&self, PhysAddr(at): PhysAddr, buf: &mut [u8]) -> io::Result<()> {
        self.inner.read(PhysAddr(at), buf)?;
        let end = at + buf.len() as u64;
        for (start, bytes) in &self.lies {
            for (byte, here) in bytes.iter().zip(*start..) {
                if (at..end).contains(&here) {
                    buf[(here - at) as usize] = *byte;
                }
            }
        }
        Ok(())
    }
}

/// Plans a dump and reads it. Returns whether there is a dump.
fn survive(machine: &Machine, elf: &KernelElf, lies: Vec<(u64, [u8; 8])>) -> bool {
    let memory = Arc::new(Changed {
        inner: machine.memory(),
        lies,
    });
    match plan(memory, elf, &PlanOptions::default()) {
        Ok(taken) => {
            let _ = taken.header().encode();
            let payload = taken.into_payload();
            let size = payload.size().unwrap();
            assert!(size < 1 << 30, "a dump of {size:#x} bytes of 32 MiB");
            let mut piece = vec![0; 1 << 20];
            let mut offset = 0;
            while offset < size {
                let n = (size - offset).min(piece.len() as u64) as usize;
                payload.read_exact_at(&mut piece[..n], offset).unwrap();
                offset += n as u64;
            }
            true
        }
        Err(TakeError::Cancelled | TakeError::Publish(_)) => panic!("unexpected error"),
        Err(error) => {
            assert!(!error.to_string().is_empty());
            false
        }
    }
}

const EXTREMES: [u64; 14] = [
    0,
    1,
    7,
    0xfff,
    0x1000,
    0x7fff_ffff,
    0xffff_ffff,
    1 << 32,
    1 << 47,
    0x000f_ffff_ffff_f000,
    1 << 63,
    0xffff_8000_0000_0000,
    0xffff_ffff_ffff_f000,
    u64::MAX,
];

#[test]
fn extreme_variables_give_a_dump_or_an_error() {
    let machine = tiny();
    let elf = KernelElf::from_bytes(machine.kernel().to_vec()).unwrap();
    let truth = machine.truth();
    let physical = |va: u64| va - KERNSTART.0 + truth.kernphys.0;
    assert!(survive(&machine, &elf, Vec::new()));
    let (mut dumps, mut errors) = (0, 0);
    for (name, offsets) in [
        ("KPML4phys", 0..1),
        ("kernphys", 0..1),
        ("nkpt", 0..1),
        ("kernel_vm_end", 0..1),
        ("dmaplimit", 0..1),
        ("dump_avail", 0..6),
        ("vm_page_dump", 0..1),
        ("vm_page_dump_pages", 0..1),
        ("vm_page_array", 0..1),
        ("vm_phys_segs", 0..9),
        ("vm_phys_nsegs", 0..1),
        ("msgbufp", 0..1),
        ("panicstr", 0..1),
        ("time_second", 0..1),
        ("osreldate", 0..1),
        ("version", 0..1),
    ] {
        let Some(va) = truth.symbol(name) else {
            panic!("no symbol {name}");
        };
        for word in offsets {
            for value in EXTREMES {
                let lie = (physical(va) + 8 * word, value.to_le_bytes());
                if survive(&machine, &elf, vec![lie]) {
                    dumps += 1;
                } else {
                    errors += 1;
                }
            }
        }
    }
    assert!(dumps > 50 && errors > 50, "{dumps} dumps, {errors} errors");
}

#[test]
fn extreme_message_buffers_and_tables_give_a_dump_or_an_error() {
    let machine = tiny();
    let elf = KernelElf::from_bytes(machine.kernel().to_vec()).unwrap();
    let truth = machine.truth();
    let direct = |va: u64| va - truth.dmap.start.0;
    let mut words = vec![
        direct(truth.msgbuf.va.0),
        // Size and magic in one word.
        direct(truth.msgbuf.va.0) + 8,
    ];
    for (_, va, pa) in &truth.page_tables {
        let first = *va >= truth.vm_min_kernel_address;
        if first {
            words.extend([pa.0, pa.0 + 8 * 511]);
        }
    }
    for at in words {
        for value in EXTREMES {
            survive(&machine, &elf, vec![(at, value.to_le_bytes())]);
            // The same value as a valid entry, of a table and of a leaf.
            for flags in [3, 0x83] {
                let entry = (value & !0xfff | flags).to_le_bytes();
                survive(&machine, &elf, vec![(at, entry)]);
            }
        }
    }
}

#[test]
fn random_words_of_the_kernel_give_a_dump_or_an_error() {
    const SEED: u64 = 0x5eed_0f11;
    let machine = tiny();
    let elf = KernelElf::from_bytes(machine.kernel().to_vec()).unwrap();
    let pages = machine
        .truth()
        .dumped
        .iter()
        .flat_map(|run| (run.pa.0..run.pa.0 + run.len).step_by(4096))
        .collect::<Vec<_>>();
    let mut random = Random::new(SEED);
    let mut next = || random.next();
    for round in 0..60 {
        let lies = (0..64)
            .map(|_| {
                let page = pages[(next() % pages.len() as u64) as usize];
                let at = page + next() % 512 * 8;
                let value = match next() % 3 {
                    0 => next(),
                    1 => EXTREMES[(next() % 14) as usize],
                    _ => next() & 0x01ff_ffff | 3,
                };
                (at, value.to_le_bytes())
            })
            .collect::<Vec<_>>();
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            survive(&machine, &elf, lies);
        }));
        assert!(outcome.is_ok(), "seed {SEED:#x}, round {round}");
    }
}

/// The other ports: their variables, and words of their page tables.
#[test]
fn extreme_variables_and_tables_of_all_ports_give_a_dump_or_an_error() {
    const NAMES: [&str; 17] = [
        "kernel_pmap_store",
        "pagetable_l0_ttbr1",
        "pagetable_l1",
        "boot_directories",
        "IdlePTD_nopae",
        "IdlePTD_pae",
        "IdlePDPT",
        "pae_mode",
        "kernel_vm_end",
        "dmap_phys_base",
        "dmap_phys_max",
        "dmap_max_addr",
        "dump_avail",
        "vm_page_dump",
        "vm_page_dump_pages",
        "vm_phys_segs",
        "msgbufp",
    ];
    // The roots in `struct pmap`, and the first words of other long structures.
    const WORDS: [u64; 4] = [0, 8, 48, 64];
    for text in [
        include_str!("../../../testdata/machines/arm64.toml"),
        include_str!("../../../testdata/machines/arm64-16k.toml"),
        include_str!("../../../testdata/machines/riscv64.toml"),
        include_str!("../../../testdata/machines/i386.toml"),
        include_str!("../../../testdata/machines/i386-pae.toml"),
    ] {
        let machine = Machine::parse(text).unwrap();
        let elf = KernelElf::from_bytes(machine.kernel().to_vec()).unwrap();
        let truth = machine.truth();
        let mut targets = Vec::new();
        for name in NAMES {
            let Some(symbol) = truth.symbols.get(name) else {
                continue;
            };
            let at = symbol.value - truth.kernbase.0 + truth.kernphys.0;
            let words = WORDS.into_iter().filter(|w| *w < symbol.size);
            targets.extend(words.map(|word| at + word));
        }
        let tables = truth.page_tables.iter();
        targets.extend(tables.map(|(_, _, pa)| pa.0).take(6));
        let mut outcomes = [0; 2];
        for at in targets {
            for value in EXTREMES.into_iter().step_by(2).chain([0xc000_0703, 0x87]) {
                let lies = vec![(at, value.to_le_bytes())];
                outcomes[usize::from(survive_planning(&machine, &elf, lies))] += 1;
            }
        }
        assert!(outcomes[0] > 5 && outcomes[1] > 5, "{outcomes:?}");
    }
}

/// Plans a dump, and reads the sections before the pages and the last page.
fn survive_planning(machine: &Machine, elf: &KernelElf, lies: Vec<(u64, [u8; 8])>) -> bool {
    let memory = Arc::new(Changed {
        inner: machine.memory(),
        lies,
    });
    let Ok(taken) = plan(memory, elf, &PlanOptions::default()) else {
        return false;
    };
    let layout = taken.plan.layout();
    let _ = taken.header().encode();
    let payload = taken.into_payload();
    let size = payload.size().unwrap();
    assert!(size < 1 << 31, "a dump of {size:#x} bytes of 96 MiB");
    let mut piece = vec![0; 4096];
    for offset in [0, layout.bitmap_offset(), layout.pmap_offset(), size - 4096] {
        payload.read_exact_at(&mut piece, offset).unwrap();
    }
    true
}
