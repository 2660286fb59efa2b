//! Findings: their locations and counts, for any number of threads.

use crate::common;

use std::num::NonZeroUsize;

use common::{build, describe, seal, verify};
use livecore_compress::Codec;
use livecore_verify::{Options, Report, Verdict};

const FRAME: usize = 65536;
const CODECS: [Codec; 3] = [Codec::None, Codec::Gzip, Codec::Zstd];

fn errors(report: &Report) -> Vec<&livecore_verify::Finding> {
    let findings = report.findings.iter();
    findings
        .filter(|f| f.rule.severity == livecore_verify::Severity::Error)
        .collect()
}

/// The start of each frame of a sealed file, by the index, and the end of the last one.
fn frames(file: &[u8]) -> Vec<usize> {
    let seal = file.windows(8).position(|w| w == b"LVCRSEAL").unwrap();
    let word = |at: usize| u32::from_le_bytes(file[at..at + 4].try_into().unwrap()) as usize;
    let (count, attached) = (word(seal + 32), word(seal + 40));
    // These dumps' seals fit in one gzip member.
    let index = seal + 72 + attached;
    let mut starts = vec![0];
    for k in 0..count {
        starts.push(starts[k] + word(index + 12 * k));
    }
    starts
}

#[test]
fn many_findings_of_one_rule_are_counted_and_some_are_shown() {
    let mut payload = build("").payload;
    let word = |at: usize| u32::from_le_bytes(payload[at..at + 4].try_into().unwrap()) as usize;
    let (msgbuf, bitmap, pmap) = (word(28), word(32), word(36));
    let start = 4096 + msgbuf.next_multiple_of(4096) + 4096 + bitmap;
    let entries = pmap / 8;
    for entry in payload[start..start + pmap].chunks_exact_mut(8) {
        // A valid entry that points to a leaf table far above the machine's memory.
        entry.copy_from_slice(&0x0000_8000_0000_0001_u64.to_le_bytes());
    }
    for per_rule in [0, 1, 16] {
        let options = Options::default().per_rule(per_rule);
        let report = verify(&payload, &options);
        let outcome = &report.outcomes["PT-TABLE-OUTSIDE"];
        assert_eq!(outcome.broken, entries as u64);
        assert_eq!(outcome.checked, entries as u64);
        let shown = report.findings.iter();
        let shown = shown.filter(|f| f.rule.id == "PT-TABLE-OUTSIDE").count();
        assert_eq!(shown, per_rule);
        assert_eq!(
            report.not_shown("PT-TABLE-OUTSIDE"),
            (entries - per_rule) as u64
        );
        assert_eq!(report.verdict, Verdict::Warnings);
    }
}

#[test]
fn findings_do_not_depend_on_the_number_of_threads() {
    let payload = build("").payload;
    for codec in CODECS {
        let file = seal(&payload, codec, FRAME as u32);
        let starts = frames(&file);
        let mut damaged = vec![file[..file.len() - 300].to_vec()];
        for start in [starts[3], starts[9], starts[starts.len() - 2]] {
            // In the frame's header, in its first block, and in its magic.
            for (at, mask) in [(start + 4, 0x08), (start + 40, 0x10), (start + 3, 0xff)] {
                let mut bytes = file.clone();
                bytes[at] ^= mask;
                damaged.push(bytes);
            }
        }
        for bytes in damaged {
            let with = |threads| Options::default().threads(NonZeroUsize::new(threads).unwrap());
            let alone = verify(&bytes, &with(1));
            assert_ne!(alone.verdict, Verdict::Sound);
            assert_eq!(describe(&verify(&bytes, &with(4))), describe(&alone));
        }
    }
}

#[test]
fn a_malformed_frame_is_reported_with_its_number() {
    let payload = build("").payload;
    let file = seal(&payload, Codec::Zstd, FRAME as u32);
    let start = frames(&file)[11];
    let mut bytes = file;
    // The reserved bit of the frame's descriptor.
    bytes[start + 4] ^= 0x08;
    let options = Options::default().threads(NonZeroUsize::new(4).unwrap());
    let report = verify(&bytes, &options);
    let finding = errors(&report)
        .into_iter()
        .find(|f| f.rule.id == "ZSTD-FRAME");
    let finding = finding.unwrap_or_else(|| panic!("{}", describe(&report)));
    assert_eq!(finding.region, "zstd frame 11");
    assert_eq!(finding.offset, start as u64 + 4);
}

