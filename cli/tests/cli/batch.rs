//! `livecore read --batch`: requests on standard input, answers on standard output.

use std::fmt::Write as _;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::process::{ChildStdin, ChildStdout, Command, Stdio};

use serde_json::Value;

use crate::every_kind::full_dump;
use crate::habits::made;
use crate::harness::{Run, livecore, run};
use crate::schema;

/// Runs a batch of `requests` on the tests' dump.
fn batch(options: &[&str], requests: &[u8]) -> Run {
    batch_on(&made().path("vmcore.3.zst"), options, requests)
}

fn batch_on(dump: &str, options: &[&str], requests: &[u8]) -> Run {
    let mut child = livecore()
        .args(["read", dump, "--batch", "-q"])
        .args(options)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = child.stdin.take().unwrap();
    let requests = requests.to_vec();
    // The answers can fill their pipe before all requests are written.
    let writer = std::thread::spawn(move || input.write_all(&requests));
    let run = Run::of(child.wait_with_output().unwrap());
    // A program that fails at once closes the pipe.
    let _ = writer.join().unwrap();
    run
}

fn kernel() -> String {
    made().path("machine/kernel")
}

/// The answers of a run, checked against their schema and numbered from 1.
#[track_caller]
fn answers(run: &Run) -> Vec<Value> {
    let mut answers = Vec::new();
    for line in run.text().lines() {
        let answer: Value = serde_json::from_str(line).unwrap();
        schema::check("read-batch", &answer);
        answers.push(answer);
        assert_eq!(answers.last().unwrap()["request"], answers.len());
    }
    answers
}

#[test]
fn answers_are_those_of_single_reads() {
    let (dump, kernel) = (made().path("vmcore.3.zst"), kernel());
    let requests: [&[&str]; 6] = [
        &["hz"],
        &["version", "32"],
        &["0x1000", "4K", "--phys"],
        &["hz+2"],
        &["ffffffff80200000", "0x10"],
        &["version", "0"],
    ];
    let text: String = requests.map(|words| words.join(" ") + "\n").concat();
    // The last line needs no newline.
    let done = batch(&["-k", &kernel], text.trim_end().as_bytes()).expect(0);
    let answers = answers(&done);
    assert_eq!(answers.len(), requests.len());
    for (answer, words) in answers.iter().zip(requests) {
        let kernel = ["-k", &kernel];
        let kernel = kernel.iter().filter(|_| !words.contains(&"--phys"));
        let all = ["read", &dump, "--json"];
        let single = run(all.iter().chain(words).chain(kernel)).expect(0);
        let single: Value = serde_json::from_slice(&single.out).unwrap();
        for (name, value) in single.as_object().unwrap() {
            if name != "dump" {
                assert_eq!(&answer[name], value, "{words:?}: {name}");
            }
        }
        assert_eq!(answer["exit_code"], 0);
    }
    assert_eq!(batch(&["-k", &kernel], b"").expect(0).out, b"");
}

/// Lines that are not a valid request, and the id of the answer.
const INVALID: [(&[u8], &str); 18] = [
    (b"", "missing-argument"),
    (b" \t ", "missing-argument"),
    (b"--phys", "missing-argument"),
    (b"0x1000 --phys", "missing-argument"),
    (b"0x1000 0x8000000000000000 --phys", "invalid-value"),
    (b"hz 18446744073709551615", "invalid-value"),
    (b"hz 0x10000000000000000", "invalid-value"),
    (b"hz 16777217", "invalid-value"),
    (b"hz 16777216T", "invalid-value"),
    (b"hz four", "invalid-value"),
    (b"hz 1e3", "invalid-value"),
    (b"hz 4 4", "unknown-argument"),
    (b"--raw hz", "unknown-argument"),
    (b"hz -4", "unknown-argument"),
    (b"hz --phys", "invalid-address"),
    (b"0xffffffff80200000000 4", "invalid-address"),
    (b"+8 4", "invalid-address"),
    (b"hz \xff\xfe 4", "invalid-value"),
];

#[test]
fn invalid_requests_are_answered_and_do_not_end_the_batch() {
    let mut requests = Vec::new();
    for (line, _) in INVALID {
        requests.extend_from_slice(line);
        requests.extend_from_slice(b"\nhz\r\n");
    }
    let done = batch(&["-k", &kernel()], &requests).expect(64);
    let answers = answers(&done);
    assert_eq!(answers.len(), 2 * INVALID.len());
    for (pair, (line, id)) in answers.chunks(2).zip(INVALID) {
        let line = line.escape_ascii();
        let [invalid, good] = pair else { panic!() };
        assert_eq!(invalid["id"], id, "{line}: {invalid}");
        assert_eq!(invalid["exit_code"], 64, "{line}");
        assert!(!invalid["error"].as_str().unwrap().is_empty(), "{line}");
        assert_eq!(invalid["bytes"], "", "{line}");
        assert_eq!(good["bytes"].as_str().unwrap().len(), 8, "{line}: {good}");
    }
    assert_eq!(done.err, "");
}

