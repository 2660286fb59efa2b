//! The verifier against the builder: a recipe's verdict and the rules it breaks.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use livecore_compress::NoProgress;
use livecore_tests::corpus::{Recipe, recipes};
use livecore_tests::machines::{self, machine};
use livecore_tests::mkdump::{self, Built};
use livecore_verify::{Depth, Options, Report, Severity, rules};

const DEPTHS: [Depth; 3] = [Depth::Quick, Depth::Default, Depth::Deep];

fn examine(built: &Built, depth: Depth, skip: &[&str]) -> Report {
    let mut options = Options {
        depth,
        info: built.info.as_deref(),
        ..Options::default()
    };
    options.filter.skip = skip.iter().map(|id| (*id).to_owned()).collect();
    livecore_verify::verify(Arc::new(built.bytes.clone()), &options, &NoProgress)
}

/// Ids of the rules that a report finds broken; notes are none of them.
fn broken(report: &Report) -> BTreeSet<&'static str> {
    let counts = |f: &&livecore_verify::Finding| f.rule.severity > Severity::Note;
    report
        .findings
        .iter()
        .filter(counts)
        .map(|f| f.rule.id)
        .collect()
}

fn told(report: &Report) -> String {
    let one = |f: &livecore_verify::Finding| {
        format!(
            "{} in {} at {:#x}: {} / {}",
            f.rule.id, f.region, f.offset, f.found, f.expected
        )
    };
    let findings: Vec<String> = report.findings.iter().map(one).collect();
    format!("{} {}", report.verdict.name(), findings.join("; "))
}

fn expected_exit(recipe: &Recipe) -> u8 {
    recipe.expectation.as_ref().unwrap().exit
}

fn build(recipe: &Recipe) -> Built {
    mkdump::build_all(&recipe.text).unwrap_or_else(|error| panic!("{}: {error}", recipe.name))
}

