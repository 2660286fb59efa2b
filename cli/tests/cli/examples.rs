//! Every example of every help text, run by a shell. The manual pages are made of the same texts.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};

use clap::CommandFactory;
use livecore::Cli;
use livecore_tests::mkdump;
use livecore_tests::mkimage::disk::gpt;

use crate::encrypted;
use crate::every_kind::full_dump;
use crate::harness::{machine, run, testdata};
use crate::save::MINIDUMP;

/// Examples that need more than files: what they begin with, and what they need.
const ELSEWHERE: [(&str, &str); 12] = [
    ("livecore save -m 10 /var/crash", "a FreeBSD kernel"),
    ("livecore take -o /var/crash/", "a FreeBSD kernel"),
    ("livecore save s3://", "an object store"),
    ("livecore take --qmp ", "a QEMU guest"),
    ("livecore take --gdb ", "a bhyve guest"),
    ("livecore watch ", "a QEMU guest"),
    ("livecore netdump ", "a kernel that panics"),
    ("livecore isf ", "a kernel with types"),
    ("livecore serve ", "a debugger that connects"),
    ("livecore mount ", "FUSE"),
    ("livecore mem paddr (", "a FreeBSD kernel"),
    (
        "livecore mem read --kmem 0xffffffff80200000",
        "a FreeBSD kernel",
    ),
];
/// The example that starts with a damaged dump.
const DAMAGED: &str = "livecore salvage broken.zst";
/// Words that depend on the machine, and what the tests' machine has instead.
const WORDS: [(&str, &str); 6] = [
    ("100670", "100030"),
    ("0x186a2", "0x186be"),
    ("--pid 814", "--pid 815"),
    ("/dev/", "dev/"),
    ("/boot/", "boot/"),
    ("/usr/local/", "usr/local/"),
];

/// The examples of `command` and of what is below it, without the remarks after them.
fn examples(command: &clap::Command, all: &mut Vec<String>) {
    for help in [command.get_after_help(), command.get_after_long_help()] {
        let text = help.map(ToString::to_string).unwrap_or_default();
        for line in text.lines().filter_map(|line| line.strip_prefix("  ")) {
            if line.starts_with("livecore ") {
                let example = line.split("  ").next().unwrap_or(line);
                // A remark tells which system it is for.
                let is_bare = example == "livecore mem paddr";
                all.push(if is_bare {
                    format!("{example} (")
                } else {
                    example.into()
                });
            }
        }
    }
    for below in command.get_subcommands() {
        examples(below, all);
    }
}