#[test]
fn unreadable_memory_is_answered_and_the_worst_code_is_returned() {
    let requests: [(&str, &str); 6] = [
        ("0x1000 16", "not-mapped"),
        ("0x2000000 16 --phys", "not-in-dump"),
        ("0xffffffffffffffff 16 --phys", "not-in-dump"),
        ("hz+4", "unusable-symbol"),
        ("no_such_symbol 4", "no-symbol"),
        ("hz", ""),
    ];
    let text: String = requests.map(|(line, _)| format!("{line}\n")).concat();
    let done = batch(&["-k", &kernel()], text.as_bytes()).expect(1);
    for (answer, (line, id)) in answers(&done).iter().zip(requests) {
        let (found, code) = (answer["id"].as_str(), &answer["exit_code"]);
        assert_eq!(found.unwrap_or_default(), id, "{line}: {answer}");
        assert_eq!(*code, i32::from(!id.is_empty()), "{line}");
    }
}

/// The bytes before a page that is not in the dump are in the answer, in both forms.
#[test]
fn raw_answers_are_a_line_and_their_bytes() {
    // The machine has 8192 pages. The page `last` is in the dump, and the next one is not.
    let at = |page: u64| format!("{:#x} 16 --phys\n", page << 12);
    let pages: String = (0..8192).map(at).collect();
    let present: Vec<_> = answers(&batch(&[], pages.as_bytes()).expect(1))
        .iter()
        .map(|answer| answer["exit_code"] == 0)
        .collect();
    let last = present.windows(2).position(|two| two == [true, false]);
    let last = last.unwrap() as u64;
    let across = format!("{:#x} 64 --phys", (last << 12) + 4064);
    let requests = format!("hz\n{across}\nversion 100\nhz four\n0x1000 0 --phys\n");
    let options = ["-k", &kernel()];
    let json = answers(&batch(&options, requests.as_bytes()).expect(64));
    let done = batch(&[&options[..], &["--raw"]].concat(), requests.as_bytes()).expect(64);
    let mut rest = &done.out[..];
    for (answer, (len, status)) in json.iter().zip([
        (4, "ok"),
        (32, "not-in-dump"),
        (100, "ok"),
        (0, "invalid-value"),
        (0, "ok"),
    ]) {
        let mut line = String::new();
        rest.read_line(&mut line).unwrap();
        let mut words = line.trim_end_matches('\n').splitn(3, ' ');
        assert_eq!(words.next().unwrap(), len.to_string(), "{line}");
        assert_eq!(words.next(), Some(status), "{line}");
        assert_eq!(words.next(), answer["error"].as_str(), "{line}");
        let mut bytes = vec![0; len];
        rest.read_exact(&mut bytes).unwrap();
        let digits = bytes.iter().fold(String::new(), |mut digits, byte| {
            write!(digits, "{byte:02x}").unwrap();
            digits
        });
        assert_eq!(answer["bytes"], digits);
        assert_eq!(answer["length"], len);
    }
    assert!(rest.is_empty());
}

/// The loop in docs/json.md.
#[test]
fn shell_reads_raw_answers() {
    let script = "printf 'version 64\\nhz\\n' | \"$0\" read \"$1\" --batch --raw --kernel \"$2\" | \
                  while read -r length status message; do n=$((n + 1)); head -c \"$length\" > \"$n.$status\"; done";
    let dir = tempfile::tempdir().unwrap();
    let mut command = Command::new("sh");
    command.args(["-c", script, env!("CARGO_BIN_EXE_livecore")]);
    command.args([made().path("vmcore.3.zst"), kernel()]);
    let done = Run::of(command.current_dir(dir.path()).output().unwrap()).expect(0);
    assert_eq!(done.err, "");
    let version = fs::read(dir.path().join("1.ok")).unwrap();
    assert!(version.starts_with(b"FreeBSD ") && version.len() == 64);
    assert_eq!(
        fs::read(dir.path().join("2.ok")).unwrap(),
        1000_u32.to_le_bytes()
    );
}

#[test]
fn options_apply_to_every_request() {
    let words = batch(&["-k", &kernel(), "--words", "4"], b"hz\nhz 3\n").expect(64);
    let words = answers(&words);
    assert_eq!(words[0]["words"]["size"], 4);
    assert_eq!(words[1]["id"], "invalid-value");
    let phys = answers(&batch(&["--phys"], b"0x1000 8\nhz\n").expect(64));
    assert_eq!(phys[0]["space"], "physical");
    assert_eq!(phys[1]["id"], "invalid-address");
}

