//! Tests of `ps` and `threads`.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use livecore_synth::{Context, Machine};
use serde_json::Value;

use crate::harness::{MESSAGES, golden, machine, run};
use crate::schema;

/// A machine, its kernel file, and its dump in several formats.
struct Made {
    machine: Machine,
    kernel: PathBuf,
    dumps: Vec<PathBuf>,
    _dirs: [tempfile::TempDir; 2],
}

fn made(name: &str) -> Made {
    let text = fs::read_to_string(machine(name)).unwrap();
    let built = Machine::parse(&text).unwrap();
    let dir = tempfile::tempdir().unwrap();
    // Away from the dump, so that it is not found.
    let elsewhere = tempfile::tempdir().unwrap();
    let kernel = elsewhere.path().join("kernel");
    fs::write(&kernel, built.kernel()).unwrap();
    let dumps = [
        ("vmcore.0", "--none", "saved"),
        ("vmcore.1", "--none", "raw"),
        ("vmcore.2.zst", "--zstd", "sealed"),
        ("vmcore.3.gz", "--gzip", "saved"),
    ];
    let dumps = dumps.map(|(file, codec, container)| {
        let path = dir.path().join(file);
        run([
            "take",
            "--machine",
            machine(name).to_str().unwrap(),
            codec,
            "--container",
            container,
            "-q",
            "-o",
            path.to_str().unwrap(),
        ])
        .expect(0);
        path
    });
    Made {
        machine: built,
        kernel,
        dumps: dumps.into(),
        _dirs: [dir, elsewhere],
    }
}

fn tiny() -> &'static Made {
    static TINY: OnceLock<Made> = OnceLock::new();
    TINY.get_or_init(|| made("tiny"))
}

#[track_caller]
fn ask(verb: &str, dump: &Path, kernel: &Path, args: &[&str]) -> crate::harness::Run {
    let mut all = vec![
        verb,
        dump.to_str().unwrap(),
        "--kernel",
        kernel.to_str().unwrap(),
    ];
    all.extend(args);
    run(all)
}

#[test]
fn processes_and_threads_match_the_goldens_for_all_formats() {
    let made = tiny();
    for verb in ["ps", "threads"] {
        for dump in &made.dumps {
            let answer = ask(verb, dump, &made.kernel, &[]).expect(0);
            // A single gzip member has no index.
            let is_single = dump.extension().is_some_and(|suffix| suffix == "gz");
            let lines = answer.err.lines().count();
            assert_eq!(lines, usize::from(is_single), "{}", answer.err);
            let json = ask(verb, dump, &made.kernel, &MESSAGES).expect(0);
            let notes = json.count("decompressing");
            assert_eq!(notes, usize::from(is_single), "{}", json.err);
            golden(&format!("{verb}/tiny.txt"), answer.text());
        }
    }
}

#[test]
fn ps_lists_the_described_processes() {
    let made = tiny();
    let answer = ask("ps", &made.dumps[2], &made.kernel, &["--json"]).expect(0);
    let answer: Value = serde_json::from_str(answer.text()).unwrap();
    schema::check("ps", &answer);
    let processes = answer["processes"].as_array().unwrap();
    let found: Vec<_> = processes
        .iter()
        .map(|p| {
            (
                p["pid"].as_u64(),
                p["command"].as_str(),
                p["zombie"].as_bool(),
            )
        })
        .collect();
    let expected: Vec<_> = made
        .machine
        .truth()
        .processes
        .iter()
        .map(|p| (Some(u64::from(p.pid)), Some(&*p.comm), Some(p.zombie)))
        .collect();
    assert_eq!(found, expected);
    let tids = processes
        .iter()
        .flat_map(|p| p["threads"].as_array().unwrap())
        .map(|t| (t["tid"].as_u64(), t["cpu"].as_u64()));
    let threads = &made.machine.truth().threads;
    let expected = threads
        .iter()
        .map(|t| (Some(u64::from(t.tid)), t.cpu.map(u64::from)));
    assert!(tids.eq(expected));
}

