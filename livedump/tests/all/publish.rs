//! Tests of publishing.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::num::NonZeroU32;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use livecore_compress::{Codec, Output};
use livecore_livedump::publish::{
    Destination, Notice, Options, PublishError, Published, watch_signals,
};

fn zstd() -> Options {
    Options::default().codec(Codec::Zstd)
}

fn info(number: u32) -> Vec<u8> {
    format!("  Bounds: {number}\n").into_bytes()
}

fn dump(to: &Path, options: &Options) -> Result<Published, PublishError> {
    let mut pending = Destination::parse(to).begin(options)?;
    pending.write_all(b"a dump").unwrap();
    pending.publish(&info)
}

/// The names in a directory, with contents or link targets.
fn listing(directory: &Path) -> Vec<String> {
    let mut all = fs::read_dir(directory)
        .unwrap()
        .map(|entry| {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            match fs::read_link(&path) {
                Ok(target) => format!("{name} -> {}", target.display()),
                Err(_) => format!("{name}: {}", fs::read_to_string(&path).unwrap().trim()),
            }
        })
        .collect::<Vec<_>>();
    all.sort();
    all
}

fn mode(path: PathBuf) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o7777
}

#[test]
fn directory_gets_dump_info_bounds_and_links() {
    let dir = tempfile::tempdir().unwrap();
    let first = dump(dir.path(), &zstd()).unwrap();
    assert_eq!(first.path, dir.path().join("livecore.0.zst"));
    assert_eq!((first.number, first.len), (Some(0), 6));
    assert!(first.notes.is_empty(), "{:?}", first.notes);
    let second = dump(dir.path(), &Options::default()).unwrap();
    assert_eq!(second.number, Some(1));
    assert_eq!(
        listing(dir.path()),
        [
            "bounds: 2",
            "info.0: Bounds: 0",
            "info.1: Bounds: 1",
            "info.last -> info.1",
            "livecore.0.zst: a dump",
            "livecore.1: a dump",
            "livecore.last -> livecore.1",
        ]
    );
    assert_eq!(mode(dir.path().join("livecore.0.zst")), 0o600);
    assert_eq!(mode(dir.path().join("info.1")), 0o600);
    assert_eq!(mode(dir.path().join("bounds")), 0o644);
}

#[test]
fn relative_directories_work() {
    let target = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let dir = tempfile::tempdir_in(target).unwrap();
    let here = std::env::current_dir().unwrap();
    let up = here.components().skip(1).map(|_| "..").collect::<PathBuf>();
    let relative = up.join(dir.path().strip_prefix("/").unwrap());
    assert!(relative.is_relative());
    let published = dump(&relative, &zstd()).unwrap();
    assert_eq!(published.path, relative.join("livecore.0.zst"));
    assert!(dir.path().join("livecore.last.zst").exists());
}

#[test]
fn numbers_and_links_of_savecore_are_kept() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    fs::write(at("vmcore.4"), "theirs").unwrap();
    fs::write(at("info.4"), "theirs").unwrap();
    fs::write(at("bounds"), "4\n").unwrap();
    symlink("vmcore.4", at("vmcore.last")).unwrap();
    symlink("info.4", at("info.last")).unwrap();
    symlink("livecore.9.gz", at("livecore.last.gz")).unwrap();
    let published = dump(dir.path(), &zstd()).unwrap();
    assert_eq!(
        published.notes,
        [
            Notice::NumberSkipped {
                number: 4,
                file: "vmcore.4".into(),
            },
            Notice::LinkKept {
                name: "info.last",
                target: "info.4".into(),
            },
        ]
    );
    assert_eq!(
        listing(dir.path()),
        [
            "bounds: 6",
            "info.4: theirs",
            "info.5: Bounds: 5",
            "info.last -> info.4",
            "livecore.5.zst: a dump",
            "livecore.last.zst -> livecore.5.zst",
            "vmcore.4: theirs",
            "vmcore.last -> vmcore.4",
        ]
    );
}

#[test]
fn info_last_of_a_livecore_dump_is_updated() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("livecore.7.gz"), "ours").unwrap();
    fs::write(dir.path().join("bounds"), "8\n").unwrap();
    symlink("info.7", dir.path().join("info.last")).unwrap();
    dump(dir.path(), &zstd()).unwrap();
    let target = fs::read_link(dir.path().join("info.last")).unwrap();
    assert_eq!(target, Path::new("info.8"));
}

