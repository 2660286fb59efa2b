//! Conversions, checked against the independent builder and other decoders.

use std::io::{Read as _, Write as _};
use std::process::{Command, Stdio};

use livecore_compress::{Codec, ReadAt};
use livecore_minidump::{Container, KernelMemory, PhysAddr};
use livecore_tests::corpus::recipes;
use livecore_tests::expect::Verdict;
use livecore_tests::machines::{self, machine};
use livecore_tests::mkdump::{self, Built};
use livecore_verify::compare::Answer;

use crate::dumps::{CODECS, CONTAINERS, compared, open, target};

/// Converts with small frames, so that small dumps have several.
fn converted(bytes: &[u8], container: Container, codec: Codec) -> Vec<u8> {
    crate::dumps::converted(bytes, &target(container, codec, 16384))
}

fn assert_same(before: &[u8], after: &[u8], pages: usize, what: &str) {
    let found = compared(before, after);
    assert_eq!(found.answer, Answer::Same, "{what}: {:#}", found.value());
    assert_eq!(found.same, pages as u64, "{what}");
}

/// Sound recipes and random machines: saved and live dumps in every codec.
fn dumps() -> Vec<(String, Built)> {
    let wanted = [
        "live",
        "saved-",
        "amd64-v3",
        "arm64-v3",
        "powerpc64-v2",
        "mips64-v2",
    ];
    let mut found: Vec<_> = recipes()
        .unwrap()
        .into_iter()
        .filter(|r| {
            r.expectation
                .as_ref()
                .is_some_and(|e| e.verdict == Verdict::Sound)
        })
        .filter(|r| wanted.iter().any(|name| r.name.starts_with(name)))
        .map(|r| (r.name, mkdump::build_all(&r.text).unwrap()))
        .collect();
    for (seed, kind) in machines::kinds().iter().enumerate() {
        let text = machine(kind, seed as u64).replace("container device", "container live");
        let name = format!("{} version {} seed {seed}", kind.architecture, kind.version);
        found.push((name, mkdump::build_all(&text).unwrap()));
    }
    assert!(found.len() > 30);
    found
}

/// Every container and codec for the first dumps, two combinations for each of the others.
fn grid(index: usize) -> Vec<(Container, Codec)> {
    let all: Vec<_> = CONTAINERS
        .iter()
        .flat_map(|c| CODECS.iter().map(move |codec| (*c, *codec)))
        .collect();
    match index {
        0..=3 => all,
        _ => vec![all[index % 9], all[(index * 5 + 3) % 9]],
    }
}

#[test]
fn conversion_preserves_payload_and_pages() {
    for (index, (name, built)) in dumps().into_iter().enumerate() {
        for (container, codec) in grid(index) {
            let out = converted(&built.bytes, container, codec);
            let dump = open(&out);
            let what = format!("{name} as {container} {codec:?}");
            assert_eq!(
                (dump.envelope().container(), dump.envelope().codec()),
                (container, codec),
                "{what}"
            );
            assert!(
                dump.envelope().warnings().is_empty(),
                "{what}: {:?}",
                dump.envelope().warnings()
            );
            let payload = dump.payload();
            let mut back = vec![0; built.payload.len()];
            payload.read_exact_at(&mut back, 0).unwrap();
            assert!(back == built.payload, "{what}: payload differs");
            assert_eq!(
                payload.size().unwrap(),
                built.payload.len() as u64,
                "{what}"
            );
            let oracle = built.oracle.as_ref().unwrap();
            for (pa, content) in &oracle.pages {
                let mut page = vec![0; content.len()];
                dump.read_phys(PhysAddr(*pa), &mut page).unwrap();
                assert!(page == *content, "{what}: page {pa:#x} differs");
            }
            assert_same(&built.bytes, &out, oracle.pages.len(), &what);
        }
    }
}

