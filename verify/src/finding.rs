//! Findings, and the [`Sink`] that collects them.

use livecore_defs::text::is_terminal_control;
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

use serde::Serialize;

use crate::rule::{Rule, Severity};

/// Maximum number of bytes in an [`Excerpt`].
const MAX_BYTES: usize = 64;
/// Approximate maximum size of each text of a finding.
const MAX_TEXT: usize = 1024;

/// The origin of an offset.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Space {
    /// The first byte of the file.
    File,
    /// The first byte of the payload, decompressed.
    Payload,
    /// The dump's `info.N`: the offset is a line number, from 1.
    Info,
    /// None: the finding is about the whole dump, and its offset is 0.
    Dump,
}

impl Space {
    /// `file`, `payload`, `info` or `dump`.
    pub fn name(self) -> &'static str {
        match self {
            Self::File => "file",
            Self::Payload => "payload",
            Self::Info => "info",
            Self::Dump => "dump",
        }
    }
}

/// Bytes of a finding, for a hexdump.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Excerpt {
    /// Offset of the first byte, in the finding's [`Space`].
    pub offset: u64,
    /// At most 64 bytes.
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

/// One location at which a dump breaks a rule.
#[derive(Debug, Clone)]
pub struct Finding {
    /// The rule.
    pub rule: &'static Rule,
    /// The part of the dump, as text: `page bitmap`, `zstd frame 12`.
    pub region: String,
    /// The origin of `offset`.
    pub space: Space,
    /// Offset of the first wrong byte or line.
    pub offset: u64,
    /// What the dump contains.
    pub found: String,
    /// What it should contain.
    pub expected: String,
    /// The wrong bytes, where a hexdump helps.
    pub bytes: Option<Excerpt>,
}

/// A part of a dump. Formatted only for a finding, since most checks pass.
#[derive(Debug, Clone)]
pub enum Region<'a> {
    /// A name: `page bitmap`.
    Named(Cow<'a, str>),
    /// An element by number: `zstd frame 12`.
    Nth(&'static str, u64),
    /// An element by address: `page directory entry for 0xffffffff80200000`.
    For(&'static str, u64),
    /// A kernel variable by name and address: `msgbufp at 0xffffffff80200000`.
    At(&'a str, u64),
}

impl<'a> From<&'a str> for Region<'a> {
    fn from(name: &'a str) -> Self {
        Self::Named(name.into())
    }
}

impl From<String> for Region<'_> {
    fn from(name: String) -> Self {
        Self::Named(name.into())
    }
}

impl fmt::Display for Region<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Named(name) => f.write_str(name),
            Self::Nth(what, number) => write!(f, "{what} {number}"),
            Self::For(what, address) => write!(f, "{what} for {address:#x}"),
            Self::At(name, address) => write!(f, "{name} at {address:#x}"),
        }
    }
}

/// A location in a dump, as a finding names it.
#[derive(Debug, Clone)]
pub struct Location<'a> {
    space: Space,
    region: Region<'a>,
    offset: u64,
}

impl<'a> Location<'a> {
    /// File offset `offset`, in `region`.
    pub fn file(region: impl Into<Region<'a>>, offset: u64) -> Self {
        Self::new(Space::File, region.into(), offset)
    }

    /// Offset `offset` of the decompressed payload, in `region`.
    pub fn payload(region: impl Into<Region<'a>>, offset: u64) -> Self {
        Self::new(Space::Payload, region.into(), offset)
    }

    /// Line `line` (from 1) of `info.N`.
    pub fn info(region: impl Into<Region<'a>>, line: u64) -> Self {
        Self::new(Space::Info, region.into(), line)
    }

    /// `region`, without an offset.
    pub fn dump(region: impl Into<Region<'a>>) -> Self {
        Self::new(Space::Dump, region.into(), 0)
    }

    fn new(space: Space, region: Region<'a>, offset: u64) -> Self {
        Self {
            space,
            region,
            offset,
        }
    }

    /// A finding that this location breaks `rule`.
    pub fn breaks(&self, rule: &'static Rule) -> Finding {
        Finding {
            rule,
            region: printable(&self.region.to_string()),
            space: self.space,
            offset: self.offset,
            found: String::new(),
            expected: String::new(),
            bytes: None,
        }
    }
}

