//! `convert --exclude` and `--redact`, and the receipt in the seal.

use std::fs;
use std::ops::Range;
use std::path::Path;
use std::sync::{Arc, OnceLock};

use livecore_minidump::{Dump, KernelMemory, OpenOptions, PhysAddr, ReadError, VirtAddr};
use livecore_synth::Machine;
use serde_json::Value;
use tempfile::TempDir;

use crate::harness::{MESSAGES, Run, livecore, machine};

/// A machine with free pages that the kernel dumps: its dump `full.zst`, and `less.zst` without these pages
/// and without the variable `ostype`.
struct Made {
    dir: TempDir,
    /// Free pages, as the builder placed them.
    free: Vec<Range<PhysAddr>>,
    machine: Machine,
}

const PAGE: u64 = 4096;

fn made() -> &'static Made {
    static MADE: OnceLock<Made> = OnceLock::new();
    MADE.get_or_init(|| {
        let dir = tempfile::tempdir().unwrap();
        let text = fs::read_to_string(machine("debug")).unwrap();
        let text = text.replace("[content]\n", "[content]\nfree = \"2 MiB\"\n");
        fs::write(dir.path().join("machine.toml"), &text).unwrap();
        let machine = Machine::parse(&text).unwrap();
        let made = Made {
            free: machine.truth().free.clone(),
            machine,
            dir,
        };
        for args in [
            "synth machine.toml --out m",
            "take --image m/ram --kernel m/kernel -o full.zst",
            "convert full.zst less.zst --kernel m/kernel --exclude free --redact ostype",
        ] {
            made.run(args).expect(0);
        }
        made
    })
}

impl Made {
    fn run(&self, args: &str) -> Run {
        let mut command = livecore();
        command.args(MESSAGES).args(args.split(' '));
        Run::of(command.current_dir(self.dir.path()).output().unwrap())
    }

    fn json(&self, args: &str) -> Value {
        let run = self.run(args).expect(0);
        serde_json::from_slice(&run.out).unwrap()
    }

    fn dump(&self, name: &str) -> Dump {
        let file = fs::File::open(self.dir.path().join(name)).unwrap();
        Dump::from_source(Arc::new(file), &OpenOptions::default()).unwrap()
    }

    fn symbol(&self, name: &str) -> u64 {
        self.machine.truth().symbol(name).unwrap()
    }

    /// The kernel addresses of the first bytes of the message buffer.
    fn message_buffer(&self) -> u64 {
        let dump = self.dump("full.zst");
        let pointer = |at: u64| {
            let mut bytes = [0; 8];
            dump.read_virt(VirtAddr(at), &mut bytes).unwrap();
            u64::from_le_bytes(bytes)
        };
        pointer(pointer(self.symbol("msgbufp")))
    }
}

#[test]
fn free_pages_are_excluded_and_all_others_are_kept() {
    let made = made();
    let (full, less) = (made.dump("full.zst"), made.dump("less.zst"));
    let secret = full.translate(VirtAddr(made.symbol("ostype"))).unwrap().0;
    let is_free = |pa: PhysAddr| made.free.iter().any(|range| range.contains(&pa));
    let (mut excluded, mut pages) = (0, 0);
    for bit in full.bitmap().iter() {
        let pa = full.dump_avail().addr_of(bit).unwrap();
        let (mut before, mut after) = ([0; PAGE as usize], [0; PAGE as usize]);
        full.read_phys(pa, &mut before).unwrap();
        let read = less.read_phys(pa, &mut after);
        pages += 1;
        if is_free(pa) {
            excluded += 1;
            let Err(ReadError::Excluded { at, class }) = read else {
                panic!("{pa}: {read:?}");
            };
            assert_eq!((at, &*class), (pa, "free"));
            continue;
        }
        read.unwrap();
        if pa.0 == secret - secret % PAGE {
            let at = (secret % PAGE) as usize;
            assert_eq!(&before[at..at + 8], b"FreeBSD\0");
            // `ostype` is at a multiple of 8.
            before[at..at + 8].copy_from_slice(b"REDACTED");
        }
        assert!(before == after, "{pa}");
    }
    assert_eq!(excluded, (2 << 20) / PAGE);
    assert_eq!(less.bitmap().count(), pages - excluded);
}

