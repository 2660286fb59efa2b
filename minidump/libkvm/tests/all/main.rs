//! A program in C calls every function of the library, on dumps of the independent builder and of
//! emulated machines.
//!
//! The tests need a C compiler, `$CC` or `cc`, and pass without one, with a message.
//! `LIVECORE_VALGRIND=1` runs the program under valgrind(1), which must report no error.

mod interface;
mod scene;

use std::collections::BTreeSet;
use std::fmt::Display;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;

use livecore_compress::{Codec, Encoding, NoProgress, ReadAt};
use livecore_kernel::{Dump, Location, Pair};
use livecore_livedump::take::{PlanOptions, plan};
use livecore_minidump::convert::{Target, to_full};
use livecore_minidump::{Container, KernelElf, KernelMemory};
use livecore_synth::{Description, build};
use livecore_tests::corpus::recipes;
use livecore_tests::mkdump;
use livecore_tests::random::Random;

use scene::BASE;

/// The directory of the crate.
fn here() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Says why a test does not run.
fn skipped(why: impl Display) {
    let _ = writeln!(std::io::stderr(), "skipped: {why}");
}

fn compiler() -> String {
    std::env::var("CC").unwrap_or_else(|_| "cc".into())
}

/// The library, which cargo builds before the tests.
fn library() -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let directory = test.parent().unwrap();
    let path = directory.join("libkvm.so");
    assert!(path.exists(), "{}: not built", path.display());
    path
}

/// The program and the directory of the library under the name that it is loaded by. `None` without a
/// C compiler.
fn exercise() -> Option<&'static (tempfile::TempDir, PathBuf)> {
    static BUILT: OnceLock<Option<(tempfile::TempDir, PathBuf)>> = OnceLock::new();
    let built = BUILT.get_or_init(|| {
        let compiler = compiler();
        Command::new(&compiler).arg("--version").output().ok()?;
        let directory = tempfile::tempdir().unwrap();
        for name in ["libkvm.so", "libkvm.so.7"] {
            std::os::unix::fs::symlink(library(), directory.path().join(name)).unwrap();
        }
        let program = directory.path().join("exercise");
        let done = Command::new(&compiler)
            .args([
                "-std=gnu11",
                "-g",
                "-O1",
                "-Wall",
                "-Wextra",
                "-Werror",
                "-I",
            ])
            .arg(here().join("include"))
            .arg(here().join("tests/c/exercise.c"))
            .arg("-o")
            .arg(&program)
            .arg("-L")
            .arg(directory.path())
            .args(["-lkvm", "-lpthread"])
            .output()
            .unwrap();
        let errors = String::from_utf8_lossy(&done.stderr);
        assert!(done.status.success(), "{compiler}: {errors}");
        Some((directory, program))
    });
    if built.is_none() {
        skipped(format_args!("no C compiler {}", compiler()));
    }
    built.as_ref()
}

/// Runs the program. `None` without a C compiler.
fn run(arguments: &[&str]) -> Option<Output> {
    run_with(arguments, &[])
}

/// Runs the program with variables in its environment.
fn run_with(arguments: &[&str], variables: &[(&str, &str)]) -> Option<Output> {
    let (directory, program) = exercise()?;
    let mut command = match std::env::var_os("LIVECORE_VALGRIND") {
        None => Command::new(program),
        Some(_) => {
            let mut command = Command::new("valgrind");
            command.args(["--quiet", "--error-exitcode=99", "--leak-check=full"]);
            // At the end, std keeps the handle of the main thread, by a pointer into its middle.
            command.args(["--show-leak-kinds=definite,indirect"]);
            command.args(["--errors-for-leak-kinds=definite,indirect"]);
            command.arg(program);
            command
        }
    };
    command.args(arguments).envs(variables.iter().copied());
    command.env("LD_LIBRARY_PATH", directory.path());
    Some(command.output().unwrap())
}

/// Runs the program, which must succeed without output on standard error, and returns its output.
fn output(arguments: &[&str]) -> Option<String> {
    let done = run(arguments)?;
    let errors = String::from_utf8_lossy(&done.stderr);
    let status = done.status;
    assert!(
        status.success() && errors.is_empty(),
        "{}: {status}: {errors}",
        arguments[0]
    );
    Some(String::from_utf8(done.stdout).unwrap())
}

