//! The verifier against the independent builder: verdicts and broken rules of the recipes.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use livecore_compress::NoProgress;
use livecore_tests::corpus::{Recipe, recipes};
use livecore_tests::machines::{self, machine};
use livecore_tests::mkdump::{self, Built};
use livecore_verify::{Depth, Options, Report, Severity, rules};

const DEPTHS: [Depth; 3] = [Depth::Quick, Depth::Default, Depth::Deep];

fn examine(built: &Built, depth: Depth, skip: &[&str]) -> Report {
    let mut options = Options::default().depth(depth).info(built.info.as_deref());
    options.filter.skip = skip.iter().map(|id| (*id).to_owned()).collect();
    livecore_verify::verify(Arc::new(built.bytes.clone()), &options, &NoProgress)
}

/// Ids of the broken rules in a report, without notes.
fn broken(report: &Report) -> BTreeSet<&'static str> {
    let counts = |f: &&livecore_verify::Finding| f.rule.severity > Severity::Note;
    report
        .findings
        .iter()
        .filter(counts)
        .map(|f| f.rule.id)
        .collect()
}

fn summary(report: &Report) -> String {
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
fn recipes_break_exactly_the_rules_they_list() {
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
                    summary(&report)
                ));
            }
        }
    }
    assert!(
        wrong.is_empty(),
        "{} recipes with another result:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
}

/// Rules that only `--quick` reports: the other depths stop at a frame that `--quick` does not
/// decode. All depths report the frame.
const QUICK_ONLY: &[(&str, &[&str])] = &[("seal-cut-in-its-index", &["CON-TRAILING"])];

#[test]
fn lower_depths_find_a_subset_of_the_broken_rules() {
    for recipe in recipes().unwrap() {
        let built = build(&recipe);
        let [quick, usual, deep] = DEPTHS.map(|depth| examine(&built, depth, &[]));
        let parts = [(&quick, &usual), (&usual, &deep)];
        for (less, more) in parts {
            let (mut found, all) = (broken(less), broken(more));
            for (_, rules) in QUICK_ONLY.iter().filter(|(name, _)| *name == recipe.name) {
                found.retain(|rule| !rules.contains(rule));
            }
            assert!(
                found.is_subset(&all),
                "{}: {} but not {}",
                recipe.name,
                summary(less),
                summary(more)
            );
        }
    }
}

/// Flips each bit of the lengths in the extra fields of the first two gzip members.
#[test]
fn quick_finds_wrong_gzip_member_lengths_and_a_subset_of_the_broken_rules() {
    const LENGTHS: std::ops::Range<usize> = 16..24;
    let all = recipes().unwrap();
    let named = |recipe: &&Recipe| recipe.name == "sealed-gzip-member-length-wrong";
    let text = &all.iter().find(named).unwrap().text;
    let mut built = mkdump::build_all(&text.replace("flip file 16", "")).unwrap();
    let sound = examine(&built, Depth::Quick, &[]);
    assert!(broken(&sound).is_empty(), "{}", summary(&sound));
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
            summary(&quick),
            summary(&usual)
        );
    }
}

#[test]
fn quick_finds_every_damaged_byte_of_a_seal_that_the_default_finds() {
    for codec in ["", "compress gzip\n", "compress zstd\n"] {
        let mut built = mkdump::build_all(&format!(
            "minidump amd64 3
kernbase 0xffffffff80000000
kernend 0xffffffffc0000000
avail 0x1000 0x40000
pages 0x2000 40 seed 1
container sealed
frame 16384
{codec}"
        ))
        .unwrap();
        // The magic of the seal, or of the parts before it.
        let seal = built.bytes.windows(4).position(|w| w == b"LVCR").unwrap();
        let mut found = 0;
        for at in (seal..built.bytes.len()).step_by(5) {
            built.bytes[at] ^= 0x20;
            let [quick, usual] =
                [Depth::Quick, Depth::Default].map(|depth| broken(&examine(&built, depth, &[])));
            built.bytes[at] ^= 0x20;
            assert_eq!(
                quick.is_empty(),
                usual.is_empty(),
                "{codec}: {at:#x}: {usual:?}"
            );
            found += usize::from(!usual.is_empty());
        }
        assert!(found > 40, "{codec}: {found}");
    }
}

/// Rules that no recipe can break: they need a kernel file.
const WITH_KERNEL: &[&str] = &["KRN-", "LIV-"];

/// Rules whose dump is in `verify/tests/all/rules`, written byte by byte.
const IN_VERIFY: &[&str] = &[
    "BM-EIGHTH",
    "FULL-",
    "SEAL-PARTS",
    "SEAL-RECORDS",
    "SEAL-UNPROVEN",
];

/// Rules without a recipe, and why.
const WITHOUT_RECIPE: &[(&str, &str)] = &[
    ("KEY-CONTENT", "it needs the private key: `encrypted.rs`"),
    ("KDH-MAGIC", "a block without the magic is not a header"),
    ("KDH-VERSION", "an unknown version is unsupported"),
    ("MD-MAGIC", "an unknown magic is unsupported"),
    ("ZSTD-DICTIONARY", "the builder has no dictionary"),
];

#[test]
fn all_rules_have_a_recipe_except_the_listed_ones() {
    let recipes = recipes().unwrap();
    let named: BTreeSet<&str> = recipes
        .iter()
        .flat_map(|r| &r.expectation.as_ref().unwrap().breaks)
        .map(String::as_str)
        .collect();
    let known: BTreeSet<&str> = rules::all().map(|rule| rule.id).collect();
    let unknown: Vec<_> = named.difference(&known).collect();
    assert!(unknown.is_empty(), "unknown rules: {unknown:?}");
    let lacking: BTreeSet<&str> = rules::all()
        .filter(|rule| rule.severity > Severity::Note)
        .map(|rule| rule.id)
        .filter(|id| !WITH_KERNEL.iter().any(|group| id.starts_with(group)))
        .filter(|id| {
            let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../verify/tests/all/rules");
            let dump = std::path::Path::new(folder).join(format!("{id}.dump"));
            !(IN_VERIFY.iter().any(|group| id.starts_with(group)) && dump.exists())
        })
        .filter(|id| !named.contains(id))
        .collect();
    let exempt: BTreeSet<&str> = WITHOUT_RECIPE.iter().map(|(id, _)| *id).collect();
    assert_eq!(
        lacking, exempt,
        "rules without a recipe (left), WITHOUT_RECIPE (right)"
    );
}

/// Rules that random kernel maps break: unlike a kernel's image they have gaps.
const SKIPPED: &[&str] = &["PT-IMAGE-GAP"];

#[test]
fn random_machines_of_every_architecture_are_sound() {
    for kind in machines::kinds() {
        for seed in 100..106 {
            let text = machine(&kind, seed);
            let built = mkdump::build_all(&text).unwrap();
            for depth in DEPTHS {
                let report = examine(&built, depth, SKIPPED);
                let code = report.verdict.exit_code();
                assert_eq!(
                    code,
                    0,
                    "{kind:?} {seed} {}: {}",
                    depth.name(),
                    summary(&report)
                );
            }
        }
    }
}

#[test]
fn facts_of_a_report_equal_those_of_the_builder() {
    let mut seen = BTreeMap::new();
    for kind in machines::kinds() {
        let built = mkdump::build_all(&machine(&kind, 7)).unwrap();
        let report = examine(&built, Depth::Default, SKIPPED);
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
