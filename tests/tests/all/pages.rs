//! The enumeration of pages against the builder: every page once, every mapping with its
//! protection.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::Arc;

use livecore_minidump::{Dump, OpenOptions, Protection};
use livecore_tests::corpus::recipes;
use livecore_tests::expect::Verdict;
use livecore_tests::mkdump::{self, Oracle};

fn sound() -> Vec<(String, Dump, Oracle)> {
    let mut found = Vec::new();
    for recipe in recipes().unwrap() {
        let sound = recipe.expectation.as_ref().unwrap().verdict == Verdict::Sound;
        if !sound || recipe.text.contains("fulldump") {
            continue;
        }
        let built = mkdump::build_all(&recipe.text).unwrap();
        let source = Arc::new(built.bytes);
        let dump = Dump::from_source(source, &OpenOptions::default()).unwrap();
        found.push((recipe.name, dump, built.oracle.unwrap()));
    }
    assert!(found.len() > 50, "only {} recipes", found.len());
    found
}

/// Whether no entry is written by hand.
fn is_told_by_the_maps(name: &str) -> bool {
    name != "riscv64-v2-entries-with-high-bits"
}

/// What a dump keeps of a protection: arm64 and i386 lose it where a superpage was written out as
/// pages; i386 and mips have no bit against execution.
fn kept(oracle: &Oracle, protection: mkdump::Protection, large: bool) -> Protection {
    let mkdump::Protection { write, execute } = protection;
    match oracle.architecture {
        "arm64" | "i386" | "i386pae" if large => Protection {
            write: true,
            execute: true,
        },
        // The builder's hashed entries have no protection.
        "powerpc64" | "powerpc64le" => Protection {
            write: true,
            execute: true,
        },
        "i386" | "mips" | "mipsel" | "mips64" | "mips64el" => Protection {
            write,
            execute: true,
        },
        _ => Protection { write, execute },
    }
}

#[test]
fn every_page_comes_once_in_order_with_the_addresses_that_the_recipe_maps() {
    for (name, dump, oracle) in sound() {
        let pages = dump.pages(64).unwrap();
        let frames: Vec<u64> = pages.iter().map(|page| page.pa.0).collect();
        let expected: Vec<u64> = oracle.pages.keys().copied().collect();
        assert_eq!(frames, expected, "{name}");
        let mut at: BTreeMap<u64, Vec<u64>> = BTreeMap::new();
        for mapped in &oracle.mapped {
            at.entry(mapped.pa).or_default().push(mapped.va);
        }
        let told = is_told_by_the_maps(&name);
        for page in pages.iter() {
            let found: Vec<u64> = page.kernel.iter().map(|k| k.va().0).collect();
            let expected = at.remove(&page.pa.0).unwrap_or_default();
            if told {
                assert_eq!(found, expected, "{name}: page {}", page.pa);
            } else {
                assert!(found.iter().all(|va| expected.contains(va)) || name.starts_with("riscv"));
            }
        }
    }
}

#[test]
fn every_mapping_has_the_protection_that_its_format_keeps() {
    for (name, dump, oracle) in sound() {
        if !is_told_by_the_maps(&name) {
            continue;
        }
        let mut found = BTreeMap::new();
        let size = oracle.page_size;
        let end = dump.walk(&mut |mapping| {
            for skip in (0..mapping.len).step_by(size as usize) {
                found.insert(
                    mapping.va.0 + skip,
                    (mapping.pa.0 + skip, mapping.protection),
                );
            }
            ControlFlow::Continue(())
        });
        assert_eq!(end.unwrap().tables_missing, 0, "{name}");
        let expected: BTreeMap<_, _> = oracle.mapped.iter().map(|m| (m.va, m)).collect();
        assert_eq!(found.len(), expected.len(), "{name}");
        for (va, mapped) in expected {
            let (pa, protection) = found[&va];
            let mut wanted = kept(&oracle, mapped.protection, mapped.large);
            if oracle.architecture == "arm" && mapped.large {
                // The builder's pages of 64 KiB have no bit against execution.
                wanted.execute |= protection.execute;
            }
            assert_eq!((pa, protection), (mapped.pa, wanted), "{name}: {va:#x}");
        }
    }
}

/// A table of 2048 groups, the smallest that hardware has, tells every address.
#[test]
fn a_hashed_page_table_is_turned_round() {
    for architecture in ["powerpc64", "powerpc64le"] {
        let text = format!(
            "minidump {architecture} 2
             groups 2048
             avail 0x1000 0x100000
             map 0xc008000000000000 0x2000 4K rw times 40
             map 0xc008000012345000 0x50000 4K rw times 9
             map 0xc0080007fffff000 0x80000 4K rw"
        );
        let built = mkdump::build_all(&text).unwrap();
        let oracle = built.oracle.unwrap();
        let source = Arc::new(built.bytes);
        let dump = Dump::from_source(source, &OpenOptions::default()).unwrap();
        let mut found = BTreeMap::new();
        let end = dump.walk(&mut |mapping| {
            found.insert(mapping.va.0, mapping.pa.0);
            ControlFlow::Continue(())
        });
        end.unwrap();
        let expected: BTreeMap<_, _> = oracle.mapped.iter().map(|m| (m.va, m.pa)).collect();
        assert_eq!(expected.len(), 50);
        assert_eq!(found, expected);
    }
}
