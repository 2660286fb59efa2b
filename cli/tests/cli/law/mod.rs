//! Consistency of the verifier and the other verbs on damaged dumps of every format.

mod check;
mod nested;

use std::path::Path;

use livecore_tests::corpus::recipes;
use livecore_tests::mkdump;

use crate::harness::run;

const MACHINE: &str = "minidump amd64 3
kernbase 0xffffffff80000000
kernend 0xffffffffc0000000
avail 0x1000 0x9000
avail 0x200000 0x20a000
msgbuf text \"---<<BOOT>>---\\n\"
page 0x1000 text \"the first page of the machine\"
page 0x3000 own
pages 0x200000 4 seed 1
map 0xffffffff80200000 0x200000 2M rx
table 0xffffffff80400000 0x209000
map 0xffffffff80400000 0x1000 4K rw
";

const FULL: &str = "fulldump amd64
avail 0x1000 0x9000
avail 0x200000 0x20a000
page 0x1000 own
pages 0x200000 4 seed 1
";

const FORMS: [&str; 15] = [
    "",
    "compress gzip\n",
    "compress gzip members 12288\n",
    "compress zstd\n",
    "compress zstd sized\n",
    "compress zstd frames 12288\n",
    "compress zstd frames 4096\n",
    "container live\n",
    "container live\ncompress gzip\n",
    "container live\ncompress zstd\n",
    "container device\n",
    "container device\ncompress zstd\n",
    "container sealed\nframe 8192\n",
    "container sealed\nframe 8192\ncompress gzip\n",
    "container sealed\nframe 8192\ncompress zstd\n",
];

/// Formats of full dumps; the builder seals none of them.
const FULL_FORMS: [&str; 5] = [
    "",
    "compress zstd frames 4096\n",
    "compress gzip members 4096\n",
    "container live\ncompress zstd\n",
    "container device\n",
];

/// Options of `convert`, whose seals have the current version.
const WRITTEN: [[&str; 2]; 5] = [
    ["--none", "--container=sealed"],
    ["--gzip", "--container=sealed"],
    ["--zstd", "--container=sealed"],
    ["--gzip", "--container=raw"],
    ["--zstd", "--container=raw"],
];

/// All formats of the two dumps, with their names.
fn forms(dir: &Path) -> Vec<(String, Vec<u8>)> {
    let mut forms = Vec::new();
    let kinds = [
        ("minidump", MACHINE, &FORMS[..]),
        ("full", FULL, &FULL_FORMS[..]),
    ];
    for (kind, machine, built) in kinds {
        for form in built {
            let name = format!("{kind}, {}", form.trim().replace('\n', ", "));
            forms.push((name, mkdump::build(&format!("{machine}{form}")).unwrap()));
        }
        let [plain, out] = ["plain", "out"].map(|name| dir.join(name));
        std::fs::write(&plain, mkdump::build(machine).unwrap()).unwrap();
        for how in WRITTEN {
            let args = [
                "convert",
                "-q",
                "--force",
                "--frame-size=8K",
                how[0],
                how[1],
            ];
            let files = [plain.as_os_str(), out.as_os_str()];
            run(args.iter().map(AsRef::as_ref).chain(files)).expect(0);
            let bytes = std::fs::read(&out).unwrap();
            forms.push((format!("{kind}, {}", how.join(" ")), bytes));
        }
    }
    forms
}

/// A pseudorandom sequence, the same in every run.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        // Far below 2^32.
        (self.0 >> 16) as usize % limit.max(1)
    }
}

