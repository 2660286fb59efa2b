//! Compares output with recorded output that a person has read.

use std::fs;
use std::path::Path;

/// Compares `text` with the file `name` in `testdata/golden`, or rewrites the file if
/// UPDATE_GOLDEN=1.
///
/// The caller replaces what differs between machines and runs.
///
/// # Panics
///
/// They differ, or the file cannot be written.
#[track_caller]
pub fn golden(name: &str, text: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../testdata/golden")
        .join(name);
    if std::env::var_os("UPDATE_GOLDEN").is_some_and(|v| v == "1") {
        fs::create_dir_all(path.parent().expect("a golden file has a directory"))
            .and_then(|()| fs::write(&path, text))
            .expect("golden file can be written");
        return;
    }
    let recorded = fs::read_to_string(&path).unwrap_or_default();
    if recorded == text {
        return;
    }
    let line = recorded
        .lines()
        .zip(text.lines())
        .position(|(a, b)| a != b)
        .unwrap_or_else(|| recorded.lines().count().min(text.lines().count()));
    panic!(
        "{} differs from line {} on:\n  recorded: {:?}\n  now:      {:?}\nIf the change is intended, \
         rewrite the golden files with: UPDATE_GOLDEN=1 cargo test\nNow:\n{text}",
        path.display(),
        line + 1,
        recorded.lines().nth(line),
        text.lines().nth(line),
    );
}