/// A directory with a dump and a kernel.
struct Files {
    directory: tempfile::TempDir,
    dump: String,
    kernel: String,
}

impl Files {
    fn new(dump: &[u8], kernel: &[u8]) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name).to_str().unwrap().to_owned();
        let (dump_path, kernel_path) = (path("vmcore.0"), path("kernel.file"));
        fs::write(&dump_path, dump).unwrap();
        fs::write(&kernel_path, kernel).unwrap();
        Self {
            dump: dump_path,
            kernel: kernel_path,
            directory,
        }
    }

    /// The scene, with more statements in its recipe.
    fn scene(more: &str, typed: bool) -> Self {
        Self::new(&scene::dump(more).bytes, &scene::kernel(typed))
    }

    /// An emulated machine.
    fn machine(text: &str) -> Self {
        let machine = build(&Description::parse(text).unwrap()).unwrap();
        let elf = KernelElf::from_bytes(machine.kernel().to_vec()).unwrap();
        let taken = plan(machine.memory(), &elf, &PlanOptions::default()).unwrap();
        let payload = taken.payload();
        let mut bytes = vec![0; usize::try_from(payload.size().unwrap()).unwrap()];
        payload.read_exact_at(&mut bytes, 0).unwrap();
        Self::new(&bytes, machine.kernel())
    }

    fn output(&self, what: &str, more: &[&str]) -> Option<String> {
        let mut arguments = vec![what, &self.dump, &self.kernel];
        arguments.extend(more);
        output(&arguments)
    }
}

#[test]
fn return_values_and_errors_are_those_of_libkvm() {
    let text = Files::scene("", true).output("contract", &[]);
    assert!(text.is_none_or(|text| text == "contract kept\n"));
}

/// The same of a compressed dump.
#[test]
fn compressed_dumps_open_as_they_are() {
    for more in [
        "compress zstd",
        "compress gzip",
        "container sealed\ncompress zstd frames 8",
    ] {
        let text = Files::scene(more, true).output("contract", &[]);
        assert!(text.is_none_or(|text| text == "contract kept\n"), "{more}");
    }
}

#[test]
fn encrypted_dump_opens_with_the_key_of_the_environment() {
    let files = Files::scene("container device\nkey aes 256", true);
    let arguments = ["contract", &files.dump, &files.kernel];
    let keys = here().join("../../testdata/keys");
    let run = |key: &str| {
        let key = keys.join(key);
        run_with(&arguments, &[("LIVECORE_KEY", key.to_str().unwrap())])
    };
    let Some(done) = run("rsa2048.pem") else {
        return;
    };
    let errors = String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success(), "{errors}");
    assert_eq!(done.stdout, b"contract kept\n");
    assert!(!run("rsa4096.pem").unwrap().status.success());
    assert!(!run("nothing.pem").unwrap().status.success());
}

#[test]
fn values_of_a_kernel_are_read() {
    let Some(text) = Files::scene("", true).output("state", &[]) else {
        return;
    };
    let at = |offset: u64| format!("{:#x}", BASE + offset);
    let expected = format!(
        "maxcpu 4\nncpus 2\n\
         pcpu -1: none\npcpu 0: a0\npcpu 1: a1\npcpu 2: none\npcpu 3: none\n\
         dpcpu 0: 0 {}\ndpcpu 1: 0 {}\n\
         dpcpu 2: -1 {} kvm_dpcpu_setcpu: CPU 2 not found\n\
         dpcpu 3: 0 {}\n\
         dpcpu 4: -1 {} kvm_dpcpu_setcpu: CPU 4 too big\n\
         vnet {}\n\
         counter 42\ncounter of 0: 40\ncounter of 1: 2\n\
         cptime 11 22 33 44 55\n\
         loadavg 3 0.50 1.00 2.00\n\
         swap 0: -1\n\
         swap 1: 0 [] 15/1524 0\n\
         swap 2: 1 [ada0p3] 10/1024 0x1 [] 15/1524 0\n\
         swap 3: 2 [ada0p3] 10/1024 0x1 [[NFS swap]] 5/500 0x4 [] 15/1524 0\n\
         swap 4: 2 [/dev/ada0p3] 10/1024 0x1 [[NFS swap]] 5/500 0x4 [] 15/1524 0\n",
        at(0x2110),
        at(0x2210),
        at(0x2210),
        at(0x2310),
        at(0x2310),
        at(0x9220),
    );
    assert_eq!(text, expected);
}

