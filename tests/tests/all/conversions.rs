//! Conversions, with the builder and other people's decoders as witnesses.

use std::io::{Read as _, Write as _};
use std::process::{Command, Stdio};
use std::sync::Arc;

use livecore_compress::{Codec, Encoding, NoProgress, ReadAt};
use livecore_minidump::convert::{Target, convert};
use livecore_minidump::{Container, Dump, KernelMemory, OpenOptions, PhysAddr};
use livecore_tests::corpus::recipes;
use livecore_tests::expect::Verdict;
use livecore_tests::machines::{self, machine};
use livecore_tests::mkdump::{self, Built};
use livecore_verify::compare::Answer;

const CONTAINERS: [Container; 3] = [Container::Saved, Container::Raw, Container::Sealed];
const CODECS: [Codec; 3] = [Codec::None, Codec::Gzip, Codec::Zstd];

fn open(bytes: &[u8]) -> Dump {
    Dump::from_source(Arc::new(bytes.to_vec()), &OpenOptions::default()).unwrap()
}

fn converted(bytes: &[u8], container: Container, codec: Codec) -> Vec<u8> {
    let mut encoding = Encoding::new(codec);
    // Small frames, so that small dumps have several.
    encoding.frame_size = 16384;
    let mut out = Vec::new();
    let target = Target {
        container,
        encoding,
    };
    convert(&open(bytes), &target, &mut out, &NoProgress).unwrap();
    out
}

/// The comparison of two dumps, which derives everything itself, says that they are the same.
fn assert_same(before: &[u8], after: &[u8], pages: usize, what: &str) {
    let sources: [Arc<dyn ReadAt>; 2] = [Arc::new(before.to_vec()), Arc::new(after.to_vec())];
    let options = livecore_verify::Options::default();
    let found =
        livecore_verify::compare::compare(sources, ["before", "after"], &options, &NoProgress);
    assert_eq!(found.answer, Answer::Same, "{what}: {:#}", found.value());
    assert_eq!(found.same, pages as u64, "{what}");
}

/// Sound recipes and a few random machines: saved and live dumps of every codec.
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

/// Every container and codec for a few dumps, and two for each of the others.
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
fn a_converted_dump_has_the_same_payload_and_the_same_pages() {
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
            assert!(back == built.payload, "{what}: another payload");
            assert_eq!(
                payload.size().unwrap(),
                built.payload.len() as u64,
                "{what}"
            );
            let oracle = built.oracle.as_ref().unwrap();
            for (pa, content) in &oracle.pages {
                let mut page = vec![0; content.len()];
                dump.read_phys(PhysAddr(*pa), &mut page).unwrap();
                assert!(page == *content, "{what}: page {pa:#x} is another");
            }
            assert_same(&built.bytes, &out, oracle.pages.len(), &what);
        }
    }
}

/// The stream ends where the seal or the padding begins; decoders are to stop there or
/// to see nothing in it.
#[test]
fn other_decoders_find_the_payload_in_saved_and_sealed_files() {
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
fn the_programs_gzip_and_zstd_decode_what_we_write_without_a_warning() {
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
            let said = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success(), "{program}, {container}: {said}");
            assert_eq!(said, "", "{program}, {container}");
            assert!(output.stdout == built.payload, "{program}, {container}");
        }
    }
}

/// What a kernel would have written is known to the byte where nothing is compressed.
#[test]
fn a_compressed_live_dump_unpacks_to_the_live_file_of_an_uncompressed_one() {
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

/// The version that the seal at the end of `bytes` states.
fn seal_version(bytes: &[u8]) -> u16 {
    let magic = b"LVCRSEAL";
    let at = bytes.windows(8).rposition(|w| w == magic).unwrap();
    u16::from_le_bytes([bytes[at + 8], bytes[at + 9]])
}

/// The builder seals in version 1, by another hand than ours.
#[test]
fn sealed_dumps_of_version_1_are_read_and_become_version_2_when_converted() {
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
