//! Command lines of new users: the syntax of FreeBSD's tools, addresses as printed, several dumps.

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::sync::OnceLock;

use serde_json::Value;

use crate::harness::{MESSAGES, Run, golden, livecore, machine, no_such_file, run, run_json};

pub(crate) struct Made {
    dir: tempfile::TempDir,
}

impl Made {
    pub(crate) fn path(&self, name: &str) -> String {
        self.dir.path().join(name).to_str().unwrap().into()
    }
}

/// A machine, its kernel and its dump.
pub(crate) fn made() -> &'static Made {
    static MADE: OnceLock<Made> = OnceLock::new();
    MADE.get_or_init(|| {
        let made = Made {
            dir: tempfile::tempdir().unwrap(),
        };
        let tiny = machine("tiny");
        let tiny = tiny.to_str().unwrap();
        run(["synth", "-q", tiny, "-o", &made.path("machine")]).expect(0);
        run([
            "take",
            "-q",
            "--machine",
            tiny,
            "-o",
            &made.path("vmcore.3.zst"),
        ])
        .expect(0);
        made
    })
}

#[test]
fn freebsd_options_m_and_n_are_accepted() {
    let (dump, kernel) = (made().path("vmcore.3.zst"), made().path("machine/kernel"));
    for verb in ["dmesg", "ps"] {
        let ours = run([verb, &dump, "--kernel", &kernel]).expect(0);
        let theirs = run([verb, "-M", &dump, "-N", &kernel]).expect(0);
        assert_eq!(ours.out, theirs.out, "{verb}");
        let short = run([verb, &dump, "-k", &kernel]).expect(0);
        assert_eq!(ours.out, short.out, "{verb}");
        run([verb, &dump, "-M", &dump]).expect(64);
    }
}

#[test]
fn kgdb_accepts_kernel_before_dump_and_suggests_alternatives() {
    let (dump, kernel) = (made().path("vmcore.3.zst"), made().path("machine/kernel"));
    let with_empty_path = |args: &[&str]| {
        let nowhere = tempfile::tempdir().unwrap();
        let output = livecore().args(args).env("PATH", nowhere.path()).output();
        Run::of(output.unwrap()).expect(1)
    };
    let run = with_empty_path(&["kgdb", &kernel, &dump]);
    golden("messages/kgdb-missing.txt", &run.err);
    let [option, json] = MESSAGES;
    with_empty_path(&["kgdb", option, json, &kernel, &dump]).error("program-missing");
    let run = crate::harness::run(["kgdb", "--program", "true", &kernel, &dump]);
    run.expect(0);
    let run = crate::harness::run(["kgdb", &kernel, &dump, "--kernel", &kernel]).expect(64);
    assert!(run.err.contains("--kernel"), "{}", run.err);
}

/// crashinfo's output explains why there is no report.
#[test]
fn output_of_crashinfo_goes_to_standard_error() {
    let dir = tempfile::tempdir().unwrap();
    let program = dir.path().join("crashinfo");
    fs::write(&program, "#!/bin/sh\necho why-$((6 * 7))\nexit 1\n").unwrap();
    Command::new("chmod")
        .arg("755")
        .arg(&program)
        .status()
        .unwrap();
    let (dump, kernel) = (made().path("vmcore.3.zst"), made().path("machine/kernel"));
    let program = program.to_str().unwrap();
    let args = ["kgdb", "--crashinfo", "--program", program, &kernel, &dump];
    let run = run(args).expect(1);
    assert!(run.err.contains("why-42"), "{}", run.err);
    assert_eq!(run.text(), "");
}

#[test]
fn threads_are_selected_by_process_and_by_hexadecimal_id() {
    let (dump, kernel) = (made().path("vmcore.3.zst"), made().path("machine/kernel"));
    let threads = |more: &[&str]| {
        let args = ["threads", "--json", &dump, "--kernel", &kernel];
        let run = run(args.iter().chain(more)).expect(0);
        let answer: Value = serde_json::from_slice(&run.out).unwrap();
        answer["threads"].as_array().unwrap().clone()
    };
    let all = threads(&[]);
    let (tid, pid) = (
        all[0]["tid"].as_i64().unwrap(),
        all[0]["pid"].as_i64().unwrap(),
    );
    assert_eq!(threads(&["--tid", &format!("{tid:#x}")])[0]["tid"], tid);
    let of_process = threads(&["--pid", &pid.to_string()]);
    assert!(!of_process.is_empty());
    assert!(of_process.iter().all(|thread| thread["pid"] == pid));
    run(["threads", &dump, "--kernel", &kernel, "--pid", "999999"]).expect(1);
}

#[test]
fn info_accepts_several_dumps_and_a_directory() {
    let dump = made().path("vmcore.3.zst");
    let one = run(["info", &dump]).expect(0);
    let two = run(["info", &dump, &dump]).expect(0);
    assert_eq!(two.text(), format!("{}\n{}", one.text(), one.text()));
    let mixed = run(["info", &dump, "/nonexistent/vmcore.0"]).expect(1);
    assert_eq!(mixed.out, one.out);
    let directory = made().dir.path().to_str().unwrap();
    assert_eq!(run(["info", directory]).expect(0).out, one.out);
    let empty = tempfile::tempdir().unwrap();
    let printed = run_json(["info".as_ref(), empty.path().as_os_str()]).expect(0);
    assert_eq!(printed.count("no-dumps"), 1, "{}", printed.err);
}

