//! `livecore mem` on emulated machines: memory read and written, addresses of processes, memory
//! ranges, and what one process leaves for the next.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Arc, OnceLock};

use livedump::image;
use livedump::mem4::emulated::Parts;
use livedump::mem4::{Access, Credentials, DumpRequest, Emulated, MemDevice};
use livedump::synth::{Description, Machine, build, write_out};
use minidump::KernelElf;
use minidump::defs::amd64::KERNBASE;
use serde_json::Value;

use crate::harness::{Run, golden, livecore, machine, names, run, tool};
use crate::schema;

/// The builder's own knowledge of the tiny machine.
fn tiny() -> &'static Machine {
    static TINY: OnceLock<Machine> = OnceLock::new();
    TINY.get_or_init(|| {
        let text = fs::read_to_string(machine("tiny")).unwrap();
        build(&Description::parse(&text).unwrap()).unwrap()
    })
}

/// The tiny machine, written out.
struct Fixture {
    dir: tempfile::TempDir,
}

fn fixture() -> Fixture {
    let dir = tempfile::tempdir().unwrap();
    write_out(tiny(), &dir.path().join("m")).unwrap();
    Fixture { dir }
}

impl Fixture {
    fn path(&self, name: &str) -> String {
        self.dir.path().join(name).to_str().unwrap().into()
    }

    /// `livecore mem ARGS --image DIR`
    fn mem(&self, args: &[&str]) -> Run {
        let image = self.path("m");
        run(["mem"].iter().chain(args).chain(&["--image", &image]))
    }

    /// The same with `--json`; the document fits the schema.
    #[track_caller]
    fn json(&self, schema: &str, code: i32, args: &[&str]) -> Value {
        let all = args.iter().chain(&["--json"]).copied().collect::<Vec<_>>();
        let answer = serde_json::from_slice(&self.mem(&all).expect(code).out).unwrap();
        schema::check(schema, &answer);
        answer
    }

    /// Memory as it is in the file now.
    fn ram(&self, at: u64, len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        let file = File::open(self.path("m/ram")).unwrap();
        std::os::unix::fs::FileExt::read_exact_at(&file, &mut bytes, at).unwrap();
        bytes
    }
}

/// Memory as the builder made it.
fn made(at: u64, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    tiny().memory().read(at, &mut bytes).unwrap();
    bytes
}

fn hex(at: u64) -> String {
    format!("{at:#x}")
}

fn end_of_ram() -> u64 {
    tiny().memory().ranges().last().unwrap().end
}

fn symbol(name: &str) -> u64 {
    tiny().truth().symbol(name).unwrap()
}

#[test]
fn help_of_every_operation_is_as_recorded() {
    for operation in ["read", "write", "paddr", "ranges"] {
        let text = run(["mem", operation, "--help"]).expect(0);
        golden(&format!("help/mem-{operation}.txt"), text.text());
    }
    for operation in ["list", "set", "clear"] {
        let text = run(["mem", "ranges", operation, "--help"]).expect(0);
        golden(&format!("help/mem-ranges-{operation}.txt"), text.text());
    }
}

#[test]
fn physical_memory_is_the_same_from_text_directory_and_file() {
    let fixture = fixture();
    let at = tiny().truth().kernphys + 100;
    let expected = made(at, 10_000);
    let (text, ram) = (machine("tiny"), fixture.path("m/ram"));
    for source in [
        ["--machine", text.to_str().unwrap()],
        ["--image", &fixture.path("m")],
        ["--image", &ram],
    ] {
        let read = ["mem", "read", &hex(at), "10000", "--raw"].map(ToOwned::to_owned);
        let raw = run(read.iter().map(String::as_str).chain(source)).expect(0);
        assert!(raw.out == expected, "{source:?}");
    }
    // The hexdump is that of `read`, and hexdump(1)'s but for addresses.
    let shown = fixture.mem(&["read", &hex(at), "40"]).expect(0);
    let first = expected[..16].iter().map(|b| format!("{b:02x}"));
    let text = shown.text().to_owned();
    assert!(text.starts_with(&format!("{at:08x}  ")), "{text}");
    assert!(text.split_whitespace().skip(1).take(16).eq(first), "{text}");
    assert_eq!(text.lines().count(), 4, "{text}");
}

