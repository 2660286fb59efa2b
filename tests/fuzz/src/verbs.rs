//! Runs a verb on a file, with options that the input selects.

use std::ffi::OsString;
use std::fs;
use std::path::Path;
use std::sync::OnceLock;

use livecore_tests::{mkdump, mkelf};

/// The command lines. `FILE` is the input, `DUMP` and `KERNEL` are sound files, `OUT` does not exist.
const LINES: [&str; 22] = [
    "info FILE",
    "info --json FILE",
    "verify --deep --verbose FILE",
    "verify --format sarif --kernel KERNEL --deep FILE",
    "compare FILE DUMP",
    "compare --json DUMP FILE",
    "convert FILE OUT.zst",
    "convert --zero-tail --none --container raw FILE OUT",
    "convert --to elf --kernel KERNEL FILE OUT",
    "convert --to full --gzip FILE OUT",
    "salvage FILE OUT.gz",
    "salvage --proven --json FILE OUT",
    "export FILE OUT",
    "read --phys FILE 0x1000 100",
    "read --force-kernel --kernel KERNEL FILE hz 8",
    "dmesg --all FILE",
    "ps --force-kernel --kernel KERNEL FILE",
    "threads --json --force-kernel --kernel KERNEL FILE",
    "triage --force-kernel --kernel KERNEL FILE",
    "ps --force-kernel --kernel FILE DUMP",
    "threads --force-kernel --kernel FILE DUMP",
    "verify --deep --kernel FILE DUMP",
];

/// Most bytes of standard output.
const OUT_MAX: usize = 32 << 20;

const DUMP: &str = "minidump amd64 3
kernbase 0xffffffff80000000
kernend 0xffffffffc0000000
avail 0x1000 0x9000
avail 0x200000 0x20a000
msgbuf text \"---<<BOOT>>---\\n\"
page 0x1000 text \"the first page\"
pages 0x200000 4 seed 1
map 0xffffffff80200000 0x200000 2M rx
";

const KERNEL: &str = "elf amd64
section .text 0xffffffff80200000 hex 55 48 89 e5
bss .bss 0xffffffff80300000 0x1000
symbol main 0xffffffff80200000 size 4 func
symbol hz 0xffffffff80300000 size 4
symbol allproc 0xffffffff80300010 size 8
symbol version 0xffffffff80200000 size 4
";

/// The sound dump and the kernel.
fn sound() -> &'static (Vec<u8>, Vec<u8>) {
    static FILES: OnceLock<(Vec<u8>, Vec<u8>)> = OnceLock::new();
    FILES.get_or_init(|| {
        let dump = mkdump::build(DUMP).expect("a recipe of a dump");
        (dump, mkelf::build(KERNEL).expect("a recipe of a kernel"))
    })
}

/// Asserts that the verb selected by the first byte reports the damage of the rest with a documented
/// exit code and a message, leaves an output only if it succeeds, and no other file.
pub fn verbs(bytes: &[u8]) {
    let Some((selector, file)) = bytes.split_first() else {
        return;
    };
    let line = LINES[usize::from(*selector) % LINES.len()];
    let dir = std::env::temp_dir().join(format!("livecore-verbs-{}", std::process::id()));
    let _ = fs::remove_dir_all(&dir);
    fs::create_dir_all(&dir).expect("a directory for temporary files");
    let (dump, kernel) = sound();
    for (name, bytes) in [("FILE", file), ("DUMP", dump), ("KERNEL", kernel)] {
        fs::write(dir.join(name), bytes).expect("a file is written");
    }
    run(line, &dir);
    let _ = fs::remove_dir_all(&dir);
}

fn run(line: &str, dir: &Path) {
    let words = line.split(' ').map(|word| match word {
        "FILE" | "DUMP" | "KERNEL" => dir.join(word).into_os_string(),
        word if word.starts_with("OUT") => dir.join(word).into_os_string(),
        word => OsString::from(word),
    });
    let args = ["livecore", "--memory", "32M"].map(OsString::from);
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let env = livecore::Env {
        spool_dir: dir.to_owned(),
        ..livecore::Env::detached()
    };
    let exit = livecore::run(args.into_iter().chain(words), &mut out, &mut err, env).code();
    let printed = String::from_utf8_lossy(&err);
    assert!(matches!(exit, 0..=4 | 63), "{line}: exit {exit}: {printed}");
    let reports = ["verify", "compare", "salvage"]
        .iter()
        .any(|verb| line.starts_with(verb));
    assert!(
        exit == 0 || reports || !err.is_empty(),
        "{line}: exit {exit} without a message"
    );
    assert!(out.len() <= OUT_MAX, "{line}: {} bytes", out.len());
    if line.contains("--json") && matches!(exit, 0 | 3) {
        let parsed = serde_json::from_slice::<serde_json::Value>(&out);
        assert!(parsed.is_ok(), "{line}: {:?}", parsed.err());
    }
    let entries = fs::read_dir(dir).expect("the directory is readable");
    for entry in entries {
        let name = entry.expect("an entry").file_name();
        let name = name.to_string_lossy();
        let is_output = name.starts_with("OUT") && matches!(exit, 0 | 3);
        assert!(
            is_output || ["FILE", "DUMP", "KERNEL"].contains(&&*name),
            "{line}: exit {exit} leaves {name}: {printed}"
        );
    }
}
