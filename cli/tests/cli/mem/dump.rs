//! Dumps of a machine that is in use by other processes or by another dump.

use std::fs::{self, File};
use std::io::Read;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;

use livecore_livedump::emulated::Parts;
use livecore_livedump::emulated::{Credentials, Emulated};
use livecore_livedump::image;
use livecore_livedump::mem4::{Access, DumpRequest, MemDevice};
use livecore_minidump::KernelElf;

use super::{Fixture, fixture, hex, tiny};
use crate::harness::{Run, livecore, names, run, run_json, tool};

/// The first process blocks in the middle of its dump, since its output is not read.
#[test]
fn second_dump_of_a_machine_is_refused() {
    let fixture = fixture();
    let (ram, kernel) = (fixture.path("m/ram"), fixture.path("m/kernel"));
    let take = ["take", "--image", &ram, "--kernel", &kernel, "--none", "-q"];
    let mut first = livecore()
        .args(take)
        .args(["-o", "-"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut out = first.stdout.take().unwrap();
    let mut dumped = vec![0; 100];
    out.read_exact(&mut dumped).unwrap();
    let to = fixture.path("out/");
    fs::create_dir(&to).unwrap();
    let second = run_json(take.iter().copied().chain(["-o", &to])).expect(1);
    second.error("another-dump-running");
    assert!(names(Path::new(&to)).is_empty());
    // Other operations on the machine work meanwhile.
    fixture.mem(&["read", "0", "16"]).expect(0);
    fixture.mem(&["ranges"]).expect(0);
    out.read_to_end(&mut dumped).unwrap();
    assert!(first.wait().unwrap().success());
    run(take.iter().copied().chain(["-o", &to])).expect(0);
    let again = fs::read(Path::new(&to).join("livecore.0")).unwrap();
    assert!(again.starts_with(&dumped));
}

/// A killed dump leaves no lock.
#[test]
fn killed_dump_releases_the_machine() {
    let fixture = fixture();
    let (ram, kernel) = (fixture.path("m/ram"), fixture.path("m/kernel"));
    let take = [
        "take", "--image", &ram, "--kernel", &kernel, "--none", "-q", "-o",
    ];
    let mut first = livecore()
        .args(take)
        .arg("-")
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut out = first.stdout.take().unwrap();
    out.read_exact(&mut [0; 100]).unwrap();
    first.kill().unwrap();
    first.wait().unwrap();
    let to = fixture.path("dump");
    run(take.iter().copied().chain([&*to])).expect(0);
}

/// The three files that the emulated ioctl writes.
fn live_files(fixture: &Fixture) -> [PathBuf; 3] {
    let elf = KernelElf::from_bytes(tiny().kernel().to_vec()).unwrap();
    let opened = image::layout::open(Path::new(&fixture.path("m")), false).unwrap();
    let parts = Parts::of_image(opened, Some(Arc::new(elf)), false);
    let device = Emulated::open(parts, Access::READ, Credentials::default()).unwrap();
    [0, 1, 2].map(|compression| {
        let path = fixture.dir.path().join(format!("live.{compression}"));
        let file = File::create(&path).unwrap();
        let request = DumpRequest {
            fd: file.as_raw_fd(),
            flags: 0,
            compression,
        };
        device.kernel_dump(&request).unwrap();
        path
    })
}

#[test]
fn raw_live_files_pass_verify_convert_and_the_codecs_tools() {
    let fixture = fixture();
    let files = live_files(&fixture);
    let plain = fs::read(&files[0]).unwrap();
    for (path, codec) in files.iter().zip(["none", "gzip", "zstd"]) {
        let name = path.to_str().unwrap();
        run(["verify", name]).expect(0);
        let bytes = fs::read(path).unwrap();
        let header = &bytes[bytes.len() - 512..];
        assert!(header.starts_with(b"FreeBSD Kernel Dump\0"));
        // `dumplength` and `dumpextent`: FreeBSD sys/sys/kerneldump.h.
        let number = |at: usize| u64::from_be_bytes(header[at..at + 8].try_into().unwrap());
        let stored = fixture.dir.path().join(format!("stored.{codec}"));
        fs::write(&stored, &bytes[..number(40) as usize]).unwrap();
        let payload = match codec {
            "none" => fs::read(&stored).unwrap(),
            "gzip" => {
                tool("gzip", &["-t", "-S", ".gzip"], &stored);
                tool("gzip", &["-dc", "-S", ".gzip"], &stored)
            }
            _ => {
                tool("zstd", &["-tq"], &stored);
                tool("zstd", &["-dcq"], &stored)
            }
        };
        assert_eq!(payload.len() as u64, number(496));
        assert!(payload == plain[..payload.len()], "{codec}");
        for container in ["sealed", "saved", "raw"] {
            let to = fixture.path(&format!("{codec}-{container}.zst"));
            run(["convert", "-q", "--container", container, name, &to]).expect(0);
            run(["verify", &to]).expect(0);
        }
        // `take` of the same machine writes the same bytes.
        let back = fixture.path(&format!("{codec}.back"));
        run([
            "convert",
            "-q",
            "--none",
            "--container",
            "saved",
            name,
            &back,
        ])
        .expect(0);
        assert!(fs::read(&back).unwrap() == payload);
    }
    let (ram, kernel) = (fixture.path("m/ram"), fixture.path("m/kernel"));
    let taken = fixture.path("taken");
    let take = ["take", "-q", "--image", &ram, "--kernel", &kernel, "--none"];
    run(take
        .iter()
        .copied()
        .chain(["--container", "raw", "-o", &taken]))
    .expect(0);
    assert!(
        fs::read(taken).unwrap() == plain,
        "raw files differ from the kernel's"
    );
}

/// A dump of memory that changes is inconsistent, but sound.
#[test]
fn dump_of_changing_memory_verifies() {
    let fixture = fixture();
    let (ram, kernel) = (fixture.path("m/ram"), fixture.path("m/kernel"));
    let free = tiny().truth().msgbuf.ring_va;
    let image = fixture.path("m");
    let mut noise = vec![0; 4096];
    let mut x = 1_u32;
    noise.iter_mut().for_each(|byte| {
        x = x.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        *byte = (x >> 24) as u8;
    });
    fs::write(fixture.path("noise"), &noise).unwrap();
    let stop = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                let at = hex(free.0);
                let noise = fixture.path("noise");
                run([
                    "mem", "write", "--kmem", &at, "--from", &noise, "--write", "-q",
                ]
                .into_iter()
                .chain(["--image", &image]))
                .expect(0);
            }
        });
        for name in ["a", "b.zst", "c.gz"] {
            let to = fixture.path(name);
            run([
                "take", "-q", "--image", &ram, "--kernel", &kernel, "-o", &to,
            ])
            .expect(0);
            let verified = run(["verify", &to]);
            assert!([0, 3].contains(&verified.code), "{}", verified.err);
        }
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
    });
}

