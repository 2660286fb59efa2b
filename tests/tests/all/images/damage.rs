//! Truncated and damaged images: a one-line error, or only data that is in the file.

use std::io::ErrorKind;

use livecore_livedump::image::Image;
use livecore_livedump::image::exercise::exercise;
use livecore_minidump::Error;
use livecore_minidump::PhysAddr;
use livecore_tests::golden::golden;
use livecore_tests::mkimage::{self, Codec, Kdump, Memory, Xen};

use super::common::{PAGE, images, memory, open, ranges};

/// Formats that need the end of the file: Xen's frame numbers follow the pages.
const REFUSED: [&str; 2] = ["xen-hvm", "xen-pv"];

/// Formats whose headers do not state how many ranges follow.
const RANGES: [&str; 2] = ["lime", "avml"];

#[test]
fn truncated_image_is_an_error_or_has_the_remaining_pages_and_its_shortage_is_reported() {
    for (name, _, memory, bytes) in images() {
        let first = (0..bytes.len().min(9000)).step_by(173);
        let all = (0..bytes.len()).step_by((bytes.len() / 60).max(1));
        let last = bytes.len().saturating_sub(12)..bytes.len();
        let (mut accepted, mut page) = (0, vec![0; PAGE as usize]);
        for cut in first.chain(all).chain(last) {
            let image = match open(bytes[..cut].to_vec()) {
                Err(error) => {
                    let line = error.to_string();
                    let expected = match &error {
                        Error::Broken { .. } | Error::Unsupported { .. } => true,
                        Error::Io { source, .. } => source.kind() == ErrorKind::UnexpectedEof,
                        _ => false,
                    };
                    assert!(
                        expected && !line.contains('\n'),
                        "{name} cut at {cut}: {line}"
                    );
                    continue;
                }
                Ok(image) => image,
            };
            let mut lost = 0;
            for (number, truth) in memory.pages() {
                match image.memory.read(PhysAddr(number * PAGE), &mut page) {
                    Ok(()) => assert!(page == truth, "{name} cut at {cut}: page {number:#x}"),
                    Err(_) => lost += 1,
                }
            }
            // Truncated between two of its ranges, a file looks complete.
            let is_known = image.memory.is_partial() || RANGES.contains(&name);
            assert!(lost == 0 || is_known, "{name} cut at {cut}: {lost} pages");
            accepted += u32::from(lost > 0);
        }
        assert_eq!(accepted > 0, !REFUSED.contains(&name), "{name}: {accepted}");
    }
}

/// The pages of `memory` that the image has. Asserts that they are correct.
fn known(image: &Image, memory: &Memory, what: &str) -> Vec<u64> {
    let mut page = vec![0; PAGE as usize];
    let mut known = Vec::new();
    for (number, truth) in memory.pages() {
        match image.memory.read(PhysAddr(number * PAGE), &mut page) {
            Ok(()) => {
                assert!(page == truth, "{what}: page {number:#x}");
                known.push(number);
            }
            Err(error) => assert_eq!(error.kind(), ErrorKind::NotFound, "{what}: {error}"),
        }
    }
    known
}

