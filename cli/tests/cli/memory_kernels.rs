//! Memory use does not depend on sizes that a kernel file claims: verbs that read one run in an address
//! space of 512 MiB.

use std::fs::File;
use std::io::{Seek, SeekFrom, Write};
use std::path::Path;

use crate::harness::{machine, run, run_within};

/// The address space of a run.
const MIB: u64 = 512;

const SHT_PROGBITS: u32 = 1;
const SHT_SYMTAB: u32 = 2;
const SHT_STRTAB: u32 = 3;
const SHF_COMPRESSED: u64 = 0x800;
/// `ELFCOMPRESS_ZSTD`
const ZSTD: u32 = 2;

/// A section: name, type, flags, `sh_link`, contents. A longer size than the contents is a hole in the
/// file.
struct Section {
    name: &'static str,
    kind: u32,
    flags: u64,
    link: u32,
    bytes: Vec<u8>,
    size: u64,
}

fn section(name: &'static str, kind: u32, flags: u64, bytes: &[u8]) -> Section {
    Section {
        name,
        kind,
        flags,
        link: 0,
        bytes: bytes.to_vec(),
        size: bytes.len() as u64,
    }
}

/// Writes an ELF file of amd64. `more` is a number of further section headers, all zero.
fn write_elf(path: &Path, sections: &[Section], more: u64) {
    let mut file = File::create(path).unwrap();
    let mut names = vec![0];
    let mut headers = vec![[0; 64]];
    let mut at = 64;
    let header = |name: u32, section: &Section, at: u64| {
        let mut bytes = [0; 64];
        bytes[..4].copy_from_slice(&name.to_le_bytes());
        bytes[4..8].copy_from_slice(&section.kind.to_le_bytes());
        bytes[8..16].copy_from_slice(&section.flags.to_le_bytes());
        bytes[24..32].copy_from_slice(&at.to_le_bytes());
        bytes[32..40].copy_from_slice(&section.size.to_le_bytes());
        bytes[40..44].copy_from_slice(&section.link.to_le_bytes());
        bytes
    };
    for section in sections {
        file.seek(SeekFrom::Start(at)).unwrap();
        file.write_all(&section.bytes).unwrap();
        headers.push(header(names.len() as u32, section, at));
        names.extend(section.name.bytes().chain([0]));
        at += section.size;
    }
    let strings = section(".shstrtab", SHT_STRTAB, 0, &names);
    headers.push(header(0, &strings, at));
    file.seek(SeekFrom::Start(at)).unwrap();
    file.write_all(&strings.bytes).unwrap();
    at += strings.size;
    // Section header 0 has the number of sections and the index of their names.
    let count = headers.len() as u64 + more;
    headers[0][32..40].copy_from_slice(&count.to_le_bytes());
    let names = headers.len() as u32 - 1;
    headers[0][40..44].copy_from_slice(&names.to_le_bytes());
    file.seek(SeekFrom::Start(at)).unwrap();
    file.write_all(headers.as_flattened()).unwrap();
    file.set_len(at + 64 * count).unwrap();
    let mut head = [0; 64];
    head[..8].copy_from_slice(b"\x7fELF\x02\x01\x01\x09");
    head[16..20].copy_from_slice(&[2, 0, 62, 0]);
    head[20] = 1;
    head[40..48].copy_from_slice(&at.to_le_bytes());
    head[52..64].copy_from_slice(&[64, 0, 56, 0, 0, 0, 64, 0, 0, 0, 0xff, 0xff]);
    file.seek(SeekFrom::Start(0)).unwrap();
    file.write_all(&head).unwrap();
}

/// A section header of `SHF_COMPRESSED` that claims `size` bytes, and a zstd frame of `content`.
fn compressed(size: u64, content: &[u8]) -> Vec<u8> {
    let mut bytes = ZSTD.to_le_bytes().to_vec();
    bytes.extend([0; 4]);
    bytes.extend(size.to_le_bytes());
    bytes.extend(1_u64.to_le_bytes());
    bytes.extend(zstd::encode_all(content, 1).unwrap());
    bytes
}

