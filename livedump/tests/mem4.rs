//! mem(4) over an emulated machine: each promise and each error of the manual, by name.

use std::fs::{self, File};
use std::io::Read;
use std::ops::Range;
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Barrier};

use compress::ReadAt;
use livedump::mem4::emulated::{Parts, Processor};
use livedump::mem4::range::Owner;
use livedump::mem4::state::State;
use livedump::mem4::{
    Access, Credentials, Device, DumpRequest, Emulated, MemDevice, MemError, MemRange,
};
use livedump::synth::{Description, Machine, build, write_out};
use livedump::sys::memrange::{MEMRANGE_SET_REMOVE, MEMRANGE_SET_UPDATE, Mdf, MeState};
use livedump::take::{PlanOptions, plan};
use livedump::{PhysMemory, image};
use minidump::defs::amd64::{KERNBASE, VM_MIN_KERNEL_ADDRESS};
use minidump::{Container, Dump, KernelDumpHeader, KernelElf, OpenOptions};

const PAGE: usize = 4096;

/// The tiny machine, written out.
struct Fixture {
    machine: Machine,
    dir: tempfile::TempDir,
}

fn fixture() -> Fixture {
    let text = include_str!("../../testdata/machines/tiny.toml");
    let machine = build(&Description::parse(text).unwrap()).unwrap();
    let dir = tempfile::tempdir().unwrap();
    write_out(&machine, &dir.path().join("m")).unwrap();
    Fixture { machine, dir }
}

impl Fixture {
    fn elf(&self) -> Arc<KernelElf> {
        Arc::new(KernelElf::from_bytes(self.machine.kernel().to_vec()).unwrap())
    }

    fn ram(&self) -> PathBuf {
        self.dir.path().join("m/ram")
    }

    fn parts(&self) -> Parts {
        let image = Arc::new(image::open(&self.ram(), true).unwrap().image);
        Parts {
            memory: image.clone(),
            writable: Some(image),
            elf: self.elf(),
            state: State::beside(&self.ram()),
            processor: Processor::default(),
            process: None,
        }
    }

    fn device(&self) -> Emulated {
        Emulated::open(self.parts(), Access::READ_WRITE, Credentials::default()).unwrap()
    }

    fn file(&self, name: &str) -> File {
        File::options()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(self.dir.path().join(name))
            .unwrap()
    }

    fn symbol(&self, name: &str) -> u64 {
        self.machine.truth().symbol(name).unwrap()
    }
}

fn request(file: &File, compression: u8) -> DumpRequest {
    DumpRequest {
        fd: file.as_raw_fd(),
        flags: 0,
        compression,
    }
}

fn range(base: u64, len: u64, flags: Mdf) -> MemRange {
    MemRange {
        base,
        len,
        flags,
        owner: Owner::new(b"test"),
    }
}

// ---- reading and writing

#[test]
fn offsets_of_dev_mem_are_physical_addresses() {
    let fixture = fixture();
    let device = fixture.device();
    let load = fixture.machine.truth().kernphys;
    let mut buf = vec![0; 3 * PAGE];
    let mut expected = buf.clone();
    // Across pages and from the middle of one.
    device
        .read_exact(Device::Mem, load + 100, &mut buf)
        .unwrap();
    fixture
        .machine
        .memory()
        .read(load + 100, &mut expected)
        .unwrap();
    assert!(buf == expected && buf.iter().any(|b| *b != 0));
}

#[test]
fn offsets_of_dev_kmem_are_kernel_addresses_and_the_direct_map_is_one_of_them() {
    let fixture = fixture();
    let device = fixture.device();
    let truth = fixture.machine.truth();
    let mut version = vec![0; truth.version.len()];
    let va = fixture.symbol("version");
    device.read_exact(Device::Kmem, va, &mut version).unwrap();
    assert_eq!(version, truth.version.as_bytes());
    let pa = truth.kernphys + (va - (KERNBASE + (2 << 20)));
    version.fill(0);
    device
        .read_exact(Device::Kmem, truth.dmap.start + pa, &mut version)
        .unwrap();
    assert_eq!(version, truth.version.as_bytes());
}

#[test]
fn what_is_written_is_read_back_and_stays_in_the_image() {
    let fixture = fixture();
    let device = fixture.device();
    let va = fixture.symbol("osrelease");
    // Across a page's end, where there are two pieces.
    let ring = fixture
        .machine
        .truth()
        .msgbuf
        .ring_va
        .next_multiple_of(4096)
        + 4093;
    device.write_all(Device::Kmem, va, b"99.9").unwrap();
    device.write_all(Device::Kmem, ring, b"written").unwrap();
    let again = fixture.device();
    let mut there = [0; 7];
    again.read_exact(Device::Kmem, va, &mut there[..4]).unwrap();
    assert_eq!(&there[..4], b"99.9");
    again.read_exact(Device::Kmem, ring, &mut there).unwrap();
    assert_eq!(&there, b"written");
}