#[test]
fn kernel_without_type_information_has_no_cp_time_and_no_names_of_devices() {
    let Some(text) = Files::scene("", false).output("state", &[]) else {
        return;
    };
    let unknown =
        "cptime: cannot read cp_time: the kernel has no type information about struct pcpu";
    assert!(text.contains(unknown), "{text}");
    assert!(text.contains("[/dev/#C:0x57] 10/1024"), "{text}");
    assert!(text.contains("pcpu 1: a1\n"), "{text}");
}

/// What `kvm_getprocs` has of a process of the scene, but not of its threads.
const INIT: &str = "pid 1 ppid 77 pgid 11 sid 12 tsid 14 tpgid 13 uid 1001 ruid 1002 svuid 1003 \
    rgid 21 svgid 22 groups 20 30 31 jid 5 cr 0x1 size 5242880 rss 6 t 7 d 8 s 9 \
    xstat 0x309 acflag 0x3 runtime 2500000 swtime 4294947 flag 0x10000002";

#[test]
fn processes_and_threads_have_the_values_of_their_structures() {
    let files = Files::scene("", true);
    let procs = |op: &str, arg: &str| files.output("procs", &[op, arg]);
    let Some(all) = procs("0", "0") else {
        return;
    };
    let tdev = "tdev 0xffffffffffffffff";
    let first = format!(
        "{INIT} kiflag 7 stat 3 nice -5 sig 9 4 2 80 {tdev} cpu -1/3 pri 84/120 tid 100001 threads 2 \
         [abcdefghijklmnopqrs] [sixteencharactersX] [select] [longlock] [root] [FreeBSD ELF64]\n"
    );
    let second = format!(
        "{INIT} kiflag 3 stat 2 nice -5 sig 1 0 2 80 {tdev} cpu 1/1 pri 0/0 tid 100002 threads 2 \
         [abcdefghijklmnopqrs] [] [] [] [root] [FreeBSD ELF64]\n"
    );
    let zombie = format!(
        "pid 66 ppid 1 pgid 0 sid 0 tsid 0 tpgid 0 uid 0 ruid 0 svuid 0 rgid 0 svgid 0 groups jid 0 \
         cr 0 size 0 rss 0 t 0 d 0 s 0 xstat 0x700 acflag 0 runtime 0 swtime 0 flag 0 kiflag 0 stat 5 \
         nice 0 sig 0 0 0 0 {tdev} cpu 0/0 pri 0/0 tid 0 threads 0 [gone] [] [] [] [] []\n"
    );
    assert_eq!(all, format!("{first}{second}{zombie}3 records\n"));
    assert_eq!(
        procs("8", "0").unwrap(),
        format!("{first}{zombie}2 records\n")
    );
    assert_eq!(procs("24", "0").unwrap(), all);
    let one = format!("{first}1 records\n");
    for (op, arg) in [
        ("1", "1"),
        ("2", "11"),
        ("3", "12"),
        ("4", "-1"),
        ("5", "1001"),
        ("6", "1002"),
        ("10", "21"),
        ("11", "20"),
    ] {
        assert_eq!(procs(op, arg).unwrap(), one, "operation {op}");
        assert_eq!(procs(op, "4711").unwrap(), "0 records\n", "operation {op}");
    }
    assert_eq!(
        procs("17", "1").unwrap(),
        format!("{first}{second}2 records\n")
    );
}

#[test]
fn processes_of_a_kernel_without_type_information_have_names_and_ids() {
    let Some(text) = Files::scene("", false).output("procs", &["0", "0"]) else {
        return;
    };
    let lines: Vec<_> = text.lines().collect();
    assert_eq!(lines.len(), 5, "{text}");
    assert!(
        lines[0].starts_with("pid 1 ppid 0 ") && lines[0].contains("stat 3 "),
        "{text}"
    );
    assert!(lines[0].contains("tid 100001 threads 2 [abcdefghijklmnopqrs] [sixteencharactersX]"));
    assert!(
        lines[1].contains("stat 2 ") && lines[1].contains("cpu 1/-1 "),
        "{text}"
    );
    assert!(
        lines[3].starts_with("pid 66 ") && lines[3].contains("stat 5 "),
        "{text}"
    );
}

