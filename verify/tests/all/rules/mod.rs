//! A minimal dump for each rule that breaks it. The files in `tests/all/rules` are named for the rules.
//!
//! A file is a recipe of the independent builder. Lines that begin with `#!` are instructions for
//! this test:
//!
//! | line                 | meaning                                                                  |
//! |----------------------|--------------------------------------------------------------------------|
//! | `also RULE...`       | other rules that the dump breaks                                         |
//! | `seal CODEC FRAME`   | seal the payload in frames of FRAME bytes                                |
//! | `record TYPE HEX...` | add a record to the seal's attachment; before `seal`                     |
//! | `copy N`             | copy the first N bytes to the seal's parts; before `seal`                |
//! | `unproven START LEN` | add a range to the list of unproven ranges; before `seal`                |
//! | `xor BASE+N HH`      | change a byte; BASE is `file`, `parts`, `seal`, `attachment`, `index`, `footer` or `end` |
//! | `redigest [PART]`    | update the digest of `attachment`, `index` or by default the seal's header |
//! | `drop N`             | remove the first N bytes of the file                                     |
//! | `info NAME = VALUE`  | change a line of the info file                                           |
//! | `info-text TEXT`     | replace the info file                                                    |
//! | `elf LINE`           | add a line to the kernel's recipe                                        |
//! | `key`                | decrypt the one-time key of the builder                                 |
//! | `key-file`           | pass the key block as the content of the key file                       |
//! | `deep`               | verify with `Depth::Deep`                                                |
//! | `memory N`           | set the memory limit to N bytes                                          |

use crate::common;
use livecore_kernel::verifier::ElfFacts;

use std::collections::BTreeSet;
use std::path::Path;

use common::{describe, seal_parts, verify};
use livecore_compress::Codec;
use livecore_minidump::KernelElf;
use livecore_tests::{mkdump, mkelf};
use livecore_verify::{Depth, Group, KernelFacts, OneTimeKeys, Options};
use xxhash_rust::xxh64::xxh64;

/// A note on most of these dumps: their kernel map is one page directory, to keep them small.
const SMALL: &str = "MD-KERNBASE-LAYOUT";

struct Case {
    rule: String,
    bytes: Vec<u8>,
    info: Option<String>,
    kernel: Option<KernelElf>,
    also: BTreeSet<String>,
    /// Whether the verifier has the private key.
    key: bool,
    key_file: Option<Vec<u8>>,
    deep: bool,
    memory: Option<u64>,
}

/// The one-time key of all dumps that the builder encrypts.
struct BuilderKey;

impl OneTimeKeys for BuilderKey {
    fn decrypt(&self, _: &[u8]) -> Result<[u8; 32], String> {
        Ok(std::array::from_fn(|i| 0xc0 + i as u8))
    }
}

fn find(bytes: &[u8], what: &[u8]) -> usize {
    bytes
        .windows(what.len())
        .position(|w| w == what)
        .unwrap_or_else(|| panic!("no {}", what.escape_ascii()))
}

fn number(bytes: &[u8], at: usize, len: usize) -> usize {
    bytes[at..at + len]
        .iter()
        .rev()
        .fold(0, |n, b| n << 8 | usize::from(*b))
}

/// Start of a part of the file.
fn base(bytes: &[u8], name: &str) -> usize {
    let seal = || find(bytes, b"LVCRSEAL");
    match name {
        "file" => 0,
        "end" => bytes.len(),
        "parts" => find(bytes, b"LVCRPART"),
        "seal" => seal(),
        "attachment" => seal() + 72,
        "index" => seal() + 72 + number(bytes, seal() + 40, 4),
        "footer" => find(bytes, b"LVCRFOOT"),
        other => panic!("no part {other}"),
    }
}

fn offset(bytes: &[u8], text: &str) -> usize {
    let sign = text.find(['+', '-']).unwrap();
    let distance: usize = text[sign + 1..].parse().unwrap();
    let base = base(bytes, &text[..sign]);
    match &text[sign..=sign] {
        "+" => base + distance,
        _ => base - distance,
    }
}

fn redigest(bytes: &mut [u8], part: Option<&str>) {
    let seal = base(bytes, "seal");
    let attachment_len = number(bytes, seal + 40, 4);
    let index = seal + 72 + attachment_len;
    let (range, at) = match part {
        Some("attachment") => (seal + 72..index, seal + 48),
        Some("index") => (index..index + 12 * number(bytes, seal + 32, 8), seal + 56),
        _ => (seal..seal + 64, seal + 64),
    };
    let digest = xxh64(&bytes[range], 0);
    bytes[at..at + 8].copy_from_slice(&digest.to_le_bytes());
}

