//! Live dumps of a recorded kernel, from the request to the file.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::num::NonZeroU32;
use std::os::fd::BorrowedFd;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use livecore_compress::{Codec, Encoding, NoProgress, ReadAt};
use livecore_kernel::locate::LocateError;
use livecore_livedump::emulated::State;
use livecore_livedump::emulated::{Credentials, Emulated};
use livecore_livedump::emulated::{Parts, Processor};
use livecore_livedump::mem4::{Access, DumpRequest, FreeBsd, MemDevice, MemError};
use livecore_livedump::publish::{
    Destination, Notice, Options, Output, PublishError, info, watch_signals,
};
use livecore_livedump::sys::descriptor;
use livecore_livedump::sys::mem_ioctl::{MemIoctl, Request};
use livecore_livedump::take::{Estimate, Live, LiveKernel};
use livecore_livedump::take::{
    Lacking, NoObserver, Note, PlanOptions, RunOptions, Source, TakeError, plan, run, running,
};
use livecore_minidump::convert::{Target, finish};
use livecore_minidump::{Container, Dump, KernelDumpHeader, KernelElf, MessageBuffer, OpenOptions};
use livecore_synth::Machine;

fn tiny() -> Machine {
    let text = include_str!("../../../testdata/machines/tiny.toml");
    Machine::parse(text).unwrap()
}

fn elf(machine: &Machine) -> Arc<KernelElf> {
    Arc::new(KernelElf::from_bytes(machine.kernel().to_vec()).unwrap())
}

fn emulated(machine: &Machine) -> Emulated {
    let parts = Parts {
        memory: machine.memory(),
        writable: None,
        elf: Some(elf(machine)),
        state: State::none(),
        processor: Processor::default(),
        process: None,
    };
    Emulated::open(parts, Access::READ, Credentials::default()).unwrap()
}

/// The raw live files of the tiny machine's kernel: none, gzip, zstd.
fn recordings() -> [Vec<u8>; 3] {
    let device = emulated(&tiny());
    [0, 1, 2].map(|compression| {
        let mut file = tempfile::tempfile().unwrap();
        let request = DumpRequest {
            fd: std::os::fd::AsRawFd::as_raw_fd(&file),
            flags: 0,
            compression,
        };
        device.kernel_dump(&request).unwrap();
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).unwrap();
        bytes
    })
}

/// A kernel that writes a recording after some time, and then returns an error if it has one.
struct Recorded {
    files: [Vec<u8>; 3],
    pause: Duration,
    error: i32,
}

impl MemIoctl for Recorded {
    // Runs in a forked child: no allocation, no lock.
    fn issue(&self, _mem: BorrowedFd<'_>, request: Request<'_>) -> io::Result<()> {
        let Request::KernelDump(arg) = request else {
            return Err(io::Error::from_raw_os_error(libc::ENOTTY));
        };
        std::thread::sleep(self.pause);
        if self.error != 0 {
            return Err(io::Error::from_raw_os_error(self.error));
        }
        let file = File::from(descriptor::duplicate(arg.fd)?);
        file.write_all_at(&self.files[usize::from(arg.compression)], 0)
    }
}

fn device<K: MemIoctl + 'static>(kernel: K) -> LiveKernel {
    let zero = Path::new("/dev/zero");
    LiveKernel::new(FreeBsd::open_at(zero, zero, Access::READ, kernel).unwrap())
}

fn good() -> LiveKernel {
    device(Recorded {
        files: recordings(),
        pause: Duration::ZERO,
        error: 0,
    })
}

fn take(device: &LiveKernel, dir: &Path) -> Result<Live, TakeError> {
    device.dump(dir, 0, device.estimate(), &mut |_| {})
}

fn names(dir: &Path) -> Vec<String> {
    let mut names = fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
        .collect::<Vec<_>>();
    names.sort();
    names
}