#[test]
fn words_are_those_of_od_in_either_order() {
    let fixture = fixture();
    let at = tiny().truth().kernphys + 3;
    let file = fixture.dir.path().join("bytes");
    fs::write(&file, made(at, 96)).unwrap();
    for width in ["1", "2", "4", "8"] {
        for order in ["little", "big"] {
            let shown = fixture
                .mem(&["read", &hex(at), "96", "--words", width, "--endian", order])
                .expect(0);
            let od = tool(
                "od",
                &[
                    "-A",
                    "n",
                    "-v",
                    "-t",
                    &format!("x{width}"),
                    "--endian",
                    order,
                ],
                &file,
            );
            let od = String::from_utf8(od).unwrap();
            let without_addresses = shown
                .text()
                .lines()
                .flat_map(|line| line.split_whitespace().skip(1))
                .collect::<Vec<_>>();
            assert_eq!(without_addresses, od.split_whitespace().collect::<Vec<_>>());
        }
    }
    let answer = fixture.json("mem-read", 0, &["read", &hex(at), "8", "--words", "8"]);
    let number = u64::from_le_bytes(made(at, 8).try_into().unwrap());
    assert_eq!(answer["words"]["values"][0], hex(number));
    let odd = fixture.mem(&["read", "0", "6", "--words", "4"]).expect(64);
    assert!(odd.out.is_empty());
}

#[test]
fn kernel_memory_is_read_by_address_symbol_and_direct_map() {
    let fixture = fixture();
    let truth = tiny().truth();
    let version = truth.version.as_bytes();
    let len = version.len().to_string();
    let va = symbol("version");
    let pa = truth.kernphys + (va - (KERNBASE + (2 << 20)));
    for place in ["version".into(), hex(va), hex(truth.dmap.start + pa)] {
        let read = fixture
            .mem(&["read", "--kmem", &place, &len, "--raw"])
            .expect(0);
        assert_eq!(read.out, version, "{place}");
    }
    let answer = fixture.json("mem-read", 0, &["read", "--kmem", "version+8", "4"]);
    assert_eq!(answer["symbol"], "version");
    assert_eq!(answer["address"], hex(va + 8));
    // A machine that is only a text has its own kernel; a bare file has none unless one is named.
    let text = machine("tiny");
    let args = [
        "mem",
        "read",
        "--kmem",
        "version",
        &len,
        "--raw",
        "--machine",
    ];
    let read = run(args.iter().copied().chain([text.to_str().unwrap()])).expect(0);
    assert_eq!(read.out, version);
    fs::rename(fixture.path("m/ram"), fixture.path("bare")).unwrap();
    let bare = fixture.path("bare");
    let args = [
        "mem", "read", "--kmem", "version", &len, "--raw", "--image", &bare,
    ];
    let refused = run(args).expect(64);
    assert!(refused.err.contains("--kernel ELF"), "{}", refused.err);
    let kernel = fixture.path("m/kernel");
    let named = args.iter().copied().chain(["--kernel", &kernel]);
    assert_eq!(run(named).expect(0).out, version);
}

