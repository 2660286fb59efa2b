//! Damage to dumps that this program wrote: truncated files and flipped bits.
//!
//! `info` provides the offsets of the sections. The expected results follow from whether a
//! container records its own length.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::harness::{Run, machine, names, run, run_within};

/// Address space limit of a run on a damaged dump of 14 MB.
const MEMORY_MIB: u64 = 512;

/// Length of the magic, `minidump FreeBSD/amd64`. FreeBSD sys/amd64/include/minidump.h.
const MAGIC: u64 = 22;

fn dump(dir: &Path, name: &str, codec: &str, container: &str) -> PathBuf {
    let path = dir.join(name);
    let tiny = machine("tiny");
    let args = ["take", "-q", codec, "--container", container, "--machine"].map(AsRef::as_ref);
    let files = [tiny.as_os_str(), "-o".as_ref(), path.as_os_str()];
    run(args.into_iter().chain(files)).expect(0);
    path
}

fn on(verb: &str, path: &Path) -> Run {
    run_within(MEMORY_MIB, [verb.as_ref(), path.as_os_str()])
}

fn info(path: &Path) -> Value {
    let answer = run(["info".as_ref(), path.as_os_str(), "--json".as_ref()]).expect(0);
    serde_json::from_slice(&answer.out).unwrap()
}

/// Name, offset and size of all sections of the payload.
fn sections(path: &Path) -> Vec<(String, u64, u64)> {
    let info = info(path);
    let sections = info["sections"].as_array().unwrap().iter();
    sections
        .map(|s| {
            (
                s["name"].as_str().unwrap().to_string(),
                s["offset"].as_u64().unwrap(),
                s["size"].as_u64().unwrap(),
            )
        })
        .collect()
}

/// Offsets to cut at: at the start, after the first byte, in the middle and before the last byte of
/// each section.
fn cuts(sections: &[(String, u64, u64)]) -> Vec<(&str, u64)> {
    sections
        .iter()
        .flat_map(|(name, start, size)| {
            let places = [0, 1, size / 2, size - 1];
            places.map(|at| (name.as_str(), start + at))
        })
        .filter(|(_, at)| *at > 0)
        .collect()
}

fn one_line(run: &Run, what: &str) {
    assert_eq!(run.err.lines().count(), 1, "{what}: {}", run.err);
    assert!(run.err.starts_with("livecore: "), "{what}: {}", run.err);
}

/// A bare file may have lost zeros at its end; any other truncated file is broken.
#[test]
fn truncated_bare_file_is_a_warning_in_its_pages_and_broken_before() {
    let dir = tempfile::tempdir().unwrap();
    let whole = dump(dir.path(), "whole", "--none", "saved");
    let bytes = fs::read(&whole).unwrap();
    let sections = sections(&whole);
    let pages = sections.iter().find(|s| s.0 == "pages").unwrap().1;
    let cut = dir.path().join("cut");
    for (name, at) in cuts(&sections) {
        fs::write(&cut, &bytes[..at as usize]).unwrap();
        let what = format!("cut at {at:#x}, in {name}");
        let code = match at {
            // The magic is incomplete, so the file is not recognized as a dump.
            ..MAGIC => 63,
            at if at < pages => 2,
            _ => 3,
        };
        for verb in ["info", "dmesg"] {
            let run = on(verb, &cut);
            // The message buffer is complete even if pages are missing.
            let code = if verb == "dmesg" && code == 3 {
                0
            } else {
                code
            };
            assert_eq!(run.code, code, "{verb} of a dump {what}: {}", run.err);
            if code != 0 {
                one_line(&run, &what);
            }
        }
        let verdict = on("verify", &cut);
        assert_eq!(verdict.code, code, "verify, {what}: {}", verdict.text());
        let strict = ["verify".as_ref(), "--strict".as_ref(), cut.as_os_str()];
        assert_eq!(
            run(strict).code,
            if code == 3 { 2 } else { code },
            "verify --strict, {what}"
        );
    }
}

