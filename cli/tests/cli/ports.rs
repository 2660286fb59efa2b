//! Machines of every port through the whole program.

use std::fs;
use std::path::Path;

use livecore_synth::{Description, build};
use livecore_tests::mkimage::{self, Memory};
use serde_json::Value;

use crate::harness::{machine, run};

/// Machine, its name in `info`, version of its minidump.
const PORTS: [(&str, &str, u64); 6] = [
    ("tiny", "amd64", 3),
    ("arm64", "arm64", 3),
    ("arm64-16k", "arm64", 3),
    ("riscv64", "riscv", 2),
    ("i386", "i386", 2),
    ("i386-pae", "i386", 2),
];

/// Runs `take` on `what` to `name` in `dir`; returns the path.
fn take(dir: &Path, name: &str, what: &[&str]) -> String {
    let path = dir.join(name).to_str().unwrap().to_owned();
    let mut args = vec!["take", "-q", "--zstd", "--container", "sealed", "-o", &path];
    args.extend(what);
    run(args).expect(0);
    path
}

#[test]
fn dumps_of_all_ports_are_sound_and_identified() {
    let dir = tempfile::tempdir().unwrap();
    for (name, arch, version) in PORTS {
        let text = machine(name);
        let path = take(dir.path(), name, &["--machine", text.to_str().unwrap()]);
        run(["verify", "--deep", &path]).expect(0);
        let info = run(["info", "--json", &path]).expect(0);
        let info: Value = serde_json::from_slice(&info.out).unwrap();
        let made = build(&Description::parse(&fs::read_to_string(text).unwrap()).unwrap());
        let made = made.unwrap();
        let truth = made.truth();
        let mini = &info["minidump"];
        assert_eq!(info["architecture"], arch, "{name}: {info}");
        assert_eq!(mini["version"], version, "{name}: {info}");
        assert_eq!(info["header"]["hostname"], truth.hostname, "{name}: {info}");
        let dmesg = run(["dmesg", "-a", &path]).expect(0);
        assert!(dmesg.text().contains(&truth.hostname), "{name}");
    }
}

#[test]
fn image_and_machine_give_the_same_dump() {
    let dir = tempfile::tempdir().unwrap();
    for (name, ..) in PORTS {
        let text = machine(name);
        let from_text = take(dir.path(), "text", &["--machine", text.to_str().unwrap()]);
        let made = dir.path().join(name);
        run([
            "synth",
            text.to_str().unwrap(),
            "-o",
            made.to_str().unwrap(),
        ])
        .expect(0);
        let (memory, kernel) = (made.join("ram"), made.join("kernel"));
        let from_image = take(
            dir.path(),
            "image",
            &[
                "--image",
                memory.to_str().unwrap(),
                "--kernel",
                kernel.to_str().unwrap(),
            ],
        );
        let (a, b) = (fs::read(from_text).unwrap(), fs::read(&from_image).unwrap());
        assert!(a == b, "{name}");
        for name in ["text", "image"] {
            fs::remove_file(dir.path().join(name)).unwrap();
        }
    }
}

#[test]
fn paddr_returns_the_builders_mappings_on_all_supported_ports() {
    let mut checked = 0;
    for (name, arch, _) in PORTS {
        let text = machine(name);
        let made = build(&Description::parse(&fs::read_to_string(&text).unwrap()).unwrap());
        let made = made.unwrap();
        let paddr = |pid: u32, addresses: &[String]| {
            let pid = pid.to_string();
            let mut args = vec![
                "mem",
                "paddr",
                "--machine",
                text.to_str().unwrap(),
                "--pid",
                &pid,
            ];
            args.extend(addresses.iter().map(String::as_str));
            run(args)
        };
        for process in made
            .truth()
            .processes
            .iter()
            .filter(|process| !process.zombie)
        {
            let Some(space) = &process.space else {
                if arch == "i386" {
                    let refused = paddr(process.pid, &["0x1000".into()]).expect(63);
                    assert!(refused.err.contains("i386"), "{}", refused.err);
                    break;
                }
                continue;
            };
            let mut asked = Vec::new();
            let mut expected = String::new();
            for mapping in &space.mappings {
                let (va, pa) = (mapping.va.0 + 0x7f0, mapping.pa.0 + 0x7f0);
                asked.push(format!("{va:#x}"));
                expected += &format!("{va:#x} mapped {pa:#x} domain 0\n");
                checked += 1;
            }
            for outside in ["0xffffffff00000000", "0xffffffffffffffff"] {
                asked.push(outside.into());
                expected += &format!("{outside} invalid\n");
            }
            let printed = paddr(process.pid, &asked).expect(0);
            assert_eq!(printed.text(), expected, "{name}: {}", process.comm);
        }
    }
    assert!(checked > 50, "{checked}");
}