/// Runs `mem kerneldump` in a shell, with `words` after the machine, and messages as JSON.
fn kerneldump(fixture: &Fixture, words: &str) -> Run {
    let line = format!("\"$0\" --messages json mem kerneldump --image m {words}");
    let mut command = Command::new("sh");
    command.args(["-c", &line, env!("CARGO_BIN_EXE_livecore")]);
    command.current_dir(fixture.dir.path()).stdin(Stdio::null());
    Run::of(command.output().unwrap())
}

/// mem(4), and kern_vnodedumper.c of 15.0 for FIFOs and devices.
#[test]
fn errors_of_the_request_are_reached_from_the_shell() {
    let fixture = fixture();
    fs::write(fixture.path("readable"), "").unwrap();
    let fifo = Command::new("mkfifo").arg(fixture.path("fifo")).status();
    assert!(fifo.unwrap().success());
    for (words, id) in [
        ("--unprivileged --flags 1 --fd 9", "permission-denied"),
        ("--flags 1 --fd 9", "bad-request"),
        ("--fd 9", "bad-descriptor"),
        ("--fd -1", "bad-descriptor"),
        ("--fd 3 3< readable", "bad-descriptor"),
        ("--compression 3 > dump", "bad-request"),
        ("--fd 3 3<> fifo", "not-a-file"),
        ("> /dev/null", "io"),
    ] {
        kerneldump(&fixture, words).expect(1).error(id);
    }
    assert_eq!(fs::read(fixture.path("dump")).unwrap().len(), 0);
    // The standard output of the test's child is a pipe.
    kerneldump(&fixture, "").expect(1).error("not-a-file");
}

#[test]
fn dump_of_the_request_is_that_of_the_kernel() {
    let fixture = fixture();
    let [plain, ..] = live_files(&fixture);
    kerneldump(&fixture, "> dump").expect(0);
    assert!(fs::read(fixture.path("dump")).unwrap() == fs::read(plain).unwrap());
    kerneldump(&fixture, "--compression zstd --fd 3 3> dump.zst").expect(0);
    run(["verify", &fixture.path("dump.zst")]).expect(0);
    // A descriptor that livecore opened itself is not one of the caller.
    for fd in 3..20 {
        kerneldump(&fixture, &format!("--fd {fd}"))
            .expect(1)
            .error("bad-descriptor");
    }
}

/// The lock of a dump, which the first process has while its memory is read.
#[test]
fn ebusy_for_two_requests_on_one_machine() {
    let fixture = fixture();
    let ram = File::open(fixture.path("m/ram")).unwrap();
    rustix::fs::flock(&ram, rustix::fs::FlockOperation::LockExclusive).unwrap();
    kerneldump(&fixture, "> dump")
        .expect(1)
        .error("another-dump-running");
    drop(ram);
    kerneldump(&fixture, "> dump").expect(0);
}
