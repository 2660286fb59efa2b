//! The recipes in `testdata/dumps`.

use std::collections::BTreeSet;

use livecore_tests::corpus::{Recipe, recipes};
use livecore_tests::expect::Verdict;
use livecore_tests::mkdump;

fn all() -> Vec<Recipe> {
    let recipes = recipes().unwrap();
    assert!(recipes.len() > 150, "only {} recipes", recipes.len());
    recipes
}

#[test]
fn recipes_build_deterministically_and_below_1_mib() {
    for Recipe { name, text, .. } in all() {
        let bytes = mkdump::build(&text).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert!(bytes.len() < 1 << 20, "{name}: {} bytes", bytes.len());
        assert!(
            bytes == mkdump::build(&text).unwrap(),
            "{name}: two builds differ"
        );
    }
}

#[test]
fn recipes_have_a_description_and_an_expected_verdict() {
    for Recipe {
        name,
        text,
        expectation,
    } in all()
    {
        let expected = expectation.unwrap_or_else(|| panic!("{name}: no valid `# expect:` line"));
        let first = text.lines().next().unwrap_or_default();
        assert!(
            first.starts_with("# ") && !first.contains("expect:"),
            "{name}: no description on the first line"
        );
        let exit = match expected.verdict {
            Verdict::Sound => 0,
            Verdict::Broken => 2,
            Verdict::Warning => 3,
            Verdict::Unsupported => 63,
            Verdict::Encrypted => 3,
            // With warnings 3.
            Verdict::Text => expected.exit,
        };
        assert_eq!(expected.exit, exit, "{name}");
        let region = expected.region.is_some();
        assert!(
            region || expected.verdict != Verdict::Broken,
            "{name}: `broken` without a region"
        );
    }
}

#[test]
fn recipes_build_different_dumps() {
    let mut seen = BTreeSet::new();
    for Recipe { name, text, .. } in all() {
        let built = mkdump::build_all(&text).unwrap();
        let new = seen.insert((built.bytes, built.info));
        assert!(new, "{name}: same dump as another recipe");
    }
}

#[test]
fn every_architecture_and_version_has_a_sound_recipe() {
    let sound: BTreeSet<(&str, u32)> = all()
        .iter()
        .filter(|r| {
            r.expectation
                .as_ref()
                .is_some_and(|e| e.verdict == Verdict::Sound)
        })
        .filter_map(|r| mkdump::build_all(&r.text).unwrap().oracle)
        .map(|oracle| (oracle.architecture, oracle.version))
        .collect();
    let mut wanted: Vec<(&str, u32)> = (1..=3).flat_map(|v| [("amd64", v), ("arm64", v)]).collect();
    for version in 1..=2 {
        let others = [
            "riscv64",
            "i386",
            "i386pae",
            "arm",
            "powerpc64",
            "powerpc64le",
        ];
        let mips = ["mips", "mipsel", "mips64", "mips64el"];
        wanted.extend(others.iter().chain(&mips).map(|name| (*name, version)));
    }
    for wanted in wanted {
        assert!(sound.contains(&wanted), "{} version {}", wanted.0, wanted.1);
    }
}
