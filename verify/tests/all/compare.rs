//! The comparison of two dumps, for all containers and codecs.

use crate::common;

use std::sync::Arc;

use common::{MACHINE, build, seal};
use livecore_compress::{Codec, NoProgress, ReadAt};
use livecore_defs::{PhysAddr, VirtAddr};
use livecore_tests::mkdump;
use livecore_verify::Options;
use livecore_verify::compare::{Answer, Comparison, compare};

fn compared(a: &[u8], b: &[u8]) -> Comparison {
    let sources: [Arc<dyn ReadAt>; 2] = [Arc::new(a.to_vec()), Arc::new(b.to_vec())];
    compare(sources, ["a", "b"], &Options::default(), &NoProgress)
}

fn describe(comparison: &Comparison) -> String {
    let mut text = Vec::new();
    let style = livecore_verify::render::Style::default();
    comparison.write_text(style, &mut text).unwrap();
    String::from_utf8(text).unwrap()
}

#[test]
fn containers_and_codecs_do_not_matter() {
    let payload = build("").payload;
    let forms = [
        build("").bytes,
        build("compress zstd\n").bytes,
        build("container live\ncompress gzip\n").bytes,
        build("container device\n").bytes,
        seal(&payload, Codec::None, 65536),
        seal(&payload, Codec::Gzip, 8192),
        seal(&payload, Codec::Zstd, 65536),
    ];
    for form in &forms {
        let found = compared(&forms[0], form);
        assert_eq!(found.answer, Answer::Same, "{}", describe(&found));
        assert_eq!(Some(found.same), found.a.facts.pages);
        assert!(found.same > 200);
    }
}

#[test]
fn versions_with_the_same_pages_are_the_same() {
    let old = MACHINE.replace("amd64 3", "amd64 2");
    let old = mkdump::build(&old).unwrap();
    let found = compared(&old, &build("").bytes);
    assert_eq!(found.answer, Answer::Same, "{}", describe(&found));
    let versions: Vec<_> = found.headers.iter().map(|d| d.what).collect();
    assert_eq!(versions, ["minidump version"]);
}

#[test]
fn pages_that_differ_are_reported_with_their_first_different_byte() {
    let other = build("put 0x5123 hex ff\ncompress zstd\n").bytes;
    let found = compared(&build("").bytes, &other);
    assert_eq!(found.answer, Answer::Differ);
    assert_eq!(found.differ.count, 1);
    assert_eq!(found.differ.ranges, [PhysAddr(0x5000)..PhysAddr(0x6000)]);
    let page = &found.pages[0];
    assert_eq!((page.pa, page.offset), (PhysAddr(0x5000), 0x123));
    assert_eq!(page.direct, Some(VirtAddr(0xffff_f800_0000_5123)));
    assert_eq!(page.b[0], 0xff);
    assert_ne!(page.a[0], 0xff);
    assert_eq!(page.a[1..], page.b[1..]);
    let value = found.value();
    assert_eq!(value["exit_code"], 1);
    assert_eq!(value["differences"][0]["pa"], "0x5000");
}

#[test]
fn pages_in_one_dump_only_are_reported_as_ranges() {
    let more = build("pages 0x9a000 3 seed 9\n").bytes;
    let found = compared(&build("").bytes, &more);
    assert_eq!(found.answer, Answer::Differ);
    assert_eq!((found.only_a.count, found.differ.count), (0, 0));
    assert_eq!(found.only_b.ranges, [PhysAddr(0x9a000)..PhysAddr(0x9d000)]);
    let back = compared(&more, &build("").bytes);
    assert_eq!(back.only_a, found.only_b);
    assert_eq!(back.only_b, found.only_a);
}

#[test]
fn message_buffers_are_compared() {
    let more = build("msgbuf text \"more\\n\"\n").bytes;
    let found = compared(&build("").bytes, &more);
    assert_eq!(found.answer, Answer::Differ);
    let sections: Vec<_> = found.sections.iter().map(|d| d.what).collect();
    assert_eq!(sections, ["message buffer"]);
}

#[test]
fn a_broken_dump_cannot_be_compared() {
    let whole = build("compress zstd\n").bytes;
    let cut = &whole[..whole.len() / 2];
    for (a, b) in [(&whole[..], cut), (cut, &whole[..]), (cut, cut)] {
        let found = compared(a, b);
        assert_eq!(found.answer.exit_code(), 4, "{}", describe(&found));
    }
    let found = compared(&whole, b"no dump");
    assert_eq!(found.answer.exit_code(), 4, "{}", describe(&found));
}

/// The page-table section of amd64 has an entry of 8 bytes for each 2 MiB from `kernbase`.
#[test]
fn page_tables_that_differ_are_reported_with_the_address_that_they_map() {
    let more = build("map 0xffffffff80600000 0x400000 2M rx\n").bytes;
    let found = compared(&build("").bytes, &more);
    assert_eq!(found.answer, Answer::Differ, "{}", describe(&found));
    let section = &found.sections[0];
    assert_eq!(
        (section.what, section.offset, section.pages),
        ("page tables", 24, 1)
    );
    let meaning = section.meaning.as_deref().unwrap();
    assert_eq!(meaning, "entry 3, for 0xffffffff80600000");
    assert_eq!(section.a, [0; 16]);
}

#[test]
fn header_fields_make_dumps_differ_only_under_strict() {
    let here = build("container live\nset kdh.hostname = \"here\"\n").bytes;
    let there = build("container live\nset kdh.hostname = \"there\"\n").bytes;
    let sources = || -> [Arc<dyn ReadAt>; 2] { [Arc::new(here.clone()), Arc::new(there.clone())] };
    for (strict, answer) in [(false, Answer::Same), (true, Answer::Differ)] {
        let options = Options::default().strict(strict);
        let found = compare(sources(), ["a", "b"], &options, &NoProgress);
        assert_eq!(found.answer, answer, "{}", describe(&found));
        let names: Vec<_> = found
            .headers
            .iter()
            .map(|d| (d.a.as_str(), d.b.as_str()))
            .collect();
        assert_eq!(names, [("here", "there")]);
    }
}
