//! Tests of opening, reading and writing.

use std::ops::Range;
use std::sync::Arc;

use livecore_defs::amd64::{KERNBASE, VM_MIN_KERNEL_ADDRESS};
use livecore_kernel::locate::LocateError;
use livecore_livedump::emulated::{Credentials, Emulated};
use livecore_livedump::mem4::{Access, Device, MemDevice, MemError};
use livecore_livedump::take::check_kernel;
use livecore_minidump::{KernelElf, PhysAddr, PhysMemory};

use super::fixture::{PAGE, fixture};

#[test]
fn offsets_of_dev_mem_are_physical_addresses() {
    let fixture = fixture();
    let device = fixture.device();
    let load = fixture.machine.truth().kernphys;
    let mut buf = vec![0; 3 * PAGE];
    let mut expected = buf.clone();
    // Across pages and from the middle of one.
    device
        .read_exact(Device::Mem, load.0 + 100, &mut buf)
        .unwrap();
    fixture
        .machine
        .memory()
        .read(PhysAddr(load.0 + 100), &mut expected)
        .unwrap();
    assert!(buf == expected && buf.iter().any(|b| *b != 0));
}

#[test]
fn offsets_of_dev_kmem_are_kernel_addresses_and_direct_map_addresses() {
    let fixture = fixture();
    let device = fixture.device();
    let truth = fixture.machine.truth();
    let mut version = vec![0; truth.version.len()];
    let va = fixture.symbol("version");
    device.read_exact(Device::Kmem, va, &mut version).unwrap();
    assert_eq!(version, truth.version.as_bytes());
    let pa = truth.kernphys.0 + (va - (KERNBASE.0 + (2 << 20)));
    version.fill(0);
    device
        .read_exact(Device::Kmem, truth.dmap.start.0 + pa, &mut version)
        .unwrap();
    assert_eq!(version, truth.version.as_bytes());
}

#[test]
fn written_bytes_are_read_back_and_in_the_image() {
    let fixture = fixture();
    let device = fixture.device();
    let va = fixture.symbol("osrelease");
    // Across the end of a page.
    let ring = fixture
        .machine
        .truth()
        .msgbuf
        .ring_va
        .0
        .next_multiple_of(4096)
        + 4093;
    device.write_all(Device::Kmem, va, b"99.9").unwrap();
    device.write_all(Device::Kmem, ring, b"written").unwrap();
    let again = fixture.device();
    let mut read = [0; 7];
    again.read_exact(Device::Kmem, va, &mut read[..4]).unwrap();
    assert_eq!(&read[..4], b"99.9");
    again.read_exact(Device::Kmem, ring, &mut read).unwrap();
    assert_eq!(&read, b"written");
}

#[test]
fn efault_only_if_nothing_was_transferred() {
    let fixture = fixture();
    let device = fixture.device();
    let end = fixture.machine.memory().ranges().last().unwrap().end.0;
    let mut buf = vec![0; 2 * PAGE];
    // Two thirds of a page exist: a short count.
    let at = end - 3000;
    assert_eq!(device.read(Device::Mem, at, &mut buf).unwrap(), 3000);
    assert_eq!(device.write(Device::Mem, at, &buf).unwrap(), 3000);
    let error = device.read(Device::Mem, end, &mut buf).unwrap_err();
    assert!(matches!(error, MemError::BadAddress { at, .. } if at == end));
    assert_eq!(error.errno(), libc::EFAULT);
    let error = device.read_exact(Device::Mem, at, &mut buf).unwrap_err();
    assert!(matches!(error, MemError::BadAddress { at, .. } if at == end));
}

#[test]
fn efault_for_an_unmapped_kernel_address() {
    let fixture = fixture();
    let device = fixture.device();
    let mut buf = [0; 8];
    for at in [
        0,
        0x1000,
        1 << 47,
        VM_MIN_KERNEL_ADDRESS.0 - 8,
        fixture.machine.truth().kva_end.0,
        u64::MAX - 7,
    ] {
        let error = device.read(Device::Kmem, at, &mut buf).unwrap_err();
        assert_eq!(error.errno(), libc::EFAULT, "{at:#x}: {error}");
    }
    let truth = fixture.machine.truth();
    let beyond = truth.dmap.start.0 + truth.dmaplimit.0;
    let error = device.read(Device::Kmem, beyond, &mut buf).unwrap_err();
    assert_eq!(error.errno(), libc::EFAULT, "{error}");
}