#[test]
fn efault_only_when_nothing_was_moved() {
    let fixture = fixture();
    let device = fixture.device();
    let end = fixture.machine.memory().ranges().last().unwrap().end;
    let mut buf = vec![0; 2 * PAGE];
    // Two thirds of a page are there: a short count.
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
fn efault_kernel_address_that_is_not_mapped() {
    let fixture = fixture();
    let device = fixture.device();
    let mut buf = [0; 8];
    for at in [
        0,
        0x1000,
        1 << 47,
        VM_MIN_KERNEL_ADDRESS - 8,
        fixture.machine.truth().kva_end,
        u64::MAX - 7,
    ] {
        let error = device.read(Device::Kmem, at, &mut buf).unwrap_err();
        assert_eq!(error.errno(), libc::EFAULT, "{at:#x}: {error}");
    }
    let truth = fixture.machine.truth();
    let beyond = truth.dmap.start + truth.dmaplimit;
    let error = device.read(Device::Kmem, beyond, &mut buf).unwrap_err();
    assert_eq!(error.errno(), libc::EFAULT, "{error}");
}

#[test]
fn page_0_cannot_be_reached_through_the_kernel_map_but_through_everything_else() {
    let fixture = fixture();
    let device = fixture.device();
    let truth = fixture.machine.truth();
    let identity = truth.mappings.iter().any(|m| m.va == KERNBASE && m.pa == 0);
    assert!(identity, "a kernel maps low memory at KERNBASE");
    let mut buf = [0; 8];
    let error = device.read(Device::Kmem, KERNBASE, &mut buf).unwrap_err();
    assert_eq!(error.errno(), libc::EFAULT, "{error}");
    device
        .read_exact(Device::Kmem, KERNBASE + PAGE as u64, &mut buf)
        .unwrap();
    device.read_exact(Device::Mem, 0, &mut buf).unwrap();
    device
        .read_exact(Device::Kmem, truth.dmap.start, &mut buf)
        .unwrap();
}

#[test]
fn offsets_end_with_the_processors_physical_addresses() {
    let fixture = fixture();
    let mut parts = fixture.parts();
    // Memory is said to be everywhere, so that only the processor's bound is left.
    struct Everywhere(Vec<Range<u64>>, Arc<dyn PhysMemory>);
    impl PhysMemory for Everywhere {
        fn ranges(&self) -> &[Range<u64>] {
            &self.0
        }
        fn read(&self, at: u64, buf: &mut [u8]) -> std::io::Result<()> {
            let end = self.1.ranges().last().map_or(0, |r| r.end);
            if at < end {
                return self.1.read(at, buf);
            }
            buf.fill(0xff);
            Ok(())
        }
    }
    let whole = 0..u64::MAX - u64::MAX % PAGE as u64;
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

// ---- opening

#[test]
fn eperm_open_without_the_privilege_or_in_a_secured_system() {
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
    // Reading is allowed in a secured system.
    let secured = Credentials {
        securelevel: 3,
        ..Credentials::default()
    };
    Emulated::open(fixture.parts(), Access::READ, secured).unwrap();
}

#[test]
fn ebadf_access_for_which_the_device_was_not_opened() {
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

// ---- MEM_KERNELDUMP

#[test]
fn a_kernel_dump_is_a_raw_live_file_in_all_three_compressions() {
    let fixture = fixture();
    // Reading is enough for it.
    let device = Emulated::open(fixture.parts(), Access::READ, Credentials::default()).unwrap();
    let taken = plan(
        fixture.machine.memory(),
        &fixture.elf(),
        &PlanOptions::default(),
    )
    .unwrap();
    let payload = taken.payload();
    let mut expected = vec![0; payload.size().unwrap() as usize];
    payload.read_exact_at(&mut expected, 0).unwrap();
    for compression in 0..3 {
        let name = format!("dump.{compression}");
        let file = fixture.file(&name);
        device.kernel_dump(&request(&file, compression)).unwrap();

        let bytes = fs::read(fixture.dir.path().join(&name)).unwrap();
        assert_eq!(bytes.len() % PAGE, 512);
        let block = bytes[bytes.len() - 512..].try_into().unwrap();
        let at = bytes.len() as u64 - 512;
        let header = KernelDumpHeader::parse(block, at).unwrap().unwrap();
        assert!(header.parity_ok);
        assert_eq!(header.version, 4);
        assert_eq!(header.compression, compression);
        assert_eq!(header.dumplength.next_multiple_of(PAGE as u64), at);
        assert_eq!(header.dumpextent, expected.len() as u64);
        assert_eq!((header.blocksize, header.dumpkeysize), (4096, 0));
        assert_eq!(header.hostname, b"tiny.example.org");
        let data = &bytes[..header.dumplength as usize];
        assert!(bytes[data.len()..at as usize].iter().all(|b| *b == 0));

        let mut back = Vec::new();
        match compression {
            0 => back.extend(data),
            1 => {
                assert_eq!(data[..10], *b"\x1f\x8b\x08\0\0\0\0\0\0\x03");
                flate2::read::GzDecoder::new(data)
                    .read_to_end(&mut back)
                    .unwrap();
            }
            _ => {
                assert_eq!(data[..6], *b"\x28\xb5\x2f\xfd\x04\x58");
                back = zstd::decode_all(data).unwrap();
            }
        }
        assert!(back == expected);

        let path = fixture.dir.path().join(&name);
        let dump = Dump::open(&path, &OpenOptions::default()).unwrap();
        assert_eq!(dump.container(), Container::Raw);
        assert_eq!(dump.bitmap(), taken.plan.bitmap());
    }
}

#[test]
fn a_kernel_dump_goes_to_the_start_of_the_file_and_cuts_nothing_off() {
    let fixture = fixture();
    let file = fixture.file("dump");
    file.set_len(64 << 20).unwrap();
    file.write_all_at(b"tail", (64 << 20) - 4).unwrap();
    // Neither the position nor O_APPEND matters.
    std::io::Seek::seek(&mut &file, std::io::SeekFrom::Start(12345)).unwrap();
    let append = File::options()
        .append(true)
        .open(fixture.dir.path().join("dump"))
        .unwrap();
    fixture.device().kernel_dump(&request(&append, 0)).unwrap();
    assert_eq!(file.metadata().unwrap().len(), 64 << 20);
    let mut head = [0; 8];
    ReadAt::read_exact_at(&file, &mut head, 0).unwrap();
    assert_eq!(&head, b"minidump");
    let position = std::io::Seek::stream_position(&mut &file).unwrap();
    assert_eq!(position, 12345);
}

#[test]
fn eperm_einval_ebadf_of_a_kernel_dump_come_in_the_drivers_order() {
    let fixture = fixture();
    let device = fixture.device();
    let (reader, _writer) = std::io::pipe().unwrap();
    let (_reader, writer) = std::io::pipe().unwrap();
    let read_only = {
        fixture.file("dump");
        File::open(fixture.dir.path().join("dump")).unwrap()
    };
    let error = |fd, flags, compression| {
        let request = DumpRequest {
            fd,
            flags,
            compression,
        };
        device.kernel_dump(&request).unwrap_err()
    };
    // Each request has every later fault too; the earliest is reported.
    assert!(matches!(error(-1, 1, 9), MemError::BadFlags { flags: 1 }));
    let closed = error(-1, 0, 9);
    assert!(matches!(closed, MemError::BadDescriptor { fd: -1 }));
    assert_eq!(closed.errno(), libc::EBADF);
    for pipe in [reader.as_raw_fd(), writer.as_raw_fd()] {
        let pipe = error(pipe, 0, 9);
        assert!(matches!(pipe, MemError::NotAFile { .. }), "{pipe}");
        assert_eq!(pipe.errno(), libc::EINVAL);
    }
    let unwritable = error(read_only.as_raw_fd(), 0, 9);
    assert!(matches!(unwritable, MemError::BadDescriptor { .. }));
    assert_eq!(unwritable.errno(), libc::EBADF);
    let file = fixture.file("dump");
    let compression = error(file.as_raw_fd(), 0, 3);
    assert!(matches!(
        compression,
        MemError::BadCompression { compression: 3 }
    ));
    assert_eq!(compression.errno(), libc::EINVAL);
    assert_eq!(file.metadata().unwrap().len(), 0, "nothing was written");

    // The privilege comes before all of them.
    let mut parts = fixture.parts();
    parts.writable = None;
    let write_only = Access {
        read: false,
        write: false,
    };
    let credentials = Credentials {
        kmem_read: false,
        ..Credentials::default()
    };
    let device = Emulated::open(parts, write_only, credentials).unwrap();
    let request = DumpRequest {
        fd: -1,
        flags: 1,
        compression: 9,
    };
    let error = device.kernel_dump(&request).unwrap_err();
    assert_eq!(error.errno(), libc::EPERM, "{error}");
}

#[test]
fn enospc_when_the_file_system_is_full() {
    let fixture = fixture();
    let full = File::options().write(true).open("/dev/full").unwrap();
    for compression in 0..3 {
        let error = fixture
            .device()
            .kernel_dump(&request(&full, compression))
            .unwrap_err();
        assert!(matches!(error, MemError::NoSpace(_)), "{error}");
        assert_eq!(error.errno(), libc::ENOSPC);
    }
}

/// Memory that waits, once, in the middle of being dumped.
struct Waiting {
    inner: Arc<dyn PhysMemory>,
    armed: Arc<AtomicBool>,
    at: u64,
    reached: Arc<Barrier>,
    go_on: Arc<Barrier>,
}

impl PhysMemory for Waiting {
    fn ranges(&self) -> &[Range<u64>] {
        self.inner.ranges()
    }

    fn read(&self, at: u64, buf: &mut [u8]) -> std::io::Result<()> {
        if (at..at + buf.len() as u64).contains(&self.at)
            && self.armed.swap(false, Ordering::SeqCst)
        {
            self.reached.wait();
            self.go_on.wait();
        }
        self.inner.read(at, buf)
    }
}

#[test]
fn ebusy_while_another_dump_of_the_machine_runs() {
    let fixture = fixture();
    let (reached, go_on) = (Arc::new(Barrier::new(2)), Arc::new(Barrier::new(2)));
    let armed = Arc::new(AtomicBool::new(false));
    let mut parts = fixture.parts();
    parts.memory = Arc::new(Waiting {
        inner: parts.memory,
        armed: armed.clone(),
        at: fixture.machine.truth().kernphys,
        reached: reached.clone(),
        go_on: go_on.clone(),
    });
    let slow = Emulated::open(parts, Access::READ, Credentials::default()).unwrap();
    armed.store(true, Ordering::SeqCst);
    let (first, second) = (fixture.file("first"), fixture.file("second"));
    std::thread::scope(|scope| {
        let running = scope.spawn(|| slow.kernel_dump(&request(&first, 0)));
        reached.wait();
        // Another process's device over the same machine.
        let error = fixture
            .device()
            .kernel_dump(&request(&second, 0))
            .unwrap_err();
        assert!(matches!(error, MemError::AnotherDumpRunning), "{error}");
        assert_eq!(error.errno(), libc::EBUSY);
        go_on.wait();
        running.join().unwrap().unwrap();
    });
    fixture.device().kernel_dump(&request(&second, 0)).unwrap();
    let first = fs::read(fixture.dir.path().join("first")).unwrap();
    assert!(first == fs::read(fixture.dir.path().join("second")).unwrap());
}

#[test]
fn a_dump_while_memory_is_written_stays_structurally_sound() {
    let fixture = fixture();
    let stop = AtomicBool::new(false);
    let ring = fixture.machine.truth().msgbuf.ring_va;
    std::thread::scope(|scope| {
        for thread in 0..2_u64 {
            let (fixture, stop) = (&fixture, &stop);
            scope.spawn(move || {
                let device = fixture.device();
                let mut n = thread;
                while !stop.load(Ordering::Relaxed) {
                    n = n.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                    // The message ring, whose content no structure depends on.
                    device
                        .write_all(Device::Kmem, ring + n % 4096, &n.to_le_bytes())
                        .unwrap();
                }
            });
        }
        for compression in [0, 1, 2, 0, 2] {
            let name = format!("dump.{compression}");
            let _ = fs::remove_file(fixture.dir.path().join(&name));
            let file = fixture.file(&name);
            fixture
                .device()
                .kernel_dump(&request(&file, compression))
                .unwrap();
            let path = fixture.dir.path().join(&name);
            let dump = Dump::open(&path, &OpenOptions::default()).unwrap();
            assert_eq!(
                dump.bitmap().count(),
                fixture.machine.truth().dumped_pages()
            );
            // Every byte is there and passes its checksum.
            let payload = dump.payload();
            let size = payload.size().unwrap();
            let mut all = vec![0; size as usize];
            payload.read_exact_at(&mut all, 0).unwrap();
            assert_eq!(size, dump.layout().end());
        }
        stop.store(true, Ordering::Relaxed);
    });
}

// ---- memory ranges

#[test]
fn ranges_that_one_device_sets_the_next_one_lists() {
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
fn eopnotsupp_and_enxio_machines_without_memory_ranges() {
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
fn errors_of_memory_ranges_change_nothing() {
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
fn a_machine_that_is_only_a_text_lists_ranges_and_sets_none() {
    let fixture = fixture();
    let mut parts = fixture.parts();
    parts.memory = fixture.machine.memory();
    parts.writable = None;
    parts.state = State::none();
    let device = Emulated::open(parts, Access::READ, Credentials::default()).unwrap();
    assert_eq!(device.ranges().unwrap().len(), 96);
    let error = device
        .set_range(&range(1 << 40, 4096, Mdf::WRITEBACK), MEMRANGE_SET_UPDATE)
        .unwrap_err();
    assert!(matches!(error, MemError::Unchangeable { .. }), "{error}");
}

// ---- MEM_EXTRACT_PADDR

#[test]
fn an_address_of_no_process_is_invalid_and_no_error() {
    let fixture = fixture();
    let extracted = fixture.device().extract_paddr(0x1000).unwrap();
    assert_eq!(extracted.state, MeState::Invalid);
}