#[test]
fn other_decoders_decode_saved_and_sealed_files_to_the_payload() {
    for (index, (name, built)) in dumps().into_iter().enumerate().step_by(3) {
        let container = if index % 2 == 0 {
            Container::Sealed
        } else {
            Container::Saved
        };
        let gzip = converted(&built.bytes, container, Codec::Gzip);
        let mut back = Vec::new();
        flate2::read::MultiGzDecoder::new(&gzip[..])
            .read_to_end(&mut back)
            .unwrap();
        assert!(back == built.payload, "{name}: gzip, {container}");
        let zstd = converted(&built.bytes, container, Codec::Zstd);
        let back = zstd::stream::decode_all(&zstd[..]).unwrap();
        assert!(back == built.payload, "{name}: zstd, {container}");
        let plain = converted(&built.bytes, container, Codec::None);
        assert!(
            plain.starts_with(&built.payload),
            "{name}: plain, {container}"
        );
        assert!(
            container == Container::Sealed || plain == built.payload,
            "{name}"
        );
    }
}

#[test]
fn gzip_and_zstd_programs_decode_without_warnings() {
    let text = "minidump amd64 3
        kernbase 0xffffffff80000000
        avail 0x1000 0x100000
        pages 0x1000 20 seed 1
        pages 0x40000 20 own";
    let built = mkdump::build_all(text).unwrap();
    for (program, codec) in [("gzip", Codec::Gzip), ("zstd", Codec::Zstd)] {
        for container in [Container::Saved, Container::Sealed] {
            let file = converted(&built.bytes, container, codec);
            let mut child = Command::new(program)
                .args(["-d", "-c"])
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .stderr(Stdio::piped())
                .spawn()
                .unwrap_or_else(|error| panic!("{program}: {error}"));
            let mut stdin = child.stdin.take().unwrap();
            let writer = std::thread::spawn(move || stdin.write_all(&file));
            let output = child.wait_with_output().unwrap();
            writer.join().unwrap().unwrap();
            let stderr = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success(), "{program}, {container}: {stderr}");
            assert_eq!(stderr, "", "{program}, {container}");
            assert!(output.stdout == built.payload, "{program}, {container}");
        }
    }
}

#[test]
fn compressed_live_dump_converts_to_the_bytes_of_the_uncompressed_live_dump() {
    let machine = "minidump arm64 3
        pagesize 16K
        avail 0x800000000 0x800020000
        pages 0x800000000 3 seed 4
        container live
        set kdh.hostname = \"one.example\"
        set kdh.panicstring = \"\"
        set kdh.dumptime = 1714557600";
    let plain = mkdump::build(machine).unwrap();
    for codec in ["gzip", "zstd", "none"] {
        let packed = mkdump::build(&format!("{machine}\ncompress {codec}")).unwrap();
        assert!(
            converted(&packed, Container::Raw, Codec::None) == plain,
            "{codec}"
        );
        let sealed = converted(&packed, Container::Sealed, Codec::Zstd);
        assert!(
            converted(&sealed, Container::Raw, Codec::None) == plain,
            "{codec}, sealed"
        );
    }
}

/// The version in the seal at the end of `bytes`.
fn seal_version(bytes: &[u8]) -> u16 {
    let magic = b"LVCRSEAL";
    let at = bytes.windows(8).rposition(|w| w == magic).unwrap();
    u16::from_le_bytes([bytes[at + 8], bytes[at + 9]])
}

/// The independent builder writes seals of version 1.
#[test]
fn version_1_seals_are_read_and_converted_to_version_2() {
    let recipes = recipes().unwrap();
    for (name, codec) in [
        ("sealed-none", Codec::None),
        ("sealed-gzip", Codec::Gzip),
        ("sealed-zstd", Codec::Zstd),
    ] {
        let recipe = recipes.iter().find(|r| r.name == name).unwrap();
        let built = mkdump::build_all(&recipe.text).unwrap();
        assert_eq!(seal_version(&built.bytes), 1, "{name}");
        let dump = open(&built.bytes);
        assert!(
            dump.envelope().warnings().is_empty(),
            "{name}: {:?}",
            dump.envelope().warnings()
        );
        let mut payload = vec![0; built.payload.len()];
        dump.payload().read_exact_at(&mut payload, 0).unwrap();
        assert!(payload == built.payload, "{name}");
        let new = converted(&built.bytes, Container::Sealed, codec);
        assert_eq!(seal_version(&new), 2, "{name}");
        let pages = built.oracle.as_ref().unwrap().pages.len();
        assert_same(&built.bytes, &new, pages, name);
    }
}