impl Finding {
    /// Sets what the dump contains.
    #[must_use]
    pub fn found(mut self, found: impl AsRef<str>) -> Self {
        self.found = printable(found.as_ref());
        self
    }

    /// Sets what the dump should contain.
    #[must_use]
    pub fn expected(mut self, expected: impl AsRef<str>) -> Self {
        self.expected = printable(expected.as_ref());
        self
    }

    /// Adds the first of `bytes`, which begin at `offset` of the finding's space.
    #[must_use]
    pub fn bytes(mut self, offset: u64, bytes: &[u8]) -> Self {
        self.bytes = Some(Excerpt::new(offset, bytes));
        self
    }
}

/// `text` with every [terminal control](is_terminal_control) escaped, truncated to about
/// [`MAX_TEXT`] bytes. Strings of dumps and info files are not trusted.
pub(crate) fn printable(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len().min(MAX_TEXT));
    for c in text.chars() {
        if escaped.len() >= MAX_TEXT {
            escaped.push('…');
            break;
        }
        match is_terminal_control(c) {
            true => escaped.extend(c.escape_default()),
            false => escaped.push(c),
        }
    }
    escaped
}

/// Selects the rules to apply.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    /// Apply only rules that match one of these patterns; all if empty.
    pub only: Vec<String>,
    /// Do not apply rules that match one of these patterns.
    pub skip: Vec<String>,
}

impl Filter {
    /// Whether `rule` is applied.
    pub fn admits(&self, rule: &Rule) -> bool {
        (self.only.is_empty() || self.only.iter().any(|p| rule.matches(p)))
            && !self.skip.iter().any(|p| rule.matches(p))
    }
}

/// The results of one rule.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Outcome {
    /// Number of locations checked.
    pub checked: u64,
    /// Number of locations that broke the rule.
    pub broken: u64,
}

/// Collects findings: a bounded number for each rule, and the count of all.
///
/// Findings beyond the bound are counted and not formatted, so a dump that breaks a rule a million
/// times costs a million increments.
#[derive(Debug)]
pub struct Sink {
    filter: Filter,
    per_rule: usize,
    findings: Vec<Finding>,
    tallies: BTreeMap<&'static str, Tally>,
    /// Payload offset of the minidump being checked.
    base: u64,
}

/// The results of a rule, and whether the filter admits it.
#[derive(Debug)]
struct Tally {
    admitted: bool,
    outcome: Outcome,
}

impl Sink {
    /// Keeps at most `per_rule` findings of each rule that `filter` admits.
    pub fn new(filter: Filter, per_rule: usize) -> Self {
        Self {
            filter,
            per_rule,
            findings: Vec::new(),
            tallies: BTreeMap::new(),
            base: 0,
        }
    }

    /// Adds `base` to payload offsets from now on: the payload contains a minidump at `base`.
    pub(crate) fn set_base(&mut self, base: u64) {
        self.base = base;
    }

    /// Counts a check of `rule` at `place`. Unless it `passed`, stores the finding that `describe`
    /// completes. Returns `passed`.
    pub fn check(
        &mut self,
        rule: &'static Rule,
        passed: bool,
        place: &Location<'_>,
        describe: impl FnOnce(Finding) -> Finding,
    ) -> bool {
        if passed {
            self.passed(rule);
        } else {
            self.broken(rule, place, describe);
        }
        passed
    }

    /// Counts a location that follows `rule`.
    pub fn passed(&mut self, rule: &'static Rule) {
        if let Some(outcome) = self.outcome(rule) {
            outcome.checked += 1;
        }
    }

    /// Counts a location that breaks `rule`, and stores the finding that `describe` completes unless
    /// the rule has enough findings.
    pub fn broken(
        &mut self,
        rule: &'static Rule,
        place: &Location<'_>,
        describe: impl FnOnce(Finding) -> Finding,
    ) {
        let (most, base) = (self.per_rule as u64, self.base);
        let Some(outcome) = self.outcome(rule) else {
            return;
        };
        outcome.checked += 1;
        outcome.broken += 1;
        if outcome.broken <= most {
            let mut finding = describe(place.breaks(rule));
            if finding.space == Space::Payload {
                finding.offset = finding.offset.saturating_add(base);
                if let Some(excerpt) = &mut finding.bytes {
                    excerpt.offset = excerpt.offset.saturating_add(base);
                }
            }
            self.findings.push(finding);
        }
    }

