//! The verdict on each recipe of `testdata/dumps` is the one that the recipe states.

use crate::common;

use std::path::{Path, PathBuf};

use common::{describe, verify};
use livecore_tests::{expect, mkdump};
use livecore_verify::Options;

/// Recipes for which the verifier's exit code differs, and why.
const EXCEPTIONS: [(&str, u8, &str); 1] = [(
    "mapped-page-not-saved.dump",
    0,
    "a note: dumps of FreeBSD 14 have such pages (M_NODUMP buffers), and are sound",
)];

fn recipes() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../testdata/dumps");
    let entries = std::fs::read_dir(folder).unwrap();
    let mut paths: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.retain(|path| path.extension().is_some_and(|e| e == "dump"));
    paths.sort();
    paths
}

#[test]
fn every_recipe_has_the_verdict_that_it_states() {
    let mut wrong = Vec::new();
    for path in recipes() {
        let text = std::fs::read_to_string(&path).unwrap();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        let expected = expect::expectation(&text).expect(&name);
        let built = mkdump::build_all(&text).expect(&name);
        let options = Options::default()
            .name(name.clone())
            .info(built.info.as_deref());
        let report = verify(&built.bytes, &options);
        let exception = EXCEPTIONS.iter().find(|e| e.0 == name);
        let exit = exception.map_or(expected.exit, |e| e.1);
        if report.verdict.exit_code() != exit {
            wrong.push(format!("expected {expected:?}\n{}", describe(&report)));
        }
    }
    assert!(
        wrong.is_empty(),
        "{} wrong:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
}
