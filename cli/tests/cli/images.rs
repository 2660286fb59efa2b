//! Memory images: the same dump from every format, and their descriptions.

use std::fs;
use std::io::Write as _;
use std::path::Path;

use livecore_synth::{Machine, Why};
use livecore_tests::mkimage::{self, Codec, Kdump, Memory, Xen};
use serde_json::Value;

use crate::harness::{Run, golden, run, run_json, testdata};
use crate::schema;

/// The tiny machine in a directory, and its memory.
struct Fixture {
    dir: tempfile::TempDir,
    memory: Memory,
}

impl Fixture {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let tiny = testdata().join("machines/tiny.toml");
        let out = dir.path().join("m");
        run([
            "synth",
            "-q",
            tiny.to_str().unwrap(),
            "--out",
            out.to_str().unwrap(),
        ])
        .expect(0);
        let ram = fs::read(out.join("ram")).unwrap();
        let text = fs::read_to_string(out.join("machine.json")).unwrap();
        let layout: Value = serde_json::from_str(&text).unwrap();
        let ranges = layout["ranges"].as_array().unwrap().iter().map(|range| {
            let number = |i: usize| range[i].as_u64().unwrap();
            (
                number(0),
                ram[number(0) as usize..number(1) as usize].to_vec(),
            )
        });
        Self {
            memory: Memory {
                ranges: ranges.collect(),
            },
            dir,
        }
    }

    fn path(&self, name: &str) -> String {
        self.dir.path().join(name).to_str().unwrap().into()
    }

    fn write(&self, name: &str, bytes: &[u8]) -> String {
        fs::write(self.path(name), bytes).unwrap();
        self.path(name)
    }

    /// The dump taken of this image.
    fn take(&self, image: &str, more: &[&str]) -> Vec<u8> {
        let (kernel, out) = (self.path("m/kernel"), self.path("out.zst"));
        let args = [
            "take",
            "-q",
            "-f",
            "--no-cpu-state",
            "--image",
            image,
            "--kernel",
            &kernel,
            "-o",
            &out,
        ];
        run(args.iter().chain(more)).expect(0);
        fs::read(out).unwrap()
    }
}

/// The memory in all formats of a single file, with their names.
fn images(memory: &Memory) -> Vec<(&'static str, Vec<u8>)> {
    let kdump = |codecs| {
        mkimage::kdump(
            memory,
            &Kdump {
                codecs,
                ..Kdump::default()
            },
        )
    };
    let hvm = Xen {
        paravirtual: false,
        reversed: false,
        cpus: 1,
    };
    let zlib = kdump(&[Codec::Zlib]);
    vec![
        ("qemu.elf", mkimage::qemu(memory, 2).build()),
        ("flattened", mkimage::flatten(&zlib, 16384, false)),
        ("zlib", zlib),
        (
            "others",
            kdump(&[Codec::Lzo, Codec::Snappy, Codec::Zstd, Codec::Plain]),
        ),
        ("lime", mkimage::lime(memory)),
        ("avml", mkimage::avml(memory, 1 << 30)),
        ("virtualbox", mkimage::virtualbox(memory, 2).build()),
        ("xen", mkimage::xen(memory, hvm)),
        ("full", mkimage::freebsd_full(memory).build()),
        ("state.vmss", mkimage::vmss_with_memory(memory)),
        ("cpus.vmsn", mkimage::vmss_with_cpus(memory, 2)),
    ]
}

