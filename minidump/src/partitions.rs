//! Reads partition tables: GPT, MBR and BSD labels.
//!
//! A dump device is usually a partition. In the image of a whole disk, its dump is at the end of that
//! partition ([`crate::dump_device`]).

use livecore_compress::ReadAt;
use livecore_defs::ByteOrder::Little;
use livecore_defs::Field;
use livecore_defs::disk as defs;

use crate::Error;

/// Maximum number of GPT entries that are read. A table usually has 128.
const GPT_ENTRIES_MAX: u64 = 4096;

/// Maximum size of a sector in bytes.
const SECTOR_MAX: u64 = 16384;

/// A partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Partition {
    /// The name, as GEOM appends it to the name of the disk: `p2`, `s1`, `s1b`, `b`.
    pub name: String,
    /// Whether its type is FreeBSD swap, where a kernel dumps by default.
    pub is_swap: bool,
    /// Offset of the first byte in the disk.
    pub start: u64,
    /// Size in bytes.
    pub len: u64,
}

/// The partitions of `disk`, which has sectors of `sector` bytes: those of type swap first, otherwise in
/// the order of the tables. Partitions beyond the end of the disk are left out, and so are tables with a
/// wrong checksum.
///
/// # Errors
///
/// [`Error::Io`] if the disk cannot be read.
pub fn partitions(disk: &dyn ReadAt, sector: u64) -> Result<Vec<Partition>, Error> {
    let size = disk.size()?;
    if !sector.is_power_of_two() || !(512..=SECTOR_MAX).contains(&sector) || size < 2 * sector {
        return Ok(Vec::new());
    }
    let disk = Disk {
        source: disk,
        sector,
    };
    let whole = Partition {
        name: String::new(),
        is_swap: false,
        start: 0,
        len: size,
    };
    let mut found = disk.gpt(&whole)?;
    if found.is_empty() {
        found = disk.mbr(&whole)?;
    }
    // A label without slices, whose boot code may have the signature of an MBR.
    found.extend(disk.label(&whole)?);
    found.sort_by_key(|partition| !partition.is_swap);
    Ok(found)
}

/// A disk and its sector size.
struct Disk<'a> {
    source: &'a dyn ReadAt,
    sector: u64,
}

