//! What a run found out: findings and verdict.

use std::collections::BTreeMap;
use std::io;
use std::time::Duration;

use crate::facts::Facts;
use crate::finding::{Finding, Outcome};
use crate::liveness::{self, Liveness};
use crate::options::Depth;
use crate::rule::{Rule, Severity};

/// What a run comes to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Every rule holds, or only notes were made.
    Sound,
    /// No more than warnings.
    Warnings,
    /// An error; under `strict` a warning is one, see [`Report::fails`].
    Broken,
    /// The file is no dump, or one of a kind that is not supported; why, in one line.
    NotADump(String),
    /// The file could not be read or a limit was reached; why, in one line.
    Failed(String),
}

impl Verdict {
    /// The exit code that the whole program uses for it.
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

    /// Why, if the name alone does not say it.
    pub fn reason(&self) -> Option<&str> {
        match self {
            Self::NotADump(why) | Self::Failed(why) => Some(why),
            Self::Sound | Self::Warnings | Self::Broken => None,
        }
    }

    /// The exit code of several runs: the worst, in the order 1, 2, 63, 3, 0.
    pub fn worst_exit_code<'a>(verdicts: impl IntoIterator<Item = &'a Self>) -> u8 {
        const ORDER: [u8; 5] = [1, 2, 63, 3, 0];
        verdicts
            .into_iter()
            .map(Self::exit_code)
            .min_by_key(|code| ORDER.iter().position(|o| o == code))
            .unwrap_or(0)
    }
}

/// What one run found out.
#[derive(Debug, Clone)]
pub struct Report {
    /// The dump's name, as the caller gave it.
    pub name: String,
    /// How long the run took.
    pub time: Duration,
    /// How deep the run looked.
    pub depth: Depth,
    /// Whether warnings counted as errors.
    pub strict: bool,
    /// What is known of the file.
    pub facts: Facts,
    /// A bounded number of findings for each rule, by severity, then place.
    pub findings: Vec<Finding>,
    /// What became of each rule that was looked at, by id.
    pub outcomes: BTreeMap<&'static str, Outcome>,
    /// What it comes to.
    pub verdict: Verdict,
    /// What a machine that ran on has torn; never a reason to call a dump broken.
    pub liveness: Option<Liveness>,
}

impl Report {
    /// How many places break rules of exactly `severity`.
    pub fn count(&self, severity: Severity) -> u64 {
        self.outcomes
            .iter()
            .filter(|(id, _)| crate::rules::find(id).is_some_and(|r| r.severity == severity))
            .map(|(_, outcome)| outcome.broken)
            .sum()
    }

    /// Whether `rule` was broken and that makes the dump a broken one: an error; under `strict` a
    /// warning, unless the dump is of a running machine and that explains it.
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

    /// How many findings of the rule `id` were counted but not kept.
    pub fn not_shown(&self, id: &str) -> u64 {
        let kept = self.findings.iter().filter(|f| f.rule.id == id).count() as u64;
        let broken = self.outcomes.get(id).map_or(0, |o| o.broken);
        broken.saturating_sub(kept)
    }
}

/// Why a run stopped early.
#[derive(Debug)]
pub(crate) enum Stop {
    /// No dump, or not a supported one.
    NotADump(String),
    /// Reading failed, a limit was reached, or somebody cancelled.
    Failed(String),
}

impl From<io::Error> for Stop {
    fn from(error: io::Error) -> Self {
        Self::Failed(format!("read: {error}"))
    }
}
