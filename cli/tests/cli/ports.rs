//! Machines of every port that is dumped from outside, through the whole program.

use std::fs;
use std::path::Path;

use livedump::synth::{Description, build};
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

/// `take` of `what` into `name` of `dir`: the file's path.
fn take(dir: &Path, name: &str, what: &[&str]) -> String {
    let path = dir.join(name).to_str().unwrap().to_owned();
    let mut args = vec!["take", "-q", "--zstd", "--container", "sealed", "-o", &path];
    args.extend(what);
    run(args).expect(0);
    path
}

#[test]
fn a_machine_of_every_port_is_dumped_sound_and_said_to_be_what_it_is() {
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
fn an_image_of_a_machine_gives_the_bytes_that_the_machine_gives() {
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
