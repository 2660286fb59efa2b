//! The attachment of a seal: a kerneldumpheader, flags with its origin, and records.

use std::ops::Range;

use byteorder::{ByteOrder as _, LittleEndian};

use crate::receipt::{Excluded, Redacted, broken, encode_redacted, parse_redacted};
use crate::{ByteOrder, Error, KernelDumpHeader};
use livecore_defs::{kerneldump, seal as defs};

/// Size of a range in the list, in bytes.
const RANGE_LEN: usize = 16;

/// The attachment of a seal.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SealRecord {
    /// The header. `dumplength` is the stored size of the data frames, `dumpextent` the size of the
    /// payload.
    pub header: KernelDumpHeader,
    /// Flags such as [`defs::FLAG_HEADER_FROM_INFO`]. Unknown flags are preserved.
    pub flags: u32,
    /// Types and values of the records, in file order. Unknown records are preserved.
    pub records: Vec<(u32, Vec<u8>)>,
    /// Ranges of the payload that no checksum proves, ascending and not adjacent. They are in a
    /// separate list of the seal, not in the attachment; [`Self::unproven`] has their totals.
    pub unproven_ranges: Vec<Range<u64>>,
    /// Pages that were excluded on request, with the list of the seal.
    pub excluded: Option<Excluded>,
}

/// Totals of data that no checksum proves.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Unproven {
    /// Number of pages with unproven bytes.
    pub pages: u64,
    /// Number of unproven bytes in sections.
    pub section_bytes: u64,
}

impl SealRecord {
    /// Parses an attachment.
    ///
    /// # Errors
    ///
    /// [`Error::Broken`] if the magic, the header or a record is invalid, [`Error::Unsupported`] if
    /// the version is unknown.
    pub fn parse(bytes: &[u8]) -> Result<Self, Error> {
        let broken = |at: usize, found: String, expected: &str| {
            Error::broken("seal attachment", at as u64, found, expected)
        };
        if bytes.len() < defs::RECORDS_OFFSET {
            return Err(broken(
                0,
                format!("{} bytes", bytes.len()),
                "at least 528 bytes",
            ));
        }
        if !bytes.starts_with(&defs::MAGIC) {
            return Err(broken(
                0,
                livecore_defs::text::escaped(bytes, defs::MAGIC.len()),
                "the magic LiveCore",
            ));
        }
        let version = LittleEndian::read_u32(&bytes[defs::VERSION_FIELD.offset..]);
        if version != defs::VERSION {
            return Err(Error::Unsupported {
                what: format!("seal version {version} (supported: {})", defs::VERSION),
            });
        }
        let flags = LittleEndian::read_u32(&bytes[defs::FLAGS_FIELD.offset..]);
        let mut block = [0; kerneldump::SIZE];
        block.copy_from_slice(&bytes[defs::HEADER_FIELD.offset..defs::RECORDS_OFFSET]);
        let at = defs::HEADER_FIELD.offset;
        let header = KernelDumpHeader::parse(&block, at as u64)?
            .ok_or_else(|| broken(at, "no magic".into(), "a kerneldumpheader"))?;
        let mut records = Vec::new();
        let mut at = defs::RECORDS_OFFSET;
        while at < bytes.len() {
            let record = bytes.get(at..at + defs::RECORD_HEAD).and_then(|head| {
                let len = usize::try_from(LittleEndian::read_u32(&head[4..])).ok()?;
                let start = at + defs::RECORD_HEAD;
                let value = bytes.get(start..start.checked_add(len)?)?;
                Some((LittleEndian::read_u32(head), value.to_vec()))
            });
            let Some(record) = record else {
                return Err(broken(
                    at,
                    format!("{} bytes left", bytes.len() - at),
                    "a complete record",
                ));
            };
            at += defs::RECORD_HEAD + record.1.len();
            records.push(record);
        }
        Ok(Self {
            header,
            flags,
            records,
            unproven_ranges: Vec::new(),
            excluded: None,
        })
    }

