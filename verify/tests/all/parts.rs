//! Sealed files of version 2: parts between the data and the seal.

use crate::common;

use common::{describe, seal_parts, verify};
use livecore_compress::Codec;
use livecore_tests::mkdump;
use livecore_verify::{Depth, Options, Verdict};

const CODECS: [Codec; 3] = [Codec::None, Codec::Gzip, Codec::Zstd];

/// A few pages, of a machine whose kernel map is one page directory.
fn payload() -> Vec<u8> {
    let text = "minidump amd64 3\nkernbase 0xffffffff80000000\nkernend 0xffffffffc0000000\n\
                avail 0x1000 0x9000\navail 0x200000 0x220000\nmsgbuf text \"---<<BOOT>>---\\n\"\n\
                page 0x1000 own\npages 0x200000 20 seed 1\n\
                map 0xffffffff80200000 0x200000 2M rx\n";
    mkdump::build(text).unwrap()
}

/// Record 17: one page, in two ranges.
fn record() -> Vec<(u32, Vec<u8>)> {
    let numbers = [1_u64, 0, 2];
    vec![(17, numbers.map(u64::to_le_bytes).concat())]
}

fn sealed(codec: Codec) -> Vec<u8> {
    let payload = payload();
    let ranges = [[0x5000, 0x1000], [0x8000, 0x800]];
    seal_parts(&payload, codec, 16384, &record(), 70_000, &ranges)
}

#[test]
fn a_seal_with_a_copy_is_sound_and_unproven_pages_are_a_warning() {
    for codec in CODECS {
        for depth in [Depth::Quick, Depth::Default] {
            let options = Options::default().depth(depth);
            let payload = payload();
            let copied = seal_parts(&payload, codec, 16384, &[], 70_000, &[]);
            let report = verify(&copied, &options);
            assert_eq!(
                report.verdict,
                Verdict::Sound,
                "{codec}: {}",
                describe(&report)
            );
            assert!(report.outcomes.contains_key("SEAL-PARTS"), "{codec}");
            let report = verify(&sealed(codec), &options);
            assert_eq!(
                report.verdict,
                Verdict::Warnings,
                "{codec}: {}",
                describe(&report)
            );
            let strict = options.strict(true);
            let report = verify(&sealed(codec), &strict);
            assert_eq!(
                report.verdict,
                Verdict::Broken,
                "{codec}: {}",
                describe(&report)
            );
        }
    }
}

#[test]
fn every_changed_byte_of_the_parts_is_reported() {
    for codec in CODECS {
        let file = sealed(codec);
        let find = |what: &[u8]| file.windows(8).position(|w| w == what).unwrap();
        let (from, to) = (find(b"LVCRPART"), find(b"LVCRSEAL") + 104);
        // Every 997th byte, more bytes at both ends, and the wrapping.
        let wrapping = if codec == Codec::None { 0 } else { 8 };
        let places = (from - wrapping..from + 64)
            .step_by(3)
            .chain((from..to).step_by(997))
            .chain((to - 104..to).step_by(7));
        for at in places {
            let mut damaged = file.clone();
            damaged[at] ^= 4;
            for depth in [Depth::Quick, Depth::Default] {
                let options = Options::default().depth(depth);
                let report = verify(&damaged, &options);
                assert_eq!(
                    report.verdict,
                    Verdict::Broken,
                    "{codec} {at}: {}",
                    describe(&report)
                );
            }
        }
    }
}

#[test]
fn a_list_whose_length_differs_from_its_record_is_reported() {
    let payload = payload();
    for ranges in [&[][..], &[[0x5000, 0x1000]]] {
        let file = seal_parts(&payload, Codec::Zstd, 16384, &record(), 0, ranges);
        let report = verify(&file, &Options::default());
        let broken = report
            .outcomes
            .get("SEAL-RECORDS")
            .is_some_and(|o| o.broken > 0);
        assert!(broken, "{}", describe(&report));
    }
    // Ranges that overlap, are empty, or end beyond the content.
    for ranges in [
        [[0x1000, 0x2000], [0x2000, 0x1000]],
        [[0x1000, 0], [0x2000, 0x1000]],
        [[0x1000, 0x1000], [0x3000, u64::MAX]],
    ] {
        let file = seal_parts(&payload, Codec::Zstd, 16384, &record(), 0, &ranges);
        let report = verify(&file, &Options::default());
        let broken = report
            .outcomes
            .get("SEAL-PARTS")
            .is_some_and(|o| o.broken > 0);
        assert!(broken, "{}", describe(&report));
    }
}
