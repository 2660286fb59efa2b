//! Guest images: CPU registers from QEMU's notes, images without a kernel file, dumps to a pipe.
//!
//! The image is written here with the layout of QEMU's `dump-guest-memory`: an ELF64 core with one
//! note segment (`CORE` of 336 bytes for each CPU, then `QEMU` of 440 bytes) and one PT_LOAD for
//! each range.

use std::fs;
use std::path::Path;
use std::process::Stdio;

use serde_json::Value;

use crate::harness::{Run, golden, livecore, machine, run, run_json};

const CPUS: u32 = 3;

/// The value of a register of a CPU; all values differ.
fn value(cpu: u32, n: u64) -> u64 {
    0xffff_ffff_8123_0000 + u64::from(cpu) * 0x100 + n
}

fn note(out: &mut Vec<u8>, name: &[u8], kind: u32, bytes: &[u8]) {
    out.extend((name.len() as u32 + 1).to_le_bytes());
    out.extend((bytes.len() as u32).to_le_bytes());
    out.extend(kind.to_le_bytes());
    out.extend(name);
    out.push(0);
    out.resize(out.len().next_multiple_of(4), 0);
    out.extend(bytes);
    out.resize(out.len().next_multiple_of(4), 0);
}

fn notes() -> Vec<u8> {
    let mut out = Vec::new();
    for cpu in 0..CPUS {
        let mut status = vec![0; 336];
        // pr_pid, and from 112 r15 r14 r13 r12 rbp rbx r11 … rip at 16, rsp at 19.
        status[32..36].copy_from_slice(&(cpu + 1).to_le_bytes());
        for (index, n) in [
            (0, 15),
            (1, 14),
            (2, 13),
            (3, 12),
            (4, 7),
            (5, 1),
            (16, 16),
            (19, 6),
        ] {
            let at = 112 + 8 * index;
            status[at..at + 8].copy_from_slice(&value(cpu, n).to_le_bytes());
        }
        note(&mut out, b"CORE", 1, &status);
    }
    for cpu in 0..CPUS {
        let mut state = vec![0; 440];
        state[0..4].copy_from_slice(&1_u32.to_le_bytes());
        state[4..8].copy_from_slice(&440_u32.to_le_bytes());
        // rax rbx rcx rdx rsi rdi rsp rbp r8 … r15 rip rflags.
        for n in 0..18 {
            let at = 8 + 8 * n as usize;
            state[at..at + 8].copy_from_slice(&value(cpu, n).to_le_bytes());
        }
        // The CPU runs in the kernel: its code segment, cr0 with paging on, cr3.
        for (at, value) in [(152, 0x20_u64), (392, 0x8005_0033), (416, 0x20_0000)] {
            state[at..at + 8].copy_from_slice(&value.to_le_bytes());
        }
        note(&mut out, b"QEMU", 0, &state);
    }
    out
}

/// The memory in `dir` as QEMU's ELF file.
fn qemu(dir: &Path) -> Vec<u8> {
    let layout = fs::read(dir.join("machine.json")).unwrap();
    let layout: Value = serde_json::from_slice(&layout).unwrap();
    let ram = fs::read(dir.join("ram")).unwrap();
    let ranges = layout["ranges"].as_array().unwrap();
    let ranges = ranges
        .iter()
        .map(|r| (r[0].as_u64().unwrap(), r[1].as_u64().unwrap()));
    let ranges = ranges.collect::<Vec<_>>();
    let notes = notes();
    let headers = 64 + 56 * (ranges.len() + 1);
    let mut out = vec![0; 64];
    out[..8].copy_from_slice(b"\x7fELF\x02\x01\x01\0");
    out[16..18].copy_from_slice(&4_u16.to_le_bytes());
    out[18..20].copy_from_slice(&62_u16.to_le_bytes());
    out[20..24].copy_from_slice(&1_u32.to_le_bytes());
    out[32..40].copy_from_slice(&64_u64.to_le_bytes());
    out[52..54].copy_from_slice(&64_u16.to_le_bytes());
    out[54..56].copy_from_slice(&56_u16.to_le_bytes());
    out[56..58].copy_from_slice(&(ranges.len() as u16 + 1).to_le_bytes());
    let mut header = |kind: u32, offset: u64, paddr: u64, size: u64| {
        out.extend(kind.to_le_bytes());
        out.extend(0_u32.to_le_bytes());
        for word in [offset, 0, paddr, size, size, 0] {
            out.extend(word.to_le_bytes());
        }
    };
    header(4, headers as u64, 0, notes.len() as u64);
    let mut offset = (headers + notes.len()) as u64;
    for (start, end) in &ranges {
        header(1, offset, *start, end - start);
        offset += end - start;
    }
    out.extend(notes);
    for (start, end) in ranges {
        out.extend(&ram[start as usize..end as usize]);
    }
    out
}

