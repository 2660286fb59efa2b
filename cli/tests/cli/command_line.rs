//! Options that livecore shares with its neighbors: zstd(1), qemu-img(1), savecore(8).

use std::fs;
use std::os::unix::fs::symlink;

use serde_json::Value;

use crate::habits::made;
use crate::harness::{Run, livecore, machine, run, run_json};

#[test]
fn program_without_arguments_prints_its_help() {
    let help = run(["--help"]).expect(0);
    let bare = run::<&str>([]).expect(0);
    assert!(bare.text().contains("Verbs:") && bare.err.is_empty());
    assert!(!bare.text().contains("guard"));
    assert_eq!(help.text().lines().next(), bare.text().lines().next());
}

#[test]
fn digits_name_the_level_and_t_the_threads() {
    let dir = tempfile::tempdir().unwrap();
    let dump = made().path("vmcore.3.zst");
    let convert = |options: &[&str]| {
        let out = dir.path().join("out.zst");
        let args = ["convert", "-q", "-f", &dump, out.to_str().unwrap()];
        run(args.iter().chain(options)).expect(0);
        fs::read(out).unwrap()
    };
    let named = convert(&["--level", "1"]);
    assert_eq!(convert(&["-1", "-T", "2"]), named);
    assert_ne!(convert(&["-19"]), named);
}

#[test]
fn suffix_of_a_compression_that_cannot_be_written_is_a_usage_error() {
    let dir = tempfile::tempdir().unwrap();
    let dump = made().path("vmcore.3.zst");
    for suffix in ["xz", "bz2", "lz4", "7z", "zip"] {
        let out = dir.path().join(format!("x.{suffix}"));
        let out = out.to_str().unwrap();
        let refused = run(["convert", &dump, out]).expect(64);
        assert!(refused.err.contains("--none"), "{}", refused.err);
        let tiny = machine("tiny");
        run(["take", "--machine", tiny.to_str().unwrap(), "-o", out]).expect(64);
        assert!(!fs::exists(out).unwrap());
        run(["convert", "-q", "--none", &dump, out]).expect(0);
    }
}

#[test]
fn suffix_that_contradicts_the_compression_is_reported() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("x.zst");
    let out = out.to_str().unwrap();
    let done = run_json(["convert", "--gzip", &made().path("vmcore.3.zst"), out]).expect(0);
    assert_eq!(done.count("suffix-differs"), 1, "{}", done.err);
    assert_eq!(fs::read(out).unwrap()[..2], [0x1f, 0x8b]);
}

#[test]
fn container_has_a_short_option() {
    let dir = tempfile::tempdir().unwrap();
    let dump = made().path("vmcore.3.zst");
    let write = |option: &str| {
        let out = dir.path().join("out");
        run([
            "convert",
            "-q",
            "-f",
            option,
            "raw",
            &dump,
            out.to_str().unwrap(),
        ])
        .expect(0);
        fs::read(out).unwrap()
    };
    assert_eq!(write("-O"), write("--container"));
    let out = dir.path().join("salvaged");
    let out = out.to_str().unwrap();
    run(["salvage", "-q", "-O", "raw", &dump, out]).expect(0);
    let info = run(["info", "--json", out]).expect(0);
    let info: Value = serde_json::from_slice(&info.out).unwrap();
    assert_eq!(info["container"], "raw");
}

#[test]
fn level_without_compression_is_reported() {
    let dir = tempfile::tempdir().unwrap();
    let dump = made().path("vmcore.3.zst");
    let convert = |name: &str, options: &[&str]| {
        let out = dir.path().join(name);
        let args = ["convert", &dump, out.to_str().unwrap()];
        run_json(args.iter().chain(options))
            .expect(0)
            .count("level-unused")
    };
    assert_eq!(convert("plain", &["-5"]), 1);
    assert_eq!(convert("plain.zst", &["-5"]), 0);
    assert_eq!(convert("plain-2", &[]), 0);
}

#[test]
fn old_spelling_of_force_kernel_works_with_a_hint() {
    let (dump, kernel) = (made().path("vmcore.3.zst"), made().path("machine/kernel"));
    let ps = |option: &str| run_json(["ps", option, "-k", &kernel, &dump]).expect(0);
    let (old, new) = (ps("--force"), ps("--force-kernel"));
    assert_eq!((old.count("deprecated"), new.count("deprecated")), (1, 0));
    assert_eq!(old.out, new.out);
}