/// Kernel files in `dir`. Each has a symbol `hz`; the second value is whether the symbols or sections
/// exceed the limit.
fn hostile(dir: &Path) -> Vec<(String, bool)> {
    let symbol = |name: u32| {
        let mut bytes = [0; 24];
        bytes[..4].copy_from_slice(&name.to_le_bytes());
        bytes[4] = 0x11;
        bytes[6..8].copy_from_slice(&0xfff1_u16.to_le_bytes());
        bytes[8..16].copy_from_slice(&0xffff_ffff_8020_0000_u64.to_le_bytes());
        bytes
    };
    let table = |bytes: &[u8], size: u64| Section {
        link: 2,
        size,
        ..section(".symtab", SHT_SYMTAB, 0, bytes)
    };
    let with = |more: Vec<Section>| {
        let strings = section(".strtab", SHT_STRTAB, 0, b"\0hz\0");
        let mut all = vec![table(&symbol(1), 24), strings];
        all.extend(more);
        all
    };
    let debug = |info: Vec<u8>, flags: u64, abbreviations: &[u8]| {
        with(vec![
            section(".debug_info", SHT_PROGBITS, flags, &info),
            section(".debug_abbrev", SHT_PROGBITS, 0, abbreviations),
        ])
    };
    // A unit of DWARF 4 with one entry, DWARF 4, 7.5.1.1.
    let unit = [8, 0, 0, 0, 4, 0, 0, 0, 0, 0, 8, 1];
    // Abbreviations without attributes: code, tag, no children, end of the attributes.
    let mut abbreviations = Vec::new();
    for code in 0..1 << 20 {
        let code = [code & 0x7f | 0x80, code >> 7 & 0x7f | 0x80, code >> 14];
        abbreviations.extend(code.map(|byte: u32| byte as u8));
        abbreviations.extend([0x11, 0, 0, 0]);
    }
    abbreviations[..3].copy_from_slice(&[0x81, 0x80, 0]);
    abbreviations.push(0);
    // Names that overlap: each symbol begins one byte after the previous one.
    let overlapping: Vec<u8> = (1..1 << 14).flat_map(symbol).collect();
    let long = [&[b'a'; 1 << 14][..], &[0]].concat();
    let zeros = vec![0; 32 << 20];
    let (few, claim) = (b"\x01\x11\0\0\0\0", 3 << 30);
    let cases = [
        ("symbols", with(Vec::new()), 0, true),
        ("sections", with(Vec::new()), 4 << 20, true),
        (
            "claim",
            debug(compressed(claim, b""), SHF_COMPRESSED, few),
            0,
            false,
        ),
        (
            "bomb",
            debug(compressed(4096, &zeros), SHF_COMPRESSED, few),
            0,
            false,
        ),
        (
            "abbreviations",
            debug(unit.repeat(1000), 0, &abbreviations),
            0,
            false,
        ),
        (
            "names",
            vec![
                table(&overlapping, overlapping.len() as u64),
                section(".strtab", SHT_STRTAB, 0, &long),
            ],
            0,
            false,
        ),
    ];
    let write = |(name, mut sections, more, exceeds): (&str, Vec<Section>, u64, bool)| {
        if name == "symbols" {
            sections[0].size = 24 * (10 << 20);
        }
        let path = dir.join(name);
        write_elf(&path, &sections, more);
        (path.to_str().unwrap().to_owned(), exceeds)
    };
    cases.into_iter().map(write).collect()
}

#[test]
fn no_verb_aborts_on_a_kernel_file_with_large_claims() {
    let dir = tempfile::tempdir().unwrap();
    let dump = dir.path().join("dump");
    let (dump, tiny) = (dump.to_str().unwrap(), machine("tiny"));
    run([
        "take",
        "-q",
        "--machine",
        tiny.to_str().unwrap(),
        "-o",
        dump,
    ])
    .expect(0);
    for (kernel, exceeds) in hostile(dir.path()) {
        let verbs: [&[&str]; 4] = [
            &["ps", dump, "--force-kernel", "--kernel", &kernel],
            &["triage", dump, "--force-kernel", "--kernel", &kernel],
            &[
                "read",
                dump,
                "hz",
                "4",
                "--force-kernel",
                "--kernel",
                &kernel,
            ],
            &["verify", "--deep", dump, "--kernel", &kernel],
        ];
        for args in verbs {
            let run = run_within(MIB, args);
            let is_code = matches!(run.code, 0..=3 | 63);
            assert!(is_code, "{args:?}: {} {}", run.code, run.err);
            assert!(run.out.len() < 1 << 20, "{args:?}: {}", run.out.len());
            if exceeds {
                assert_eq!(run.code, 1, "{args:?}: {}", run.err);
                assert!(run.err.contains("raise --memory"), "{args:?}: {}", run.err);
            }
        }
    }
}
