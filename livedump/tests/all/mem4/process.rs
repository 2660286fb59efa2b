//! Tests of MEM_EXTRACT_PADDR.

use livecore_defs::amd64::VM_MIN_KERNEL_ADDRESS;
use livecore_livedump::mem4::{Device, MemDevice, MemError};
use livecore_livedump::sys::memrange::MeState;
use livecore_minidump::{PhysAddr, VirtAddr};

use super::fixture::{PAGE, fixture};

#[test]
fn without_a_process_all_addresses_are_invalid() {
    let fixture = fixture();
    let extracted = fixture.device().extract_paddr(VirtAddr(0x1000)).unwrap();
    assert_eq!(extracted.state, MeState::Invalid);
}

#[test]
fn addresses_of_all_processes_match_their_page_tables() {
    let fixture = fixture();
    let mut checked = 0;
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
        let resident = |va: u64| space.mappings.iter().any(|m| m.va == VirtAddr(va));
        for range in &space.valid {
            for va in (range.start.0..range.end.0)
                .step_by(PAGE)
                .filter(|va| !resident(*va))
            {
                // By page tables alone, an address close to a resident one is valid.
                let extracted = device.extract_paddr(VirtAddr(va)).unwrap();
                assert_ne!(extracted.state, MeState::Mapped, "{va:#x}");
            }
        }
        for va in [0, 0x1000, 1 << 46, VM_MIN_KERNEL_ADDRESS.0] {
            let extracted = device.extract_paddr(VirtAddr(va)).unwrap();
            assert_ne!(extracted.state, MeState::Mapped, "{va:#x}");
        }
    }
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