#[test]
fn take_of_an_image_without_some_pages_exits_with_warnings() {
    let fixture = Fixture::new();
    let text = fs::read_to_string(testdata().join("machines/tiny.toml")).unwrap();
    let machine = Machine::parse(&text).unwrap();
    // Remove one page from the middle of the kernel's bitmap.
    let dumped = &machine.truth().dumped;
    let runs = dumped.iter().filter(|run| run.why == Why::Bit);
    let runs = runs.map(|run| run.pa).collect::<Vec<_>>();
    let gone = runs[runs.len() / 2];
    let ranges = fixture.memory.ranges.iter().flat_map(|(start, bytes)| {
        let cut = |at: u64| (at.max(*start) - start).min(bytes.len() as u64) as usize;
        let (before, after) = (&bytes[..cut(gone.0)], &bytes[cut(gone.0 + 4096)..]);
        let after_start = start + cut(gone.0 + 4096) as u64;
        [(*start, before.to_vec()), (after_start, after.to_vec())]
    });
    let ranges = ranges.filter(|(_, bytes)| !bytes.is_empty());
    let memory = Memory {
        ranges: ranges.collect(),
    };
    assert_eq!(memory.ranges.len(), fixture.memory.ranges.len() + 1);
    let image = fixture.write("holed.lime", &mkimage::lime(&memory));
    let (kernel, out) = (fixture.path("m/kernel"), fixture.path("out.zst"));
    let args = [
        "take", "-q", "--image", &image, "--kernel", &kernel, "-o", &out,
    ];
    let printed = run_json(args).expect(3);
    assert_eq!(printed.err.lines().count(), 1, "{}", printed.err);
    let warning = &printed.warnings(&["pages-not-in-image"])[0];
    assert_eq!(warning["subject"], image.as_str());
    assert!(warning["message"].as_str().unwrap().starts_with("1 page "));
    run(["verify", &out]).expect(0);
    let page = format!("{gone:#x}");
    run(["read", &out, "--phys", &page, "16"]).expect(1);
    run([
        "read",
        &out,
        "--phys",
        &format!("{:#x}", dumped[0].pa),
        "16",
    ])
    .expect(0);
}

/// Runs an operation of `mem` on an image.
fn mem(operation: &[&str], image: &str, kernel: &str, more: &[&str]) -> Run {
    let source = ["-q", "--image", image, "--kernel", kernel];
    run([&["mem"], operation, &source, more].concat())
}

#[test]
fn mem_reads_all_image_formats_and_writes_none() {
    let fixture = Fixture::new();
    let kernel = fixture.path("m/kernel");
    let text = fs::read_to_string(testdata().join("machines/tiny.toml")).unwrap();
    let machine = Machine::parse(&text).unwrap();
    let processes = &machine.truth().processes;
    let (pid, space) = processes
        .iter()
        .find_map(|process| Some((process.pid.to_string(), process.space.as_ref()?)))
        .unwrap();
    let user = format!("{:#x}", space.mappings[0].va.0 + 0x123);
    let asked: [&[&str]; 4] = [
        &["read", "0x100000", "64K", "--raw"],
        &["read", "version", "32", "--kmem", "--raw"],
        &["paddr", "--pid", &pid, &user],
        &["ranges", "list", "-a"],
    ];
    let original = fixture.path("m");
    let expected = asked.map(|operation| mem(operation, &original, &kernel, &[]).expect(0).out);
    let physical = format!("mapped {:#x} ", space.mappings[0].pa.0 + 0x123);
    assert!(String::from_utf8_lossy(&expected[2]).contains(&physical));
    let check = |name: &str, image: &str, more: &[&str]| {
        for (operation, expected) in asked.iter().zip(&expected) {
            let printed = mem(operation, image, &kernel, more).expect(0);
            assert!(printed.out == *expected, "{name}: {operation:?}");
        }
        let before = fs::read(image).unwrap();
        let write = ["write", "0x100000", "00", "--write"];
        let refused = mem(&write, image, &kernel, more).expect(63);
        assert_eq!(refused.err.lines().count(), 1, "{}", refused.err);
        assert!(fs::read(image).unwrap() == before, "{name}");
    };
    for (name, bytes) in images(&fixture.memory) {
        let image = fixture.write(name, &bytes);
        check(name, &image, &[]);
        fs::remove_file(image).unwrap();
    }
    let packed = fixture.write("guest.vmem", &fixture.memory.packed());
    check("a layout", &packed, &["--layout", "0-640K,1M-32M@640K"]);
    fixture.write("guest.vmsn", &mkimage::vmss(&fixture.memory));
    check("VMware", &packed, &[]);
    let flat = fixture.memory.flat();
    let image = fixture.write("ram.gz", &gzip(&flat));
    check("gzip", &image, &[]);

    // Raw memory without a recorded layout is writable where file offsets are addresses.
    let raw = fixture.write("raw", &flat);
    let write = ["write", "0x100000", "a5", "--write"];
    mem(&write, &raw, &kernel, &["--layout", "0-640K,1M-32M@1M"]).expect(63);
    assert!(fs::read(&raw).unwrap() == flat);
    mem(&write, &raw, &kernel, &[]).expect(0);
    assert_eq!(fs::read(&raw).unwrap()[0x10_0000], 0xa5);
    // Every verb names a foreign format.
    let saved = fixture.write("saved", b"LibvirtQemudSave\x03\0\0\0");
    let out = fixture.path("none");
    for refused in [
        mem(&["read", "0", "16"], &saved, &kernel, &[]),
        run(["info", &saved]),
        run(["take", "--image", &saved, "--kernel", &kernel, "-o", &out]),
    ] {
        let refused = refused.expect(63);
        assert!(refused.err.contains("--memory-only"), "{}", refused.err);
        assert_eq!(refused.err.lines().count(), 1, "{}", refused.err);
    }
}

