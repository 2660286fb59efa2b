//! Laws of emulated machines, checked by other means than those that built them.

mod dump;
mod kernel;
mod ports;
mod random;
mod threads;

use livecore_minidump::PhysAddr;
use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hasher};

use super::*;

const TINY: &str = include_str!("../../../../testdata/machines/tiny.toml");

fn machine(text: &str) -> Machine {
    let description = Description::parse(text).expect("a description");
    build(&description).expect("a machine")
}

fn u64_at(machine: &Machine, at: u64) -> u64 {
    let mut bytes = [0; 8];
    machine
        .memory
        .read(PhysAddr(at), &mut bytes)
        .expect("memory");
    u64::from_le_bytes(bytes)
}

/// A 4-level walk as the Intel manual describes it: volume 3, 4.5. Gives the physical address,
/// the size of the leaf, and whether writes and execution are allowed.
fn walk(machine: &Machine, root: u64, va: u64) -> Option<(u64, u64, bool, bool)> {
    const ADDRESS: u64 = 0x000f_ffff_ffff_f000;
    let pml4e = u64_at(machine, (root & ADDRESS) | ((va >> 39) & 0x1ff) << 3);
    if pml4e & 1 == 0 {
        return None;
    }
    let pdpte = u64_at(machine, (pml4e & ADDRESS) | ((va >> 30) & 0x1ff) << 3);
    if pdpte & 1 == 0 {
        return None;
    }
    let rights = |e: u64| (e & 2 != 0, e >> 63 == 0);
    if pdpte & 0x80 != 0 {
        let (w, x) = rights(pdpte);
        let pa = (pdpte & 0x000f_ffff_c000_0000) | (va & 0x3fff_ffff);
        return Some((pa, 1 << 30, w, x));
    }
    let pde = u64_at(machine, (pdpte & ADDRESS) | ((va >> 21) & 0x1ff) << 3);
    if pde & 1 == 0 {
        return None;
    }
    if pde & 0x80 != 0 {
        let (w, x) = rights(pde);
        return Some((
            (pde & 0x000f_ffff_ffe0_0000) | (va & 0x1f_ffff),
            1 << 21,
            w,
            x,
        ));
    }
    let pte = u64_at(machine, (pde & ADDRESS) | ((va >> 12) & 0x1ff) << 3);
    let (w, x) = rights(pte);
    (pte & 1 != 0).then_some(((pte & ADDRESS) | (va & 0xfff), 4096, w, x))
}

/// Text of a machine of the repository.
fn text_of(name: &str) -> String {
    let (_, text) = MACHINES
        .iter()
        .find(|(machine, _)| *machine == name)
        .expect("a machine of that name");
    (*text).to_owned()
}

/// Memory by virtual address, through [`walk`].
struct Reader<'a> {
    machine: &'a Machine,
    root: u64,
}

impl<'a> Reader<'a> {
    /// Finds the root through `KPML4phys`, as a reader does that knows only the load address.
    fn new(machine: &'a Machine) -> Self {
        let truth = machine.truth();
        let at = truth.symbol("KPML4phys").expect("KPML4phys");
        let root = u64_at(machine, at - 0xffff_ffff_8020_0000 + truth.kernphys.0);
        assert_eq!(
            u64_at(machine, root + 256 * 8) & 0x000f_ffff_ffff_f000,
            root,
            "the recursive entry"
        );
        Self { machine, root }
    }

    fn symbol(&self, name: &str) -> u64 {
        self.machine.truth().symbol(name).expect(name)
    }

    fn read(&self, va: u64, buf: &mut [u8]) {
        let mut done = 0;
        while done < buf.len() {
            let at = va + done as u64;
            let n = (4096 - at as usize % 4096).min(buf.len() - done);
            let (pa, ..) = walk(self.machine, self.root, at).expect("a mapping");
            let memory = &self.machine.memory;
            memory
                .read(PhysAddr(pa), &mut buf[done..done + n])
                .expect("memory");
            done += n;
        }
    }

    fn u64(&self, va: u64) -> u64 {
        let mut bytes = [0; 8];
        self.read(va, &mut bytes);
        u64::from_le_bytes(bytes)
    }

    fn u32(&self, va: u64) -> u32 {
        self.u64(va) as u32
    }

