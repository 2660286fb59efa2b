//! The text format of Prometheus, for the textfile collector of node_exporter.
//!
//! A dump has a series for each verdict, one of which is 1, so that a rule can select a verdict and a
//! dump that becomes sound again ends the alert.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::time::SystemTime;

use livecore_defs::text::printable;

use crate::report::Report;
use crate::rule::Severity;

/// The worst last, in the order of exit codes.
const VERDICTS: [&str; 5] = ["sound", "warnings", "not-a-dump", "broken", "failed"];
const SEVERITIES: [Severity; 3] = [Severity::Error, Severity::Warning, Severity::Note];

/// Writes the reports as gauges. Of several reports whose names have the same label, the worst is
/// written: a series must not occur twice.
pub(super) fn write(reports: &[Report], out: &mut dyn Write) -> io::Result<()> {
    let mut by_label = BTreeMap::new();
    for report in reports {
        let written = by_label.entry(label(&report.name)).or_insert(report);
        if rank(report) > rank(written) {
            *written = report;
        }
    }
    let dumps = &by_label;
    family(out, "dump_verdict", "Whether the dump has this verdict")?;
    for (dump, report) in dumps {
        for verdict in VERDICTS {
            let value = u8::from(report.verdict.name() == verdict);
            let labels = format_args!("dump=\"{dump}\",verdict=\"{verdict}\"");
            sample(out, "dump_verdict", labels, value)?;
        }
    }
    family(out, "dump_findings", "Findings in the dump, by severity")?;
    for (dump, report) in dumps {
        for severity in SEVERITIES {
            let labels = format_args!("dump=\"{dump}\",severity=\"{}\"", severity.name());
            sample(out, "dump_findings", labels, report.count(severity))?;
        }
    }
    family(out, "dump_size_bytes", "Size of the dump file")?;
    for (dump, report) in dumps {
        sample(
            out,
            "dump_size_bytes",
            format_args!("dump=\"{dump}\""),
            report.facts.size,
        )?;
    }
    family(out, "dump_duration_seconds", "Duration of the verification")?;
    for (dump, report) in dumps {
        let seconds = report.time.as_secs_f64();
        let labels = format_args!("dump=\"{dump}\"");
        sample(out, "dump_duration_seconds", labels, seconds)?;
    }
    let name = "last_run_timestamp_seconds";
    family(out, name, "End of the last run, in seconds since 1970 UTC")?;
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    let now = now.map_or(0, |since| since.as_secs());
    writeln!(out, "{PREFIX}{name} {now}")
}

/// The position of the verdict in [`VERDICTS`].
fn rank(report: &Report) -> Option<usize> {
    let name = report.verdict.name();
    VERDICTS.iter().position(|verdict| *verdict == name)
}

const PREFIX: &str = "livecore_verify_";

fn family(out: &mut dyn Write, name: &str, help: &str) -> io::Result<()> {
    writeln!(out, "# HELP {PREFIX}{name} {help}.")?;
    writeln!(out, "# TYPE {PREFIX}{name} gauge")
}

fn sample(
    out: &mut dyn Write,
    name: &str,
    labels: std::fmt::Arguments<'_>,
    value: impl std::fmt::Display,
) -> io::Result<()> {
    writeln!(out, "{PREFIX}{name}{{{labels}}} {value}")
}

/// The value of a label, without control characters, escaped.
fn label(text: &str) -> String {
    let text = printable(text);
    text.replace('\\', "\\\\").replace('"', "\\\"")
}
