//! Consistency of the verbs on dumps whose memory contains other sealed dumps, or that another dump's
//! seal follows.

use std::fmt::Write;

use livecore_compress::{Codec, Encoding, NoProgress, Shape};
use livecore_tests::mkdump;

use super::{FORMS, MACHINE, check, forms};

const PAGE: usize = 4096;

/// Formats that store content as it is.
const STORED: [&str; 2] = [
    "compress gzip level 0\n",
    "compress gzip members 12288 level 0\n",
];

/// The sealed dumps among the formats, and their seals without the frames.
fn seals() -> Vec<(String, Vec<u8>)> {
    let dir = tempfile::tempdir().unwrap();
    let mut seals = Vec::new();
    for (form, dump) in forms(dir.path()) {
        if form.starts_with("minidump") && form.contains("sealed") {
            let magic = dump.windows(8).rposition(|w| w == b"LVCRSEAL").unwrap();
            // 16 bytes: the header of a gzip member or a zstd frame.
            seals.push((format!("the seal of {form}"), dump[magic - 16..].to_vec()));
            seals.push((form, dump));
        }
    }
    seals
}

/// The description of a machine whose memory contains `bytes`, either from the start of a page, or to
/// the end of the last page of the dump.
fn containing(bytes: &[u8], last: bool) -> String {
    let mut padded = bytes.to_vec();
    let fill = padded.len().next_multiple_of(PAGE) - padded.len();
    padded.splice(
        if last { 0..0 } else { bytes.len()..bytes.len() },
        vec![0; fill],
    );
    let mut machine = MACHINE.replace("0x20a000", "0x280000");
    let mut at = 0x21_0000;
    for page in padded.chunks(PAGE) {
        write!(machine, "page {at:#x} hex").unwrap();
        for byte in page {
            write!(machine, " {byte:02x}").unwrap();
        }
        machine.push('\n');
        at += PAGE;
    }
    if !last {
        writeln!(machine, "pages {at:#x} 4 seed 9").unwrap();
    }
    machine
}

/// Checks all files; the names of the wrong ones are part of the message.
#[track_caller]
fn check_all(files: impl Iterator<Item = (String, Vec<u8>)>) {
    let dir = tempfile::tempdir().unwrap();
    let wrong = files.filter_map(|(what, bytes)| {
        let why = check::check(&bytes, dir.path(), None).err()?;
        Some(format!("{what}: {why}"))
    });
    let wrong: Vec<_> = wrong.collect();
    assert!(
        wrong.is_empty(),
        "{} wrong:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
}

#[test]
fn verify_agrees_with_the_other_verbs_if_the_seal_of_another_dump_follows() {
    check_all(seals().into_iter().flat_map(|(seal_form, seal)| {
        FORMS.iter().map(move |form| {
            let dump = mkdump::build(&format!("{MACHINE}{form}")).unwrap();
            let what = format!("{form}, then {seal_form}");
            (what, [&dump[..], &seal].concat())
        })
    }));
}

#[test]
fn verify_agrees_with_the_other_verbs_if_memory_contains_a_sealed_dump() {
    check_all(seals().into_iter().flat_map(|(inner_form, inner)| {
        [false, true].into_iter().flat_map(move |last| {
            let (machine, inner_form) = (containing(&inner, last), inner_form.clone());
            FORMS.iter().chain(&STORED).map(move |form| {
                let dump = mkdump::build(&format!("{machine}{form}")).unwrap();
                let place = if last { "at the end of" } else { "in" };
                (format!("{inner_form} {place} the memory of {form}"), dump)
            })
        })
    }));
}

/// A program can write a valid seal of the first part of a dump, at the offset in the dump that the
/// seal states.
#[test]
fn verify_agrees_with_the_other_verbs_if_memory_contains_a_seal_for_the_data_before_it() {
    let machine = MACHINE
        .replace("0x20a000", "0x800000")
        .replace("pages 0x200000 4", "pages 0x200000 900");
    let payload = mkdump::build(&machine).unwrap().len();
    // The verifier and the readers search different lengths for a seal.
    let places = [payload - (PAGE << 3), payload - (3 << 19), 0x20_000];
    let forms = ["", "container live\n", "container device\n"];
    check_all(places.into_iter().flat_map(|at| {
        let machine = &machine;
        forms.into_iter().map(move |form| {
            let mut dump = mkdump::build(&format!("{machine}{form}")).unwrap();
            let start = match form {
                "container device\n" => dump.windows(8).position(|w| w == b"minidump").unwrap(),
                _ => 0,
            };
            let mut seal = Vec::new();
            let encoding = Encoding::new(Codec::None).frame_size(0x4000);
            let before = dump[start..start + at].to_vec();
            let mut data = Vec::new();
            let stored = livecore_compress::encode_at(
                &before,
                &encoding,
                Shape::Frames,
                &mut data,
                &NoProgress,
            )
            .unwrap();
            livecore_compress::write_seal(&stored, b"a program", &mut seal).unwrap();
            dump[start + at..start + at + seal.len()].copy_from_slice(&seal);
            (format!("{form}, with a seal at {at:#x}"), dump)
        })
    }));
}
