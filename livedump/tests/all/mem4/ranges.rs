//! Tests of MEMRANGE_GET and MEMRANGE_SET.

use livecore_livedump::emulated::Parts;
use livecore_livedump::emulated::{Credentials, Emulated};
use livecore_livedump::mem4::range::{MemRange, Owner};
use livecore_livedump::mem4::{Access, MemDevice, MemError};
use livecore_livedump::sys::memrange::{MEMRANGE_SET_REMOVE, MEMRANGE_SET_UPDATE, Mdf};
use livecore_minidump::PhysAddr;

use super::fixture::fixture;

fn range(base: u64, len: u64, flags: Mdf) -> MemRange {
    MemRange {
        base: PhysAddr(base),
        len,
        flags,
        owner: Owner::new(b"test"),
    }
}

#[test]
fn next_device_lists_changed_ranges() {
    let fixture = fixture();
    let firmware = fixture.device().ranges().unwrap();
    assert_eq!(firmware.len(), 88 + 8);
    let wanted = range(16 << 30, 1 << 30, Mdf::WRITECOMBINE);
    fixture
        .device()
        .set_range(&wanted, MEMRANGE_SET_UPDATE)
        .unwrap();
    let listed = fixture.device().ranges().unwrap();
    assert!(listed.contains(&MemRange {
        flags: Mdf::WRITECOMBINE | Mdf::ACTIVE,
        ..wanted.clone()
    }));
    fixture
        .device()
        .set_range(&wanted, MEMRANGE_SET_REMOVE)
        .unwrap();
    let listed = fixture.device().ranges().unwrap();
    assert!(
        !listed
            .iter()
            .any(|r| r.is(wanted.base, wanted.len) && r.flags.contains(Mdf::ACTIVE))
    );
}

#[test]
fn eopnotsupp_and_enxio_without_memory_ranges() {
    let fixture = fixture();
    for (variable, errno) in [(None, libc::EOPNOTSUPP), (Some(0), libc::ENXIO)] {
        let mut parts = fixture.parts();
        parts.processor.variable_ranges = variable;
        let device = Emulated::open(parts, Access::READ, Credentials::default()).unwrap();
        assert_eq!(device.ranges().unwrap_err().errno(), errno);
        let error = device
            .set_range(&range(0, 4096, Mdf::WRITEBACK), MEMRANGE_SET_UPDATE)
            .unwrap_err();
        assert_eq!(error.errno(), errno, "{error}");
    }
}

#[test]
fn failed_requests_change_no_ranges() {
    let fixture = fixture();
    let device = fixture.device();
    let before = device.ranges().unwrap();
    for (range, operation, errno) in [
        (
            range(1, 4096, Mdf::WRITEBACK),
            MEMRANGE_SET_UPDATE,
            libc::EINVAL,
        ),
        (
            range(1 << 40, 4096, Mdf::WRITEBACK),
            MEMRANGE_SET_REMOVE,
            libc::ENOENT,
        ),
        (
            range(0, 0x1_0000, Mdf::WRITEBACK),
            MEMRANGE_SET_REMOVE,
            libc::EPERM,
        ),
        (range(0, 4096, Mdf::WRITEBACK), 7, libc::EOPNOTSUPP),
    ] {
        let error = device.set_range(&range, operation).unwrap_err();
        assert_eq!(error.errno(), errno, "{error}");
    }
    assert_eq!(device.ranges().unwrap(), before);
}

#[test]
fn described_machine_lists_ranges_and_refuses_changes() {
    let fixture = fixture();
    let text = fixture.dir.path().join("tiny.toml");
    let parts = Parts::of_description(fixture.machine.memory(), Some(fixture.elf()), &text);
    let device = Emulated::open(parts, Access::READ, Credentials::default()).unwrap();
    assert_eq!(device.ranges().unwrap().len(), 96);
    let error = device
        .set_range(&range(1 << 40, 4096, Mdf::WRITEBACK), MEMRANGE_SET_UPDATE)
        .unwrap_err();
    assert!(matches!(error, MemError::Unchangeable { .. }), "{error}");
}

#[test]
fn every_memory_type_can_be_set_and_listed() {
    let fixture = fixture();
    for (attribute, name) in [
        (Mdf::UNCACHEABLE, "uncacheable"),
        (Mdf::WRITECOMBINE, "write-combine"),
        (Mdf::WRITETHROUGH, "write-through"),
        (Mdf::WRITEBACK, "write-back"),
        (Mdf::WRITEPROTECT, "write-protect"),
    ] {
        let wanted = range(16 << 30, 1 << 30, attribute);
        let device = fixture.device();
        device.set_range(&wanted, MEMRANGE_SET_UPDATE).unwrap();
        let lines = fixture.device().ranges().unwrap();
        let line = format!("0x400000000/0x40000000 test {name} active ");
        let same = lines.iter().filter(|r| r.to_string() == line).count();
        assert_eq!(same, 1, "{name}");
    }
}
