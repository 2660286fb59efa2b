//! The findings of the verifier, by offset.

use livecore_verify::{Finding, Report, Severity, Space, Verdict};

use super::tags::{Bounded, escaped, put, table};

/// The size of the section in bytes.
const LIMIT: usize = 150_000;
/// Marks in the drawing of the file.
const MARKS: usize = 500;

/// The verdict as a badge.
pub(super) fn badge(verdict: &Verdict) -> String {
    let (class, text) = match verdict {
        Verdict::Sound => ("good", "dump sound"),
        Verdict::Warnings => ("warn", "dump sound, with warnings"),
        Verdict::Broken => ("bad", "dump broken"),
        Verdict::NotADump(_) => ("bad", "not a dump"),
        Verdict::Failed(_) => ("bad", "dump not verified"),
    };
    format!("<li class=\"{class}\">{text}</li>")
}

/// The section.
pub(super) fn html(report: &Report) -> String {
    let mut out = String::new();
    if let Some(reason) = report.verdict.reason() {
        put!(out, "<p class=\"bad\">{}</p>\n", escaped(reason));
    }
    let mut findings: Vec<&Finding> = report.findings.iter().collect();
    findings.sort_by_key(|finding| (finding.space.name(), finding.offset));
    if findings.is_empty() {
        return out + "<p>livecore verify has no findings.</p>\n";
    }
    out += &drawing(report, &findings);
    let mut rows = Bounded::new(LIMIT);
    for finding in &findings {
        let class = match finding.rule.severity {
            Severity::Error => "bad",
            Severity::Warning => "warn",
            Severity::Note => "dim",
        };
        let offset = match finding.space {
            Space::Dump => String::new(),
            Space::Info => format!("line {}", finding.offset),
            _ => format!("{:#x}", finding.offset),
        };
        rows.add(
            &format!(
                "<tr><th scope=\"row\" class=\"n mono\">{offset}</th><td>{}</td>\
                 <td class=\"{class}\">{}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td></tr>\n",
                finding.space.name(),
                finding.rule.severity.name(),
                escaped(finding.rule.id),
                escaped(&finding.region),
                escaped(&finding.found),
                escaped(&finding.expected)
            ),
            1,
        );
    }
    let columns = [
        ("Offset", true),
        ("in", false),
        ("Severity", false),
        ("Rule", false),
        ("Region", false),
        ("Found", false),
        ("Expected", false),
    ];
    out += &table(
        "Findings of livecore verify, by offset",
        &columns,
        &rows.html,
    );
    let more: u64 = report.outcomes.keys().map(|id| report.not_shown(id)).sum();
    if more > 0 {
        put!(
            out,
            "<p class=\"dim\">{more} more findings of these rules were counted.</p>\n"
        );
    }
    out + &rows.note("findings")
}

/// The file as a bar with a mark at each finding.
fn drawing(report: &Report, findings: &[&Finding]) -> String {
    let size = report.facts.size;
    let offsets = findings
        .iter()
        .filter(|f| f.space == Space::File && f.offset < size);
    let offsets: Vec<u64> = offsets.map(|f| f.offset).take(MARKS).collect();
    if offsets.is_empty() {
        return String::new();
    }
    let mut out = format!(
        "<svg viewBox=\"0 0 960 54\" role=\"img\" aria-label=\"Offsets of {} findings in the file\">\
         <rect class=\"box\" x=\"1\" y=\"5\" width=\"958\" height=\"24\"/>",
        offsets.len()
    );
    for offset in offsets {
        let x = 2.0 + 956.0 * offset as f64 / size as f64;
        put!(out, "<path class=\"mark\" d=\"M{x:.1} 5V29\"/>");
    }
    put!(
        out,
        "<text x=\"0\" y=\"48\">0x0</text>\
         <text x=\"960\" y=\"48\" text-anchor=\"end\">{size:#x}</text></svg>\n"
    );
    out
}