#[test]
fn symbol_without_a_kernel_is_answered_and_addresses_are_read() {
    let dir = tempfile::tempdir().unwrap();
    // No kernel is next to this copy.
    let copy = dir.path().join("vmcore.3.zst");
    fs::copy(made().path("vmcore.3.zst"), &copy).unwrap();
    let lines = b"hz\n0x1000 8 --phys\nticks 4\n";
    let done = batch_on(copy.to_str().unwrap(), &[], lines).expect(1);
    let ids: Vec<_> = answers(&done).iter().map(|a| a["id"].clone()).collect();
    assert_eq!(ids[0], "no-kernel-file");
    assert_eq!(ids[1], Value::Null);
    assert_eq!(ids[2], "no-kernel-file");
}

/// A program that writes a request and waits for its answer must get it.
#[test]
fn each_request_is_answered_before_the_next_is_written() {
    let mut child = livecore()
        .args(["read", &made().path("vmcore.3.zst"), "--batch", "--raw"])
        .args(["-k", &kernel()])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut input: ChildStdin = child.stdin.take().unwrap();
    let mut output: BufReader<ChildStdout> = BufReader::new(child.stdout.take().unwrap());
    let mut line = String::new();
    for _ in 0..3 {
        input.write_all(b"version 6\n").unwrap();
        line.clear();
        output.read_line(&mut line).unwrap();
        assert_eq!(line, "6 ok\n");
        let mut bytes = [0; 6];
        output.read_exact(&mut bytes).unwrap();
        assert_eq!(&bytes, b"FreeBS");
    }
    drop(input);
    assert_eq!(output.read_line(&mut line).unwrap(), 0);
    assert!(child.wait().unwrap().success());
}

#[test]
fn closed_output_ends_the_batch() {
    let mut child = livecore()
        .args(["read", &made().path("vmcore.3.zst"), "--batch"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let mut input = child.stdin.take().unwrap();
    let mut failed = false;
    for _ in 0..10_000_000 {
        failed = input.write_all(b"0x1000 16 --phys\n").is_err();
        if failed {
            break;
        }
    }
    assert!(failed, "the program still reads requests");
    let run = Run::of(child.wait_with_output().unwrap()).expect(141);
    assert_eq!(run.err, "");
}

/// A full dump of the tests' machine, which contains all of its RAM.
fn full() -> (tempfile::TempDir, String) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("full");
    full_dump(made().path("machine").as_ref(), (2, 62), &path);
    let path = path.to_str().unwrap().to_owned();
    (dir, path)
}

/// In an address space of 512 MiB: a line of 1 GB, and answers of the largest size.
#[test]
fn memory_is_bounded_for_long_lines_and_large_answers() {
    const MIB: usize = 1 << 20;
    let (_dir, full) = full();
    let script = "ulimit -v 524288; { head -c 1000000000 /dev/zero; echo; \
                  for i in 1 2 3; do echo 0x400000 16M --phys; done; } | \
                  \"$0\" read \"$1\" --batch -q";
    let mut command = Command::new("sh");
    command.args(["-c", script, env!("CARGO_BIN_EXE_livecore"), &full]);
    let run = Run::of(command.env("MALLOC_ARENA_MAX", "1").output().unwrap()).expect(64);
    let answers = answers(&run);
    assert_eq!(answers[0]["id"], "invalid-value");
    assert_eq!(answers.len(), 4);
    for answer in &answers[1..] {
        assert_eq!(answer["length"], 16 * MIB);
        assert_eq!(answer["bytes"].as_str().unwrap().len(), 32 * MIB);
    }
}

#[test]
fn virtual_addresses_of_a_full_dump_need_its_kernel() {
    let (_dir, full) = full();
    let lines = b"0xffffffff80200000 8\n0x200000 8 --phys\nhz\n";
    let without = answers(&batch_on(&full, &[], lines).expect(63));
    assert_eq!(without[0]["id"], "no-kernel-file");
    assert_eq!(without[1]["length"], 8);
    assert_eq!(without[2]["id"], "no-kernel-file");
    let with = answers(&batch_on(&full, &["-k", &kernel()], lines).expect(0));
    assert_eq!(with[1], without[1]);
    let of_minidump = answers(&batch(&["-k", &kernel()], lines));
    assert_eq!(with[0]["bytes"], of_minidump[0]["bytes"]);
    assert_eq!(with[2], of_minidump[2]);
}

#[test]
fn batch_and_another_use_of_standard_input_or_a_place_conflict() {
    let dump = made().path("vmcore.3.zst");
    run(["read", "-", "--batch"]).expect(64);
    run(["read", &dump, "0x1000", "--batch"]).expect(64);
    run(["read", &dump]).expect(64);
}
