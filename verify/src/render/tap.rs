//! TAP 14: a subtest for each dump, a point for each rule that was applied.
//!
//! The point of a broken rule of severity warning has a `# TODO` directive, so that it does not fail
//! the subtest, except under `strict`. Notes pass, with their findings as comments.

use std::io::{self, Write};

use crate::finding::printable;
use crate::liveness::Liveness;
use crate::report::Report;
use crate::rule::Severity;

pub(super) fn write(reports: &[Report], out: &mut dyn Write) -> io::Result<()> {
    writeln!(out, "TAP version 14")?;
    writeln!(out, "1..{}", reports.len())?;
    for (i, report) in reports.iter().enumerate() {
        let name = escape(&report.name);
        writeln!(out, "# Subtest: {name}")?;
        let failed = subtest(report, out)?;
        let word = if failed { "not ok" } else { "ok" };
        writeln!(out, "{word} {} - {name}", i + 1)?;
    }
    Ok(())
}

/// Writes the points of one dump. Returns whether one failed.
fn subtest(report: &Report, out: &mut dyn Write) -> io::Result<bool> {
    let rules = crate::rules::all().filter(|rule| report.outcomes.contains_key(rule.id));
    let reason = report.verdict.reason();
    let (mut point, mut failed) = (0, reason.is_some());
    if let Some(why) = reason {
        point += 1;
        let name = report.verdict.name();
        writeln!(out, "    not ok {point} - {name}: {}", escape(why))?;
    }
    for rule in rules {
        point += 1;
        let broken = report.outcomes.get(rule.id).is_some_and(|o| o.broken > 0);
        let (word, todo) = match rule.severity {
            _ if report.fails(rule) => ("not ok", ""),
            Severity::Warning if broken => ("not ok", " # TODO a warning"),
            _ => ("ok", ""),
        };
        failed |= word == "not ok" && todo.is_empty();
        let claim = escape(rule.claim);
        writeln!(out, "    {word} {point} - {}: {claim}{todo}", rule.id)?;
        for finding in report.findings.iter().filter(|f| f.rule == rule) {
            let line = super::line(finding).replace('\n', " ");
            writeln!(out, "    # {line}")?;
        }
        let more = report.not_shown(rule.id);
        if more > 0 {
            writeln!(out, "    # and {more} more")?;
        }
    }
    if let Some(line) = report.liveness.as_ref().and_then(Liveness::line) {
        writeln!(out, "    # liveness: {line}")?;
    }
    writeln!(out, "    1..{point}")?;
    Ok(failed)
}

fn escape(text: &str) -> String {
    printable(text).replace('\\', "\\\\").replace('#', "\\#")
}
