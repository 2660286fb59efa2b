//! What a check found, and where findings are gathered.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde::Serialize;

use crate::rule::{Rule, Severity};

/// Most bytes that a finding carries for a hexdump.
const MAX_BYTES: usize = 64;

/// What an offset counts from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Space {
    /// The first byte of the file.
    File,
    /// The first byte of the payload, decompressed.
    Payload,
    /// The line before the first of the `info.N` beside the dump: offsets are line numbers.
    Info,
}

impl Space {
    /// `file`, `payload` or `info`.
    pub fn name(self) -> &'static str {
        match self {
            Self::File => "file",
            Self::Payload => "payload",
            Self::Info => "info",
        }
    }
}

/// Some of the offending bytes, for a hexdump.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Excerpt {
    /// Where the first of them is, in the finding's [`Space`].
    pub offset: u64,
    /// At most 64 of them.
    pub bytes: Vec<u8>,
}

impl Excerpt {
    /// The first bytes of `bytes`, which begin at `offset`.
    pub fn new(offset: u64, bytes: &[u8]) -> Self {
        Self {
            offset,
            bytes: bytes[..bytes.len().min(MAX_BYTES)].to_vec(),
        }
    }
}

/// One place at which a dump breaks a rule.
#[derive(Debug, Clone)]
pub struct Finding {
    /// The rule.
    pub rule: &'static Rule,
    /// The part of the dump, in words: `page bitmap`, `zstd frame 12`.
    pub region: String,
    /// What `offset` counts from.
    pub space: Space,
    /// Where.
    pub offset: u64,
    /// What is there.
    pub found: String,
    /// What should be.
    pub expected: String,
    /// The bytes themselves, where looking at them helps.
    pub bytes: Option<Excerpt>,
}

/// A place in a dump: what a finding points at.
#[derive(Debug, Clone)]
pub struct Place<'a> {
    space: Space,
    region: Cow<'a, str>,
    offset: u64,
}

impl<'a> Place<'a> {
    /// `offset` of the file, which lies in `region`.
    pub fn file(region: impl Into<Cow<'a, str>>, offset: u64) -> Self {
        Self::new(Space::File, region.into(), offset)
    }

    /// `offset` of the decompressed payload, which lies in `region`.
    pub fn payload(region: impl Into<Cow<'a, str>>, offset: u64) -> Self {
        Self::new(Space::Payload, region.into(), offset)
    }

    /// Line `line` (from 1) of `info.N`.
    pub fn info(region: impl Into<Cow<'a, str>>, line: u64) -> Self {
        Self::new(Space::Info, region.into(), line)
    }

    fn new(space: Space, region: Cow<'a, str>, offset: u64) -> Self {
        Self {
            space,
            region,
            offset,
        }
    }

    /// The finding that `rule` is broken here.
    pub fn breaks(&self, rule: &'static Rule) -> Finding {
        Finding {
            rule,
            region: printable(self.region.clone().into_owned()),
            space: self.space,
            offset: self.offset,
            found: String::new(),
            expected: String::new(),
            bytes: None,
        }
    }
}

impl Finding {
    /// Says what is there.
    #[must_use]
    pub fn found(mut self, found: impl Into<String>) -> Self {
        self.found = printable(found.into());
        self
    }

    /// Says what should be there.
    #[must_use]
    pub fn expected(mut self, expected: impl Into<String>) -> Self {
        self.expected = printable(expected.into());
        self
    }

    /// Shows the first of `bytes`, which begin at `offset` of the finding's space.
    #[must_use]
    pub fn bytes(mut self, offset: u64, bytes: &[u8]) -> Self {
        self.bytes = Some(Excerpt::new(offset, bytes));
        self
    }
}

/// `text` with its control characters escaped: strings of dumps and info files reach terminals.
fn printable(text: String) -> String {
    if !text.contains(char::is_control) {
        return text;
    }
    let mut escaped = String::with_capacity(text.len() + 8);
    for c in text.chars() {
        match c.is_control() {
            true => escaped.extend(c.escape_default()),
            false => escaped.push(c),
        }
    }
    escaped
}

/// Which rules a run applies.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    /// Only rules that one of these patterns names; all if empty.
    pub only: Vec<String>,
    /// No rule that one of these patterns names.
    pub skip: Vec<String>,
}

impl Filter {
    /// Whether `rule` is applied.
    pub fn admits(&self, rule: &Rule) -> bool {
        (self.only.is_empty() || self.only.iter().any(|p| rule.matches(p)))
            && !self.skip.iter().any(|p| rule.matches(p))
    }
}

/// What became of one rule.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Outcome {
    /// Places that were looked at.
    pub checked: u64,
    /// Places that broke the rule.
    pub broken: u64,
}

/// Gathers findings: a bounded number for each rule, and the count of all.
#[derive(Debug)]
pub struct Sink {
    filter: Filter,
    per_rule: usize,
    findings: Vec<Finding>,
    outcomes: BTreeMap<&'static str, Outcome>,
}

impl Sink {
    /// Keeps at most `per_rule` findings of each rule that `filter` admits.
    pub fn new(filter: Filter, per_rule: usize) -> Self {
        Self {
            filter,
            per_rule,
            findings: Vec::new(),
            outcomes: BTreeMap::new(),
        }
    }

    /// Notes that `rule` was checked at `place`, and if it does not hold there reports the finding
    /// that `say` completes. Gives `holds` back.
    pub fn check(
        &mut self,
        rule: &'static Rule,
        holds: bool,
        place: &Place<'_>,
        say: impl FnOnce(Finding) -> Finding,
    ) -> bool {
        if holds {
            self.passed(rule);
        } else {
            self.report(say(place.breaks(rule)));
        }
        holds
    }

    /// Notes that `rule` held in one place.
    pub fn passed(&mut self, rule: &'static Rule) {
        if self.filter.admits(rule) {
            self.outcomes.entry(rule.id).or_default().checked += 1;
        }
    }

    /// Notes one place that breaks a rule.
    pub fn report(&mut self, finding: Finding) {
        if !self.filter.admits(finding.rule) {
            return;
        }
        let outcome = self.outcomes.entry(finding.rule.id).or_default();
        outcome.checked += 1;
        outcome.broken += 1;
        if outcome.broken <= self.per_rule as u64 {
            self.findings.push(finding);
        }
    }

    /// How many findings of `severity` or above there are.
    pub fn count(&self, severity: Severity) -> u64 {
        self.outcomes
            .iter()
            .filter_map(|(id, outcome)| Some((crate::rules::find(id)?, outcome)))
            .filter(|(rule, _)| rule.severity >= severity)
            .map(|(_, outcome)| outcome.broken)
            .sum()
    }

    /// Whether `rule` was broken anywhere.
    pub fn broke(&self, rule: &Rule) -> bool {
        self.outcomes.get(rule.id).is_some_and(|o| o.broken > 0)
    }

    /// The kept findings, in the order in which they came, and what became of each rule.
    pub fn into_parts(self) -> (Vec<Finding>, BTreeMap<&'static str, Outcome>) {
        (self.findings, self.outcomes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strings_of_dumps_cannot_speak_to_the_terminal() {
        let place = Place::info("Hostname\u{7}", 3);
        let finding = place
            .breaks(&crate::rules::INFO_HEADER)
            .found("\u{1b}[2Jhost")
            .expected("a\nb, 1 µs");
        assert_eq!(finding.region, "Hostname\\u{7}");
        assert_eq!(finding.found, "\\u{1b}[2Jhost");
        assert_eq!(finding.expected, "a\\nb, 1 µs");
    }
}