fn case(path: &Path) -> Case {
    let text = std::fs::read_to_string(path).unwrap();
    let rule = path.file_stem().unwrap().to_str().unwrap().to_string();
    let built = mkdump::build_all(&text).unwrap_or_else(|e| panic!("{rule}: {e}"));
    let mut case = Case {
        rule,
        bytes: built.bytes,
        info: built.info,
        kernel: None,
        also: BTreeSet::new(),
        key: false,
        key_file: None,
        deep: false,
        memory: None,
    };
    let mut kernel = String::new();
    let mut records = Vec::new();
    let (mut copy, mut unproven) = (0, Vec::new());
    for line in text.lines().filter_map(|line| line.strip_prefix("#! ")) {
        let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
        match word {
            "key" => case.key = true,
            "key-file" => case.key_file.clone_from(&built.key),
            "also" => case.also.extend(rest.split(' ').map(str::to_string)),
            "seal" => {
                let (codec, frame) = rest.split_once(' ').unwrap();
                let codec = match codec {
                    "gzip" => Codec::Gzip,
                    "zstd" => Codec::Zstd,
                    _ => Codec::None,
                };
                let frame = frame.parse().unwrap();
                case.bytes = seal_parts(&built.payload, codec, frame, &records, copy, &unproven);
            }
            "copy" => copy = rest.parse().unwrap(),
            "unproven" => {
                let (start, len) = rest.split_once(' ').unwrap();
                unproven.push([start, len].map(|n| n.parse().unwrap()));
            }
            "record" => {
                let (kind, hex) = rest.split_once(' ').unwrap();
                let bytes = hex.split(' ').map(|b| u8::from_str_radix(b, 16).unwrap());
                records.push((kind.parse().unwrap(), bytes.collect()));
            }
            "xor" => {
                let (at, mask) = rest.split_once(' ').unwrap();
                let at = offset(&case.bytes, at);
                case.bytes[at] ^= u8::from_str_radix(mask, 16).unwrap();
            }
            "redigest" => redigest(&mut case.bytes, Some(rest).filter(|r| !r.is_empty())),
            "drop" => {
                let drop: usize = rest.parse().unwrap();
                case.bytes.drain(..drop);
            }
            "info" => {
                let (name, value) = rest.split_once(" = ").unwrap();
                let start = format!("  {name}: ");
                let info = case.info.take().unwrap();
                let lines = info.lines().map(|line| match line.starts_with(&start) {
                    true => format!("{start}{value}\n"),
                    false => format!("{line}\n"),
                });
                case.info = Some(lines.collect());
            }
            "info-text" => case.info = Some(rest.to_string()),
            "elf" => {
                kernel.push_str(rest);
                kernel.push('\n');
            }
            "deep" => case.deep = true,
            "memory" => case.memory = Some(rest.parse().unwrap()),
            other => panic!("{}: no instruction {other}", case.rule),
        }
    }
    if !kernel.is_empty() {
        let bytes = mkelf::build(&kernel).unwrap_or_else(|e| panic!("{}: {e}", case.rule));
        case.kernel = Some(KernelElf::from_bytes(bytes).unwrap());
    }
    case
}

fn cases() -> Vec<Case> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/all/rules");
    let mut paths: Vec<_> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|e| e == "dump"))
        .collect();
    paths.sort();
    paths.iter().map(|path| case(path)).collect()
}

#[test]
fn every_rule_has_a_dump_that_breaks_only_that_rule() {
    let mut wrong = Vec::new();
    let mut covered = BTreeSet::new();
    for case in cases() {
        let kernel = case.kernel.as_ref().map(ElfFacts);
        let options = Options::default()
            .name(case.rule.clone())
            .depth(if case.deep {
                Depth::Deep
            } else {
                Depth::Default
            })
            .kernel(kernel.as_ref().map(|kernel| kernel as &dyn KernelFacts))
            .info(case.info.as_deref())
            .keys(case.key.then_some(&BuilderKey as &dyn OneTimeKeys))
            .key_file(case.key_file.as_deref())
            .memory(case.memory.unwrap_or(Options::default().memory));
        let report = verify(&case.bytes, &options);
        let mut broken: BTreeSet<_> = report
            .outcomes
            .iter()
            .filter(|(_, outcome)| outcome.broken > 0)
            .map(|(id, _)| (*id).to_string())
            .collect();
        let mut expected = case.also.clone();
        expected.insert(case.rule.clone());
        if !expected.contains(SMALL) {
            broken.remove(SMALL);
        }
        if broken != expected {
            wrong.push(format!(
                "expected {expected:?}, broken {broken:?}\n{}",
                describe(&report)
            ));
        }
        covered.insert(case.rule);
    }
    assert!(
        wrong.is_empty(),
        "{} wrong:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
    let all: BTreeSet<_> = livecore_verify::rules::all()
        .map(|rule| rule.id.to_string())
        .collect();
    assert_eq!(
        covered, all,
        "rules without a dump, or dumps without a rule"
    );
}

#[test]
fn filters_select_the_rules_that_are_reported() {
    for case in cases() {
        let kernel = case.kernel.as_ref().map(ElfFacts);
        for skip in [true, false] {
            let mut options = Options::default()
                .info(case.info.as_deref())
                .kernel(kernel.as_ref().map(|kernel| kernel as &dyn KernelFacts));
            match skip {
                true => options.filter.skip = vec![case.rule.to_lowercase()],
                false => options.filter.only = vec![case.rule.clone()],
            }
            let report = verify(&case.bytes, &options);
            let skipped = report.outcomes.keys().all(|id| (*id != case.rule) == skip);
            assert!(skipped, "{}: {:?}", case.rule, report.outcomes);
        }
    }
}

#[test]
fn quick_applies_the_rules_about_headers_and_seals() {
    // Rules that need a decoded frame, or the end of a stream that does not state it.
    let slow = ["SEAL-INDEX", "SEAL-SEEK-TABLE", "KDH-DUMPEXTENT"];
    let mut checked = 0;
    for case in cases() {
        let rule = livecore_verify::rules::find(&case.rule).unwrap();
        let cheap =
            matches!(rule.group, Group::Container | Group::Header) || rule.id.starts_with("SEAL-");
        if !cheap || slow.contains(&rule.id) {
            continue;
        }
        let options = Options::default()
            .depth(Depth::Quick)
            .info(case.info.as_deref())
            .keys(case.key.then_some(&BuilderKey as &dyn OneTimeKeys))
            .key_file(case.key_file.as_deref());
        let report = verify(&case.bytes, &options);
        let broken = report.outcomes.get(rule.id).is_some_and(|o| o.broken > 0);
        assert!(broken, "{}: {}", rule.id, describe(&report));
        checked += 1;
    }
    assert!(checked > 35, "{checked}");
}
