//! Crash signatures: `triage --signature`, `list --signatures` and `group`.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::OnceLock;

use serde_json::Value;
use tempfile::TempDir;

use crate::harness::{Run, livecore, run, run_json};
use crate::schema;

/// Two crashes in one place on four architectures and at different addresses, one in another place,
/// one with another message, and a live dump. The kernels are in another directory.
struct Made {
    dir: TempDir,
    kernels: TempDir,
}

/// Name, architecture, release, number of functions, panic message, and whether a page fault
/// precedes the panic.
type Crash = (
    &'static str,
    &'static str,
    &'static str,
    u32,
    &'static str,
    bool,
);

const CRASHES: [Crash; 8] = [
    ("vmcore.0", "amd64", "14.0", 400, "page fault at 0x28", true),
    (
        "vmcore.1",
        "amd64",
        "15.0",
        150,
        "page fault at 0xfff0",
        true,
    ),
    (
        "vmcore.2",
        "aarch64",
        "14.0",
        400,
        "page fault at 0x1",
        true,
    ),
    (
        "vmcore.3",
        "riscv64",
        "14.0",
        90,
        "page fault at 0x77",
        true,
    ),
    ("vmcore.4", "i386", "12.1", 300, "page fault at 0x8", true),
    (
        "vmcore.5",
        "amd64",
        "14.0",
        400,
        "page fault at 0x28",
        false,
    ),
    ("vmcore.6", "amd64", "14.0", 410, "double fault", true),
    ("vmcore.7", "amd64", "14.0", 400, "", true),
];

fn description(number: usize, crash: Crash) -> String {
    let (_, architecture, release, functions, panic, fault) = crash;
    let panic = match panic {
        "" => String::new(),
        panic => format!("panic = \"{panic}\"\n"),
    };
    format!(
        "seed = {number}\narchitecture = \"{architecture}\"\n[memory]\nsize = \"32 MiB\"\n\
         [kernel]\nrelease = \"{release}\"\nfunctions = {functions}\nhostname = \"h{}\"\n\
         [state]\ntime = {}\n{panic}\
         [[process]]\nname = \"sysctl\"\npid = 100\nuser = true\n\
         [[process.thread]]\ndoing = \"running\"\ncpu = 0\nfault = {fault}\n",
        number % 3,
        1_700_000_000 + 1000 * (number * 5 % 8),
    )
}

fn made() -> &'static Made {
    static MADE: OnceLock<Made> = OnceLock::new();
    MADE.get_or_init(|| {
        let made = Made {
            dir: tempfile::tempdir().unwrap(),
            kernels: tempfile::tempdir().unwrap(),
        };
        for (number, crash) in CRASHES.into_iter().enumerate() {
            let text = description(number, crash);
            let machine = livecore_synth::Machine::parse(&text).unwrap();
            let toml = made.kernels.path().join(format!("{number}.toml"));
            fs::write(&toml, text).unwrap();
            fs::write(made.kernel(number), machine.kernel()).unwrap();
            let dump = made.dump(number);
            let args = ["take", "-q", "--machine", toml.to_str().unwrap()];
            // A dump without a panic is a live dump.
            run(args.into_iter().chain(["-Z", "-o", &dump])).expect(0);
        }
        made
    })
}

impl Made {
    fn dump(&self, number: usize) -> String {
        let path = self.dir.path().join(CRASHES[number].0);
        path.to_str().unwrap().into()
    }

    fn kernel(&self, number: usize) -> PathBuf {
        self.kernels.path().join(format!("kernel{number}"))
    }

    fn kernels(&self) -> Vec<String> {
        let paths = (0..CRASHES.len()).map(|number| self.kernel(number));
        let named = paths.map(|path| format!("--kernel-path={}", path.display()));
        named.collect()
    }
}

/// The document of `livecore group --json`.
#[track_caller]
fn grouped(args: &[&str], code: i32) -> (Value, Run) {
    let run = run_json(["group", "--json"].iter().chain(args)).expect(code);
    let value: Value = serde_json::from_slice(&run.out).unwrap();
    schema::check("group", &value);
    (value, run)
}

