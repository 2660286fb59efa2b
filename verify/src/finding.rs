//! What a check found, and where findings are gathered.

use livecore_defs::text::steers;
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

use serde::Serialize;

use crate::rule::{Rule, Severity};

/// Most bytes that a finding carries for a hexdump.
const MAX_BYTES: usize = 64;
/// About the most bytes of each of a finding's texts.
const MAX_TEXT: usize = 1024;

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
    /// Nothing: the finding is about no single place, and its offset is 0.
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

/// A part of a dump, in words. Those that a dump has many of are put into words when a finding
/// needs them: most places are looked at and found right.
#[derive(Debug, Clone)]
pub enum Region<'a> {
    /// A name: `page bitmap`.
    Named(Cow<'a, str>),
    /// One of many, by its number: `zstd frame 12`.
    Nth(&'static str, u64),
    /// One of many, by its address: `page directory entry for 0xffffffff80200000`.
    For(&'static str, u64),
    /// A variable of the kernel's, by name and address: `msgbufp at 0xffffffff80200000`.
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

/// A place in a dump: what a finding points at.
#[derive(Debug, Clone)]
pub struct Place<'a> {
    space: Space,
    region: Region<'a>,
    offset: u64,
}

impl<'a> Place<'a> {
    /// `offset` of the file, which lies in `region`.
    pub fn file(region: impl Into<Region<'a>>, offset: u64) -> Self {
        Self::new(Space::File, region.into(), offset)
    }

    /// `offset` of the decompressed payload, which lies in `region`.
    pub fn payload(region: impl Into<Region<'a>>, offset: u64) -> Self {
        Self::new(Space::Payload, region.into(), offset)
    }

    /// Line `line` (from 1) of `info.N`.
    pub fn info(region: impl Into<Region<'a>>, line: u64) -> Self {
        Self::new(Space::Info, region.into(), line)
    }

    /// No single place: `region` of the dump as a whole.
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

    /// The finding that `rule` is broken here.
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
    /// Says what is there.
    #[must_use]
    pub fn found(mut self, found: impl AsRef<str>) -> Self {
        self.found = printable(found.as_ref());
        self
    }

    /// Says what should be there.
    #[must_use]
    pub fn expected(mut self, expected: impl AsRef<str>) -> Self {
        self.expected = printable(expected.as_ref());
        self
    }

    /// Shows the first of `bytes`, which begin at `offset` of the finding's space.
    #[must_use]
    pub fn bytes(mut self, offset: u64, bytes: &[u8]) -> Self {
        self.bytes = Some(Excerpt::new(offset, bytes));
        self
    }
}

/// `text` with all that [`steers`] a terminal escaped, and cut where it gets long: strings of dumps and
/// info files reach terminals.
pub(crate) fn printable(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len().min(MAX_TEXT));
    for c in text.chars() {
        if escaped.len() >= MAX_TEXT {
            escaped.push('…');
            break;
        }
        match steers(c) {
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
///
/// A place is counted before anything is said of it, and nothing is said of those beyond the bound:
/// a dump that breaks a rule a million times costs a million counts.
#[derive(Debug)]
pub struct Sink {
    filter: Filter,
    per_rule: usize,
    findings: Vec<Finding>,
    tallies: BTreeMap<&'static str, Tally>,
    /// Where what is looked at begins in the payload.
    base: u64,
}

/// What became of a rule, and whether anybody wants to know.
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

    /// From now on offsets in the payload count from `base`: a minidump that is a part of it is
    /// looked at.
    pub(crate) fn count_from(&mut self, base: u64) {
        self.base = base;
    }

    /// Notes that `rule` was checked at `place`, and if it does not hold there keeps the finding
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
            self.broken(rule, place, say);
        }
        holds
    }

    /// Notes that `rule` held in one place.
    pub fn passed(&mut self, rule: &'static Rule) {
        if let Some(outcome) = self.outcome(rule) {
            outcome.checked += 1;
        }
    }

    /// Notes that `place` breaks `rule`, and keeps the finding that `say` completes, unless enough
    /// of this rule's are kept.
    pub fn broken(
        &mut self,
        rule: &'static Rule,
        place: &Place<'_>,
        say: impl FnOnce(Finding) -> Finding,
    ) {
        let (most, base) = (self.per_rule as u64, self.base);
        let Some(outcome) = self.outcome(rule) else {
            return;
        };
        outcome.checked += 1;
        outcome.broken += 1;
        if outcome.broken <= most {
            let mut finding = say(place.breaks(rule));
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

    /// How many findings of `severity` or above there are.
    pub fn count(&self, severity: Severity) -> u64 {
        self.count_of(|rule| rule.severity >= severity)
    }

    /// How many findings of rules that are `wanted` there are.
    pub(crate) fn count_of(&self, wanted: impl Fn(&Rule) -> bool) -> u64 {
        self.tallies
            .iter()
            .filter_map(|(id, tally)| Some((crate::rules::find(id)?, &tally.outcome)))
            .filter(|(rule, _)| wanted(rule))
            .map(|(_, outcome)| outcome.broken)
            .sum()
    }

    /// Whether `rule` was broken anywhere.
    pub fn broke(&self, rule: &Rule) -> bool {
        self.tallies
            .get(rule.id)
            .is_some_and(|tally| tally.outcome.broken > 0)
    }

    /// The kept findings, in the order in which they came, and what became of each rule.
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
    fn strings_of_dumps_cannot_speak_to_the_terminal() {
        let place = Place::info("Hostname\u{7}", 3);
        let finding = place
            .breaks(&crate::rules::INFO_HEADER)
            .found("\u{1b}[2Jhost")
            .expected("a\nb, 1 µs");
        let turned = place.breaks(&crate::rules::INFO_HEADER);
        let turned = turned
            .found("\u{202e}tsoh\u{202c}")
            .expected("a\u{2028}\u{2067}b");
        assert_eq!(turned.found, "\\u{202e}tsoh\\u{202c}");
        assert_eq!(turned.expected, "a\\u{2028}\\u{2067}b");
        assert_eq!(finding.region, "Hostname\\u{7}");
        assert_eq!(finding.found, "\\u{1b}[2Jhost");
        assert_eq!(finding.expected, "a\\nb, 1 µs");
    }

    #[test]
    fn what_is_not_kept_is_counted_and_not_put_into_words() {
        let rule = &crate::rules::PT_TABLE_ABSENT;
        let mut sink = Sink::new(Filter::default(), 3);
        let mut said = 0;
        for k in 0..1000 {
            let place = Place::payload(Region::For("page directory entry", k << 21), 8 * k);
            sink.check(rule, k % 2 == 0, &place, |f| {
                said += 1;
                f.found("x".repeat(1 << 20))
            });
        }
        assert_eq!(said, 3);
        let (findings, outcomes) = sink.into_parts();
        let offsets: Vec<_> = findings.iter().map(|f| f.offset).collect();
        assert_eq!(offsets, [8, 24, 40]);
        assert_eq!(findings[1].region, "page directory entry for 0x600000");
        assert!(findings.iter().all(|f| f.found.len() < 2000));
        let outcome = &outcomes[rule.id];
        assert_eq!((outcome.checked, outcome.broken), (1000, 500));
    }

    #[test]
    fn a_rule_that_is_not_admitted_says_nothing_and_is_not_counted() {
        let filter = Filter {
            only: vec!["codec".into()],
            skip: vec!["gzip-*".into()],
        };
        let mut sink = Sink::new(filter, 3);
        let place = Place::file("here", 0);
        sink.broken(&crate::rules::GZIP_CRC, &place, |_| unreachable!());
        sink.broken(&crate::rules::PT_EMPTY, &place, |_| unreachable!());
        sink.broken(&crate::rules::ZSTD_FRAME, &place, |f| f.found("there"));
        assert!(!sink.broke(&crate::rules::GZIP_CRC));
        let (findings, outcomes) = sink.into_parts();
        assert_eq!(findings.len(), 1);
        assert_eq!(outcomes.keys().collect::<Vec<_>>(), [&"ZSTD-FRAME"]);
    }
}
