//! Enumeration of pages and mappings, checked against the independent builder.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use livecore_minidump::mmu::Protection;
use livecore_minidump::{Dump, KernelMemory, VirtAddr};
use livecore_tests::corpus::recipes;
use livecore_tests::expect::Verdict;
use livecore_tests::mkdump::{self, Oracle};

use crate::dumps::open;

fn sound() -> Vec<(String, Dump, Oracle)> {
    let mut found = Vec::new();
    for recipe in recipes().unwrap() {
        let sound = recipe.expectation.as_ref().unwrap().verdict == Verdict::Sound;
        if !sound || recipe.text.contains("fulldump") {
            continue;
        }
        let built = mkdump::build_all(&recipe.text).unwrap();
        found.push((recipe.name, open(&built.bytes), built.oracle.unwrap()));
    }
    assert!(found.len() > 50, "only {} recipes", found.len());
    found
}

/// Whether the recipe has no `pte` or `pde` statement.
fn has_only_maps(name: &str) -> bool {
    name != "riscv64-v2-entries-with-high-bits"
}

/// The protection that a dump preserves: arm64 and i386 lose that of large pages; i386 and mips have
/// no execute bit.
fn preserved(oracle: &Oracle, protection: mkdump::Protection, large: bool) -> Protection {
    let mkdump::Protection { write, execute } = protection;
    match oracle.architecture {
        "arm64" | "i386" | "i386pae" if large => Protection {
            write: true,
            execute: true,
        },
        // The builder writes hashed entries without protection.
        "powerpc64" | "powerpc64le" if !oracle.radix => Protection {
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
fn pages_are_enumerated_once_in_order_with_their_virtual_addresses() {
    for (name, dump, oracle) in sound() {
        let pages = dump.pages(64).unwrap();
        let frames: Vec<u64> = pages.iter().map(|page| page.pa.0).collect();
        let expected: Vec<u64> = oracle.pages.keys().copied().collect();
        assert_eq!(frames, expected, "{name}");
        let mut at: BTreeMap<u64, Vec<u64>> = BTreeMap::new();
        for mapped in &oracle.mapped {
            at.entry(mapped.pa).or_default().push(mapped.va);
        }
        let exact = has_only_maps(&name);
        for page in pages.iter() {
            let found: Vec<u64> = page.kernel.iter().map(|k| k.va().0).collect();
            let expected = at.remove(&page.pa.0).unwrap_or_default();
            if exact {
                assert_eq!(found, expected, "{name}: page {}", page.pa);
            } else {
                assert!(found.iter().all(|va| expected.contains(va)) || name.starts_with("riscv"));
            }
        }
    }
}

#[test]
fn mappings_have_the_protection_that_the_format_preserves() {
    for (name, dump, oracle) in sound() {
        if !has_only_maps(&name) {
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
            let mut wanted = preserved(&oracle, mapped.protection, mapped.large);
            if oracle.architecture == "arm" && mapped.large {
                // The builder writes 64 KiB pages without the execute-never bit.
                wanted.execute |= protection.execute;
            }
            assert_eq!((pa, protection), (mapped.pa, wanted), "{name}: {va:#x}");
        }
    }
}

/// 2048 groups is the smallest table that hardware supports.
#[test]
fn walk_recovers_virtual_addresses_from_the_hashed_page_table() {
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
        let dump = open(&built.bytes);
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

/// A damaged root table that maps 512 GiB 4096 times, and a table whose entries point to itself.
#[test]
fn walk_of_damaged_radix_page_tables_is_bounded() {
    let walk = |text: &str| {
        let dump = open(&mkdump::build(text).unwrap());
        let mut mapped = 0;
        let end = dump.walk(&mut |mapping| {
            mapped += mapping.len;
            ControlFlow::Continue(())
        });
        let absent = dump.read_virt(VirtAddr(0xc008_0000_4000_0000), &mut [0; 8]);
        (end.unwrap(), mapped, absent.unwrap_err().to_string())
    };
    let text = "minidump powerpc64 2\nradix\navail 0x0 0x40000\npage 0x1000 own\n";
    let (end, mapped, _) = walk(&format!(
        "{text}patch payload section.pmap.start + 0x8000 = be64 0xc000000000000187 times 4096\n"
    ));
    assert_eq!((end.tables_missing, mapped), (4096, 0));
    // The table is read as one of each level below the root, until the walk read a table per page.
    let (end, mapped, why) = walk(&format!(
        "{text}page 0x20000 be64 0x8000000000020009 times 512\n\
         patch payload section.pmap.start + 0x8000 = be64 0x8000000000020009\n"
    ));
    assert!(end.tables_missing > 0);
    assert_eq!(mapped, 0);
    assert!(why.contains("no entry of the last level"), "{why}");
}

/// libkvm requires the root's size.
#[test]
fn addresses_after_a_short_radix_root_are_not_mapped() {
    let text = "minidump powerpc64le 2\nradix\navail 0x0 0x40000\npage 0x2000 fill 7\n\
                map 0xc008000000000000 0x2000 4K rw\n";
    let read = |text: &str| {
        let dump = open(&mkdump::build(text).unwrap());
        let mut byte = [0];
        let read = dump.read_virt(VirtAddr(0xc008_0000_0000_0123), &mut byte);
        read.map(|()| byte[0]).ok()
    };
    assert_eq!(read(text), Some(7));
    let short = format!("{text}length pmap = 0x8000\nset header.pmapsize = 0x8000\n");
    assert_eq!(read(&short), None);
}
