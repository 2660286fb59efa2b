//! Tests of MEM_EXTRACT_PADDR.

use std::sync::Arc;

use livecore_defs::amd64::VM_MIN_KERNEL_ADDRESS;
use livecore_livedump::emulated::{Credentials, Emulated, Parts};
use livecore_livedump::mem4::{Access, Device, MemDevice, MemError};
use livecore_livedump::sys::memrange::MeState;
use livecore_minidump::{KernelElf, PhysAddr, VirtAddr};
use livecore_synth::Machine;

use super::fixture::{PAGE, fixture};

#[test]
fn without_a_process_all_addresses_are_invalid() {
    let fixture = fixture();
    let extracted = fixture.device().extract_paddr(VirtAddr(0x1000)).unwrap();
    assert_eq!(extracted.state, MeState::Invalid);
}

#[test]
fn addresses_of_all_processes_match_their_maps_and_page_tables() {
    let fixture = fixture();
    let (mut checked, mut probes) = (0, 0);
    for process in &fixture.machine.truth().processes {
        if process.zombie {
            continue;
        }
        let device = fixture.device().in_process_of(process.pid).unwrap();
        let Some(space) = &process.space else {
            let extracted = device.extract_paddr(VirtAddr(0x20_0000)).unwrap();
            assert_eq!(extracted.state, MeState::Invalid, "{}", process.comm);
            continue;
        };
        for mapping in &space.mappings {
            let extracted = device
                .extract_paddr(VirtAddr(mapping.va.0 + 0x123))
                .unwrap();
            assert_eq!(extracted.state, MeState::Mapped, "{:#x}", mapping.va);
            assert_eq!(extracted.paddr, PhysAddr(mapping.pa.0 + 0x123));
            checked += 1;
        }
        // Every address from before the first range to after the last one below the library, and the
        // pages at the ends of the others.
        let resident = |va: u64| space.mappings.iter().any(|m| m.va == VirtAddr(va));
        let in_map = |va: u64| {
            space
                .valid
                .iter()
                .any(|range| range.contains(&VirtAddr(va)))
        };
        let page = PAGE as u64;
        let low = (0..space.valid[3].end.0 + 64 * page).step_by(PAGE);
        let ends = space.valid[4..].iter().flat_map(|range| {
            let edges = [range.start.0, range.end.0].map(|at| at - 8 * page..at + 8 * page);
            edges.into_iter().flat_map(|edge| edge.step_by(PAGE))
        });
        let others = [1 << 46, (1 << 47) - page, VM_MIN_KERNEL_ADDRESS.0, u64::MAX];
        for va in low.chain(ends).chain(others) {
            let state = device.extract_paddr(VirtAddr(va)).unwrap().state;
            let expected = match (in_map(va), resident(va)) {
                (false, _) => MeState::Invalid,
                (true, false) => MeState::Valid,
                (true, true) => MeState::Mapped,
            };
            assert_eq!(state, expected, "{va:#x} of {}", process.comm);
            probes += 1;
        }
        assert!(device.has_map());
    }
    assert!(probes > 4000, "{probes} probes");
    assert!(checked > 20, "{checked} pages of processes");
    let error = fixture.device().in_process_of(99_999).err();
    assert!(matches!(error, Some(MemError::NoSuchProcess { .. })));
}

/// The physical address of the last-level entry for `va` in the tables at `root`.
fn entry(device: &dyn MemDevice, root: u64, va: u64) -> u64 {
    let mut table = root;
    for shift in [39, 30, 21] {
        let mut bytes = [0; 8];
        let at = table + (va >> shift & 511) * 8;
        device.read_exact(Device::Mem, at, &mut bytes).unwrap();
        table = u64::from_le_bytes(bytes) & 0x000f_ffff_ffff_f000;
    }
    table + (va >> 12 & 511) * 8
}

#[test]
fn translation_follows_changes_of_the_page_tables() {
    let fixture = fixture();
    let processes = &fixture.machine.truth().processes;
    let (pid, space) = processes
        .iter()
        .find_map(|p| Some((p.pid, p.space.as_ref()?)))
        .unwrap();
    let mapping = space.mappings[0];
    let device = fixture.device().in_process_of(pid).unwrap();
    let extracted = device.extract_paddr(mapping.va).unwrap();
    assert_eq!(extracted.paddr, mapping.pa);
    let at = entry(&device, space.root.0, mapping.va.0);
    device.write_all(Device::Mem, at, &[0; 8]).unwrap();
    let extracted = device.extract_paddr(mapping.va).unwrap();
    assert_eq!(extracted.state, MeState::Valid, "after unmapping");
    let moved = (mapping.pa.0 + 0x1000) | 7;
    device
        .write_all(Device::Mem, at, &moved.to_le_bytes())
        .unwrap();
    let extracted = device.extract_paddr(mapping.va).unwrap();
    assert_eq!(
        extracted.paddr,
        PhysAddr(mapping.pa.0 + 0x1000),
        "after remapping"
    );
}

#[test]
fn domains_are_those_of_mem_affinity() {
    let text = include_str!("../../../../testdata/machines/tiny.toml");
    let text = text.replace("size = \"32 MiB\"", "size = \"32 MiB\"\ndomains = 2");
    let machine = Machine::parse(&text).unwrap();
    let elf = Arc::new(KernelElf::from_bytes(machine.kernel().to_vec()).unwrap());
    let mut found = [0; 2];
    for process in &machine.truth().processes {
        let Some(space) = &process.space else {
            continue;
        };
        let parts = Parts::of_description(machine.memory(), Some(elf.clone()), "tiny.toml");
        let device = Emulated::open(parts, Access::READ, Credentials::default()).unwrap();
        let device = device.in_process_of(process.pid).unwrap();
        for mapping in &space.mappings {
            let domain = device.extract_paddr(mapping.va).unwrap().domain;
            // The machine has 32 MiB from address 0; the first domain includes its own end.
            assert_eq!(
                domain,
                i32::from(mapping.pa.0 > 16 << 20),
                "{:#x}",
                mapping.pa
            );
            found[domain as usize] += 1;
        }
    }
    assert!(found.iter().all(|count| *count > 5), "{found:?}");
}
