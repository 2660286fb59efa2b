//! Tests of `mem read` and `mem write`.

use std::fs;
use std::io::Write;
use std::process::Stdio;

use livecore_defs::amd64::KERNBASE;
use serde_json::Value;

use super::{end_of_ram, fixture, hex, made, symbol, tiny};
use crate::harness::{Run, livecore, machine, run, tool};
use crate::schema;

#[test]
fn physical_memory_agrees_for_description_directory_and_file() {
    let fixture = fixture();
    let at = tiny().truth().kernphys.0 + 100;
    let expected = made(at, 10_000);
    let (text, ram) = (machine("tiny"), fixture.path("m/ram"));
    for source in [
        ["--machine", text.to_str().unwrap()],
        ["--image", &fixture.path("m")],
        ["--image", &ram],
    ] {
        let read = ["mem", "read", &hex(at), "10000", "--raw"].map(ToOwned::to_owned);
        let raw = run(read.iter().map(String::as_str).chain(source)).expect(0);
        assert!(raw.out == expected, "{source:?}");
    }
    // The hexdump has the format of `read`, and of hexdump(1) except for addresses.
    let shown = fixture.mem(&["read", &hex(at), "40"]).expect(0);
    let first = expected[..16].iter().map(|b| format!("{b:02x}"));
    let text = shown.text().to_owned();
    assert!(text.starts_with(&format!("{at:#010x}  ")), "{text}");
    assert!(text.split_whitespace().skip(1).take(16).eq(first), "{text}");
    assert_eq!(text.lines().count(), 4, "{text}");
}

#[test]
fn words_match_od_in_both_byte_orders() {
    let fixture = fixture();
    let at = tiny().truth().kernphys.0 + 3;
    let file = fixture.dir.path().join("bytes");
    fs::write(&file, made(at, 96)).unwrap();
    for width in ["1", "2", "4", "8"] {
        for order in ["little", "big"] {
            let shown = fixture
                .mem(&["read", &hex(at), "96", "--words", width, "--endian", order])
                .expect(0);
            let od = tool(
                "od",
                &[
                    "-A",
                    "n",
                    "-v",
                    "-t",
                    &format!("x{width}"),
                    "--endian",
                    order,
                ],
                &file,
            );
            let od = String::from_utf8(od).unwrap();
            let without_addresses = shown
                .text()
                .lines()
                .flat_map(|line| line.split_whitespace().skip(1))
                .collect::<Vec<_>>();
            assert_eq!(without_addresses, od.split_whitespace().collect::<Vec<_>>());
        }
    }
    let answer = fixture.json("mem-read", 0, &["read", &hex(at), "8", "--words", "8"]);
    let number = u64::from_le_bytes(made(at, 8).try_into().unwrap());
    assert_eq!(answer["words"]["values"][0], hex(number));
    let odd = fixture.mem(&["read", "0", "6", "--words", "4"]).expect(64);
    assert!(odd.out.is_empty());
}

#[test]
fn kernel_memory_is_read_by_address_symbol_and_direct_map() {
    let fixture = fixture();
    let truth = tiny().truth();
    let version = truth.version.as_bytes();
    let len = version.len().to_string();
    let va = symbol("version");
    let pa = truth.kernphys.0 + (va - (KERNBASE.0 + (2 << 20)));
    for place in ["version".into(), hex(va), hex(truth.dmap.start.0 + pa)] {
        let read = fixture
            .mem(&["read", "--kmem", &place, &len, "--raw"])
            .expect(0);
        assert_eq!(read.out, version, "{place}");
    }
    let answer = fixture.json("mem-read", 0, &["read", "--kmem", "version+8", "4"]);
    assert_eq!(answer["symbol"], "version");
    assert_eq!(answer["address"], hex(va + 8));
    // A machine description provides its kernel; a bare file needs --kernel.
    let text = machine("tiny");
    let args = [
        "mem",
        "read",
        "--kmem",
        "version",
        &len,
        "--raw",
        "--machine",
    ];
    let read = run(args.iter().copied().chain([text.to_str().unwrap()])).expect(0);
    assert_eq!(read.out, version);
    fs::rename(fixture.path("m/ram"), fixture.path("bare")).unwrap();
    let bare = fixture.path("bare");
    let args = [
        "mem", "read", "--kmem", "version", &len, "--raw", "--image", &bare,
    ];
    let refused = run(args).expect(64);
    assert!(refused.err.contains("--kernel ELF"), "{}", refused.err);
    let kernel = fixture.path("m/kernel");
    let named = args.iter().copied().chain(["--kernel", &kernel]);
    assert_eq!(run(named).expect(0).out, version);
}

