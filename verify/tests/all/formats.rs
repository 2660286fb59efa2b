//! Formats of reports: they contain the same findings, and are valid.
//!
//! If `LIVECORE_VALIDATORS` names a Python with `jsonschema`, it validates JSON, JSON Lines and SARIF
//! (`LIVECORE_SARIF_SCHEMA` names the schema), and xmllint validates JUnit.

use crate::common;

use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use common::{build, seal, verify};
use livecore_compress::Codec;
use livecore_verify::render::{Format, Style};
use livecore_verify::{Options, Report, Verdict};
use serde_json::Value;

/// A sound dump, a broken one, one with warnings with and without `strict`, and a file that is not a
/// dump; some with special characters in their names.
fn reports() -> Vec<Report> {
    let payload = build("").payload;
    let sound = seal(&payload, Codec::Zstd, 65536);
    let mut broken = sound.clone();
    let middle = broken.len() / 2;
    broken[middle] ^= 0xff;
    let short = &payload[..payload.len() - 4096];
    let with = |name: &str, strict| Options::default().name(name).strict(strict);
    vec![
        verify(&sound, &with("sound.zst", false)),
        verify(
            &broken,
            &with("broken & <odd> \"name\", 100%:é#1.zst", false),
        ),
        verify(short, &with("short", false)),
        verify(short, &with("short, strict", true)),
        verify(b"no dump", &with("none", false)),
    ]
}

fn written(reports: &[Report], format: Format) -> String {
    let mut text = Vec::new();
    let style = Style {
        verbose: true,
        ..Style::default()
    };
    livecore_verify::render::write(reports, format, style, &mut text).unwrap();
    String::from_utf8(text).unwrap()
}

fn expected_verdicts(reports: &[Report]) {
    let verdicts: Vec<_> = reports.iter().map(|r| r.verdict.exit_code()).collect();
    assert_eq!(verdicts, [0, 2, 3, 2, 63]);
    assert_eq!(
        Verdict::worst_exit_code(reports.iter().map(|r| &r.verdict)),
        2
    );
}

#[test]
fn json_and_json_lines_contain_the_same_findings() {
    let reports = reports();
    expected_verdicts(&reports);
    let document: Value = serde_json::from_str(&written(&reports, Format::Json)).unwrap();
    let lines = written(&reports, Format::JsonLines);
    let mut lines = lines
        .lines()
        .map(|l| serde_json::from_str::<Value>(l).unwrap());
    for (report, value) in reports.iter().zip(document["reports"].as_array().unwrap()) {
        assert_eq!(value["name"], report.name.as_str());
        assert_eq!(value["exit_code"], report.verdict.exit_code());
        let head = lines.next().unwrap();
        assert_eq!(head["type"], "report");
        assert_eq!(head["rules"], value["rules"]);
        let findings = value["findings"].as_array().unwrap();
        assert_eq!(findings.len(), report.findings.len());
        for finding in findings {
            let mut line = lines.next().unwrap();
            let map = line.as_object_mut().unwrap();
            assert_eq!(map.remove("type").unwrap(), "finding");
            assert_eq!(map.remove("name").unwrap(), report.name.as_str());
            assert_eq!(&line, finding);
        }
    }
    assert!(lines.next().is_none());
}

#[test]
fn every_finding_is_in_every_format_except_the_counts_of_prometheus() {
    let reports = reports();
    let findings: usize = reports.iter().map(|r| r.findings.len()).sum();
    assert!(findings >= 5);
    let formats = Format::ALL.into_iter();
    for format in formats.filter(|format| *format != Format::Prom) {
        let text = written(&reports, format);
        for finding in reports.iter().flat_map(|r| &r.findings) {
            let id = finding.rule.id;
            assert!(text.contains(id), "{id} is not in {}", format.name());
        }
    }
}

#[test]
fn sarif_results_refer_to_their_rules() {
    let reports = reports();
    let sarif: Value = serde_json::from_str(&written(&reports, Format::Sarif)).unwrap();
    let run = &sarif["runs"][0];
    let rules = run["tool"]["driver"]["rules"].as_array().unwrap();
    let results = run["results"].as_array().unwrap();
    assert_eq!(
        results.len(),
        1 + reports.iter().map(|r| r.findings.len()).sum::<usize>()
    );
    for result in results {
        let index = usize::try_from(result["ruleIndex"].as_u64().unwrap()).unwrap();
        assert_eq!(result["ruleId"], rules[index]["id"]);
    }
    let uris: Vec<_> = results
        .iter()
        .map(|r| &r["locations"][0]["physicalLocation"]["artifactLocation"]["uri"])
        .collect();
    let odd = "broken%20%26%20%3Codd%3E%20%22name%22%2C%20100%25%3A%C3%A9%231.zst";
    assert!(uris.contains(&&Value::from(odd)), "{uris:?}");
}

#[test]
fn tap_points_fail_if_the_verdict_is_broken() {
    let reports = reports();
    let text = written(&reports, Format::Tap);
    assert!(text.starts_with("TAP version 14\n1..5\n"));
    let points: Vec<_> = text
        .lines()
        .filter(|l| l.starts_with("ok ") || l.starts_with("not ok "))
        .map(|l| l.starts_with("ok "))
        .collect();
    assert_eq!(points, [true, false, true, false, false]);
}

#[test]
fn github_commands_are_single_escaped_lines() {
    let text = written(&reports(), Format::Github);
    let odd = "file=broken & <odd> \"name\"%2C 100%25%3Aé#1.zst,";
    assert!(text.contains(odd), "{text}");
    for line in text.lines() {
        assert!(line.starts_with("::"), "{line}");
    }
}

fn run(program: &str, args: &[&str], input: &str) {
    let mut child = Command::new(program)
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|e| panic!("{program}: {e}"));
    child
        .stdin
        .take()
        .unwrap()
        .write_all(input.as_bytes())
        .unwrap();
    let output = child.wait_with_output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{program} {args:?}: {errors}");
}

#[test]
fn independent_validators_accept_every_format() {
    let Ok(python) = std::env::var("LIVECORE_VALIDATORS") else {
        let why = "skipped: LIVECORE_VALIDATORS names no python with jsonschema\n";
        std::io::stderr().write_all(why.as_bytes()).unwrap();
        return;
    };
    let python = python.as_str();
    let schema = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/schemas/verify.schema.json");
    let schema = schema.to_str().unwrap();
    let document = "import json, sys, jsonschema as j\n\
        s = json.load(open(sys.argv[1])); j.validators.validator_for(s).check_schema(s)\n\
        j.validate(json.load(sys.stdin), s)";
    let lines = "import json, sys, jsonschema as j\n\
        s = json.load(open(sys.argv[1])); d = {'$defs': s['$defs']}\n\
        for line in sys.stdin:\n\
        \x20   v = json.loads(line); j.validate(v, d | {'$ref': f\"#/$defs/{v['type']}_line\"})";
    let reports = reports();
    run(
        python,
        &["-c", document, schema],
        &written(&reports, Format::Json),
    );
    run(
        python,
        &["-c", lines, schema],
        &written(&reports, Format::JsonLines),
    );
    let junit = Path::new(env!("CARGO_MANIFEST_DIR")).join("../testdata/schemas/junit.xsd");
    let args = ["--noout", "--schema", junit.to_str().unwrap(), "-"];
    run("xmllint", &args, &written(&reports, Format::Junit));
    if let Ok(sarif) = std::env::var("LIVECORE_SARIF_SCHEMA") {
        run(
            python,
            &["-c", document, &sarif],
            &written(&reports, Format::Sarif),
        );
    }
}
