//! Real QEMU guests with the memory of an emulated machine, dumped over QMP.
//!
//! The firmware is 64 KiB of zeros with a jump to itself at the reset vector, so a running guest
//! changes no memory.

use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use serde_json::{Value, json};

use crate::harness::{Run, machine, names, no_such_file, run, run_json};
use crate::qemu::{Memory, Qemu, is_installed, ram};
use crate::stub::{EIP, ESP, Stub};

/// The number of pages in which two payloads of the same length differ.
pub(crate) fn differing(a: &[u8], b: &[u8]) -> usize {
    assert_eq!(a.len(), b.len());
    let pages = a.chunks(4096).zip(b.chunks(4096));
    pages.filter(|(a, b)| a != b).count()
}

#[test]
fn running_guest_is_read_through_its_shared_memory() {
    if !is_installed() {
        return;
    }
    let mut qemu = Qemu::start(Memory::Shared).running();
    let taken = qemu.take("live", &[]).expect(0);
    assert_eq!(taken.count("guest-runs"), 1, "{}", taken.err);
    // No page changed, and the count is reported.
    assert!(taken.err.contains("Torn Pages: 0 of "), "{}", taken.err);
    assert!(fs::read(qemu.path("live")).unwrap() == qemu.expected());
    assert_eq!(qemu.status(), "running");
    assert!(qemu.events.is_empty(), "{:?}", qemu.events);
    // A pipe gets the same bytes.
    let piped = qemu.take("-", &[]).expect(0);
    assert!(piped.out == qemu.expected());
}

#[test]
fn paused_guest_gives_a_snapshot_and_is_resumed() {
    if !is_installed() {
        return;
    }
    let qemu = Qemu::start(Memory::Shared);
    // CPU 1 waits in the kernel for an interrupt, before and after.
    let mut stub = Stub::connect(&qemu.path("gdb"), 1);
    stub.long_mode(&ram(qemu.dir.path()));
    stub.set(&[(ESP, 0xffff_fe00_00be_efd8), (EIP, 0xffff_ffff_80c0_ffee)]);
    drop(stub);
    let mut qemu = qemu.running();
    let taken = qemu.take("plain", &["--pause", "--no-cpu-state"]).expect(0);
    assert_eq!(taken.count("guest-paused"), 1, "{}", taken.err);
    // Nothing changes a guest whose CPUs are stopped.
    assert!(taken.err.contains(" 0 of "), "{}", taken.err);
    let expected = qemu.expected();
    assert!(fs::read(qemu.path("plain")).unwrap() == expected);
    assert_eq!(qemu.status(), "running");
    assert_eq!(qemu.events, ["STOP", "RESUME"]);
    // With the registers, only a few pages with variables differ.
    let taken = qemu.take("registers", &["--pause", "--cpu", "1"]);
    let taken = taken.expect(0);
    // CPU 0 is in the firmware, which has no paging.
    assert_eq!(taken.count("cpu-left-kernel"), 1, "{}", taken.err);
    assert!(taken.err.contains(" CPU 0:"), "{}", taken.err);
    let with = fs::read(qemu.path("registers")).unwrap();
    let pages = differing(&with, &expected);
    assert!((1..=4).contains(&pages), "{pages} pages differ");
    let files = names(qemu.dir.path());
    assert!(
        !files.iter().any(|f| f.starts_with("livecore.")),
        "{files:?}"
    );
}

/// The pause in `info --json`, and the text of `info`.
fn pause_of(dump: &Path) -> (Value, String) {
    let json = run(["info".as_ref(), dump.as_os_str(), "--json".as_ref()]).expect(0);
    let facts: Value = serde_json::from_str(json.text()).unwrap();
    let text = run(["info".as_ref(), dump.as_os_str()]).expect(0);
    (facts["pause"].clone(), text.text().to_owned())
}

/// The notes of `verify`, which reports no warnings or errors.
fn verified(dump: &Path) -> String {
    let verdict = run(["verify".as_ref(), dump.as_os_str(), "-v".as_ref()]).expect(0);
    verdict.text().to_owned()
}

