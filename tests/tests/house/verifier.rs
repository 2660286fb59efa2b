//! What the verifier may share with what it verifies.

use crate::{code_only, files, names_from, read, report};

/// The files of the verifier that look a kernel's symbols up through the dump, or name addresses by
/// them: that is what they share with the reader.
const VERIFY_SHARES: [&str; 4] = [
    "verify/src/compare/",
    "verify/src/kernel.rs",
    "verify/src/memory.rs",
    "verify/src/options.rs",
];

/// What those may take from `minidump`, next to definitions: types of addresses, how page tables
/// are shaped, how a kernel's symbols are read.
const VERIFY_MAY_SHARE: [&str; 8] = [
    "addr",
    "PhysAddr",
    "VirtAddr",
    "arch",
    "elf",
    "kernel",
    "KernelMemory",
    // What that trait's methods fail with.
    "ReadError",
];

/// What every file of the verifier may take from `compress`: bytes, names of codecs, and of the
/// seal its format. Not what finds frames, reads an index or decodes.
const VERIFY_MAY_READ: [&str; 5] = ["Codec", "NoProgress", "Progress", "ReadAt", "seal"];

#[test]
fn the_verifier_derives_everything_itself() {
    let mut broken = Vec::new();
    for path in files("verify/src", "rs") {
        let code = code_only(&read(&path));
        let shares = VERIFY_SHARES.iter().any(|p| path.starts_with(p));
        let mut taken = |krate: &str, may: &dyn Fn(&str) -> bool| {
            let names = names_from(&code, krate).into_iter();
            let others = names.filter(|name| !may(name));
            broken.extend(others.map(|name| format!("{path}: {krate}::{name}")));
        };
        taken("livedump", &|_| false);
        taken("minidump", &|name| {
            name == "defs" || shares && VERIFY_MAY_SHARE.contains(&name)
        });
        taken("compress", &|name| VERIFY_MAY_READ.contains(&name));
        taken("livecore_compress::seal", &|name| name == "format");
    }
    report("the verifier asks the producer or the reader", &broken);
}

#[test]
fn definitions_hold_no_functions_that_others_could_call() {
    let mut paths = files("minidump/src/defs", "rs");
    paths.push("compress/src/seal/format.rs".to_owned());
    assert!(paths.len() > 10);
    let mut broken = Vec::new();
    for path in paths {
        let code = code_only(&read(&path));
        let calls = [
            "pub fn ",
            "pub const fn ",
            "pub(crate) fn ",
            "pub(crate) const fn ",
        ];
        if calls.iter().any(|call| code.contains(call)) || code.contains("\nimpl ") {
            broken.push(path);
        }
    }
    report("definitions that compute", &broken);
}