#[test]
fn truncated_flattened_file_has_the_pages_of_the_pieces_in_it() {
    let memory = memory();
    let how = Kdump {
        codecs: &[Codec::Plain],
        share_zeros: false,
        ..Kdump::default()
    };
    let kdump = mkimage::kdump(&memory, &how);
    // The last page of a plain file ends with it.
    let (stored, all) = (PAGE as usize, memory.pages().count());
    let first = kdump.len() - all * stored;
    for (piece, shuffled) in [(3000, false), (3000, true), (70_000, false)] {
        let flat = mkimage::flatten(&kdump, piece, shuffled);
        let mut most = 0;
        for cut in (0..flat.len()).step_by(flat.len() / 97) {
            let what = format!("pieces of {piece}, {shuffled}, {cut}");
            let Ok(image) = open(flat[..cut].to_vec()) else {
                continue;
            };
            assert!(image.memory.is_partial(), "{what}");
            let known = known(&image, &memory, &what);
            // All bytes of a page, and of its descriptor, must be in the file.
            let kept = |byte: usize| {
                let (number, inside) = (byte / piece, byte % piece);
                let pieces = kdump.len().div_ceil(piece);
                let order = match (shuffled, number % 2) {
                    (false, _) => number,
                    (true, 0) => number / 2,
                    (true, _) => pieces.div_ceil(2) + number / 2,
                };
                // Only the last of the pieces may be shorter, which is in the last place or before odd ones.
                let before: usize = (0..pieces)
                    .filter(|other| match (shuffled, other % 2) {
                        (false, _) => *other < number,
                        (true, 0) => other / 2 < order,
                        (true, _) => pieces.div_ceil(2) + other / 2 < order,
                    })
                    .map(|other| 16 + piece.min(kdump.len() - other * piece))
                    .sum();
                4096 + before + 16 + inside < cut
            };
            let descriptors = first - all * 24;
            let expected = memory.pages().enumerate().filter(|(index, _)| {
                let page = first + index * stored..first + (index + 1) * stored;
                let descriptor = descriptors + index * 24..descriptors + (index + 1) * 24;
                page.chain(descriptor).all(kept)
            });
            let expected: Vec<_> = expected.map(|(_, (number, _))| number).collect();
            assert_eq!(known, expected, "{what}");
            most = most.max(known.len());
        }
        assert!(most > all / 2 && most < all, "{piece}: {most} of {all}");
    }
}

#[test]
fn xen_core_that_ends_in_its_frame_numbers_has_the_pages_of_those_in_it() {
    let memory = memory();
    for paravirtual in [false, true] {
        let how = Xen {
            paravirtual,
            reversed: false,
            cpus: 2,
        };
        let core = mkimage::xen(&memory, how);
        let names = b"\0.shstrtab\0";
        let end = core.windows(names.len()).rposition(|at| at == names);
        let end = end.unwrap();
        // The last frame number is of no page.
        let (all, entry) = (memory.pages().count(), if paravirtual { 16 } else { 8 });
        let table = end - (all + 1) * entry;
        for cut in (table + entry..core.len()).step_by(3) {
            let what = format!("{paravirtual}, {cut:#x}");
            let image = open(core[..cut].to_vec()).unwrap_or_else(|e| panic!("{what}: {e}"));
            assert_eq!(image.cpus.len(), 2, "{what}");
            assert!(image.memory.is_partial(), "{what}");
            let complete = ((cut - table) / entry).min(all);
            let expected = memory.pages().map(|(number, _)| number).take(complete);
            assert_eq!(known(&image, &memory, &what), expected.collect::<Vec<_>>());
        }
        assert!(open(core[..table].to_vec()).is_err());
    }
}

#[test]
fn opening_images_with_extreme_header_numbers_does_not_panic() {
    const VALUES: [u32; 7] = [
        0,
        1,
        0x1001,
        0x7fff_ffff,
        0x8000_0000,
        0xffff_f000,
        0xffff_ffff,
    ];
    for (name, _, _, bytes) in images() {
        // Headers, tables and notes are at the start, those of Xen at the end.
        let front = (0..bytes.len().min(1400)).step_by(4);
        let sub = (4096..4096 + 120)
            .step_by(4)
            .filter(|_| name.contains("kdump"));
        let end = bytes.len().saturating_sub(400)..bytes.len() - 8;
        for at in front.chain(sub).chain(end.step_by(4)) {
            for value in VALUES {
                let mut changed = bytes.clone();
                changed[at..at + 4].copy_from_slice(&value.to_le_bytes());
                exercise(&changed);
                if value > 1 {
                    // A 64-bit number, with the upper half in the other byte order.
                    changed[at + 4..at + 8].copy_from_slice(&value.to_be_bytes());
                    exercise(&changed);
                }
            }
        }
    }
}

/// The line with the `Broken` error.
fn line(bytes: Vec<u8>) -> String {
    match open(bytes) {
        Err(error @ Error::Broken { .. }) => format!("{error}\n"),
        Err(error) => panic!("{error}"),
        Ok(image) => panic!("{image:?}"),
    }
}

