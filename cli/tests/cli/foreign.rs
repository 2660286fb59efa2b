//! Files that are not dumps but have a known signature: every verb names their format and gives
//! advice.

use std::fs;
use std::path::Path;

use livecore_defs::foreign::{FOREIGN, HEAD};

use crate::harness::run;

/// The verbs that open a dump, with their other arguments.
const VERBS: [&[&str]; 12] = [
    &["info", "IN"],
    &["verify", "IN"],
    &["convert", "IN", "OUT"],
    &["salvage", "IN", "OUT"],
    &["dmesg", "IN"],
    &["read", "IN", "0x1000", "16", "--phys"],
    &["triage", "IN"],
    &["ps", "IN"],
    &["export", "IN", "OUT"],
    &["threads", "IN"],
    &["serve", "IN"],
    &["compare", "IN", "IN"],
];

#[track_caller]
fn names(verb: &[&str], file: &Path, code: i32, expected: &[&str]) {
    let out = file.with_extension("out");
    let args = verb.iter().map(|word| match *word {
        "IN" => file.as_os_str(),
        "OUT" => out.as_os_str(),
        word => word.as_ref(),
    });
    // Codes of its own: 4 is could not compare.
    let code = if verb[0] == "compare" { 4 } else { code };
    let run = run(args).expect(code);
    let printed = format!("{}{}", run.text(), run.err);
    for text in expected {
        assert!(
            printed.contains(text),
            "{verb:?}: {text:?} is not in {printed:?}"
        );
    }
    assert!(!out.exists(), "{verb:?}");
}

#[test]
fn every_verb_names_the_foreign_format_and_gives_advice() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("vmcore.0");
    for (i, foreign) in FOREIGN.iter().enumerate() {
        let mut head = vec![0; HEAD];
        head[foreign.offset..][..foreign.mark.len()].copy_from_slice(foreign.mark);
        head.resize(8192, 7);
        fs::write(&file, head).unwrap();
        // Test one archive and one image with every verb, the others with three.
        let all = i == 1 || foreign.mark == b"EMiL";
        let verbs = if all { &VERBS[..] } else { &VERBS[..3] };
        for verb in verbs {
            // `info` describes images.
            if foreign.is_image && verb[0] == "info" {
                continue;
            }
            let expected = [foreign.what, foreign.instead];
            names(verb, &file, 63, &expected);
        }
    }
}

#[test]
fn elf_cores_and_kernels_are_named() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("core");
    let mut elf = vec![0; 8192];
    elf[..7].copy_from_slice(b"\x7fELF\x02\x01\x01");
    // `e_type`, `e_machine`, `e_version`, and the sizes of headers.
    elf[18] = 62;
    elf[20] = 1;
    elf[52] = 64;
    elf[54] = 56;
    for (kind, expected) in [
        (2, "a kernel file is the value of --kernel"),
        (4, "take --image"),
    ] {
        elf[16] = kind;
        fs::write(&file, &elf).unwrap();
        for verb in &VERBS {
            // `info` opens a core as the image that it is, and this one has no memory.
            if (kind, verb[0]) != (4, "info") {
                names(verb, &file, 63, &[expected]);
            }
        }
        // Compressed, its contents tell.
        let packed = zstd::encode_all(&*elf, 3).unwrap();
        fs::write(&file, packed).unwrap();
        for verb in &VERBS {
            if (kind, verb[0]) != (4, "info") {
                names(verb, &file, 63, &[expected]);
            }
        }
    }
}

#[test]
fn encrypted_dumps_without_key_file_are_recognized_by_name() {
    let dir = tempfile::tempdir().unwrap();
    let noise: Vec<u8> = (0..8192_u32).map(|i| ((i * i) >> 3) as u8 | 0x80).collect();
    let encrypted = dir.path().join("vmcore_encrypted.0");
    fs::write(&encrypted, &noise).unwrap();
    for verb in &VERBS {
        names(verb, &encrypted, 63, &["encrypted", "key.0"]);
    }
    let second = dir.path().join("vmcore.1");
    fs::write(&second, &noise).unwrap();
    fs::write(dir.path().join("key.1"), "key").unwrap();
    for verb in ["info", "verify"] {
        let run = run([verb, second.to_str().unwrap()]).expect(2);
        let all = format!("{}{}", run.text(), run.err);
        assert!(all.contains("key file"), "{all}");
    }
}

#[test]
fn compressed_kernel_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let kernel = dir.path().join("kernel.gz");
    fs::write(&kernel, [&b"\x1f\x8b\x08\0"[..], &[0; 64]].concat()).unwrap();
    let args = ["verify", "--kernel", kernel.to_str().unwrap(), "/dev/null"];
    let run = run(args).expect(63);
    assert!(run.err.contains("gunzip"), "{}", run.err);
}