#[test]
fn a_fault_of_a_zstd_frame_breaks_its_rule() {
    let file = build("compress zstd\n").bytes;
    let last = file.len() - 1;
    // Descriptor: a checksum, no dictionary, no content size; then the window and the first block.
    assert_eq!(file[4], 0b100);
    #[expect(clippy::type_complexity, reason = "a table reads better in place")]
    let changes: [(&[&str], &dyn Fn(&mut Vec<u8>)); 6] = [
        (&["ZSTD-FRAME"], &|file| file[4] |= 0b1000),
        (&["ZSTD-CONTENT"], &|file| file[5] = 0xf8),
        (&["ZSTD-CONTENT", "ZSTD-DICTIONARY"], &|file| {
            file[4] |= 1;
            file.insert(6, 7);
        }),
        (&["ZSTD-FRAME"], &|file| file[6] |= 0b110),
        (&["ZSTD-CHECKSUM"], &|file| file[last] ^= 1),
        (&["ZSTD-TRUNCATED"], &|file| file.truncate(last)),
    ];
    for (expected, change) in changes {
        let mut bytes = file.clone();
        change(&mut bytes);
        let report = verify(&bytes, &Options::default());
        let ids = errors(&report).into_iter().map(|f| f.rule.id);
        let mut ids: Vec<_> = ids.filter(|id| id.starts_with("ZSTD-")).collect();
        ids.sort_unstable();
        assert_eq!(ids, expected, "{}", describe(&report));
    }
}

#[test]
fn a_sealed_dump_whose_beginning_is_lost_is_broken_and_not_foreign() {
    let payload = build("").payload;
    for codec in CODECS {
        let file = seal(&payload, codec, FRAME as u32);
        let mut zeroed = file.clone();
        zeroed[..512].fill(0);
        let mut moved = vec![0; 512];
        moved.extend(&file);
        for bytes in [zeroed, moved] {
            let report = verify(&bytes, &Options::default());
            assert_eq!(report.verdict, Verdict::Broken, "{}", describe(&report));
            let expected = match codec {
                Codec::None => "MD-MAGIC",
                Codec::Gzip => "GZIP-HEADER",
                Codec::Zstd => "ZSTD-FRAME",
            };
            let named = errors(&report).iter().any(|f| f.rule.id == expected);
            assert!(named, "{codec}: {}", describe(&report));
        }
    }
}

#[test]
fn bytes_after_a_seal_are_reported_at_its_end() {
    let payload = build("").payload;
    for codec in CODECS {
        let file = seal(&payload, codec, FRAME as u32);
        for more in [1, 8, 5000] {
            let mut bytes = file.clone();
            bytes.extend(std::iter::repeat_n(b'x', more));
            let report = verify(&bytes, &Options::default());
            let errors = errors(&report);
            assert_eq!(errors.len(), 1, "{}", describe(&report));
            let rule = match codec {
                Codec::None => "SEAL-LENGTH",
                Codec::Gzip => "SEAL-FOOTER",
                Codec::Zstd => "SEAL-SEEK-TABLE",
            };
            assert_eq!(errors[0].rule.id, rule);
            assert_eq!(errors[0].offset, file.len() as u64);
            let excerpt = errors[0].bytes.as_ref().unwrap();
            assert_eq!(excerpt.bytes, vec![b'x'; more.min(64)]);
        }
    }
}

#[test]
fn a_damaged_frame_and_a_damaged_index_entry_are_distinguished() {
    let payload = build("").payload;
    let file = seal(&payload, Codec::None, FRAME as u32);
    let mut frame = file.clone();
    frame[7 * FRAME + 100] ^= 1;
    let report = verify(&frame, &Options::default());
    let found = errors(&report);
    assert_eq!(found.len(), 1, "{}", describe(&report));
    assert_eq!(found[0].region, "frame 7");
    assert_eq!(found[0].offset, 7 * FRAME as u64);

    let seal = file.windows(8).position(|w| w == b"LVCRSEAL").unwrap();
    let attached = u32::from_le_bytes(file[seal + 40..seal + 44].try_into().unwrap());
    let entry = seal + 72 + attached as usize + 7 * 12;
    let mut index = file;
    index[entry + 5] ^= 1;
    let report = verify(&index, &Options::default());
    let regions: Vec<_> = errors(&report).iter().map(|f| &*f.region).collect();
    assert_eq!(regions, ["seal index", "seal index entry 7"]);
}

#[test]
fn a_kernel_map_without_the_kernel_image_is_reported() {
    let text = "minidump amd64 3
kernbase 0xffffffff40000000
kernend 0xffffffffc0000000
avail 0x1000 0x9000
avail 0x200000 0x20a000
msgbuf text \"---<<BOOT>>---\\n\"
page 0x1000 text \"the first page of the machine\"
pages 0x200000 4 seed 1
";
    for (map, gaps) in [
        ("map 0xffffffff40200000 0x200000 2M rx\n", 1),
        ("map 0xffffffff80200000 0x200000 2M rx\n", 0),
        // A reduced dump without page tables.
        ("", 0),
    ] {
        let built = livecore_tests::mkdump::build_all(&format!("{text}{map}")).unwrap();
        let report = verify(&built.payload, &Options::default());
        let outcome = report.outcomes.get("PT-IMAGE-GAP");
        assert_eq!(
            outcome.map_or(0, |o| o.broken),
            gaps,
            "{}",
            describe(&report)
        );
    }
}