    fn phys_u64(&self, pa: u64) -> u64 {
        u64_at(self.machine, pa)
    }

    fn string(&self, va: u64, max: usize) -> String {
        let mut bytes = vec![0; max];
        self.read(va, &mut bytes);
        let len = bytes.iter().position(|&b| b == 0).unwrap_or(max);
        String::from_utf8(bytes[..len].to_vec()).expect("text")
    }
}

#[test]
fn every_mapping_is_found_by_a_walk_from_the_root() {
    let machine = machine(TINY);
    let truth = machine.truth();
    let mut pages = 0;
    for map in truth.mappings.iter().chain(&truth.direct) {
        let step = map.leaf.min(map.len / 2).max(4096);
        for offset in (0..map.len).step_by(step as usize).chain([map.len - 1]) {
            assert_eq!(
                walk(&machine, truth.root.0, map.va.0 + offset),
                Some((
                    map.pa.0 + offset,
                    map.leaf,
                    map.prot.write,
                    map.prot.execute
                )),
                "{map:x?} at {offset:#x}"
            );
            pages += 1;
        }
    }
    assert!(pages > 1000, "{pages}");
}

#[test]
fn nothing_else_of_the_kernel_map_is_mapped() {
    let machine = machine(TINY);
    let truth = machine.truth();
    let mapped: BTreeMap<u64, u64> = truth.mappings.iter().map(|m| (m.va.0, m.len)).collect();
    let is_mapped = |va: u64| {
        mapped
            .range(..=va)
            .next_back()
            .is_some_and(|(start, len)| va - start < *len)
    };
    let mut holes = 0;
    let kva = (truth.vm_min_kernel_address.0..truth.kernel_vm_end.0).step_by(4096);
    let base = (truth.kernbase.0..truth.kva_end.0).step_by(4096);
    for va in kva.chain(base).filter(|&va| !is_mapped(va)) {
        assert_eq!(walk(&machine, truth.root.0, va), None, "{va:#x}");
        holes += 1;
    }
    assert!(holes > 16, "{holes}");
}

#[test]
fn a_description_gives_the_same_machine_every_time() {
    let hash = |machine: &Machine| {
        let mut hasher = DefaultHasher::new();
        let mut page = vec![0; 1 << 20];
        for range in machine.memory().ranges() {
            for at in (range.start.0..range.end.0).step_by(page.len()) {
                let n = (range.end.0 - at).min(page.len() as u64) as usize;
                machine
                    .memory()
                    .read(PhysAddr(at), &mut page[..n])
                    .expect("memory");
                hasher.write(&page[..n]);
            }
        }
        hasher.write(machine.kernel());
        hasher.finish()
    };
    let one = hash(&machine(TINY));
    assert_eq!(one, hash(&machine(TINY)));
    assert_ne!(one, hash(&machine(&TINY.replace("seed = 1", "seed = 2"))));
}

#[test]
fn a_small_read_equals_the_same_bytes_of_a_large_one() {
    let machine = machine(TINY);
    let memory = machine.memory();
    let mut large = vec![0; 4 << 20];
    let base = 0x20_0000;
    memory.read(PhysAddr(base), &mut large).expect("memory");
    let mut rng = rng::Rng::new(7, "reads");
    for _ in 0..2000 {
        let at = rng.below(large.len() as u64 - 9000) as usize;
        let len = 1 + rng.below(9000) as usize;
        let mut small = vec![0xee; len];
        memory
            .read(PhysAddr(base + at as u64), &mut small)
            .expect("memory");
        assert!(small == large[at..at + len], "{at:#x} {len}");
    }
}

#[test]
fn what_is_known_to_be_zero_is_zero() {
    let machine = machine(TINY);
    let memory = machine.memory();
    let mut known = 0;
    let mut page = [0; 4096];
    for range in memory.ranges() {
        for at in (range.start.0..range.end.0).step_by(4096) {
            if memory.known_zero(PhysAddr(at), 4096) {
                memory.read(PhysAddr(at), &mut page).expect("memory");
                assert!(page.iter().all(|&b| b == 0), "{at:#x}");
                known += 1;
            }
        }
    }
    assert!(known > 100, "{known}");
}