#[test]
fn all_image_formats_give_the_same_dump() {
    let fixture = Fixture::new();
    let memory = &fixture.memory;
    let expected = fixture.take(&fixture.path("m/ram"), &[]);
    for (name, bytes) in images(memory) {
        let image = fixture.write(name, &bytes);
        assert!(fixture.take(&image, &[]) == expected, "{name}");
        fs::remove_file(image).unwrap();
    }

    let vmem = fixture.write("guest.vmem", &memory.packed());
    fixture.write("guest.vmsn", &mkimage::vmss(memory));
    assert!(fixture.take(&vmem, &[]) == expected, "VMware");
    fs::remove_file(fixture.path("guest.vmsn")).unwrap();
    // Without its other files the image is raw and needs --layout.
    let layout = "0-640K,1M-32M@640K";
    assert!(
        fixture.take(&vmem, &["--layout", layout]) == expected,
        "a layout"
    );

    let flat = memory.flat();
    let ckp = fixture.write("guest.ckp", &flat);
    fixture.write(
        "guest.ckp.meta",
        mkimage::bhyve_meta(flat.len() as u64).as_bytes(),
    );
    assert!(fixture.take(&ckp, &[]) == expected, "bhyve");

    let mut stored = gzip(&flat);
    let image = fixture.write("ram.gz", &stored);
    assert!(fixture.take(&image, &[]) == expected, "gzip'd");
    stored.truncate(stored.len() / 2);
    let image = fixture.write("cut.gz", &stored);
    let (kernel, out) = (fixture.path("m/kernel"), fixture.path("none"));
    let cut = run(["take", "--image", &image, "--kernel", &kernel, "-o", &out]).expect(2);
    assert_eq!(cut.err.lines().count(), 1, "{}", cut.err);
    assert!(!Path::new(&out).exists());
}

/// Compresses with gzip(1).
fn gzip(bytes: &[u8]) -> Vec<u8> {
    use std::process::{Command, Stdio};
    let mut child = Command::new("gzip")
        .arg("-1")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    std::thread::scope(|scope| {
        scope.spawn(move || stdin.write_all(bytes).unwrap());
        child.wait_with_output().unwrap().stdout
    })
}