/// The files of a machine: `ram`, `kernel`, and a core as QEMU writes it.
fn guest(dir: &Path, name: &str) -> (Memory, String) {
    let made = dir.join(name);
    let text = machine(name);
    let out = made.to_str().unwrap();
    run(["synth", "-q", text.to_str().unwrap(), "-o", out]).expect(0);
    let text = fs::read_to_string(made.join("machine.json")).unwrap();
    let layout: Value = serde_json::from_str(&text).unwrap();
    let ram = fs::File::open(made.join("ram")).unwrap();
    let ranges = layout["ranges"].as_array().unwrap().iter().map(|range| {
        let (start, end) = (range[0].as_u64().unwrap(), range[1].as_u64().unwrap());
        let mut bytes = vec![0; (end - start) as usize];
        std::os::unix::fs::FileExt::read_exact_at(&ram, &mut bytes, start).unwrap();
        (start, bytes)
    });
    let memory = Memory {
        ranges: ranges.collect(),
    };
    let kernel = made.join("kernel").to_str().unwrap().to_owned();
    (memory, kernel)
}

#[test]
fn registers_of_arm64_and_riscv64_guests_are_in_the_dump() {
    let dir = tempfile::tempdir().unwrap();
    for (name, is_arm) in [("arm64", true), ("arm64-16k", true), ("riscv64", false)] {
        let (memory, kernel) = guest(dir.path(), name);
        let core = match is_arm {
            true => mkimage::qemu_arm64(&memory, 2),
            false => mkimage::qemu_riscv64(&memory, 2),
        };
        let image = dir.path().join("guest.elf");
        fs::write(&image, core.build()).unwrap();
        let image = image.to_str().unwrap();
        let what = ["--image", image, "--kernel", &kernel, "--cpu", "1"];
        let dump = take(dir.path(), "dump", &what);
        let printed = run(["info", "--json", &dump]).expect(0);
        let printed: Value = serde_json::from_slice(&printed.out).unwrap();
        let places = printed["cpu_state"].as_array().unwrap().iter();
        let places: Vec<_> = places.map(|cpu| cpu["place"].as_str().unwrap()).collect();
        assert_eq!(places, ["stoppcbs", "dumppcb"], "{name}");
        run(["verify", "--deep", "--kernel", &kernel, &dump]).expect(0);
        let args = ["threads", "--json", "--kernel", &kernel, &dump];
        let threads = run(args).expect(0);
        let threads: Value = serde_json::from_slice(&threads.out).unwrap();
        let threads = threads["threads"].as_array().unwrap();
        // Some of the kernels have panicked, the others run.
        let dumping: Vec<_> = threads
            .iter()
            .filter(|t| t["context"] == "crashed" || t["context"] == "on-cpu")
            .collect();
        assert_eq!(dumping.len(), 1, "{name}");
        let pc = format!("{:#x}", mkimage::register(1, "pc"));
        assert_eq!(dumping[0]["registers"]["pc"], pc, "{name}: {}", dumping[0]);
        for file in ["dump", "guest.elf"] {
            fs::remove_file(dir.path().join(file)).unwrap();
        }
    }
}

#[test]
fn layout_of_raw_memory_not_at_address_0_is_found_or_requested() {
    let dir = tempfile::tempdir().unwrap();
    // One bank, whose hole is in the file: the layout is found.
    let (memory, kernel) = guest(dir.path(), "arm64-16k");
    let first = memory.ranges[0].0;
    let mut ram = Vec::new();
    for (start, bytes) in &memory.ranges {
        ram.resize((start - first) as usize, 0);
        ram.extend(bytes);
    }
    let path = dir.path().join("bank");
    fs::write(&path, ram).unwrap();
    let image = path.to_str().unwrap();
    let found = take(
        dir.path(),
        "found",
        &["--image", image, "--kernel", &kernel],
    );
    let all = dir.path().join("arm64-16k/ram");
    let what = ["--image", all.to_str().unwrap(), "--kernel", &kernel];
    let expected = take(dir.path(), "expected", &what);
    assert!(fs::read(found).unwrap() == fs::read(expected).unwrap());
    let args = ["take", "-f", "--image", image, "--kernel", &kernel];
    let out = dir.path().join("found");
    let printed = run(args.iter().chain(&["-o", out.to_str().unwrap()])).expect(0);
    assert!(printed.err.contains("0x40000000"), "{}", printed.err);

    // Two banks without a gap in the file.
    let (memory, kernel) = guest(dir.path(), "arm64");
    let ram: Vec<u8> = memory.ranges.iter().flat_map(|(_, b)| b.clone()).collect();
    fs::write(&path, ram).unwrap();
    let nothing = dir.path().join("nothing");
    let args = ["take", "--image", image, "--kernel", &kernel, "-o"];
    let refused = run(args.iter().chain(&[nothing.to_str().unwrap()])).expect(2);
    assert!(
        refused.err.contains("--layout START-END"),
        "{}",
        refused.err
    );
    assert!(!nothing.exists());
}
