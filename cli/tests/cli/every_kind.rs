//! Every verb gives the same results for all kinds of a dump: the minidump, the full dump and cores
//! made of it, and the full dump that the kernel would have written.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::{FileExt as _, PermissionsExt};
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::debuggers::{GDB, gdb, have, remote};
use crate::harness::{run, run_json};
use crate::schema;
use crate::served::{Client, Dumped, Server, arm64, debug, i386, riscv64, tiny};

/// Writes a machine's memory as a full dump, field by field, after FreeBSD `sys/kern/kern_dump.c`.
/// Only the memory's layout comes from the program.
pub(crate) fn full_dump(machine: &Path, (class, number): (u8, u16), to: &Path) {
    let layout = fs::read(machine.join("machine.json")).unwrap();
    let layout: Value = serde_json::from_slice(&layout).unwrap();
    let ram = fs::File::open(machine.join("ram")).unwrap();
    let ranges: Vec<(u64, u64)> = layout["ranges"]
        .as_array()
        .unwrap()
        .iter()
        .map(|pair| (pair[0].as_u64().unwrap(), pair[1].as_u64().unwrap()))
        .collect();
    let wide = class == 2;
    let word = |out: &mut Vec<u8>, value: u64| match wide {
        true => out.extend(value.to_le_bytes()),
        false => out.extend(u32::try_from(value).unwrap().to_le_bytes()),
    };
    let (ehdr, phdr) = if wide { (64_u16, 56_u16) } else { (52, 32) };
    let mut out = b"\x7fELF\x00\x01\x01\xff\0\0\0\0\0\0\0\0".to_vec();
    out[4] = class;
    out.extend(4_u16.to_le_bytes());
    out.extend(number.to_le_bytes());
    out.extend(0_u32.to_le_bytes());
    for value in [0, u64::from(ehdr), 0] {
        word(&mut out, value);
    }
    out.extend(0_u32.to_le_bytes());
    for half in [
        ehdr,
        phdr,
        ranges.len() as u16,
        if wide { 64 } else { 40 },
        0,
        0,
    ] {
        out.extend(half.to_le_bytes());
    }
    let headers = u64::from(ehdr) + u64::from(phdr) * ranges.len() as u64;
    let mut offset = headers.next_multiple_of(4096);
    let start = offset;
    for (first, end) in &ranges {
        out.extend(1_u32.to_le_bytes());
        let len = end - first;
        if wide {
            out.extend(4_u32.to_le_bytes());
        }
        for value in [offset, *first, *first, len, len] {
            word(&mut out, value);
        }
        if !wide {
            out.extend(4_u32.to_le_bytes());
        }
        word(&mut out, 4096);
        offset += len;
    }
    out.resize(start as usize, 0);
    let mut file = fs::File::create(to).unwrap();
    file.write_all(&out).unwrap();
    for (first, end) in ranges {
        let mut range = vec![0; (end - first) as usize];
        ram.read_exact_at(&mut range, first).unwrap();
        file.write_all(&range).unwrap();
    }
}

/// All kinds of a machine's dump.
pub(crate) struct Kinds {
    _dir: tempfile::TempDir,
    kernel: String,
    /// The minidump and its conversions.
    made: Vec<PathBuf>,
    /// The kernel's output with `debug.minidump=0`, plain and compressed.
    pub(crate) kernels_own: Vec<PathBuf>,
}

