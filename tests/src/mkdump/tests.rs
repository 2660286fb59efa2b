//! Tests of the builder. Expected numbers are computed by hand from the format descriptions.

use super::*;

fn le32(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap())
}

fn le64(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap())
}

fn be64(bytes: &[u8], at: usize) -> u64 {
    u64::from_be_bytes(bytes[at..at + 8].try_into().unwrap())
}

/// The example of the format description: amd64 version 3 with 4 GiB and the default kernel map.
#[test]
fn offsets_match_the_format_descriptions_example() {
    let built = build_all(
        "minidump amd64 3
         avail 0x1000 0x9f000
         avail 0x100000 0x7ffe0000
         avail 0x100000000 0x180000000
         msgbuf size 98232
         page 0x100000 fill 0xaa
         page 0x100000000 fill 0xbb",
    )
    .unwrap();
    let oracle = built.oracle.unwrap();
    let sections: Vec<_> = oracle.sections.iter().map(|s| (s.1, s.2)).collect();
    let expected = [
        (0, 0x1000),
        (0x1000, 0x1_8000),
        (0x1_9000, 0x1000),
        (0x1_a000, 0x2_0000),
        (0x3_a000, 0x7f_f000),
        (0x83_9000, 0x2000),
    ];
    assert_eq!(sections, expected);
    let bytes = built.bytes;
    assert_eq!(&bytes[..24], b"minidump FreeBSD/amd64\0\0");
    let header = [
        (24, 3),
        (28, 0x1_7fb8),
        (32, 0x2_0000),
        (36, 0x7f_f000),
        (64, 0x1000),
    ];
    for (at, value) in header {
        assert_eq!(le32(&bytes, at), value, "offset {at}");
    }
    assert_eq!(le64(&bytes, 40), 0xffff_fe00_0000_0000);
    assert_eq!(le64(&bytes, 48), 0xffff_f800_0000_0000);
    assert_eq!(le64(&bytes, 56), 0xffff_fc00_0000_0000);
    // Bits 158 and 524158.
    assert_eq!(bytes[0x1_a000 + 19], 1 << 6);
    assert_eq!(bytes[0x1_a000 + 65519], 1 << 6);
    assert_eq!((bytes[0x83_9000], bytes[0x83_a000]), (0xaa, 0xbb));
    assert_eq!(bytes.len(), 0x83_b000);
    assert_eq!(le64(&bytes, 0x1_9000 + 48), 0, "the list ends with zeros");
}

const SMALL: &str = "minidump amd64 3
    kernbase 0xffffffff80000000
    kernend 0xffffffffc0000000
    avail 0x200000 0x210000
";

#[test]
fn amd64_pages_have_a_leaf_table_that_is_saved() {
    let text = format!(
        "{SMALL}
         table 0xffffffff80200000 0x207000
         map 0xffffffff80203000 0x201000 4K rw
         page 0x201000 fill 0x11"
    );
    let built = build_all(&text).unwrap();
    let oracle = built.oracle.unwrap();
    let (pmap, size) = oracle.section("pmap").unwrap();
    assert_eq!(size, 0x1000, "one page directory");
    assert_eq!(le64(&built.bytes, pmap as usize + 8), 0x20_7063);
    let table = &oracle.pages[&0x20_7000];
    // Valid, writable, accessed, modified, global, no-execute.
    assert_eq!(le64(table, 3 * 8), 0x8000_0000_0020_1163);
    assert_eq!(
        oracle.pages.keys().copied().collect::<Vec<_>>(),
        [0x20_1000, 0x20_7000]
    );
}

#[test]
fn amd64_large_pages_are_directory_entries() {
    let text = format!("{SMALL}\nmap 0xffffffff80200000 0x200000 2M rx");
    let built = build_all(&text).unwrap();
    let oracle = built.oracle.unwrap();
    let pmap = oracle.section("pmap").unwrap().0 as usize;
    assert_eq!(le64(&built.bytes, pmap + 8), 0x20_01a1);
    assert_eq!(oracle.pages.len(), 16, "its pages in dump_avail are saved");
    assert_eq!(oracle.mapped.len(), 512);

    let text = format!("{SMALL}\nmap 0xffffffff80000000 0x40000000 1G rwx");
    let built = build_all(&text).unwrap();
    for (index, value) in [(0, 0x4000_01e3), (1, 0x4020_01e3), (511, 0x7fe0_01e3)] {
        assert_eq!(le64(&built.bytes, pmap + index * 8), value);
    }
}

