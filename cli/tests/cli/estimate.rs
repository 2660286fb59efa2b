//! `livecore estimate`. The expected sizes are those of written files.

use std::fs;
use std::path::Path;

use serde_json::Value;

use crate::harness::{Run, run, run_json};
use crate::schema;
use crate::served::{debug, tiny};

/// The document of `livecore estimate --json`.
#[track_caller]
fn estimated(args: &[&str], code: i32) -> (Value, Run) {
    let run = run_json(["estimate", "--json"].iter().chain(args)).expect(code);
    let value: Value = serde_json::from_slice(&run.out).unwrap();
    schema::check("estimate", &value);
    (value, run)
}

#[test]
fn size_from_all_frames_is_that_of_the_written_file() {
    let dump = debug().dump.to_str().unwrap();
    let dir = tempfile::tempdir().unwrap();
    let to = dir.path().join("out");
    let (value, _) = estimated(&[dump, "--samples", "1000"], 0);
    assert_eq!(value["frames"], value["sampled_frames"]);
    let candidates = value["candidates"].as_array().unwrap();
    assert_eq!(candidates.len(), 6);
    for one in candidates {
        let codec = format!("--{}", one["codec"].as_str().unwrap());
        let level = one["level"]
            .as_i64()
            .map(|level| format!("--level={level}"));
        let mut args = vec![
            "convert",
            "-q",
            "--force",
            &codec,
            dump,
            to.to_str().unwrap(),
        ];
        args.extend(level.as_deref());
        run(args).expect(0);
        let written = fs::metadata(&to).unwrap().len();
        let size = one["size"].as_u64().unwrap();
        // The seal has a compressed copy of the sections, whose size is not estimated.
        let seal = written.checked_sub(size).expect("more than the frames");
        assert!(seal < 64 << 10, "{one}: {written}");
        assert_eq!((&one["error"], &one["fits"]), (&0.into(), &Value::Null));
    }
}

#[test]
fn sample_of_a_part_states_its_error() {
    let dump = debug().dump.to_str().unwrap();
    let (value, _) = estimated(&[dump, "--samples", "4"], 0);
    assert_eq!(value["sampled_frames"], 4);
    assert!(value["frames"].as_u64().unwrap() > 10, "{value:#}");
    let errors = value["candidates"].as_array().unwrap().iter();
    let errors: Vec<_> = errors.map(|one| one["error"].as_u64().unwrap()).collect();
    assert_eq!(errors[0], 0, "without compression all frames have one size");
    assert!(errors[1..].iter().all(|error| *error > 0), "{errors:?}");
}

#[test]
fn image_is_estimated_as_the_dump_that_take_writes() {
    let (image, kernel) = (&tiny().ram, &tiny().kernel);
    let dir = tempfile::tempdir().unwrap();
    let to = dir.path().join("out");
    let [image, kernel, to] = [image, kernel, &to].map(|path| path.to_str().unwrap());
    let source = ["--image", image, "--kernel", kernel];
    let args = ["take", "-q", "--json", "-o", to];
    let taken = run(args.into_iter().chain(source)).expect(0);
    let taken: Value = serde_json::from_slice(&taken.out).unwrap();
    let (value, _) = estimated(&source, 0);
    assert_eq!(value["payload_size"], taken["payload_size"]);
    let alone = dir.path().join("ram");
    fs::write(&alone, vec![0; 1 << 20]).unwrap();
    run_json(["estimate", "--image", alone.to_str().unwrap()])
        .expect(64)
        .error("no-kernel-file");
    run_json(["estimate"]).expect(64).error("missing-argument");
}

#[test]
fn free_space_decides_what_fits() {
    let dump = debug().dump.to_str().unwrap();
    let dir = tempfile::tempdir().unwrap();
    let out = format!("{}/", dir.path().display());
    let (value, _) = estimated(&[dump, "-o", &out], 0);
    assert!(value["free"].as_u64().unwrap() > 0);
    for one in value["candidates"].as_array().unwrap() {
        assert_eq!(one["fits"], "yes", "{one}");
    }
    let text = run(["estimate", dump, "-o", &out]).expect(0);
    let rows: Vec<_> = text
        .text()
        .lines()
        .filter(|line| line.ends_with(" yes"))
        .collect();
    assert_eq!(rows.len(), 6, "{}", text.text());
    // A file system without free space.
    if Path::new("/proc/self").exists() {
        let (value, run) = estimated(&[dump, "-o", "/proc/out"], 3);
        run.warnings(&["no-space"]);
        assert_eq!(value["free"], 0);
        assert_eq!(value["candidates"][0]["fits"], "no");
    }
}