#[test]
fn what_cannot_be_had_is_an_error_and_what_is_before_it_is_printed() {
    let fixture = fixture();
    let end = end_of_ram();
    let read = |args: &[&str]| fixture.mem(args).expect(1);
    let some = read(&["read", &hex(end - 10), "4K", "--raw"]);
    assert!(some.out == made(end - 10, 10));
    assert!(some.err.contains(&hex(end)), "{}", some.err);
    let words = read(&["read", &hex(end - 10), "16", "--words", "4"]);
    assert_eq!(words.text().split_whitespace().count(), 1 + 2);
    let none = read(&["read", &hex(end), "4"]);
    assert!(none.out.is_empty());
    let answer = fixture.json("mem-read", 1, &["read", &hex(end - 2), "4"]);
    assert_eq!(
        (&answer["requested"], &answer["length"]),
        (&4.into(), &2.into())
    );
    assert!(answer["error"].as_str().unwrap().contains(&hex(end)));
    // Page 0 through the kernel map; unmapped addresses; the end of the address space.
    for place in [hex(KERNBASE), "0".into(), hex(tiny().truth().kva_end)] {
        read(&["read", "--kmem", &place, "8"]);
    }
    for at in [u64::MAX, 1 << 63, 1 << 46] {
        for args in [&["read"][..], &["read", "--kmem"]] {
            let at = hex(at);
            let all = [args, &[&*at, "0xffffffffffffffff", "--raw"]].concat();
            assert!(read(&all).out.is_empty());
        }
    }
    // Everything up to the first address without memory, however much was asked for.
    let rest = read(&["read", &hex(end - 100_000), "0xffffffffffffffff", "--raw"]);
    assert_eq!(rest.out.len(), 100_000);
    let nothing = fixture.mem(&["read", &hex(end), "0", "--raw"]).expect(0);
    assert!(nothing.out.is_empty());
}

#[test]
fn command_lines_that_make_no_sense_are_64_and_change_nothing() {
    let fixture = fixture();
    let before = fixture.ram(0, 8192);
    for args in [
        &["read", "-1", "4"][..],
        &["read", "0", "-4"],
        &["read", "0", "0x1ffffffffffffffff"],
        &["read", "version", "4"],
        &["read", "0", "17M", "--json"],
        &["read", "0", "4", "--words", "3"],
        &["read", "0", "4", "--endian", "big"],
        &["write", "0x1000", "00"],
        &["write", "0x1000", "--write"],
        &["write", "0x1000", "0", "--write"],
        &["write", "0x1000", "xy", "--write"],
        &["write", "0x1000", " ", "--write"],
        &["write", "0x1000", "0x100", "--words", "1", "--write"],
        &["write", "0x1000", "-1", "--words", "1", "--write"],
        &["write", "0x1000", "00", "--from", "x", "--write"],
        &["write", "version", "00", "--write"],
        &["paddr", "0"],
        &["paddr", "--pid", "1"],
        &["paddr", "--pid", "1", "x"],
        &["ranges", "frobnicate"],
        &["ranges", "set", "-b", "0", "-l", "0x1000"],
        &["ranges", "set", "-b", "0", "write-back"],
        &["ranges", "set", "-b", "-1", "-l", "1", "write-back"],
        &["ranges", "set", "-b", "0x", "-l", "1", "write-back"],
        &[
            "ranges",
            "set",
            "-b",
            "0",
            "-l",
            "0x10000",
            "-o",
            "eighteen",
            "write-back",
        ],
        &[
            "ranges",
            "set",
            "-b",
            "0",
            "-l",
            "0x10000",
            "set-by-firmware",
        ],
        &[
            "ranges",
            "set",
            "-b",
            "0",
            "-l",
            "0x10000",
            "write-back",
            "wriet-back",
        ],
        &["ranges", "clear"],
        &["ranges", "clear", "-b", "0"],
        &["ranges", "clear", "-l", "0"],
        &["ranges", "clear", "-o", "me", "-b", "0", "-l", "0"],
    ] {
        let run = fixture.mem(args);
        assert_eq!(run.code, 64, "{args:?}: {}", run.err);
        assert!(run.out.is_empty(), "{args:?}");
        assert!(run.err.starts_with("livecore: "), "{args:?}: {}", run.err);
    }
    assert!(fixture.ram(0, 8192) == before);
    assert_eq!(
        names(&fixture.dir.path().join("m")),
        ["kernel", "machine.json", "ram"]
    );
}