#[test]
fn seal_and_info_file_record_the_pause_and_changed_pages() {
    if !is_installed() {
        return;
    }
    let qemu = Qemu::start(Memory::Shared).running();
    fs::create_dir(qemu.path("crash")).unwrap();
    let before = std::time::SystemTime::now();
    qemu.sealed("crash", &["--pause", "--no-cpu-state"])
        .expect(0);
    let dump = qemu.path("crash/livecore.0.zst");
    let (pause, text) = pause_of(&dump);
    assert_eq!(pause["how"], "compared");
    let pages = pause["compared"].as_u64().unwrap();
    assert!(pages > 1000, "{pause}");
    // Nothing changes a guest whose CPUs are stopped.
    assert_eq!((&pause["changed"], &pause["new"]), (&json!(0), &json!(0)));
    let since = before.duration_since(std::time::UNIX_EPOCH).unwrap();
    let start = u128::from(pause["start"].as_u64().unwrap());
    assert!(start >= since.as_nanos(), "{pause}");
    let length = pause["length"].as_u64().unwrap();
    let elapsed = before.elapsed().unwrap().as_nanos();
    assert!(length > 0 && u128::from(length) < elapsed, "{pause}");
    assert!(text.contains("guest pause"), "{text}");
    assert!(text.contains(&format!("0 of {pages}, 0 new")), "{text}");
    let info = fs::read_to_string(qemu.path("crash/info.0")).unwrap();
    let line = format!("  Pages Changed: 0 of {pages} since they were copied, 0 new\n");
    assert!(info.contains(&line), "{info}");
    assert!(info.contains("  Guest Pause: at "), "{info}");
    let verdict = verified(&dump);
    assert!(verdict.contains("SEAL-PAUSE"), "{verdict}");
    // A conversion keeps the record.
    let again = qemu.path("again.gz");
    run(["convert".as_ref(), dump.as_os_str(), again.as_os_str()]).expect(0);
    assert_eq!(pause_of(&again).0, pause);
    // The dump of a running guest has no pause.
    qemu.sealed("live.zst", &[]).expect(0);
    assert_eq!(pause_of(&qemu.path("live.zst")).0, Value::Null);
}

#[test]
fn pause_whole_needs_no_temporary_file() {
    if !is_installed() {
        return;
    }
    let mut qemu = Qemu::start(Memory::Shared).running();
    let expected = qemu.expected();
    // A directory in which no file can be created.
    let nowhere = qemu.path("nowhere");
    let mut command = qemu.command("-", &["--pause=whole", "--no-cpu-state"]);
    let piped = command
        .env("TMPDIR", &nowhere)
        .output()
        .map(Run::of)
        .unwrap();
    let piped = piped.expect(0);
    assert!(piped.out == expected);
    assert_eq!(piped.count("guest-paused"), 1, "{}", piped.err);
    assert_eq!(qemu.status(), "running");
    assert_eq!(qemu.events, ["STOP", "RESUME"]);
    // `changed` needs a temporary file.
    let mut command = qemu.command("-", &["--pause=changed"]);
    let refused = command
        .env("TMPDIR", &nowhere)
        .output()
        .map(Run::of)
        .unwrap();
    let refused = refused.expect(1);
    refused.error("not-found");
    assert!(refused.out.is_empty());
    // The seal records the kind of pause.
    qemu.sealed("whole.zst", &["--pause=whole"]).expect(0);
    let (pause, _) = pause_of(&qemu.path("whole.zst"));
    assert_eq!(pause["how"], "read");
    assert!(pause["length"].as_u64().unwrap() > 0, "{pause}");
    assert_eq!(pause["compared"], 0);
    verified(&qemu.path("whole.zst"));
    assert_eq!(qemu.status(), "running");
    qemu.events.clear();
    let wrong = qemu.take("none", &["--pause=half"]).expect(64);
    wrong.error("invalid-value");
    assert!(wrong.err.contains("whole"), "{}", wrong.err);
    assert_eq!(qemu.status(), "running");
    assert!(qemu.events.is_empty(), "{:?}", qemu.events);
}

/// Starts a dump into a pipe without a reader, and waits until the guest is paused.
fn stuck(qemu: &mut Qemu, options: &[&str]) -> Child {
    qemu.events.clear();
    let mut command = qemu.command("-", options);
    let mut with_signals = Command::new("env");
    with_signals
        .arg("--default-signal")
        .arg(command.get_program());
    with_signals.args(command.get_args());
    command = with_signals;
    let child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    qemu.await_event("STOP");
    assert_eq!(qemu.status(), "paused");
    child
}

