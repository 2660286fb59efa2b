//! How consistent the dump of a running machine is.
//!
//! A live dump is inconsistent where memory changed during the dump. That does not make it broken:
//! the unchanged links of a list are still good. Findings that a running machine explains are
//! therefore counted here as evidence, by kind, against the number of checks. The score is the
//! lowest share of consistent checks of any kind. A crash dump has no liveness, since its machine
//! had stopped. Mapped pages that are not in the dump are not evidence: the kernel omits buffers
//! allocated with M_NODUMP.

use std::collections::BTreeMap;

use crate::facts::Facts;
use crate::finding::Outcome;
use crate::rule::Rule;

/// What changes while a machine runs, and the rules that detect the change. BM-BEYOND is not one of
/// them: the end of the last bitmap page is kernel heap in every live dump.
const KINDS: [(&str, &[&str]); 6] = [
    ("pages", &["LIV-TORN"]),
    ("lists", &["LIV-ALLPROC", "LIV-BACK-LINK", "LIV-THREADS"]),
    ("thread stacks", &["LIV-STACK"]),
    ("page tables", &["PT-TABLE-ABSENT"]),
    (
        "message buffer",
        &["LIV-MSGBUF", "MSG-CHECKSUM", "MSG-SEQUENCE"],
    ),
    ("page bitmap", &["BM-BEYOND-PAGES"]),
];

/// Whether the machine was running during the dump, which explains a broken `rule`.
pub(crate) fn excuses(live: Option<bool>, rule: &Rule) -> bool {
    live == Some(true) && KINDS.iter().any(|(_, rules)| rules.contains(&rule.id))
}

/// One kind of evidence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Evidence {
    /// What may have changed: `lists`, `page tables`.
    pub what: &'static str,
    /// The rules that detect the change.
    pub rules: &'static [&'static str],
    /// Number of locations checked.
    pub checked: u64,
    /// Number of inconsistent locations.
    pub torn: u64,
}

impl Evidence {
    /// The share of consistent locations, in percent.
    pub fn score(&self) -> f64 {
        let consistent = self.checked.saturating_sub(self.torn);
        // Two decimals, rounded down: 100 means that no location is inconsistent.
        let share = consistent as f64 * 10_000.0 / self.checked.max(1) as f64;
        share.floor() / 100.0
    }
}

/// The evidence of changes during the dump.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Liveness {
    /// Whether the machine was running during the dump; `None` if that is not known.
    pub live: Option<bool>,
    /// The evidence, by kind.
    pub evidence: Vec<Evidence>,
}

impl Liveness {
    /// Collects the evidence from the rules' results. `None` if no such rule checked anything, or the
    /// machine had stopped.
    pub(crate) fn new(
        live: Option<bool>,
        facts: &Facts,
        outcomes: &BTreeMap<&'static str, Outcome>,
    ) -> Option<Self> {
        if live == Some(false) {
            return None;
        }
        let evidence: Vec<_> = KINDS
            .into_iter()
            .filter_map(|(what, rules)| {
                let found = rules.iter().filter_map(|id| outcomes.get(id));
                let (mut checked, mut torn) =
                    found.fold((0, 0), |(c, b), o| (c + o.checked, b + o.broken));
                // LIV-TORN is checked once, for all pages together.
                if let ("pages", Some((pages, some))) = (what, facts.torn_pages)
                    && checked > 0
                {
                    (checked, torn) = (pages, some);
                }
                (checked > 0).then_some(Evidence {
                    what,
                    rules,
                    checked,
                    torn,
                })
            })
            .collect();
        (!evidence.is_empty()).then_some(Self { live, evidence })
    }

    /// The lowest score of any kind, in percent; 100 for a consistent snapshot.
    pub fn score(&self) -> f64 {
        self.evidence
            .iter()
            .map(Evidence::score)
            .fold(100.0, f64::min)
    }

    /// The line of a report, without notes on what is normal: `None` unless the dump is live or
    /// inconsistent.
    pub fn line(&self) -> Option<String> {
        if self.live != Some(true) && self.score() >= 100.0 {
            return None;
        }
        let kind = match self.live {
            Some(true) => "live dump",
            Some(false) | None => "unknown whether the machine was running",
        };
        let torn: Vec<_> = self
            .evidence
            .iter()
            .filter(|e| e.torn > 0)
            .map(|e| format!("{}: {} of {} inconsistent", e.what, e.torn, e.checked))
            .collect();
        let torn = match torn.is_empty() {
            true => {
                let checked: Vec<_> = self.evidence.iter().map(|e| e.what).collect();
                format!("checked {}", checked.join(", "))
            }
            false => torn.join("; "),
        };
        Some(format!("{:.2} % consistent ({kind}); {torn}", self.score()))
    }
}