#[test]
fn what_one_process_writes_the_next_one_reads_from_the_image() {
    let fixture = fixture();
    let write = |args: &[&str]| fixture.mem(&[&["write", "--write"], args].concat());
    let at = 0x5ffe;
    write(&[&hex(at), "de ad", "beef"]).expect(0);
    assert_eq!(fixture.ram(at, 4), [0xde, 0xad, 0xbe, 0xef]);
    write(&["--kmem", "hz", "--words", "4", "0x12345678"]).expect(0);
    let read = ["read", "--kmem", "hz", "4", "--words", "4"];
    let shown = fixture.mem(&read).expect(0);
    assert!(shown.text().ends_with(" 12345678\n"), "{}", shown.text());
    write(&[
        "--kmem", "hz", "--words", "2", "--endian", "big", "1", "0x203",
    ])
    .expect(0);
    let read = fixture
        .mem(&["read", "--kmem", "hz", "4", "--raw"])
        .expect(0);
    assert_eq!(read.out, [0, 1, 2, 3]);

    let page = (0..5000).map(|i| i as u8).collect::<Vec<_>>();
    fs::write(fixture.path("page"), &page).unwrap();
    write(&["0x6003", "--from", &fixture.path("page")]).expect(0);
    assert!(fixture.ram(0x6003, page.len()) == page);
    let image = fixture.path("m");
    let mut child = livecore()
        .args(["mem", "write", "0x8000", "--from", "-", "--write", "--json"])
        .args(["--image", &image])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child
        .stdin
        .take()
        .unwrap()
        .write_all(b"from a pipe")
        .unwrap();
    let run = Run::of(child.wait_with_output().unwrap()).expect(0);
    let answer = serde_json::from_slice::<Value>(&run.out).unwrap();
    schema::check("mem-write", &answer);
    assert_eq!(answer["length"], 11);
    assert!(answer["requested"].is_null());
    assert_eq!(fixture.ram(0x8000, 11), b"from a pipe");
    write(&["0x8000", "--from", &fixture.path("absent")]).expect(1);
}

#[test]
fn a_write_beyond_memory_stops_there_and_says_how_far_it_came() {
    let fixture = fixture();
    let end = end_of_ram();
    let size = fs::metadata(fixture.path("m/ram")).unwrap().len();
    let at = hex(end - 12);
    let words = ["0x1111111111111111", "0x2222222222222222", "3"];
    let args = [&["write", "--write", "--words", "8", &at][..], &words].concat();
    let answer = fixture.json("mem-write", 1, &args);
    assert_eq!(
        (&answer["requested"], &answer["length"]),
        (&24.into(), &12.into())
    );
    assert!(answer["error"].as_str().unwrap().contains(&hex(end)));
    assert_eq!(
        fixture.ram(end - 12, 12),
        [[0x11; 8].as_slice(), &[0x22; 4]].concat()
    );
    for at in [end, 1 << 46, 1 << 63, u64::MAX] {
        for space in [&[][..], &["--kmem"]] {
            let at = hex(at);
            let args = [&["write", "--write", &at, "0011"], space].concat();
            let run = fixture.mem(&args).expect(1);
            assert!(run.out.is_empty());
        }
    }
    let grown = fs::metadata(fixture.path("m/ram")).unwrap().len();
    assert_eq!(grown, size, "the image does not grow");
}