#[test]
fn amd64_version_1_has_an_entry_per_page_and_no_dump_avail() {
    let built = build_all(
        "minidump amd64 1
         kernbase 0xffffffff80000000
         avail 0x1000 0x10000
         map 0xffffffff80003000 0x5000 4K r
         page 0x5000 fill 1",
    )
    .unwrap();
    let oracle = built.oracle.unwrap();
    assert_eq!(oracle.section("dump_avail"), Some((0x2000, 0)));
    assert_eq!(oracle.section("bitmap"), Some((0x2000, 0x1000)));
    assert_eq!(le64(&built.bytes, 0x3000 + 24), 0x8000_0000_0000_5121);
    // Page frame 5.
    assert_eq!(built.bytes[0x2000], 1 << 5);
}

#[test]
fn arm64_blocks_become_pages_without_attributes() {
    let built = build_all(
        "minidump arm64 3
         avail 0x40000000 0x40004000
         map 0xffff000000000000 0x40000000 2M rx
         map 0xffff000000200000 0x40003000 4K r
         page 0x40003000 zero",
    )
    .unwrap();
    let oracle = built.oracle.unwrap();
    let pmap = oracle.section("pmap").unwrap().0 as usize;
    assert_eq!(oracle.section("pmap").unwrap().1, 0x2000);
    assert_eq!(le64(&built.bytes, pmap), 0x4000_0703);
    assert_eq!(le64(&built.bytes, pmap + 8), 0x4000_1703);
    assert_eq!(le64(&built.bytes, pmap + 0x1000), 0x0060_0000_4000_3783);
    assert_eq!(le64(&built.bytes, 48), 0x4000_0000, "dmapphys");
    assert_eq!(le32(&built.bytes, 76), 0);
}

#[test]
fn arm64_pages_of_16_kib_pad_every_section_to_16_kib() {
    let built = build_all(
        "minidump arm64 3
         pagesize 16K
         avail 0x800000000 0x800010000
         map 0xffff000000004000 0x800004000 16K rw
         page 0x800004000 fill 3",
    )
    .unwrap();
    let oracle = built.oracle.unwrap();
    for (name, start, size) in &oracle.sections {
        assert_eq!((start % 0x4000, *size), (0, 0x4000), "{name}");
    }
    assert_eq!(le32(&built.bytes, 76), 1);
    assert_eq!(le32(&built.bytes, 28), 0x4000 - 72);
}

#[test]
fn riscv_frames_start_at_bit_10() {
    let built = build_all(
        "minidump riscv64 2
         avail 0x80200000 0x80210000
         map 0xffffffc000000000 0x80200000 2M rx
         map 0xffffffc000200000 0x80205000 4K rw",
    )
    .unwrap();
    let oracle = built.oracle.unwrap();
    let pmap = oracle.section("pmap").unwrap().0 as usize;
    assert_eq!(le64(&built.bytes, pmap + 8), (0x80201 << 10) | 0x6b);
    assert_eq!(le64(&built.bytes, pmap + 0x1000), (0x80205 << 10) | 0xe7);
    assert_eq!(le32(&built.bytes, 72), 0x1000);
}

#[test]
fn i386_entries_are_4_bytes_and_8_with_pae() {
    let text = |pae: &str| {
        format!(
            "minidump i386{pae} 1
             avail 0x1000 0x10000
             kernbase 0x800000
             map 0x801000 0x5000 4K rw
             page 0x5000 fill 1"
        )
    };
    let plain = build(&text("")).unwrap();
    assert_eq!(le32(&plain, 36), 0x1000);
    assert_eq!(le32(&plain, 0x3000 + 4), 0x5023);
    assert_eq!(le32(&plain, 44), 0);
    let pae = build(&text("pae")).unwrap();
    assert_eq!(le64(&pae, 0x3000 + 8), 0x8000_0000_0000_5023);
    assert_eq!(le32(&pae, 44), 1);
}