#[test]
fn kernel_dump_is_sealed_without_leftover_files() {
    let dir = tempfile::tempdir().unwrap();
    let machine = tiny();
    let taken = take(&good(), dir.path()).unwrap();
    assert_eq!(taken.pages, machine.truth().dumped_pages());
    assert!(names(dir.path()).is_empty(), "the kernel's file has a name");
    let target = Target {
        container: Container::Sealed,
        encoding: Encoding::new(Codec::Zstd),
    };
    let destination = Destination::parse(dir.path());
    assert_eq!(destination.directory(), Some(dir.path()));
    let mut pending = destination
        .begin(&Options::default().codec(Codec::Zstd))
        .unwrap();
    let header = taken.header().clone();
    let written = finish(taken.payload(), header, &target, &mut pending, &NoProgress).unwrap();
    let published = pending
        .publish(&|n| info::text(&written.header, "/dev/mem", n).into_bytes())
        .unwrap();
    let dump = Dump::open(&published.path, &OpenOptions::default()).unwrap();
    let expected = plan(machine.memory(), &elf(&machine), &PlanOptions::default())
        .unwrap()
        .into_payload();
    let mut here = vec![0; expected.size().unwrap() as usize];
    let mut other = here.clone();
    expected.read_exact_at(&mut here, 0).unwrap();
    dump.payload().read_exact_at(&mut other, 0).unwrap();
    assert!(here == other);
    assert_eq!(
        dump.envelope().kerneldumpheader().unwrap().hostname,
        b"tiny.example.org"
    );
    assert_eq!(
        names(dir.path()),
        [
            "bounds",
            "info.0",
            "info.last",
            "livecore.0.zst",
            "livecore.last.zst"
        ]
    );
}

#[test]
fn kernel_writes_to_an_unlinked_file_and_reports_progress() {
    let dir = tempfile::tempdir().unwrap();
    let mut kernel = Recorded {
        files: recordings(),
        pause: Duration::from_millis(1300),
        error: 0,
    };
    kernel.files[1].clear();
    let mut heard = 0;
    let device = device(kernel);
    device
        .dump(dir.path(), 0, device.estimate(), &mut |_| {
            assert!(names(dir.path()).is_empty());
            heard += 1;
        })
        .unwrap();
    assert!(heard >= 1, "{heard} progress reports");
}

#[test]
fn kernel_errors_are_translated_and_leave_no_files() {
    let dir = tempfile::tempdir().unwrap();
    let meant = |number: i32, error: &MemError| match number {
        libc::EBUSY => matches!(error, MemError::AnotherDumpRunning),
        libc::EOPNOTSUPP => matches!(error, MemError::KernelCannotLiveDump),
        libc::ENOSPC => matches!(error, MemError::NoSpace(_)),
        _ => matches!(error, MemError::Cancelled),
    };
    for error in [libc::EBUSY, libc::EOPNOTSUPP, libc::ENOSPC, libc::ECANCELED] {
        let kernel = Recorded {
            files: Default::default(),
            pause: Duration::ZERO,
            error,
        };
        match take(&device(kernel), dir.path()) {
            Err(TakeError::Mem(returned)) => assert!(meant(error, &returned), "{returned}"),
            Err(other) => panic!("{other}"),
            Ok(_) => panic!("got a dump after error {error}"),
        }
        assert!(names(dir.path()).is_empty());
    }
}

#[test]
fn dump_with_a_wrong_or_missing_header_is_broken() {
    let dir = tempfile::tempdir().unwrap();
    let whole = recordings()[0].clone();
    let end = whole.len();
    let mut parity = whole.clone();
    parity[end - 300] ^= 1;
    let mut length = whole.clone();
    // dumplength and a spare bit at the same position of another word, so that the parity stays
    // correct.
    length[end - 512 + 46] ^= 0x10;
    length[end - 512 + 506] ^= 0x10;
    let mut magic = whole.clone();
    magic[end - 512] = b'f';
    let cut = whole[..end - 100].to_vec();
    let none = whole[..end - 512].to_vec();
    for (what, bytes) in [
        ("parity", parity),
        ("length", length),
        ("magic", magic),
        ("cut", cut),
        ("none", none),
        ("empty", Vec::new()),
    ] {
        let kernel = Recorded {
            files: [bytes, Vec::new(), Vec::new()],
            pause: Duration::ZERO,
            error: 0,
        };
        let error = take(&device(kernel), dir.path()).err();
        assert!(matches!(error, Some(TakeError::Minidump(_))), "{what}");
        assert!(names(dir.path()).is_empty());
    }
}