#[test]
fn dumps_texts_and_elf_files_are_not_changed() {
    let fixture = fixture();
    let text = machine("tiny");
    let text = text.to_str().unwrap();
    for args in [
        &["mem", "write", "0x1000", "00", "--write", "--machine", text][..],
        &[
            "mem",
            "ranges",
            "set",
            "-b",
            "0",
            "-l",
            "0x10000",
            "write-back",
            "--machine",
            text,
        ],
        &["mem", "ranges", "clear", "-o", "BIOS", "--machine", text],
    ] {
        let refused = run(args).expect(63);
        assert!(refused.err.contains("synth"), "{}", refused.err);
        assert!(refused.err.contains("--image"), "{}", refused.err);
    }
    let mut files = vec![(fixture.path("m/kernel"), "ELF")];
    for (name, options) in [
        ("raw", &["--none", "--container", "raw"][..]),
        ("saved", &["--none", "--container", "saved"]),
        ("sealed.zst", &["-Z"]),
        ("saved.gz", &["-z", "--container", "saved"]),
    ] {
        let path = fixture.path(name);
        let take = ["take", "-q", "--machine", text, "-o", &path];
        run(take.iter().chain(options)).expect(0);
        files.push((path, "a dump"));
    }
    for (path, what) in &files {
        let before = fs::read(path).unwrap();
        for operation in [
            &["write", "0", "00", "--write"][..],
            &["ranges", "set", "-b", "0", "-l", "0x10000", "write-back"],
            &["read", "0", "16"],
        ] {
            let args = [&["mem"], operation, &["--image", path]].concat();
            let refused = run(&args).expect(63);
            assert!(refused.err.contains(what), "{args:?}: {}", refused.err);
            assert!(refused.out.is_empty());
        }
        assert!(fs::read(path).unwrap() == before, "{path}");
    }
    // A bare file of memory has no place for ranges.
    fs::rename(fixture.path("m/ram"), fixture.path("bare")).unwrap();
    let bare = fixture.path("bare");
    let set = [
        "mem",
        "ranges",
        "set",
        "-b",
        "0",
        "-l",
        "0x10000",
        "write-back",
        "--image",
        &bare,
    ];
    let refused = run(set).expect(63);
    assert!(refused.err.contains("synth --out"), "{}", refused.err);
    run(["mem", "ranges", "--image", &bare]).expect(0);
    run(["mem", "read", "0", "16", "--image", "/dev/zero"]).expect(63);
    run(["mem", "read", "0", "16", "--image", &fixture.path("absent")]).expect(1);
    run([
        "mem",
        "read",
        "0",
        "16",
        "--image",
        fixture.dir.path().to_str().unwrap(),
    ])
    .expect(1);
}

#[test]
fn addresses_of_a_process_are_what_the_builder_mapped() {
    let fixture = fixture();
    let truth = tiny().truth();
    let mut checked = 0;
    for process in truth.processes.iter().filter(|p| !p.zombie) {
        let pid = process.pid.to_string();
        let Some(space) = &process.space else {
            let run = fixture.mem(&["paddr", "--pid", &pid, "0x200000"]).expect(0);
            assert_eq!(run.text(), "0x200000 invalid\n", "{}", process.comm);
            continue;
        };
        let at = space
            .mappings
            .iter()
            .map(|m| hex(m.va + 0x123))
            .collect::<Vec<_>>();
        let args = ["paddr", "--pid", &pid]
            .into_iter()
            .chain(at.iter().map(|a| &**a));
        let expected = space
            .mappings
            .iter()
            .map(|m| format!("{:#x} mapped {:#x} domain 0\n", m.va + 0x123, m.pa + 0x123))
            .collect::<String>();
        let args = args.collect::<Vec<_>>();
        assert_eq!(fixture.mem(&args).expect(0).text(), expected);
        let answer = fixture.json("mem-paddr", 0, &args);
        assert_eq!(answer["pid"], process.pid);
        let addresses = answer["addresses"].as_array().unwrap();
        assert_eq!(addresses.len(), space.mappings.len());
        assert_eq!(addresses[0]["physical"], hex(space.mappings[0].pa + 0x123));
        checked += addresses.len();

        let ends = [
            "paddr",
            "--pid",
            &pid,
            "0",
            "0xffffffffffffffff",
            "0x800000000000",
        ];
        let run = fixture.mem(&ends).expect(0);
        assert!(
            run.text().lines().all(|line| line.ends_with(" invalid")),
            "{}",
            run.text()
        );
    }
    assert!(checked > 10, "{checked}");
    let absent = fixture.mem(&["paddr", "--pid", "99999", "0"]).expect(1);
    assert!(absent.err.contains("no process 99999"), "{}", absent.err);
}

