//! Checks JSON output against the documented schemas.
//!
//! Supports the JSON Schema keywords and the two patterns that docs/schemas use, and fails on any
//! others, so that no constraint is ignored.

use std::fs;

use serde_json::Value;

use crate::harness::testdata;

/// Asserts that `answer` is a document of docs/schemas/`name`.schema.json.
#[track_caller]
pub(crate) fn check(name: &str, answer: &Value) {
    let path = testdata()
        .join("../docs/schemas")
        .join(name)
        .with_extension("schema.json");
    let text = fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let schema: Value = serde_json::from_str(&text).expect("a schema is JSON");
    if let Err(why) = accepts(&schema, &schema, answer, "$") {
        panic!("{name}: {why}\n{answer:#}");
    }
}

fn accepts(root: &Value, schema: &Value, value: &Value, at: &str) -> Result<(), String> {
    let words = schema.as_object().ok_or("a schema is an object")?;
    for (word, rule) in words {
        let valid = match word.as_str() {
            "$schema" | "$defs" | "title" | "description" => true,
            "$ref" => {
                let name = rule
                    .as_str()
                    .and_then(|r| r.strip_prefix('#'))
                    .ok_or("$ref")?;
                let target = root.pointer(name).ok_or_else(|| format!("no {name}"))?;
                accepts(root, target, value, at)?;
                true
            }
            "type" => has_type(rule, value)?,
            "enum" => rule.as_array().is_some_and(|list| list.contains(value)),
            "const" => rule == value,
            "anyOf" => {
                let all = rule.as_array().into_iter().flatten();
                let tries = all.map(|one| accepts(root, one, value, at));
                let tries = tries.collect::<Vec<_>>();
                if tries.iter().all(Result::is_err) {
                    let why = tries.into_iter().filter_map(Result::err);
                    return Err(why.collect::<Vec<_>>().join("; "));
                }
                true
            }
            "minimum" if !value.is_number() => true,
            "minimum" => match (value.as_u64(), rule.as_u64()) {
                (Some(value), Some(least)) => value >= least,
                _ => value.as_f64() >= rule.as_f64(),
            },
            "pattern" => value
                .as_str()
                .is_none_or(|text| matches_pattern(rule.as_str().unwrap_or_default(), text)),
            "required" => {
                value.is_null()
                    || rule
                        .as_array()
                        .into_iter()
                        .flatten()
                        .all(|name| name.as_str().is_some_and(|name| value.get(name).is_some()))
            }
            "properties" => {
                for (name, schema) in rule.as_object().into_iter().flatten() {
                    if let Some(value) = value.get(name) {
                        accepts(root, schema, value, &format!("{at}.{name}"))?;
                    }
                }
                true
            }
            "additionalProperties" => {
                let known = schema["properties"].as_object();
                for (name, value) in value.as_object().into_iter().flatten() {
                    if known.is_some_and(|k| k.contains_key(name)) {
                        continue;
                    }
                    if *rule == Value::Bool(false) {
                        return Err(format!("{at}: {name} is not documented"));
                    }
                    accepts(root, rule, value, &format!("{at}.{name}"))?;
                }
                true
            }
            "items" => {
                for (i, value) in value.as_array().into_iter().flatten().enumerate() {
                    accepts(root, rule, value, &format!("{at}[{i}]"))?;
                }
                true
            }
            other => return Err(format!("the schema uses `{other}`, which this check lacks")),
        };
        if !valid {
            return Err(format!("{at}: {value} violates {word} {rule}"));
        }
    }
    Ok(())
}

fn has_type(rule: &Value, value: &Value) -> Result<bool, String> {
    if let Some(list) = rule.as_array() {
        for one in list {
            if has_type(one, value)? {
                return Ok(true);
            }
        }
        return Ok(false);
    }
    Ok(match rule.as_str() {
        Some("object") => value.is_object(),
        Some("array") => value.is_array(),
        Some("string") => value.is_string(),
        Some("boolean") => value.is_boolean(),
        Some("null") => value.is_null(),
        Some("integer") => value.is_u64() || value.is_i64(),
        Some("number") => value.is_number(),
        _ => return Err(format!("unknown type {rule}")),
    })
}

fn matches_pattern(pattern: &str, text: &str) -> bool {
    let hex = |c: char| matches!(c, '0'..='9' | 'a'..='f');
    match pattern {
        "^0x[0-9a-f]+$" => text
            .strip_prefix("0x")
            .is_some_and(|digits| !digits.is_empty() && digits.chars().all(hex)),
        "^([0-9a-f][0-9a-f])*$" => text.len().is_multiple_of(2) && text.chars().all(hex),
        _ => panic!("this check does not support the pattern {pattern}"),
    }
}