#[test]
fn verbose_version_lists_codecs_features_debuggers_and_the_sandbox() {
    let dir = tempfile::tempdir().unwrap();
    let lldb = dir.path().join("lldb");
    fs::write(&lldb, "").unwrap();
    let mut command = livecore();
    command.args(["--version", "-v"]).env("PATH", dir.path());
    let output = command.output().unwrap();
    assert!(output.status.success());
    let text = String::from_utf8(output.stdout).unwrap();
    let expected = format!("\ndebugger: lldb: {}\n", lldb.display());
    assert!(text.contains(&expected), "{text}");
    assert!(text.contains("\ndebugger: gdb: not installed\n"), "{text}");
    for start in ["livecore ", "codecs: gzip, zstd", "features: ", "sandbox: "] {
        assert!(text.lines().any(|line| line.starts_with(start)), "{text}");
    }
}

#[test]
fn file_that_verify_cannot_open_is_an_error_on_standard_error() {
    let dump = made().path("vmcore.3.zst");
    let text = run(["verify", "/no/such", &dump]).expect(1);
    assert!(text.err.starts_with("livecore: /no/such: "), "{}", text.err);
    assert!(!text.text().contains("/no/such"), "{}", text.text());
    assert!(text.text().contains(&dump), "{}", text.text());
    let json = run_json(["verify", "--format", "jsonl", "/no/such", &dump]).expect(1);
    assert_eq!(json.error("not-found")["subject"], "/no/such");
    let first: Value = serde_json::from_str(json.text().lines().next().unwrap()).unwrap();
    assert_eq!(first["name"], "/no/such");
}

#[test]
fn environment_names_a_kernel_or_where_to_look_for_one() {
    let dir = tempfile::tempdir().unwrap();
    let dump = dir.path().join("vmcore.3.zst");
    fs::copy(made().path("vmcore.3.zst"), &dump).unwrap();
    let kernel = made().path("machine/kernel");
    let expected = run([
        "ps".as_ref(),
        dump.as_os_str(),
        "-k".as_ref(),
        kernel.as_ref(),
    ])
    .expect(0);
    run(["ps".as_ref(), dump.as_os_str()]).expect(1);
    for (name, value) in [
        ("LIVECORE_KERNEL", kernel.clone()),
        ("LIVECORE_KERNEL_PATH", made().path("machine")),
    ] {
        let output = livecore().arg("ps").arg(&dump).env(name, value).output();
        let output = output.unwrap();
        assert!(output.status.success(), "{name}");
        assert_eq!(output.stdout, expected.out, "{name}");
    }
    // An option has precedence.
    let mut command = livecore();
    command.arg("ps").arg(&dump).args(["-k", &kernel]);
    let output = command.env("LIVECORE_KERNEL", "/nonexistent").output();
    assert_eq!(output.unwrap().stdout, expected.out);
}

#[test]
fn symbol_is_read_in_its_own_size() {
    let (dump, kernel) = (made().path("vmcore.3.zst"), made().path("machine/kernel"));
    let read = |args: &[&str]| {
        let all = ["read", &dump, "-k", &kernel, "--json"];
        let answer = run(all.iter().chain(args)).expect(0);
        serde_json::from_slice::<Value>(&answer.out).unwrap()
    };
    let whole = read(&["hz", "--words", "4"]);
    assert_eq!(whole["length"], 4);
    assert_eq!(whole, read(&["hz", "4", "--words", "4"]));
    assert_eq!(read(&["hz+2"])["length"], 2);
    run(["read", &dump, "0xffffffff80200000"]).expect(64);
    let beyond = run(["read", &dump, "-k", &kernel, "hz+4"]).expect(1);
    assert!(beyond.err.contains("not inside of symbol hz"));
}

#[test]
fn usage_errors_say_what_a_number_must_be_and_name_verbs() {
    for (args, expected) in [
        (&["convert", "-j", "0", "a", "b"][..], "expected at least 1"),
        (&["convert", "-j", "x", "a", "b"], "expected a number"),
        (&["take", "-m", "99999999999"], "the number is out of range"),
        (&["verfy"], "unknown verb 'verfy'"),
        (&["verfy"], "a similar verb exists: 'verify'"),
    ] {
        let refused = run(args).expect(64);
        assert!(refused.err.contains(expected), "{args:?}: {}", refused.err);
    }
}