/// Lines as memcontrol(8) prints them, the space at their end included.
const PCI_HOLE: &str = "0x80000000/0x80000000 BIOS uncacheable set-by-firmware active \n";

#[test]
fn ranges_are_listed_as_memcontrol_lists_them() {
    let fixture = fixture();
    let list = fixture.mem(&["ranges"]).expect(0);
    let text = list.text();
    assert!(text.starts_with(
        "0x0/0x10000 BIOS write-back fixed-base fixed-length set-by-firmware active \n"
    ));
    assert!(text.ends_with(PCI_HOLE), "{text}");
    // Seven powers of two from the 32 MiB of memory to 4 GiB; one slot is free.
    assert_eq!(text.lines().count(), 88 + 7);
    assert_eq!(fixture.mem(&["ranges", "list"]).expect(0).text(), text);
    let all = fixture.mem(&["ranges", "list", "-a"]).expect(0);
    assert_eq!(all.text().lines().count(), 88 + 8);
    assert!(all.text().ends_with("0x0/0x400000000000 - uncacheable \n"));
    let none = fixture.mem(&["ranges", "list", "-o", "nobody"]).expect(0);
    assert!(none.out.is_empty());
    let answer = fixture.json("mem-ranges", 0, &["ranges", "list", "-a"]);
    let ranges = answer["ranges"].as_array().unwrap();
    assert_eq!(ranges.len(), 96);
    assert_eq!(ranges[94]["base"], "0x80000000");
    assert_eq!(ranges[94]["owner"], "BIOS");
    assert_eq!(
        ranges[94]["names"],
        serde_json::json!(["uncacheable", "set-by-firmware", "active"])
    );
    assert!(ranges[95]["owner"].is_null());
    let text = machine("tiny");
    let listed = run(["mem", "ranges", "--machine", text.to_str().unwrap()]).expect(0);
    assert_eq!(listed.out, list.out);
}

#[test]
fn what_one_process_sets_the_next_one_lists_and_clears() {
    let fixture = fixture();
    let list = |args: &[&str]| fixture.mem(&[&["ranges", "list"], args].concat()).expect(0);
    let before = list(&["-a"]).out;
    let set = [
        "ranges",
        "set",
        "-b",
        "0x200000000",
        "-l",
        "0x40000000",
        "-o",
        "video",
    ];
    let range = [&set[..], &["write-combine", "active"]].concat();
    let silent = fixture.mem(&range).expect(0);
    assert!(silent.out.is_empty() && silent.err.is_empty());
    let line = "0x200000000/0x40000000 video write-combine active \n";
    assert_eq!(list(&["-o", "video"]).text(), line);
    // Numbers are C's; nobody named is `user`; an exact match is changed in place.
    fixture
        .mem(&[
            "ranges",
            "set",
            "-b",
            "8589934592",
            "-l",
            "010000000000",
            "write-back",
            "force",
        ])
        .expect(0);
    assert_eq!(
        list(&["-o", "user"]).text(),
        "0x200000000/0x40000000 user write-back active \n"
    );
    // Every slot is taken now.
    let other = [
        "ranges",
        "set",
        "-b",
        "0x400000000",
        "-l",
        "0x1000",
        "write-back",
    ];
    let full = fixture.mem(&other).expect(1);
    assert!(full.err.contains("no free memory range"), "{}", full.err);
    let clear = ["ranges", "clear", "-b", "0x200000000", "-l", "0x40000000"];
    let answer = fixture.json("mem-ranges", 0, &clear);
    assert_eq!(answer["ranges"][0]["base"], "0x200000000");
    assert!(list(&["-a"]).out == before);
    fixture.mem(&clear).expect(1);
    // By owner: firmware's variable ranges, not its fixed ones.
    let answer = fixture.json("mem-ranges", 0, &["ranges", "clear", "-o", "BIOS"]);
    assert_eq!(answer["ranges"].as_array().unwrap().len(), 7);
    assert_eq!(list(&[]).text().lines().count(), 88);
    let nobody = fixture.mem(&["ranges", "clear", "-o", "nobody"]).expect(0);
    assert!(nobody.err.contains("no active range"), "{}", nobody.err);
    // Below 1 MiB: every fixed range that it touches.
    fixture
        .mem(&[
            "ranges",
            "set",
            "-b",
            "0xb8000",
            "-l",
            "0x1000",
            "-o",
            "vga",
            "write-protect",
        ])
        .expect(0);
    assert_eq!(
        list(&["-o", "vga"]).text(),
        "0xb8000/0x4000 vga write-protect fixed-base fixed-length active \n"
    );
    assert_eq!(
        names(&fixture.dir.path().join("m")),
        ["kernel", "machine.json", "memory-ranges.json", "ram"]
    );
    // A machine that is written anew is as firmware leaves it, whatever stood there.
    write_out(tiny(), &fixture.dir.path().join("m")).unwrap();
    assert!(list(&["-a"]).out == before);
}