struct Guest {
    dir: tempfile::TempDir,
}

impl Guest {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let guest = Self { dir };
        let running = machine("running");
        run([
            "synth",
            "-q",
            running.to_str().unwrap(),
            "--out",
            &guest.to("m"),
        ])
        .expect(0);
        let image = qemu(&guest.dir.path().join("m"));
        fs::write(guest.to("guest.elf"), image).unwrap();
        guest
    }

    fn to(&self, name: &str) -> String {
        self.dir.path().join(name).to_str().unwrap().to_string()
    }

    fn take(&self, image: &str, more: &[&str]) -> Run {
        let (image, kernel) = (self.to(image), self.to("m/kernel"));
        let args = ["take", "-q", "--image", &image, "--kernel", &kernel];
        run(args.iter().chain(more))
    }

    fn json(&self, verb: &str, more: &[&str]) -> Value {
        let args = std::iter::once(&verb).chain(more);
        let run = run(args);
        assert!([0, 3].contains(&run.code), "{verb}: {}", run.err);
        serde_json::from_slice(&run.out).unwrap()
    }
}

#[test]
fn guest_image_without_cpu_state_gives_the_dump_of_raw_memory() {
    let guest = Guest::new();
    let (a, b, c) = (guest.to("a"), guest.to("b"), guest.to("c"));
    let saved = ["--container", "saved", "--none", "-o"];
    let with = |out, more: &[&'static str]| {
        let mut args = saved.to_vec();
        args.push(out);
        args.extend(more);
        args.into_iter().map(String::from).collect::<Vec<_>>()
    };
    let take = |image: &str, args: Vec<String>| {
        let args = args.iter().map(String::as_str).collect::<Vec<_>>();
        guest.take(image, &args).expect(0);
    };
    take("m/ram", with(&a, &[]));
    take("guest.elf", with(&b, &["--no-cpu-state"]));
    take("guest.elf", with(&c, &[]));
    let (raw, plain, state) = (
        fs::read(a).unwrap(),
        fs::read(b).unwrap(),
        fs::read(c).unwrap(),
    );
    assert!(raw == plain);
    assert_eq!(raw.len(), state.len());
    let page = |bytes: &[u8], i: usize| bytes[4096 * i..4096 * (i + 1)].to_vec();
    let changed = (0..raw.len() / 4096).filter(|i| page(&raw, *i) != page(&state, *i));
    let changed = changed.count();
    // dumptid, dumppcb, stoppcbs and stopped_cpus are in one to six pages.
    assert!((1..=6).contains(&changed), "{changed} pages");
}