#[test]
fn bytes_before_an_unreadable_address_are_printed() {
    let fixture = fixture();
    let end = end_of_ram();
    let read = |args: &[&str]| fixture.mem(args).expect(1);
    let some = read(&["read", &hex(end - 10), "4K", "--raw"]);
    assert!(some.out == made(end - 10, 10));
    assert!(some.err.contains(&hex(end)), "{}", some.err);
    let words = read(&["read", &hex(end - 10), "16", "--words", "4"]);
    assert_eq!(words.text().split_whitespace().count(), 1 + 2);
    let none = read(&["read", &hex(end), "4"]);
    assert!(none.out.is_empty());
    let answer = fixture.json("mem-read", 1, &["read", &hex(end - 2), "4"]);
    assert_eq!(
        (&answer["requested"], &answer["length"]),
        (&4.into(), &2.into())
    );
    assert!(answer["error"].as_str().unwrap().contains(&hex(end)));
    // Page 0 through the kernel map; unmapped addresses; the end of the address space.
    for place in [hex(KERNBASE.0), "0".into(), hex(tiny().truth().kva_end.0)] {
        read(&["read", "--kmem", &place, "8"]);
    }
    for at in [u64::MAX, 1 << 63, 1 << 46] {
        for args in [&["read"][..], &["read", "--kmem"]] {
            let at = hex(at);
            let all = [args, &[&*at, "0xffffffffffffffff", "--raw"]].concat();
            assert!(read(&all).out.is_empty());
        }
    }
    // All bytes up to the first address without memory, with any length.
    let rest = read(&["read", &hex(end - 100_000), "0xffffffffffffffff", "--raw"]);
    assert_eq!(rest.out.len(), 100_000);
    let nothing = fixture.mem(&["read", &hex(end), "0", "--raw"]).expect(0);
    assert!(nothing.out.is_empty());
}

#[test]
fn next_process_reads_what_was_written() {
    let fixture = fixture();
    let write = |args: &[&str]| fixture.mem(&[&["write", "--write"], args].concat());
    let at = 0x5ffe;
    write(&[&hex(at), "de ad", "beef"]).expect(0);
    assert_eq!(fixture.ram(at, 4), [0xde, 0xad, 0xbe, 0xef]);
    write(&["--kmem", "hz", "--words", "4", "0x12345678"]).expect(0);
    let read = ["read", "--kmem", "hz", "4", "--words", "4"];
    let shown = fixture.mem(&read).expect(0);
    assert!(shown.text().ends_with(" 12345678\n"), "{}", shown.text());
    write(&[
        "--kmem", "hz", "--words", "2", "--endian", "big", "1", "0x203",
    ])
    .expect(0);
    let read = fixture
        .mem(&["read", "--kmem", "hz", "4", "--raw"])
        .expect(0);
    assert_eq!(read.out, [0, 1, 2, 3]);

    let page = (0..5000).map(|i| i as u8).collect::<Vec<_>>();
    fs::write(fixture.path("page"), &page).unwrap();
    write(&["0x6003", "--from", &fixture.path("page")]).expect(0);
    assert!(fixture.ram(0x6003, page.len()) == page);
    let image = fixture.path("m");
    let mut child = livecore()
        .args(["mem", "write", "0x8000", "--from", "-", "--write", "--json"])
        .args(["--image", &image])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child
        .stdin
        .take()
        .unwrap()
        .write_all(b"from a pipe")
        .unwrap();
    let run = Run::of(child.wait_with_output().unwrap()).expect(0);
    let answer = serde_json::from_slice::<Value>(&run.out).unwrap();
    schema::check("mem-write", &answer);
    assert_eq!(answer["length"], 11);
    assert!(answer["requested"].is_null());
    assert_eq!(fixture.ram(0x8000, 11), b"from a pipe");
    write(&["0x8000", "--from", &fixture.path("absent")]).expect(1);
}