#[test]
fn a_range_that_is_refused_changes_nothing() {
    let fixture = fixture();
    let before = fixture.mem(&["ranges", "list", "-a"]).expect(0).out;
    for (args, why) in [
        (
            &["set", "-b", "0x200000800", "-l", "0x1000", "write-back"][..],
            "multiples of 4096",
        ),
        (
            &["set", "-b", "0x200000000", "-l", "0x800", "write-back"],
            "multiples of 4096",
        ),
        (
            &["set", "-b", "0x200000000", "-l", "0x3000", "write-back"],
            "power of two",
        ),
        (
            &["set", "-b", "0x200001000", "-l", "0x2000", "write-back"],
            "multiple of its length",
        ),
        (
            &[
                "set",
                "-b",
                "0xfffffffffffff000",
                "-l",
                "0x2000",
                "write-back",
            ],
            "multiple of",
        ),
        (
            &[
                "set",
                "-b",
                "0x200000000",
                "-l",
                "0x1000",
                "write-back",
                "uncacheable",
            ],
            "exactly one",
        ),
        (
            &[
                "set",
                "-b",
                "0x200000000",
                "-l",
                "0x1000",
                "active",
                "force",
            ],
            "exactly one",
        ),
        (
            &["set", "-b", "0x80000000", "-l", "0x1000", "write-combine"],
            "overlaps",
        ),
        (
            &["clear", "-b", "0x200000000", "-l", "0x1000"],
            "no memory range",
        ),
        (
            &[
                "clear",
                "-b",
                "0xffffffffffffffff",
                "-l",
                "0xffffffffffffffff",
            ],
            "no memory range",
        ),
        (&["clear", "-b", "0", "-l", "0x10000"], "cannot be removed"),
    ] {
        let args = [&["ranges"], args].concat();
        let refused = fixture.mem(&args).expect(1);
        assert!(refused.err.contains(why), "{args:?}: {}", refused.err);
        let json = fixture.mem(&[&args[..], &["--json"]].concat()).expect(1);
        assert!(json.out.is_empty(), "no document where nothing was done");
    }
    assert!(fixture.mem(&["ranges", "list", "-a"]).expect(0).out == before);
}

#[test]
fn a_spoiled_file_of_ranges_is_broken_and_stays() {
    let fixture = fixture();
    let path = fixture.path("m/memory-ranges.json");
    for text in ["", "{}", r#"{"fixed":true,"ranges":[]}"#] {
        fs::write(&path, text).unwrap();
        fixture.mem(&["ranges"]).expect(2);
        let set = ["ranges", "set", "-b", "0", "-l", "0x10000", "write-back"];
        fixture.mem(&set).expect(2);
        assert_eq!(fs::read_to_string(&path).unwrap(), text);
    }
    // Memory is read all the same.
    fixture.mem(&["read", "0", "16"]).expect(0);
}

