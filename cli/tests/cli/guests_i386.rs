//! A real i386 QEMU guest with the address space of FreeBSD 12.1, paging on and registers set
//! through QEMU's gdb stub. Its dump over QMP equals the dump of the file that QEMU writes.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::harness::{machine, run};
use crate::qemu::is_installed;
use crate::stub::{CR0, CR3, CR4, EIP, ESP, Stub};

const QEMU: &str = "qemu-system-x86_64";
/// Time limit, longer than any step takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(120);

/// Registers: the number in QEMU's `i386-64bit.xml`, which it uses for all guests, the name in a
/// dump, the value.
const SAVED: [(u32, &str, u64); 6] = [
    (5, "edi", 0xd1d1_0001),
    (4, "esi", 0x5151_0002),
    (6, "ebp", 0xc0de_0ff8),
    (7, "esp", 0xc0de_0fd0),
    (1, "ebx", 0xb0b0_0003),
    (16, "eip", 0x00c0_ffee),
];

struct Qemu {
    dir: tempfile::TempDir,
    child: Child,
    monitor: BufReader<UnixStream>,
}

impl Drop for Qemu {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn connect(path: &Path) -> UnixStream {
    let begun = Instant::now();
    loop {
        match UnixStream::connect(path) {
            Ok(socket) => {
                socket.set_read_timeout(Some(PATIENCE)).unwrap();
                return socket;
            }
            Err(e) => assert!(begun.elapsed() < PATIENCE, "{}: {e}", path.display()),
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

impl Qemu {
    /// Starts a guest with this machine's memory. Its CPUs do not run.
    fn start(name: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        run([
            "synth".as_ref(),
            "-q".as_ref(),
            machine(name).as_os_str(),
            "--out".as_ref(),
            path("machine").as_os_str(),
        ])
        .expect(0);
        let ram = path("machine/ram");
        let size = fs::metadata(&ram).unwrap().len();
        let mut command = Command::new(QEMU);
        command
            .args(["-M", "pc,memory-backend=ram0", "-object"])
            .arg(format!(
                "memory-backend-file,id=ram0,size={size},share=on,mem-path={}",
                ram.display()
            ))
            .args(["-m", &format!("{}M", size >> 20)])
            .args(["-smp", "2", "-accel", "tcg", "-S", "-nodefaults"])
            .args(["-display", "none"]);
        for (option, name) in [("-qmp", "qmp"), ("-qmp", "watch"), ("-gdb", "gdb")] {
            let socket = format!("unix:{},server=on,wait=off", path(name).display());
            command.args([option, &socket]);
        }
        let child = command.stdin(Stdio::null()).spawn().unwrap();
        let monitor = BufReader::new(connect(&path("watch")));
        let mut qemu = Self {
            dir,
            child,
            monitor,
        };
        assert!(qemu.message().get("QMP").is_some());
        qemu.ask("qmp_capabilities", &json!({}));
        qemu
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn message(&mut self) -> Value {
        let mut line = String::new();
        self.monitor.read_line(&mut line).unwrap();
        serde_json::from_str(&line).unwrap_or_else(|e| panic!("{e}: {line:?}"))
    }

    fn ask(&mut self, command: &str, arguments: &Value) -> Value {
        let request = json!({"execute": command, "arguments": arguments});
        writeln!(self.monitor.get_mut(), "{request}").unwrap();
        loop {
            let mut answer = self.message();
            if answer.get("event").is_none() {
                assert!(answer.get("error").is_none(), "{command}: {answer}");
                return answer["return"].take();
            }
        }
    }

    /// Runs `take` and returns the uncompressed dump `name`.
    fn take(&self, name: &str, source: [&str; 2], more: &[&str]) -> Vec<u8> {
        let source = [source[0].into(), self.path(source[1])];
        let mut args: Vec<PathBuf> = vec!["take".into()];
        args.extend(source);
        args.extend(["--kernel".into(), self.path("machine/kernel")]);
        args.extend(["--none", "--container", "saved", "-o"].map(PathBuf::from));
        args.push(self.path(name));
        args.extend(more.iter().map(PathBuf::from));
        run(args).expect(0);
        fs::read(self.path(name)).unwrap()
    }
}

#[test]
fn i386_dump_over_qmp_equals_the_dump_of_qemus_file() {
    if !is_installed() {
        return;
    }
    for name in ["i386-12.1", "i386-10.4"] {
        let mut qemu = Qemu::start(name);
        let mut registers = SAVED.map(|(number, _, value)| (number, value)).to_vec();
        let paging = [
            // PAE off.
            (CR4, 0),
            // The page tables of a process, which no dump depends on.
            (CR3, 0x5000),
            (CR0, 1 << 31 | 0x11),
        ];
        registers.extend(paging);
        Stub::connect(&qemu.path("gdb"), 0).set(&registers);
        // The other CPU is in the kernel too.
        let mut other = vec![(ESP, 0xc0de_1fd0), (EIP, 0x00c0_abba)];
        other.extend(paging);
        Stub::connect(&qemu.path("gdb"), 1).set(&other);
        let file = format!("file:{}", qemu.path("guest.elf").display());
        let arguments = json!({"paging": false, "protocol": file});
        qemu.ask("dump-guest-memory", &arguments);

        let (over_qmp, of_file) = (["--qmp", "qmp"], ["--image", "guest.elf"]);
        let plain = qemu.take("plain", ["--image", "machine"], &[]);
        for (out, source) in [("a", over_qmp), ("b", of_file)] {
            let taken = qemu.take(out, source, &["--no-cpu-state"]);
            assert!(taken == plain, "{name} {source:?}");
        }
        let a = qemu.take("with-a", over_qmp, &[]);
        let b = qemu.take("with-b", of_file, &[]);
        assert!(a == b && a != plain, "{name}");
        let status = qemu.ask("query-status", &json!({}));
        assert_eq!(status["running"], json!(false), "{name}");

        // The CPU that counts as the dumping one has the values set.
        let (dump, kernel) = (qemu.path("with-a"), qemu.path("machine/kernel"));
        let args = ["threads".into(), dump, "--kernel".into(), kernel];
        let printed = run(args.into_iter().chain(["--json".into()]));
        assert!([0, 3].contains(&printed.code), "{}", printed.err);
        let printed: Value = serde_json::from_slice(&printed.out).unwrap();
        let threads = printed["threads"].as_array().unwrap().iter();
        let on_cpu: Vec<_> = threads.filter(|t| t["context"] == "on-cpu").collect();
        let [thread] = on_cpu[..] else {
            panic!("{name}: {printed}");
        };
        for (_, register, value) in SAVED {
            let found = thread["registers"][register].as_str().unwrap();
            let found = u64::from_str_radix(found.trim_start_matches("0x"), 16).unwrap();
            assert_eq!(found, value, "{name}: {register}");
        }
        assert_eq!(thread["cpu"], json!(0), "{name}");
    }
}
