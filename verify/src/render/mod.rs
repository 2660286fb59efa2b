//! Reports for people and for machines, one file for each form.
//!
//! | form                | for whom                                                   |
//! |---------------------|------------------------------------------------------------|
//! | [`Format::Text`]    | people                                                     |
//! | [`Format::Json`]    | programs: one document, `docs/schemas/verify.schema.json`  |
//! | [`Format::JsonLines`] | programs that read while it runs: a line for each thing  |
//! | [`Format::Junit`]   | CI that shows tests: a case per dump                       |
//! | [`Format::JunitRules`] | the same with a suite per dump, a case per rule         |
//! | [`Format::Sarif`]   | code scanning: SARIF 2.1.0                                 |
//! | [`Format::Github`]  | GitHub Actions: workflow commands                          |
//! | [`Format::Tap`]     | TAP 14 harnesses: a subtest per dump, a point per rule     |
//!
//! All of them take the same reports and say the same; none leaves a finding out that another has,
//! but that text shows notes under [`Style::verbose`] only.

mod github;
mod json;
mod junit;
mod sarif;
mod tap;
mod text;

use std::io::{self, Write};

use crate::finding::{Finding, Space};
use crate::report::Report;
use crate::rule::Rule;

pub use json::{SCHEMA, report_value, rule_value};

/// A form of report.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Format {
    /// Lines for people.
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
}

impl Format {
    /// All forms.
    pub const ALL: [Self; 8] = [
        Self::Text,
        Self::Json,
        Self::JsonLines,
        Self::Junit,
        Self::JunitRules,
        Self::Sarif,
        Self::Github,
        Self::Tap,
    ];

    /// The word for it on a command line.
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
        }
    }

    /// The form with that word.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|format| format.name() == name)
    }
}

/// How text for people looks.
#[derive(Debug, Clone, Copy, Default)]
pub struct Style {
    /// Colours, by terminal escape sequences.
    pub color: bool,
    /// Facts of sound dumps and notes too, and what to do about each finding.
    pub verbose: bool,
}

impl Style {
    /// `word` in the colour with that number, if colours are wanted.
    pub(crate) fn painted(self, word: &str, color: &str) -> String {
        match self.color {
            true => format!("\x1b[{color}m{word}\x1b[0m"),
            false => word.to_string(),
        }
    }
}

/// Writes `reports` to `out` as `format`.
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
    }
}

/// Writes the table of rules, a line for each.
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

/// Writes all that is known of one rule.
pub fn explain(rule: &Rule, out: &mut dyn Write) -> io::Result<()> {
    let (severity, group) = (rule.severity.name(), rule.group.name());
    writeln!(out, "{} ({severity}, {group})", rule.id)?;
    writeln!(out, "  claim:    {}", rule.claim)?;
    writeln!(out, "  compares: {}", rule.compares)?;
    writeln!(out, "  source:   {}", rule.source)?;
    writeln!(out, "  advice:   {}", rule.advice)
}

/// A finding in one line, without its rule.
pub(crate) fn line(finding: &Finding) -> String {
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
