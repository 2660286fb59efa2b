//! Tests of the command line: help, usage errors, completions, manual pages, closed outputs.

use std::process::Stdio;

use crate::harness::{MESSAGES, Run, golden, livecore, run};

#[test]
fn help_and_version_go_to_standard_output() {
    let help = run(["--help"]).expect(0);
    assert!(help.err.is_empty());
    golden("help.txt", help.text());
    let version = run(["--version"]).expect(0);
    assert_eq!(
        version.text(),
        concat!("livecore ", env!("CARGO_PKG_VERSION"), "\n")
    );
}

#[test]
fn usage_errors_exit_64_and_print_nothing_on_stdout() {
    for args in [
        &["frobnicate"][..],
        &["--frobnicate"],
        &["completions"],
        &["completions", "cmd.exe"],
    ] {
        let run = run(args).expect(64);
        assert!(run.out.is_empty(), "{args:?}");
        assert!(run.err.starts_with("livecore: "), "{args:?}: {}", run.err);
    }
}

#[test]
fn completions_name_every_verb_for_every_shell() {
    let help = run(["--help"]).expect(0);
    let verbs = verbs(help.text());
    assert!(verbs.len() > 1);
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = run(["completions", shell]).expect(0);
        for verb in &verbs {
            assert!(script.text().contains(verb), "{shell} lacks {verb}");
        }
    }
}

/// The verbs in the help text.
pub(crate) fn verbs(help: &str) -> Vec<&str> {
    help.lines()
        .skip_while(|line| !line.starts_with("Verbs:") && !line.starts_with("Commands:"))
        .skip(1)
        .take_while(|line| !line.is_empty())
        .filter(|line| line.starts_with("  ") && !line.starts_with("   "))
        .filter_map(|line| line.split_whitespace().next())
        .filter(|verb| *verb != "help")
        .collect()
}

/// `livecore … | head -c 0` must end like any other program in a pipeline.
#[test]
fn closed_pipe_exits_with_141_silently() {
    for args in [
        &["completions", "bash"][..],
        &["man"],
        &["--help"],
        &["--version"],
    ] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let output = livecore().args(args).stdout(writer).output().unwrap();
        let run = Run::of(output).expect(141);
        assert_eq!(run.err, "", "{args:?}");
    }
}

#[test]
fn full_disk_on_standard_output_is_an_error() {
    let full = std::fs::OpenOptions::new().write(true).open("/dev/full");
    let Ok(full) = full else {
        return;
    };
    let output = livecore().args(MESSAGES).arg("man").stdout(full).output();
    let run = Run::of(output.unwrap()).expect(1);
    assert_eq!(run.error("no-space")["subject"], "standard output");
}

/// A closed standard error does not make a run fail.
#[test]
fn closed_stderr_changes_nothing() {
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let status = livecore()
        .arg("frobnicate")
        .stdout(Stdio::null())
        .stderr(writer)
        .status()
        .unwrap();
    assert_eq!(status.code(), Some(64));
}

/// On other systems than FreeBSD there is no kernel to dump, and the error lists the options.
#[test]
fn take_without_a_source_lists_the_options() {
    let dir = tempfile::tempdir().unwrap();
    let out = format!("{}/", dir.path().display());
    for args in [&["take", "-o", &out][..], &["take", "--walk", "-o", &out]] {
        let run = run(args);
        // On FreeBSD the dump is taken, or permission is missing.
        if std::env::consts::OS != "freebsd" {
            assert_eq!(run.code, 63, "{args:?}: {}", run.err);
            assert!(run.err.contains("--machine"), "{}", run.err);
            assert_eq!(run.err.lines().count(), 1, "{}", run.err);
        }
    }
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    run(["take", "--image", "x", "--machine", "z"]).expect(64);
    run(["take", "--image", "x", "--kernel", "y", "--machine", "z"]).expect(64);
    run(["take", "--kernel", "y"]).expect(64);
}

#[cfg(not(feature = "store"))]
#[test]
fn urls_without_the_feature_name_the_feature() {
    for args in [
        &["info", "s3://crash/vmcore.0"][..],
        &["group", "s3://crash/"],
        &["triage", "https://localhost/vmcore.0"],
        &["take", "--image", "absent", "-o", "s3://crash/vmcore.0"],
    ] {
        let refused = crate::harness::run_json(args).expect(63);
        refused.error("unsupported");
        assert!(refused.err.contains("--features store"), "{}", refused.err);
    }
}

#[cfg(not(feature = "mount"))]
#[test]
fn mount_without_its_feature_names_the_feature() {
    let refused = crate::harness::run_json(["mount", "absent", "absent"]).expect(63);
    refused.error("unsupported");
    assert!(refused.err.contains("--features mount"), "{}", refused.err);
}

#[test]
fn help_of_all_verbs_matches_the_goldens() {
    let help = run(["--help"]).expect(0);
    for verb in verbs(help.text()) {
        let text = run([verb, "--help"]).expect(0);
        golden(&format!("help/{verb}.txt"), text.text());
    }
}

#[test]
fn options_of_qmp_need_qmp() {
    for option in [&["--pause"][..], &["--qmp-timeout", "3"]] {
        let run = run(["take", "--machine", "tiny.toml", "-o", "-"]
            .iter()
            .chain(option))
        .expect(64);
        let expected = "livecore: --pause and --qmp-timeout need --qmp ADDRESS";
        assert!(run.err.starts_with(expected), "{}", run.err);
    }
}

#[test]
fn a_kernel_path_that_does_not_exist_is_reported() {
    let dir = tempfile::tempdir().unwrap();
    let dump = dir.path().join("livecore.0");
    let machine = crate::harness::machine("tiny");
    run([
        "take",
        "-q",
        "--machine",
        machine.to_str().unwrap(),
        "-o",
        dump.to_str().unwrap(),
    ])
    .expect(0);
    let run = run([
        "ps",
        "--kernel-path",
        "/nonexistent",
        dump.to_str().unwrap(),
    ]);
    let expected = "livecore: /nonexistent: no such file or directory; searching elsewhere";
    assert!(run.err.contains(expected), "{}", run.err);
}