#[test]
fn arm_entries_are_not_padded_to_a_page() {
    let built = build_all(
        "minidump arm 2
         avail 0x1000 0x10000
         kernend 0xc0100000
         map 0xc0001000 0x5000 4K rw
         page 0x5000 fill 9",
    )
    .unwrap();
    let oracle = built.oracle.unwrap();
    assert_eq!(oracle.section("pmap"), Some((0x4000, 0x400)));
    assert_eq!(oracle.section("data"), Some((0x4400, 0x1000)));
    assert_eq!(le32(&built.bytes, 36), 0x400);
    assert_eq!(built.bytes[0x4400], 9);
}

/// Looks `va` up in the hashed page table, as described by the Power ISA.
fn hashed_lookup(table: &[u8], vsid: u64, va: u64) -> Option<u64> {
    let page = (va & 0x0fff_ffff) >> 12;
    let groups = table.len() as u64 / 128;
    for (hash, hid) in [(vsid ^ page, 0), (!(vsid ^ page), 2)] {
        let group = (hash & (groups - 1)) as usize * 128;
        for slot in 0..8 {
            let (hi, lo) = (
                be64(table, group + slot * 16),
                be64(table, group + slot * 16 + 8),
            );
            let index = (hi & 0xf80) >> 7 == page >> 11;
            if hi & 1 == 1 && hi & 2 == hid && (hi & 0x3_ffff_ffff_f000) >> 12 == vsid && index {
                return Some(lo & 0x0fff_ffff_ffff_f000);
            }
        }
    }
    None
}

#[test]
fn powerpc64_entries_overflow_into_the_second_hash_group() {
    // Pages 2048 apart share a group of eight; the other eight use the second group.
    let mut text = "minidump powerpc64 2\navail 0x0 0x100000\n".to_owned();
    for i in 0..16u64 {
        let (va, pa) = (0xc008_0000_0000_0000u64 + i * 0x80_0000, 0x1000 * i);
        text += &format!("map {va:#x} {pa:#x} 4K rw\n");
    }
    let built = build_all(&text).unwrap();
    let oracle = built.oracle.unwrap();
    let (pmap, size) = oracle.section("pmap").unwrap();
    let table = &built.bytes[pmap as usize..(pmap + size) as usize];
    let vsid = hpt::vsid(0xc008_0000_0000_0000);
    for i in 0..16u64 {
        let va = 0xc008_0000_0000_0000u64 + i * 0x80_0000;
        assert_eq!(hashed_lookup(table, vsid, va), Some(0x1000 * i), "{va:#x}");
    }
    assert_eq!(hashed_lookup(table, vsid, 0xc008_0000_0000_1000), None);
    // The header is big endian as well.
    assert_eq!(built.bytes[64..68], [0, 0, 0, 2]);
    assert_eq!(&built.bytes[..26], b"minidump FreeBSD/powerpc64");
}

#[test]
fn bitmap_words_have_the_kernels_size_and_order() {
    let text = |arch: &str| {
        // Version 2 unless the row has a version.
        let arch = if arch.contains(' ') {
            arch.to_owned()
        } else {
            format!("{arch} 2")
        };
        format!("minidump {arch}\navail 0x0 0x40000\npage 0x1000 zero\npage 0x21000 zero\n")
    };
    for (arch, bytes) in [
        ("powerpc64", [(7, 2), (3, 2)]),
        ("powerpc64le", [(0, 2), (4, 2)]),
        ("mips", [(3, 2), (7, 2)]),
        ("mips64", [(7, 2), (3, 2)]),
        ("mips64 1", [(3, 2), (7, 2)]),
        ("powerpc64 1", [(7, 2), (3, 2)]),
        ("mipsel", [(0, 2), (4, 2)]),
        ("i386", [(0, 2), (4, 2)]),
    ] {
        let built = build_all(&text(arch)).unwrap();
        let start = built.oracle.unwrap().section("bitmap").unwrap().0 as usize;
        for (byte, value) in bytes {
            assert_eq!(built.bytes[start + byte], value, "{arch} byte {byte}");
        }
    }
}