    /// The outcome of `rule` so far; `None` if the filter does not admit it.
    fn outcome(&mut self, rule: &'static Rule) -> Option<&mut Outcome> {
        let tally = self.tallies.entry(rule.id).or_insert_with(|| Tally {
            admitted: self.filter.admits(rule),
            outcome: Outcome::default(),
        });
        tally.admitted.then_some(&mut tally.outcome)
    }

    /// Number of findings of `severity` or above.
    pub fn count(&self, severity: Severity) -> u64 {
        self.count_of(|rule| rule.severity >= severity)
    }

    /// Number of findings of the rules that `selected` accepts.
    pub(crate) fn count_of(&self, selected: impl Fn(&Rule) -> bool) -> u64 {
        self.tallies
            .iter()
            .filter_map(|(id, tally)| Some((crate::rules::find(id)?, &tally.outcome)))
            .filter(|(rule, _)| selected(rule))
            .map(|(_, outcome)| outcome.broken)
            .sum()
    }

    /// Whether any location broke `rule`.
    pub fn broke(&self, rule: &Rule) -> bool {
        self.tallies
            .get(rule.id)
            .is_some_and(|tally| tally.outcome.broken > 0)
    }

    /// The stored findings in order of discovery, and the results of each rule.
    pub fn into_parts(self) -> (Vec<Finding>, BTreeMap<&'static str, Outcome>) {
        let admitted = self.tallies.into_iter().filter(|(_, tally)| tally.admitted);
        let outcomes = admitted.map(|(id, tally)| (id, tally.outcome)).collect();
        (self.findings, outcomes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_of_a_dump_are_escaped() {
        let place = Location::info("Hostname\u{7}", 3);
        let finding = place
            .breaks(&crate::rules::INFO_HEADER)
            .found("\u{1b}[2Jhost")
            .expected("a\nb, 1 µs");
        let reordered = place
            .breaks(&crate::rules::INFO_HEADER)
            .found("\u{202e}tsoh\u{202c}")
            .expected("a\u{2028}\u{2067}b");
        assert_eq!(reordered.found, "\\u{202e}tsoh\\u{202c}");
        assert_eq!(reordered.expected, "a\\u{2028}\\u{2067}b");
        assert_eq!(finding.region, "Hostname\\u{7}");
        assert_eq!(finding.found, "\\u{1b}[2Jhost");
        assert_eq!(finding.expected, "a\\nb, 1 µs");
    }

    #[test]
    fn findings_beyond_the_bound_are_counted_and_not_formatted() {
        let rule = &crate::rules::PT_TABLE_ABSENT;
        let mut sink = Sink::new(Filter::default(), 3);
        let mut formatted = 0;
        for k in 0..1000 {
            let place = Location::payload(Region::For("page directory entry", k << 21), 8 * k);
            sink.check(rule, k % 2 == 0, &place, |f| {
                formatted += 1;
                f.found("x".repeat(1 << 20))
            });
        }
        assert_eq!(formatted, 3);
        let (findings, outcomes) = sink.into_parts();
        let offsets: Vec<_> = findings.iter().map(|f| f.offset).collect();
        assert_eq!(offsets, [8, 24, 40]);
        assert_eq!(findings[1].region, "page directory entry for 0x600000");
        assert!(findings.iter().all(|f| f.found.len() < 2000));
        let outcome = &outcomes[rule.id];
        assert_eq!((outcome.checked, outcome.broken), (1000, 500));
    }

    #[test]
    fn the_filter_suppresses_findings_and_counts() {
        let filter = Filter {
            only: vec!["codec".into()],
            skip: vec!["gzip-*".into()],
        };
        let mut sink = Sink::new(filter, 3);
        let place = Location::file("here", 0);
        sink.broken(&crate::rules::GZIP_CRC, &place, |_| unreachable!());
        sink.broken(&crate::rules::PT_EMPTY, &place, |_| unreachable!());
        sink.broken(&crate::rules::ZSTD_FRAME, &place, |f| f.found("there"));
        assert!(!sink.broke(&crate::rules::GZIP_CRC));
        let (findings, outcomes) = sink.into_parts();
        assert_eq!(findings.len(), 1);
        assert_eq!(outcomes.keys().collect::<Vec<_>>(), [&"ZSTD-FRAME"]);
    }
}
