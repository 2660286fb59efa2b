//! Images of whole disks: GPT, MBR and BSD labels.
//!
//! UEFI 2.10 section 5.3; FreeBSD `sys/sys/disk/bsd.h`. Shares no code with the code under test.

use super::append::{pad, put};

/// A partition type and its contents.
pub type Part<'a> = (&'a str, &'a [u8]);

/// Sectors before the first partition.
const FIRST: usize = 64;

/// The bit at a time definition of CRC-32.
fn crc(bytes: &[u8]) -> u32 {
    let mut crc = u32::MAX;
    for byte in bytes {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = (crc >> 1) ^ (0xedb8_8320 & 0_u32.wrapping_sub(crc & 1));
        }
    }
    !crc
}

/// A GUID as text, in the mixed byte order of GPT.
fn guid(text: &str) -> [u8; 16] {
    let hex: Vec<u8> = text
        .split('-')
        .enumerate()
        .flat_map(|(group, digits)| {
            let mut bytes: Vec<u8> = (0..digits.len() / 2)
                .filter_map(|i| u8::from_str_radix(&digits[2 * i..2 * i + 2], 16).ok())
                .collect();
            if group < 3 {
                bytes.reverse();
            }
            bytes
        })
        .collect();
    let mut out = [0; 16];
    out.copy_from_slice(&hex);
    out
}

/// The GUID of a type of FreeBSD's gpart(8).
fn gpt_type(kind: &str) -> [u8; 16] {
    guid(match kind {
        "freebsd-swap" => "516e7cb5-6ecf-11d6-8ff8-00022d09712b",
        "freebsd" => "516e7cb4-6ecf-11d6-8ff8-00022d09712b",
        "efi" => "c12a7328-f81f-11d2-ba4b-00a0c93ec93b",
        _ => "516e7cba-6ecf-11d6-8ff8-00022d09712b",
    })
}