#[test]
fn file_in_place_of_a_link_is_kept() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("livecore.last.zst"), "another file").unwrap();
    let published = dump(dir.path(), &zstd()).unwrap();
    assert_eq!(
        published.notes,
        [Notice::NotALink {
            name: "livecore.last.zst".into(),
        }]
    );
}

#[test]
fn max_rotates_and_replaces_all_files_of_the_old_dump() {
    let dir = tempfile::tempdir().unwrap();
    let options = |codec| Options::default().codec(codec).max(NonZeroU32::new(2));
    for (codec, number) in [
        (Codec::Gzip, 0),
        (Codec::Gzip, 1),
        (Codec::Zstd, 0),
        (Codec::Gzip, 1),
    ] {
        let published = dump(dir.path(), &options(codec)).unwrap();
        assert_eq!(published.number, Some(number));
    }
    assert_eq!(
        listing(dir.path()),
        [
            "bounds: 2",
            "info.0: Bounds: 0",
            "info.1: Bounds: 1",
            "info.last -> info.1",
            "livecore.0.zst: a dump",
            "livecore.1.gz: a dump",
            "livecore.last.gz -> livecore.1.gz",
        ]
    );
}

#[test]
fn concurrent_processes_get_different_numbers() {
    let dir = tempfile::tempdir().unwrap();
    let mut numbers = std::thread::scope(|scope| {
        let threads = (0..8)
            .map(|_| scope.spawn(|| dump(dir.path(), &zstd()).unwrap().number.unwrap()))
            .collect::<Vec<_>>();
        threads
            .into_iter()
            .map(|thread| thread.join().unwrap())
            .collect::<Vec<_>>()
    });
    numbers.sort_unstable();
    assert_eq!(numbers, (0..8).collect::<Vec<_>>());
    assert!(listing(dir.path()).contains(&"bounds: 8".into()));
}

#[test]
fn file_is_replaced_only_with_force() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("core");
    let published = dump(&path, &zstd()).unwrap();
    assert_eq!((published.path, published.number), (path.clone(), None));
    assert_eq!(mode(path.clone()), 0o600);
    let again = dump(&path, &zstd());
    assert!(
        matches!(again, Err(PublishError::Exists { .. })),
        "{again:?}"
    );
    let force = zstd().force(true);
    fs::write(&path, "old").unwrap();
    dump(&path, &force).unwrap();
    assert_eq!(listing(dir.path()), ["core: a dump"]);
}

#[test]
fn file_created_meanwhile_is_not_replaced() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("core");
    let pending = Destination::parse(&path).begin(&zstd()).unwrap();
    fs::write(&path, "theirs").unwrap();
    let error = pending.publish(&info).unwrap_err();
    assert!(matches!(error, PublishError::Exists { .. }), "{error}");
    assert_eq!(listing(dir.path()), ["core: theirs"]);
}

#[test]
fn drop_and_panic_leave_no_files() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().to_owned();
    drop(Destination::parse(&path).begin(&zstd()).unwrap());
    let panicked = std::thread::spawn(move || {
        let mut pending = Destination::parse(path).begin(&zstd()).unwrap();
        pending.write_all(b"x").unwrap();
        panic!("on purpose");
    });
    assert!(panicked.join().is_err());
    assert_eq!(listing(dir.path()), [""; 0]);
}

#[test]
fn missing_directory_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    let missing = dir.path().join("missing/");
    let error = Destination::parse(&missing).begin(&zstd()).unwrap_err();
    assert!(matches!(error, PublishError::Directory { .. }), "{error}");
}

#[test]
fn sparse_dumps_keep_their_length() {
    let dir = tempfile::tempdir().unwrap();
    let options = Options::default().sparse(true);
    let mut pending = Destination::parse(dir.path()).begin(&options).unwrap();
    pending.write_all(&[1; 4096]).unwrap();
    pending.write_all(&vec![0; 1 << 20]).unwrap();
    let published = pending.publish(&info).unwrap();
    assert_eq!(published.len, 4096 + (1 << 20));
    let file = File::open(published.path).unwrap();
    assert_eq!(file.metadata().unwrap().len(), published.len);
    let blocks = std::os::unix::fs::MetadataExt::blocks(&file.metadata().unwrap());
    assert!(blocks * 512 < 1 << 19, "{blocks} blocks");
}

