//! Interrupted work: signals, full disks, pipes without a reader.
//!
//! There must be no file under a final name, no temporary file (except after SIGKILL), and existing
//! files are unchanged.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::harness::{MESSAGES, Run, livecore, livecore_with_signals, machine, names, run};
use crate::schema;

/// Time limit for conditions that are immediate on an idle machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// A machine that takes seconds to dump at the level that [`slow_take`] uses.
fn slow_machine(dir: &Path) -> std::path::PathBuf {
    let path = dir.join("slow.toml");
    fs::write(
        &path,
        "seed = 9\n[memory]\nsize = \"256 MiB\"\n[content]\nkernel = \"128 MiB\"\n",
    )
    .unwrap();
    path
}

fn slow_take(machine: &Path, dir: &Path) -> Command {
    let mut command = livecore_with_signals();
    command
        .args(["take", "--machine"])
        .arg(machine)
        .args(["-Z", "--level", "19", "-j", "1", "-o"])
        .arg(format!("{}/", dir.display()))
        .stderr(Stdio::piped());
    command
}

/// Waits for `condition`. Panics if `child` exits first, or after [`PATIENCE`].
#[track_caller]
fn wait_for(child: &mut Child, mut condition: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !condition() {
        if let Some(status) = child.try_wait().unwrap() {
            let mut stderr = String::new();
            if let Some(err) = &mut child.stderr {
                err.read_to_string(&mut stderr).unwrap();
            }
            panic!("exited too early: {status}: {stderr}");
        }
        assert!(begun.elapsed() < PATIENCE, "nothing happened");
        std::thread::yield_now();
    }
}

fn kill(child: &Child, signal: &str) {
    let status = Command::new("kill")
        .args(["-s", signal, &child.id().to_string()])
        .status()
        .unwrap();
    assert!(status.success());
}

/// Whether process `pid` has written to a file in `dir` that has a temporary name, or none.
fn being_written(pid: u32, dir: &Path) -> bool {
    let has_bytes = |path: &Path| path.metadata().is_ok_and(|m| m.is_file() && m.len() > 0);
    let named = fs::read_dir(dir).unwrap().flatten().any(|entry| {
        let name = entry.file_name();
        name.to_str().is_some_and(|n| n.contains(".tmp.")) && has_bytes(&entry.path())
    });
    let open = fs::read_dir(format!("/proc/{pid}/fd"))
        .into_iter()
        .flatten();
    named
        || open.flatten().any(|entry| {
            let path = fs::read_link(entry.path()).unwrap_or_default();
            let is_unnamed = path.to_string_lossy().ends_with(" (deleted)");
            is_unnamed && path.starts_with(dir) && has_bytes(&entry.path())
        })
}

/// A directory with an earlier dump, and its contents.
fn crash_directory() -> (tempfile::TempDir, Vec<(String, Vec<u8>)>) {
    let dir = tempfile::tempdir().unwrap();
    let tiny = machine("tiny");
    let to = format!("{}/", dir.path().display());
    run(["take", "-q", "--machine", tiny.to_str().unwrap(), "-o", &to]).expect(0);
    let before = contents(dir.path());
    (dir, before)
}

fn contents(dir: &Path) -> Vec<(String, Vec<u8>)> {
    names(dir)
        .into_iter()
        .map(|name| {
            let bytes = fs::read(dir.join(&name)).unwrap();
            (name, bytes)
        })
        .collect()
}

#[test]
fn take_ended_by_a_signal_leaves_the_directory_unchanged() {
    for (signal, number) in [("INT", 2), ("TERM", 15), ("HUP", 1)] {
        let (dir, before) = crash_directory();
        let elsewhere = tempfile::tempdir().unwrap();
        let slow = slow_machine(elsewhere.path());
        let mut child = slow_take(&slow, dir.path()).spawn().unwrap();
        let pid = child.id();
        wait_for(&mut child, || being_written(pid, dir.path()));
        kill(&child, signal);
        let run = Run::of(child.wait_with_output().unwrap());
        assert_eq!(run.code, 128 + number, "{signal}: {}", run.err);
        assert!(contents(dir.path()) == before, "{:?}", names(dir.path()));
    }
}