fn set(bytes: &mut [u8], at: usize, value: u64) {
    bytes[at..at + 8].copy_from_slice(&value.to_le_bytes());
}

#[test]
fn errors_name_region_offset_found_and_expected() {
    let memory = memory();

    // p_paddr of the first PT_LOAD, which is after the PT_NOTE.
    let mut elf = mkimage::qemu(&memory, 1).build();
    set(&mut elf, 64 + 56 + 8, 0x2000);
    set(&mut elf, 64 + 56 + 24, u64::MAX - 0xfff);
    let mut said = line(elf);

    let mut lime = mkimage::lime(&memory);
    let second = 32 + 17 * 4096;
    set(&mut lime, second + 16, 0xf_ffff);
    said += &line(lime);

    let mut xen = mkimage::xen(
        &memory,
        Xen {
            paravirtual: false,
            reversed: false,
            cpus: 1,
        },
    );
    let pages = memory.pages().count() as u64 + 1;
    let at = xen
        .windows(8)
        .position(|w| w == pages.to_le_bytes())
        .unwrap();
    set(&mut xen, at, u64::MAX / 8);
    said += &line(xen);

    let mut kdump = mkimage::kdump(&memory, &Kdump::default());
    set(&mut kdump, 4096 + 96, 1 << 30);
    said += &line(kdump);

    let mut flat = mkimage::flatten(&mkimage::kdump(&memory, &Kdump::default()), 9000, false);
    flat[4096 + 8..4096 + 16].copy_from_slice(&(-5_i64).to_be_bytes());
    said += &line(flat);
    golden("images/broken.txt", &said);
}

#[test]
fn unordered_ranges_are_sorted_and_contradicting_overlaps_are_reported() {
    let sorted = memory();
    let mut unordered = sorted.clone();
    unordered.ranges.reverse();
    for (name, bytes) in [
        ("lime", mkimage::lime(&unordered)),
        ("avml", mkimage::avml(&unordered, 1 << 20)),
        ("qemu", mkimage::qemu(&unordered, 1).build()),
        ("vmware", mkimage::vmss_with_memory(&unordered)),
    ] {
        let image = open(bytes).unwrap_or_else(|e| panic!("{name}: {e}"));
        assert_eq!(image.memory.ranges(), ranges(&sorted), "{name}");
        super::common::check(name, &*image.memory, &sorted);
    }
    let overlapping = Memory {
        ranges: vec![
            (0x10_0000, vec![1; 3 * 4096]),
            (0x50_0000, vec![2; 4096]),
            (0x10_1000, vec![3; 4096]),
        ],
    };
    let mut said = String::new();
    for (name, bytes) in [
        ("lime", mkimage::lime(&overlapping)),
        ("avml", mkimage::avml(&overlapping, 1 << 20)),
        ("qemu", mkimage::qemu(&overlapping, 1).build()),
        ("full", mkimage::freebsd_full(&overlapping).build()),
        ("virtualbox", mkimage::virtualbox(&overlapping, 1).build()),
        ("vmware", mkimage::vmss_with_memory(&overlapping)),
        (
            "xen",
            mkimage::xen(
                &overlapping,
                Xen {
                    paravirtual: false,
                    reversed: true,
                    cpus: 1,
                },
            ),
        ),
    ] {
        let image = open(bytes).unwrap_or_else(|e| panic!("{name}: {e}"));
        let message = image.memory.contradiction().unwrap_or_default();
        said += &format!("{name}: {message}\n");
        let mut page = vec![0; 4096];
        image.memory.read(PhysAddr(0x10_1000), &mut page).unwrap();
        // The range with the lower start is used; of Xen's single pages the first in the file.
        let used = if name == "xen" { 3 } else { 1 };
        assert!(page == [used; 4096], "{name}");
    }
    golden("images/overlaps.txt", &said);
}