impl Disk<'_> {
    /// The sector `number`; shorter at the end of the disk.
    fn read(&self, at: u64) -> Result<Vec<u8>, Error> {
        let mut bytes = vec![0; self.sector as usize]; // at most SECTOR_MAX
        let got = self.source.read_full_at(&mut bytes, at)?;
        bytes.truncate(got);
        Ok(bytes)
    }

    /// The partition of `count` sectors at sector `first` of `parent`, if it is inside.
    fn inside(&self, parent: &Partition, first: u64, count: u64) -> Option<(u64, u64)> {
        let start = first.checked_mul(self.sector)?;
        let len = count.checked_mul(self.sector).filter(|len| *len > 0)?;
        let end = start.checked_add(len)?;
        (end <= parent.len).then_some((parent.start + start, len))
    }

    /// The partitions of the GPT at sector 1, or else of its copy in the last sector.
    fn gpt(&self, whole: &Partition) -> Result<Vec<Partition>, Error> {
        let last = (whole.len / self.sector - 1) * self.sector;
        for at in [self.sector, last] {
            if let Some(table) = self.gpt_table(at)? {
                return self.gpt_entries(whole, &table);
            }
        }
        Ok(Vec::new())
    }

    /// The entries of the GPT whose header is at `at`; `None` if it is not a valid header.
    fn gpt_table(&self, at: u64) -> Result<Option<Vec<Vec<u8>>>, Error> {
        let mut header = self.read(at)?;
        let field = |header: &[u8], field: Field| Little.field(header, field).unwrap_or(0);
        let len = field(&header, defs::GPT_HEADER_SIZE);
        let is_valid = header.starts_with(&defs::GPT_MAGIC)
            && (defs::GPT_HEADER_MIN as u64..=header.len() as u64).contains(&len)
            && field(&header, defs::GPT_SELF) == at / self.sector;
        if !is_valid {
            return Ok(None);
        }
        header.truncate(len as usize); // at most a sector
        let sum = field(&header, defs::GPT_HEADER_CRC);
        let crc = defs::GPT_HEADER_CRC;
        header[crc.offset..crc.offset + crc.len].fill(0);
        if u64::from(crc32fast::hash(&header)) != sum {
            return Ok(None);
        }
        let count = field(&header, defs::GPT_ENTRIES);
        let entry = field(&header, defs::GPT_ENTRY_SIZE);
        let table = field(&header, defs::GPT_TABLE).checked_mul(self.sector);
        let (Some(table), 1..=GPT_ENTRIES_MAX) = (table, count) else {
            return Ok(None);
        };
        if !(defs::GPT_ENTRY_MIN as u64..=4096).contains(&entry) || !entry.is_multiple_of(8) {
            return Ok(None);
        }
        let mut bytes = vec![0; (count * entry) as usize]; // at most 16 MiB
        let got = self.source.read_full_at(&mut bytes, table)?;
        if got < bytes.len()
            || u64::from(crc32fast::hash(&bytes)) != field(&header, defs::GPT_TABLE_CRC)
        {
            return Ok(None);
        }
        let entries = bytes.chunks(entry as usize);
        Ok(Some(entries.map(<[u8]>::to_vec).collect()))
    }

    fn gpt_entries(&self, whole: &Partition, entries: &[Vec<u8>]) -> Result<Vec<Partition>, Error> {
        let mut found = Vec::new();
        for (number, entry) in (1..).zip(entries) {
            let kind = &entry[defs::GPT_TYPE.offset..][..defs::GPT_TYPE.len];
            let field = |field| Little.field(entry, field).unwrap_or(0);
            let (first, last) = (field(defs::GPT_START), field(defs::GPT_END));
            let count = last.checked_sub(first).and_then(|n| n.checked_add(1));
            let place = count.and_then(|count| self.inside(whole, first, count));
            let (Some((start, len)), true) = (place, kind.iter().any(|b| *b != 0)) else {
                continue;
            };
            let is_freebsd = kind[1..] == defs::GPT_FREEBSD_TAIL;
            let partition = Partition {
                name: format!("p{number}"),
                is_swap: is_freebsd && kind[0] == defs::GPT_FREEBSD_SWAP,
                start,
                len,
            };
            if is_freebsd && kind[0] == defs::GPT_FREEBSD {
                found.extend(self.label(&partition)?);
            }
            found.push(partition);
        }
        Ok(found)
    }

    /// The slices of the MBR, and the partitions in those of FreeBSD.
    fn mbr(&self, disk: &Partition) -> Result<Vec<Partition>, Error> {
        let sector = self.read(0)?;
        let mut found = Vec::new();
        if Little.field(&sector, defs::MBR_SIGNATURE) != Some(defs::MBR_MAGIC) {
            return Ok(found);
        }
        let entries = sector[defs::MBR_ENTRIES..].chunks_exact(defs::MBR_ENTRY_SIZE);
        for (number, entry) in (1..).zip(entries.take(defs::MBR_ENTRY_COUNT)) {
            let field = |field| Little.field(entry, field).unwrap_or(0);
            let kind = field(defs::MBR_TYPE);
            let place = self.inside(disk, field(defs::MBR_START), field(defs::MBR_SIZE));
            let is_used = kind != 0
                && kind != defs::MBR_PROTECTIVE
                && field(defs::MBR_FLAG) & 0x7f == 0
                && field(defs::MBR_START) > 0;
            let (Some((start, len)), true) = (place, is_used) else {
                continue;
            };
            let slice = Partition {
                name: format!("s{number}"),
                is_swap: false,
                start,
                len,
            };
            if kind == defs::MBR_FREEBSD {
                found.extend(self.label(&slice)?);
            }
            found.push(slice);
        }
        Ok(found)
    }

    /// The partitions of the BSD label in `parent`.
    fn label(&self, parent: &Partition) -> Result<Vec<Partition>, Error> {
        let mut found = Vec::new();
        let label = self.read(parent.start + defs::BSD_SECTOR * self.sector)?;
        let field = |field| Little.field(&label, field).unwrap_or(0);
        let count = field(defs::BSD_COUNT);
        let end = defs::BSD_ENTRIES + count as usize * defs::BSD_ENTRY_SIZE;
        let is_valid = field(defs::BSD_MAGIC_FIELD) == defs::BSD_MAGIC
            && field(defs::BSD_MAGIC2_FIELD) == defs::BSD_MAGIC
            && field(defs::BSD_SECTOR_SIZE) == self.sector
            && (1..=defs::BSD_COUNT_MAX).contains(&count)
            && end <= label.len();
        if !is_valid {
            return Ok(found);
        }
        let words = label[..end].chunks_exact(2);
        if words.fold(0, |sum, word| sum ^ u16::from_le_bytes([word[0], word[1]])) != 0 {
            return Ok(found);
        }
        let entries: Vec<_> = label[defs::BSD_ENTRIES..end]
            .chunks_exact(defs::BSD_ENTRY_SIZE)
            .collect();
        let number = |entry: &[u8], field| Little.field(entry, field).unwrap_or(0);
        // Old labels count from the start of the disk.
        let raw = entries.get(defs::BSD_RAW);
        let base = raw.map_or(0, |entry| number(entry, defs::BSD_START));
        for (i, entry) in entries
            .iter()
            .enumerate()
            .filter(|(i, _)| *i != defs::BSD_RAW)
        {
            let first = number(entry, defs::BSD_START).checked_sub(base);
            let count = number(entry, defs::BSD_SIZE);
            let place = first.and_then(|first| self.inside(parent, first, count));
            if let Some((start, len)) = place {
                let letter = char::from(b'a' + i as u8); // at most 20 partitions
                found.push(Partition {
                    name: format!("{}{letter}", parent.name),
                    is_swap: number(entry, defs::BSD_TYPE) == defs::BSD_SWAP,
                    start,
                    len,
                });
            }
        }
        Ok(found)
    }
}
