//! Ids and wording of messages.
//!
//! Other tests assert ids. The wording is only in testdata/golden: `messages.txt` for errors of the
//! command line, `errors.txt` for the errors of the libraries, `grid/lines.txt` for damaged dumps.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use clap::ValueEnum;
use livecore::Id;

use crate::harness::{golden, machine, run, run_json, testdata};

/// The id and meaning of each row in docs/json.md.
fn documented() -> Vec<(String, String)> {
    let page = fs::read_to_string(testdata().join("../docs/json.md")).unwrap();
    let (_, table) = page.split_once("| id | meaning |\n|---|---|\n").unwrap();
    let rows = table.lines().take_while(|line| line.starts_with('|'));
    rows.map(|row| {
        let cells = row.trim_matches(['|', ' ']).split_once(" | ").unwrap();
        (cells.0.trim_matches('`').to_string(), cells.1.to_string())
    })
    .collect()
}

#[test]
fn ids_and_their_meanings_are_those_of_the_documentation() {
    let ids = Id::value_variants().iter();
    let ids: Vec<_> = ids.map(|id| (id.name(), id.meaning())).collect();
    assert_eq!(ids, documented());
    for (name, id) in ids.iter().zip(Id::value_variants()) {
        assert_eq!(serde_json::to_value(id).unwrap(), name.0, "two spellings");
    }
}

/// Files for the command lines of [`refused`].
struct Files {
    dir: tempfile::TempDir,
    dump: PathBuf,
}

impl Files {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let dump = dir.path().join("dump");
        let tiny = machine("tiny");
        let args = ["take", "-q", "--machine"].map(AsRef::as_ref);
        let files = [tiny.as_os_str(), "-o".as_ref(), dump.as_os_str()];
        run(args.into_iter().chain(files)).expect(0);
        fs::write(dir.path().join("text"), "no dump").unwrap();
        fs::create_dir(dir.path().join("empty")).unwrap();
        fs::create_dir(dir.path().join("crash")).unwrap();
        for name in ["vmcore.0", "vmcore.0.gz"] {
            fs::write(dir.path().join("crash").join(name), "").unwrap();
        }
        let written = dir.path().join("m");
        let args = ["synth", "-q", "--out"].map(AsRef::as_ref);
        run(args
            .into_iter()
            .chain([written.as_os_str(), tiny.as_os_str()]))
        .expect(0);
        Self { dir, dump }
    }

    fn path(&self) -> &Path {
        self.dir.path()
    }
}

