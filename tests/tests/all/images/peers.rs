//! Images against other programs that read or write their formats.

use std::io::Write as _;
use std::process::{Command, Stdio};

use livecore_tests::mkimage::{self, Codec, Kdump};

use super::common::{check, memory, open};

/// Whether a program is installed; prints a message if not.
fn has(program: &str) -> bool {
    let found = Command::new(program)
        .arg("--version")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    found.is_ok() || skipped(program)
}

/// Prints that a test is skipped without this program.
pub(crate) fn skipped(program: &str) -> bool {
    let _ = writeln!(std::io::stderr(), "skipped: {program} is not installed");
    false
}

#[test]
fn makedumpfile_rearranges_flattened_files_to_the_same_kdump() {
    if !has("makedumpfile") {
        return;
    }
    let memory = memory();
    let kdump = mkimage::kdump(&memory, &Kdump::default());
    let flattened = mkimage::flatten(&kdump, 20_000, true);
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("kdump");
    let mut child = Command::new("makedumpfile")
        .arg("-R")
        .arg(&out)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(&flattened).unwrap();
    assert!(child.wait().unwrap().success());
    let rearranged = std::fs::read(&out).unwrap();
    assert!(
        rearranged == kdump,
        "makedumpfile's output differs from the original"
    );
    check(
        "makedumpfile -R",
        &*open(rearranged).unwrap().memory,
        &memory,
    );
}

/// A block of LZO1X, taken from lzop's output. That has a header (of fixed length without a name),
/// and for each block length, stored length, checksum and bytes.
fn lzop(page: &[u8]) -> Option<Vec<u8>> {
    let mut child = Command::new("lzop")
        .args(["-1", "-c", "--no-name"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(page).unwrap();
    let out = child.wait_with_output().unwrap();
    assert!(out.status.success());
    let file = out.stdout;
    // Find the block header by its length field.
    let length = (page.len() as u32).to_be_bytes();
    let at = file.windows(4).position(|w| w == length)?;
    let stored = u32::from_be_bytes(file[at + 4..at + 8].try_into().unwrap()) as usize;
    // The file ends with four zeros.
    let start = file.len() - 4 - stored;
    (stored < page.len()).then(|| file[start..start + stored].to_vec())
}

#[test]
fn kdump_pages_compressed_by_lzop_are_read() {
    if !has("lzop") {
        return;
    }
    let memory = memory();
    let plain = mkimage::kdump(
        &memory,
        &Kdump {
            codecs: &[Codec::Plain],
            share_zeros: false,
            ..Kdump::default()
        },
    );
    // The page descriptors are before the first page; set the LZO flag in each.
    let pages = memory.pages().collect::<Vec<_>>();
    let first = plain.len() - pages.len() * 4096;
    let mut kdump = plain[..first].to_vec();
    let mut count = 0;
    for (index, (_, page)) in pages.iter().enumerate() {
        let (flag, bytes) = match lzop(page) {
            Some(bytes) => (2_u32, bytes),
            None => (0, page.to_vec()),
        };
        count += flag / 2;
        let at = first - (pages.len() - index) * 24;
        let offset = kdump.len() as u64;
        kdump[at..at + 8].copy_from_slice(&offset.to_le_bytes());
        kdump[at + 8..at + 12].copy_from_slice(&(bytes.len() as u32).to_le_bytes());
        kdump[at + 12..at + 16].copy_from_slice(&flag.to_le_bytes());
        kdump.extend(bytes);
    }
    assert!(count > 20, "{count} pages are LZO");
    check("lzop", &*open(kdump).unwrap().memory, &memory);
}