#[test]
fn mips_frames_start_at_bit_6_and_entries_are_global() {
    let built = build_all(
        "minidump mips 2
         avail 0x0 0x10000
         map 0xc0001000 0x5000 4K r
         page 0x5000 zero",
    )
    .unwrap();
    let pmap = built.oracle.unwrap().section("pmap").unwrap().0 as usize;
    assert_eq!(built.bytes[pmap + 4..pmap + 8], [0, 0, 1, 0x5b]);
}

const RAW: &str = "raw amd64\nbytes fill 0x77 len 5000\n";

#[test]
fn live_file_ends_with_a_header_after_whole_pages() {
    let bytes = build(&format!("{RAW}container live")).unwrap();
    assert_eq!(bytes.len(), 8192 + 512);
    assert_eq!(&bytes[8192..8211], b"FreeBSD Kernel Dump");
    assert_eq!(be64(&bytes, 8192 + 40), 5000);
    assert_eq!(be64(&bytes, 8192 + 496), 5000);
    assert_eq!(bytes[5000..8192], [0; 3192]);
}

#[test]
fn device_has_a_header_at_its_end_and_one_before_the_dump() {
    let text = "raw amd64
        bytes fill 0x77 len 8192
        container device
        sector 4096
        key aes 256
        stale 3
        device_size 1M";
    let bytes = build(text).unwrap();
    let (trailing, leading) = (0x10_0000 - 4096, 0x10_0000 - 2 * 4096 - 8192 - 4096);
    assert_eq!(bytes.len(), 0x10_0000);
    assert_eq!(bytes[trailing..], bytes[leading..leading + 4096]);
    assert_eq!(&bytes[leading..leading + 19], b"FreeBSD Kernel Dump");
    assert_eq!(bytes[leading + 512..leading + 4096], [0; 3584]);
    assert_eq!(bytes[leading + 56..leading + 60], [0, 0, 0x10, 0]);
    assert_eq!(bytes[leading + 4096], 1, "AES in the key block");
    assert_ne!(
        bytes[leading + 8192..trailing],
        [0x77; 8192][..],
        "stored encrypted"
    );
    assert!(build(&format!("{RAW}container device\ndevice_size 64K")).is_err());
}

#[test]
fn device_keeps_stale_bytes_after_a_compressed_stream() {
    let text = "raw amd64
        bytes fill 0 len 0x10000
        container device
        stale 9
        compress zstd";
    let bytes = build(text).unwrap();
    let trailing = bytes.len() - 512;
    let (length, extent) = (be64(&bytes, trailing + 40), be64(&bytes, trailing + 496));
    assert_eq!(extent, 0x1_0000);
    let start = trailing - 0x1_0000;
    let stream = &bytes[start..start + length as usize];
    assert_eq!(zstd::stream::decode_all(stream).unwrap(), vec![0; 0x1_0000]);
    assert!(
        bytes[start + 512 + length as usize..trailing]
            .iter()
            .any(|byte| *byte != 0)
    );
}

#[test]
fn cleared_header_keeps_its_old_parity() {
    let whole = build(&format!("{RAW}container live")).unwrap();
    let cleared = build(&format!("{RAW}container live\ncleared")).unwrap();
    assert_eq!(&cleared[8192..8212], b"Cleared Kernel Dump\0");
    assert_eq!(cleared[8212..], whole[8212..]);
}

#[test]
fn edits_apply_in_order_at_their_stage() {
    let text = "raw powerpc64
        bytes hex 00 11 22 33 44 55 66 77
        patch payload 2 = u16 0xabcd
        flip file payload.size - 1 bit 7
        append file text \"end\"
        truncate file file.size - 6";
    // 8 bytes, plus 3, minus 6; the flipped byte is cut off.
    assert_eq!(build(text).unwrap(), [0, 0x11]);
    let text = "raw powerpc64
        bytes hex 00 11 22 33
        patch payload 2 = u16 0xabcd
        flip file payload.size - 1 bit 7
        append file text \"end\"";
    assert_eq!(build(text).unwrap(), b"\x00\x11\xab\x4dend");
}

