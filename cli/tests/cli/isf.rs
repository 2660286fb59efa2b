//! `livecore isf`: its output and its errors. `tests/tests/all/isf.rs` compares the types.

use std::fs;
use std::io::Read;
use std::os::unix::fs::PermissionsExt;

use flate2::read::GzDecoder;
use livecore_tests::elf_edit::Elf;
use livecore_tests::mkctf::Ctf;
use livecore_tests::mkelf;
use serde_json::Value;

use crate::harness::{names, run, run_json};
use crate::served::tiny;

/// A kernel with CTF of one structure.
fn kernel(text: &str) -> Vec<u8> {
    let mut ctf = Ctf::new(3, false);
    let int = ctf.integer("int", 4);
    ctf.structure("proc", 200, &[("p_pid", int, 8 * 196)]);
    let file = Elf::new(mkelf::build(text).unwrap());
    file.add(".SUNW_ctf", &ctf.bytes(true), false).bytes()
}

const TEXT: &str = "elf amd64\nsection .data 0xffffffff81000000 hex 46 72 65 65 00\nsymbol version 0xffffffff81000000 size 5 object";

#[test]
fn types_are_written_to_a_file_and_to_standard_output() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    fs::write(at("kernel"), kernel(TEXT)).unwrap();
    let printed = run(["isf", &at("kernel")]).expect(0);
    let document: Value = serde_json::from_slice(&printed.out).unwrap();
    assert_eq!(document["metadata"]["format"], "6.2.0");
    let pid = &document["user_types"]["proc"]["fields"]["p_pid"];
    assert_eq!(pid["offset"], 196);
    // base64 of "Free" and NUL.
    assert_eq!(document["symbols"]["version"]["constant_data"], "RnJlZQA=");

    run(["isf", &at("kernel"), "-o", &at("kernel.json")]).expect(0);
    assert!(fs::read(at("kernel.json")).unwrap() == printed.out);
    let mode = fs::metadata(at("kernel.json"))
        .unwrap()
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o600);
    run(["isf", &at("kernel"), "-o", &at("kernel.json.gz")]).expect(0);
    let mut unpacked = Vec::new();
    let file = fs::File::open(at("kernel.json.gz")).unwrap();
    GzDecoder::new(file).read_to_end(&mut unpacked).unwrap();
    assert!(unpacked == printed.out);

    let again = ["isf", &at("kernel"), "-o", &at("kernel.json")];
    run_json(again).expect(1).error("exists");
    run(again.into_iter().chain(["--force"])).expect(0);
}

#[test]
fn wrong_inputs_and_outputs_leave_no_file() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    fs::write(at("kernel"), kernel(TEXT)).unwrap();
    let tiny = tiny().kernel.to_str().unwrap();
    let out = at("out.json");
    run_json(["isf", tiny, "-o", &out])
        .expect(63)
        .error("unsupported");
    run_json(["isf", &at("absent"), "-o", &out])
        .expect(1)
        .error("not-found");
    run_json(["isf", &at("kernel"), "-o", &at("")])
        .expect(64)
        .error("output-is-directory");
    for suffix in ["zst", "xz"] {
        let out = at(&format!("out.json.{suffix}"));
        run_json(["isf", &at("kernel"), "-o", &out])
            .expect(64)
            .error("unknown-suffix");
    }
    // A header of CTF that states more than there is.
    let text = "elf amd64\nsection .SUNW_ctf 0x1000 hex f1 cf 03 00 ff ff ff ff ff ff ff ff";
    fs::write(at("broken"), mkelf::build(text).unwrap()).unwrap();
    run_json(["isf", &at("broken"), "-o", &out])
        .expect(2)
        .error("broken");
    assert_eq!(names(dir.path()), ["broken", "kernel"]);
}

#[test]
fn kernel_without_the_text_of_its_version_is_a_warning() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("kernel.debug");
    let out = dir.path().join("out.json");
    fs::write(&path, kernel("elf amd64\nsymbol a 1 abs")).unwrap();
    let [path, out] = [&path, &out].map(|path| path.to_str().unwrap());
    run_json(["isf", path, "-o", out])
        .expect(3)
        .warnings(&["warning"]);
}