impl Kinds {
    pub(crate) fn of(dumped: &Dumped) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let kernel = dumped.kernel.to_str().unwrap().to_owned();
        let dump = dumped.dump.to_str().unwrap();
        let mut made = vec![dumped.dump.clone()];
        let forms: [(&str, &[&str]); 5] = [
            ("full", &["--to", "full", "--none", "--container", "saved"]),
            ("full.zst", &["--to", "full"]),
            ("core", &["--to", "elf", "--kernel", &kernel]),
            ("core.gz", &["--to", "elf", "--kernel", &kernel]),
            (
                "linux",
                &["--to", "elf", "--notes", "linux", "--kernel", &kernel],
            ),
        ];
        for (name, args) in forms {
            let to = dir.path().join(name);
            let files = ["convert", "-q", dump, to.to_str().unwrap()];
            run(files.iter().chain(args)).expect(0);
            made.push(to);
        }
        let number = match dumped.machine.truth().architecture.name() {
            "amd64" => (2, 62),
            "aarch64" => (2, 183),
            "riscv64" => (2, 243),
            _ => (1, 3),
        };
        let full = dir.path().join("vmcore.3");
        full_dump(dumped.kernel.parent().unwrap(), number, &full);
        let packed = dir.path().join("vmcore.4.zst");
        let files = [full.to_str().unwrap(), packed.to_str().unwrap()];
        run(["convert", "-q"].iter().chain(&files)).expect(0);
        Self {
            _dir: dir,
            kernel,
            made,
            kernels_own: vec![full, packed],
        }
    }

    /// The JSON output of a verb, without file name and kind.
    fn answer(&self, verb: &str, dump: &Path) -> Value {
        let args = [
            verb,
            "-q",
            "--json",
            dump.to_str().unwrap(),
            "--kernel",
            &self.kernel,
        ];
        let answer = run(args).expect(0);
        let mut answer: Value = serde_json::from_slice(&answer.out).unwrap();
        schema::check(verb, &answer);
        for word in [
            "dump",
            "kind",
            "container",
            "codec",
            "file_size",
            "payload_size",
        ] {
            answer.as_object_mut().unwrap().remove(word);
        }
        answer
    }
}

const VERBS: [&str; 4] = ["ps", "threads", "dmesg", "triage"];

/// i386 program headers cannot address memory above 4 GiB, which the machine with PAE has.
fn all() -> [&'static Dumped; 4] {
    [tiny(), arm64(), riscv64(), i386()]
}

#[test]
fn ps_threads_dmesg_and_triage_agree_for_every_kind() {
    for dumped in all() {
        let kinds = Kinds::of(dumped);
        for verb in VERBS {
            let expected = kinds.answer(verb, &dumped.dump);
            for dump in &kinds.made {
                assert_eq!(
                    kinds.answer(verb, dump),
                    expected,
                    "{verb} {}",
                    dump.display()
                );
            }
            // The kernel's own full dump has all of memory and a header, which differ.
            let comparable = |mut answer: Value| {
                for word in ["pages", "hostname", "dumped", "origin", "checksum_ok"] {
                    answer.as_object_mut().unwrap().remove(word);
                }
                answer
            };
            let expected = comparable(expected);
            for dump in &kinds.kernels_own {
                let found = comparable(kinds.answer(verb, dump));
                assert_eq!(found, expected, "{verb} {}", dump.display());
            }
        }
    }
}

#[test]
fn triage_prints_addresses_with_the_machines_width() {
    for (dumped, digits) in [(tiny(), 16), (i386(), 8)] {
        let [dump, kernel] = [&dumped.dump, &dumped.kernel].map(|path| path.to_str().unwrap());
        let text = run(["triage", dump, "--kernel", kernel]).expect(0);
        let text = text.text();
        let frame = text.lines().find_map(|line| line.strip_prefix("  #0 "));
        let pc = frame.unwrap().split_whitespace().next().unwrap();
        assert_eq!(pc.len(), "0x".len() + digits, "{text}");
        let rows = text.lines().filter(|line| line.starts_with("   ")).take(1);
        for value in rows.flat_map(|row| row.split_whitespace().skip(1).step_by(2)) {
            assert_eq!(value.len(), "0x".len() + digits, "{text}");
        }
    }
}

