//! Full dumps whose memory ranges overlap or do not ascend.

use std::fs;

use livecore_tests::mkdump;

use crate::harness::{run, run_json};

/// Ports with full dumps, and the offset of `p_paddr` of the second range.
const PORTS: [(&str, u64); 5] = [
    ("amd64", 64 + 56 + 24),
    ("arm64", 64 + 56 + 24),
    ("powerpc64", 64 + 56 + 24),
    ("i386", 52 + 32 + 12),
    // After PT_DUMP_DELTA and the first range.
    ("arm", 52 + 2 * 32 + 12),
];

const CONTAINERS: [&str; 4] = [
    "",
    "compress gzip\n",
    "compress zstd frames 4096\n",
    "container device\n",
];

/// The type of `p_paddr` in recipes.
fn width(port: &str) -> &'static str {
    match port {
        "i386" | "arm" => "u32",
        _ => "u64",
    }
}

/// Addresses from 0x1000 to 0x9000, and a second range at `pa` with three pages. `same` makes the
/// second range a copy of the first from its third page on.
fn full(port: &str, at: u64, pa: u64, same: bool, container: &str) -> Vec<u8> {
    let mut recipe = format!("fulldump {port}\navail 0x1000 0x9000\navail 0x10000 0x13000\n");
    for page in 1..9 {
        recipe += &format!("page {:#x} fill {page}\n", page * 0x1000);
    }
    for page in 0..3 {
        let fill = if same { page + 3 } else { 100 };
        recipe += &format!("page {:#x} fill {fill}\n", 0x10000 + page * 0x1000);
    }
    recipe += &format!("patch payload {at} = {} {pa:#x}\n{container}", width(port));
    mkdump::build(&recipe).unwrap_or_else(|e| panic!("{recipe}: {e}"))
}

/// Runs every verb that opens full dumps without a kernel. Returns the byte at 0x3000.
fn verbs(dump: &str, dir: &str, code: i32, what: &str) -> Vec<u8> {
    let [copy, salvaged] = ["copy", "salvaged"].map(|name| format!("{dir}/{name}"));
    let lines: [&[&str]; 4] = [
        &["verify", dump],
        &["info", dump],
        &["convert", "-q", "-f", dump, &copy, "--zstd"],
        &["read", "--phys", dump, "0x3000", "1", "--raw"],
    ];
    for line in lines {
        let run = run(line);
        assert_eq!(run.code, code, "{what}: {line:?}: {}", run.err);
    }
    let again = run(["salvage", "-q", "-f", dump, &salvaged]);
    assert!(matches!(again.code, 0 | 3), "{what}: {}", again.err);
    run(["verify", &copy]).expect(code);
    let verified = run(["verify", &salvaged]).code;
    assert!(matches!(verified, 0 | 3), "{what}: {verified}");
    for made in [&copy, &salvaged] {
        run(["compare", dump, made]).expect(0);
    }
    run(["read", "--phys", dump, "0x3000", "1", "--raw"]).out
}

#[test]
fn overlapping_ranges_of_full_dumps_are_compared_and_a_difference_is_a_warning() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().to_str().unwrap();
    let dump = format!("{path}/dump");
    for (port, at) in PORTS {
        for container in CONTAINERS {
            // Whole pages, and the half of one at the end of the first range.
            for (pa, same, code) in [(0x3000, true, 0), (0x3000, false, 3), (0x8800, false, 3)] {
                let what = format!("{port}, {container:?}, {pa:#x}, {same}");
                fs::write(&dump, full(port, at, pa, same, container)).unwrap();
                assert_eq!(verbs(&dump, path, code, &what), [3], "{what}");
                let info = run_json(["info", &dump]);
                let found = info.count("image-contradiction");
                assert_eq!(found, usize::from(code == 3), "{what}: {}", info.err);
            }
        }
    }
}

/// A kernel writes ascending ranges, and readers do not need them.
#[test]
fn full_dump_with_descending_ranges_is_read_and_verify_warns_of_their_order() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().to_str().unwrap();
    let dump = format!("{path}/dump");
    for (port, at) in PORTS {
        let mut recipe = format!("fulldump {port}\navail 0x5000 0x9000\navail 0x10000 0x11000\n");
        recipe += "page 0x5000 fill 5\npage 0x10000 fill 1\n";
        recipe += &format!("patch payload {at} = {} 0x1000\n", width(port));
        fs::write(&dump, mkdump::build(&recipe).unwrap()).unwrap();
        let report = run(["verify", &dump]).expect(3);
        assert!(
            report.text().contains("FULL-ORDER"),
            "{port}: {}",
            report.text()
        );
        for (address, byte) in [("0x1000", 1), ("0x5000", 5)] {
            let read = run(["read", "--phys", &dump, address, "1", "--raw"]).expect(0);
            assert_eq!(read.out, [byte], "{port}: {address}");
        }
    }
}