#[test]
fn truncated_image_is_used_and_its_missing_pages_are_counted() {
    let fixture = Fixture::new();
    let small = Memory::parse("0x0 64 mix 1");
    let kdump = mkimage::kdump(&small, &Kdump::default());
    let xen = Xen {
        paravirtual: false,
        reversed: false,
        cpus: 1,
    };
    let xen = mkimage::xen(&small, xen);
    // Xen's core ends with frame numbers of 8 bytes and with the names of its sections.
    let names = b"\0.shstrtab\0.note.Xen\0.xen_prstatus\0.xen_shared_info\0.xen_pages\0.xen_pfn\0";
    let table = xen.len() - names.len() - 8 * 20;
    let cut = |mut bytes: Vec<u8>| {
        bytes.truncate(bytes.len() * 3 / 4);
        bytes
    };
    for (name, bytes) in [
        ("elf", cut(mkimage::qemu(&small, 1).build())),
        ("virtualbox", cut(mkimage::virtualbox(&small, 1).build())),
        ("lime", cut(mkimage::lime(&small))),
        ("avml", cut(mkimage::avml(&small, 1 << 20))),
        ("flattened", cut(mkimage::flatten(&kdump, 5000, false))),
        ("kdump", cut(kdump)),
        ("vmss", cut(mkimage::vmss_with_memory(&small))),
        ("xen", xen[..table].to_vec()),
    ] {
        let image = fixture.write(name, &bytes);
        let info = run_json(["info", &image]).expect(3);
        let message = info.warnings(&["memory-missing"])[0]["message"].clone();
        let mut numbers = message.as_str().unwrap().split(' ');
        let missing: usize = numbers.find_map(|word| word.parse().ok()).unwrap();
        assert!((8..=32).contains(&missing), "{name}: {missing} of 64 pages");
        let read = ["mem", "read", "--raw", "--image", &image];
        let first = run_json([&read[..], &["0", "4096"]].concat()).expect(0);
        assert_eq!(first.out, small.ranges[0].1[..4096], "{name}");
        assert_eq!(first.count("memory-missing"), 1, "{name}: {}", first.err);
        // kdump stores one page of zeros for all, and the last page is one.
        if !["flattened", "kdump"].contains(&name) {
            let last = run([&read[..], &["0x3f000", "4096"]].concat()).expect(1);
            assert!(last.out.is_empty(), "{name}");
        }
    }
}

#[test]
fn error_of_a_damaged_image_has_one_line_with_the_offset() {
    let fixture = Fixture::new();
    let small = Memory::parse("0x0 64 mix 1");
    let (kernel, out) = (fixture.path("m/kernel"), fixture.path("none"));
    // p_paddr, the first address, the length of the first piece.
    for (name, mut bytes, at, region, offset, says) in [
        (
            "elf",
            mkimage::qemu(&small, 1).build(),
            64 + 56 + 24,
            "ELF PT_LOAD",
            0x78,
            "0x40000 bytes from address 0xfffffffffffffff0",
        ),
        (
            "lime",
            mkimage::lime(&small),
            8,
            "LiME header",
            0,
            "addresses 0xfffffffffffffff0 to 0x3ffff",
        ),
        (
            "flattened",
            mkimage::flatten(&mkimage::kdump(&small, &Kdump::default()), 4096, false),
            4096 + 8,
            "flattened piece",
            0x1000,
            "",
        ),
    ] {
        // In big-endian order, a negative length.
        bytes[at..at + 8].copy_from_slice(&(u64::MAX - 15).to_le_bytes());
        let image = fixture.write(name, &bytes);
        let args = ["take", "--image", &image, "--kernel", &kernel, "-o", &out];
        for args in [&args[..], &["info", &image]] {
            let run = run_json(args).expect(2);
            assert_eq!(run.err.lines().count(), 1, "{}", run.err);
            let error = run.error("broken");
            assert_eq!(error["region"], region, "{name}: {error:#}");
            assert_eq!(error["offset"], offset, "{name}: {error:#}");
            let found = error["found"].as_str().unwrap();
            assert!(found.starts_with(says), "{name}: {found}");
            assert!(error["expected"].is_string(), "{name}: {error:#}");
        }
    }
    assert!(!Path::new(&out).exists());
}