/// Count, first and last time, example and basis of each group.
fn summary(value: &Value) -> Vec<(u64, u64, u64, String, Option<String>)> {
    let groups = value["groups"].as_array().unwrap().iter();
    let number = |value: &Value| value.as_u64().unwrap();
    let row = groups.map(|group| {
        let example = Path::new(group["example"].as_str().unwrap());
        (
            number(&group["count"]),
            number(&group["first_seen"]) - 1_700_000_000,
            number(&group["last_seen"]) - 1_700_000_000,
            example.file_name().unwrap().to_str().unwrap().to_owned(),
            group["signature"]["basis"].as_str().map(str::to_owned),
        )
    });
    row.collect()
}

fn row(
    count: u64,
    first: u64,
    last: u64,
    example: &str,
    basis: Option<&str>,
) -> (u64, u64, u64, String, Option<String>) {
    (count, first, last, example.into(), basis.map(str::to_owned))
}

#[test]
fn crashes_in_the_same_place_are_one_group_on_every_architecture() {
    let made = made();
    let dir = made.dir.path().to_str().unwrap();
    let kernels = made.kernels();
    let args: Vec<&str> = [dir]
        .into_iter()
        .chain(kernels.iter().map(String::as_str))
        .collect();
    let (value, run) = grouped(&args, 0);
    assert_eq!(run.count("failed"), 0, "{}", run.err);
    let both = Some("message-and-frames");
    let expected = [
        row(5, 0, 7000, "vmcore.3", both),
        row(1, 6000, 6000, "vmcore.6", both),
        row(1, 1000, 1000, "vmcore.5", both),
        row(1, 3000, 3000, "vmcore.7", None),
    ];
    assert_eq!(summary(&value), expected);
    let first = &value["groups"][0];
    assert_eq!(first["hosts"], Value::from(vec!["h0", "h1", "h2"]));
    assert_eq!(first["panic"], "page fault at 0x77");
    let frames = "copyin uiomove_faultflag sysctl_old_user sysctl_handle_string userland_sysctl sys___sysctl";
    assert_eq!(
        first["frames"],
        Value::from(frames.split(' ').collect::<Vec<_>>())
    );
    // The number of threads does not matter.
    for threads in ["-j1", "-j3"] {
        let args: Vec<&str> = args.iter().copied().chain([threads]).collect();
        assert_eq!(grouped(&args, 0).0, value, "{threads}");
    }
}

#[test]
fn without_kernels_the_messages_group() {
    let made = made();
    let (value, _) = grouped(&[made.dir.path().to_str().unwrap()], 0);
    let message = Some("message");
    let expected = [
        row(6, 0, 7000, "vmcore.3", message),
        row(1, 6000, 6000, "vmcore.6", message),
        row(1, 3000, 3000, "vmcore.7", None),
    ];
    assert_eq!(summary(&value), expected);
    assert_eq!(
        value["groups"][0]["signature"]["text"],
        "livecore-signature 1\npanic page fault at N\n"
    );
}

/// The digest is computed by sha256sum(1).
#[test]
fn verbs_agree_on_the_signature_and_its_text() {
    let made = made();
    let kernel = made.kernel(2);
    let kernel = kernel.to_str().unwrap();
    let dump = made.dump(2);
    let text = run(["triage", &dump, "-k", kernel, "--signature"]).expect(0);
    let mut child = std::process::Command::new("sha256sum")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(&text.out).unwrap();
    let digest = child.wait_with_output().unwrap().stdout;
    let id = format!("1:{}", std::str::from_utf8(&digest[..32]).unwrap());
    let report = run(["triage", &dump, "-k", kernel]).expect(0);
    let line = format!("signature:     {id}\n");
    assert!(report.text().contains(&line), "{}", report.text());
    let json = run(["triage", &dump, "-k", kernel, "--json"]).expect(0);
    let json: Value = serde_json::from_slice(&json.out).unwrap();
    schema::check("triage", &json);
    assert_eq!(json["signature"]["id"], id);
    assert_eq!(json["signature"]["text"], text.text());
    let dir = made.dir.path().to_str().unwrap();
    let list = ["list", dir, "--signatures", "--kernel-path", kernel];
    let listed = run(list.into_iter().chain(["--json"])).expect(0);
    let listed: Value = serde_json::from_slice(&listed.out).unwrap();
    schema::check("list", &listed);
    let dumps = listed["dumps"].as_array().unwrap();
    let of = |name: &str| {
        let found = dumps.iter().find(|dump| dump["dump"] == name);
        found.unwrap()["signature"].clone()
    };
    assert_eq!(of("vmcore.2")["id"], id);
    assert_eq!(of("vmcore.1")["basis"], "message");
    assert_eq!(of("vmcore.7"), Value::Null);
    let table = run(list).expect(0);
    assert!(table.text().contains(&id), "{}", table.text());
    let grouped = run(["group", &dump, "--kernel-path", kernel]).expect(0);
    assert!(grouped.text().contains(&id), "{}", grouped.text());
    let none = run_json(["triage", &made.dump(7), "--signature"]).expect(1);
    none.error("failed");
}

