//! `livecore mount`: the files, damage, signals, and what remains after the process is killed.
//!
//! `cargo test -p livecore --features mount --test mount`

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

/// The most time that a step may take.
const LIMIT: Duration = Duration::from_secs(60);

fn livecore<S: AsRef<std::ffi::OsStr>>(args: &[S]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_livecore"));
    command.args(args).stdin(Stdio::null());
    command
}

fn done(command: &mut Command) -> Output {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {output:?}");
    output
}

/// A machine, its dump, and the files that other verbs write of the dump.
struct Made {
    _dir: tempfile::TempDir,
    dump: PathBuf,
    kernel: PathBuf,
    vmcore: Vec<u8>,
    core: Vec<u8>,
}

fn made() -> &'static Made {
    static MADE: OnceLock<Made> = OnceLock::new();
    MADE.get_or_init(|| {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        let text = Path::new(env!("CARGO_MANIFEST_DIR")).join("../testdata/machines/tiny.toml");
        let (machine, dump) = (path("machine"), path("vmcore.0.zst"));
        let kernel = machine.join("kernel");
        let (to, core) = (path("vmcore"), path("core"));
        done(livecore(&["synth"]).arg(text).arg("--out").arg(&machine));
        done(
            livecore(&["take", "--image"])
                .arg(&machine)
                .arg("-o")
                .arg(&dump),
        );
        done(livecore(&["export"]).arg(&dump).arg(&to));
        let convert = ["convert", "--to", "elf", "--none", "--kernel"];
        done(livecore(&convert).arg(&kernel).arg(&dump).arg(&core));
        Made {
            vmcore: fs::read(to).unwrap(),
            core: fs::read(core).unwrap(),
            dump,
            kernel,
            _dir: dir,
        }
    })
}

/// Whether this system can mount; says what it lacks.
fn can_mount() -> bool {
    let why = match File::options().read(true).write(true).open("/dev/fuse") {
        Err(error) => format!("/dev/fuse: {error}"),
        Ok(_) if rustix::process::geteuid().is_root() => return true,
        Ok(_) => match Command::new("fusermount3").arg("-V").output() {
            Ok(_) => return true,
            Err(error) => format!("fusermount3: {error}"),
        },
    };
    let _ = writeln!(std::io::stderr(), "skipped: {why}");
    false
}

/// A mounted dump.
struct Mount {
    dir: tempfile::TempDir,
    child: Child,
}

impl Mount {
    fn new(dump: &Path, kernel: Option<&Path>) -> Self {
        Self::attempt(dump, kernel).unwrap_or_else(|mount| panic!("{:?}", mount.end()))
    }