#[test]
fn write_beyond_memory_stops_and_reports_its_length() {
    let fixture = fixture();
    let end = end_of_ram();
    let size = fs::metadata(fixture.path("m/ram")).unwrap().len();
    let at = hex(end - 12);
    let words = ["0x1111111111111111", "0x2222222222222222", "3"];
    let args = [&["write", "--write", "--words", "8", &at][..], &words].concat();
    let answer = fixture.json("mem-write", 1, &args);
    assert_eq!(
        (&answer["requested"], &answer["length"]),
        (&24.into(), &12.into())
    );
    assert!(answer["error"].as_str().unwrap().contains(&hex(end)));
    assert_eq!(
        fixture.ram(end - 12, 12),
        [[0x11; 8].as_slice(), &[0x22; 4]].concat()
    );
    for at in [end, 1 << 46, 1 << 63, u64::MAX] {
        for space in [&[][..], &["--kmem"]] {
            let at = hex(at);
            let args = [&["write", "--write", &at, "0011"], space].concat();
            let run = fixture.mem(&args).expect(1);
            assert!(run.out.is_empty());
        }
    }
    let grown = fs::metadata(fixture.path("m/ram")).unwrap().len();
    assert_eq!(grown, size, "the image does not grow");
}

#[test]
fn dumps_descriptions_and_elf_files_are_not_changed() {
    let fixture = fixture();
    let text = machine("tiny");
    let text = text.to_str().unwrap();
    for args in [
        &["mem", "write", "0x1000", "00", "--write", "--machine", text][..],
        &[
            "mem",
            "ranges",
            "set",
            "-b",
            "0",
            "-l",
            "0x10000",
            "write-back",
            "--machine",
            text,
        ],
        &["mem", "ranges", "clear", "-o", "BIOS", "--machine", text],
    ] {
        let refused = run(args).expect(63);
        assert!(refused.err.contains("synth"), "{}", refused.err);
        assert!(refused.err.contains("--image"), "{}", refused.err);
    }
    let mut files = vec![(fixture.path("m/kernel"), "ELF")];
    for (name, options) in [
        ("raw", &["--none", "--container", "raw"][..]),
        ("saved", &["--none", "--container", "saved"]),
        ("sealed.zst", &["-Z"]),
        ("saved.gz", &["-z", "--container", "saved"]),
    ] {
        let path = fixture.path(name);
        let take = ["take", "-q", "--machine", text, "-o", &path];
        run(take.iter().chain(options)).expect(0);
        files.push((path, "a dump"));
    }
    for (path, what) in &files {
        let before = fs::read(path).unwrap();
        for operation in [
            &["write", "0", "00", "--write"][..],
            &["ranges", "set", "-b", "0", "-l", "0x10000", "write-back"],
            &["read", "0", "16"],
        ] {
            let args = [&["mem"], operation, &["--image", path]].concat();
            let refused = run(&args).expect(63);
            assert!(refused.err.contains(what), "{args:?}: {}", refused.err);
            assert!(refused.out.is_empty());
        }
        assert!(fs::read(path).unwrap() == before, "{path}");
    }
    // A bare memory file has no file for ranges.
    fs::rename(fixture.path("m/ram"), fixture.path("bare")).unwrap();
    let bare = fixture.path("bare");
    let set = [
        "mem",
        "ranges",
        "set",
        "-b",
        "0",
        "-l",
        "0x10000",
        "write-back",
        "--image",
        &bare,
    ];
    let refused = run(set).expect(63);
    assert!(refused.err.contains("synth --out"), "{}", refused.err);
    run(["mem", "ranges", "--image", &bare]).expect(0);
    run(["mem", "read", "0", "16", "--image", "/dev/zero"]).expect(63);
    run(["mem", "read", "0", "16", "--image", &fixture.path("absent")]).expect(1);
    run([
        "mem",
        "read",
        "0",
        "16",
        "--image",
        fixture.dir.path().to_str().unwrap(),
    ])
    .expect(1);
}