#[test]
fn synth_replaces_a_machine_only_with_force() {
    let dir = tempfile::tempdir().unwrap();
    let tiny: PathBuf = machine("tiny");
    let (tiny, out) = (tiny.to_str().unwrap(), dir.path().to_str().unwrap());
    run(["synth", "-q", tiny, "-o", out]).expect(0);
    let refused = run(["synth", "-q", tiny, "-o", out]).expect(1);
    assert!(refused.err.contains("--force"), "{}", refused.err);
    run(["synth", "-q", tiny, "-o", out, "--force"]).expect(0);
}

#[test]
fn system_errors_are_printed_without_errno() {
    for args in [
        &["info", "/nonexistent"][..],
        &["verify", "/nonexistent"],
        &["convert", "/nonexistent", "/nonexistent/out"],
        &["synth", "/nonexistent", "-o", "/nonexistent/out"],
        &[
            "take",
            "--image",
            "/nonexistent",
            "--kernel",
            "/nonexistent",
        ],
    ] {
        let run = run(args);
        let printed = format!("{}{}", run.text(), run.err);
        assert!(!printed.contains("(os "), "{args:?}: {printed}");
        let absent = no_such_file();
        assert_eq!(printed.matches(&absent).count(), 1, "{args:?}: {printed}");
    }
}

#[test]
fn take_to_a_closed_standard_output_fails() {
    let dump = made().path("vmcore.3.zst");
    let mut shell = Command::new("sh");
    shell.args(["-c", "exec \"$0\" --messages json convert \"$1\" - >&-"]);
    shell.args([env!("CARGO_BIN_EXE_livecore"), &dump]);
    let run = Run::of(shell.output().unwrap()).expect(1);
    assert_eq!(run.error("stream-closed")["subject"], "standard output");
}

/// A header made without a time has 0.
#[test]
fn unknown_time_is_not_printed_as_1970() {
    let saved = made().path("saved");
    let args = ["--none", "--container", "saved", "-q"];
    run(["convert", &made().path("vmcore.3.zst"), &saved]
        .iter()
        .chain(&args))
    .expect(0);
    let sealed = made().path("sealed.zst");
    run(["convert", "-q", &saved, &sealed]).expect(0);
    let info = run(["info", &sealed]);
    assert!(!info.text().contains("1970"), "{}", info.text());
}

#[test]
fn message_buffer_of_zeros_is_a_warning() {
    let saved = made().path("zeros");
    let args = ["--none", "--container", "saved", "-q"];
    run(["convert", &made().path("vmcore.3.zst"), &saved]
        .iter()
        .chain(&args))
    .expect(0);
    let info = run(["info", "--json", &saved]);
    let info: Value = serde_json::from_slice(&info.out).unwrap();
    let sections = info["sections"].as_array().unwrap();
    let section = sections.iter().find(|s| s["name"] == "msgbuf").unwrap();
    let [at, len] = ["offset", "size"].map(|key| section[key].as_u64().unwrap() as usize);
    let mut bytes = fs::read(&saved).unwrap();
    bytes[at..at + len].fill(0);
    fs::write(&saved, bytes).unwrap();
    let printed = run_json(["dmesg", &saved]).expect(3);
    assert_eq!(printed.text(), "");
    printed.warnings(&["msgbuf-empty"]);
}

/// crashinfo(8) without `-n` reads `bounds`, which savecore(8) increases.
#[test]
fn crashinfo_finds_an_exported_dump_with_an_honest_info_file() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    let plain = path("vmcore.3");
    let args = ["--none", "--container", "saved", "-q"];
    run(["convert", &made().path("vmcore.3.zst"), &plain]
        .iter()
        .chain(&args))
    .expect(0);
    let crash = path("crash");
    fs::create_dir(&crash).unwrap();
    let in_crash = |name: &str| dir.path().join("crash").join(name);
    let printed = run_json(["export", &plain, &crash]).expect(0);
    // info.3 and the dump.
    assert_eq!(printed.count("written"), 2, "{}", printed.err);
    let info = fs::read_to_string(in_crash("info.3")).unwrap();
    for line in ["Dump Status: unknown\n", "Dumptime: unknown\n"] {
        assert!(info.contains(line), "{info}");
    }
    assert!(!info.contains("1970"), "{info}");
    assert_eq!(fs::read_to_string(in_crash("bounds")).unwrap(), "4\n");
    for name in ["vmcore", "info"] {
        let target = fs::read_link(in_crash(&format!("{name}.last"))).unwrap();
        assert_eq!(target.to_str().unwrap(), format!("{name}.3"));
    }
    // Another dump's info file exists.
    fs::remove_file(in_crash("vmcore.3")).unwrap();
    let refused = run(["export", &plain, &crash]).expect(1);
    assert!(refused.err.contains("info.3"), "{}", refused.err);
    assert!(!in_crash("vmcore.3").exists());
    run(["export", "--force", &plain, &crash]).expect(0);
    // A newer dump remains the last one.
    fs::write(in_crash("bounds"), "9\n").unwrap();
    run(["export", "--force", &plain, &crash]).expect(0);
    assert_eq!(fs::read_to_string(in_crash("bounds")).unwrap(), "9\n");
}

#[test]
fn memory_image_from_a_pipe_is_refused_in_one_line() {
    let kernel = made().path("machine/kernel");
    for image in ["-", "/dev/stdin"] {
        let refused = run([
            "take",
            "--image",
            image,
            "--kernel",
            &kernel,
            "-o",
            "/dev/null",
        ]);
        assert!([1, 63].contains(&refused.code), "{image}: {}", refused.err);
        assert_eq!(refused.err.lines().count(), 1, "{}", refused.err);
        assert!(!refused.err.contains(&no_such_file()), "{}", refused.err);
    }
}