#[test]
fn guest_is_resumed_after_a_signal_or_a_closed_pipe() {
    if !is_installed() {
        return;
    }
    let mut qemu = Qemu::start(Memory::Shared).running();
    // The dump has more bytes than fit in a pipe.
    for (signal, code) in [("-INT", 130), ("-TERM", 143), ("-KILL", -9)] {
        let mut child = stuck(&mut qemu, &["--pause=whole"]);
        let killed = Command::new("kill")
            .arg(signal)
            .arg(child.id().to_string())
            .status();
        assert!(killed.unwrap().success());
        qemu.await_event("RESUME");
        assert_eq!(qemu.status(), "running", "{signal}");
        drop(child.stdout.take());
        let run = Run::of(child.wait_with_output().unwrap());
        assert_eq!(run.code, code, "{signal}: {}", run.err);
    }
    let mut child = stuck(&mut qemu, &["--pause=whole"]);
    drop(child.stdout.take());
    qemu.await_event("RESUME");
    assert_eq!(child.wait().unwrap().code(), Some(141));
    assert_eq!(qemu.status(), "running");
}

#[test]
fn interrupted_dump_by_qemu_resumes_the_guest_and_leaves_no_file() {
    if !is_installed() {
        return;
    }
    let mut qemu = Qemu::start(Memory::Own).running();
    let before = names(qemu.dir.path());
    for signal in ["-INT", "-KILL"] {
        qemu.events.clear();
        let mut command = Command::new("env");
        let take = qemu.command("dump", &["--pause"]);
        command.arg("--default-signal").arg(take.get_program());
        let mut child = command
            .args(take.get_args())
            .stdin(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        qemu.await_event("STOP");
        let killed = Command::new("kill")
            .arg(signal)
            .arg(child.id().to_string())
            .status();
        assert!(killed.unwrap().success());
        child.wait().unwrap();
        // QEMU finishes the dump that it has started.
        qemu.await_event("RESUME");
        assert_eq!(qemu.status(), "running", "{signal}");
        let mut left = names(qemu.dir.path());
        // The dump may have been complete; SIGKILL leaves the temporary file.
        left.retain(|name| name != "dump" && !name.starts_with("livecore.tmp."));
        assert_eq!(left, before, "{signal}");
        let _ = fs::remove_file(qemu.path("dump"));
    }
}

#[test]
fn exit_of_a_paused_guest_ends_the_dump() {
    if !is_installed() {
        return;
    }
    let mut qemu = Qemu::start(Memory::Shared).running();
    let mut child = stuck(&mut qemu, &["--pause=whole", "--no-cpu-state"]);
    let expected = qemu.expected();
    qemu.child.kill().unwrap();
    qemu.child.wait().unwrap();
    let mut bytes = Vec::new();
    let mut out = child.stdout.take().unwrap();
    std::io::Read::read_to_end(&mut out, &mut bytes).unwrap();
    let run = Run::of(child.wait_with_output().unwrap());
    let run = run.expect(1);
    run.error("qmp-gone");
    assert!(run.err.contains(" cont"), "{}", run.err);
    // What was read before is a prefix of the dump.
    assert!(expected.starts_with(&bytes));
}

#[test]
fn dumps_of_guests_can_be_piped_to_other_tools() {
    if !is_installed() {
        return;
    }
    for memory in [Memory::Shared, Memory::Own] {
        let qemu = Qemu::start(memory).running();
        let expected = qemu.expected();
        let ways: &[&str] = match memory {
            Memory::Shared => &["", "--pause", "--pause=whole"],
            Memory::Own | Memory::Private => &["--pause", "--pause=whole"],
        };
        for way in ways {
            for (codec, tool) in [("--zstd", "zstd"), ("--gzip", "gzip")] {
                let mut options = vec!["--container=sealed", codec, "--no-cpu-state"];
                options.extend(Some(*way).filter(|way| !way.is_empty()));
                let piped = qemu.take("-", &options).expect(0);
                let unpacked = through(tool, &["-dc"], &piped.out);
                assert!(unpacked == expected, "{way} {codec}");
                through(tool, &["-t"], &piped.out);
                let ours = env!("CARGO_BIN_EXE_livecore");
                through(ours, &["verify", "-"], &piped.out);
            }
        }
        let files = names(qemu.dir.path());
        assert!(
            !files.iter().any(|f| f.starts_with("livecore.")),
            "{files:?}"
        );
    }
}

/// Pipes `bytes` through a program and returns its output. The program must succeed.
fn through(program: &str, args: &[&str], bytes: &[u8]) -> Vec<u8> {
    let mut child = Command::new(program)
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap_or_else(|e| panic!("{program}: {e}"));
    let mut input = child.stdin.take().unwrap();
    std::thread::scope(|scope| {
        scope.spawn(move || {
            // If the program exits early, its exit code shows it.
            let _ = input.write_all(bytes);
        });
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success(), "{program} {args:?}: {output:?}");
        output.stdout
    })
}