#[test]
fn symbols_have_the_types_of_their_sections() {
    let names = [
        "main",
        "_hz",
        "constants",
        "limit",
        "private",
        "networks",
        "nothing",
    ];
    let Some(text) = Files::scene("", true).output("symbols", &names) else {
        return;
    };
    let expected = format!(
        "native 1 kerndisp 0\nmissing 1\nmain 5 0xffffffff80400000\n_hz 7 {:#x}\nconstants 9 {:#x}\n\
         limit 3 0x1234\nprivate 6 {:#x}\nnetworks 9 {:#x}\nnothing 0 0\n",
        BASE + 0x10,
        BASE + 0x1010,
        BASE + 0x300,
        BASE + 0x9220,
    );
    assert_eq!(text, expected);
}

/// The lines of `pages` for every page of a dump, by the builder's account of it.
#[test]
fn pages_are_walked_once_without_a_kernel() {
    let built = scene::dump("page 0x210000 own");
    let files = Files::new(&built.bytes, b"");
    let Some(text) = output(&["pages", &files.dump]) else {
        return;
    };
    let oracle = built.oracle.unwrap();
    let dmap = |pa: u64| 0xffff_f800_0000_0000 + pa;
    let index = oracle.pages.keys().enumerate();
    let index: std::collections::BTreeMap<u64, u64> =
        index.map(|(rank, pa)| (*pa, rank as u64)).collect();
    let data = built.payload.len() as u64 - 4096 * index.len() as u64;
    let offset = |pa: u64| {
        index
            .get(&pa)
            .map_or(-1, |rank| (data + 4096 * rank) as i64)
    };
    let mut expected = String::new();
    let mut mapped = BTreeSet::new();
    for i in 0..16 {
        let (pa, va) = (0x10_0000 + i * 4096, BASE + i * 4096);
        mapped.insert(pa);
        expected += &format!("{pa:#x} {va:#x} {:#x} 3 {} 0x1000\n", dmap(pa), offset(pa));
    }
    expected += &format!(
        "0x200000 0xffffffff80400000 {:#x} 5 {} 0x200000\n",
        dmap(0x20_0000),
        offset(0x20_0000)
    );
    mapped.extend((0x20_0000..0x40_0000).step_by(4096));
    for pa in oracle.pages.keys().filter(|pa| !mapped.contains(pa)) {
        expected += &format!("{pa:#x} 0 {:#x} 3 {} 0x1000\n", dmap(*pa), offset(*pa));
    }
    assert_eq!(text, expected);
}

#[test]
fn reads_return_the_bytes_before_a_hole() {
    let built = scene::dump("nodump 0x10f000");
    let files = Files::new(&built.bytes, &scene::kernel(true));
    let at = format!("{:#x}", BASE + 0xe800);
    let Some(text) = files.output("read", &[&at, "0x1000"]) else {
        return;
    };
    let page = &built.oracle.unwrap().pages[&0x10_e000];
    let hex: String = page[0x800..]
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    let why = format!(
        "invalid address ({:#x}): page 0x10f000 is not in the dump",
        BASE + 0xf000
    );
    assert_eq!(text, format!("2048\n{hex}\n{why}\n"));
}

#[test]
fn threads_share_a_handle_that_one_of_them_closes() {
    let text = Files::scene("compress zstd", true).output("threads", &[]);
    assert!(text.is_none_or(|text| text == "threads ended\n"));
}