/// The files that the examples name, in `dir`, and programs that they start.
fn prepare(dir: &Path) {
    let path = |name: &str| dir.join(name).to_str().unwrap().to_owned();
    let tiny = machine("tiny");
    let tiny = tiny.to_str().unwrap();
    for name in [
        "boot/kernel",
        "boot/kernel.old",
        "crash",
        "archive",
        "bin",
        "dev",
        ".zfunc",
    ] {
        fs::create_dir_all(dir.join(name)).unwrap();
    }
    fs::create_dir_all(dir.join("testdata/machines")).unwrap();
    for name in ["tiny.toml", "testdata/machines/tiny.toml"] {
        fs::copy(testdata().join("machines/tiny.toml"), dir.join(name)).unwrap();
    }
    run(["synth", "-q", tiny, "--out", &path("machine")]).expect(0);
    for name in [
        "kernel",
        "kernel.debug",
        "boot/kernel/kernel",
        "boot/kernel.old/kernel",
    ] {
        fs::copy(dir.join("machine/kernel"), dir.join(name)).unwrap();
    }
    fs::copy(dir.join("machine/ram"), dir.join("ram")).unwrap();
    full_dump(&dir.join("machine"), (2, 62), &dir.join("guest.elf"));
    run([
        "take",
        "-q",
        "--machine",
        tiny,
        "-o",
        &path("livecore.0.zst"),
    ])
    .expect(0);
    for name in ["livecore.1.zst", "archive/any", "crash/livecore.7.zst"] {
        fs::copy(dir.join("livecore.0.zst"), dir.join(name)).unwrap();
    }
    let convert = |more: &[&str], to: &str| {
        let args = ["convert", "-q", &path("livecore.0.zst"), &path(to)];
        run(args.iter().chain(more)).expect(0);
    };
    convert(&["--none", "--container", "saved"], "vmcore.3");
    convert(&[], "vmcore.3.gz");
    convert(&[], "vmcore.3.zst");
    convert(&["--none", "--container", "saved"], "dev/da0p2");
    convert(&["--to", "elf", "--kernel", &path("kernel")], "core");
    fs::copy(dir.join("vmcore.3.gz"), dir.join("dump.gz")).unwrap();
    for (from, to) in [
        ("rsa2048.pem", "private.pem"),
        ("rsa2048.pub.pem", "public.pem"),
    ] {
        fs::copy(testdata().join("keys").join(from), dir.join(to)).unwrap();
    }
    encrypted::save(dir, "da0p3.img");
    let device = mkdump::build(MINIDUMP).unwrap();
    fs::write(dir.join("dev/ada0p2"), &device).unwrap();
    let disk = gpt(512, &[("freebsd-swap", &device)]);
    fs::write(dir.join("disk.img"), disk).unwrap();
    // It is of another dump than livecore.0.zst.
    fs::remove_file(dir.join("info.0")).unwrap();
    fs::write(dir.join("page"), [7; 4096]).unwrap();
    fs::write(dir.join("requests"), "hz\nversion 32\n0x1000 64 --phys\n").unwrap();
    let mut broken = fs::read(dir.join("livecore.0.zst")).unwrap();
    let middle = broken.len() / 2;
    broken[middle] ^= 0xff;
    fs::write(dir.join("broken.zst"), broken).unwrap();
    // Debuggers and reports have tests of their own; here they end at once.
    let programs = [
        ("ssh", "shift; exec sh -c \"$*\""),
        ("jq", "exec cat"),
        ("gdb", "exit 0"),
        ("lldb", "exit 0"),
        ("kgdb", "exit 0"),
        ("python3", "exit 0"),
        (
            "crashinfo",
            "while [ $# -gt 1 ]; do case $1 in -d) d=$2;; -n) n=$2;; esac; shift; done\n\
             echo report > \"$d/core.txt.$n\"",
        ),
    ];
    for (name, text) in programs {
        let program = dir.join("bin").join(name);
        fs::write(&program, format!("#!/bin/sh\n{text}\n")).unwrap();
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    }
    let own = Path::new(env!("CARGO_BIN_EXE_livecore"));
    std::os::unix::fs::symlink(own, dir.join("bin/livecore")).unwrap();
}

/// Files that are removed before an example: it writes what others read, or is for sound dumps.
const WRITTEN: [(&str, &str); 5] = [
    ("livecore verify --format ", "broken.zst"),
    ("livecore convert vmcore.3 ", "vmcore.3.zst"),
    ("livecore convert --to elf", "core"),
    (DAMAGED, "livecore.0.zst"),
    ("livecore synth ", "machine"),
];

#[test]
fn every_example_runs() {
    let mut all = Vec::new();
    examples(&Cli::command(), &mut all);
    assert!(all.len() > 50, "{all:#?}");
    for (begin, why) in ELSEWHERE {
        let found = all.iter().any(|example| example.starts_with(begin));
        assert!(found, "no example needs {why}: {begin}");
    }
    let prepared = tempfile::tempdir().unwrap();
    prepare(prepared.path());
    for example in all {
        if ELSEWHERE
            .iter()
            .any(|(begin, _)| example.starts_with(begin))
        {
            continue;
        }
        let mut line = example.replace("/var/crash", "crash");
        for (word, own) in WORDS {
            line = line.replace(word, own);
        }
        // The same files under other names, so that no example sees what another has written.
        let parent = tempfile::tempdir().unwrap();
        let dir = parent.path().join("dir");
        let linked = Command::new("cp")
            .arg("-al")
            .arg(prepared.path())
            .arg(&dir)
            .status();
        assert!(linked.unwrap().success());
        // `save` and `clear` change these in place.
        for device in ["dev/ada0p2", "disk.img"] {
            fs::remove_file(dir.join(device)).unwrap();
            fs::copy(prepared.path().join(device), dir.join(device)).unwrap();
        }
        for (_, written) in WRITTEN
            .iter()
            .filter(|(begin, _)| example.starts_with(begin))
        {
            let path = dir.join(written);
            match path.is_dir() {
                true => fs::remove_dir_all(path).unwrap(),
                false => fs::remove_file(path).unwrap(),
            }
        }
        let output = Command::new("bash")
            .args(["-c", &line])
            .current_dir(&dir)
            .env(
                "PATH",
                format!("{}:/usr/bin:/bin", dir.join("bin").display()),
            )
            .env("HOME", &dir)
            .env("TMPDIR", parent.path())
            .stdin(Stdio::null())
            .output()
            .unwrap();
        let code = if example.starts_with(DAMAGED) { 3 } else { 0 };
        assert_eq!(
            output.status.code(),
            Some(code),
            "{line}\n{}{}",
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
    }
}
