//! GitHub Actions workflow commands: an annotation for each finding.

use livecore_defs::text::printable;
use std::io::{self, Write};

use crate::report::Report;
use crate::rule::Severity;

pub(super) fn write(reports: &[Report], out: &mut dyn Write) -> io::Result<()> {
    for report in reports {
        let file = property(&report.name);
        for finding in &report.findings {
            let command = match finding.rule.severity {
                Severity::Error => "error",
                Severity::Warning => "warning",
                Severity::Note => "notice",
            };
            let (title, text) = (property(finding.rule.id), data(&super::line(finding)));
            writeln!(out, "::{command} file={file},title={title}::{text}")?;
        }
        for id in report.outcomes.keys() {
            let more = report.not_shown(id);
            if more > 0 {
                writeln!(out, "::notice file={file},title={id}::{more} more findings")?;
            }
        }
        if let Some(liveness) = report.liveness.as_ref().filter(|l| l.score() < 100.0)
            && let Some(line) = liveness.line()
        {
            let line = data(&line);
            writeln!(out, "::notice file={file},title=liveness::{line}")?;
        }
        if let Some(why) = report.verdict.reason() {
            let (title, why) = (report.verdict.name(), data(why));
            writeln!(out, "::error file={file},title={title}::{why}")?;
        }
    }
    Ok(())
}

/// Escapes the text of a command, which may contain a file name.
fn data(text: &str) -> String {
    let text = text
        .replace('%', "%25")
        .replace('\r', "%0D")
        .replace('\n', "%0A");
    printable(&text)
}

fn property(text: &str) -> String {
    data(text).replace(':', "%3A").replace(',', "%2C")
}