/// Where the parts are: first sector and number of sectors.
fn layout(sector: usize, first: usize, parts: &[Part<'_>]) -> Vec<(usize, usize)> {
    let mut at = first;
    let mut all = Vec::new();
    for (_, content) in parts {
        let count = content.len().div_ceil(sector);
        all.push((at, count));
        at += count + 8;
    }
    all
}

/// A disk with a GPT. The parts are the partitions 1, 2, …
#[must_use]
pub fn gpt(sector: usize, parts: &[Part<'_>]) -> Vec<u8> {
    let places = layout(sector, FIRST, parts);
    let end = places.last().map_or(FIRST, |(at, count)| at + count);
    let table_sectors = (128 * 128) / sector;
    let total = end + 8 + table_sectors + 1;
    let mut table = Vec::new();
    for (number, ((kind, _), (at, count))) in parts.iter().zip(&places).enumerate() {
        table.extend(gpt_type(kind));
        table.extend([number as u8 + 1; 16]);
        put(&mut table, 8, &[*at as u64, (at + count - 1) as u64, 0]);
        table.resize((number + 1) * 128, 0);
    }
    table.resize(128 * 128, 0);
    let header = |own: usize, other: usize, at: usize| {
        let mut header = b"EFI PART".to_vec();
        put(&mut header, 4, &[0x1_0000, 92, 0, 0]);
        put(
            &mut header,
            8,
            &[own as u64, other as u64, FIRST as u64, end as u64],
        );
        header.extend([0x77; 16]);
        put(&mut header, 8, &[at as u64]);
        put(&mut header, 4, &[128, 128, u64::from(crc(&table))]);
        let sum = crc(&header);
        header[16..20].copy_from_slice(&sum.to_le_bytes());
        header
    };
    let mut disk = mbr_sector(&[(0xee, 1, total - 1)]);
    disk.resize(total * sector, 0);
    let mut write = |at: usize, bytes: &[u8]| {
        disk[at * sector..at * sector + bytes.len()].copy_from_slice(bytes);
    };
    write(1, &header(1, total - 1, 2));
    write(2, &table);
    write(total - 1 - table_sectors, &table);
    write(total - 1, &header(total - 1, 1, total - 1 - table_sectors));
    for ((_, content), (at, _)) in parts.iter().zip(places) {
        write(at, content);
    }
    disk
}

fn mbr_sector(entries: &[(u8, usize, usize)]) -> Vec<u8> {
    let mut out = vec![0x90; 446];
    for (kind, at, count) in entries {
        out.extend([0, 0, 2, 0, *kind, 0xff, 0xff, 0xff]);
        put(&mut out, 4, &[*at as u64, *count as u64]);
    }
    out.resize(510, 0);
    out.extend([0x55, 0xaa]);
    out
}

/// A disk with an MBR. The parts, at most 4, are the slices; type `freebsd` or a number in hexadecimal.
#[must_use]
pub fn mbr(sector: usize, parts: &[Part<'_>]) -> Vec<u8> {
    let places = layout(sector, FIRST, parts);
    let entries: Vec<_> = parts
        .iter()
        .zip(&places)
        .map(|((kind, _), (at, count))| {
            let kind = match *kind {
                "freebsd" => 0xa5,
                kind => u8::from_str_radix(kind, 16).unwrap_or(0x83),
            };
            (kind, *at, *count)
        })
        .collect();
    let mut disk = mbr_sector(&entries);
    let end = places.last().map_or(FIRST, |(at, count)| at + count + 3);
    disk.resize(end * sector, 0);
    for ((_, content), (at, _)) in parts.iter().zip(places) {
        disk[at * sector..at * sector + content.len()].copy_from_slice(content);
    }
    disk
}

/// A slice, or a disk without slices, with a BSD label. The parts are the partitions a, b, d, e, …
/// `base` is added to all offsets, as old programs did with the start of the slice.
#[must_use]
pub fn bsd(sector: usize, base: usize, parts: &[Part<'_>]) -> Vec<u8> {
    let places = layout(sector, 16, parts);
    let total = places.last().map_or(16, |(at, count)| at + count + 2);
    let mut entries: Vec<(u64, u64, u8)> = parts
        .iter()
        .zip(&places)
        .map(|((kind, _), (at, count))| {
            let kind = match *kind {
                "swap" => 1,
                "zfs" => 27,
                _ => 7,
            };
            (*count as u64, (at + base) as u64, kind)
        })
        .collect();
    while entries.len() < 2 {
        entries.push((0, 0, 0));
    }
    entries.insert(2, (total as u64, base as u64, 0));
    while entries.len() < 8 {
        entries.push((0, 0, 0));
    }
    let mut label = Vec::new();
    put(&mut label, 4, &[0x8256_4557]);
    label.resize(40, 0);
    put(
        &mut label,
        4,
        &[sector as u64, 63, 255, 1, 63 * 255, total as u64],
    );
    label.resize(132, 0);
    put(&mut label, 4, &[0x8256_4557]);
    put(&mut label, 2, &[0, entries.len() as u64]);
    put(&mut label, 4, &[8192, 0]);
    for (count, at, kind) in &entries {
        put(&mut label, 4, &[*count, *at, 0]);
        label.extend([*kind, 0, 0, 0]);
    }
    let sum = label
        .chunks(2)
        .fold(0, |sum, word| sum ^ u16::from_le_bytes([word[0], word[1]]));
    label[136..138].copy_from_slice(&sum.to_le_bytes());
    let mut disk = vec![0; sector];
    disk.extend(label);
    pad(&mut disk, sector);
    disk.resize(total * sector, 0);
    for ((_, content), (at, _)) in parts.iter().zip(places) {
        disk[at * sector..at * sector + content.len()].copy_from_slice(content);
    }
    disk
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn crc_has_the_known_check_value() {
        assert_eq!(crc(b"123456789"), 0xcbf4_3926);
    }

    #[test]
    fn guids_are_stored_in_mixed_order() {
        let stored = guid("516e7cb5-6ecf-11d6-8ff8-00022d09712b");
        assert_eq!(stored[..6], [0xb5, 0x7c, 0x6e, 0x51, 0xcf, 0x6e]);
        assert_eq!(stored[8..], [0x8f, 0xf8, 0, 2, 0x2d, 9, 0x71, 0x2b]);
    }
}