#[test]
fn threads_have_the_described_registers_and_frames() {
    let made = tiny();
    let answer = ask("threads", &made.dumps[2], &made.kernel, &["--json"]).expect(0);
    let answer: Value = serde_json::from_str(answer.text()).unwrap();
    schema::check("threads", &answer);
    let hex = |value: u64| Value::from(format!("{value:#x}"));
    let threads = answer["threads"].as_array().unwrap();
    let truth = &made.machine.truth().threads;
    assert_eq!(threads.len(), truth.len());
    for (found, expected) in threads.iter().zip(truth) {
        let registers = found["registers"].as_object().unwrap();
        assert_eq!(registers.len(), 26);
        for (name, value) in &expected.registers {
            assert_eq!(registers[*name], hex(*value), "{name}: {found:#}");
        }
        // A register that the pcb lacks is null, not zero.
        assert_eq!(registers["rax"], Value::Null);
        let frames = found["frames"].as_array().unwrap();
        let pcs: Vec<_> = frames.iter().map(|f| f["pc"].clone()).collect();
        let expected: Vec<_> = expected.frames.iter().map(|f| hex(f.pc.0)).collect();
        assert_eq!(pcs, expected, "{found:#}");
    }
}

#[test]
fn threads_are_selected_by_id_or_as_crashed() {
    let made = tiny();
    let truth = &made.machine.truth().threads;
    let crashed = truth.iter().find(|t| t.context == Context::Dump).unwrap();
    let other = truth.iter().find(|t| t.context == Context::Saved).unwrap();
    let tids = |args: &[&str]| -> Vec<u64> {
        let args = [args, &["--json"]].concat();
        let answer = ask("threads", &made.dumps[0], &made.kernel, &args).expect(0);
        let answer: Value = serde_json::from_str(answer.text()).unwrap();
        let threads = answer["threads"].as_array().unwrap();
        threads.iter().map(|t| t["tid"].as_u64().unwrap()).collect()
    };
    let tid = other.tid.to_string();
    assert_eq!(tids(&["--crashed"]), [u64::from(crashed.tid)]);
    assert_eq!(tids(&["--tid", &tid]), [u64::from(other.tid)]);
    assert_eq!(tids(&["--tid", &tid, "--crashed"]).len(), 2);

    let text = ask("threads", &made.dumps[0], &made.kernel, &["--crashed"]).expect(0);
    assert!(text.text().contains("\n  --- trap 0xc, rip = 0x"));
    assert!(text.text().contains(" copyin_nosmap_erms+0x"));
    assert!(text.text().trim_end().ends_with(" ---"), "{}", text.text());
}

#[test]
fn missing_threads_and_kernels_are_errors_with_advice() {
    let made = tiny();
    let (dump, kernel) = (&made.dumps[2], &made.kernel);
    let [option, json] = MESSAGES;
    let none = ask("threads", dump, kernel, &["--tid", "7", option, json]).expect(1);
    none.error("no-thread");
    assert!(none.out.is_empty());
    for verb in ["ps", "threads"] {
        let no_kernel = run([verb, dump.to_str().unwrap()]);
        assert_ne!(no_kernel.code, 0);
        assert!(no_kernel.err.contains("--kernel"), "{}", no_kernel.err);
        assert!(no_kernel.out.is_empty());
        let place = kernel.parent().unwrap().to_str().unwrap();
        let found = run([verb, dump.to_str().unwrap(), "--kernel-path", place]).expect(0);
        assert!(!found.out.is_empty());
    }
    let running = made_running();
    ask(
        "threads",
        &running.dumps[0],
        &running.kernel,
        &["--crashed"],
    )
    .expect(1);
    // The registers of CPUs that were not stopped are unknown; their old pcbs are not used.
    let args = ["--json"];
    let all = ask("threads", &running.dumps[0], &running.kernel, &args).expect(0);
    let all: Value = serde_json::from_slice(&all.out).unwrap();
    let threads = all["threads"].as_array().unwrap();
    let unknown = threads.iter().filter(|t| {
        let registers = t["registers"].as_object().unwrap();
        registers.values().all(Value::is_null)
    });
    assert!(unknown.count() > 0);
}

fn made_running() -> &'static Made {
    static RUNNING: OnceLock<Made> = OnceLock::new();
    RUNNING.get_or_init(|| made("running"))
}

/// CTF and DWARF provide what symbols do not.
#[test]
fn kernel_with_type_information_has_wait_messages() {
    let made = made("debug");
    let answer = ask("ps", &made.dumps[2], &made.kernel, &["--json"]).expect(0);
    let answer: Value = serde_json::from_str(answer.text()).unwrap();
    schema::check("ps", &answer);
    assert_eq!(answer["typed"], Value::Bool(true));
    let waits = answer["processes"]
        .as_array()
        .unwrap()
        .iter()
        .flat_map(|p| p["threads"].as_array().unwrap())
        .map(|t| t["wait"].as_str());
    let expected = &made.machine.truth().threads;
    assert!(waits.eq(expected.iter().map(|t| t.wait.as_deref())));
}