/// Raw and sealed files record their length, so every truncation is detected.
#[test]
fn truncated_raw_or_sealed_file_is_never_sound() {
    let dir = tempfile::tempdir().unwrap();
    let plain = dump(dir.path(), "plain", "--none", "saved");
    let sections = sections(&plain);
    let cut = dir.path().join("cut");
    for (name, codec) in [("a", "--none"), ("b", "--gzip"), ("c", "--zstd")] {
        for container in ["raw", "sealed"] {
            let whole = dump(dir.path(), &format!("{name}{container}"), codec, container);
            let bytes = fs::read(&whole).unwrap();
            let len = bytes.len() as u64;
            let mut places = vec![("its last byte", len - 1), ("its header", len - 511)];
            places.extend([("its middle", len / 2), ("its last third", len * 2 / 3)]);
            if codec == "--none" {
                places.extend(cuts(&sections));
            }
            for (place, at) in places {
                fs::write(&cut, &bytes[..at as usize]).unwrap();
                let what = format!("{container} {codec} cut at {at:#x}, in {place}");
                let verdict = on("verify", &cut);
                let expected = if at < MAGIC { &[63][..] } else { &[2, 3] };
                assert!(expected.contains(&verdict.code), "{what}: {}", verdict.code);
                let strict = ["verify".as_ref(), "--strict".as_ref(), cut.as_os_str()];
                assert_eq!(run(strict).code, if at < MAGIC { 63 } else { 2 }, "{what}");
                let out = dir.path().join("out");
                let args = ["convert", "-q", "--container", "saved"].map(AsRef::as_ref);
                let files = [cut.as_os_str(), out.as_os_str()];
                let converted = run(args.into_iter().chain(files));
                assert_ne!(converted.code, 0, "{what}");
                let errors = converted.err.lines().filter(|l| !l.contains(": warning: "));
                assert_eq!(errors.count(), usize::from(converted.code != 3), "{what}");
                if out.exists() {
                    assert_eq!(converted.code, 3, "{what}");
                    fs::remove_file(&out).unwrap();
                }
            }
            fs::remove_file(whole).unwrap();
        }
    }
    let left = names(dir.path());
    assert!(left.iter().all(|n| !n.contains(".tmp.")), "{left:?}");
}

/// Fields of `struct kerneldumpheader`: offset and size. FreeBSD sys/sys/kerneldump.h.
const KERNELDUMPHEADER: [(&str, usize, usize); 14] = [
    ("magic", 0, 20),
    ("architecture", 20, 12),
    ("version", 32, 4),
    ("architectureversion", 36, 4),
    ("dumplength", 40, 8),
    ("dumptime", 48, 8),
    ("dumpkeysize", 56, 4),
    ("blocksize", 60, 4),
    ("hostname", 64, 64),
    ("versionstring", 128, 192),
    ("panicstring", 320, 175),
    ("compression", 495, 1),
    ("dumpextent", 496, 8),
    ("parity", 508, 4),
];

#[test]
fn flipped_bit_in_any_kerneldumpheader_field_is_found() {
    let dir = tempfile::tempdir().unwrap();
    let whole = dump(dir.path(), "whole", "--none", "raw");
    let mut bytes = fs::read(&whole).unwrap();
    let header = bytes.len() - 512;
    let damaged = dir.path().join("damaged");
    for (field, start, len) in KERNELDUMPHEADER {
        for (byte, bit) in [(start, 0), (start + len / 2, 3), (start + len - 1, 7)] {
            bytes[header + byte] ^= 1 << bit;
            fs::write(&damaged, &bytes).unwrap();
            bytes[header + byte] ^= 1 << bit;
            let what = format!("bit {bit} of byte {byte}, {field}");
            let verdict = on("verify", &damaged);
            assert!(
                [2, 3, 63].contains(&verdict.code),
                "{what}: {}: {}",
                verdict.code,
                verdict.text()
            );
            let info = on("info", &damaged);
            assert!([2, 3, 63].contains(&info.code), "{what}: {}", info.code);
            assert!(!info.err.is_empty(), "{what}");
        }
    }
}

/// The minidump header has no checksum: only contradictions are found. The digests of a sealed file
/// find every flipped bit.
#[test]
fn flipped_bit_anywhere_in_a_sealed_file_is_found() {
    let dir = tempfile::tempdir().unwrap();
    let damaged = dir.path().join("damaged");
    for (name, codec) in [("a", "--none"), ("b", "--gzip"), ("c", "--zstd")] {
        let whole = dump(dir.path(), name, codec, "sealed");
        let mut bytes = fs::read(&whole).unwrap();
        let len = bytes.len();
        // The minidump header, pages, and all regions of the seal at the end.
        let places = [0, 10, 24, 30, 40, 70, 4095, len / 3, len / 2, len * 3 / 4]
            .into_iter()
            .chain((1..32).map(|i| len - i))
            .chain((1..20).map(|i| len - 40 * i));
        for (n, at) in places.enumerate() {
            let bit = n % 8;
            bytes[at] ^= 1 << bit;
            fs::write(&damaged, &bytes).unwrap();
            bytes[at] ^= 1 << bit;
            let verdict = on("verify", &damaged);
            assert!(
                [2, 63].contains(&verdict.code) || verdict.code == 3,
                "{codec}: bit {bit} of byte {at:#x} of {len:#x}: {}: {}",
                verdict.code,
                verdict.text()
            );
        }
    }
}