#[test]
fn workers_write_at_offsets_after_what_is_written() {
    let dir = tempfile::tempdir().unwrap();
    for sparse in [false, true] {
        let options = Options::default().sparse(sparse);
        let mut pending = Destination::parse(dir.path()).begin(&options).unwrap();
        pending.write_all(b"head").unwrap();
        let at = pending.at().unwrap();
        std::thread::scope(|scope| {
            for number in (0..16_u8).rev() {
                let piece = vec![number; 10_000];
                scope.spawn(move || at.write_at(&piece, u64::from(number) * 10_000).unwrap());
            }
        });
        pending.skip(160_000);
        pending.write_all(b"tail").unwrap();
        let published = pending.publish(&info).unwrap();
        let mut expected = b"head".to_vec();
        for number in 0..16 {
            expected.extend([number; 10_000]);
        }
        expected.extend(b"tail");
        assert_eq!(published.len, expected.len() as u64);
        assert!(fs::read(published.path).unwrap() == expected);
    }
    // The bytes that another writer has stored are only skipped.
    let mut pending = Destination::parse(dir.path()).begin(&zstd()).unwrap();
    pending.keep(6);
    assert!(pending.at().is_none());
    // A device takes bytes in order only.
    let pending = Destination::parse("/dev/null").begin(&zstd()).unwrap();
    assert!(pending.at().is_none());
}

#[test]
fn full_device_and_closed_pipe_have_their_own_errors() {
    let mut pending = Destination::parse("/dev/full").begin(&zstd()).unwrap();
    let error = pending.write_all(b"x").unwrap_err();
    let error = PublishError::from_io("write", pending.path(), error);
    let PublishError::NoSpace { path, source } = &error else {
        panic!("{error}");
    };
    assert_eq!(path, Path::new("/dev/full"));
    assert_eq!(source.kind(), io::ErrorKind::StorageFull);

    let dir = tempfile::tempdir().unwrap();
    let fifo = dir.path().join("fifo");
    assert!(
        Command::new("mkfifo")
            .arg(&fifo)
            .status()
            .unwrap()
            .success()
    );
    let reader = std::thread::spawn({
        let fifo = fifo.clone();
        move || drop(File::open(fifo).unwrap())
    });
    let mut pending = Destination::parse(&fifo).begin(&zstd()).unwrap();
    reader.join().unwrap();
    // A process that another test starts has the reader's descriptor until it executes its program.
    let error = (0..2000).find_map(|_| {
        let error = pending.write_all(b"x").err();
        error.or_else(|| {
            std::thread::sleep(Duration::from_millis(5));
            None
        })
    });
    let error = error.unwrap();
    assert!(PublishError::from_io("write", fifo, error).is_reader_gone());
}

/// Starts this test program as another process that does `what` in `dir`, with ignored signals
/// reset, as in a shell's foreground.
fn child(what: &str, dir: &Path) -> Child {
    Command::new("env")
        .arg("--default-signal")
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", "publish::the_other_process", "--nocapture"])
        .env("PUBLISH_DO", what)
        .env("PUBLISH_IN", dir)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap()
}

/// Not a test: the body of [`child`].
#[test]
fn the_other_process() {
    let (Ok(what), Some(dir)) = (std::env::var("PUBLISH_DO"), std::env::var_os("PUBLISH_IN"))
    else {
        return;
    };
    watch_signals().unwrap();
    if what == "limit" {
        let limit = rustix::process::Rlimit {
            current: Some(1 << 20),
            maximum: Some(1 << 20),
        };
        rustix::process::setrlimit(rustix::process::Resource::Fsize, limit).unwrap();
    }
    let options = zstd().named(what == "wait with a name");
    let mut pending = Destination::parse(dir).begin(&options).unwrap();
    match what.as_str() {
        "wait" | "wait with a name" => {
            pending.write_all(b"half a dump").unwrap();
            std::io::stdout().write_all(b"READY\n").unwrap();
            std::thread::sleep(std::time::Duration::from_secs(60));
        }
        "limit" => {
            let error = pending.write_all(&vec![1; 2 << 20]).unwrap_err();
            let error = PublishError::from_io("write", pending.path(), error);
            assert!(matches!(error, PublishError::NoSpace { .. }), "{error}");
        }
        other => panic!("{other}"),
    }
}