    /// Mounts the dump. Returns an error if the program ends before it is mounted.
    fn attempt(dump: &Path, kernel: Option<&Path>) -> Result<Self, Self> {
        let dir = tempfile::tempdir().unwrap();
        let mut command = livecore(&["mount"]);
        command.arg(dump).arg(dir.path());
        if let Some(kernel) = kernel {
            command.arg("--kernel").arg(kernel);
        }
        command.env("LIVECORE_SANDBOX", "try");
        let mut child = command
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.as_mut().unwrap())
            .read_line(&mut line)
            .unwrap();
        let expected = format!("mounted {}\n", dir.path().display());
        let mount = Self { dir, child };
        match line.as_str() {
            "" => Err(mount),
            line => {
                assert_eq!(line, expected);
                Ok(mount)
            }
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn read(&self, name: &str) -> Vec<u8> {
        fs::read(self.path(name)).unwrap()
    }

    fn kill(&self, signal: rustix::process::Signal) {
        let pid = i32::try_from(self.child.id()).unwrap();
        let pid = rustix::process::Pid::from_raw(pid).unwrap();
        rustix::process::kill_process(pid, signal).unwrap();
    }

    fn is_mounted(&self) -> bool {
        let path = self.dir.path().to_str().unwrap();
        fs::read_to_string("/proc/self/mounts")
            .unwrap()
            .contains(path)
    }

    /// Waits until the directory is not mounted; returns the exit code and standard error.
    fn end(mut self) -> (Option<i32>, String) {
        let status = self.child.wait().unwrap();
        let begun = Instant::now();
        while self.is_mounted() {
            assert!(begun.elapsed() < LIMIT, "still mounted");
            std::thread::sleep(Duration::from_millis(10));
        }
        let mut text = String::new();
        self.child
            .stderr
            .take()
            .unwrap()
            .read_to_string(&mut text)
            .unwrap();
        (status.code(), text)
    }

    fn stop(self) -> String {
        self.kill(rustix::process::Signal::TERM);
        let (code, text) = self.end();
        assert_eq!(code, Some(128 + 15), "{text}");
        text
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        // After a failure.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn files_equal_what_other_verbs_print_and_write() {
    if !can_mount() {
        return;
    }
    let made = made();
    let mount = Mount::new(&made.dump, Some(&made.kernel));
    assert!(mount.read("vmcore") == made.vmcore);
    assert!(mount.read("elf") == made.core);
    let verb = |verb: &str, more: &[&str]| {
        let kernel = made.kernel.to_str().unwrap();
        let output = done(
            livecore(&[verb, "--kernel", kernel])
                .args(more)
                .arg(&made.dump),
        );
        String::from_utf8(output.stdout).unwrap()
    };
    assert_eq!(mount.read("dmesg"), verb("dmesg", &[]).as_bytes());
    let info = done(livecore(&["info", "--json"]).arg(&made.dump)).stdout;
    let json = |bytes: &[u8]| serde_json::from_slice::<serde_json::Value>(bytes).unwrap();
    assert_eq!(json(&mount.read("info.json")), json(&info));

    let threads = json(verb("threads", &["--json"]).as_bytes());
    let threads = threads["threads"].as_array().unwrap();
    let listed = fs::read_dir(mount.path("threads")).unwrap().count();
    assert!(listed == threads.len() && listed > 10, "{listed}");
    for thread in threads {
        let tid = thread["tid"].to_string();
        let text = String::from_utf8(mount.read(&format!("threads/{tid}/registers"))).unwrap();
        for line in text.lines() {
            let (name, value) = line.split_once(' ').unwrap();
            let number = |text: &str| u64::from_str_radix(text.trim_start_matches("0x"), 16);
            let expected = thread["registers"][name].as_str().unwrap();
            assert_eq!(number(value), number(expected), "{tid} {name}");
        }
        let stack = String::from_utf8(mount.read(&format!("threads/{tid}/stack"))).unwrap();
        let all = verb("threads", &["--tid", &tid]);
        assert!(all.ends_with(&stack), "{tid}");
        assert_eq!(
            stack.is_empty(),
            thread["frames"].as_array().unwrap().is_empty()
        );
    }
    let processes = json(verb("ps", &["--json"]).as_bytes());
    for process in processes["processes"].as_array().unwrap() {
        let status = mount.read(&format!("proc/{}/status", process["pid"]));
        let command = process["command"].as_str().unwrap();
        assert!(
            String::from_utf8(status)
                .unwrap()
                .contains(&format!("command {command}\n"))
        );
        let tids =
            String::from_utf8(mount.read(&format!("proc/{}/threads", process["pid"]))).unwrap();
        let of = process["threads"].as_array().unwrap();
        let expected: String = of
            .iter()
            .map(|thread| format!("{}\n", thread["tid"]))
            .collect();
        assert_eq!(tids, expected);
    }
    mount.stop();
}

#[test]
fn physical_memory_has_the_pages_of_the_dump_and_holes() {
    use rustix::fs::{SeekFrom, seek};
    if !can_mount() {
        return;
    }
    let made = made();
    let mount = Mount::new(&made.dump, Some(&made.kernel));
    let file = File::open(mount.path("physmem")).unwrap();
    let end = file.metadata().unwrap().len();
    let (mut at, mut pages, mut holes) = (0, 0, 0);
    while let Ok(start) = seek(&file, SeekFrom::Data(at)) {
        holes += u64::from(start > at);
        at = seek(&file, SeekFrom::Hole(start)).unwrap();
        pages += (at - start) / 4096;
        let mut page = [0; 4096];
        file.read_exact_at(&mut page, start).unwrap();
        let address = format!("{start:#x}");
        let args = [
            "read",
            "--phys",
            "--raw",
            "--kernel",
            made.kernel.to_str().unwrap(),
        ];
        if pages < 100 {
            let found = done(livecore(&args).arg(&made.dump).args([&address, "4096"])).stdout;
            assert!(found == page, "{address}");
        }
        if at < end {
            file.read_exact_at(&mut page, at).unwrap();
            assert!(page == [0; 4096], "hole at {at:#x}");
        }
    }
    let info: serde_json::Value = serde_json::from_slice(&mount.read("info.json")).unwrap();
    let saved = info["dump_avail"].as_array().unwrap().iter();
    let saved: u64 = saved.map(|range| range["saved"].as_u64().unwrap()).sum();
    assert!(pages == saved && pages > 1000, "{pages} {saved}");
    assert!(holes > 0);
    mount.stop();
}

#[test]
fn file_system_is_read_only_and_of_one_user() {
    if !can_mount() {
        return;
    }
    let made = made();
    let mount = Mount::new(&made.dump, None);
    for (name, mode) in [("", 0o500), ("vmcore", 0o400), ("info.json", 0o400)] {
        let found = fs::metadata(mount.path(name)).unwrap();
        assert_eq!(found.permissions().mode() & 0o777, mode, "{name}");
        assert_eq!(found.uid(), rustix::process::geteuid().as_raw());
    }
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap();
    let path = mount.dir.path().to_str().unwrap();
    let line = mounts.lines().find(|line| line.contains(path)).unwrap();
    assert!(
        line.contains(" ro,") && !line.contains("allow_other"),
        "{line}"
    );
    assert!(
        File::options()
            .write(true)
            .open(mount.path("vmcore"))
            .is_err()
    );
    assert!(fs::write(mount.path("new"), "x").is_err());
    assert!(fs::metadata(mount.path("threads/0100000")).is_err());
    mount.stop();
}

/// The kernel is searched for in the directory of the dump, which has the mounted directory.
#[test]
fn directory_can_be_next_to_the_dump() {
    if !can_mount() {
        return;
    }
    let made = made();
    let dir = tempfile::tempdir().unwrap();
    let (dump, on) = (dir.path().join("vmcore.0.zst"), dir.path().join("m"));
    fs::copy(&made.dump, &dump).unwrap();
    fs::create_dir(&on).unwrap();
    fs::create_dir(dir.path().join("k")).unwrap();
    fs::copy(&made.kernel, dir.path().join("k/kernel")).unwrap();
    let mut child = livecore(&["mount"])
        .arg(&dump)
        .arg(&on)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.as_mut().unwrap())
        .read_line(&mut line)
        .unwrap();
    assert!(line.starts_with("mounted "), "{line}");
    assert!(fs::read(on.join("vmcore")).unwrap() == made.vmcore);
    // Unmounting ends it.
    done(Command::new("umount").arg(&on));
    assert!(child.wait().unwrap().success());
}

#[test]
fn killed_process_leaves_nothing_mounted() {
    if !can_mount() {
        return;
    }
    let mount = Mount::new(&made().dump, None);
    let open = File::open(mount.path("vmcore")).unwrap();
    assert!(mount.is_mounted());
    mount.kill(rustix::process::Signal::KILL);
    assert_eq!(mount.end().0, None);
    assert!(open.read_at(&mut [0; 8], 1 << 20).is_err());
}

#[test]
fn damaged_parts_are_input_output_errors_and_the_rest_is_readable() {
    if !can_mount() {
        return;
    }
    let made = made();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("damaged.zst");
    let mut bytes = fs::read(&made.dump).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle..middle + 64]
        .iter_mut()
        .for_each(|byte| *byte ^= 0x55);
    fs::write(&path, bytes).unwrap();
    let mount = Mount::new(&path, Some(&made.kernel));
    let file = File::open(mount.path("vmcore")).unwrap();
    let (mut good, mut bad) = (0, 0);
    for at in (0..made.vmcore.len()).step_by(4096) {
        let mut page = [0; 4096];
        let end = made.vmcore.len().min(at + 4096) - at;
        match file.read_exact_at(&mut page[..end], at as u64) {
            Ok(()) => {
                assert!(page[..end] == made.vmcore[at..at + end], "{at:#x}");
                good += 1;
            }
            Err(error) => {
                assert_eq!(error.raw_os_error(), Some(5), "EIO");
                bad += 1;
            }
        }
    }
    assert!(good > 1000 && (1..=512).contains(&bad), "{good} {bad}");
    drop(file);
    let text = mount.stop();
    let lines: Vec<_> = text
        .lines()
        .filter(|line| line.contains("vmcore: "))
        .collect();
    assert!(lines.len() == 1 && lines[0].contains("frame"), "{text}");
}