    /// Parses the seal's list of unproven ranges into [`Self::unproven_ranges`].
    ///
    /// # Errors
    ///
    /// [`Error::Broken`] if the ranges do not ascend, or their number is not that of
    /// [`defs::RECORD_UNPROVEN`].
    pub fn read_ranges(&mut self, list: &[u8]) -> Result<(), Error> {
        let stated = self
            .record(defs::RECORD_UNPROVEN)
            .and_then(|record| ByteOrder::Little.field(record, defs::UNPROVEN_RANGES_FIELD));
        let number = list.len() as u64 / RANGE_LEN as u64;
        let wrong = |found: String, expected: String| {
            Error::broken("seal, unproven ranges", 0, found, expected)
        };
        if !list.len().is_multiple_of(RANGE_LEN) || stated != Some(number) {
            let stated = stated.unwrap_or(0);
            return Err(wrong(
                format!("{} bytes", list.len()),
                format!("{stated} ranges of {RANGE_LEN}"),
            ));
        }
        let mut ranges: Vec<Range<u64>> = Vec::new();
        for entry in list.chunks_exact(RANGE_LEN) {
            let start = LittleEndian::read_u64(entry);
            let len = LittleEndian::read_u64(&entry[8..]);
            let after = ranges.last().is_none_or(|last| last.end < start);
            match start.checked_add(len).filter(|_| len > 0 && after) {
                Some(end) => ranges.push(start..end),
                None => {
                    return Err(wrong(
                        format!("{len:#x} bytes at {start:#x}"),
                        "ascending ranges that are not adjacent".into(),
                    ));
                }
            }
        }
        self.unproven_ranges = ranges;
        Ok(())
    }

    /// Encodes the list of unproven ranges for the seal.
    pub fn encode_ranges(&self) -> Vec<u8> {
        let entry = |range: &Range<u64>| [range.start, range.end - range.start];
        let numbers = self.unproven_ranges.iter().flat_map(entry);
        numbers.flat_map(u64::to_le_bytes).collect()
    }

    /// Returns the totals of unproven data, if the seal records any.
    pub fn unproven(&self) -> Option<Unproven> {
        let record = self.record(defs::RECORD_UNPROVEN)?;
        let field = |field| ByteOrder::Little.field(record, field);
        Some(Unproven {
            pages: field(defs::UNPROVEN_PAGES_FIELD)?,
            section_bytes: field(defs::UNPROVEN_SECTIONS_FIELD)?,
        })
    }

    /// Records the totals and the ranges of unproven data.
    pub fn set_unproven(&mut self, unproven: Unproven, ranges: Vec<Range<u64>>) {
        self.unproven_ranges = ranges;
        self.records.retain(|(k, _)| *k != defs::RECORD_UNPROVEN);
        if unproven != Unproven::default() {
            let count = self.unproven_ranges.len() as u64;
            let numbers = [unproven.pages, unproven.section_bytes, count];
            let value = numbers.iter().flat_map(|n| n.to_le_bytes()).collect();
            self.set_record(defs::RECORD_UNPROVEN, value);
        }
    }

    /// Moves the unproven ranges by `by` bytes. `None` removes them: their new offsets are not
    /// known.
    pub(crate) fn move_ranges(&mut self, by: Option<u64>) {
        let Some(unproven) = self.unproven() else {
            return;
        };
        let moved = |range: &Range<u64>| {
            let by = by?;
            Some(range.start.checked_add(by)?..range.end.checked_add(by)?)
        };
        let ranges: Option<Vec<_>> = self.unproven_ranges.iter().map(moved).collect();
        self.set_unproven(unproven, ranges.unwrap_or_default());
    }

    /// Parses the seal's list of excluded pages into [`Self::excluded`]; `None` if the seal has none.
    ///
    /// # Errors
    ///
    /// [`Error::Broken`] if the runs do not ascend, or are not those of [`defs::RECORD_EXCLUDED`].
    pub fn read_excluded(&mut self, list: Option<&[u8]>) -> Result<(), Error> {
        let Some(record) = self.record(defs::RECORD_EXCLUDED) else {
            return match list {
                None => Ok(()),
                Some(list) => {
                    let found = format!("a list of {} bytes without a record", list.len());
                    Err(broken(found, "the record of excluded pages"))
                }
            };
        };
        let mut excluded = Excluded::parse(record)?;
        if let Some(list) = list {
            excluded.read_list(record, list)?;
        }
        self.excluded = Some(excluded);
        Ok(())
    }

    /// Records the pages that were excluded.
    pub fn set_excluded(&mut self, excluded: Excluded) {
        self.set_record(defs::RECORD_EXCLUDED, excluded.encode());
        self.excluded = Some(excluded);
    }

    /// The memory that was redacted, ascending.
    ///
    /// # Errors
    ///
    /// [`Error::Broken`] if the record is invalid.
    pub fn redacted(&self) -> Result<Vec<Redacted>, Error> {
        let record = self.record(defs::RECORD_REDACTED);
        record.map_or(Ok(Vec::new()), parse_redacted)
    }