#[test]
fn every_recipe_breaks_the_rules_it_names_and_no_other() {
    let mut wrong = Vec::new();
    for recipe in recipes().unwrap() {
        let built = build(&recipe);
        let expectation = recipe.expectation.as_ref().unwrap();
        for depth in [Depth::Default, Depth::Deep] {
            let report = examine(&built, depth, &[]);
            let found: Vec<&str> = broken(&report).into_iter().collect();
            let exit = report.verdict.exit_code();
            if found != expectation.breaks || exit != expected_exit(&recipe) {
                let (name, depth) = (&recipe.name, depth.name());
                wrong.push(format!(
                    "{name}, {depth}: # breaks: {}\n  {}",
                    found.join(" "),
                    told(&report)
                ));
            }
        }
    }
    assert!(
        wrong.is_empty(),
        "{} are wrong:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
}

/// What a quick look says of a recipe and a long one does not, because the long one stops at a
/// frame that the quick one does not decode: both say that the frame is wrong.
const STOPPED: &[(&str, &[&str])] = &[("seal-cut-in-its-index", &["CON-TRAILING"])];

/// Less is looked at, nothing else is seen.
#[test]
fn a_quick_look_finds_a_part_of_what_a_long_one_finds() {
    for recipe in recipes().unwrap() {
        let built = build(&recipe);
        let [quick, usual, deep] = DEPTHS.map(|depth| examine(&built, depth, &[]));
        let parts = [(&quick, &usual), (&usual, &deep)];
        for (less, more) in parts {
            let (mut found, all) = (broken(less), broken(more));
            for (_, rules) in STOPPED.iter().filter(|(name, _)| *name == recipe.name) {
                found.retain(|rule| !rules.contains(rule));
            }
            assert!(
                found.is_subset(&all),
                "{}: {} but not {}",
                recipe.name,
                told(less),
                told(more)
            );
        }
    }
}

/// The lengths in the extra fields of a sealed file's first two gzip members, wrong by each bit.
#[test]
fn a_quick_look_at_wrong_member_lengths_finds_a_part_of_what_a_long_one_finds() {
    const LENGTHS: std::ops::Range<usize> = 16..24;
    let all = recipes().unwrap();
    let named = |recipe: &&Recipe| recipe.name == "sealed-gzip-member-length-wrong";
    let text = &all.iter().find(named).unwrap().text;
    let mut built = mkdump::build_all(&text.replace("flip file 16", "")).unwrap();
    let sound = examine(&built, Depth::Quick, &[]);
    assert!(broken(&sound).is_empty(), "{}", told(&sound));
    let stored = built.bytes[16..20].try_into().unwrap();
    let second = u32::from_le_bytes(stored) as usize;
    for (at, bit) in [0, second]
        .into_iter()
        .flat_map(|member| LENGTHS.map(move |i| member + i))
        .flat_map(|at| (0..8).map(move |bit| (at, bit)))
    {
        built.bytes[at] ^= 1 << bit;
        let [quick, usual] =
            [Depth::Quick, Depth::Default].map(|depth| examine(&built, depth, &[]));
        built.bytes[at] ^= 1 << bit;
        let (less, more) = (broken(&quick), broken(&usual));
        assert!(
            less.is_subset(&more) && less.contains("GZIP-LENGTH"),
            "bit {bit} of {at:#x}: {} but {}",
            told(&quick),
            told(&usual)
        );
    }
}

/// Rules that no recipe can break: they are about a kernel file beside the dump.
const ELSEWHERE: &[&str] = &["KRN-", "LIV-"];

/// Rules whose smallest dump is in `verify/tests/all/rules` alone: what it takes to break them is written
/// there byte by byte.
const IN_VERIFY: &[&str] = &["FULL-", "SEAL-PARTS", "SEAL-RECORDS", "SEAL-UNPROVEN"];

/// Rules that still lack their recipe, and why.
const WITHOUT_RECIPE: &[(&str, &str)] = &[
    ("KDH-MAGIC", "what has no magic is taken for no header"),
    (
        "KDH-VERSION",
        "an unknown version is not supported, and nothing else is looked at",
    ),
    (
        "MD-MAGIC",
        "an unknown magic is not supported, and nothing else is looked at",
    ),
    ("ZSTD-DICTIONARY", "the builder has no dictionary"),
];

#[test]
fn every_rule_has_a_recipe_that_breaks_it() {
    let recipes = recipes().unwrap();
    let named: BTreeSet<&str> = recipes
        .iter()
        .flat_map(|r| &r.expectation.as_ref().unwrap().breaks)
        .map(String::as_str)
        .collect();
    let known: BTreeSet<&str> = rules::all().map(|rule| rule.id).collect();
    let unknown: Vec<_> = named.difference(&known).collect();
    assert!(unknown.is_empty(), "no such rules: {unknown:?}");
    let lacking: BTreeSet<&str> = rules::all()
        .filter(|rule| rule.severity > Severity::Note)
        .map(|rule| rule.id)
        .filter(|id| !ELSEWHERE.iter().any(|group| id.starts_with(group)))
        .filter(|id| {
            let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../verify/tests/all/rules");
            let dump = std::path::Path::new(folder).join(format!("{id}.dump"));
            !(IN_VERIFY.iter().any(|group| id.starts_with(group)) && dump.exists())
        })
        .filter(|id| !named.contains(id))
        .collect();
    let excused: BTreeSet<&str> = WITHOUT_RECIPE.iter().map(|(id, _)| *id).collect();
    assert_eq!(
        lacking, excused,
        "rules without a recipe, and those that are excused"
    );
}

/// A random kernel map is a sieve, which a kernel's own image never is.
const SIEVE: &[&str] = &["PT-IMAGE-GAP"];

#[test]
fn random_machines_of_every_architecture_are_sound() {
    for kind in machines::kinds() {
        for seed in 100..106 {
            let text = machine(&kind, seed);
            let built = mkdump::build_all(&text).unwrap();
            for depth in DEPTHS {
                let report = examine(&built, depth, SIEVE);
                let code = report.verdict.exit_code();
                assert_eq!(
                    code,
                    0,
                    "{kind:?} {seed} {}: {}",
                    depth.name(),
                    told(&report)
                );
            }
        }
    }
}

/// Facts in a report are the builder's numbers.
#[test]
fn a_report_counts_the_pages_that_were_saved() {
    let mut seen = BTreeMap::new();
    for kind in machines::kinds() {
        let built = mkdump::build_all(&machine(&kind, 7)).unwrap();
        let report = examine(&built, Depth::Default, SIEVE);
        let oracle = built.oracle.as_ref().unwrap();
        assert_eq!(
            report.facts.pages,
            Some(oracle.pages.len() as u64),
            "{kind:?}"
        );
        assert_eq!(report.facts.version, Some(kind.version), "{kind:?}");
        assert_eq!(
            report.facts.content_len,
            Some(built.payload.len() as u64),
            "{kind:?}"
        );
        assert_eq!(report.facts.size, built.bytes.len() as u64, "{kind:?}");
        *seen.entry(report.facts.architecture).or_insert(0) += 1;
    }
    assert_eq!(seen.len(), 7, "{seen:?}");
}
