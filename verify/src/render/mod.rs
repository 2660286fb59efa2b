//! Formats of reports.
//!
//! | format                 | use                                                     |
//! |------------------------|---------------------------------------------------------|
//! | [`Format::Text`]       | terminals                                               |
//! | [`Format::Json`]       | one document, `docs/schemas/verify.schema.json`         |
//! | [`Format::JsonLines`]  | a line for each report and finding                      |
//! | [`Format::Junit`]      | CI systems: JUnit XML, a case for each dump             |
//! | [`Format::JunitRules`] | JUnit XML, a suite for each dump, a case for each rule  |
//! | [`Format::Sarif`]      | code scanning: SARIF 2.1.0                              |
//! | [`Format::Github`]     | GitHub Actions: workflow commands                       |
//! | [`Format::Tap`]        | TAP 14: a subtest for each dump, a point for each rule  |
//! | [`Format::Prom`]       | Prometheus: verdicts and counts of findings as gauges   |
//!
//! All formats except Prometheus show all findings, except that text omits notes without [`Style::verbose`].

mod github;
mod json;
mod junit;
mod prom;
mod sarif;
mod tap;
mod text;

use std::io::{self, Write};

use crate::finding::{Finding, Space};
use crate::report::Report;
use crate::rule::Rule;

pub use json::{SCHEMA, report_value, rule_value};

/// A format of reports.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Format {
    /// Text for a terminal.
    #[default]
    Text,
    /// One JSON document.
    Json,
    /// One JSON object per line.
    JsonLines,
    /// JUnit XML, a case for each dump.
    Junit,
    /// JUnit XML, a case for each rule.
    JunitRules,
    /// SARIF 2.1.0.
    Sarif,
    /// GitHub workflow commands.
    Github,
    /// Test Anything Protocol 14.
    Tap,
    /// The text format of Prometheus.
    Prom,
}

impl Format {
    /// All formats.
    pub const ALL: [Self; 9] = [
        Self::Text,
        Self::Json,
        Self::JsonLines,
        Self::Junit,
        Self::JunitRules,
        Self::Sarif,
        Self::Github,
        Self::Tap,
        Self::Prom,
    ];

    /// The format's name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Json => "json",
            Self::JsonLines => "jsonl",
            Self::Junit => "junit",
            Self::JunitRules => "junit-rules",
            Self::Sarif => "sarif",
            Self::Github => "github",
            Self::Tap => "tap",
            Self::Prom => "prom",
        }
    }

    /// The format called `name`.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|format| format.name() == name)
    }
}

/// The style of text.
#[derive(Debug, Clone, Copy, Default)]
pub struct Style {
    /// Use terminal escape sequences for colours.
    pub color: bool,
    /// Also show facts, notes, and the advice for each finding.
    pub verbose: bool,
}

impl Style {
    /// `word`, in the SGR colour `color` if colours are enabled.
    pub(crate) fn painted(self, word: &str, color: &str) -> String {
        match self.color {
            true => format!("\x1b[{color}m{word}\x1b[0m"),
            false => word.to_string(),
        }
    }
}

/// Writes `reports` to `out` as `format`.
///
/// # Errors
///
/// The error of `out`.
pub fn write(
    reports: &[Report],
    format: Format,
    style: Style,
    out: &mut dyn Write,
) -> io::Result<()> {
    match format {
        Format::Text => text::write(reports, style, out),
        Format::Json => json::write(reports, out),
        Format::JsonLines => json::write_lines(reports, out),
        Format::Junit => junit::write(reports, out),
        Format::JunitRules => junit::write_rules(reports, out),
        Format::Sarif => sarif::write(reports, out),
        Format::Github => github::write(reports, out),
        Format::Tap => tap::write(reports, out),
        Format::Prom => prom::write(reports, out),
    }
}

/// Writes a line for each rule.
///
/// # Errors
///
/// The error of `out`.
pub fn list_rules(out: &mut dyn Write) -> io::Result<()> {
    for rule in crate::rules::all() {
        let (severity, group) = (rule.severity.name(), rule.group.name());
        writeln!(
            out,
            "{:<24} {severity:<8} {group:<12} {}",
            rule.id, rule.claim
        )?;
    }
    Ok(())
}

/// Writes the full description of a rule.
///
/// # Errors
///
/// The error of `out`.
pub fn explain(rule: &Rule, out: &mut dyn Write) -> io::Result<()> {
    let (severity, group) = (rule.severity.name(), rule.group.name());
    writeln!(out, "{} ({severity}, {group})", rule.id)?;
    writeln!(out, "  claim:    {}", rule.claim)?;
    writeln!(out, "  compares: {}", rule.compares)?;
    writeln!(out, "  source:   {}", rule.source)?;
    writeln!(out, "  advice:   {}", rule.advice)
}

/// A finding in one line, without the rule's id.
pub fn line(finding: &Finding) -> String {
    let at = match finding.space {
        Space::File => format!(" at {:#x}", finding.offset),
        Space::Payload => format!(" at payload {:#x}", finding.offset),
        Space::Info => format!(" at info line {}", finding.offset),
        Space::Dump => String::new(),
    };
    format!(
        "{}{at}: found {}, expected {}",
        finding.region, finding.found, finding.expected
    )
}