#[test]
fn readers_and_verify_report_the_receipt() {
    let made = made();
    let at = made.free[0].start.0;
    let hole = made
        .run(&format!("read less.zst --phys {at:#x} 16"))
        .expect(1);
    let error = hole.error("excluded");
    assert_eq!(error["address"], format!("{at:#x}"), "{error}");
    let text = error["message"].as_str().unwrap();
    assert!(text.ends_with("was excluded by --exclude free"), "{text}");
    let info = made.json("info less.zst --json");
    let info = info.as_array().map_or(&info, |all| &all[0]);
    assert_eq!(
        info["excluded"],
        serde_json::json!([{ "class": "free", "pages": 512 }])
    );
    assert_eq!(info["redacted"][0]["name"], "ostype");
    let report = made.json("verify less.zst --json");
    let findings = report["reports"][0]["findings"].as_array().unwrap();
    let found = |rule: &str| {
        let finding = findings.iter().find(|finding| finding["rule"] == rule);
        finding.expect(rule)["found"].as_str().unwrap().to_owned()
    };
    assert_eq!(found("SEAL-EXCLUDED"), "512 excluded pages: 512 \"free\"");
    assert_eq!(found("SEAL-REDACTED"), "8 redacted bytes in 1 range");
    let whole = made.json("info full.zst --json");
    let whole = whole.as_array().map_or(&whole, |all| &all[0]);
    assert!(whole.get("excluded").is_none());
}

#[test]
fn converting_keeps_the_receipt_or_warns() {
    let made = made();
    made.run("convert less.zst less.gz").expect(0);
    made.run("convert less.gz less.core --to full").expect(0);
    made.run("convert less.core again.zst --to minidump")
        .expect(0);
    for name in ["less.gz", "again.zst"] {
        let (first, again) = (made.dump("less.zst"), made.dump(name));
        let of = |dump: &Dump| dump.envelope().seal().unwrap().excluded.clone().unwrap();
        assert_eq!(of(&first), of(&again), "{name}");
        let redacted = |dump: &Dump| dump.envelope().seal().unwrap().redacted().unwrap();
        assert_eq!(redacted(&first), redacted(&again), "{name}");
        made.run(&format!("verify {name}")).expect(0);
    }
    let run = made
        .run("convert less.zst bare --container saved")
        .expect(3);
    assert_eq!(run.count("receipt-lost"), 1);
    let run = made.run("export less.zst exported").expect(3);
    assert_eq!(run.count("receipt-lost"), 1);
    // A second step adds to the receipt.
    made.run("convert less.zst more.zst --kernel m/kernel --redact hz")
        .expect(0);
    let info = made.json("info more.zst --json");
    let info = info.as_array().map_or(&info, |all| &all[0]);
    assert_eq!(info["excluded"][0]["pages"], 512);
    assert_eq!(info["redacted"].as_array().unwrap().len(), 2);
}

#[test]
fn what_cannot_be_excluded_or_redacted_is_one_error() {
    let made = made();
    let buffer = made.message_buffer();
    let buffer = format!(
        "convert full.zst x --kernel m/kernel --redact {buffer:#x}-{:#x}",
        buffer + 4
    );
    let table = made.machine.truth().page_tables.last().unwrap().2.0;
    let table = made.machine.truth().dmap.start.0 + table;
    let table = format!(
        "convert full.zst x --kernel m/kernel --redact {table:#x}-{:#x}",
        table + 8
    );
    for (args, code, part) in [
        ("convert full.zst x --exclude used", 64, "expected free"),
        ("convert full.zst x --redact 0x10", 64, "START-END"),
        ("convert full.zst x --exclude free --to elf", 64, "--to"),
        (
            "convert full.zst x --kernel m/kernel --redact absent",
            1,
            "no symbol absent",
        ),
        (
            "convert full.zst x --kernel m/kernel --redact 0x1000-0x1008",
            1,
            "not mapped",
        ),
        (
            "convert full.zst x --kernel m/kernel --exclude free --container raw",
            1,
            "sealed",
        ),
        (&buffer, 63, "message buffer"),
        (&table, 1, "page tables"),
    ] {
        let run = made.run(args);
        assert!(run.err.contains(part), "{args}: {}", run.err);
        assert_eq!(run.code, code, "{args}: {}", run.err);
    }
    // Other tests write to this directory.
    assert!(!made.dir.path().join("x").exists());
    // A kernel without type information.
    let tiny = &crate::served::tiny();
    let to = made.dir.path().join("x");
    let mut command = livecore();
    command
        .arg("convert")
        .arg(&tiny.dump)
        .arg(&to)
        .args(["--exclude", "free", "--kernel"]);
    let run = Run::of(command.arg(&tiny.kernel).output().unwrap()).expect(1);
    assert!(
        run.err.contains("type information about vm_page"),
        "{}",
        run.err
    );
    assert!(!Path::exists(&to));
}