#[test]
fn unreadable_dumps_are_reported_and_the_others_grouped() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    fs::copy(made().dump(0), at("vmcore.0")).unwrap();
    let mut bytes = fs::read(made().dump(1)).unwrap();
    bytes.truncate(bytes.len() / 3);
    fs::write(at("vmcore.1"), bytes).unwrap();
    fs::write(at("vmcore.2"), "no dump").unwrap();
    let text = |name: &str| at(name).to_str().unwrap().to_owned();
    let list = at("list");
    let names = ["vmcore.0", "vmcore.1", "vmcore.2", "vmcore.3"].map(text);
    fs::write(&list, names.join("\n") + "\n\n").unwrap();
    let (value, run) = grouped(&["--files-from", list.to_str().unwrap()], 1);
    assert_eq!(value["dumps"], 4);
    assert_eq!(
        value["groups"][0]["dumps"],
        Value::from(vec![names[0].clone()])
    );
    let failed = value["failed"].as_array().unwrap();
    let codes: Vec<_> = failed
        .iter()
        .map(|f| (&f["exit_code"], &f["dump"]))
        .collect();
    let failed = |code: u64, name: usize| (Value::from(code), Value::from(names[name].clone()));
    let expected = [failed(2, 1), failed(63, 2), failed(1, 3)];
    let expected: Vec<_> = expected.iter().map(|(code, name)| (code, name)).collect();
    assert_eq!(codes, expected);
    let errors = run.messages();
    assert_eq!(errors.iter().filter(|m| m["level"] == "error").count(), 3);
    // The same list from standard input.
    let mut child = livecore()
        .args(["group", "--json", "--files-from", "-"])
        .stdin(fs::File::open(&list).unwrap())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut out = Vec::new();
    std::io::Read::read_to_end(&mut child.stdout.take().unwrap(), &mut out).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(1));
    assert_eq!(serde_json::from_slice::<Value>(&out).unwrap(), value);
    let empty = tempfile::tempdir().unwrap();
    let (value, run) = grouped(&[empty.path().to_str().unwrap()], 0);
    assert_eq!(value["groups"], Value::Array(Vec::new()));
    assert_eq!(run.count("no-dumps"), 1);
    run_json(["group", "--files-from", "/nonexistent"])
        .expect(1)
        .error("not-found");
    // A sparse file without line breaks.
    fs::File::create(&list).unwrap().set_len(1 << 40).unwrap();
    run_json(["group", "--files-from", list.to_str().unwrap()])
        .expect(1)
        .error("limit");
    run_json(["group"]).expect(64).error("missing-argument");
}

/// The dumps of a real kernel, whose file has symbols of data only, have no panic message.
#[test]
fn real_dumps_without_message_and_names_have_no_signature() {
    let Some(real) = crate::real::real() else {
        return;
    };
    let args = [&real.dump, &real.full].map(|path| path.to_str().unwrap());
    let (value, _) = grouped(&args, 0);
    assert_eq!(value["groups"].as_array().unwrap().len(), 1);
    assert_eq!(value["groups"][0]["count"], 2);
    assert_eq!(value["groups"][0]["signature"], Value::Null);
}