/// Command lines that fail or print a warning. DUMP, TINY and DIR are paths.
const REFUSED: &[&str] = &[
    "frobnicate",
    "info --frobnicate DUMP",
    "info DIR/absent",
    "info DIR/text",
    "info DIR/empty",
    "verify DIR/empty",
    "list DIR/empty",
    "list DIR/text",
    "list --prune DIR/empty",
    "triage DIR/empty",
    "triage -n 3 DIR/crash",
    "triage -n 0 DIR/crash",
    "triage -n 0 DUMP",
    "verify --explain NO-SUCH-RULE",
    "read DUMP 0x1000",
    "read DUMP 12q 4",
    "read DUMP nosuchsymbol 4",
    "read DUMP nosuchsymbol 4 --kernel DIR/m/kernel",
    "read DUMP kernbase 4 --kernel DIR/m/kernel",
    "read DUMP hz+0xffffffffffffffff 4 --kernel DIR/m/kernel",
    "read DUMP 0x1000 16",
    "read DUMP 0x1000 16 --kernel DIR/text",
    "read DUMP 0x2000000 16 --phys",
    "read DUMP 0xffffffffffffffff 16 --phys",
    "read DUMP 0x1000 3 --words 2 --phys",
    "threads DUMP --tid 5 --kernel DIR/m/kernel",
    "threads DUMP --pid 99999 --kernel DIR/m/kernel",
    "gdb DUMP --kernel DIR/m/kernel --debugger DIR/absent",
    "kgdb DUMP --kernel DIR/m/kernel --program DIR/absent",
    "drgn DUMP --kernel DIR/m/kernel --python DIR/absent",
    "drgn -",
    "take -o DIR/out --machine DIR/absent",
    "take -o DIR/out --machine DIR/text",
    "take -o DIR/dump --machine TINY",
    "take -o DIR/out.xz --machine TINY",
    "take -o - --json --machine TINY",
    "take -o DIR/out --qmp DIR/socket",
    "take -o DIR/out --qmp DIR/socket --kernel DIR/m/kernel",
    "take -o DIR/out --image DIR/m --cpu 7",
    "take -o DIR/out --image DUMP --kernel DIR/m/kernel",
    "take -o DIR/out --image DIR/text --kernel DIR/text",
    "take -o DIR/out --container saved --level 99 -Z --machine TINY",
    "convert DUMP DIR/empty",
    "convert DUMP DIR/out --notes",
    "convert DIR/text DIR/out",
    "convert -9 -1 DUMP DIR/out",
    "convert DUMP DIR/out --encrypt DIR/text",
    "info DUMP --key DIR/absent",
    "info DUMP --key DIR/text",
    "decrypt DUMP DIR/out",
    "export --encrypted DUMP DIR/out",
    "salvage DUMP DIR/empty",
    "salvage DIR/text DIR/out",
    "export DUMP -",
    "save",
    "save DIR DIR/absent",
    "save DIR/absent DIR/text",
    "save DIR/empty DIR/text",
    "save DIR/empty DIR/empty",
    "save -C -k DIR/text",
    "clear DIR/text",
    "clear DIR/absent",
    "mem read 0x1000 16 --machine DIR/absent",
    "mem read 0x1000000000000 16 --machine TINY",
    "mem write 0x1000 00 --machine TINY",
    "mem write 0x1000 0 --write --machine TINY",
    "mem write 0x1000 00 --write --machine TINY",
    "mem paddr --machine TINY",
    "mem paddr 0x1000 --machine TINY --pid 99999",
    "mem ranges clear --machine TINY",
    "synth DIR/text --out DIR/n",
    "synth TINY --out DIR/text",
    "serve DIR/text",
    "netdump --listen nowhere --out DIR",
    "netdump --listen 127.0.0.1:0 --out DIR/nowhere",
    "netdump --listen 127.0.0.1:0 --out DIR --hosts DIR/nowhere",
    "netdump --listen 127.0.0.1:0 --out DIR --clients 0",
    "watch --qmp DIR/socket --out DIR",
    "watch --qmp DIR/socket --out DIR/nowhere --kernel DIR/m/kernel",
    "watch --qmp DIR/socket --out DIR --kernel DIR/m/kernel --once",
    "watch --qmp DIR/socket --out DIR --kernel DIR/m/kernel --on boot",
];

#[test]
fn failures_of_the_command_line_have_an_id_and_the_recorded_wording() {
    let files = Files::new();
    let tiny = machine("tiny");
    let mut lines = String::new();
    for words in REFUSED {
        let paths = [
            ("DUMP", files.dump.to_str().unwrap()),
            ("TINY", tiny.to_str().unwrap()),
            ("DIR", files.path().to_str().unwrap()),
        ];
        let replaced = |word: &str| {
            paths
                .iter()
                .fold(word.to_owned(), |w, (n, p)| w.replace(n, p))
        };
        let args: Vec<_> = words.split(' ').map(replaced).collect();
        let text = run(&args);
        let json = run_json(&args).expect(text.code);
        let mut shown = text.err.clone();
        for (name, path) in paths {
            shown = shown.replace(path, name);
        }
        writeln!(lines, "$ livecore {words} [{}]", text.code).unwrap();
        let messages = json.messages();
        assert!(!messages.is_empty(), "{words}");
        for message in &messages {
            let level = message["level"].as_str().unwrap();
            let mut named = vec![format!("{level} {}", message["id"].as_str().unwrap())];
            for key in ["region", "offset", "address", "found", "expected"] {
                if !message[key].is_null() {
                    named.push(format!("{key} {}", message[key]));
                }
            }
            writeln!(lines, "  [{}]", named.join(", ")).unwrap();
        }
        for line in shown.lines() {
            lines.push_str(format!("  {line}").trim_end());
            lines.push('\n');
        }
    }
    golden("messages.txt", &lines);
}