#[test]
fn guest_that_was_paused_before_stays_paused() {
    if !is_installed() {
        return;
    }
    let mut qemu = Qemu::start(Memory::Shared);
    for (name, more) in [("with", &["--pause"][..]), ("without", &[])] {
        let mut all = vec!["--no-cpu-state"];
        all.extend(more);
        qemu.take(name, &all).expect(0);
        assert!(
            fs::read(qemu.path(name)).unwrap() == qemu.expected(),
            "{name}"
        );
    }
    assert_eq!(qemu.status(), "prelaunch");
    assert!(qemu.events.is_empty(), "{:?}", qemu.events);
}

#[test]
fn qemu_writes_memory_that_is_not_shared() {
    if !is_installed() {
        return;
    }
    let mut qemu = Qemu::start(Memory::Own).running();
    let refused = qemu.take("dump", &[]).expect(63);
    refused.error("must-pause");
    assert!(!qemu.path("dump").exists());
    assert!(qemu.events.is_empty(), "{:?}", qemu.events);
    let taken = qemu.take("dump", &["--pause", "--no-cpu-state"]).expect(0);
    assert_eq!(taken.count("guest-paused"), 1, "{}", taken.err);
    assert!(fs::read(qemu.path("dump")).unwrap() == qemu.expected());
    qemu.await_event("RESUME");
    assert_eq!(qemu.status(), "running");
    assert!(qemu.events.contains(&"STOP".into()));
}

#[test]
fn guest_is_resumed_if_livecore_is_killed() {
    if !is_installed() {
        return;
    }
    let mut qemu = Qemu::start(Memory::Shared).running();
    let (mut killed, mut failed) = (0, Vec::new());
    // The kill may come after the work is done, so try several times.
    for round in 0..40 {
        qemu.events.clear();
        let mut child = qemu
            .command("dump", &["--pause", "-f"])
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        if !qemu.reports_before_exit("STOP", &mut child) {
            // On a busy machine the work may have failed; then nothing was paused.
            let end = child.wait_with_output().unwrap();
            assert_eq!(qemu.status(), "running", "round {round}");
            failed.push(String::from_utf8_lossy(&end.stderr).into_owned());
            assert!(failed.len() < 3, "{failed:?}");
            continue;
        }
        child.kill().unwrap();
        let killed_now = child.wait().unwrap().code().is_none();
        let before = qemu.events.iter().any(|e| e == "RESUME");
        qemu.await_event("RESUME");
        assert_eq!(qemu.status(), "running", "round {round}");
        killed += u32::from(killed_now && !before);
        if killed == 3 {
            break;
        }
    }
    assert!(killed > 0, "never killed while it was paused; {failed:?}");
}

#[test]
fn error_names_a_socket_that_is_not_qmp() {
    let dir = tempfile::tempdir().unwrap();
    let kernel = dir.path().join("kernel");
    let out = dir.path().join("machine");
    run([
        "synth".as_ref(),
        machine("tiny").as_os_str(),
        "--out".as_ref(),
        out.as_os_str(),
    ])
    .expect(0);
    fs::copy(out.join("kernel"), &kernel).unwrap();
    let take = |socket: &Path| {
        run_json([
            "take".as_ref(),
            "--qmp".as_ref(),
            socket.as_os_str(),
            "--kernel".as_ref(),
            kernel.as_os_str(),
            "--qmp-timeout".as_ref(),
            "1".as_ref(),
            "-o".as_ref(),
            dir.path().join("dump").as_os_str(),
        ])
    };
    let absent = take(&dir.path().join("absent")).expect(1);
    let message = absent.error("qmp-connect")["message"].clone();
    let line = format!("/absent: {}", no_such_file());
    assert!(message.as_str().unwrap().ends_with(&line), "{message}");
    // A listener that sends nothing.
    let silent = dir.path().join("silent");
    let _listener = std::os::unix::net::UnixListener::bind(&silent).unwrap();
    let silence = take(&silent).expect(1);
    silence.error("qmp-timeout");
    assert!(!dir.path().join("dump").exists());
    let files = names(dir.path());
    assert!(
        !files.iter().any(|f| f.starts_with("livecore.")),
        "{files:?}"
    );
}
