//! Memory use does not depend on sizes that a file claims: every verb runs in an address space of
//! 512 MiB.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::Path;

use crate::harness::{machine, run, run_within};

/// The address space of a run.
const MIB: u64 = 512;

/// Small dump files with large claims, in `dir`.
fn hostile(dir: &Path) -> Vec<String> {
    let path = |name: &str| dir.join(name).to_str().unwrap().to_owned();
    let tiny = machine("tiny");
    let tiny = tiny.to_str().unwrap();
    let plain = path("plain");
    let args = ["take", "-q", "--none", "--container", "saved", "--machine"];
    run(args.iter().copied().chain([tiny, "-o", &plain])).expect(0);
    let payload = fs::read(&plain).unwrap();
    // `bitmapsize` of amd64.
    let at = 32;
    let with = |size: u32| {
        let mut head = payload[..64 << 10].to_vec();
        head[at..at + 4].copy_from_slice(&size.to_le_bytes());
        head
    };
    // Larger amounts of zeros compressed to a few kilobytes, with and without a bitmap of that
    // size.
    let bombs = [("bitmap.zst", 1 << 30), ("zeros.zst", 4096)];
    for (name, size) in bombs {
        let mut encoder = zstd::Encoder::new(File::create(dir.join(name)).unwrap(), 1).unwrap();
        let zeros = io::repeat(0).take(640 << 20);
        io::copy(&mut with(size).as_slice().chain(zeros), &mut encoder).unwrap();
        encoder.finish().unwrap();
    }
    fs::write(dir.join("claims"), with(!4095)).unwrap();
    ["bitmap.zst", "zeros.zst", "claims"].map(path).into()
}

#[test]
fn no_verb_aborts_in_a_small_address_space() {
    let dir = tempfile::tempdir().unwrap();
    let kernel = dir.path().join("machine");
    let tiny = machine("tiny");
    run([
        "synth",
        "-q",
        tiny.to_str().unwrap(),
        "-o",
        kernel.to_str().unwrap(),
    ])
    .expect(0);
    let kernel = kernel.join("kernel");
    let kernel = kernel.to_str().unwrap();
    let out = dir.path().join("out");
    let out = out.to_str().unwrap();
    for dump in hostile(dir.path()) {
        let verbs: [&[&str]; 11] = [
            &["info", &dump],
            &["verify", &dump],
            &["compare", &dump, &dump],
            &["convert", "--none", &dump, out],
            &["salvage", &dump, out],
            &["read", &dump, "0x1000", "16", "--phys"],
            &["dmesg", &dump],
            &["ps", &dump, "--kernel", kernel],
            &["threads", &dump, "--kernel", kernel],
            &["triage", &dump, "--kernel", kernel],
            &["export", &dump, out],
        ];
        for args in verbs {
            let run = run_within(MIB, args);
            let is_code = matches!(run.code, 0..=4 | 63);
            assert!(is_code, "{args:?}: {} {}", run.code, run.err);
            assert!(
                run.out.len() < 16 << 20,
                "{args:?}: {} bytes",
                run.out.len()
            );
            let _ = fs::remove_file(out);
        }
    }
}

#[test]
fn error_of_the_memory_limit_names_the_option() {
    let dir = tempfile::tempdir().unwrap();
    let dump = hostile(dir.path()).remove(0);
    for verb in ["info", "dmesg", "verify"] {
        let run = run([verb, "--memory", "4M", &dump]);
        assert_ne!(run.code, 64, "{verb}: {}", run.err);
        assert_ne!(run.code, 0, "{verb}");
    }
}

/// A frame as `zstd --long=31` writes one: its window is 2 GiB, and it does not state its content.
#[test]
fn the_window_of_a_stream_has_one_limit_that_every_verb_names_and_memory_raises() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    let (plain, long, out) = (path("plain"), path("long.zst"), path("out"));
    let tiny = machine("tiny");
    let args = ["take", "-q", "--none", "--container", "saved", "--machine"];
    run(args
        .into_iter()
        .chain([tiny.to_str().unwrap(), "-o", &plain]))
    .expect(0);
    let mut encoder = zstd::Encoder::new(Vec::new(), 3).unwrap();
    encoder.include_checksum(true).unwrap();
    io::copy(&mut File::open(&plain).unwrap(), &mut encoder).unwrap();
    let mut frame = encoder.finish().unwrap();
    // Neither a content size nor a single segment: the window's descriptor follows.
    assert_eq!(frame[4] & 0xe0, 0);
    frame[5] = (31 - 10) << 3;
    fs::write(&long, frame).unwrap();
    let verbs: [(&[&str], i32); 8] = [
        (&["info", &long], 1),
        (&["verify", &long], 1),
        (&["compare", &long, &plain], 4),
        (&["convert", "-f", &long, &out], 1),
        (&["export", "-f", &long, &out], 1),
        (&["salvage", "-f", &long, &out], 1),
        (&["read", &long, "0x1000", "16", "--phys"], 1),
        (&["dmesg", &long], 1),
    ];
    for (args, code) in verbs {
        let refused = run(args.iter().copied().chain(["--memory", "256M"])).expect(code);
        let printed = format!("{}{}", refused.text(), refused.err);
        for text in ["window", "2147483648", "268435456", "--memory"] {
            assert!(printed.contains(text), "{args:?}: {text}: {printed}");
        }
        assert!(!Path::new(&out).exists(), "{args:?}");
        run(args.iter().copied().chain(["--memory", "2G"])).expect(0);
        let _ = fs::remove_file(&out);
    }
}