#[test]
fn refused_directories_and_dumps_leave_nothing_mounted() {
    if !can_mount() {
        return;
    }
    let made = made();
    let dir = tempfile::tempdir().unwrap();
    let empty = dir.path().join("empty");
    fs::create_dir(&empty).unwrap();
    let inside = empty.join("kernel");
    let cases: [(&Path, &Path, Option<&Path>, i32, &str); 5] = [
        (&made.dump, dir.path(), None, 1, "not empty"),
        (
            &made.dump,
            &dir.path().join("absent"),
            None,
            1,
            "No such file",
        ),
        (&inside, &empty, None, 64, "in the directory to mount on"),
        (
            &made.dump,
            &empty,
            Some(&inside),
            64,
            "in the directory to mount on",
        ),
        (&made.kernel, &empty, None, 63, "not a kernel dump"),
    ];
    for (dump, on, kernel, code, text) in cases {
        let mut command = livecore(&["mount"]);
        command.arg(dump).arg(on);
        command.args(kernel.map(|kernel| format!("--kernel={}", kernel.display())));
        let output = command.output().unwrap();
        let err = String::from_utf8(output.stderr).unwrap();
        assert!(
            output.status.code() == Some(code) && err.contains(text),
            "{text}: {err}"
        );
    }
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap();
    assert!(!mounts.contains(dir.path().to_str().unwrap()));
}

