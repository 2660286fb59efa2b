//! The result of a verification: findings and verdict.

use std::collections::BTreeMap;
use std::io;
use std::time::Duration;

use crate::facts::Facts;
use crate::finding::{Finding, Outcome};
use crate::liveness::{self, Liveness};
use crate::options::Depth;
use crate::rule::{Rule, Severity};

/// The verdict on a dump.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// No errors or warnings.
    Sound,
    /// Warnings, no errors.
    Warnings,
    /// Errors; with `strict` also warnings, see [`Report::fails`].
    Broken,
    /// The file is not a dump, or not of a supported kind; the reason in one line.
    NotADump(String),
    /// Reading failed or a limit was reached; the reason in one line.
    Failed(String),
}

impl Verdict {
    /// The program's exit code for this verdict.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Sound => 0,
            Self::Failed(_) => 1,
            Self::Broken => 2,
            Self::Warnings => 3,
            Self::NotADump(_) => 63,
        }
    }

    /// `sound`, `warnings`, `broken`, `not-a-dump` or `failed`.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Sound => "sound",
            Self::Warnings => "warnings",
            Self::Broken => "broken",
            Self::NotADump(_) => "not-a-dump",
            Self::Failed(_) => "failed",
        }
    }

    /// The reason, of [`NotADump`](Self::NotADump) and [`Failed`](Self::Failed).
    pub fn reason(&self) -> Option<&str> {
        match self {
            Self::NotADump(why) | Self::Failed(why) => Some(why),
            Self::Sound | Self::Warnings | Self::Broken => None,
        }
    }

    /// The exit code for several dumps: the first of 1, 2, 63, 3, 0 that one of them has.
    pub fn worst_exit_code<'a>(verdicts: impl IntoIterator<Item = &'a Self>) -> u8 {
        const ORDER: [u8; 5] = [1, 2, 63, 3, 0];
        verdicts
            .into_iter()
            .map(Self::exit_code)
            .min_by_key(|code| ORDER.iter().position(|o| o == code))
            .unwrap_or(0)
    }
}

/// The result of verifying one dump.
#[derive(Debug, Clone)]
pub struct Report {
    /// The dump's name, as the caller gave it.
    pub name: String,
    /// Time taken.
    pub time: Duration,
    /// The depth of the verification.
    pub depth: Depth,
    /// Whether warnings count as errors.
    pub strict: bool,
    /// Facts about the file.
    pub facts: Facts,
    /// A bounded number of findings for each rule, by severity, then location.
    pub findings: Vec<Finding>,
    /// The results of each rule that was applied, by id.
    pub outcomes: BTreeMap<&'static str, Outcome>,
    /// The verdict.
    pub verdict: Verdict,
    /// Inconsistencies of a live dump; they never make a dump broken.
    pub liveness: Option<Liveness>,
}

impl Report {
    /// Number of findings of exactly `severity`.
    pub fn count(&self, severity: Severity) -> u64 {
        self.outcomes
            .iter()
            .filter(|(id, _)| crate::rules::find(id).is_some_and(|r| r.severity == severity))
            .map(|(_, outcome)| outcome.broken)
            .sum()
    }

    /// Whether `rule` is broken and makes the dump broken. An error does; with `strict` a warning
    /// does, unless the dump is live and the rule is broken in live dumps.
    pub fn fails(&self, rule: &Rule) -> bool {
        let broken = self.outcomes.get(rule.id).is_some_and(|o| o.broken > 0);
        let live = self.liveness.as_ref().and_then(|found| found.live);
        broken
            && match rule.severity {
                Severity::Error => true,
                Severity::Warning => self.strict && !liveness::excuses(live, rule),
                Severity::Note => false,
            }
    }

    /// Number of findings of the rule `id` that were counted and not stored.
    pub fn not_shown(&self, id: &str) -> u64 {
        let kept = self.findings.iter().filter(|f| f.rule.id == id).count() as u64;
        let broken = self.outcomes.get(id).map_or(0, |o| o.broken);
        broken.saturating_sub(kept)
    }
}

/// Why a verification stopped early.
#[derive(Debug)]
pub(crate) enum Stop {
    /// The file is not a dump, or not of a supported kind.
    NotADump(String),
    /// A text dump, which was checked.
    TextDump,
    /// The data is encrypted, and there is no private key.
    Encrypted,
    /// Reading failed, a limit was reached, or the caller cancelled.
    Failed(String),
}

impl From<io::Error> for Stop {
    fn from(error: io::Error) -> Self {
        Self::Failed(format!("read: {error}"))
    }
}
