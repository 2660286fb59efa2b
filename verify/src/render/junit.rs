//! JUnit XML: a case for each dump, or a suite for each dump with a case for each rule.
//!
//! JUnit has no warnings. The case of a dump with warnings is skipped, so that readers show it as
//! neither passed nor failed. The case of a rule whose severity is warning fails under `strict`;
//! otherwise it passes, and its `system-out` lists the findings. A dump that could not be verified
//! is an error.

use livecore_defs::text::is_terminal_control;
use std::io::{self, Write};

use crate::liveness::Liveness;
use crate::report::{Report, Verdict};
use crate::rule::Rule;

/// Writes a case for each dump.
pub(super) fn write(reports: &[Report], out: &mut dyn Write) -> io::Result<()> {
    let (mut failures, mut errors, mut skipped) = (0, 0, 0);
    for report in reports {
        match report.verdict {
            Verdict::Sound => {}
            Verdict::Warnings => skipped += 1,
            Verdict::Broken => failures += 1,
            Verdict::NotADump(_) | Verdict::Failed(_) => errors += 1,
        }
    }
    let tests = reports.len();
    let seconds: f64 = reports.iter().map(|r| r.time.as_secs_f64()).sum();
    writeln!(out, r#"<?xml version="1.0" encoding="UTF-8"?>"#)?;
    writeln!(
        out,
        r#"<testsuites name="livecore verify" tests="{tests}" failures="{failures}" errors="{errors}">"#
    )?;
    writeln!(
        out,
        r#"  <testsuite name="livecore verify" tests="{tests}" failures="{failures}" errors="{errors}" skipped="{skipped}" time="{seconds:.3}">"#
    )?;
    for report in reports {
        dump(report, out)?;
    }
    writeln!(out, "  </testsuite>")?;
    writeln!(out, "</testsuites>")
}

/// Writes the case of one dump, with all of its findings.
fn dump(report: &Report, out: &mut dyn Write) -> io::Result<()> {
    let (name, seconds) = (escape(&report.name), report.time.as_secs_f64());
    writeln!(
        out,
        r#"    <testcase classname="livecore verify" name="{name}" time="{seconds:.3}">"#
    )?;
    let mut lines = Vec::new();
    for finding in &report.findings {
        let (severity, rule) = (finding.rule.severity.name(), finding.rule.id);
        lines.push(format!("{severity} {rule}: {}", super::line(finding)));
    }
    for id in report.outcomes.keys() {
        let more = report.not_shown(id);
        if more > 0 {
            lines.push(format!("{id}: {more} more findings"));
        }
    }
    if let Some(line) = report.liveness.as_ref().and_then(Liveness::line) {
        lines.push(format!("liveness: {line}"));
    }
    let kind = report.verdict.name();
    let first = escape(lines.first().map_or(kind, |line| line));
    match &report.verdict {
        Verdict::Sound => {}
        Verdict::Warnings => writeln!(out, r#"      <skipped message="{first}"/>"#)?,
        Verdict::Broken => {
            writeln!(out, r#"      <failure message="{first}" type="{kind}"/>"#)?;
        }
        Verdict::NotADump(why) | Verdict::Failed(why) => {
            let why = escape(why);
            writeln!(out, r#"      <error message="{why}" type="{kind}"/>"#)?;
        }
    }
    if !lines.is_empty() {
        let text = escape(&lines.join("\n"));
        writeln!(out, "      <system-out>{text}</system-out>")?;
    }
    writeln!(out, "    </testcase>")
}

/// Writes a suite for each dump, with a case for each rule.
pub(super) fn write_rules(reports: &[Report], out: &mut dyn Write) -> io::Result<()> {
    writeln!(out, r#"<?xml version="1.0" encoding="UTF-8"?>"#)?;
    let totals = reports
        .iter()
        .map(counts)
        .fold((0, 0, 0), |a, b| (a.0 + b.0, a.1 + b.1, a.2 + b.2));
    let (tests, failures, errors) = totals;
    writeln!(
        out,
        r#"<testsuites name="livecore verify" tests="{tests}" failures="{failures}" errors="{errors}">"#
    )?;
    for report in reports {
        suite(report, out)?;
    }
    writeln!(out, "</testsuites>")
}

fn rules_of(report: &Report) -> impl Iterator<Item = &'static Rule> + '_ {
    crate::rules::all().filter(|rule| report.outcomes.contains_key(rule.id))
}

/// Number of cases, failures and errors.
fn counts(report: &Report) -> (usize, usize, usize) {
    let failures = rules_of(report).filter(|rule| report.fails(rule)).count();
    let errors = usize::from(report.verdict.reason().is_some());
    (rules_of(report).count() + 1, failures, errors)
}

fn suite(report: &Report, out: &mut dyn Write) -> io::Result<()> {
    let (tests, failures, errors) = counts(report);
    let (name, seconds) = (escape(&report.name), report.time.as_secs_f64());
    writeln!(
        out,
        r#"  <testsuite name="{name}" tests="{tests}" failures="{failures}" errors="{errors}" skipped="0" time="{seconds:.3}">"#
    )?;
    match &report.verdict {
        Verdict::NotADump(why) | Verdict::Failed(why) => {
            writeln!(out, r#"    <testcase classname="{name}" name="verify">"#)?;
            let (kind, why) = (report.verdict.name(), escape(why));
            writeln!(out, r#"      <error message="{why}" type="{kind}"/>"#)?;
            writeln!(out, "    </testcase>")?;
        }
        _ => writeln!(out, r#"    <testcase classname="{name}" name="verify"/>"#)?,
    }
    for rule in rules_of(report) {
        case(report, rule, &name, out)?;
    }
    if let Some(line) = report.liveness.as_ref().and_then(Liveness::line) {
        let line = escape(&line);
        writeln!(out, "    <system-out>liveness: {line}</system-out>")?;
    }
    writeln!(out, "  </testsuite>")
}

fn case(report: &Report, rule: &Rule, name: &str, out: &mut dyn Write) -> io::Result<()> {
    let findings: Vec<_> = report.findings.iter().filter(|f| f.rule == rule).collect();
    let title = escape(&format!("{}: {}", rule.id, rule.claim));
    if findings.is_empty() {
        return writeln!(out, r#"    <testcase classname="{name}" name="{title}"/>"#);
    }
    writeln!(out, r#"    <testcase classname="{name}" name="{title}">"#)?;
    let mut lines: Vec<_> = findings.iter().map(|f| super::line(f)).collect();
    let more = report.not_shown(rule.id);
    if more > 0 {
        lines.push(format!("and {more} more"));
    }
    lines.push(rule.advice.to_string());
    let text = escape(&lines.join("\n"));
    if report.fails(rule) {
        let (kind, first) = (rule.severity.name(), escape(&lines[0]));
        writeln!(
            out,
            r#"      <failure message="{first}" type="{kind}">{text}</failure>"#
        )?;
    } else {
        let kind = rule.severity.name();
        writeln!(out, "      <system-out>{kind}: {text}</system-out>")?;
    }
    writeln!(out, "    </testcase>")
}

/// Escapes text for XML 1.0. Characters that XML does not allow become question marks.
fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\n' => escaped.push_str("&#10;"),
            '\t' => escaped.push_str("&#9;"),
            c if c < ' ' || c == '\u{fffe}' || c == '\u{ffff}' => escaped.push('?'),
            c if is_terminal_control(c) => escaped.push_str(&format!("&#{};", u32::from(c))),
            c => escaped.push(c),
        }
    }
    escaped
}