#[test]
fn compare_reports_kinds_as_same_and_pages_only_in_a_full_dump() {
    for dumped in [tiny(), arm64(), i386()] {
        let kinds = Kinds::of(dumped);
        let compare = |a: &Path, b: &Path, code: i32| {
            let args = [
                "compare",
                "--json",
                a.to_str().unwrap(),
                b.to_str().unwrap(),
            ];
            let found = run(args).expect(code);
            let found: Value = serde_json::from_slice(&found.out).unwrap();
            schema::check("compare", &found);
            found
        };
        let count = |found: &Value, what: &str| found[what]["count"].as_u64().unwrap();
        for pair in kinds.made.windows(2) {
            let found = compare(&pair[0], &pair[1], 0);
            assert_eq!(found["answer"], "same");
            assert!(found["pages_same"].as_u64().unwrap() > 100);
        }
        let [own, packed] = &kinds.kernels_own[..] else {
            panic!("two of them")
        };
        assert_eq!(compare(own, packed, 0)["answer"], "same");
        for mini in &kinds.made {
            let found = compare(mini, own, 1);
            assert_eq!(count(&found, "pages_differ"), 0, "{}", mini.display());
            assert_eq!(count(&found, "pages_only_a"), 0);
            assert!(count(&found, "pages_only_b") > 0);
            assert_eq!(found["sections"], Value::Array(Vec::new()));
        }
        // Change one byte of a page in the file.
        let mut bytes = fs::read(own).unwrap();
        let place = |bytes: &[u8]| {
            let info = run(["info", "--json", own.to_str().unwrap()]).expect(0);
            let info: Value = serde_json::from_slice(&info.out).unwrap();
            let range = &info["ranges"][0];
            let start = range["start"]
                .as_str()
                .unwrap()
                .trim_start_matches("0x")
                .to_owned();
            let start = u64::from_str_radix(&start, 16).unwrap();
            assert!(bytes.len() > 0x20_0000);
            (start, range["offset"].as_u64().unwrap() as usize)
        };
        let (start, offset) = place(&bytes);
        bytes[offset + 0x5008] ^= 0x40;
        let changed = own.with_file_name("changed");
        fs::write(&changed, bytes).unwrap();
        let found = compare(own, &changed, 1);
        assert_eq!(count(&found, "pages_differ"), 1);
        assert!(found["differences"][0]["direct"].is_null());
        let page = &found["differences"][0];
        assert_eq!(page["pa"], format!("{:#x}", start + 0x5000));
        assert_eq!(page["offset"], 8);
        fs::remove_file(changed).unwrap();
    }
}

/// The kernel names the changed byte of two full dumps: a variable.
#[test]
fn compare_names_the_variable_that_differs_in_full_dumps() {
    let dumped = tiny();
    let kinds = Kinds::of(dumped);
    let own = &kinds.kernels_own[0];
    let args = ["read", "-q", "--json", own.to_str().unwrap(), "hz", "4"];
    let read = run(args.iter().chain(&["--kernel", &*kinds.kernel])).expect(0);
    let read: Value = serde_json::from_slice(&read.out).unwrap();
    let number = |value: &Value| {
        let text = value.as_str().unwrap().trim_start_matches("0x");
        u64::from_str_radix(text, 16).unwrap()
    };
    let (at, pa) = (number(&read["address"]), number(&read["physical"]));
    let info = run(["info", "--json", own.to_str().unwrap()]).expect(0);
    let info: Value = serde_json::from_slice(&info.out).unwrap();
    let range = info["ranges"].as_array().unwrap().iter();
    let range = range.filter(|r| (number(&r["start"])..number(&r["end"])).contains(&pa));
    let mut offset = range.map(|r| pa - number(&r["start"]) + r["offset"].as_u64().unwrap());
    let mut bytes = fs::read(own).unwrap();
    bytes[offset.next().unwrap() as usize] ^= 1;
    let changed = own.with_file_name("changed");
    fs::write(&changed, bytes).unwrap();
    let files = [own.to_str().unwrap(), changed.to_str().unwrap()];
    let args = ["compare", "--json", "--kernel", &kinds.kernel];
    let found = run(args.iter().chain(&files)).expect(1);
    let found: Value = serde_json::from_slice(&found.out).unwrap();
    let page = &found["differences"][0];
    assert_eq!(page["symbol"], format!("{at:#x} hz"));
    let truth = dumped.machine.truth();
    let direct = number(&page["direct"]);
    assert!(
        direct > 0xffff_f000_0000_0000 && direct.is_multiple_of(4),
        "{direct:#x}"
    );
    assert_eq!(truth.symbol("hz"), Some(at));
}

#[test]
fn every_kind_is_sound_and_converts_back_to_the_minidump() {
    for dumped in [tiny(), arm64(), i386()] {
        let kinds = Kinds::of(dumped);
        let payload = |dump: &Path| {
            let args = [
                "convert",
                "-q",
                "--to",
                "minidump",
                dump.to_str().unwrap(),
                "-",
            ];
            let form = ["--none", "--container", "saved", "--kernel", &kinds.kernel];
            run(args.iter().chain(&form)).expect(0).out
        };
        let expected = payload(&dumped.dump);
        for (dump, carried) in [(&kinds.made[1], true), (&kinds.kernels_own[0], false)] {
            let info = run(["info", "--json", dump.to_str().unwrap()]).expect(0);
            let info: Value = serde_json::from_slice(&info.out).unwrap();
            schema::check("info-full", &info);
            assert_eq!(info["carried_minidump"].is_u64(), carried);
        }
        for dump in kinds.made.iter().chain(&kinds.kernels_own) {
            assert!(payload(dump) == expected, "{}", dump.display());
            for depth in [
                &[][..],
                &["--quick"],
                &["--deep", "--kernel", &kinds.kernel],
            ] {
                let args = ["verify", "-q", dump.to_str().unwrap()];
                // The verifier does not read the page tables of a kernel's own full dump.
                let is_own = kinds.kernels_own.contains(dump);
                let code = if is_own && depth.len() > 1 { 3 } else { 0 };
                let report = run(args.iter().chain(depth)).expect(code);
                assert!(!report.text().contains("error"), "{}", report.text());
            }
        }
    }
}