#[test]
fn info_describes_format_ranges_and_processors() {
    let fixture = Fixture::new();
    let memory = Memory::parse("0x0 16 mix 1\n0x100000 8 mix 2");
    let elf = fixture.write("guest.elf", &mkimage::qemu(&memory, 2).build());
    let answer = run(["info", "--json", &elf]).expect(0);
    let answer: Value = serde_json::from_str(answer.text()).unwrap();
    schema::check("image", &answer);
    assert_eq!(answer["format"], "elf");
    assert_eq!(answer["memory"], 24 * 4096);
    assert_eq!(answer["ranges"][1]["start"], "0x100000");
    assert_eq!(answer["ranges"][1]["end"], "0x108000");
    assert_eq!(answer["cpus"].as_array().unwrap().len(), 2);
    let hex = |value: u64| format!("{value:#x}");
    assert_eq!(answer["cpus"][1]["rip"], hex(mkimage::register(1, "rip")));
    assert_eq!(answer["cpus"][1]["cr3"], hex(mkimage::control(1, 3)));

    // Other processors are shown with their own registers.
    let arm64 = fixture.write("arm64.elf", &mkimage::qemu_arm64(&memory, 2).build());
    let answer = run(["info", "--json", &arm64]).expect(0);
    let answer: Value = serde_json::from_str(answer.text()).unwrap();
    schema::check("image", &answer);
    for name in ["pc", "sp", "x18", "x29", "x30", "pstate"] {
        assert_eq!(answer["cpus"][1][name], hex(mkimage::register(1, name)));
    }
    let text = run(["info", &arm64]).expect(0);
    let line = format!("cpu 1         pc {:#x}, sp", mkimage::register(1, "pc"));
    assert!(text.text().contains(&line), "{}", text.text());
    let riscv64 = fixture.write("riscv64.elf", &mkimage::qemu_riscv64(&memory, 1).build());
    let answer = run(["info", "--json", &riscv64]).expect(0);
    let answer: Value = serde_json::from_str(answer.text()).unwrap();
    schema::check("image", &answer);
    for (name, of) in [
        ("pc", "pc"),
        ("ra", "x1"),
        ("sp", "x2"),
        ("tp", "x4"),
        ("fp", "x8"),
    ] {
        assert_eq!(answer["cpus"][0][name], hex(mkimage::register(0, of)));
    }

    // VMware's segments are not parsed; the missing CPUs are reported.
    let vmsn = fixture.write("guest.vmsn", &mkimage::vmss_with_cpus(&memory, 2));
    let answer = run(["info", "--json", &vmsn]).expect(0);
    let answer: Value = serde_json::from_str(answer.text()).unwrap();
    schema::check("image", &answer);
    assert_eq!(answer["cpus"][1]["rsp"], hex(mkimage::register(1, "rsp")));
    assert_eq!(answer["cpus"][1]["gs_base"], Value::Null);
    assert_eq!(answer["notes"].as_array().unwrap().len(), 0);
    let vmss = fixture.write("other.vmss", &mkimage::vmss_with_memory(&memory));
    let answer = run(["info", "--json", &vmss]).expect(0);
    let answer: Value = serde_json::from_str(answer.text()).unwrap();
    assert!(answer["notes"][0].as_str().unwrap().contains("0 of 1"));

    let text = run(["info", &elf]).expect(0);
    assert!(
        text.text().contains("format:       elf\n"),
        "{}",
        text.text()
    );
    assert!(
        text.text().contains("0x100000 to 0x108000"),
        "{}",
        text.text()
    );
    assert!(text.text().contains(", cr3 0x"), "{}", text.text());

    for name in ["m", "m/ram"] {
        let machine = run(["info", "--json", &fixture.path(name)]).expect(0);
        let machine: Value = serde_json::from_str(machine.text()).unwrap();
        schema::check("image", &machine);
        assert_eq!(machine["format"], "machine", "{name}");
    }
    // Raw memory without other files is not recognized.
    let raw = fixture.write("raw", &memory.flat());
    run(["info", &raw]).expect(63);
}