#[test]
fn stream_compressed_by_the_kernel_is_not_changed() {
    let dir = tempfile::tempdir().unwrap();
    let files = recordings();
    for (codec, compression) in [(Codec::Gzip, 1), (Codec::Zstd, 2), (Codec::None, 0)] {
        for container in [Container::Saved, Container::Raw] {
            let path = dir.path().join(format!("{codec}.{container}"));
            let options = Options::default().codec(codec);
            let mut pending = Destination::parse(&path).begin(&options).unwrap();
            let device = good();
            let header = device
                .dump_compressed(&mut pending, codec, container, &mut |_| {})
                .unwrap();
            let published = pending.publish(&|_| Vec::new()).unwrap();
            let bytes = fs::read(&path).unwrap();
            assert_eq!(published.len, bytes.len() as u64);
            let whole = &files[compression];
            match container {
                Container::Raw => assert!(bytes == *whole),
                _ => assert!(bytes == whole[..header.dumplength as usize]),
            }
            let dump = Dump::open(&path, &OpenOptions::default()).unwrap();
            assert_eq!(
                (dump.envelope().container(), dump.envelope().codec()),
                (container, codec)
            );
        }
    }
    let mut pending = Destination::parse(dir.path().join("x"))
        .begin(&Options::default())
        .unwrap();
    let sealed = good().dump_compressed(&mut pending, Codec::Zstd, Container::Sealed, &mut |_| {});
    assert!(sealed.is_err(), "a single stream cannot be sealed");
}

/// A kernel that reports another running dump.
struct Busy;

impl MemIoctl for Busy {
    fn issue(&self, _: BorrowedFd<'_>, _: Request<'_>) -> io::Result<()> {
        Err(io::Error::from_raw_os_error(libc::EBUSY))
    }
}