/// Sends a debugger's requests whose answers do not depend on the dump's name.
#[test]
fn server_answers_agree_for_every_kind() {
    for dumped in all() {
        let kinds = Kinds::of(dumped);
        let threads = dumped.machine.truth().threads.len();
        let version = dumped.machine.truth().symbol("version").unwrap();
        let questions = |dump: &Path| {
            let server =
                Server::start([dump.as_os_str(), "--kernel".as_ref(), kinds.kernel.as_ref()]);
            let mut client = Client::to(&server);
            let mut answers = vec![client.ask("?"), client.ask("qfThreadInfo")];
            for xml in ["features:read:target.xml", "threads:read:"] {
                answers.push(client.ask(&format!("qXfer:{xml}:0,ffff")));
            }
            for thread in dumped.threads().iter().take(8) {
                client.ask(&format!("Hg{:x}", thread.tid));
                answers.push(client.ask("g"));
            }
            for command in ["ps", "dmesg", "bt all", "kld"] {
                answers.push(client.console(command));
            }
            for at in [version, version & !0xfff, 0x1234] {
                answers.push(client.ask(&format!("m{at:x},80")));
                answers.push(client.ask(&format!("qMemoryRegionInfo:{at:x}")));
            }
            assert!(
                answers.iter().all(|answer| !answer.is_empty()),
                "{answers:?}"
            );
            answers
        };
        let expected = questions(&dumped.dump);
        assert!(threads > 3 && expected.len() > 15);
        for dump in kinds.made[1..].iter().chain(&kinds.kernels_own) {
            let found = questions(dump);
            for (found, expected) in found.iter().zip(&expected) {
                // A kernel's full dump has all memory around an address, so the region may differ.
                if expected.starts_with("start:") {
                    let readable = |text: &str| text.contains("permissions:");
                    assert_eq!(readable(found), readable(expected), "{}", dump.display());
                    continue;
                }
                let shown = found.chars().take(400).collect::<String>();
                assert!(found == expected, "{}: {shown}", dump.display());
            }
        }
    }
}

#[test]
fn gdb_backtraces_of_a_full_dump_match_the_minidump() {
    if !have(GDB) {
        return;
    }
    for dumped in [debug(), arm64()] {
        let kinds = Kinds::of(dumped);
        let backtraces = |dump: &Path| {
            let server =
                Server::start([dump.as_os_str(), "--kernel".as_ref(), kinds.kernel.as_ref()]);
            let printed = gdb(
                &[&remote(&server)],
                &["info threads", "thread apply all -c bt"],
            );
            // Where there is no function gdb guesses, depending on the available memory.
            let mut guesses = false;
            let mut lines = Vec::new();
            for line in printed.lines() {
                guesses = line.contains("?? ()") || guesses && line.starts_with('#');
                if !guesses && (line.starts_with('#') || line.contains(" Thread ")) {
                    lines.push(line.to_owned());
                }
            }
            lines
        };
        let expected = backtraces(&dumped.dump);
        assert!(expected.len() > 50, "{expected:?}");
        for dump in [&kinds.made[2], &kinds.kernels_own[1]] {
            assert!(backtraces(dump) == expected, "{}", dump.display());
        }
    }
}