/// vmcores have the kernel's text in a segment of its own, and tools write ranges that meet inside of
/// a page.
#[test]
fn ranges_that_overlap_are_compared_and_a_difference_is_a_warning() {
    let fixture = Fixture::new();
    let kernel = fixture.path("m/kernel");
    let expected = fixture.take(&fixture.path("m"), &[]);
    // From the middle of a page of the kernel's text on.
    let (start, ram) = &fixture.memory.ranges[1];
    let at = 0x20_0800;
    let twice = &ram[(at - start) as usize..][..0x3000];
    let mut other = twice.to_vec();
    other[0x1234] ^= 1;
    for (again, code) in [(twice, 0), (&other, 3)] {
        let mut core = mkimage::Core::of(&fixture.memory);
        core.loads.push(mkimage::Load {
            pa: at,
            offset: core.bytes.len() as u64,
            filesz: again.len() as u64,
            memsz: again.len() as u64,
            ..core.loads[0]
        });
        core.bytes.extend(again);
        let mut lime = mkimage::lime(&fixture.memory);
        lime.extend(b"EMiL\x01\0\0\0");
        lime.extend(at.to_le_bytes());
        lime.extend((at + again.len() as u64 - 1).to_le_bytes());
        lime.extend([0; 8]);
        lime.extend(again);
        // Of this release, since others omit zeros.
        let mut both = fixture.memory.clone();
        both.ranges.push((at, again.to_vec()));
        for (name, bytes) in [
            ("twice.elf", core.build()),
            ("twice.lime", lime),
            ("twice.avml", mkimage::avml_0170(&both, 1 << 20, 2)),
        ] {
            let (image, out) = (fixture.write(name, &bytes), fixture.path("twice.zst"));
            let verbs: [&[&str]; 3] = [
                &["info", &image],
                &["mem", "read", "--image", &image, "0x200000", "16"],
                &[
                    "take",
                    "-q",
                    "-f",
                    "--no-cpu-state",
                    "--image",
                    &image,
                    "--kernel",
                    &kernel,
                    "-o",
                    &out,
                ],
            ];
            for verb in verbs {
                let run = run_json(verb).expect(code);
                let warnings = run.warnings(&["image-contradiction"][..usize::from(code == 3)]);
                for warning in warnings {
                    let message = warning["message"].as_str().unwrap();
                    assert!(message.contains(" 0x200800 "), "{verb:?}: {message}");
                }
                let quiet = verb[0] == "mem" || run.err.is_empty();
                assert!(quiet || code == 3, "{verb:?}: {}", run.err);
            }
            // Of two bytes for one address the one of the range that begins lower counts.
            assert!(fs::read(&out).unwrap() == expected, "{name}");
        }
    }
}

/// Its addresses are those of a program, and no memory of a machine.
#[test]
fn the_core_of_a_process_is_no_image() {
    let fixture = Fixture::new();
    let memory = Memory::parse("0x0 4 mix 1\n0x100000 4 mix 2");
    let mut core = mkimage::Core::of(&memory);
    for load in &mut core.loads {
        (load.va, load.pa) = (0x40_0000 + load.pa, 0);
    }
    let core = fixture.write("core.123", &core.build());
    let info = run(["info", &core]).expect(63);
    let args = [
        "take",
        "--image",
        &core,
        "--kernel",
        &fixture.path("m/kernel"),
        "-o",
        "x",
    ];
    let take = run(args).expect(63);
    let printed = (info.err + &take.err).replace(&core, "CORE");
    golden("messages/core-of-a-process.txt", &printed);
}

/// LiME with format=raw writes range after range, so nothing says which addresses they have.
#[test]
fn ranges_without_addresses_need_a_layout_and_the_error_says_so() {
    let fixture = Fixture::new();
    let bytes = fixture.memory.ranges.iter().flat_map(|(_, bytes)| bytes);
    let raw = fixture.write("lime.raw", &bytes.copied().collect::<Vec<_>>());
    let (kernel, out) = (fixture.path("m/kernel"), fixture.path("raw.out"));
    let args = [
        "take", "-q", "--image", &raw, "--kernel", &kernel, "-o", &out,
    ];
    let take = run(args).expect(2);
    assert!(take.err.contains("--layout"), "{}", take.err);
    let mut offset = 0;
    let banks = fixture.memory.ranges.iter().map(|(start, bytes)| {
        let bank = format!("{start:#x}-{:#x}@{offset:#x}", start + bytes.len() as u64);
        offset += bytes.len();
        bank
    });
    let layout = banks.collect::<Vec<_>>().join(",");
    let taken = fixture.take(&raw, &["--layout", &layout]);
    assert!(taken == fixture.take(&fixture.path("m"), &[]));
}

#[test]
fn invalid_layout_is_refused() {
    for layout in ["", "pc:5G", "0-1", "4096-0", "round"] {
        run(["take", "--image", "x", "--kernel", "y", "--layout", layout]).expect(64);
    }
    run(["take", "--machine", "x", "--layout", "pc"]).expect(64);
}
