//! JSON: one document, or one object per line. `docs/schemas/verify.schema.json` describes both.

use std::io::{self, Write};

use livecore_defs::text::escaped_json;
use serde_json::{Map, Value, json};

use crate::facts::Facts;
use crate::finding::Finding;
use crate::liveness::Liveness;
use crate::report::Report;
use crate::rule::{Rule, Severity};

/// Number of the JSON output, in each document (`docs/versions.md`). An incompatible change of any
/// document increments it.
pub const SCHEMA: u32 = 1;

pub(super) fn write(reports: &[Report], out: &mut dyn Write) -> io::Result<()> {
    let reports: Vec<_> = reports.iter().map(report_value).collect();
    let document = json!({ "schema": SCHEMA, "reports": reports });
    let text = serde_json::to_string_pretty(&document)?;
    writeln!(out, "{}", escaped_json(&text))
}

/// Writes a line of type `report` for each report, followed by a line of type `finding` for each of
/// its findings.
pub(super) fn write_lines(reports: &[Report], out: &mut dyn Write) -> io::Result<()> {
    for report in reports {
        let mut head = report_value(report);
        if let Some(map) = head.as_object_mut() {
            map.remove("findings");
            map.insert("type".into(), "report".into());
            map.insert("schema".into(), SCHEMA.into());
        }
        let text = serde_json::to_string(&head)?;
        writeln!(out, "{}", escaped_json(&text))?;
        for finding in &report.findings {
            let mut line = finding_value(finding);
            if let Some(map) = line.as_object_mut() {
                map.insert("type".into(), "finding".into());
                map.insert("name".into(), report.name.clone().into());
            }
            let text = serde_json::to_string(&line)?;
            writeln!(out, "{}", escaped_json(&text))?;
        }
    }
    Ok(())
}

/// A report as JSON.
pub fn report_value(report: &Report) -> Value {
    let rules: Map<_, _> = report
        .outcomes
        .iter()
        .map(|(id, outcome)| {
            let value = json!({
                "checked": outcome.checked,
                "broken": outcome.broken,
                "not_shown": report.not_shown(id),
            });
            ((*id).to_string(), value)
        })
        .collect();
    json!({
        "name": report.name,
        "verdict": report.verdict.name(),
        "reason": report.verdict.reason(),
        "exit_code": report.verdict.exit_code(),
        "depth": report.depth.name(),
        "strict": report.strict,
        "errors": report.count(Severity::Error),
        "warnings": report.count(Severity::Warning),
        "notes": report.count(Severity::Note),
        "facts": facts_value(&report.facts),
        "findings": report.findings.iter().map(finding_value).collect::<Vec<_>>(),
        "rules": rules,
        "liveness": report.liveness.as_ref().map(liveness_value),
    })
}

fn liveness_value(liveness: &Liveness) -> Value {
    let evidence: Vec<_> = liveness
        .evidence
        .iter()
        .map(|e| {
            json!({
                "what": e.what,
                "rules": e.rules,
                "checked": e.checked,
                "torn": e.torn,
                "score": e.score(),
            })
        })
        .collect();
    json!({ "live": liveness.live, "score": liveness.score(), "evidence": evidence })
}

/// A rule as JSON.
pub fn rule_value(rule: &Rule) -> Value {
    json!({
        "id": rule.id,
        "group": rule.group.name(),
        "severity": rule.severity.name(),
        "claim": rule.claim,
        "compares": rule.compares,
        "source": rule.source,
        "advice": rule.advice,
    })
}

fn facts_value(facts: &Facts) -> Value {
    let mut map = Map::new();
    map.insert("size".into(), facts.size.into());
    let words = [
        ("container", facts.container.map(|c| c.name())),
        ("codec", facts.codec.map(|c| c.name())),
        ("architecture", facts.architecture),
    ];
    for (key, value) in words {
        if let Some(value) = value {
            map.insert(key.into(), value.into());
        }
    }
    let numbers = [
        ("version", facts.version.map(u64::from)),
        ("stored_len", facts.stored_len),
        ("content_len", facts.content_len),
        ("frames", facts.frames),
        ("pages", facts.pages),
        ("mapped_present", facts.mapped.map(|m| m.0)),
        ("mapped_absent", facts.mapped.map(|m| m.1)),
    ];
    for (key, value) in numbers {
        if let Some(value) = value {
            map.insert(key.into(), value.into());
        }
    }
    Value::Object(map)
}

fn finding_value(finding: &Finding) -> Value {
    let mut value = json!({
        "rule": finding.rule.id,
        "group": finding.rule.group.name(),
        "severity": finding.rule.severity.name(),
        "region": finding.region,
        "space": finding.space.name(),
        "offset": finding.offset,
        "found": finding.found,
        "expected": finding.expected,
    });
    if let (Some(excerpt), Some(map)) = (&finding.bytes, value.as_object_mut()) {
        let hex: String = excerpt.bytes.iter().map(|b| format!("{b:02x}")).collect();
        let bytes = json!({ "offset": excerpt.offset, "hex": hex });
        map.insert("bytes".into(), bytes);
    }
    value
}