#[test]
fn derived_values_can_be_overridden() {
    let text = format!(
        "{SMALL}
         page 0x201000 zero
         set header.bitmapsize = section.bitmap.size + 0x1000
         set header.version = 9
         set dump_avail.1 = 0xdead
         length data = 0x10"
    );
    let built = build_all(&text).unwrap();
    assert_eq!(
        (le32(&built.bytes, 32), le32(&built.bytes, 24)),
        (0x2000, 9)
    );
    assert_eq!(le64(&built.bytes, 0x2000 + 8), 0xdead);
    assert_eq!(built.bytes.len(), 0x5010);
}

#[test]
fn garbage_bits_have_pages_only_with_the_keyword() {
    let text = format!("{SMALL}\npage 0x201000 fill 1\ngarbage 16 18 pages\ngarbage 64 70");
    let built = build_all(&text).unwrap();
    assert_eq!(built.bytes[0x3000..0x3009], [2, 0, 3, 0, 0, 0, 0, 0, 0x3f]);
    assert_eq!(
        built.oracle.unwrap().section("data"),
        Some((0x5000, 0x3000))
    );
}

#[test]
fn errors_name_their_line() {
    let line = |text: &str| build(text).unwrap_err().to_string();
    assert_eq!(line("minidump vax 1"), "line 1: unknown architecture vax");
    let error = |text: &str| build(text).unwrap_err();
    assert!(matches!(
        error("# c\n\nminidump amd64 4"),
        BuildError::Value {
            line: 3,
            what: "version",
            found: 4,
            ..
        }
    ));
    assert!(matches!(
        error("raw amd64\nbites zero"),
        BuildError::UnknownName { line: 2, kind: "statement", name } if name == "bites"
    ));
    assert!(matches!(
        error("raw amd64\nbytes zero len 4 5"),
        BuildError::Syntax { line: 2, found, .. } if found == "5"
    ));
    assert!(line("raw amd64\nbytes zero len 1\nset kdh.nothing = 1").starts_with("line 3:"));
    assert!(line("minidump amd64 3\navail 0x2000 0x1000").starts_with("line 2:"));
    assert!(line("").starts_with("line 0:"));
}

#[test]
fn full_dump_is_an_elf_core_with_a_segment_per_range() {
    let bytes = build("fulldump amd64\navail 0x1000 0x3000\npage 0x2000 fill 5").unwrap();
    assert_eq!(bytes.len(), 0x3000);
    assert_eq!(&bytes[..8], b"\x7fELF\x02\x01\x01\xff");
    assert_eq!(bytes[16..20], [4, 0, 62, 0]);
    let phdr = 64;
    assert_eq!(le64(&bytes, phdr + 8), 0x1000, "p_offset");
    assert_eq!(le64(&bytes, phdr + 24), 0x1000, "p_paddr");
    assert_eq!(le64(&bytes, phdr + 32), 0x2000, "p_filesz");
    assert_eq!(bytes[0x2000], 5);
}

#[test]
fn info_has_the_lines_that_savecore_writes() {
    let text = format!("{RAW}container live\ninfo \"/dev/mem\" bounds 7 status good");
    let info = build_all(&text).unwrap().info.unwrap();
    let lines: Vec<&str> = info.lines().collect();
    assert_eq!(lines.len(), 14);
    assert_eq!(lines[0], "Dump header from device: /dev/mem");
    assert_eq!(lines[3], "  Dump Length: 5000");
    assert_eq!(lines[6], "  Dumptime: 2023-11-14 22:13:20 +0000");
    assert_eq!(lines[9], "  Version String: FreeBSD 14.1-RELEASE GENERIC");
    assert_eq!(lines[10], "  Panic String: ");
    assert_eq!(lines[12], "  Bounds: 7");
}