#[test]
fn cpu_state_is_in_info_and_in_the_info_file() {
    let guest = Guest::new();
    let out = guest.to("crash");
    fs::create_dir(&out).unwrap();
    guest
        .take("guest.elf", &["-o", &out, "--cpu", "1"])
        .expect(0);
    let dump = guest.to("crash/livecore.0.zst");
    let facts = guest.json("info", &[&dump, "--json"]);
    let cpus = facts["cpu_state"].as_array().unwrap();
    let places = cpus.iter().map(|cpu| cpu["place"].as_str().unwrap());
    assert_eq!(
        places.collect::<Vec<_>>(),
        ["stoppcbs", "dumppcb", "stoppcbs"]
    );
    let text = run(["info", &dump]).expect(0);
    assert!(
        text.text()
            .contains("CPU 1, written to dumppcb by livecore"),
        "{}",
        text.text()
    );
    let info = fs::read_to_string(guest.to("crash/info.0")).unwrap();
    assert!(
        info.contains("  CPU State: written by livecore: 0 in stoppcbs"),
        "{info}"
    );
    assert!(info.contains("  Dump Status: good\n"), "{info}");
    // The verifier reports it and finds no error, in the info file too.
    let verdict = run(["verify", &dump]);
    assert!([0, 3].contains(&verdict.code), "{}", verdict.text());
    assert!(!verdict.text().contains("INFO-"), "{}", verdict.text());
    let facts = run(["verify", "-v", &dump]);
    assert_eq!(facts.code, verdict.code, "{}", facts.text());
    assert!(facts.text().contains("SEAL-CPUS"), "{}", facts.text());

    let out = guest.to("out");
    let refused = guest
        .take("guest.elf", &["-o", &out, "--cpu", "9"])
        .expect(64);
    assert!(refused.err.contains("0, 1, 2"), "{}", refused.err);
    guest.take("m/ram", &["-o", &out, "--cpu", "0"]).expect(64);
    assert!(!Path::new(&out).exists());
}

#[test]
fn dump_to_a_pipe_has_the_bytes_of_the_file() {
    let guest = Guest::new();
    for (image, suffix) in [("guest.elf", "zst"), ("m/ram", "gz"), ("m/ram", "raw")] {
        let file = guest.to(&format!("file.{suffix}"));
        let codec = match suffix {
            "zst" => "--zstd",
            "gz" => "--gzip",
            _ => "--none",
        };
        guest.take(image, &[codec, "-o", &file]).expect(0);
        // A pipe cannot seek, and is read in small pieces.
        let mut child = livecore()
            .args(["take", "-q", "--image", &guest.to(image)])
            .args(["--kernel", &guest.to("m/kernel"), codec, "-o", "-"])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut bytes = Vec::new();
        let mut out = child.stdout.take().unwrap();
        std::io::Read::read_to_end(&mut out, &mut bytes).unwrap();
        assert!(child.wait().unwrap().success());
        assert!(bytes == fs::read(file).unwrap(), "{image} to {suffix}");
    }
}

#[test]
fn error_for_an_image_without_kernel_describes_the_image() {
    let guest = Guest::new();
    let image = guest.to("guest.elf");
    let out = guest.to("out");
    let printed = run(["take", "--image", &image, "-o", &out]).expect(63);
    let printed = printed.err.replace(&image, "IMAGE");
    golden("messages/image-without-kernel.txt", &printed);
    let refused = run_json(["take", "--image", &image, "-o", &out]).expect(63);
    refused.error("no-kernel-file");
    assert!(!Path::new(&out).exists());
}

#[test]
fn unchanging_memory_has_no_torn_pages() {
    let guest = Guest::new();
    let (with, without) = (guest.to("with.zst"), guest.to("without.zst"));
    guest
        .take("m/ram", &["-o", &with, "--converge", "3"])
        .expect(0);
    guest.take("m/ram", &["-o", &without]).expect(0);
    let facts = guest.json("info", &[&with, "--json"]);
    assert_eq!(facts["torn"]["torn"], 0);
    assert_eq!(facts["torn"]["rounds"], 1);
    assert_eq!(facts["torn"]["pages"], facts["pages"]["saved"]);
    let facts = guest.json("info", &[&without, "--json"]);
    assert_eq!(facts["torn"], Value::Null);
    assert_eq!(run(["compare", &with, &without]).code, 0, "the same pages");
}