/// An address or a register that one verb prints, another accepts and prints the same.
#[test]
fn registers_of_triage_and_threads_are_equal_and_addresses_are_accepted_without_0x() {
    let made = tiny();
    let (dump, kernel) = (
        made.dumps[0].to_str().unwrap(),
        made.kernel.to_str().unwrap(),
    );
    let answer = |verb: &str| -> Value {
        let run = run([verb, "-q", "--json", dump, "--kernel", kernel]).expect(0);
        let answer = serde_json::from_slice(&run.out).unwrap();
        schema::check(verb, &answer);
        answer
    };
    let (triage, threads) = (answer("triage"), answer("threads"));
    let cpus = triage["cpus"].as_array().unwrap();
    assert!(cpus.len() > 1);
    for cpu in cpus {
        let all = threads["threads"].as_array().unwrap();
        let thread = all
            .iter()
            .find(|thread| thread["tid"] == cpu["tid"])
            .unwrap();
        assert_eq!(cpu["registers"], thread["registers"]);
        assert_eq!(cpu["registers"]["rax"], Value::Null);
        assert!(cpu["registers"]["rip"].as_str().unwrap().starts_with("0x"));
    }
    let pc = cpus[0]["registers"]["rip"].as_str().unwrap();
    let read = |address: &str| {
        let args = ["read", "-q", dump, address, "16", "--kernel", kernel];
        run(args).expect(0).out
    };
    assert_eq!(read(pc), read(pc.trim_start_matches("0x")));
    let upper = pc.trim_start_matches("0x").to_uppercase();
    assert_eq!(read(pc), read(&upper));
}

/// The words of `text` that consist of the digits of a 64-bit address, without `0x`.
fn bare_addresses(text: &str) -> Vec<&str> {
    let words = text.split(|c: char| !c.is_ascii_alphanumeric());
    let is_address = |word: &&str| word.len() == 16 && word.bytes().all(|b| b.is_ascii_hexdigit());
    words.filter(is_address).collect()
}

/// Memory as numbers (`--words`) has no prefix: only its addresses are checked.
#[test]
fn printed_addresses_and_registers_start_with_0x_and_are_accepted_with_and_without_it() {
    let made = tiny();
    let (dump, kernel) = (
        made.dumps[0].to_str().unwrap(),
        made.kernel.to_str().unwrap(),
    );
    let machine = crate::harness::machine("tiny");
    let machine = machine.to_str().unwrap();
    let with_kernel = |line: &[&str]| run([line, &["--kernel", kernel]].concat()).expect(0);
    for verb in ["triage", "threads", "ps", "info"] {
        let answer = match verb {
            "info" => run([verb, dump]).expect(0),
            _ => with_kernel(&[verb, "-q", dump]),
        };
        assert_eq!(bare_addresses(answer.text()), [""; 0], "{verb}");
    }
    let threads = with_kernel(&["threads", "-q", dump]);
    let pc = threads.text().split("rip ").nth(1).unwrap();
    let pc = pc.split_whitespace().next().unwrap();
    let bare = pc.strip_prefix("0x").unwrap();
    let first = |line: &[&str]| {
        let run = run(line).expect(0);
        let word = run.text().split_whitespace().next().unwrap().to_string();
        (word, run.out)
    };
    for words in [&[][..], &["--words", "8"]] {
        let line = |at| [&["read", "-q", dump, at, "16", "--kernel", kernel], words].concat();
        let (printed, bytes) = first(&line(pc));
        assert_eq!(printed, pc);
        for at in [bare, &bare.to_uppercase(), &printed] {
            assert!(first(&line(at)).1 == bytes, "{at}");
        }
        let line = |at| {
            [
                &["mem", "read", "-q", "--machine", machine, at, "16"],
                words,
            ]
            .concat()
        };
        // Eight digits, all of them decimal.
        let (printed, bytes) = first(&line("0x00200000"));
        assert_eq!(printed, "0x00200000");
        for at in ["00200000", "0x200000", "2097152"] {
            assert!(first(&line(at)).1 == bytes, "{at}");
        }
    }
}
