//! Tests of `triage`.

use std::fs;
use std::path::PathBuf;

use livecore_synth::Machine;
use serde_json::Value;

use crate::harness::{machine, run};
use crate::schema;

/// A machine's dump and kernel file.
struct Made {
    kernel: PathBuf,
    dump: PathBuf,
    _dir: tempfile::TempDir,
}

fn made(name: &str) -> Made {
    let text = fs::read_to_string(machine(name)).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let (kernel, dump) = (dir.path().join("kernel"), dir.path().join("vmcore.0.zst"));
    fs::write(&kernel, Machine::parse(&text).unwrap().kernel()).unwrap();
    let (from, to) = (machine(name), dump.to_str().unwrap());
    run([
        "take",
        "--machine",
        from.to_str().unwrap(),
        "-Z",
        "-q",
        "-o",
        to,
    ])
    .expect(0);
    Made {
        kernel,
        dump,
        _dir: dir,
    }
}

impl Made {
    fn triage(&self, more: &[&str]) -> String {
        let (dump, kernel) = (self.dump.to_str().unwrap(), self.kernel.to_str().unwrap());
        let mut args = vec!["triage", dump, "--kernel", kernel];
        args.extend(more);
        String::from_utf8(run(args).expect(0).out).unwrap()
    }

    fn json(&self, more: &[&str]) -> Value {
        let mut args = vec!["--json"];
        args.extend(more);
        let answer: Value = serde_json::from_str(&self.triage(&args)).unwrap();
        schema::check("triage", &answer);
        answer
    }
}

#[test]
fn triage_names_deadlocks_with_locks_threads_and_backtraces() {
    let made = made("deadlock");
    let answer = made.json(&[]);
    let deadlocks = answer["locks"]["deadlocks"].as_array().unwrap();
    let mut cycles: Vec<Vec<(String, String, String)>> = deadlocks
        .iter()
        .map(|deadlock| {
            assert_eq!(
                deadlock["length"],
                deadlock["cycle"].as_array().unwrap().len()
            );
            let links = deadlock["cycle"].as_array().unwrap().iter();
            links
                .map(|link| {
                    let text = |value: &Value| value.as_str().unwrap().to_owned();
                    let waiting = match link["class"].as_str() {
                        Some("mutex" | "rwlock") => "turnstile_wait",
                        _ => "sleepq_wait",
                    };
                    let functions = link["thread"]["frames"].as_array().unwrap().iter();
                    let functions: Vec<_> = functions.map(|f| f["function"].as_str()).collect();
                    assert!(functions.contains(&Some(waiting)), "{functions:?}");
                    (
                        text(&link["thread"]["title"]),
                        text(&link["class"]),
                        text(&link["name"]),
                    )
                })
                .collect()
        })
        .collect();
    cycles.sort();
    let link = |title: &str, class: &str, name: &str| (title.into(), class.into(), name.into());
    assert_eq!(
        cycles,
        [
            vec![
                link("(pid 0) kernel/softirq_0", "mutex", "arp"),
                link("(pid 0) kernel/softirq_1", "mutex", "route"),
            ],
            vec![
                link("(pid 21) cp", "sx", "module subsystem sx lock"),
                link("(pid 20) kldload", "lockmgr", "ufs"),
            ],
            vec![
                link("(pid 30) zpool/one", "lockmgr", "zfs"),
                link("(pid 30) zpool/two", "sx", "geom topology"),
                link("(pid 30) zpool/three", "rwlock", "vm map (user)"),
            ],
        ]
    );
    let shared = answer["locks"]["locks"].as_array().unwrap().iter();
    let shared: Vec<_> = shared.filter(|lock| lock["state"] == "shared").collect();
    assert_eq!(shared.len(), 1);
    assert_eq!(shared[0]["sharers"], 3);
    assert_eq!(shared[0]["owner"], Value::Null);

    let text = made.triage(&[]);
    for line in [
        "Deadlock of 2 threads:",
        "Deadlock of 3 threads:",
        "(pid 21) cp waits for sx \"module subsystem sx lock\"",
        "Locks that threads wait for: 10",
        "(pid 40) sh/owner, sleeping on select",
    ] {
        assert!(text.contains(line), "{line}\n{text}");
    }
}

#[test]
fn triage_without_types_says_that_locks_are_unknown() {
    let made = made("tiny");
    let answer = made.json(&[]);
    assert_eq!(answer["locks"], Value::Null);
    let missing = answer["missing"].as_array().unwrap();
    let expected = "locks: the kernel file has no type information about thread.td_blocked";
    assert!(missing.contains(&expected.into()), "{missing:?}");
}

#[test]
fn triage_reports_the_sections_that_are_asked_for() {
    let made = made("deadlock");
    let names = |answer: &Value| -> Vec<String> {
        let sections = answer["sections"].as_array().unwrap().iter();
        sections
            .map(|s| s["name"].as_str().unwrap().to_owned())
            .collect()
    };
    assert_eq!(names(&made.json(&[])), ["memory"]);
    let answer = made.json(&["--sections", "vmstat-z,vmstat-i,vmstat-z"]);
    assert_eq!(names(&answer), ["vmstat-z", "vmstat-i"]);
    let rows = &answer["sections"][1]["rows"];
    assert_eq!(rows[0]["interrupt"], "irq1: atkbd0");
    assert_eq!(rows[0]["total"], 12);
    let answer = made.json(&["--sections", "all"]);
    assert_eq!(names(&answer).len(), 19);
    let config = answer["sections"][18]["problems"].as_array().unwrap();
    assert_eq!(config.len(), 1, "{config:?}");

    let text = made.triage(&["--sections", "all"]);
    for line in [
        "Zones of uma(9), as vmstat -z (vmstat-z):",
        "  irq1: atkbd0    12",
        "  not found: the kernel file has no symbol kernconfstring",
    ] {
        assert!(text.contains(line), "{line}\n{text}");
    }
    let dump = made.dump.to_str().unwrap();
    run(["triage", dump, "--sections", "vmstat"]).expect(64);
}