#[test]
fn destination_is_checked_before_the_request() {
    let dir = tempfile::tempdir().unwrap();
    let here = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    fs::write(here("existing"), "x").unwrap();
    fs::create_dir(here("taken")).unwrap();
    fs::write(here("taken/vmcore.0"), "x").unwrap();
    fs::create_dir(here("full")).unwrap();
    fs::write(here("full/minfree"), format!("{}\n", u64::MAX / 2048)).unwrap();
    let take = |out: &str, max, compress| {
        let options = RunOptions::new(Target {
            container: if compress {
                Container::Saved
            } else {
                Container::Sealed
            },
            encoding: Encoding::new(Codec::Zstd),
        })
        .max(max)
        .spool_dir(dir.path());
        let to = Destination::parse(out);
        let source = Source::Kernel {
            kernel: device(Busy),
            compress,
        };
        let output = Output::Destination(&to);
        match run(source, output, &options, &mut NoObserver).unwrap_err() {
            TakeError::Publish(error) => Ok(error),
            other => Err(other),
        }
    };
    let is_absent = |error: &PublishError| match error {
        PublishError::Directory { source, .. } | PublishError::Io { source, .. } => {
            source.kind() == io::ErrorKind::NotFound
        }
        _ => false,
    };
    type Is<'a> = &'a dyn Fn(&PublishError) -> bool;
    let cases: [(String, _, Is<'_>); 6] = [
        (here("existing"), None, &|e| {
            matches!(e, PublishError::Exists { .. })
        }),
        (here("absent/"), None, &is_absent),
        (here("absent/file"), None, &is_absent),
        (here("taken/"), NonZeroU32::new(1), &|e| {
            matches!(e, PublishError::NumbersTaken { .. })
        }),
        (here("full/"), None, &|e| {
            matches!(e, PublishError::NotEnoughSpace { .. })
        }),
        // Not even root can create files there.
        ("/proc/self/".into(), None, &|e| {
            e.to_string().contains("/proc/self")
        }),
    ];
    for (out, max, is_expected) in cases {
        for compress in [true, false] {
            let error = take(&out, max, compress).unwrap();
            assert!(is_expected(&error), "{out}: {error}");
        }
    }
    // With a valid destination the request is made.
    for compress in [true, false] {
        let error = take(&here(""), None, compress).unwrap_err();
        let is_busy = matches!(error, TakeError::Mem(MemError::AnotherDumpRunning));
        assert!(is_busy, "{error}");
    }
    assert_eq!(names(dir.path()).len(), 3);
}

#[test]
fn run_stores_the_kernels_dump() {
    let dir = tempfile::tempdir().unwrap();
    for (compress, container) in [(false, Container::Sealed), (true, Container::Raw)] {
        let options = RunOptions::new(Target {
            container,
            encoding: Encoding::new(Codec::Zstd),
        })
        .spool_dir(dir.path());
        let to = Destination::parse(dir.path());
        let source = Source::Kernel {
            kernel: good(),
            compress,
        };
        let output = Output::Destination(&to);
        let done = run(source, output, &options, &mut NoObserver).unwrap();
        let dump = Dump::open(&done.published.path, &OpenOptions::default()).unwrap();
        assert_eq!(dump.envelope().container(), container);
        assert_eq!(dump.bitmap().count(), tiny().truth().dumped_pages());
        assert_eq!(done.pages.is_some(), !compress);
    }
}

#[test]
fn uncompressed_dump_by_the_kernel_is_published_in_place() {
    let dir = tempfile::tempdir().unwrap();
    let recording = &recordings()[0];
    for container in [Container::Sealed, Container::Saved, Container::Raw] {
        let path = dir.path().join(container.to_string());
        let options = RunOptions::new(Target {
            container,
            encoding: Encoding::new(Codec::None),
        })
        // A copy would need this directory.
        .spool_dir(dir.path().join("absent"));
        let to = Destination::parse(&path);
        let source = Source::Kernel {
            kernel: good(),
            compress: false,
        };
        let output = Output::Destination(&to);
        let done = run(source, output, &options, &mut NoObserver).unwrap();
        let bytes = fs::read(&path).unwrap();
        assert_eq!(done.published.len, bytes.len() as u64);
        let dump = Dump::open(&path, &OpenOptions::default()).unwrap();
        assert_eq!(dump.envelope().container(), container);
        assert_eq!(done.pages, Some(dump.bitmap().count()));
        let len = dump.layout().end() as usize;
        assert!(bytes[..len] == recording[..len], "{container}");
        match container {
            Container::Raw => assert!(bytes == *recording),
            Container::Saved => assert_eq!(bytes.len(), len),
            _ => assert!(dump.envelope().seal().is_some()),
        }
    }
    assert_eq!(names(dir.path()).len(), 3);
}

/// Takes a dump of a kernel that writes `recording`, and counts the pages that it lacks.
fn lacking(recording: Vec<u8>, codec: Codec) -> Lacking {
    let machine = tiny();
    let dir = tempfile::tempdir().unwrap();
    let kernel = device(Recorded {
        files: [recording, Vec::new(), Vec::new()],
        pause: Duration::ZERO,
        error: 0,
    });
    let options = RunOptions::new(Target {
        container: Container::Sealed,
        encoding: Encoding::new(codec),
    })
    .spool_dir(dir.path());
    let to = Destination::parse(dir.path());
    let source = Source::Kernel {
        kernel: kernel.comparing(Arc::new(emulated(&machine)), elf(&machine)),
        compress: false,
    };
    let done = run(source, Output::Destination(&to), &options, &mut NoObserver);
    done.unwrap().lacking.unwrap()
}

/// A dump whose bitmap lacks most of the pages that the kernel has marked is otherwise consistent.
#[test]
fn pages_that_a_dump_lacks_are_counted() {
    let whole = recordings()[0].clone();
    let dump = Dump::from_source(Arc::new(whole.clone()), &OpenOptions::default()).unwrap();
    let layout = dump.layout();
    let kept = dump.bitmap().bits() / 8;
    let pages = dump.bitmap().rank_below(kept);
    let mut gutted = whole[..layout.page_offset(pages).unwrap() as usize].to_vec();
    let bitmap = layout.bitmap_offset() as usize..layout.pmap_offset() as usize;
    gutted[bitmap][kept.div_ceil(8) as usize..].fill(0);
    let len = gutted.len() as u64;
    let header = KernelDumpHeader::parse(whole.last_chunk().unwrap(), 0).unwrap();
    let header = KernelDumpHeader {
        dumplength: len,
        dumpextent: len,
        ..header.unwrap()
    };
    gutted.extend(header.with_parity().encode());
    for codec in [Codec::None, Codec::Zstd] {
        let sound = lacking(whole.clone(), codec);
        assert!(sound.of > 0 && sound.pages == 0, "{codec}: {sound:?}");
        assert!(!sound.is_incomplete());
        let gutted = lacking(gutted.clone(), codec);
        assert_eq!(gutted.of, sound.of);
        assert!(gutted.is_incomplete(), "{codec}: {gutted:?}");
    }
}

#[test]
fn dump_is_estimated_by_the_pages_that_the_kernel_maps() {
    let machine = tiny();
    let estimate = good()
        .comparing(Arc::new(emulated(&machine)), elf(&machine))
        .estimate();
    let dump = Dump::from_source(Arc::new(recordings()[0].clone()), &OpenOptions::default());
    let expected = Estimate {
        bytes: dump.unwrap().layout().end(),
        walked: true,
    };
    assert_eq!(estimate, expected);
    assert!(!good().estimate().walked);

    // An estimate that does not fit is a note that states its basis.
    let dir = tempfile::tempdir().unwrap();
    for walked in [true, false] {
        let estimate = Estimate {
            bytes: u64::MAX,
            walked,
        };
        let live = good().dump(dir.path(), 0, estimate, &mut |_| {}).unwrap();
        let [Note::Directory(Notice::MayNotFit { walked: by, .. })] = live.notes[..] else {
            panic!("{:?}", live.notes);
        };
        assert_eq!(by, walked);
    }
}

#[test]
fn walk_through_the_devices_gives_the_same_dump() {
    let machine = tiny();
    let elf = elf(&machine);
    let found = running(Arc::new(emulated(&machine)), &elf).unwrap();
    assert_eq!(found.located.root, machine.truth().root);
    let options = PlanOptions::default();
    let walked = livecore_livedump::take::plan_machine(found, &elf, &options).unwrap();
    let direct = plan(machine.memory(), &elf, &options).unwrap();
    assert_eq!(walked.header(), direct.header());
    assert_eq!(walked.notes, direct.notes);
    let (walked, direct) = (walked.into_payload(), direct.into_payload());
    let mut here = vec![0; direct.size().unwrap() as usize];
    let mut other = vec![0; walked.size().unwrap() as usize];
    direct.read_exact_at(&mut here, 0).unwrap();
    walked.read_exact_at(&mut other, 0).unwrap();
    assert!(here == other);
}

#[test]
fn walk_with_another_kernels_file_is_refused() {
    let machine = tiny();
    let mut bytes = machine.kernel().to_vec();
    let version = machine.truth().version.as_bytes();
    let copies = (0..bytes.len()).filter(|at| bytes[*at..].starts_with(version));
    for at in copies.collect::<Vec<_>>() {
        bytes[at + 10] ^= 1;
    }
    let elf = KernelElf::from_bytes(bytes).unwrap();
    let Err(error) = running(Arc::new(emulated(&machine)), &elf) else {
        panic!("the wrong kernel was accepted");
    };
    assert!(
        matches!(error, TakeError::Locate(LocateError::NoKernel { .. })),
        "{error}"
    );
}

/// Starts this test program as another process that does `what` in `dir`.
fn other_process(what: &str, dir: &Path) -> Child {
    // Reset ignored signals that this process inherited.
    Command::new("env")
        .arg("--default-signal")
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", "live::the_other_process", "--nocapture"])
        .env("LIVE_DO", what)
        .env("LIVE_IN", dir)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

/// The time that the recorded kernel takes in the other process.
const SLOW: Duration = Duration::from_secs(4);

/// Not a test: the body of [`other_process`].
#[test]
fn the_other_process() {
    let (Ok(what), Some(dir)) = (std::env::var("LIVE_DO"), std::env::var_os("LIVE_IN")) else {
        return;
    };
    watch_signals().unwrap();
    let device = device(Recorded {
        files: recordings(),
        pause: SLOW,
        error: 0,
    });
    let mut ready = false;
    let mut waiting = |_| {
        if !std::mem::replace(&mut ready, true) {
            io::stdout().write_all(b"READY\n").unwrap();
        }
    };
    let dir = Path::new(&dir);
    if what == "live" {
        device
            .dump(dir, 0, device.estimate(), &mut waiting)
            .unwrap();
    } else {
        // As on a system that has no files without a name.
        let options = Options::default().codec(Codec::Zstd).named(true);
        let mut pending = Destination::parse(dir).begin(&options).unwrap();
        let (codec, container) = (Codec::Zstd, Container::Saved);
        device
            .dump_compressed(&mut pending, codec, container, &mut waiting)
            .unwrap();
    }
    panic!("not interrupted");
}

/// Interrupts the other process while its kernel writes. Returns its standard error, and the time
/// until its pipes were closed.
fn interrupt(what: &str, dir: &Path) -> (String, Duration) {
    let mut child = other_process(what, dir);
    let mut out = child.stdout.take().unwrap();
    let mut printed = Vec::new();
    while !printed.ends_with(b"READY\n") {
        let mut byte = [0];
        assert_eq!(out.read(&mut byte).unwrap(), 1, "the other process exited");
        printed.push(byte[0]);
    }
    let begun = Instant::now();
    let pid = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(130));
    let mut err = String::new();
    // Both end when all processes have closed them, the dumping one included.
    out.read_to_end(&mut printed).unwrap();
    child
        .stderr
        .take()
        .unwrap()
        .read_to_string(&mut err)
        .unwrap();
    (err, begun.elapsed())
}

#[test]
fn interrupt_during_a_kernel_dump_exits_at_once_without_a_file() {
    let dir = tempfile::tempdir().unwrap();
    let (printed, took) = interrupt("live", dir.path());
    assert!(printed.contains("in the background"), "{printed}");
    assert!(took < SLOW / 2, "{took:?}");
    assert!(names(dir.path()).is_empty());
}

#[test]
fn file_of_an_interrupted_kernel_is_removed_when_it_is_done() {
    let dir = tempfile::tempdir().unwrap();
    let (_, took) = interrupt("kernel-compress", dir.path());
    assert!(took < SLOW / 2, "{took:?}");
    assert_eq!(names(dir.path()).len(), 1, "the kernel still writes to it");
    let begun = Instant::now();
    while !names(dir.path()).is_empty() {
        assert!(begun.elapsed() < 3 * SLOW, "{:?}", names(dir.path()));
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// MEM_KERNELDUMP copies the ring into its section, then logs its progress, and writes the pages of
/// the ring last: the section lacks the last lines and has no `struct msgbuf`.
#[test]
fn messages_of_a_live_dump_are_read_from_its_pages_with_the_kernel_file() {
    let machine = tiny();
    let truth = machine.truth();
    let elf = elf(&machine);
    let taken = plan(machine.memory(), &elf, &PlanOptions::default()).unwrap();
    let mut bytes = vec![0; taken.payload().size().unwrap() as usize];
    taken.payload().read_exact_at(&mut bytes, 0).unwrap();
    let layout = taken.plan.layout();
    let (at, len) = (
        layout.msgbuf_offset() as usize,
        layout.msgbuf_len() as usize,
    );
    let section = &mut bytes[at..at + len];
    let (ring, rest) = section.split_at_mut(truth.msgbuf.ring.len());
    let text = ring.iter().rposition(|b| *b != 0).unwrap();
    ring[text - 60..=text].fill(0);
    rest.fill(0xa5);
    let dump = Dump::from_source(Arc::new(bytes), &OpenOptions::default()).unwrap();
    let alone = MessageBuffer::of(&dump, None).unwrap().text();
    assert_ne!(alone, truth.msgbuf.text);
    let with_kernel = MessageBuffer::of(&dump, Some(&elf)).unwrap();
    assert_eq!(with_kernel.text(), truth.msgbuf.text);
}