#[test]
fn kernel_that_is_not_in_the_image_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let to = |name: &str| dir.path().join(name).to_str().unwrap().to_string();
    let tiny = machine("tiny");
    run(["synth", "-q", tiny.to_str().unwrap(), "--out", &to("m")]).expect(0);
    let image = [
        "take",
        "--image",
        &to("m/ram"),
        "-o",
        &to("out"),
        "--kernel",
    ];
    let image = image.map(str::to_string).to_vec();
    let take = |kernel: &str| run(image.iter().cloned().chain([kernel.to_string()]));
    // Not an ELF file; a missing file; the kernel of a machine whose memory is zeros.
    for (kernel, codes) in [(to("m/ram"), &[2, 63][..]), (to("absent"), &[1])] {
        let run = take(&kernel);
        assert!(
            codes.contains(&run.code),
            "{kernel}: {}: {}",
            run.code,
            run.err
        );
        one_line(&run, &kernel);
    }
    fs::write(dir.path().join("zeros"), vec![0; 16 << 20]).unwrap();
    let (zeros, kernel, out) = (to("zeros"), to("m/kernel"), to("out"));
    let refused = run(["take", "--image", &zeros, "--kernel", &kernel, "-o", &out]).expect(2);
    one_line(&refused, "zeros");
    assert!(!Path::new(&out).exists());
}

/// A kernel's own stream has one checksum at its end. A verb that printed data before it exits with
/// 2; a conversion leaves no file.
#[test]
fn wrong_checksum_of_a_foreign_stream_fails_every_verb_that_read_it() {
    let dir = tempfile::tempdir().unwrap();
    let own = dump(dir.path(), "own", "--none", "saved");
    let [whole, wrong, out] = ["whole", "wrong", "out"].map(|name| dir.path().join(name));
    let of = |verb: &str, path: &Path| run([verb.as_ref(), "-q".as_ref(), path.as_os_str()]);
    for (tool, from_end) in [("zstd", 1), ("gzip", 5)] {
        let stored = Command::new(tool).args(["-q", "-c"]).arg(&own).output();
        let mut bytes = stored.unwrap().stdout;
        fs::write(&whole, &bytes).unwrap();
        let at = bytes.len() - from_end;
        bytes[at] ^= 1;
        fs::write(&wrong, &bytes).unwrap();

        let text = of("dmesg", &whole).expect(0).out;
        assert!(!text.is_empty());
        let answer = of("dmesg", &wrong).expect(2);
        assert_eq!(answer.out, text);
        one_line(&answer, tool);
        // Physical memory as well.
        let read = |path: &Path| {
            let args = ["read", "-q", "--phys", "--raw"].map(AsRef::as_ref);
            let more = [path.as_os_str(), "0x1000".as_ref(), "64".as_ref()];
            run(args.into_iter().chain(more))
        };
        let memory = read(&whole).expect(0).out;
        assert_eq!(memory.len(), 64);
        let answer = read(&wrong).expect(2);
        assert_eq!(answer.out, memory);
        one_line(&answer, tool);
        // The answer comes first, from the start of the file.
        let answer = of("info", &wrong).expect(2);
        assert!(answer.text().contains("payload:"), "{}", answer.text());
        one_line(&answer, tool);
        for kind in ["--none", "--zstd"] {
            let args = ["convert", "-q", kind].map(AsRef::as_ref);
            let files = [wrong.as_os_str(), out.as_os_str()];
            let answer = run(args.into_iter().chain(files)).expect(2);
            one_line(&answer, kind);
            assert!(!out.exists(), "{kind}");
        }
    }
}

/// RFC 8878, 3.1.1.1.2: the window descriptor follows the frame header descriptor.
#[test]
fn zstd_window_that_is_too_small_is_broken_in_every_verb_and_salvaged_by_its_checksum() {
    let dir = tempfile::tempdir().unwrap();
    let own = dump(dir.path(), "own", "--none", "saved");
    let [narrow, kept] = ["narrow.zst", "kept"].map(|name| dir.path().join(name));
    let mut encoder = zstd::Encoder::new(Vec::new(), 3).unwrap();
    encoder.include_checksum(true).unwrap();
    std::io::copy(&mut fs::File::open(&own).unwrap(), &mut encoder).unwrap();
    let mut bytes = encoder.finish().unwrap();
    assert_eq!(bytes[4] & 0x20, 0, "the frame has a window descriptor");
    bytes[5] = 0;
    fs::write(&narrow, &bytes).unwrap();
    for verb in ["verify", "info", "dmesg"] {
        run([verb.as_ref(), narrow.as_os_str()]).expect(2);
    }
    let files = [narrow.as_os_str(), kept.as_os_str()];
    run(["convert".as_ref(), files[0], files[1]]).expect(2);
    run(["salvage".as_ref(), files[0], files[1]]).expect(3);
    run(["compare".as_ref(), own.as_os_str(), kept.as_os_str()]).expect(0);
}
