//! SARIF 2.1.0, for code scanning: one run, with all rules and one result per finding.
//!
//! A region is a `byteOffset` and a `byteLength` in the file. A finding in decompressed content has
//! its offset in the message only.

use std::io::{self, Write};

use livecore_defs::text::escaped_json;
use serde_json::{Value, json};

use crate::finding::{Finding, Space};
use crate::report::Report;
use crate::rule::{Rule, Severity};

pub(super) fn write(reports: &[Report], out: &mut dyn Write) -> io::Result<()> {
    let rules = crate::rules::all().map(descriptor);
    let rules: Vec<_> = rules.chain(WITHOUT_A_RULE.map(verdict)).collect();
    let results: Vec<_> = reports
        .iter()
        .flat_map(|report| {
            let findings = report.findings.iter().map(|f| result(report, f));
            findings.chain(unverified(report))
        })
        .collect();
    let liveness: Vec<_> = reports
        .iter()
        .filter_map(|report| {
            let liveness = report.liveness.as_ref()?;
            let (score, line) = (liveness.score(), liveness.line()?);
            Some(json!({ "uri": uri(&report.name), "score": score, "text": line }))
        })
        .collect();
    let not_shown: Vec<_> = reports.iter().flat_map(not_shown).collect();
    let failed: Vec<_> = reports.iter().filter_map(notification).collect();
    let document = json!({
        "$schema": "https://json.schemastore.org/sarif-2.1.0.json",
        "version": "2.1.0",
        "runs": [{
            "tool": { "driver": {
                "name": "livecore",
                "semanticVersion": env!("CARGO_PKG_VERSION"),
                "rules": rules,
            } },
            "invocations": [{
                "executionSuccessful": failed.is_empty(),
                "toolExecutionNotifications": failed,
            }],
            "results": results,
            "properties": { "liveness": liveness, "notShown": not_shown },
        }],
    });
    let text = serde_json::to_string_pretty(&document)?;
    writeln!(out, "{}", escaped_json(&text))
}

/// Verdicts that become results without a rule: id and claim.
const WITHOUT_A_RULE: [(&str, &str); 2] = [
    ("not-a-dump", "the file is a dump that can be verified"),
    ("failed", "the dump can be read and verified"),
];

fn verdict((id, claim): (&str, &str)) -> Value {
    json!({
        "id": id,
        "shortDescription": { "text": claim },
        "defaultConfiguration": { "level": "error" },
    })
}

/// The result for a file that was not verified.
fn unverified(report: &Report) -> Option<Value> {
    let why = report.verdict.reason()?;
    let name = report.verdict.name();
    let which = WITHOUT_A_RULE.iter().position(|(id, _)| *id == name)?;
    let location = json!({ "artifactLocation": { "uri": uri(&report.name) } });
    Some(json!({
        "ruleId": name,
        "ruleIndex": crate::rules::all().count() + which,
        "level": "error",
        "message": { "text": why },
        "locations": [{ "physicalLocation": location }],
    }))
}

fn level(severity: Severity) -> &'static str {
    severity.name()
}

fn descriptor(rule: &Rule) -> Value {
    json!({
        "id": rule.id,
        "shortDescription": { "text": rule.claim },
        "fullDescription": { "text": format!("Compares {} ({}).", rule.compares, rule.source) },
        "help": { "text": rule.advice },
        "defaultConfiguration": { "level": level(rule.severity) },
        "properties": { "tags": [rule.group.name()] },
    })
}

fn result(report: &Report, finding: &Finding) -> Value {
    let mut location = json!({ "artifactLocation": { "uri": uri(&report.name) } });
    if finding.space == Space::File
        && let Some(map) = location.as_object_mut()
    {
        let len = finding.bytes.as_ref().map_or(1, |b| b.bytes.len().max(1));
        let region = json!({ "byteOffset": finding.offset, "byteLength": len });
        map.insert("region".into(), region);
    }
    let index = crate::rules::all().position(|rule| rule == finding.rule);
    json!({
        "ruleId": finding.rule.id,
        "ruleIndex": index,
        "level": level(finding.rule.severity),
        "message": { "text": super::line(finding) },
        "locations": [{ "physicalLocation": location }],
    })
}

/// For each rule, the number of findings that are not among the results.
fn not_shown(report: &Report) -> Vec<Value> {
    let counts = report.outcomes.keys().map(|id| (id, report.not_shown(id)));
    let counts = counts.filter(|(_, more)| *more > 0);
    let count = |(id, more)| json!({ "uri": uri(&report.name), "ruleId": id, "findings": more });
    counts.map(count).collect()
}

fn notification(report: &Report) -> Option<Value> {
    let why = report.verdict.reason()?;
    let location = json!({ "artifactLocation": { "uri": uri(&report.name) } });
    Some(json!({
        "level": "error",
        "message": { "text": why },
        "locations": [{ "physicalLocation": location }],
    }))
}

/// A path as a URI reference: all characters except unreserved ones and slashes are escaped.
fn uri(name: &str) -> String {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-._~/".contains(&b);
    let escape = |b: u8| match plain(b) {
        true => char::from(b).to_string(),
        false => format!("%{b:02X}"),
    };
    name.bytes().map(escape).collect()
}
