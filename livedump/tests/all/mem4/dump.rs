//! Tests of MEM_KERNELDUMP.

use std::fs::{self, File};
use std::io::Read;
use std::ops::Range;
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Barrier};

use livecore_compress::ReadAt;
use livecore_livedump::emulated::{Credentials, Emulated};
use livecore_livedump::mem4::{Access, Device, DumpRequest, MemDevice, MemError};
use livecore_livedump::take::{PlanOptions, plan};
use livecore_minidump::{Container, Dump, KernelDumpHeader, OpenOptions};
use livecore_minidump::{PhysAddr, PhysMemory};

use super::fixture::{PAGE, fixture};

fn request(file: &File, compression: u8) -> DumpRequest {
    DumpRequest {
        fd: file.as_raw_fd(),
        flags: 0,
        compression,
    }
}

#[test]
fn kernel_dump_is_a_raw_live_file_with_every_compression() {
    let fixture = fixture();
    // Read access suffices.
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
        assert_eq!(dump.envelope().container(), Container::Raw);
        assert_eq!(dump.bitmap(), taken.plan.bitmap());
    }
}

#[test]
fn kernel_dump_is_written_from_the_start_without_truncation() {
    let fixture = fixture();
    let file = fixture.file("dump");
    file.set_len(64 << 20).unwrap();
    file.write_all_at(b"tail", (64 << 20) - 4).unwrap();
    // The position and O_APPEND have no effect.
    std::io::Seek::seek(&mut &file, std::io::SeekFrom::Start(12345)).unwrap();
    let append = File::options()
        .append(true)
        .open(fixture.dir.path().join("dump"))
        .unwrap();
    fixture.device().kernel_dump(&request(&append, 0)).unwrap();
    let flags = rustix::fs::fcntl_getfl(&append).unwrap();
    assert!(flags.contains(rustix::fs::OFlags::APPEND), "{flags:?}");
    assert_eq!(file.metadata().unwrap().len(), 64 << 20);
    let mut head = [0; 8];
    ReadAt::read_exact_at(&file, &mut head, 0).unwrap();
    assert_eq!(&head, b"minidump");
    let position = std::io::Seek::stream_position(&mut &file).unwrap();
    assert_eq!(position, 12345);
}

#[test]
fn kernel_dump_errors_have_the_drivers_order() {
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
    // Each request has all later faults too; the first one is reported.
    assert!(matches!(error(-1, 1, 9), MemError::BadFlags { flags: 1 }));
    let closed = error(-1, 0, 9);
    assert!(matches!(closed, MemError::BadDescriptor { fd: -1 }));
    assert_eq!(closed.errno(), libc::EBADF);
    for pipe in [reader.as_raw_fd(), writer.as_raw_fd()] {
        let pipe = error(pipe, 0, 9);
        assert!(matches!(pipe, MemError::NotAFile { .. }), "{pipe}");
        assert_eq!(pipe.errno(), libc::EINVAL);
    }
    let path = fixture.dir.path().join("fifo");
    rustix::fs::mkfifoat(rustix::fs::CWD, &path, rustix::fs::Mode::RWXU).unwrap();
    let fifo = File::options().read(true).write(true).open(&path).unwrap();
    let fifo = error(fifo.as_raw_fd(), 0, 9);
    assert!(matches!(fifo, MemError::NotAFile { .. }), "{fifo}");
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
    assert_eq!(file.metadata().unwrap().len(), 0, "the file was written");

    // The privilege is checked first.
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

/// `devfs_specops.vop_write` is `dead_write` (15.0).
#[test]
fn device_as_the_file_of_a_dump_is_eio() {
    let fixture = fixture();
    let null = File::options().write(true).open("/dev/null").unwrap();
    for compression in [0, 1, 2] {
        let request = request(&null, compression);
        let error = fixture.device().kernel_dump(&request).unwrap_err();
        assert_eq!(error.errno(), libc::EIO, "{error}");
    }
}

/// Memory that blocks once while it is dumped.
struct Blocking {
    inner: Arc<dyn PhysMemory>,
    armed: Arc<AtomicBool>,
    at: u64,
    reached: Arc<Barrier>,
    go_on: Arc<Barrier>,
}

impl PhysMemory for Blocking {
    fn ranges(&self) -> &[Range<PhysAddr>] {
        self.inner.ranges()
    }

    fn read(&self, PhysAddr(at): PhysAddr, buf: &mut [u8]) -> std::io::Result<()> {
        if (at..at + buf.len() as u64).contains(&self.at)
            && self.armed.swap(false, Ordering::SeqCst)
        {
            self.reached.wait();
            self.go_on.wait();
        }
        self.inner.read(PhysAddr(at), buf)
    }
}

#[test]
fn ebusy_while_another_dump_of_the_machine_runs() {
    let fixture = fixture();
    let (reached, go_on) = (Arc::new(Barrier::new(2)), Arc::new(Barrier::new(2)));
    let armed = Arc::new(AtomicBool::new(false));
    let mut parts = fixture.parts();
    parts.memory = Arc::new(Blocking {
        inner: parts.memory,
        armed: armed.clone(),
        at: fixture.machine.truth().kernphys.0,
        reached: reached.clone(),
        go_on: go_on.clone(),
    });
    let slow = Emulated::open(parts, Access::READ, Credentials::default()).unwrap();
    armed.store(true, Ordering::SeqCst);
    let (first, second) = (fixture.file("first"), fixture.file("second"));
    std::thread::scope(|scope| {
        let running = scope.spawn(|| slow.kernel_dump(&request(&first, 0)));
        reached.wait();
        // The device of another process on the same machine.
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
fn dump_of_changing_memory_is_structurally_sound() {
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
                    // The message ring, on whose contents no structure depends.
                    device
                        .write_all(Device::Kmem, ring.0 + n % 4096, &n.to_le_bytes())
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
            // All bytes are present and pass their checksums.
            let payload = dump.payload();
            let size = payload.size().unwrap();
            let mut all = vec![0; size as usize];
            payload.read_exact_at(&mut all, 0).unwrap();
            assert_eq!(size, dump.layout().end());
        }
        stop.store(true, Ordering::Relaxed);
    });
}
