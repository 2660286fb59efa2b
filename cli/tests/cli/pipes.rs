//! Standard input: what is kept of it, and where.

use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::Stdio;

use crate::harness::{Run, golden, livecore, no_such_file, run};

/// Runs the program with `bytes` on a pipe, temporary files in `tmp`.
fn piped(args: &[&str], bytes: &[u8], tmp: &Path) -> Run {
    let mut child = livecore()
        .args(args)
        .env("TMPDIR", tmp)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut pipe = child.stdin.take().unwrap();
    // A program that ends early closes the pipe.
    let _ = pipe.write_all(bytes);
    drop(pipe);
    Run::of(child.wait_with_output().unwrap())
}

/// A dump of a machine with `content` MiB in its kernel, stored as `options` say, and what `info --json`
/// prints of the file.
fn dump(dir: &Path, content: u32, options: &[&str]) -> (Vec<u8>, String) {
    let (machine, path) = (dir.join("machine.toml"), dir.join("dump"));
    let text =
        format!("seed = 3\n[memory]\nsize = \"160 MiB\"\n[content]\nkernel = \"{content} MiB\"\n");
    fs::write(&machine, text).unwrap();
    let [machine, to] = [&machine, &path].map(|path| path.to_str().unwrap());
    let args = ["take", "-q", "--force", "--machine", machine, "-o", to];
    run(args.iter().chain(options)).expect(0);
    let printed = run(["info", "--json", to]);
    (fs::read(&path).unwrap(), printed.text().to_owned())
}

/// All but what a pipe does not have: a name and blocks on a disk.
fn facts(json: &str) -> serde_json::Value {
    let mut value: serde_json::Value = serde_json::from_str(json).unwrap();
    let object = value.as_object_mut().unwrap();
    for key in ["dump", "disk_size"] {
        object.remove(key);
    }
    value
}

#[test]
fn info_of_a_pipe_is_that_of_the_file() {
    let dir = tempfile::tempdir().unwrap();
    for (content, options) in [
        // Longer than what is kept of a pipe.
        (120, &["--none"][..]),
        (4, &["--none"]),
        (4, &["--none", "--container", "saved"]),
        (4, &["--none", "--container", "raw"]),
        (4, &["-Z"]),
        (4, &["-z"]),
    ] {
        let (bytes, of_file) = dump(dir.path(), content, options);
        let of_pipe = piped(&["info", "--json", "-"], &bytes, dir.path());
        assert_eq!(of_pipe.code, 0, "{}", of_pipe.err);
        assert_eq!(facts(of_pipe.text()), facts(&of_file), "{}", of_pipe.err);
    }
}

/// Copying it would not end before the file system is full.
#[test]
fn character_device_that_is_no_disk_is_not_a_dump() {
    let dir = tempfile::tempdir().unwrap();
    let link = dir.path().join("vmcore.0");
    std::os::unix::fs::symlink("/dev/zero", &link).unwrap();
    let link = link.to_str().unwrap();
    for verb in ["info", "dmesg"] {
        let refused = run([verb, link]).expect(63);
        assert!(refused.err.contains("character device"), "{}", refused.err);
    }
}

#[test]
fn temporary_directory_that_cannot_be_used_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let nowhere = dir.path().join("nowhere");
    let (bytes, _) = dump(dir.path(), 1, &["-Z"]);
    let mut said = String::new();
    for words in ["info -", "verify -", "convert - -", "dmesg -"] {
        let args: Vec<_> = words.split(' ').collect();
        let run = piped(&args, &bytes, &nowhere).expect(1);
        // `verify` has it in its report.
        said += &format!("$ livecore {words}\n{}{}", run.err, run.text());
    }
    let said = said.replace(nowhere.to_str().unwrap(), "TMP");
    golden(
        "messages/temporary-directory.txt",
        &said.replace(&no_such_file(), "SYSTEM-ERROR"),
    );
}
