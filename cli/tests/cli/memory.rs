//! Memory use does not depend on sizes that a file claims: every verb runs in an address space of
//! 512 MiB.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::Path;

use livecore_tests::corpus::recipes;
use livecore_tests::mkdump;
use livecore_tests::random::Random;

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
    let kernel = kernel(dir.path());
    for dump in hostile(dir.path()) {
        for line in LINES {
            run_line(line, &dump, &kernel, dir.path());
        }
    }
}

/// Runs `LIVECORE_LINES` command lines with each recipe [2]. `LIVECORE_SEED` selects them.
#[expect(clippy::print_stderr, reason = "the seed of a failure")]
#[test]
fn no_verb_aborts_on_a_recipe_in_a_small_address_space() {
    let number = |name: &str| std::env::var(name).ok().and_then(|n| n.parse().ok());
    let seed = number("LIVECORE_SEED").unwrap_or(20_261_130);
    let lines = number("LIVECORE_LINES").unwrap_or(2) as usize;
    eprintln!("seed {seed}");
    let dir = tempfile::tempdir().unwrap();
    let kernel = kernel(dir.path());
    let mut random = Random::new(seed);
    for recipe in recipes().unwrap() {
        let path = dir.path().join(&recipe.name);
        fs::write(&path, mkdump::build(&recipe.text).unwrap()).unwrap();
        let mut left = LINES.to_vec();
        for _ in 0..lines.min(left.len()) {
            let line = left.swap_remove(random.index(left.len()));
            run_line(line, path.to_str().unwrap(), &kernel, dir.path());
        }
        fs::remove_file(path).unwrap();
    }
}

/// Command lines of the verbs that read files. `serve` ends with its input, which is empty.
const LINES: [&str; 24] = [
    "info FILE",
    "verify FILE",
    "verify --deep --verbose --kernel KERNEL FILE",
    "compare FILE FILE",
    "convert --none FILE OUT",
    "convert --zstd FILE OUT",
    "convert --to elf --kernel KERNEL FILE OUT",
    "convert --to full --kernel KERNEL FILE OUT",
    "salvage FILE OUT",
    "salvage --proven FILE OUT",
    "read FILE 0x1000 16 --phys",
    "read FILE hz 4 --force-kernel --kernel KERNEL",
    "dmesg FILE",
    "ps FILE --force-kernel --kernel KERNEL",
    "threads FILE --force-kernel --kernel KERNEL",
    "triage FILE --force-kernel --kernel KERNEL",
    "export FILE OUT",
    "serve --stdio FILE --force-kernel --kernel KERNEL",
    "mem ranges --image FILE",
    "mem read --image FILE 0x1000 16",
    "take -q --image FILE --kernel KERNEL -o OUT",
    "synth -q FILE -o OUT",
    "verify --deep --kernel FILE FILE",
    "ps FILE --kernel FILE",
];

/// The kernel of a machine, written to `dir`.
fn kernel(dir: &Path) -> String {
    let out = dir.join("machine");
    let tiny = machine("tiny");
    run([
        "synth",
        "-q",
        tiny.to_str().unwrap(),
        "-o",
        out.to_str().unwrap(),
    ])
    .expect(0);
    out.join("kernel").to_str().unwrap().to_owned()
}

/// Runs a command line in the small address space. It must end with a documented exit code.
#[track_caller]
fn run_line(line: &str, file: &str, kernel: &str, dir: &Path) {
    let out = dir.join("out");
    let args = line.split(' ').map(|word| match word {
        "FILE" => file,
        "KERNEL" => kernel,
        "OUT" => out.to_str().unwrap(),
        word => word,
    });
    let run = run_within(MIB, args);
    let is_code = matches!(run.code, 0..=4 | 63 | 64);
    assert!(is_code, "{line}, {file}: {} {}", run.code, run.err);
    assert!(
        run.out.len() < 16 << 20,
        "{line}, {file}: {} bytes",
        run.out.len()
    );
    let _ = fs::remove_file(&out);
    let _ = fs::remove_dir_all(&out);
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