/// Memory and symbols of emulated machines, native or not, compared with Livecore's own.
#[test]
fn machines_of_every_port_are_read() {
    for name in ["tiny", "arm64", "riscv64", "i386"] {
        let text = fs::read_to_string(here().join(format!("../../testdata/machines/{name}.toml")));
        let files = Files::machine(&text.unwrap());
        let names = ["_allproc", "hz", "fork_trampoline", "no_such"];
        let Some(text) = files.output("symbols", &names) else {
            return;
        };
        let dump = Dump::open(&files.dump).unwrap();
        let pair = Pair::open(dump.any(), &files.kernel).unwrap();
        let (kernel, memory) = (pair.kernel(), pair.memory());
        for name in ["allproc", "hz", "fork_trampoline"] {
            let location: Location = name.parse().unwrap();
            let at = location.address(kernel.elf()).unwrap();
            let found = text
                .lines()
                .find(|line| line.trim_start_matches('_').starts_with(name));
            let found = found.and_then(|line| line.rsplit(' ').next());
            assert_eq!(found, Some(&*format!("{:#x}", at.0)), "{text}");
            let len = 3 * memory.page_size() as usize;
            let mut bytes = vec![0; len];
            let (got, _) = memory.read_part(livecore_minidump::Address::Virt(at), &mut bytes);
            let at = format!("{:#x}", at.0);
            let read = files.output("read", &[&at, &len.to_string()]).unwrap();
            let hex: String = bytes[..got]
                .iter()
                .map(|byte| format!("{byte:02x}"))
                .collect();
            let mut lines = read.lines();
            assert_eq!(lines.next(), Some(&*got.to_string()), "{name}");
            assert!(lines.next() == Some(&*hex), "{name}: other bytes");
        }
        assert!(
            text.contains("missing 1\n") && text.contains("kerndisp 0\n"),
            "{text}"
        );
    }
}

/// The full dump of a machine, compressed, has the memory, the processes and the kernel map of its
/// minidump.
#[test]
fn full_dumps_are_read_like_minidumps() {
    let text = fs::read_to_string(here().join("../../testdata/machines/tiny.toml")).unwrap();
    let mini = Files::machine(&text);
    let dump = Dump::open(&mini.dump).unwrap();
    let target = Target {
        container: Container::Sealed,
        encoding: Encoding::new(Codec::Zstd).level(1),
    };
    let mut bytes = Vec::new();
    let minidump = dump.any().minidump().unwrap();
    to_full(minidump, &target, &mut bytes, &NoProgress).unwrap();
    let full = Files::new(&bytes, &fs::read(&mini.kernel).unwrap());
    let at = KernelElf::from_bytes(fs::read(&mini.kernel).unwrap()).unwrap();
    let at = format!("{:#x}", at.symbol("hz").unwrap().value);
    for (what, more) in [
        ("read", &[&*at, "0x3000"][..]),
        ("procs", &["0", "0"]),
        ("symbols", &["hz", "_allproc", "no_such"]),
    ] {
        let Some(text) = mini.output(what, more) else {
            return;
        };
        assert!(text.len() > 50, "{text}");
        assert!(
            full.output(what, more).unwrap() == text,
            "{what}: other text"
        );
    }
    // Address, address in the kernel map, and protection of each page of the kernel map.
    let mapped = |files: &Files| -> BTreeSet<String> {
        let text = files.output("pages", &[]).unwrap();
        let lines = text.lines().map(|line| line.split(' ').collect::<Vec<_>>());
        let mapped = lines.filter(|page| page[1] != "0" && page[4] != "-1");
        mapped
            .map(|page| [page[0], page[1], page[3]].join(" "))
            .collect()
    };
    let pages = mapped(&mini);
    assert!(pages.len() > 100);
    assert_eq!(mapped(&full), pages);
}

/// The processes and threads that Livecore lists. A machine without type information has no states.
#[test]
fn processes_of_a_machine_are_listed() {
    let text = fs::read_to_string(here().join("../../testdata/machines/tiny.toml")).unwrap();
    let files = Files::machine(&text);
    let Some(text) = files.output("procs", &["0", "0"]) else {
        return;
    };
    let dump = Dump::open(&files.dump).unwrap();
    let processes = dump.kernel(&files.kernel).unwrap().processes().unwrap();
    let mut expected = Vec::new();
    for process in processes.list {
        let threads = process.threads.iter().filter(|_| !process.zombie);
        let mut lines: Vec<_> = threads
            .map(|thread| (process.pid, thread.tid, process.comm.clone()))
            .collect();
        if lines.is_empty() {
            lines.push((process.pid, 0, process.comm.clone()));
        }
        expected.extend(lines);
    }
    assert!(expected.len() > 10);
    let mut found = Vec::new();
    for line in text.lines().filter(|line| line.starts_with("pid ")) {
        let after = |word: &str| line.split(word).nth(1).unwrap().split(' ').next().unwrap();
        let comm = line.split('[').nth(1).unwrap().split(']').next().unwrap();
        let (pid, tid) = (
            after("pid ").parse().unwrap(),
            after(" tid ").parse().unwrap(),
        );
        found.push((pid, tid, comm.to_owned()));
    }
    assert_eq!(found, expected);
}

