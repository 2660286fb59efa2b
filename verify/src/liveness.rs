//! How far a dump holds one moment of a machine that ran on while it was written.
//!
//! A live dump is torn where something changed between the moment that one part was written and the
//! moment of another. That breaks nothing: a list that was being changed is as good as its other
//! links. So what rules find that a running machine explains is counted here, each kind against the
//! places that were looked at, as evidence; the score is the share that agrees where it is lowest.
//! A crash dump has no liveness: its machine had stopped. Pages that are mapped and not in the dump
//! are no evidence: buffers allocated with M_NODUMP are left out on purpose.

use std::collections::BTreeMap;

use crate::facts::Facts;
use crate::finding::Outcome;
use crate::rule::Rule;

/// What a running machine tears, and the rules that see it.
const KINDS: [(&str, &[&str]); 6] = [
    ("pages", &["LIV-TORN"]),
    ("lists", &["LIV-ALLPROC", "LIV-BACK-LINK", "LIV-THREADS"]),
    ("thread stacks", &["LIV-STACK"]),
    ("page tables", &["PT-TABLE-ABSENT"]),
    (
        "message buffer",
        &["LIV-MSGBUF", "MSG-CHECKSUM", "MSG-SEQUENCE"],
    ),
    ("page bitmap", &["BM-BEYOND", "BM-BEYOND-PAGES"]),
];

/// Whether the dump's machine ran on, and that explains that `rule` is broken.
pub(crate) fn excuses(live: Option<bool>, rule: &Rule) -> bool {
    live == Some(true) && KINDS.iter().any(|(_, rules)| rules.contains(&rule.id))
}

/// One kind of evidence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Evidence {
    /// What may have changed: `lists`, `page tables`.
    pub what: &'static str,
    /// The rules that looked.
    pub rules: &'static [&'static str],
    /// Places that were looked at.
    pub checked: u64,
    /// Places that do not agree with the others.
    pub torn: u64,
}

impl Evidence {
    /// The share of places that agree, in per cent.
    pub fn score(&self) -> f64 {
        let agree = self.checked.saturating_sub(self.torn);
        // Two decimals; whole hundred only if nothing is torn.
        let share = agree as f64 * 10_000.0 / self.checked.max(1) as f64;
        share.floor() / 100.0
    }
}

/// What is torn.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Liveness {
    /// Whether the machine ran on; `None` if nothing says so.
    pub live: Option<bool>,
    /// Of what was looked at.
    pub evidence: Vec<Evidence>,
}

impl Liveness {
    /// From what became of the rules; `None` if none of them looked at anything, or the machine did
    /// not run on.
    pub(crate) fn of(
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
                // This rule is applied once to all pages together.
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

    /// The lowest of the evidence's scores, in per cent; 100 is one moment.
    pub fn score(&self) -> f64 {
        self.evidence
            .iter()
            .map(Evidence::score)
            .fold(100.0, f64::min)
    }

    /// In one line, for people: the score and what is torn.
    pub fn line(&self) -> String {
        let kind = match self.live {
            Some(true) => "a live dump",
            Some(false) | None => "live or not is not known",
        };
        let torn: Vec<_> = self
            .evidence
            .iter()
            .filter(|e| e.torn > 0)
            .map(|e| {
                format!(
                    "{}: {} of {} places do not agree",
                    e.what, e.torn, e.checked
                )
            })
            .collect();
        let torn = match torn.is_empty() {
            true => {
                let looked: Vec<_> = self.evidence.iter().map(|e| e.what).collect();
                format!("nothing torn in {}", looked.join(", "))
            }
            false => torn.join("; "),
        };
        format!("{:.2} % of one moment ({kind}); {torn}", self.score())
    }
}