fn wait_until_ready(child: &mut Child) {
    let mut printed = Vec::new();
    let out = child.stdout.as_mut().unwrap();
    while !printed.ends_with(b"READY\n") {
        let mut byte = [0];
        assert_eq!(out.read(&mut byte).unwrap(), 1, "the other process exited");
        printed.push(byte[0]);
    }
}

fn kill(child: &Child, signal: rustix::process::Signal) {
    let pid = rustix::process::Pid::from_child(child);
    rustix::process::kill_process(pid, signal).unwrap();
}

#[test]
fn signals_remove_the_temporary_file_and_exit_with_their_code() {
    use rustix::process::Signal;
    for (signal, code) in [
        (Signal::INT, 130),
        (Signal::TERM, 143),
        (Signal::HUP, 129),
        (Signal::USR2, 128 + libc::SIGUSR2),
        (Signal::ALARM, 128 + libc::SIGALRM),
        (Signal::VTALARM, 128 + libc::SIGVTALRM),
        (Signal::XCPU, 128 + libc::SIGXCPU),
        (Signal::ABORT, 128 + libc::SIGABRT),
    ] {
        let dir = tempfile::tempdir().unwrap();
        dump(dir.path(), &zstd()).unwrap();
        let before = listing(dir.path());
        let mut child = child("wait with a name", dir.path());
        wait_until_ready(&mut child);
        assert_ne!(listing(dir.path()), before);
        kill(&child, signal);
        assert_eq!(child.wait().unwrap().code(), Some(code));
        assert_eq!(listing(dir.path()), before);
    }
}

#[test]
fn killed_process_leaves_only_its_temporary_file() {
    let dir = tempfile::tempdir().unwrap();
    dump(dir.path(), &zstd()).unwrap();
    let before = listing(dir.path());
    let mut child = child("wait with a name", dir.path());
    wait_until_ready(&mut child);
    child.kill().unwrap();
    assert_eq!(child.wait().unwrap().signal(), Some(9));
    let mut after = listing(dir.path());
    after.retain(|name| !name.starts_with("livecore.tmp."));
    assert_eq!(after, before);
    // The next run removes it with a note.
    let next = dump(dir.path(), &zstd()).unwrap();
    assert_eq!(next.number, Some(1));
    let [Notice::LeftoverRemoved { name }] = &next.notes[..] else {
        panic!("{:?}", next.notes);
    };
    assert!(name.starts_with("livecore.tmp."), "{name}");
    let names = listing(dir.path());
    assert!(
        !names.iter().any(|name| name.starts_with("livecore.tmp.")),
        "{names:?}"
    );
}

/// Linux has files without a name; so have its usual file systems.
#[test]
fn a_killed_process_leaves_nothing_where_files_can_be_without_a_name() {
    let dir = tempfile::tempdir().unwrap();
    let directory = File::open(dir.path()).unwrap().into();
    if livecore_livedump::sys::unnamed::create(&directory).is_none() {
        let why = "skipped: no files without a name here\n";
        let _ = std::io::stderr().write_all(why.as_bytes());
        return;
    }
    dump(dir.path(), &zstd()).unwrap();
    let before = listing(dir.path());
    let mut child = child("wait", dir.path());
    wait_until_ready(&mut child);
    assert_eq!(listing(dir.path()), before);
    child.kill().unwrap();
    assert_eq!(child.wait().unwrap().signal(), Some(9));
    assert_eq!(listing(dir.path()), before);
}

/// Both ways to a name, with and without an old file.
#[test]
fn a_file_gets_its_name_whether_or_not_it_had_a_temporary_one() {
    for named in [false, true] {
        for force in [false, true] {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("vmcore.zst");
            let options = zstd().named(named).force(force);
            for content in ["first", "second"] {
                let begun = Destination::parse(&path).begin(&options);
                if content == "second" && !force {
                    assert!(matches!(begun, Err(PublishError::Exists { .. })));
                    continue;
                }
                let mut pending = begun.unwrap();
                pending.write_all(content.as_bytes()).unwrap();
                pending.publish(&info).unwrap();
                assert_eq!(listing(dir.path()), [format!("vmcore.zst: {content}")]);
            }
        }
    }
}