/// Kernel and dump that do not belong together, and a dump without a kernel.
#[test]
fn wrong_and_missing_kernels_are_errors() {
    let tiny = "seed = 1\n[memory]\nsize = \"16 MiB\"\n";
    let (one, other) = (
        Files::machine(tiny),
        Files::machine(&format!("{tiny}[kernel]\nident = \"OTHER\"\n")),
    );
    let Some(done) = run(&["symbols", &one.dump, &other.kernel]) else {
        return;
    };
    let errors = String::from_utf8(done.stderr).unwrap();
    assert!(
        errors.contains("not the kernel of the dump: its version is"),
        "{errors}"
    );
    assert_eq!(done.status.code(), Some(1));
    // Without a path, the kernel is searched in the directory of the dump, but not under this name.
    let done = run(&["symbols", &one.dump, ""]).unwrap();
    let errors = String::from_utf8(done.stderr).unwrap();
    let why = format!("{}: kernel of the dump not found", one.dump);
    assert!(errors.contains(&why), "{errors}");
    fs::copy(&one.kernel, one.directory.path().join("kernel")).unwrap();
    let text = output(&["symbols", &one.dump, "", "hz"]).unwrap();
    assert!(text.contains("missing 0\n"), "{text}");
}

/// Damaged dumps, as the program and as the kernel's file.
#[test]
fn hostile_files_are_errors() {
    let directory = tempfile::tempdir().unwrap();
    let mut paths = Vec::new();
    let mut random = Random::new(7);
    let scene = scene::recipe("");
    let recipes = recipes().unwrap();
    let corpus = recipes
        .iter()
        .filter_map(|recipe| mkdump::build(&recipe.text).ok());
    for bytes in corpus.chain([
        scene::dump("").bytes,
        mkdump::build(&scene).unwrap(),
        Vec::new(),
    ]) {
        for damage in 0..2 {
            let mut bytes = bytes.clone();
            for _ in 0..damage * 4 {
                if !bytes.is_empty() {
                    let at = random.index(bytes.len().min(0x3000));
                    bytes[at] = random.below(256) as u8;
                }
            }
            let path = directory.path().join(format!("vmcore.{}", paths.len()));
            fs::write(&path, bytes).unwrap();
            paths.push(path.to_str().unwrap().to_owned());
        }
    }
    assert!(paths.len() > 100);
    let arguments: Vec<_> = ["hostile"]
        .into_iter()
        .chain(paths.iter().map(String::as_str))
        .collect();
    let Some(text) = output(&arguments) else {
        return;
    };
    assert_eq!(text.lines().count(), paths.len());
}

/// A process list and a list of swap devices that are circular, and numbers that are too large.
#[test]
fn hostile_kernel_structures_are_bounded() {
    let more = format!(
        "put va {:#x} u64 {:#x}\nput va {:#x} u64 {:#x}\nput va {:#x} u32 0xffffffff, 0xffffffff",
        BASE + 0x6000,
        BASE + 0x6000,
        BASE + 0x5140,
        BASE + 0x5100,
        BASE + 0x20,
    );
    let files = Files::scene(&more, true);
    let Some(text) = files.output("procs", &["8", "0"]) else {
        return;
    };
    assert!(text.ends_with("2 records\n"), "{text}");
    let done = run(&["state", &files.dump, &files.kernel]).unwrap();
    let text = String::from_utf8(done.stdout).unwrap();
    assert!(text.contains("maxcpu -1\nncpus -1\n"), "{text}");
    let why = "pcpu 0: mp_maxcpus: found 0xffffffff, expected 1 to 4096 CPUs";
    assert!(text.contains(why), "{text}");
}
