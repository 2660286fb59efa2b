//! What versions promise (docs/versions.md): documented JSON changes only with its number, and sealed
//! files of all releases are read.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;

use serde_json::Value;

use crate::harness::{names, run, testdata};

fn released(name: &str) -> PathBuf {
    testdata().join("released").join(name)
}

/// Appends a line for each property of the documents that `schema` accepts.
fn promises(
    root: &Value,
    schema: &Value,
    path: &str,
    open: &mut Vec<String>,
    lines: &mut BTreeSet<String>,
) {
    let words = |value: &Value| match value.as_array() {
        Some(list) => list.clone(),
        None => vec![value.clone()],
    };
    if let Some(name) = schema["$ref"].as_str() {
        // A definition that contains itself is described once.
        if !open.iter().any(|one| one == name) {
            open.push(name.to_owned());
            let target = root.pointer(name.trim_start_matches('#')).unwrap();
            promises(root, target, path, open, lines);
            open.pop();
        }
    }
    for one in schema["anyOf"].as_array().into_iter().flatten() {
        promises(root, one, path, open, lines);
    }
    if !schema["type"].is_null() {
        let types = words(&schema["type"]);
        let mut types: Vec<_> = types.iter().filter_map(Value::as_str).collect();
        types.sort_unstable();
        lines.insert(format!("{path}: {}", types.join(" or ")));
    }
    for word in ["const", "enum"] {
        if !schema[word].is_null() {
            let values = words(&schema[word]);
            lines.extend(values.iter().map(|value| format!("{path} = {value}")));
        }
    }
    if let Some(pattern) = schema["pattern"].as_str() {
        lines.insert(format!("{path}: matches {pattern}"));
    }
    for name in schema["required"].as_array().into_iter().flatten() {
        lines.insert(format!("{path}.{}: required", name.as_str().unwrap()));
    }
    for (name, below) in schema["properties"].as_object().into_iter().flatten() {
        promises(root, below, &format!("{path}.{name}"), open, lines);
    }
    for (word, suffix) in [("items", "[]"), ("additionalProperties", ".*")] {
        if schema[word].is_object() {
            promises(root, &schema[word], &format!("{path}{suffix}"), open, lines);
        }
    }
}

/// The schemas by name.
fn schemas() -> Vec<(String, Value)> {
    let folder = testdata().join("../docs/schemas");
    let files = names(&folder).into_iter().map(|name| {
        let schema = serde_json::from_slice(&fs::read(folder.join(&name)).unwrap()).unwrap();
        (name.trim_end_matches(".schema.json").to_owned(), schema)
    });
    files.collect()
}

/// The number of the JSON output, as the program prints it.
fn number() -> u64 {
    let answer = run(["list", "--json", testdata().to_str().unwrap()]).expect(0);
    let answer: Value = serde_json::from_slice(&answer.out).unwrap();
    answer["schema"].as_u64().unwrap()
}

#[test]
fn every_document_has_the_number_of_the_json_output() {
    let number = number();
    for (name, schema) in schemas() {
        let mut lines = BTreeSet::new();
        promises(&schema, &schema, "", &mut Vec::new(), &mut lines);
        let numbers: Vec<_> = lines
            .iter()
            .filter(|line| line.starts_with(".schema = "))
            .collect();
        assert_eq!(numbers, [&format!(".schema = {number}")], "{name}");
        assert!(lines.contains(".schema: required"), "{name}");
    }
}

#[test]
fn released_json_changes_only_with_its_number() {
    let mut now = BTreeSet::new();
    for (name, schema) in schemas() {
        let mut lines = BTreeSet::new();
        promises(&schema, &schema, "", &mut Vec::new(), &mut lines);
        now.extend(lines.into_iter().map(|line| format!("{name}{line}")));
    }
    assert!(now.len() > 500, "{}", now.len());
    let path = released("schemas.txt");
    let recorded = fs::read_to_string(&path).unwrap_or_default();
    let (first, recorded) = recorded.split_once('\n').unwrap_or_default();
    let head = format!("schema {}", number());
    let lost: Vec<_> = recorded
        .lines()
        .filter(|line| !now.contains(*line))
        .collect();
    if first == head {
        assert!(
            lost.is_empty(),
            "incompatible changes of documented JSON: increment SCHEMA in verify/src/render/json.rs, or undo them:\n{}",
            lost.join("\n")
        );
    }
    if std::env::var_os("UPDATE_GOLDEN").is_some_and(|v| v == "1") {
        let lines: Vec<_> = now.iter().map(String::as_str).collect();
        fs::write(&path, format!("{head}\n{}\n", lines.join("\n"))).unwrap();
    } else {
        assert_eq!(first, head, "record the new number with UPDATE_GOLDEN=1");
    }
}

/// The files are of one dump, in each format and codec.
#[test]
fn sealed_files_of_all_releases_are_read() {
    let mut contents = Vec::new();
    for version in [1, 2] {
        for suffix in ["", ".gz", ".zst"] {
            let name = format!("sealed-{version}{suffix}");
            let path = released(&name);
            let bytes = fs::read(&path).unwrap();
            assert!(bytes.len() <= 64 << 10, "{name}");
            let seal = bytes
                .windows(8)
                .rposition(|bytes| bytes == b"LVCRSEAL")
                .unwrap();
            assert_eq!(bytes[seal + 8], version, "{name}");
            let path = path.to_str().unwrap();
            run(["verify", "--strict", path]).expect(0);
            let info = run(["info", "--json", path]).expect(0);
            let info: Value = serde_json::from_slice(&info.out).unwrap();
            assert_eq!(info["container"], "sealed", "{name}");
            let plain = run(["convert", "--none", "-O", "saved", path, "-"]).expect(0);
            contents.push((name, plain.out));
        }
    }
    let (_, first) = &contents[0];
    assert!(first.starts_with(b"minidump FreeBSD/amd64\0"));
    for (name, content) in &contents {
        assert!(content == first, "{name}");
    }
}