#[test]
fn physical_address_0_is_not_accessible_through_the_kernel_map() {
    let fixture = fixture();
    let device = fixture.device();
    let truth = fixture.machine.truth();
    let identity = truth
        .mappings
        .iter()
        .any(|m| m.va == KERNBASE && m.pa == PhysAddr(0));
    assert!(identity, "a kernel maps low memory at KERNBASE");
    let mut buf = [0; 8];
    // memrw() of amd64 refuses an access that begins there, not the rest of the page.
    let error = device.read(Device::Kmem, KERNBASE.0, &mut buf).unwrap_err();
    assert_eq!(error.errno(), libc::EFAULT, "{error}");
    device
        .read_exact(Device::Kmem, KERNBASE.0 + 1, &mut buf)
        .unwrap();
    device
        .read_exact(Device::Kmem, KERNBASE.0 + PAGE as u64, &mut buf)
        .unwrap();
    device.read_exact(Device::Mem, 0, &mut buf).unwrap();
    device
        .read_exact(Device::Kmem, truth.dmap.start.0, &mut buf)
        .unwrap();
}

#[test]
fn offsets_end_with_the_processors_physical_addresses() {
    let fixture = fixture();
    let mut parts = fixture.parts();
    // Memory at all addresses, so that only the processor's limit remains.
    struct Everywhere(Vec<Range<PhysAddr>>, Arc<dyn PhysMemory>);
    impl PhysMemory for Everywhere {
        fn ranges(&self) -> &[Range<PhysAddr>] {
            &self.0
        }
        fn read(&self, at: PhysAddr, buf: &mut [u8]) -> std::io::Result<()> {
            if self.1.ranges().last().is_some_and(|last| at < last.end) {
                return self.1.read(at, buf);
            }
            buf.fill(0xff);
            Ok(())
        }
    }
    let whole = PhysAddr(0)..PhysAddr::MAX.align_down(PAGE as u64);
    parts.memory = Arc::new(Everywhere(vec![whole], parts.memory));
    parts.writable = None;
    parts.processor.maxphyaddr = 36;
    let device = Emulated::open(parts, Access::READ, Credentials::default()).unwrap();
    let mut buf = [0; 16];
    assert_eq!(
        device.read(Device::Mem, (1 << 36) - 8, &mut buf).unwrap(),
        8
    );
    let error = device.read(Device::Mem, 1 << 36, &mut buf).unwrap_err();
    assert_eq!(error.errno(), libc::EFAULT, "{error}");
    let error = device.read(Device::Mem, 1 << 63, &mut buf).unwrap_err();
    assert_eq!(error.errno(), libc::EFAULT, "{error}");
}

#[test]
fn eperm_for_open_without_the_privilege_or_at_a_securelevel() {
    let fixture = fixture();
    for (access, credentials) in [
        (
            Access::READ,
            Credentials {
                kmem_read: false,
                ..Credentials::default()
            },
        ),
        (
            Access::READ_WRITE,
            Credentials {
                kmem_write: false,
                ..Credentials::default()
            },
        ),
        (
            Access::READ_WRITE,
            Credentials {
                securelevel: 1,
                ..Credentials::default()
            },
        ),
    ] {
        let Err(error) = Emulated::open(fixture.parts(), access, credentials) else {
            panic!("opened with {credentials:?}");
        };
        assert_eq!(error.errno(), libc::EPERM, "{error}");
    }
    // Reading is allowed at any securelevel.
    let secured = Credentials {
        securelevel: 3,
        ..Credentials::default()
    };
    Emulated::open(fixture.parts(), Access::READ, secured).unwrap();
}

#[test]
fn ebadf_for_access_without_the_open_mode() {
    let fixture = fixture();
    let open = |access| Emulated::open(fixture.parts(), access, Credentials::default()).unwrap();
    let error = open(Access::READ).write(Device::Mem, 0, b"x").unwrap_err();
    assert_eq!(error.errno(), libc::EBADF, "{error}");
    let write_only = Access {
        read: false,
        write: true,
    };
    let error = open(write_only).read(Device::Mem, 0, &mut [0]).unwrap_err();
    assert_eq!(error.errno(), libc::EBADF, "{error}");
}

/// After installkernel and before a reboot, the file has the symbols of another kernel.
#[test]
fn kernel_file_with_another_version_is_not_that_of_the_running_kernel() {
    let fixture = fixture();
    let device = fixture.device();
    check_kernel(&device, &fixture.elf()).unwrap();
    let mut bytes = fixture.machine.kernel().to_vec();
    let start = b"FreeBSD 14";
    // `version`, and its copy in `sccs`.
    for at in 0..bytes.len() - start.len() {
        if bytes[at..].starts_with(start) {
            bytes[at + start.len()] ^= 1;
        }
    }
    let other = KernelElf::from_bytes(bytes).unwrap();
    let error = check_kernel(&device, &other).unwrap_err();
    assert!(matches!(error, LocateError::NoKernel { .. }), "{error}");
}
