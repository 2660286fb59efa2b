//! Tests of `mem ranges`.

use std::fs;

use livecore_synth::write_out;

use super::{fixture, hex, tiny};
use crate::harness::{golden, livecore, machine, names, run};

/// The line that memcontrol(8) prints, with the space at the end.
const PCI_HOLE: &str = "0x80000000/0x80000000 BIOS uncacheable set-by-firmware active \n";

#[test]
fn list_has_the_format_of_memcontrol() {
    let fixture = fixture();
    let list = fixture.mem(&["ranges"]).expect(0);
    let text = list.text();
    assert!(text.starts_with(
        "0x0/0x10000 BIOS write-back fixed-base fixed-length set-by-firmware active \n"
    ));
    assert!(text.ends_with(PCI_HOLE), "{text}");
    // Seven powers of two from the 32 MiB of memory up to 4 GiB; one slot is free.
    assert_eq!(text.lines().count(), 88 + 7);
    assert_eq!(fixture.mem(&["ranges", "list"]).expect(0).text(), text);
    let all = fixture.mem(&["ranges", "list", "-a"]).expect(0);
    assert_eq!(all.text().lines().count(), 88 + 8);
    assert!(all.text().ends_with("0x0/0x400000000000 - uncacheable \n"));
    let none = fixture.mem(&["ranges", "list", "-o", "unused"]).expect(0);
    assert!(none.out.is_empty());
    let answer = fixture.json("mem-ranges", 0, &["ranges", "list", "-a"]);
    let ranges = answer["ranges"].as_array().unwrap();
    assert_eq!(ranges.len(), 96);
    assert_eq!(ranges[94]["base"], "0x80000000");
    assert_eq!(ranges[94]["owner"], "BIOS");
    assert_eq!(
        ranges[94]["names"],
        serde_json::json!(["uncacheable", "set-by-firmware", "active"])
    );
    assert!(ranges[95]["owner"].is_null());
    let text = machine("tiny");
    let listed = run(["mem", "ranges", "--machine", text.to_str().unwrap()]).expect(0);
    assert_eq!(listed.out, list.out);
}

#[test]
fn next_process_lists_and_clears_a_range() {
    let fixture = fixture();
    let list = |args: &[&str]| fixture.mem(&[&["ranges", "list"], args].concat()).expect(0);
    let before = list(&["-a"]).out;
    let set = [
        "ranges",
        "set",
        "-b",
        "0x200000000",
        "-l",
        "0x40000000",
        "-o",
        "video",
    ];
    let range = [&set[..], &["write-combine", "active"]].concat();
    let silent = fixture.mem(&range).expect(0);
    assert!(silent.out.is_empty() && silent.err.is_empty());
    let line = "0x200000000/0x40000000 video write-combine active \n";
    assert_eq!(list(&["-o", "video"]).text(), line);
    // Numbers in C syntax; the default owner is `user`; an exact match is changed in place.
    fixture
        .mem(&[
            "ranges",
            "set",
            "-b",
            "8589934592",
            "-l",
            "010000000000",
            "write-back",
            "force",
        ])
        .expect(0);
    assert_eq!(
        list(&["-o", "user"]).text(),
        "0x200000000/0x40000000 user write-back active \n"
    );
    // All slots are in use.
    let other = [
        "ranges",
        "set",
        "-b",
        "0x400000000",
        "-l",
        "0x1000",
        "write-back",
    ];
    let full = fixture.mem_messages(&other).expect(1);
    full.error("no-free-range");
    let clear = ["ranges", "clear", "-b", "0x200000000", "-l", "0x40000000"];
    let answer = fixture.json("mem-ranges", 0, &clear);
    assert_eq!(answer["ranges"][0]["base"], "0x200000000");
    assert!(list(&["-a"]).out == before);
    fixture.mem(&clear).expect(1);
    // By owner: variable ranges of the firmware, not fixed ones.
    let answer = fixture.json("mem-ranges", 0, &["ranges", "clear", "-o", "BIOS"]);
    assert_eq!(answer["ranges"].as_array().unwrap().len(), 7);
    assert_eq!(list(&[]).text().lines().count(), 88);
    // Their slots keep the flag of the firmware, as in a kernel.
    let slots = list(&["-a"]);
    let cleared = "0x0/0x400000000000 - uncacheable set-by-firmware \n";
    assert!(
        slots
            .text()
            .ends_with(&(cleared.repeat(7) + "0x0/0x400000000000 - uncacheable \n"))
    );
    let unused = fixture.mem(&["ranges", "clear", "-o", "unused"]).expect(0);
    assert!(!unused.err.is_empty());
    // Below 1 MiB: all fixed ranges that overlap.
    fixture
        .mem(&[
            "ranges",
            "set",
            "-b",
            "0xb8000",
            "-l",
            "0x1000",
            "-o",
            "vga",
            "write-protect",
        ])
        .expect(0);
    assert_eq!(
        list(&["-o", "vga"]).text(),
        "0xb8000/0x4000 vga write-protect fixed-base fixed-length active \n"
    );
    assert_eq!(
        names(&fixture.dir.path().join("m")),
        ["kernel", "machine.json", "memory-ranges.json", "ram"]
    );
    // A machine that is written again has the firmware's ranges.
    write_out(tiny(), fixture.dir.path().join("m")).unwrap();
    assert!(list(&["-a"]).out == before);
}