/// Variants of the dump: truncated, extended, with flipped bits, with zeroed or moved blocks.
fn damaged(dump: &[u8], random: &mut Random, flips: usize) -> Vec<(String, Vec<u8>)> {
    let mut all = vec![("whole".into(), dump.to_vec())];
    let len = dump.len();
    for cut in [len - 1, len - 33, len - 600, len / 2, len / 5] {
        all.push((format!("cut at {cut}"), dump[..cut].to_vec()));
    }
    let zeros = [0; 70_000];
    for more in [&b"garbage"[..], &zeros[..512], &zeros, &dump[..200], dump] {
        let what = format!("{} bytes more", more.len());
        all.push((what, [dump, more].concat()));
    }
    // The signatures of frames, members, seals and headers.
    let magics: [&[u8]; 5] = [
        b"\x28\xb5\x2f\xfd",
        b"\x1f\x8b\x08",
        b"LVCR",
        b"FreeBSD Kernel",
        b"minidump",
    ];
    for magic in magics {
        let places = dump.windows(magic.len()).enumerate();
        let places: Vec<_> = places
            .filter(|(_, w)| *w == magic)
            .map(|(at, _)| at)
            .collect();
        for _ in 0..places.len().min(2) {
            let at = places[random.below(places.len())] + random.below(magic.len() + 2);
            let mut bytes = dump.to_vec();
            if at < len {
                bytes[at] ^= 1 << random.below(8);
                all.push((format!("a bit at {at}"), bytes));
            }
        }
    }
    all.extend(damaged_frame(dump, random));
    // The seal's end, or the header's.
    for _ in 0..2 {
        let (at, mut bytes) = (len - 1 - random.below(130), dump.to_vec());
        bytes[at] ^= 1 << random.below(8);
        all.push((format!("a bit at {at}"), bytes));
    }
    for _ in 0..flips {
        let (at, mut bytes) = (random.below(len), dump.to_vec());
        bytes[at] ^= 1 << random.below(8);
        all.push((format!("a bit at {at}"), bytes));
    }
    for block in [64, 4096] {
        let (at, mut bytes) = (random.below(len), dump.to_vec());
        let end = len.min(at + block);
        bytes[at..end].fill(0);
        all.push((format!("zeros at {at}..{end}"), bytes));
        let (at, mut bytes) = (random.below(len), dump.to_vec());
        bytes.drain(at..len.min(at + block));
        all.push((format!("{block} bytes gone at {at}"), bytes));
    }
    all
}

/// One frame filled with zeros, removed, and doubled, and the stream cut in front of it.
fn damaged_frame(dump: &[u8], random: &mut Random) -> Vec<(String, Vec<u8>)> {
    let begins = |w: &[u8]| w.starts_with(b"\x28\xb5\x2f\xfd") || w.starts_with(b"\x1f\x8b\x08");
    let starts = dump.windows(4).enumerate().filter(|(_, w)| begins(w));
    let starts: Vec<_> = starts.map(|(at, _)| at).collect();
    if starts.len() < 2 {
        return Vec::new();
    }
    let number = random.below(starts.len());
    let start = starts[number];
    let end = starts.get(number + 1).copied().unwrap_or(dump.len());
    let (before, frame, after) = (&dump[..start], &dump[start..end], &dump[end..]);
    let zeros = vec![0; frame.len()];
    let place = format!("{start}..{end}");
    vec![
        (
            format!("zeros at {place}"),
            [before, &zeros, after].concat(),
        ),
        (format!("{place} gone"), [before, after].concat()),
        (
            format!("{place} twice"),
            [before, frame, frame, after].concat(),
        ),
        (format!("cut at {start}"), before.to_vec()),
    ]
}

#[test]
fn verify_agrees_with_the_other_verbs_on_every_recipe() {
    let dir = tempfile::tempdir().unwrap();
    let mut wrong = Vec::new();
    for recipe in recipes().unwrap() {
        let bytes = mkdump::build(&recipe.text).unwrap();
        if let Err(why) = check::check(&bytes, dir.path(), None) {
            wrong.push(format!("{}: {why}", recipe.name));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// `LIVECORE_FAULTS` sets the number of bits that are flipped in each format, one after the other.
#[test]
fn verify_agrees_with_the_other_verbs_on_damaged_dumps() {
    let flips = std::env::var("LIVECORE_FAULTS")
        .ok()
        .and_then(|n| n.parse().ok());
    let dir = tempfile::tempdir().unwrap();
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    let mut wrong = Vec::new();
    for (form, dump) in forms(dir.path()) {
        for (what, bytes) in damaged(&dump, &mut random, flips.unwrap_or(4)) {
            if let Err(why) = check::check(&bytes, dir.path(), None) {
                wrong.push(format!("{form}, {what}: {why}"));
            }
        }
    }
    assert!(
        wrong.is_empty(),
        "{} wrong:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
}
