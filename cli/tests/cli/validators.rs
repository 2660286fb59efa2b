//! Checks the documented schemas and the program's output with an independent JSON Schema
//! validator. LIVECORE_VALIDATORS is a python that has `jsonschema`; tests/all installs it.

use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use crate::harness::{machine, run, testdata};

/// Checks pairs of a schema's path and a document, and prints the first error.
const PROGRAM: &str = "\
import json, sys, jsonschema as j
for path, document in json.load(sys.stdin):
    schema = json.load(open(path))
    validator = j.validators.validator_for(schema)
    validator.check_schema(schema)
    for error in validator(schema).iter_errors(document):
        sys.exit(f'{path}: {error.json_path}: {error.message}')
";

fn json(args: &[&str], code: i32) -> Value {
    serde_json::from_slice(&run(args).expect(code).out).unwrap()
}

#[test]
fn independent_validator_accepts_schemas_and_output() {
    let Ok(python) = std::env::var("LIVECORE_VALIDATORS") else {
        let why = "skipped: LIVECORE_VALIDATORS is not a python with jsonschema\n";
        std::io::stderr().write_all(why.as_bytes()).unwrap();
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name).to_str().unwrap().to_string();
    let (whole, plain, broken, cut) = (path("a.zst"), path("b"), path("c.zst"), path("d.zst"));
    let tiny = machine("tiny");
    let tiny = tiny.to_str().unwrap();
    let mut pairs = Vec::new();
    let mut add = |schema: &str, document: Value| {
        let schema = testdata().join("../docs/schemas").join(schema);
        let schema = schema.with_extension("schema.json");
        pairs.push(json!([schema.to_str().unwrap(), document]));
    };
    add(
        "written",
        json(&["take", "--machine", tiny, "-o", &whole, "--json"], 0),
    );
    add("written", json(&["convert", &whole, &plain, "--json"], 0));
    let mut bytes = fs::read(&whole).unwrap();
    let middle = bytes.len() * 3 / 4;
    bytes[middle] ^= 1;
    fs::write(&broken, &bytes).unwrap();
    fs::write(&cut, &bytes[..middle]).unwrap();
    for (dump, code) in [(&whole, 0), (&broken, 2), (&cut, 2)] {
        add("verify", json(&["verify", dump, "--json"], code));
    }
    add(
        "verify",
        json(
            &[
                "verify",
                &whole,
                &broken,
                &path("absent"),
                "--json",
                "--deep",
            ],
            1,
        ),
    );
    add("compare", json(&["compare", &whole, &plain, "--json"], 0));
    add("compare", json(&["compare", &whole, &broken, "--json"], 4));
    for (dump, code) in [(&whole, 0), (&broken, 3), (&cut, 3)] {
        add(
            "salvage",
            json(
                &["salvage", dump, &path("out.zst"), "--force", "--json"],
                code,
            ),
        );
    }
    add(
        "compare",
        json(&["compare", &whole, &path("out.zst"), "--json"], 1),
    );
    add("info", json(&["info", &whole, "--json"], 0));
    add("dmesg", json(&["dmesg", &whole, "--json"], 0));
    add(
        "read",
        json(&["read", &whole, "0x1000", "16", "--phys", "--json"], 0),
    );
    let mut child = Command::new(python)
        .args(["-c", PROGRAM])
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let input = serde_json::to_vec(&pairs).unwrap();
    child.stdin.take().unwrap().write_all(&input).unwrap();
    let output = child.wait_with_output().unwrap();
    let printed = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{printed}");
    assert!(Path::new(&plain).exists());
}
