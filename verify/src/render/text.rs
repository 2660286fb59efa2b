//! Text: a line with the verdict of each dump, then its findings with location and bytes.

use std::io::{self, Write};

use super::Style;
use crate::finding::{Excerpt, Finding, printable};
use crate::liveness::Liveness;
use crate::options::Depth;
use crate::report::{Report, Verdict};
use crate::rule::{Rule, Severity};

pub(super) fn write(reports: &[Report], style: Style, out: &mut dyn Write) -> io::Result<()> {
    for report in reports {
        headline(report, style, out)?;
        if style.verbose {
            facts(report, out)?;
        }
        let torn = |l: &&Liveness| style.verbose || l.live == Some(true) && l.score() < 100.0;
        let liveness = report.liveness.as_ref().filter(torn);
        if let Some(line) = liveness.and_then(Liveness::line) {
            writeln!(out, "  liveness: {line}")?;
        }
        let mut previous = None;
        let shown = |rule: &Rule| style.verbose || rule.severity > Severity::Note;
        for finding in report.findings.iter().filter(|f| shown(f.rule)) {
            one(finding, style, out)?;
            let advice = finding.rule.advice;
            if previous != Some(finding.rule.id) || style.verbose {
                writeln!(out, "    {advice}")?;
            }
            previous = Some(finding.rule.id);
        }
        for id in report.outcomes.keys() {
            let more = report.not_shown(id);
            if more > 0 && crate::rules::find(id).is_some_and(shown) {
                writeln!(out, "  {id}: {more} more findings")?;
            }
        }
    }
    Ok(())
}

fn headline(report: &Report, style: Style, out: &mut dyn Write) -> io::Result<()> {
    let [errors, warnings, notes] =
        [Severity::Error, Severity::Warning, Severity::Note].map(|severity| report.count(severity));
    let color = match report.verdict {
        Verdict::Sound => "32",
        Verdict::Warnings => "33",
        _ => "31",
    };
    let word = match &report.verdict {
        Verdict::Sound => "sound".into(),
        Verdict::Warnings => "sound, with warnings".into(),
        Verdict::Broken => "broken".into(),
        Verdict::NotADump(why) => format!("cannot be verified: {}", printable(why)),
        Verdict::Failed(why) => format!("verification failed: {}", printable(why)),
    };
    let counts: Vec<_> = [(errors, "error"), (warnings, "warning"), (notes, "note")]
        .into_iter()
        .filter(|(n, what)| *n > 0 && (style.verbose || *what != "note"))
        .map(|(n, what)| format!("{n} {what}{}", if n == 1 { "" } else { "s" }))
        .collect();
    let quick = report.depth == Depth::Quick && report.verdict.reason().is_none();
    let quick = quick.then(|| "quick: frames not decoded".to_string());
    let counts: Vec<_> = quick.into_iter().chain(counts).collect();
    let counts = match counts.is_empty() {
        true => String::new(),
        false => format!(" ({})", counts.join(", ")),
    };
    let name = printable(&report.name);
    writeln!(out, "{name}: {}{counts}", style.painted(&word, color))
}

fn facts(report: &Report, out: &mut dyn Write) -> io::Result<()> {
    let facts = &report.facts;
    let mut words = Vec::new();
    words.extend(facts.container.map(|c| format!("{} container", c.name())));
    words.extend(facts.codec.map(|c| format!("codec {c}")));
    words.extend(facts.architecture.map(str::to_string));
    words.extend(facts.version.map(|v| format!("minidump version {v}")));
    words.extend(facts.pages.map(|n| format!("{n} pages")));
    words.extend(facts.frames.map(|n| format!("{n} frames")));
    words.extend(facts.content_len.map(|n| format!("{n} bytes of content")));
    let checked = report.outcomes.len();
    words.push(format!("{checked} rules applied"));
    writeln!(out, "  {}", words.join(", "))
}

fn one(finding: &Finding, style: Style, out: &mut dyn Write) -> io::Result<()> {
    let severity = finding.rule.severity;
    let color = match severity {
        Severity::Error => "31",
        Severity::Warning => "33",
        Severity::Note => "36",
    };
    let (word, line) = (style.painted(severity.name(), color), super::line(finding));
    writeln!(out, "  {word} {}: {line}", finding.rule.id)?;
    match &finding.bytes {
        Some(excerpt) => hexdump(excerpt, out),
        None => Ok(()),
    }
}

fn hexdump(excerpt: &Excerpt, out: &mut dyn Write) -> io::Result<()> {
    for (i, line) in excerpt.bytes.chunks(16).enumerate() {
        let offset = excerpt.offset.saturating_add(i as u64 * 16);
        let digits: Vec<_> = line.iter().map(|b| format!("{b:02x}")).collect();
        let text: String = line
            .iter()
            .map(|b| match b {
                b' '..=b'~' => char::from(*b),
                _ => '.',
            })
            .collect();
        writeln!(out, "    {offset:08x}  {:<47}  |{text}|", digits.join(" "))?;
    }
    Ok(())
}