#[test]
fn killed_take_leaves_no_dump() {
    let (dir, before) = crash_directory();
    let elsewhere = tempfile::tempdir().unwrap();
    let slow = slow_machine(elsewhere.path());
    let mut child = slow_take(&slow, dir.path()).spawn().unwrap();
    let pid = child.id();
    wait_for(&mut child, || being_written(pid, dir.path()));
    kill(&child, "KILL");
    assert_eq!(Run::of(child.wait_with_output().unwrap()).code, -9);
    let mut after = contents(dir.path());
    after.retain(|(name, _)| !name.contains(".tmp."));
    assert!(after == before, "{:?}", names(dir.path()));
    // The temporary file does not disturb the next dump.
    let tiny = machine("tiny");
    let to = format!("{}/", dir.path().display());
    run(["take", "-q", "--machine", tiny.to_str().unwrap(), "-o", &to]).expect(0);
    assert!(dir.path().join("livecore.1.zst").exists());
}

#[test]
fn conversion_ended_by_a_signal_keeps_the_old_file() {
    let dir = tempfile::tempdir().unwrap();
    let slow = slow_machine(dir.path());
    let source = dir.path().join("in");
    run([
        "take".as_ref(),
        "-q".as_ref(),
        "--machine".as_ref(),
        slow.as_os_str(),
        "-o".as_ref(),
        source.as_os_str(),
    ])
    .expect(0);
    let out = dir.path().join("out.zst");
    fs::write(&out, "the old file").unwrap();
    let before = names(dir.path());
    for (signal, code) in [("INT", 130), ("KILL", -9)] {
        let mut child = livecore_with_signals()
            .arg("convert")
            .args([&source, &out])
            .args(["--force", "--level", "19", "-j", "1"])
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let pid = child.id();
        wait_for(&mut child, || being_written(pid, dir.path()));
        kill(&child, signal);
        let run = Run::of(child.wait_with_output().unwrap());
        assert_eq!(run.code, code, "{}", run.err);
        assert_eq!(fs::read(&out).unwrap(), b"the old file");
        let mut after = names(dir.path());
        if signal == "KILL" {
            after.retain(|name| !name.contains(".tmp."));
        }
        assert_eq!(after, before);
    }
}

/// SIGUSR1 prints one line, and the work continues.
#[test]
fn sigusr1_prints_progress() {
    let dir = tempfile::tempdir().unwrap();
    let slow = slow_machine(dir.path());
    let mut child = slow_take(&slow, dir.path()).args(MESSAGES).spawn().unwrap();
    let pid = child.id();
    wait_for(&mut child, || being_written(pid, dir.path()));
    kill(&child, "USR1");
    let mut line = Vec::new();
    let mut err = child.stderr.take().unwrap();
    let mut byte = [0];
    while !line.ends_with(b"\n") {
        assert_eq!(
            err.read(&mut byte).unwrap(),
            1,
            "standard error ended without a line"
        );
        line.push(byte[0]);
    }
    let message: Value = serde_json::from_slice(&line).unwrap();
    schema::check("message", &message);
    assert_eq!(message["id"], "progress", "{message:#}");
    let line = message["message"].as_str().unwrap();
    assert!(line.starts_with("take: "), "{line}");
    assert!(line.contains(" of ") && line.contains(" %)"), "{line}");
    kill(&child, "INT");
    assert_eq!(child.wait().unwrap().code(), Some(130));
}

/// The reader closes the pipe in the middle of a dump.
#[test]
fn closed_pipe_in_the_middle_exits_with_141() {
    let dir = tempfile::tempdir().unwrap();
    let source = dir.path().join("in");
    let tiny = machine("tiny");
    let [tiny, source] = [tiny, source].map(|p| p.to_str().unwrap().to_string());
    run(["take", "-q", "--machine", &tiny, "-o", &source]).expect(0);
    for args in [
        &["take", "--machine", &tiny, "--none", "-o", "-"][..],
        &["convert", &source, "-"],
        &["read", &source, "0x200000", "2M", "--phys", "--raw"],
        &["read", &source, "0x200000", "2M", "--phys"],
    ] {
        let mut child = livecore()
            .args(args)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut out = child.stdout.take().unwrap();
        let mut some = [0; 100];
        out.read_exact(&mut some).unwrap();
        drop(out);
        let run = Run::of(child.wait_with_output().unwrap());
        assert_eq!(run.code, 141, "{args:?}: {}", run.err);
        assert_eq!(run.err, "", "{args:?}");
    }
}

