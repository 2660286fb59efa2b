//! The real dump that LLVM's tests use, if `LIVECORE_REAL_DUMP` names it, decompressed.

use std::fs::File;
use std::sync::Arc;

use livecore_compress::NoProgress;
use livecore_verify::{Options, Verdict};

#[test]
fn real_reduced_dump_has_warnings_and_no_errors() {
    let Some(path) = std::env::var_os("LIVECORE_REAL_DUMP") else {
        return;
    };
    let file = Arc::new(File::open(path).unwrap());
    let report = livecore_verify::verify(file, &Options::default(), &NoProgress);
    assert_eq!(report.verdict, Verdict::Warnings, "{:#?}", report.findings);
    let ids: Vec<_> = report.findings.iter().map(|f| f.rule.id).collect();
    // Its authors zeroed all pages that a debugger did not read, and dropped zeros at the end.
    for id in ["MD-SHORT-TAIL", "MSG-EMPTY", "PT-IMAGE-GAP"] {
        assert!(ids.contains(&id), "{id} not in {ids:?}");
    }
    assert_eq!(report.facts.pages, Some(24144));
    assert_eq!(report.facts.size, 101_685_248);
}
