//! Partition tables: MBR, GPT and BSD labels.
//!
//! FreeBSD `sys/sys/disk/mbr.h`, `sys/sys/disk/gpt.h`, `sys/sys/disk/bsd.h`; `sys/geom/part/g_part_bsd.c`.
//! All numbers are little-endian. Offsets of partitions are in sectors of the disk.

use crate::{Field, at};

/// `DOSMAGICOFFSET`: the signature in the first sector.
pub const MBR_SIGNATURE: Field = at(510, 2);
/// `DOSMAGIC`
pub const MBR_MAGIC: u64 = 0xaa55;
/// `DOSPARTOFF`: the entries.
pub const MBR_ENTRIES: usize = 446;
/// `DOSPARTSIZE`
pub const MBR_ENTRY_SIZE: usize = 16;
/// `NDOSPART`
pub const MBR_ENTRY_COUNT: usize = 4;
/// `dp_flag`: 0, or 0x80 for the active partition.
pub const MBR_FLAG: Field = at(0, 1);
/// `dp_typ`
pub const MBR_TYPE: Field = at(4, 1);
/// `dp_start`: first sector.
pub const MBR_START: Field = at(8, 4);
/// `dp_size`: number of sectors.
pub const MBR_SIZE: Field = at(12, 4);
/// `DOSPTYP_386BSD`: a slice with a BSD label.
pub const MBR_FREEBSD: u64 = 0xa5;
/// `DOSPTYP_PMBR`: the disk has a GPT.
pub const MBR_PROTECTIVE: u64 = 0xee;

/// `GPT_HDR_SIG`
pub const GPT_MAGIC: [u8; 8] = *b"EFI PART";
/// `hdr_size`
pub const GPT_HEADER_SIZE: Field = at(12, 4);
/// `hdr_crc_self`: CRC-32 of the header with zeros here.
pub const GPT_HEADER_CRC: Field = at(16, 4);
/// `hdr_lba_self`
pub const GPT_SELF: Field = at(24, 8);
/// `hdr_lba_table`
pub const GPT_TABLE: Field = at(72, 8);
/// `hdr_entries`
pub const GPT_ENTRIES: Field = at(80, 4);
/// `hdr_entsz`
pub const GPT_ENTRY_SIZE: Field = at(84, 4);
/// `hdr_crc_table`: CRC-32 of all entries.
pub const GPT_TABLE_CRC: Field = at(88, 4);
/// Size of the defined part of the header.
pub const GPT_HEADER_MIN: usize = 92;
/// Size of `struct gpt_ent`.
pub const GPT_ENTRY_MIN: usize = 128;
/// `ent_type`
pub const GPT_TYPE: Field = at(0, 16);
/// `ent_lba_start`
pub const GPT_START: Field = at(32, 8);
/// `ent_lba_end`: the last sector.
pub const GPT_END: Field = at(40, 8);
/// The end of `GPT_ENT_TYPE_FREEBSD*` after the first byte, as stored.
pub const GPT_FREEBSD_TAIL: [u8; 15] = [
    0x7c, 0x6e, 0x51, 0xcf, 0x6e, 0xd6, 0x11, 0x8f, 0xf8, 0x00, 0x02, 0x2d, 0x09, 0x71, 0x2b,
];
/// First byte of `GPT_ENT_TYPE_FREEBSD`: a partition with a BSD label.
pub const GPT_FREEBSD: u8 = 0xb4;
/// First byte of `GPT_ENT_TYPE_FREEBSD_SWAP`.
pub const GPT_FREEBSD_SWAP: u8 = 0xb5;

/// Sector of the label in its disk or slice.
pub const BSD_SECTOR: u64 = 1;
/// `BSD_MAGIC`
pub const BSD_MAGIC: u64 = 0x8256_4557;
/// `d_magic`
pub const BSD_MAGIC_FIELD: Field = at(0, 4);
/// `d_secsize`
pub const BSD_SECTOR_SIZE: Field = at(40, 4);
/// `d_magic2`
pub const BSD_MAGIC2_FIELD: Field = at(132, 4);
/// `d_npartitions`
pub const BSD_COUNT: Field = at(138, 2);
/// `BSD_NPARTS_MAX`
pub const BSD_COUNT_MAX: u64 = 20;
/// `d_partitions`
pub const BSD_ENTRIES: usize = 148;
/// Size of `struct partition`.
pub const BSD_ENTRY_SIZE: usize = 16;
/// `p_size`: number of sectors.
pub const BSD_SIZE: Field = at(0, 4);
/// `p_offset`: first sector, relative to that of [`BSD_RAW`] plus the start of the slice.
pub const BSD_START: Field = at(4, 4);
/// `p_fstype`
pub const BSD_TYPE: Field = at(12, 1);
/// `BSD_PART_RAW`: the partition `c`, the whole disk or slice.
pub const BSD_RAW: usize = 2;
/// `FS_SWAP`
pub const BSD_SWAP: u64 = 1;

const _: () = assert!(MBR_ENTRIES + MBR_ENTRY_COUNT * MBR_ENTRY_SIZE == MBR_SIGNATURE.offset);
const _: () = assert!(GPT_TABLE_CRC.offset + GPT_TABLE_CRC.len == GPT_HEADER_MIN);
