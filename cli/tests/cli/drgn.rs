//! `livecore drgn`: the command that it starts, with a substitute for Python. tests/python runs it with
//! drgn.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use crate::harness::{run, run_json};
use crate::served::tiny;

/// A program that records its arguments, one a line, unless it is asked to import a package.
fn python(dir: &Path, import: &str, work: &str) -> PathBuf {
    let path = dir.join("python");
    let seen = dir.join("seen");
    let text = format!(
        "#!/bin/sh\n[ \"$1\" = -c ] && {{ {import}; }}\nprintf '%s\\n' \"$@\" > {}\n{work}\n",
        seen.display()
    );
    fs::write(&path, text).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    path
}

#[test]
fn drgn_gets_the_kernel_the_dump_and_the_script() {
    let dir = tempfile::tempdir().unwrap();
    let python = python(dir.path(), "exit 0", "exit 0");
    let (dump, kernel) = (&tiny().dump, &tiny().kernel);
    let given = [dump, kernel, &python].map(|path| path.to_str().unwrap());
    let [dump, kernel, python] = given;
    let args = ["drgn", dump, "--kernel", kernel, "--python", python];
    run(args).expect(0);
    let seen = || fs::read_to_string(dir.path().join("seen")).unwrap();
    let expected = format!("-m\nlivecore.drgn\n--kernel\n{kernel}\n--\n{dump}\n");
    assert_eq!(seen(), expected);
    run([&args[..], &["--", "script.py", "-x"]].concat()).expect(0);
    assert_eq!(seen(), expected.clone() + "script.py\n-x\n");
    // The order of kgdb(1).
    run(["drgn", kernel, dump, "--python", python]).expect(0);
    assert_eq!(seen(), expected);
    run([&args[..], &["--force-kernel"]].concat()).expect(0);
    let forced = expected.replace("\n--\n", "\n--force-kernel\n--\n");
    assert_eq!(seen(), forced);
}

#[test]
fn failure_of_drgn_and_missing_packages_are_errors() {
    let dir = tempfile::tempdir().unwrap();
    let dump = tiny().dump.to_str().unwrap();
    let kernel = tiny().kernel.to_str().unwrap();
    let with = |python: &Path| {
        let python = python.to_str().unwrap();
        run_json(["drgn", dump, "--kernel", kernel, "--python", python])
    };
    let failed = with(&python(dir.path(), "exit 0", "exit 3")).expect(1);
    failed.error("program-failed");
    let import = "echo \"No module named 'drgn'\" >&2; exit 1";
    let missing = with(&python(dir.path(), import, "exit 0")).expect(1);
    missing.error("program-missing");
    assert!(
        missing.err.contains("No module named 'drgn'"),
        "{}",
        missing.err
    );
    with(&dir.path().join("absent"))
        .expect(1)
        .error("program-missing");
    run_json(["drgn", "-"]).expect(64).error("invalid-value");
}
