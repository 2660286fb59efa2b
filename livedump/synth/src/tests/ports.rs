//! Machines of other processors than amd64, each by its manual's own walk.

use livecore_minidump::PhysAddr;
use std::collections::BTreeSet;

use super::{machine, text_of, u64_at};
use crate::{Context, Doing, Machine, Release, ThreadTruth};

const PORTS: [&str; 3] = ["arm64", "arm64-16k", "riscv64"];

/// A leaf: physical address, bytes, writable, executable in the kernel, usable in user mode.
type Leaf = (u64, u64, bool, bool, bool);

/// Arm's stage 1 translation (Arm ARM, D8.2 and D8.3): the granule, the shift of each level.
fn arm_walk(machine: &Machine, root: u64, va: u64, granule: u64) -> Option<Leaf> {
    let levels: [(u32, u64); 4] = if granule == 4096 {
        [(39, 511), (30, 511), (21, 511), (12, 511)]
    } else {
        [(47, 1), (36, 2047), (25, 2047), (14, 2047)]
    };
    let mut table = root;
    for (level, (shift, mask)) in levels.into_iter().enumerate() {
        let entry = u64_at(machine, table + (va >> shift & mask) * 8);
        let address = entry & 0x0000_ffff_ffff_ffff & !(granule - 1);
        let leaf = match (entry & 3, level) {
            (3, 3) => true,
            (3, _) => false,
            (1, 1 | 2) => true,
            _ => return None,
        };
        if leaf {
            assert_ne!(entry & 1 << 10, 0, "the access flag");
            let len = 1u64 << shift;
            let pa = address & !(len - 1) | va & (len - 1);
            let (write, execute) = (entry & 1 << 7 == 0, entry & 1 << 53 == 0);
            return Some((pa, len, write, execute, entry & 1 << 6 != 0));
        }
        table = address;
    }
    None
}

/// Sv39 (RISC-V privileged specification, 4.4).
fn riscv_walk(machine: &Machine, root: u64, va: u64) -> Option<Leaf> {
    let mut table = root;
    for shift in [30, 21, 12] {
        let entry = u64_at(machine, table + (va >> shift & 511) * 8);
        if entry & 1 == 0 {
            return None;
        }
        let address = (entry >> 10 & 0xfff_ffff_ffff) << 12;
        if entry & 0xe != 0 {
            let len = 1u64 << shift;
            assert_eq!(address & (len - 1), 0, "an aligned superpage");
            let (write, execute) = (entry & 4 != 0, entry & 8 != 0);
            return Some((
                address | va & (len - 1),
                len,
                write,
                execute,
                entry & 16 != 0,
            ));
        }
        table = address;
    }
    None
}

fn walk(machine: &Machine, root: u64, va: u64) -> Option<Leaf> {
    match machine.truth().architecture.name() {
        "riscv64" => riscv_walk(machine, root, va),
        _ => arm_walk(machine, root, va, machine.truth().page_size),
    }
}

/// The root table, found as spec and debuggers do: from the load address and symbols.
fn root(machine: &Machine) -> u64 {
    let truth = machine.truth();
    let pa = |name: &str| truth.symbol(name).expect(name) - truth.kernbase.0 + truth.kernphys.0;
    let pmap = pa("kernel_pmap_store");
    if truth.architecture.name() == "riscv64" {
        assert_eq!(
            u64_at(machine, pmap + 48),
            truth.symbol("pagetable_l1").unwrap()
        );
        pa("pagetable_l1")
    } else {
        let l0 = truth.symbol("pagetable_l0_ttbr1").unwrap();
        assert_eq!(u64_at(machine, pmap + 64), l0);
        assert_eq!(u64_at(machine, pmap + 56), pa("pagetable_l0_ttbr1"));
        pa("pagetable_l0_ttbr1")
    }
}

/// Memory by virtual address.
struct Reader<'a>(&'a Machine, u64);