#[test]
fn overlapping_compressed_ranges_are_compared() {
    let mix = Memory::parse("0x0 60 mix 4").ranges.remove(0).1;
    let part = |pages: std::ops::Range<usize>| {
        let bytes = mix[pages.start * 4096..pages.end * 4096].to_vec();
        (pages.start as u64 * PAGE, bytes)
    };
    // Ranges inside of others, before others, across two, and equal to one.
    let ranges = [0..40, 10..20, 30..50, 35..60, 0..40];
    let memory = Memory {
        ranges: ranges.map(part).to_vec(),
    };
    let truth = Memory {
        ranges: vec![part(0..60)],
    };
    for block in [1 << 20, 7 * 4096] {
        let image = open(mkimage::avml_0170(&memory, block, 2)).unwrap();
        assert_eq!(image.memory.contradiction(), None, "{block}");
        assert_eq!(known(&image, &truth, "equal").len(), 60);
        let mut other = memory.clone();
        // Page 32, which the first range has too.
        other.ranges[2].1[2 * 4096 + 17] ^= 1;
        let image = open(mkimage::avml_0170(&other, block, 2)).unwrap();
        assert!(image.memory.contradiction().is_some(), "{block}");
    }
    // Zeros without data, and other data for the same addresses.
    let zeros = Memory {
        ranges: vec![(0, vec![0; 40 * 4096]), part(10..20)],
    };
    let image = open(mkimage::avml_0170(&zeros, 1 << 20, 2)).unwrap();
    assert!(image.memory.contradiction().is_some());
    let mut byte = [1];
    image.memory.read(PhysAddr(10 * PAGE), &mut byte).unwrap();
    assert_eq!(byte, [0]);
}

#[test]
fn memory_after_the_end_of_the_file_is_missing_and_its_pages_are_counted() {
    let memory = memory();
    // p_offset of the first PT_LOAD, with 17 pages.
    let mut elf = mkimage::qemu(&memory, 1).build();
    set(&mut elf, 64 + 56 + 8, 1 << 40);
    // A range that ends 3 pages and a byte early; its last page is incomplete.
    let mut lime = mkimage::lime(&memory);
    lime.truncate(lime.len() - 3 * 4096 - 1);
    for (bytes, pages) in [(elf, 17), (lime, 4)] {
        let image = open(bytes).unwrap();
        let message = image.memory.shortage().unwrap();
        let expected = format!("before its last page: {pages} pages are missing");
        assert!(message.ends_with(&expected), "{message}");
        assert!(image.memory.is_partial());
        let mut page = vec![0; 4096];
        let mut lost = 0;
        for (number, truth) in memory.pages() {
            match image.memory.read(PhysAddr(number * PAGE), &mut page) {
                Ok(()) => assert!(page == truth, "page {number:#x}"),
                Err(error) => {
                    assert_eq!(error.kind(), ErrorKind::NotFound);
                    lost += 1;
                }
            }
        }
        assert_eq!(lost, pages);
    }
}

#[test]
fn undecodable_pages_are_errors_and_others_are_readable() {
    // zlib and snappy frames have checksums; plain pages have none.
    let text = Memory::parse("0x0 60 text 1");
    let noise = memory();
    for (name, memory, bytes, run) in [
        (
            "kdump",
            &text,
            mkimage::kdump(&text, &Kdump::default()),
            1000,
        ),
        ("avml", &noise, mkimage::avml(&noise, 1 << 30), 3000),
    ] {
        let mut changed = bytes.clone();
        let at = bytes.len() - 2 * run;
        changed[at..at + run].fill(0x5a);
        let image = open(changed).unwrap();
        let (mut good, mut bad, mut page) = (0, 0, vec![0; 4096]);
        for (number, truth) in memory.pages() {
            match image.memory.read(PhysAddr(number * PAGE), &mut page) {
                Ok(()) => {
                    assert!(page == truth, "{name}: page {number:#x}");
                    good += 1;
                }
                Err(error) => {
                    let inner = livecore_compress::Error::in_io(&error);
                    let is_broken = matches!(inner, Some(livecore_compress::Error::Broken { .. }));
                    assert!(is_broken, "{name}: {error}");
                    bad += 1;
                }
            }
        }
        assert!(good > 30 && bad > 0, "{name}: {good} good, {bad} bad");
    }
}