#[test]
fn kgdb_and_export_copy_full_dumps_unchanged() {
    let kinds = Kinds::of(tiny());
    let dir = tempfile::tempdir().unwrap();
    for (from, plain) in [
        (&kinds.made[2], &kinds.made[1]),
        (&kinds.kernels_own[1], &kinds.kernels_own[0]),
    ] {
        let out = dir.path().join("out");
        let args = [
            "export",
            "-q",
            "-f",
            from.to_str().unwrap(),
            out.to_str().unwrap(),
        ];
        run(args).expect(0);
        assert!(
            fs::read(&out).unwrap() == fs::read(plain).unwrap(),
            "{}",
            from.display()
        );
        let seen = dir.path().join("seen");
        let copy = format!("cp \"$0\" {}", seen.display());
        let args = [
            "kgdb",
            "-q",
            from.to_str().unwrap(),
            "--kernel",
            &kinds.kernel,
        ];
        let program = dir.path().join("kgdb");
        fs::write(
            &program,
            format!("#!/bin/sh\nset -- \"$2\"\n{}\n", copy.replace("$0", "$1")),
        )
        .unwrap();
        let mode = PermissionsExt::from_mode(0o755);
        fs::set_permissions(&program, mode).unwrap();
        let rest = ["--program", program.to_str().unwrap()];
        run(args.iter().chain(&rest)).expect(0);
        assert!(
            fs::read(&seen).unwrap() == fs::read(plain).unwrap(),
            "{}",
            from.display()
        );
    }
}

/// Wrong program headers: an error of one line, and the exit code for broken input.
#[test]
fn wrong_program_headers_fail_with_one_line() {
    let kinds = Kinds::of(tiny());
    let whole = fs::read(&kinds.kernels_own[0]).unwrap();
    let carrying = fs::read(&kinds.made[1]).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("vmcore");
    let name = file.to_str().unwrap();
    let huge = u64::MAX.to_le_bytes();
    // p_offset, p_paddr, p_filesz and p_memsz of the first segment; e_phnum; e_phoff.
    let lies: [(usize, &[u8], i32); 7] = [
        (64 + 8, &huge, 2),
        (
            64 + 24,
            &[0xf0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff],
            2,
        ),
        (64 + 32, &huge, 2),
        (64 + 40, &[1, 0, 0, 0, 0, 0, 0, 0], 2),
        (56, &[0xfe, 0xff], 2),
        (32, &huge, 2),
        (54, &[7, 0], 2),
    ];
    for (at, bytes, code) in lies {
        let mut lying = whole.clone();
        lying[at..at + bytes.len()].copy_from_slice(bytes);
        fs::write(&file, lying).unwrap();
        for verb in ["ps", "threads", "dmesg", "triage", "serve"] {
            let found = run([verb, name, "--kernel", &kinds.kernel]).expect(code);
            assert_eq!(found.err.lines().count(), 1, "{verb} {at}: {}", found.err);
            assert!(found.out.is_empty(), "{verb} {at}");
        }
        run(["compare", name, name]).expect(4);
    }
    // A note with a wrong offset loses the minidump with a warning; memory is still readable.
    let place = carrying
        .windows(16)
        .position(|w| w == b"\x01\0CLLivecore\0\0\0\0")
        .unwrap();
    for wrong in [0_u64, 8, 4096, u64::MAX / 2] {
        let mut lying = carrying.clone();
        let note = place + 16 + 8;
        let there = u64::from_le_bytes(lying[note..note + 8].try_into().unwrap());
        lying[note..note + 8].copy_from_slice(&there.wrapping_add(wrong + 4).to_le_bytes());
        fs::write(&file, lying).unwrap();
        let info = run_json(["info", name]).expect(3);
        assert_eq!(info.count("embedded-minidump"), 1, "{}", info.err);
        let report = run(["verify", "-q", name]);
        assert!([1, 2].contains(&report.code), "{}", report.text());
        run(["compare", name, name]).expect(4);
    }
}

/// The verifier does not read page tables of a full dump, and says which checks are missing.
#[test]
fn the_kernel_of_a_full_dump_is_compared_by_its_machine_and_the_rest_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let full = dir.path().join("full");
    full_dump(tiny().kernel.parent().unwrap(), (2, 62), &full);
    for (dumped, code, expected) in [
        (
            tiny(),
            3,
            "KRN-COMPARABLE: page tables: found page tables that the verifier does not read",
        ),
        (
            arm64(),
            2,
            "found a kernel for machine 183 (arm64), 64 bits, expected machine 62 (amd64)",
        ),
        (
            i386(),
            2,
            "found a kernel for machine 3 (i386), 32 bits, expected machine 62 (amd64)",
        ),
    ] {
        let args = ["verify", "--deep", "--kernel"].map(AsRef::as_ref);
        let files = [dumped.kernel.as_os_str(), full.as_os_str()];
        let report = run(args.into_iter().chain(files)).expect(code);
        assert!(report.text().contains(expected), "{}", report.text());
    }
    run(["verify".as_ref(), "--deep".as_ref(), full.as_os_str()]).expect(0);
}
