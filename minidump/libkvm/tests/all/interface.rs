//! The exported functions and the header.

use std::collections::BTreeSet;
use std::fs;
use std::process::Command;

use crate::{compiler, exercise, here, library, skipped};

/// FreeBSD 15.0's `kvm.h` declares these functions (`tests/functions.txt`).
#[test]
fn library_exports_the_functions_of_freebsds_header_and_no_others() {
    let expected: BTreeSet<&str> = include_str!("../functions.txt").lines().collect();
    let bytes = fs::read(library()).unwrap();
    let elf = goblin::elf::Elf::parse(&bytes).unwrap();
    assert_eq!(elf.soname, Some("libkvm.so.7"));
    let exported: BTreeSet<&str> = elf
        .dynsyms
        .iter()
        .filter(|symbol| !symbol.is_import() && symbol.st_bind() != 0)
        .filter_map(|symbol| elf.dynstrtab.get_at(symbol.st_name))
        .collect();
    assert_eq!(exported, expected);
    let header = fs::read_to_string(here().join("include/kvm.h")).unwrap();
    let declared: BTreeSet<&str> = header
        .split(|c: char| !c.is_ascii_alphanumeric() && !"_(".contains(c))
        .filter_map(|word| word.split_once('('))
        .map(|(name, _)| name)
        .filter(|name| name.starts_with("kvm_") && !name.ends_with("_cb_t"))
        .collect();
    assert_eq!(declared, expected);
}

/// The C compiler compares the structures of the header with FreeBSD's, for 64 and 32 bits.
#[test]
fn header_has_the_layouts_of_freebsds_headers() {
    if exercise().is_none() {
        return;
    }
    let facts = here().join("../../testdata/freebsd-headers/libkvm.txt");
    let facts = fs::read_to_string(facts).unwrap();
    for (machine, option) in [("amd64", "-m64"), ("i386", "-m32")] {
        let mut source = String::from("#include \"kvm.h\"\n");
        let mut ours = false;
        for line in facts.lines() {
            if let Some(block) = line.strip_prefix("@ ") {
                let (machines, _) = block.split_once(" : ").unwrap();
                ours = machines.split(' ').any(|name| name == machine);
            } else if let Some((expression, value)) = line.split_once(" = ")
                && ours
            {
                source += &match (expression.rsplit_once('.'), value.split_once(' ')) {
                    (Some((name, member)), Some((offset, size))) => format!(
                        "_Static_assert(offsetof({name}, {member}) == {offset} && \
                         sizeof((({name} *)0)->{member}) == {size}, \"{expression}\");\n"
                    ),
                    _ => format!("_Static_assert({expression} == {value}, \"{expression}\");\n"),
                };
            }
        }
        let sizes = match machine {
            "amd64" => [52, 56, 24],
            _ => [52, 44, 16],
        };
        for (name, size) in ["kvm_swap", "kvm_page", "kvm_nlist"].iter().zip(sizes) {
            source += &format!("_Static_assert(sizeof(struct {name}) == {size}, \"{name}\");\n");
        }
        assert!(source.lines().count() > 60);
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("layout.c");
        fs::write(&file, &source).unwrap();
        let compile = |options: &[&str]| {
            let mut command = Command::new(compiler());
            command.args(["-std=c11", "-ffreestanding", "-fsyntax-only", option]);
            command.args(options).arg(&file).output().unwrap()
        };
        fs::write(&file, "int x;").unwrap();
        if !compile(&[]).status.success() {
            skipped(format_args!("{} has no {option}", compiler()));
            continue;
        }
        fs::write(&file, &source).unwrap();
        let done = compile(&["-I", here().join("include").to_str().unwrap()]);
        assert!(
            done.status.success(),
            "{}",
            String::from_utf8_lossy(&done.stderr)
        );
    }
}

/// `include/kvm.h` is what cbindgen generates.
#[test]
fn header_is_up_to_date() {
    let generated = Command::new("cbindgen")
        .args(["--quiet", "--config", "cbindgen.toml"])
        .current_dir(here())
        .output();
    let Ok(generated) = generated else {
        skipped("cbindgen is not installed");
        return;
    };
    let text = String::from_utf8(generated.stdout).unwrap();
    let header = fs::read_to_string(here().join("include/kvm.h")).unwrap();
    assert!(
        text == header,
        "run: cbindgen --config cbindgen.toml --output include/kvm.h"
    );
}