impl Reader<'_> {
    fn symbol(&self, name: &str) -> u64 {
        self.0.truth().symbol(name).expect(name)
    }

    fn read(&self, va: u64, buf: &mut [u8]) {
        for (i, byte) in buf.iter_mut().enumerate() {
            let (pa, ..) = walk(self.0, self.1, va + i as u64).expect("a mapping");
            let memory = self.0.memory();
            memory
                .read(PhysAddr(pa), std::slice::from_mut(byte))
                .expect("memory");
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
}

#[test]
fn every_mapping_of_a_port_is_found_by_its_walk_and_nothing_else_is() {
    for name in PORTS {
        let machine = machine(&text_of(name));
        let truth = machine.truth();
        let root = root(&machine);
        assert_eq!(root, truth.root.0, "{name}");
        let mut mapped = BTreeSet::new();
        for map in &truth.mappings {
            for va in (map.va.0..map.va.0 + map.len).step_by(truth.page_size as usize) {
                let leaf = walk(&machine, root, va);
                let expected = (
                    map.pa.0 + va - map.va.0,
                    map.leaf,
                    map.prot.write,
                    map.prot.execute,
                    false,
                );
                assert_eq!(leaf, Some(expected), "{name} {va:#x}");
                mapped.insert(va);
            }
        }
        let mut holes = 0;
        let kva = truth.vm_min_kernel_address.0..truth.kernel_vm_end.0;
        for va in kva.step_by(truth.page_size as usize) {
            if !mapped.contains(&va) {
                assert_eq!(walk(&machine, root, va), None, "{name} {va:#x}");
                holes += 1;
            }
        }
        assert!(holes > 16, "{name}: {holes}");
        // The direct map: all RAM, at its place, and not what lies between the banks.
        for range in machine.memory().ranges() {
            for pa in (range.start.0..range.end.0).step_by(truth.page_size as usize) {
                let va = truth.dmap.start.0 + (pa - truth.dmap_phys.0);
                let leaf = walk(&machine, root, va).expect("RAM is mapped directly");
                assert_eq!(
                    (leaf.0, leaf.2, leaf.3),
                    (pa, true, false),
                    "{name} {pa:#x}"
                );
            }
            let beyond = truth.dmap.start.0 + (range.end.0 - truth.dmap_phys.0);
            assert_eq!(walk(&machine, root, beyond), None, "{name}");
        }
    }
}

#[test]
fn the_procedure_of_a_ports_kernel_finds_the_expected_pages() {
    for name in PORTS {
        let machine = machine(&text_of(name));
        let truth = machine.truth();
        let root = root(&machine);
        let reader = Reader(&machine, root);
        let page = truth.page_size;
        let (base, max) = (
            reader.u64(reader.symbol("dmap_phys_base")),
            reader.u64(reader.symbol("dmap_phys_max")),
        );
        let array = reader.symbol("dump_avail");
        let avail: Vec<(u64, u64)> = (0..)
            .map(|i| (reader.u64(array + i * 16), reader.u64(array + i * 16 + 8)))
            .take_while(|pair| pair.1 != 0)
            .collect();
        assert!(avail.len() >= 2, "{name}");
        // By FreeBSD's headers: sizeof(struct vm_phys_seg) with and without md_first;
        // sizeof(struct vm_page), flags.
        let seg_size = if name == "riscv64" { 48 } else { 56 };
        let (size, flags) = match truth.release {
            Release::R15 | Release::R152 => (88, 78),
            _ => (104, 94),
        };
        let segs: Vec<(u64, u64, u64)> = (0..u64::from(reader.u32(reader.symbol("vm_phys_nsegs"))))
            .map(|i| reader.symbol("vm_phys_segs") + i * seg_size)
            .map(|seg| (reader.u64(seg), reader.u64(seg + 8), reader.u64(seg + 16)))
            .collect();
        let dumpable = |pa: u64| {
            if !avail.iter().any(|(s, e)| (*s..*e).contains(&pa)) || !(base..max).contains(&pa) {
                return false;
            }
            let seg = segs.iter().find(|(s, e, _)| (*s..*e).contains(&pa));
            seg.is_none_or(|(start, _, first)| {
                let mut byte = [0];
                reader.read(first + (pa - start) / page * size + flags, &mut byte);
                byte[0] & 0x10 == 0
            })
        };
        let mut found = BTreeSet::new();
        let mut bit = 0;
        let bitmap = reader.u64(reader.symbol("vm_page_dump"));
        for (start, end) in &avail {
            for pa in (*start..*end).step_by(page as usize) {
                let mut byte = [0];
                reader.read(bitmap + bit / 8, &mut byte);
                if byte[0] >> (bit % 8) & 1 == 1 && dumpable(pa) {
                    found.insert(pa);
                }
                bit += 1;
            }
        }
        assert_eq!(reader.u64(reader.symbol("vm_page_dump_pages")), bit);
        let end = reader.u64(reader.symbol("kernel_vm_end"));
        for va in (truth.vm_min_kernel_address.0..end).step_by(page as usize) {
            if let Some((pa, ..)) = walk(&machine, root, va)
                && dumpable(pa)
            {
                found.insert(pa);
            }
        }
        let expected: BTreeSet<u64> = truth
            .dumped
            .iter()
            .flat_map(|run| (run.pa.0..run.pa.0 + run.len).step_by(page as usize))
            .collect();
        let missing: Vec<_> = expected.difference(&found).take(4).collect();
        let extra: Vec<_> = found.difference(&expected).take(4).collect();
        assert!(
            expected == found,
            "{name}: missing {missing:x?}, extra {extra:x?}"
        );
        assert!(!truth.nodump.is_empty());
    }
}

/// A frame-pointer walk by the rules of each port's ddb: program counter and frame pointer.
fn backtrace(machine: &Machine, reader: &Reader<'_>, pcb: u64) -> Vec<(u64, u64)> {
    let arm = machine.truth().architecture.name() == "aarch64";
    // struct pcb: fp and lr of arm64 since 14; s0 and ra of riscv.
    let (mut pc, mut fp) = if arm {
        (reader.u64(pcb + 88), reader.u64(pcb + 80))
    } else {
        (reader.u64(pcb), reader.u64(pcb + 32))
    };
    let function = |pc: u64| {
        let symbols = machine.truth().symbols.iter();
        symbols
            .filter(|(_, s)| !s.absolute && s.value <= pc && pc < reader.symbol("_etext"))
            .max_by_key(|(_, s)| s.value)
            .map_or("", |(name, _)| name.as_str())
    };
    let ends = [
        "fork_trampoline",
        "handle_el0_sync",
        "cpu_exception_handler_user",
    ];
    let traps = [
        "handle_el1h_sync",
        "handle_el1h_irq",
        "cpu_exception_handler_supervisor",
    ];
    let mut frames = vec![(pc, fp)];
    while !ends.contains(&function(pc)) {
        let at = fp;
        let record = if arm { at } else { at - 16 };
        (fp, pc) = (reader.u64(record), reader.u64(record + 8));
        frames.push((pc, fp));
        if traps.contains(&function(pc)) {
            // arm64: struct trapframe (288 bytes) lies below the entry's frame record.
            // riscv: at the stack pointer of the entry, which is its callee's frame pointer.
            (pc, fp) = if arm {
                let frame = fp - 288;
                (reader.u64(frame + 16), reader.u64(frame + 48 + 29 * 8))
            } else {
                (reader.u64(at + 248), reader.u64(at + 88))
            };
            frames.push((pc, fp));
        }
        assert!(frames.len() < 64);
    }
    frames
}

#[test]
fn frame_pointers_lead_through_every_stack_of_a_port() {
    for name in PORTS {
        let machine = machine(&text_of(name));
        let reader = Reader(&machine, root(&machine));
        let truth = machine.truth();
        let pcb = |thread: &ThreadTruth| match thread.context {
            Context::Dump => Some(reader.symbol("dumppcb")),
            Context::Debugger => Some(reader.symbol("kdb_pcb")),
            Context::Saved => Some(thread.pcb.0),
            Context::Running(_) => None,
            Context::Stopped(cpu) => {
                let size = reader.u32(reader.symbol("pcb_size"));
                Some(reader.u64(reader.symbol("stoppcbs")) + u64::from(cpu * size))
            }
        };
        let (mut walked, mut traps) = (0, 0);
        for thread in &truth.threads {
            let Some(pcb) = pcb(thread) else {
                continue;
            };
            let expected: Vec<_> = thread.frames.iter().map(|f| (f.pc.0, f.fp.0)).collect();
            let what = format!("{name}: {} {}", thread.comm, thread.name);
            assert_eq!(backtrace(&machine, &reader, pcb), expected, "{what}");
            assert_eq!(expected.len() == 1, thread.doing == Doing::Fresh, "{what}");
            walked += 1;
            traps += thread.frames.iter().filter(|f| f.trap.is_some()).count();
        }
        assert!(walked > 20 && traps > 0, "{name}: {walked} {traps}");
    }
}

#[test]
fn processes_of_a_port_have_user_pages() {
    for name in PORTS {
        let machine = machine(&text_of(name));
        let mut pages = 0;
        for process in &machine.truth().processes {
            if let Some(space) = &process.space {
                for map in &space.mappings {
                    let leaf = walk(&machine, space.root.0, map.va.0).expect("a mapping");
                    assert_eq!(
                        (leaf.0, leaf.2, leaf.4),
                        (map.pa.0, map.prot.write, true),
                        "{name}"
                    );
                    pages += 1;
                }
            }
        }
        assert!(pages > 50, "{name}: {pages}");
    }
}

#[test]
fn a_ports_kernel_file_is_of_its_machine() {
    for (name, e_machine) in [("arm64", 183), ("riscv64", 243)] {
        let machine = machine(&text_of(name));
        let elf = goblin::elf::Elf::parse(machine.kernel()).expect("an ELF file");
        assert_eq!(elf.header.e_machine, e_machine);
        assert_eq!(elf.entry, machine.truth().kernbase.0);
        let reader = Reader(&machine, root(&machine));
        let mut version = vec![0; machine.truth().version.len()];
        reader.read(reader.symbol("version"), &mut version);
        assert_eq!(version, machine.truth().version.as_bytes());
        let msgbuf = reader.u64(reader.symbol("msgbufp"));
        assert_eq!(reader.u32(msgbuf + 8), 0x063062);
    }
}