/// The output of a program, or `None` with a reason if it is not installed.
fn output_of(program: &str, args: &[&std::ffi::OsStr]) -> Option<String> {
    match Command::new(program)
        .args(args)
        .stdin(Stdio::null())
        .output()
    {
        Ok(output) => Some(String::from_utf8_lossy(&output.stdout).into_owned()),
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "skipped: {program}: {error}");
            None
        }
    }
}

#[test]
fn readelf_and_gdb_open_the_mounted_core() {
    if !can_mount() {
        return;
    }
    let made = made();
    let mount = Mount::new(&made.dump, Some(&made.kernel));
    let dir = tempfile::tempdir().unwrap();
    let written = dir.path().join("elf");
    fs::write(&written, &made.core).unwrap();
    let mounted = mount.path("elf");
    let both = |program: &str, args: &[&str]| {
        let run = |core: &Path| {
            let args = args.iter().map(|arg| match *arg {
                "CORE" => core.as_os_str(),
                "KERNEL" => made.kernel.as_os_str(),
                arg => std::ffi::OsStr::new(arg),
            });
            output_of(program, &args.collect::<Vec<_>>())
        };
        Some((run(&mounted)?, run(&written)?))
    };
    if let Some((a, b)) = both("readelf", &["-hlnW", "CORE"]) {
        assert!(a.contains("CORE (Core file)") && a.contains("LOAD"), "{a}");
        assert_eq!(a, b);
    }
    // A gdb for Linux does not know FreeBSD's ABI.
    let linux = ["-nx", "-batch", "-iex", "set osabi GNU/Linux"];
    let commands = [&linux[..], &["KERNEL", "-c", "CORE"]].concat();
    let commands = [&commands[..], &["-ex", "x/s &version", "-ex", "x/4xw &hz"]].concat();
    if let Some((a, b)) = both("gdb", &commands) {
        assert!(a.contains("FreeBSD 14.0-RELEASE"), "{a}");
        assert_eq!(
            a,
            b.replace(written.to_str().unwrap(), mounted.to_str().unwrap())
        );
    }
    mount.stop();
}

/// Reads every file of a directory. Returns the number of files that were read and of those with errors.
fn read_all(dir: &Path) -> (usize, usize) {
    let (mut good, mut bad) = (0, 0);
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        let path = entry.path();
        match path.is_dir() {
            true => {
                let (more, worse) = read_all(&path);
                (good, bad) = (good + more, bad + worse);
            }
            false => match fs::read(&path) {
                Ok(_) => good += 1,
                Err(_) => bad += 1,
            },
        }
    }
    (good, bad)
}

#[test]
fn hostile_dumps_are_refused_or_served() {
    if !can_mount() {
        return;
    }
    let made = made();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("vmcore.0");
    let mut seed = 0x6c69_7665_636f_7265_u64;
    let mut random = |below: usize| {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        seed as usize % below
    };
    let (mut refused, mut served) = (0, 0);
    for round in 0..24 {
        let mut bytes = made.vmcore.clone();
        for _ in 0..=random(8) {
            // The header and the tables at the start, or anywhere.
            let range = [4096, 1 << 17, bytes.len()][random(3)];
            let at = random(range.min(bytes.len() - 8));
            let value = [0, 0xff, 0x80, random(256) as u8][random(4)];
            bytes[at..at + 1 + random(8)].fill(value);
        }
        if round % 6 == 5 {
            bytes.truncate(random(bytes.len()));
        }
        fs::write(&path, bytes).unwrap();
        match Mount::attempt(&path, Some(&made.kernel)) {
            Ok(mount) => {
                let (good, bad) = read_all(mount.dir.path());
                assert!(good + bad > 0, "round {round}");
                let text = mount.stop();
                assert!(!text.contains("panicked"), "round {round}: {text}");
                served += 1;
            }
            Err(mount) => {
                let (code, text) = mount.end();
                let code = code.unwrap_or(-1);
                assert!([1, 2, 63].contains(&code), "round {round}: {code} {text}");
                assert!(!text.contains("panicked"), "round {round}: {text}");
                refused += 1;
            }
        }
    }
    assert!(
        refused > 0 && served > 0,
        "{refused} refused, {served} served"
    );
}