#[test]
fn refused_range_changes_nothing() {
    let fixture = fixture();
    let before = fixture.mem(&["ranges", "list", "-a"]).expect(0).out;
    let mut reasons = String::new();
    for (args, id) in [
        (
            &["set", "-b", "0x200000800", "-l", "0x1000", "write-back"][..],
            "bad-range",
        ),
        (
            &["set", "-b", "0x200000000", "-l", "0x800", "write-back"],
            "bad-range",
        ),
        (
            &["set", "-b", "0x200000000", "-l", "0x3000", "write-back"],
            "bad-range",
        ),
        (
            &["set", "-b", "0x200001000", "-l", "0x2000", "write-back"],
            "bad-range",
        ),
        (
            &[
                "set",
                "-b",
                "0xfffffffffffff000",
                "-l",
                "0x2000",
                "write-back",
            ],
            "bad-range",
        ),
        (
            &[
                "set",
                "-b",
                "0x200000000",
                "-l",
                "0x1000",
                "write-back",
                "uncacheable",
            ],
            "bad-range",
        ),
        (
            &[
                "set",
                "-b",
                "0x200000000",
                "-l",
                "0x1000",
                "active",
                "force",
            ],
            "bad-range",
        ),
        (
            &["set", "-b", "0x80000000", "-l", "0x1000", "write-combine"],
            "bad-range",
        ),
        (
            &["clear", "-b", "0x200000000", "-l", "0x1000"],
            "no-such-range",
        ),
        (
            &[
                "clear",
                "-b",
                "0xffffffffffffffff",
                "-l",
                "0xffffffffffffffff",
            ],
            "no-such-range",
        ),
        (&["clear", "-b", "0", "-l", "0x10000"], "fixed-range"),
    ] {
        let args = [&["ranges"], args].concat();
        let refused = fixture.mem_messages(&args).expect(1).error(id);
        let base = args.iter().skip_while(|arg| **arg != "-b").nth(1).unwrap();
        let base = if *base == "0" { "0x0" } else { *base };
        assert_eq!(refused["address"], base, "{args:?}");
        let reason = refused["message"].as_str().unwrap();
        reasons += &format!("{}\n  {reason}\n", args.join(" "));
        let json = fixture.mem(&[&args[..], &["--json"]].concat()).expect(1);
        assert!(json.out.is_empty(), "no document for a refused change");
    }
    assert!(fixture.mem(&["ranges", "list", "-a"]).expect(0).out == before);
    golden("messages/ranges.txt", &reasons);
}

/// memcontrol(8) of 15.0: -b is 0 unless given; an owner of `set` and `clear` has one to seven bytes, of
/// any kind; `list -o` compares any text.
#[test]
fn options_of_memcontrol_are_accepted() {
    let fixture = fixture();
    let ranges = |args: &[&str]| fixture.mem(&[&["ranges"], args].concat());
    ranges(&["set", "-l", "0x10000", "-o", "a b", "write-through"]).expect(0);
    let line = "0x0/0x10000 a b write-through fixed-base fixed-length active \n";
    assert_eq!(ranges(&["list", "-o", "a b"]).expect(0).text(), line);
    ranges(&["set", "-b", "0x200000000", "-l", "0x1000", "write-back"]).expect(0);
    // The unused slot has base 0 and the length of the physical address space.
    ranges(&["clear", "-o", "user"]).expect(0);
    ranges(&["clear", "-l", "0x400000000000"]).expect(0);
    ranges(&["clear", "-l", "0x10000"]).expect(1);
    assert!(
        ranges(&["list", "-o", "longer than seven"])
            .expect(0)
            .out
            .is_empty()
    );
    let unowned = ranges(&["list", "-a", "-o", ""]).expect(0);
    assert_eq!(unowned.text(), "0x0/0x400000000000 - uncacheable \n");
    for args in [
        &["set", "-l", "0x10000", "-o", "", "write-back"][..],
        &["set", "-b", "0", "write-back"],
        &["clear", "-b", "0"],
        &["clear", "-o", ""],
        &["clear"],
    ] {
        ranges(args).expect(64);
    }
    // The end of the range is 0 in the driver.
    let last = [
        "set",
        "-b",
        "0xfffffffffffff000",
        "-l",
        "0x1000",
        "write-back",
    ];
    fixture
        .mem_messages(&[&["ranges"], &last[..]].concat())
        .expect(1)
        .error("bad-range");
}

#[test]
fn damaged_ranges_file_is_reported_and_kept() {
    let fixture = fixture();
    let path = fixture.path("m/memory-ranges.json");
    for text in ["", "{}", r#"{"fixed":true,"ranges":[]}"#] {
        fs::write(&path, text).unwrap();
        fixture.mem(&["ranges"]).expect(2);
        let set = ["ranges", "set", "-b", "0", "-l", "0x10000", "write-back"];
        fixture.mem(&set).expect(2);
        assert_eq!(fs::read_to_string(&path).unwrap(), text);
    }
    // Memory is still readable.
    fixture.mem(&["read", "0", "16"]).expect(0);
}

#[test]
fn concurrent_changes_of_ranges_are_all_kept() {
    let fixture = fixture();
    let image = fixture.path("m");
    let children = (0..6)
        .map(|i| {
            livecore()
                .args([
                    "mem",
                    "ranges",
                    "set",
                    "-l",
                    "0x1000",
                    "-o",
                    &format!("p{i}"),
                ])
                .args(["-b", &hex(0xc_0000 + 0x1000 * i), "write-back"])
                .args(["--image", &image])
                .spawn()
                .unwrap()
        })
        .collect::<Vec<_>>();
    for mut child in children {
        assert!(child.wait().unwrap().success());
    }
    let list = fixture.mem(&["ranges"]).expect(0);
    for i in 0..6 {
        assert!(
            list.text().contains(&format!(" p{i} write-back ")),
            "{}",
            list.text()
        );
    }
}
