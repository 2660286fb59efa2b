//! The table of all rules.
//!
//! To add a rule, add an entry here and a check in the module that reads the region. Tests fail if
//! an entry is not used or `docs/verify.md` does not list it.

use crate::rule::Rule;

/// Declares rules of one group, and a table of them.
macro_rules! rules {
    ($group:ident, $table:ident: $(
        $name:ident = $id:literal, $severity:ident,
        $claim:literal, $compares:literal, $source:literal, $advice:literal;
    )*) => {
        $(
            #[doc = $claim]
            pub static $name: crate::rule::Rule = crate::rule::Rule {
                id: $id,
                group: crate::rule::Group::$group,
                severity: crate::rule::Severity::$severity,
                claim: $claim,
                compares: $compares,
                source: $source,
                advice: $advice,
            };
        )*
        pub(super) static $table: &[&crate::rule::Rule] = &[$(&$name),*];
    };
}

mod codec;
mod container;
mod content;
mod full;
mod header;
mod sections;
mod tables;

pub use codec::*;
pub use container::*;
pub use content::*;
pub use full::*;
pub use header::*;
pub use sections::*;
pub use tables::*;

/// All rules, group by group.
pub fn all() -> impl Iterator<Item = &'static Rule> {
    [
        container::CONTAINER,
        container::KEY,
        header::HEADER,
        header::INFO,
        codec::STREAMS,
        codec::SEAL,
        sections::SECTIONS,
        full::FULL,
        sections::BITMAP,
        tables::PAGE_TABLES,
        content::TRANSLATION,
        content::CONTENT,
        content::LIVENESS,
        content::TEXT,
    ]
    .into_iter()
    .flatten()
    .copied()
}

/// The rule with this id; upper and lower case are equal.
pub fn find(id: &str) -> Option<&'static Rule> {
    all().find(|rule| rule.id.eq_ignore_ascii_case(id))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn ids_are_unique_and_of_one_form() {
        let mut seen = BTreeSet::new();
        for rule in all() {
            assert!(seen.insert(rule.id), "{} twice", rule.id);
            let form = |c: char| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '-';
            assert!(rule.id.chars().all(form), "{}", rule.id);
            for text in [rule.claim, rule.compares, rule.source, rule.advice] {
                assert!(
                    !text.is_empty() && !text.ends_with('.'),
                    "{}: {text}",
                    rule.id
                );
                assert!(!text.contains('\n'), "{}: {text}", rule.id);
            }
            assert_eq!(find(rule.id), Some(rule));
        }
    }

    #[test]
    fn every_rule_is_in_the_documentation() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/verify.md");
        let text = std::fs::read_to_string(path).unwrap();
        for rule in all() {
            let row = format!(
                "| `{}` | {} | {} |",
                rule.id,
                rule.severity.name(),
                rule.claim
            );
            assert!(text.contains(&row), "docs/verify.md lacks: {row}");
        }
    }
}