/// A limit on file sizes simulates a full disk without privileges.
#[test]
fn full_disk_is_an_error_and_leaves_the_directory_unchanged() {
    let (dir, before) = crash_directory();
    let elsewhere = tempfile::tempdir().unwrap();
    let source = elsewhere.path().join("in.zst");
    let tiny = machine("tiny");
    let tiny = tiny.to_str().unwrap();
    run([
        "take",
        "-q",
        "--machine",
        tiny,
        "-o",
        source.to_str().unwrap(),
    ])
    .expect(0);
    let to = format!("{}/", dir.path().display());
    let file = dir.path().join("out");
    for args in [
        &["take", "--machine", tiny, "--none", "-o", &to][..],
        &["take", "--machine", tiny, "-o", &to],
        &["convert", source.to_str().unwrap(), file.to_str().unwrap()],
    ] {
        let output = Command::new("sh")
            .args(["-c", "ulimit -f 200; exec \"$0\" \"$@\""])
            .arg(env!("CARGO_BIN_EXE_livecore"))
            .args(MESSAGES)
            .args(args)
            .output()
            .unwrap();
        let run = Run::of(output).expect(1);
        assert_eq!(run.err.lines().count(), 1, "{}", run.err);
        let error = run.error("no-space");
        let message = error["message"].as_str().unwrap();
        assert!(message.contains("`ulimit -f`"), "{message}");
        assert!(!run.err.contains("livecore.tmp."), "{}", run.err);
        assert!(contents(dir.path()) == before, "{:?}", names(dir.path()));
    }
}

/// The same on a full file system, if one can be created.
#[test]
fn full_file_system_is_an_error_and_leaves_no_files() {
    let dir = tempfile::tempdir().unwrap();
    let mounted = Command::new("mount")
        .args(["-t", "tmpfs", "-o", "size=256k", "livecore-test"])
        .arg(dir.path())
        .stderr(Stdio::null())
        .status();
    if !mounted.is_ok_and(|s| s.success()) {
        return;
    }
    struct Mounted<'a>(&'a Path);
    impl Drop for Mounted<'_> {
        fn drop(&mut self) {
            let _ = Command::new("umount").arg(self.0).status();
        }
    }
    let _mounted = Mounted(dir.path());
    let tiny = machine("tiny");
    let to = format!("{}/", dir.path().display());
    let run = run(["take", "--machine", tiny.to_str().unwrap(), "-o", &to]).expect(1);
    assert_eq!(run.err.lines().count(), 1, "{}", run.err);
    assert_eq!(names(dir.path()), [] as [String; 0]);
}

/// Standard input from a pipe is read to its end, in pieces of any size.
#[test]
fn dump_is_read_from_a_pipe() {
    let dir = tempfile::tempdir().unwrap();
    let source = dir.path().join("in.zst");
    let tiny = machine("tiny");
    let args = ["take", "-q", "--machine", tiny.to_str().unwrap(), "-o"];
    run(args.into_iter().chain([source.to_str().unwrap()])).expect(0);
    let bytes = fs::read(&source).unwrap();
    let mut child = livecore()
        .args(["convert", "-", "-", "-Z"])
        .stdin(Stdio::piped())
        .stdout(File::create(dir.path().join("out.zst")).unwrap())
        .spawn()
        .unwrap();
    let mut pipe = child.stdin.take().unwrap();
    for piece in bytes.chunks(10_000) {
        pipe.write_all(piece).unwrap();
    }
    drop(pipe);
    assert_eq!(child.wait().unwrap().code(), Some(0));
    assert!(fs::read(dir.path().join("out.zst")).unwrap() == bytes);
}
