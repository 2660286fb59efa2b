//! MEM_EXTRACT_PADDR.

use livedump::mem4::{MemDevice, MemError};
use livedump::sys::memrange::MeState;
use minidump::defs::amd64::VM_MIN_KERNEL_ADDRESS;

use crate::fixture::{PAGE, fixture};

#[test]
fn an_address_of_no_process_is_invalid_and_no_error() {
    let fixture = fixture();
    let extracted = fixture.device().extract_paddr(0x1000).unwrap();
    assert_eq!(extracted.state, MeState::Invalid);
}

#[test]
fn addresses_of_every_process_of_a_machine_are_what_its_tables_say() {
    let fixture = fixture();
    let mut checked = 0;
    for told in &fixture.machine.truth().processes {
        if told.zombie {
            continue;
        }
        let device = fixture.device().in_process_of(told.pid).unwrap();
        let Some(space) = &told.space else {
            let extracted = device.extract_paddr(0x20_0000).unwrap();
            assert_eq!(extracted.state, MeState::Invalid, "{}", told.comm);
            continue;
        };
        for mapping in &space.mappings {
            let extracted = device.extract_paddr(mapping.va + 0x123).unwrap();
            assert_eq!(extracted.state, MeState::Mapped, "{:#x}", mapping.va);
            assert_eq!(extracted.paddr, mapping.pa + 0x123);
            checked += 1;
        }
        let resident = |va: u64| space.mappings.iter().any(|m| m.va == va);
        for range in &space.valid {
            for va in range.clone().step_by(PAGE).filter(|va| !resident(*va)) {
                // By its tables alone an address near a resident one is valid.
                let extracted = device.extract_paddr(va).unwrap();
                assert_ne!(extracted.state, MeState::Mapped, "{va:#x}");
            }
        }
        for va in [0, 0x1000, 1 << 46, VM_MIN_KERNEL_ADDRESS] {
            let extracted = device.extract_paddr(va).unwrap();
            assert_ne!(extracted.state, MeState::Mapped, "{va:#x}");
        }
    }
    assert!(checked > 20, "{checked} pages of processes");
    let error = fixture.device().in_process_of(99_999).err();
    assert!(matches!(error, Some(MemError::NoSuchProcess { .. })));
}
