//! Import cycles: files of a crate that import each other.
//!
//! `cargo test -p livecore-tests --test all -- cycles --nocapture` prints them.
//!
//! A node is a file below a crate's `src`, except `main.rs`, `src/bin` and code under
//! `#[cfg(test)]`. A path `crate::…`, `super::…`, `self::…`, or one that begins with a child module
//! or an imported name, is an edge to the file that defines the named item. Re-exports are
//! followed: `use crate::Error` is an edge to `error.rs`, not to `lib.rs`. The files of a strongly
//! connected component are a cycle, unless every edge in it joins a parent module and its direct
//! child.

mod names;
mod scan;

use std::collections::BTreeSet;

use crate::rust_source::crates;
use names::Names;

#[test]
#[expect(clippy::print_stdout, reason = "--nocapture prints the cycles")]
fn no_files_are_in_import_cycles() {
    let mut in_cycles = BTreeSet::new();
    for folder in crates() {
        let names = Names::of(&folder);
        for cycle in names.cycles() {
            println!("{folder}: {} files name each other:", cycle.len());
            for file in &cycle {
                let path = &names.files[*file].path;
                println!("  {path}");
                for (target, (line, what)) in &names.files[*file].edges {
                    if cycle.contains(target) {
                        println!("    line {line}: {what} -> {}", names.files[*target].path);
                    }
                }
                in_cycles.insert(path.clone());
            }
        }
    }
    assert!(
        in_cycles.is_empty(),
        "files in import cycles (--nocapture prints the cycles): {in_cycles:#?}"
    );
}

#[test]
fn paths_resolve_to_the_file_that_defines_the_item() {
    let texts = [
        (
            "src/lib.rs",
            "mod a; mod b; pub use a::Error; pub use b::deep as low; fn top() {}",
        ),
        (
            "src/a.rs",
            "pub struct Error; use crate::{b::{self, deep::Low}, low};",
        ),
        (
            "src/b/mod.rs",
            "pub mod deep; #[cfg(test)] mod tests; pub use std::io::Read;",
        ),
        (
            "src/b/deep.rs",
            "pub struct Low; use super::super::Error; use crate::b::Read;",
        ),
        ("src/b/tests.rs", "use crate::a::Error;"),
        (
            "src/c.rs",
            "#[cfg(test)] mod tests { use super::*; use crate::b::X; } use crate::top;",
        ),
    ];
    let names = Names::read(
        "x",
        texts.map(|(p, t)| (format!("x/{p}"), t.to_owned())).into(),
    );
    let edges = |path: &str| -> Vec<&str> {
        let file = names
            .files
            .iter()
            .find(|f| f.path == format!("x/src/{path}"));
        let edges = file.unwrap().edges.keys();
        edges
            .map(|e| &names.files[*e].path["x/src/".len()..])
            .collect()
    };
    assert_eq!(edges("lib.rs"), ["a.rs", "b/deep.rs"]);
    assert_eq!(edges("a.rs"), ["b/mod.rs", "b/deep.rs"]);
    assert_eq!(edges("b/mod.rs"), [""; 0]);
    assert_eq!(edges("b/deep.rs"), ["a.rs"]);
    assert_eq!(edges("c.rs"), ["lib.rs"]);
    assert!(names.files.iter().all(|f| f.path != "x/src/b/tests.rs"));
    let cycles = names.cycles();
    assert_eq!(cycles.len(), 1);
    assert_eq!(
        cycles[0].len(),
        2,
        "a and deep, which are not parent and child"
    );
}