#[test]
fn an_address_outside_of_ram_is_not_found() {
    let machine = machine(TINY);
    let memory = machine.memory();
    let end = memory.ranges().last().expect("a range").end.0;
    for (at, len) in [
        (0x9fff0, 0x20),
        (0xa0000, 1),
        (end - 8, 16),
        (end, 1),
        (u64::MAX - 3, 8),
    ] {
        let error = memory
            .read(PhysAddr(at), &mut vec![0; len])
            .expect_err("no memory there");
        assert_eq!(error.kind(), std::io::ErrorKind::NotFound, "{at:#x}");
        assert!(!memory.known_zero(PhysAddr(at), len as u64));
    }
}

/// The machines that the repository describes.
const MACHINES: [(&str, &str); 14] = [
    ("tiny", TINY),
    (
        "small",
        include_str!("../../../../testdata/machines/small.toml"),
    ),
    (
        "running",
        include_str!("../../../../testdata/machines/running.toml"),
    ),
    (
        "relocated",
        include_str!("../../../../testdata/machines/relocated.toml"),
    ),
    (
        "old-12.1",
        include_str!("../../../../testdata/machines/old-12.1.toml"),
    ),
    (
        "old-10.4",
        include_str!("../../../../testdata/machines/old-10.4.toml"),
    ),
    (
        "nodump",
        include_str!("../../../../testdata/machines/nodump.toml"),
    ),
    (
        "giant",
        include_str!("../../../../testdata/machines/giant.toml"),
    ),
    (
        "debug",
        include_str!("../../../../testdata/machines/debug.toml"),
    ),
    (
        "bench-2g",
        include_str!("../../../../testdata/machines/bench-2g.toml"),
    ),
    (
        "arm64",
        include_str!("../../../../testdata/machines/arm64.toml"),
    ),
    (
        "arm64-16k",
        include_str!("../../../../testdata/machines/arm64-16k.toml"),
    ),
    (
        "riscv64",
        include_str!("../../../../testdata/machines/riscv64.toml"),
    ),
    (
        "huge-1t",
        include_str!("../../../../testdata/machines/huge-1t.toml"),
    ),
];

#[test]
fn user_processes_have_their_own_half_and_the_kernels() {
    let machine = machine(TINY);
    let reader = Reader::new(&machine);
    let truth = machine.truth();
    let mut spaces = 0;
    for process in &truth.processes {
        let Some(space) = &process.space else {
            continue;
        };
        // p_vmspace, vm_pmap, pm_cr3: as the builder lays them out.
        let vmspace = reader.u64(process.va.0 + 0x2f0);
        assert_eq!(reader.u64(vmspace + 0x150 + 48), space.root.0);
        for thread in truth.threads.iter().filter(|t| t.pid == process.pid) {
            assert_eq!(reader.u64(thread.pcb.0 + 104), space.root.0, "pcb_cr3");
        }
        let mut resident = 0;
        for range in &space.valid {
            for va in (range.start.0..range.end.0).step_by(4096) {
                let expected = space.mappings.iter().find(|m| m.va == VirtAddr(va));
                assert_eq!(
                    walk(&machine, space.root.0, va).map(|leaf| leaf.0),
                    expected.map(|m| m.pa.0),
                    "{} {va:#x}",
                    process.comm
                );
                resident += usize::from(expected.is_some());
            }
        }
        assert_eq!(resident, space.mappings.len());
        // The kernel is mapped in it; its recursive entry is its own.
        let version = reader.symbol("version");
        assert_eq!(
            walk(&machine, space.root.0, version),
            walk(&machine, truth.root.0, version)
        );
        let entry = u64_at(&machine, space.root.0 + 256 * 8);
        assert_eq!(entry & 0x000f_ffff_ffff_f000, space.root.0);
        // None of its pages is dumped, its root table is.
        let dumped = |pa: u64| {
            let runs = &truth.dumped;
            runs.iter()
                .any(|run| (run.pa.0..run.pa.0 + run.len).contains(&pa))
        };
        assert!(space.mappings.iter().all(|m| !dumped(m.pa.0)));
        assert!(dumped(space.root.0));
        spaces += 1;
    }
    assert!(spaces > 5, "{spaces}");
}