#[test]
fn ranges_that_processes_set_at_once_are_all_kept() {
    let fixture = fixture();
    let image = fixture.path("m");
    let children = (0..6)
        .map(|i| {
            livecore()
                .args([
                    "mem",
                    "ranges",
                    "set",
                    "-l",
                    "0x1000",
                    "-o",
                    &format!("p{i}"),
                ])
                .args(["-b", &hex(0xc_0000 + 0x1000 * i), "write-back"])
                .args(["--image", &image])
                .spawn()
                .unwrap()
        })
        .collect::<Vec<_>>();
    for mut child in children {
        assert!(child.wait().unwrap().success());
    }
    let list = fixture.mem(&["ranges"]).expect(0);
    for i in 0..6 {
        assert!(
            list.text().contains(&format!(" p{i} write-back ")),
            "{}",
            list.text()
        );
    }
}

/// The first process is in the middle of its dump: nobody reads what it writes.
#[test]
fn two_processes_that_dump_one_machine_are_one_dump_and_ebusy() {
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
    let second = run(take.iter().copied().chain(["-o", &to])).expect(1);
    assert!(
        second.err.contains("another dump is running"),
        "{}",
        second.err
    );
    assert!(names(Path::new(&to)).is_empty());
    // The machine can be used meanwhile.
    fixture.mem(&["read", "0", "16"]).expect(0);
    fixture.mem(&["ranges"]).expect(0);
    out.read_to_end(&mut dumped).unwrap();
    assert!(first.wait().unwrap().success());
    run(take.iter().copied().chain(["-o", &to])).expect(0);
    let again = fs::read(Path::new(&to).join("livecore.0")).unwrap();
    assert!(again.starts_with(&dumped));
}

/// A dump that was killed leaves no lock.
#[test]
fn a_killed_dump_leaves_the_machine_free() {
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

#[test]
fn a_reader_that_goes_away_is_141() {
    let fixture = fixture();
    let image = fixture.path("m");
    for args in [
        &["read", "0x200000", "4M", "--raw"][..],
        &["read", "0x200000", "4M"],
        &["read", "0x200000", "4M", "--words", "8"],
        &["read", "0", "16", "--json"],
        &["ranges", "list", "-a"],
        &["ranges", "--json"],
        &["paddr", "--pid", "0", "0"],
        &["write", "0x1000", "00", "--write", "--json"],
    ] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let output = livecore()
            .arg("mem")
            .args(args)
            .args(["--image", &image])
            .stdout(writer)
            .output()
            .unwrap();
        let run = Run::of(output).expect(141);
        assert_eq!(run.err, "", "{args:?}");
    }
}

/// Elsewhere than on FreeBSD this system's devices obey other rules and are not touched.
#[test]
fn this_system_must_be_freebsd() {
    if std::env::consts::OS == "freebsd" {
        return;
    }
    for args in [
        &["read", "0", "16"][..],
        &["write", "0", "00", "--write"],
        &["paddr"],
        &["ranges"],
        &["ranges", "set", "-b", "0", "-l", "0x10000", "write-back"],
        &["ranges", "clear", "-o", "me"],
    ] {
        let refused = run([&["mem"], args].concat()).expect(63);
        assert!(refused.err.contains("needs FreeBSD"), "{}", refused.err);
        assert!(refused.err.contains("--image DIR"), "{}", refused.err);
        assert_eq!(refused.err.lines().count(), 1, "{}", refused.err);
    }
}

/// The three files that the emulated request writes.
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
fn raw_live_files_pass_verify_convert_and_the_codecs_own_tools() {
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
        // What `take` writes of the same machine holds the same bytes.
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
        "raw files are the kernel's, byte for byte"
    );
}

/// Memory is written all the while; a dump is inconsistent then, but sound.
#[test]
fn a_dump_while_another_process_writes_memory_verifies() {
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
                let at = hex(free);
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