    /// Records memory that was redacted: `ranges`, which ascend and do not overlap.
    ///
    /// # Errors
    ///
    /// [`Error::Options`] if there are more than 4096 ranges.
    pub fn set_redacted(&mut self, ranges: &[Redacted]) -> Result<(), Error> {
        if ranges.len() > defs::REDACTED_RANGES_MAX {
            return Err(Error::Options(format!(
                "{} redacted ranges, expected at most {}",
                ranges.len(),
                defs::REDACTED_RANGES_MAX
            )));
        }
        self.set_record(defs::RECORD_REDACTED, encode_redacted(ranges));
        Ok(())
    }

    /// Encodes the attachment. No record is 4 GiB or larger.
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(defs::RECORDS_OFFSET);
        bytes.extend(defs::MAGIC);
        bytes.extend(defs::VERSION.to_le_bytes());
        bytes.extend(self.flags.to_le_bytes());
        bytes.extend(self.header.encode());
        for (kind, value) in &self.records {
            if let Ok(len) = u32::try_from(value.len()) {
                bytes.extend(kind.to_le_bytes());
                bytes.extend(len.to_le_bytes());
                bytes.extend(value);
            }
        }
        bytes
    }

    /// Returns the first record of this type.
    pub fn record(&self, kind: u32) -> Option<&[u8]> {
        self.records
            .iter()
            .find(|(k, _)| *k == kind)
            .map(|(_, value)| value.as_slice())
    }

    /// Appends a record after removing all others of its type.
    pub fn set_record(&mut self, kind: u32, value: Vec<u8>) {
        self.records.retain(|(k, _)| *k != kind);
        self.records.push((kind, value));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record() -> SealRecord {
        SealRecord {
            header: KernelDumpHeader {
                hostname: b"h".to_vec(),
                ..KernelDumpHeader::default()
            }
            .with_parity(),
            flags: 0x8000_0001,
            records: vec![(77, vec![1, 2, 3]), (1, b"me".to_vec()), (9, vec![])],
            ..SealRecord::default()
        }
    }

    #[test]
    fn parsing_restores_the_encoded_attachment_with_unknown_records_and_flags() {
        let bytes = record().encode();
        assert_eq!(bytes.len(), 528 + 3 * 8 + 5);
        assert_eq!(SealRecord::parse(&bytes).unwrap(), record());
        assert_eq!(record().record(1), Some(&b"me"[..]));
    }

    #[test]
    fn unproven_ranges_are_restored_and_moved() {
        let mut seal = record();
        let unproven = Unproven {
            pages: 3,
            section_bytes: 7,
        };
        seal.set_unproven(unproven, vec![1..2, 5..4096]);
        let mut read = SealRecord::parse(&seal.encode()).unwrap();
        assert_eq!(read.unproven(), Some(unproven));
        read.read_ranges(&seal.encode_ranges()).unwrap();
        assert_eq!(read, seal);
        read.move_ranges(Some(10));
        assert_eq!(read.unproven_ranges, [11..12, 15..4106]);
        read.move_ranges(None);
        assert_eq!(
            (read.unproven(), read.encode_ranges().len()),
            (Some(unproven), 0)
        );
        read.set_unproven(Unproven::default(), Vec::new());
        assert_eq!(read, record());
    }

    #[test]
    fn lists_that_do_not_match_the_record_are_broken() {
        let mut seal = record();
        let unproven = Unproven {
            pages: 2,
            section_bytes: 0,
        };
        seal.set_unproven(unproven, vec![1..2, 5..9]);
        let list = seal.encode_ranges();
        assert!(seal.read_ranges(&list[..16]).is_err());
        assert!(seal.read_ranges(&list[..31]).is_err());
        let touching = [&list[..16], &[2, 0, 0, 0, 0, 0, 0, 0][..], &list[24..]].concat();
        assert!(seal.read_ranges(&touching).is_err());
        assert!(record().read_ranges(&list).is_err());
    }

    #[test]
    fn truncated_attachments_are_broken() {
        let bytes = record().encode();
        let ends = [528, 528 + 11, 528 + 21];
        for len in (0..bytes.len()).filter(|len| !ends.contains(len)) {
            assert!(SealRecord::parse(&bytes[..len]).is_err(), "{len} bytes");
        }
        let mut huge = bytes;
        huge[532..536].fill(0xff);
        assert!(SealRecord::parse(&huge).is_err());
    }
}