#[test]
fn kernel_that_is_no_file_is_refused_with_a_remedy() {
    let dump = made().path("vmcore.3.zst");
    let directory = made().path("machine");
    let refused = run(["ps", &dump, "-k", &directory]).expect(1);
    assert!(refused.err.contains("--kernel-path"), "{}", refused.err);
    let mut command = livecore();
    command.args(["ps", &dump]).env("LIVECORE_KERNEL", "/none");
    let refused = Run::of(command.output().unwrap()).expect(1);
    assert!(refused.err.contains("LIVECORE_KERNEL"), "{}", refused.err);
}

#[test]
fn kernel_of_another_dump_is_refused_without_an_option_that_the_verb_lacks() {
    let dir = tempfile::tempdir().unwrap();
    let other = dir.path().join("other");
    let relocated = machine("relocated");
    run([
        "synth".as_ref(),
        relocated.as_os_str(),
        "--out".as_ref(),
        other.as_os_str(),
    ])
    .expect(0);
    let (dump, kernel) = (made().path("vmcore.3.zst"), other.join("kernel"));
    let kernel = kernel.to_str().unwrap();
    let core = dir.path().join("core");
    let refused = run(["ps", &dump, "-k", kernel]).expect(2);
    assert!(refused.err.contains("--force-kernel"), "{}", refused.err);
    let refused = run([
        "convert",
        "--to",
        "elf",
        "-k",
        kernel,
        &dump,
        core.to_str().unwrap(),
    ]);
    let refused = refused.expect(2);
    assert!(!refused.err.contains("--force"), "{}", refused.err);
}

#[test]
fn progress_is_lines_of_json_for_programs() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("out.zst");
    let dump = made().path("vmcore.3.zst");
    let args = [
        "convert",
        "-q",
        "--progress",
        "json",
        &dump,
        out.to_str().unwrap(),
    ];
    let done = run(args).expect(0);
    let lines: Vec<Value> = done
        .err
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap())
        .filter(|line| line["work"] == "convert")
        .collect();
    let last = lines.last().unwrap();
    assert_eq!(last["schema"], 1);
    assert_eq!(last["done"], true);
    assert_eq!(last["bytes"], last["total"]);
    assert!(
        lines[..lines.len() - 1]
            .iter()
            .all(|line| line["done"] == false)
    );
}

#[test]
fn color_follows_its_option_also_where_there_is_no_terminal() {
    let dump = made().path("vmcore.3.zst");
    let escape = |args: &[&str]| {
        let all = ["verify", "-v", &dump];
        run(all.iter().chain(args))
            .expect(0)
            .text()
            .contains('\x1b')
    };
    assert!(escape(&["--color", "always"]));
    assert!(!escape(&["--color", "never"]));
    assert!(!escape(&[]));
}

#[test]
fn reports_of_several_dumps_come_in_their_order_for_any_number_of_threads() {
    let dir = tempfile::tempdir().unwrap();
    let names: Vec<_> = (0..12)
        .map(|n| dir.path().join(format!("vmcore.{n}.zst")))
        .collect();
    for (n, name) in names.iter().enumerate() {
        match n {
            5 => fs::write(name, b"no dump").unwrap(),
            _ => symlink(made().path("vmcore.3.zst"), name).unwrap(),
        }
    }
    let verify = |threads: &str| {
        let args = ["verify", "--format", "jsonl", "-j", threads];
        let run = run(args
            .iter()
            .map(std::ffi::OsStr::new)
            .chain(names.iter().map(|n| n.as_os_str())));
        let reports = run.text().lines().map(|line| {
            let report: Value = serde_json::from_str(line).unwrap();
            (report["name"].to_string(), report["verdict"].to_string())
        });
        let reports = reports.filter(|(_, verdict)| verdict != "null");
        (run.code, reports.collect::<Vec<_>>())
    };
    let (code, alone) = verify("1");
    assert_eq!((code, alone.len()), (63, 12));
    assert_eq!(verify("7"), (code, alone));
}

#[test]
fn dump_for_a_directory_that_does_not_exist_is_refused_with_a_remedy() {
    let dir = tempfile::tempdir().unwrap();
    let new = format!("{}/new/", dir.path().display());
    let tiny = machine("tiny");
    for out in [&*new, &format!("{new}x")] {
        let refused = run_json(["take", "--machine", tiny.to_str().unwrap(), "-o", out]).expect(1);
        let advice = refused.error("not-found")["advice"].clone();
        let advice = advice.as_str().unwrap_or_default();
        assert!(advice.contains("mkdir"), "{}", refused.err);
    }
}
