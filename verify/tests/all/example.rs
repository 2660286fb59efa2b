//! The example program, run on a sound and a damaged dump.

#[path = "../../examples/verify.rs"]
#[expect(dead_code, reason = "its main is not run here")]
mod verify;

use livecore_compress::Codec;
use livecore_verify::render::Format;

use crate::common;

#[test]
fn example_reports_files_and_returns_the_worst_exit_code() {
    let dir = tempfile::tempdir().unwrap();
    let built = common::build("");
    let sealed = common::seal(&built.payload, Codec::Zstd, 64 << 10);
    let mut damaged = sealed.clone();
    damaged[sealed.len() / 2] ^= 1;
    let mut names = Vec::new();
    for (name, bytes) in [("sound.zst", sealed), ("damaged.zst", damaged)] {
        let path = dir.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        names.push(path.to_str().unwrap().to_string());
    }
    let run = |names: &[String]| {
        let mut out = Vec::new();
        let exit_code = verify::verify(names, Format::Json, &mut out).unwrap();
        let document: serde_json::Value = serde_json::from_slice(&out).unwrap();
        let reports = document["reports"].as_array().unwrap();
        let of = reports
            .iter()
            .map(|report| report["name"].as_str().unwrap().to_string());
        assert_eq!(of.collect::<Vec<_>>(), names);
        exit_code
    };
    assert_eq!(run(&names[..1]), 0);
    assert_eq!(run(&names), 2);
}