#[test]
fn a_name_that_appears_meanwhile_is_not_taken() {
    for named in [false, true] {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("vmcore.zst");
        let options = zstd().named(named);
        let mut pending = Destination::parse(&path).begin(&options).unwrap();
        pending.write_all(b"a dump").unwrap();
        std::fs::write(&path, "precious").unwrap();
        let error = pending.publish(&info).unwrap_err();
        assert!(matches!(error, PublishError::Exists { .. }), "{error}");
        assert_eq!(listing(dir.path()), ["vmcore.zst: precious"]);
    }
}

#[test]
fn temporary_file_in_use_is_kept() {
    let dir = tempfile::tempdir().unwrap();
    let options = zstd().named(true);
    let mut first = Destination::parse(dir.path()).begin(&options).unwrap();
    first.write_all(b"a dump").unwrap();
    let second = dump(dir.path(), &zstd()).unwrap();
    assert!(second.notes.is_empty(), "{:?}", second.notes);
    assert_eq!(first.publish(&info).unwrap().number, Some(1));
}

#[test]
fn file_size_limit_is_an_error_without_leftover_files() {
    let dir = tempfile::tempdir().unwrap();
    let mut child = child("limit", dir.path());
    assert!(child.wait().unwrap().success());
    assert_eq!(listing(dir.path()), [""; 0]);
}

/// A file system of `size` at `dir`, unmounted on drop. `None` if the caller may not mount.
struct Small<'a>(&'a Path);

impl<'a> Small<'a> {
    fn mount(dir: &'a Path, size: &str) -> Option<Self> {
        Command::new("mount")
            .args(["-t", "tmpfs", "-o", size, "livecore-test"])
            .arg(dir)
            .stderr(Stdio::null())
            .status()
            .is_ok_and(|status| status.success())
            .then_some(Self(dir))
    }
}

impl Drop for Small<'_> {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(self.0).status();
    }
}

/// Waits until the space of a removed file is freed, since a process that another test starts may
/// have it open.
fn wait_for_space(dir: &Path) {
    let start = std::time::Instant::now();
    while rustix::fs::statvfs(dir).unwrap().f_bavail < 64 {
        assert!(
            start.elapsed() < Duration::from_secs(30),
            "the space was not freed"
        );
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn full_disk_is_an_error_and_keeps_the_old_dump_and_bounds() {
    let dir = tempfile::tempdir().unwrap();
    // Needs root; otherwise the file size limit and /dev/full cover this.
    let Some(_small) = Small::mount(dir.path(), "size=1m") else {
        return;
    };
    dump(dir.path(), &zstd()).unwrap();
    let before = listing(dir.path());
    // Full in the middle of the dump.
    let mut pending = Destination::parse(dir.path()).begin(&zstd()).unwrap();
    let error = pending.write_all(&vec![1; 2 << 20]).unwrap_err();
    let error = PublishError::from_io("write", pending.path(), error);
    assert!(matches!(error, PublishError::NoSpace { .. }), "{error}");
    drop(pending);
    assert_eq!(listing(dir.path()), before);
    wait_for_space(dir.path());
    // The same for a worker.
    let pending = Destination::parse(dir.path()).begin(&zstd()).unwrap();
    let error = pending.at().unwrap().write_at(&vec![1; 2 << 20], 1 << 20);
    let error = PublishError::from_io("write", pending.path(), error.unwrap_err());
    assert!(matches!(error, PublishError::NoSpace { .. }), "{error}");
    drop(pending);
    assert_eq!(listing(dir.path()), before);
    wait_for_space(dir.path());
    // Full when only info.N is missing: the dump takes the last page.
    let mut pending = Destination::parse(dir.path()).begin(&zstd()).unwrap();
    while pending.write_all(&[1; 4096]).is_ok() {}
    let error = pending.publish(&info).unwrap_err();
    assert!(matches!(error, PublishError::NoSpace { .. }), "{error}");
    assert_eq!(listing(dir.path()), before);
    // Too small from the start, with a known size.
    let needed = Options::default().needed(2 << 20);
    let error = Destination::parse(dir.path()).begin(&needed).unwrap_err();
    assert!(
        matches!(error, PublishError::NotEnoughSpace { .. }),
        "{error}"
    );
    assert_eq!(listing(dir.path()), before);
}
