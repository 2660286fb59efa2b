//! Checks one file for consistency between the verifier and the other verbs. A dump that `verify`
//! calls sound, with or without warnings, is readable to the end by every verb; a dump that
//! `convert` calls broken is broken for `verify`. If headers or sections are broken for `verify`, no
//! verb exits with 0. `verify` does not call broken what `salvage` writes, and `salvage` does not exit
//! with 0 if `verify` calls its input broken. The fuzz target `law` uses this file.

use std::ffi::OsStr;
use std::fs;
use std::path::Path;

use serde_json::Value;

/// Runs a command line; returns exit code and standard output.
fn run(args: &[&OsStr]) -> (u8, Vec<u8>) {
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let line = [OsStr::new("livecore")]
        .into_iter()
        .chain(args.iter().copied());
    let line: Vec<_> = line.map(OsStr::to_owned).collect();
    let exit = livecore::run(line, &mut out, &mut err, livecore::Env::detached());
    (exit.code(), out)
}

/// The number of pages in a report, without those counted as missing.
fn pages(report: &Value) -> Option<u64> {
    let promised = report["facts"]["pages"].as_u64()?;
    let mut missing = 0;
    for finding in report["findings"].as_array()? {
        if finding["rule"] == "MD-SHORT-TAIL" {
            // "a payload of 0x9000 bytes: 3 pages of 12 are missing, ..."
            let found = finding["found"].as_str()?.split(": ").nth(1)?;
            missing = found.split(' ').next()?.parse().ok()?;
        }
    }
    promised.checked_sub(missing)
}

/// Checks the dump `bytes`. The error names the verb that disagrees. Creates files in `dir`.
/// `kernel` is the dump's kernel, if there is one.
pub(crate) fn check(bytes: &[u8], dir: &Path, kernel: Option<&Path>) -> Result<(), String> {
    let (dump, out) = (dir.join("law.dump"), dir.join("law.out"));
    fs::write(&dump, bytes).map_err(|e| e.to_string())?;
    let dump = dump.as_os_str();
    let [verify, json, quick, force, salvage] =
        ["verify", "--json", "--quick", "--force", "salvage"].map(OsStr::new);
    let (verdict, report) = run(&[verify, json, dump]);
    let (convert, _) = run(&["convert".as_ref(), force, dump, out.as_os_str()]);
    if convert == 2 && verdict != 2 {
        return Err(format!("convert exits 2, verify {verdict}"));
    }
    let (glance, _) = run(&[verify, quick, dump]);
    if glance == 2 && verdict != 2 {
        return Err(format!("verify --quick exits 2, verify {verdict}"));
    }
    let (info, facts) = run(&["info".as_ref(), json, dump]);
    let dmesg = run(&["dmesg".as_ref(), dump]).0;
    // Only verbs that read the frames of pages find damage there.
    let frames = || run(&[verify, quick, "--only".as_ref(), "codec".as_ref(), dump]).0;
    if glance == 2 && frames() != 2 {
        let [read, phys, at, len] = ["read", "--phys", "0x1000", "16"].map(OsStr::new);
        let read = run(&[read, phys, dump, at, len]).0;
        let codes = [
            ("convert", convert),
            ("info", info),
            ("dmesg", dmesg),
            ("read", read),
        ];
        if let Some((verb, _)) = codes.iter().find(|(_, code)| *code == 0) {
            return Err(format!(
                "verify finds a contradiction in the headers, {verb} exits 0"
            ));
        }
    }
    let (salvaged, kept) = run(&[salvage, json, force, dump, out.as_os_str()]);
    if salvaged == 0 && verdict == 2 {
        return Err("salvage exits 0, verify 2".into());
    }
    if matches!(salvaged, 0 | 3) {
        let (again, _) = run(&[verify, out.as_os_str()]);
        if !matches!(again, 0 | 3) {
            return Err(format!("verify of what salvage has written exits {again}"));
        }
    }
    if !matches!(verdict, 0 | 3) {
        return Ok(());
    }
    let fine = |verb: &str, code: u8| match code {
        0 | 3 => Ok(()),
        code => Err(format!("verify exits {verdict}, {verb} {code}")),
    };
    let report: Value = serde_json::from_slice(&report).map_err(|e| e.to_string())?;
    let report = &report["reports"][0];
    // Without the private key, verify checks the key block and the seal, and other verbs fail.
    let findings = report["findings"].as_array();
    if findings.is_some_and(|all| all.iter().any(|f| f["rule"] == "KEY-UNREAD")) {
        return Ok(());
    }
    fine("info", info)?;
    let facts: Value = serde_json::from_slice(&facts).map_err(|e| e.to_string())?;
    if facts["kind"] == "text" {
        // A text dump has no memory to convert.
        return fine("dmesg", dmesg);
    }
    fine("convert", convert)?;
    // A full dump without its kernel has no message buffer.
    if !report["facts"]["version"].is_null() {
        fine("dmesg", dmesg)?;
    }
    if let Some(kernel) = kernel {
        let args = ["ps".as_ref(), dump, "--kernel".as_ref(), kernel.as_os_str()];
        fine("ps", run(&args).0)?;
    }
    fine("salvage", salvaged)?;
    let kept: Value = serde_json::from_slice(&kept).map_err(|e| e.to_string())?;
    if let (Some(present), Some(kept)) = (pages(report), kept["pages"]["kept"].as_u64())
        && kept < present
    {
        return Err(format!("{present} pages by verify, {kept} by salvage"));
    }
    Ok(())
}
