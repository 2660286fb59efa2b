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

#[test]
fn addresses_of_processes_are_what_the_builder_mapped_on_every_port_that_has_them() {
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
                    assert!(
                        refused.err.contains("not known where i386"),
                        "{}",
                        refused.err
                    );
                    break;
                }
                continue;
            };
            let mut asked = Vec::new();
            let mut expected = String::new();
            for mapping in &space.mappings {
                let (va, pa) = (mapping.va + 0x7f0, mapping.pa + 0x7f0);
                asked.push(format!("{va:#x}"));
                expected += &format!("{va:#x} mapped {pa:#x} domain 0\n");
                checked += 1;
            }
            for outside in ["0xffffffff00000000", "0xffffffffffffffff"] {
                asked.push(outside.into());
                expected += &format!("{outside} invalid\n");
            }
            let told = paddr(process.pid, &asked).expect(0);
            assert_eq!(told.text(), expected, "{name}: {}", process.comm);
        }
    }
    assert!(checked > 50, "{checked}");
}
