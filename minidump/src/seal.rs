//! What a sealed file carries beside its data: a kerneldumpheader, how it was come by, records.

use byteorder::{ByteOrder as _, LittleEndian};

use crate::{Error, KernelDumpHeader};
use livecore_defs::{kerneldump, seal as defs};

/// The attachment of a seal.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SealRecord {
    /// The header. `dumplength` is the stored length of the data frames, `dumpextent` the length
    /// of the payload.
    pub header: KernelDumpHeader,
    /// [`defs::FLAG_HEADER_FROM_INFO`] and kin; unknown ones are kept.
    pub flags: u32,
    /// Records by type, in their order; unknown ones are kept.
    pub records: Vec<(u32, Vec<u8>)>,
}

impl SealRecord {
    /// Parses an attachment.
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
                crate::header::escaped(bytes, defs::MAGIC.len()),
                "the magic LiveCore",
            ));
        }
        let version = LittleEndian::read_u32(&bytes[defs::VERSION_FIELD.offset..]);
        if version != defs::VERSION {
            return Err(Error::Unsupported {
                what: format!("seal of version {version}, known is {}", defs::VERSION),
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
                    "a whole record",
                ));
            };
            at += defs::RECORD_HEAD + record.1.len();
            records.push(record);
        }
        Ok(Self {
            header,
            flags,
            records,
        })
    }

    /// The attachment's bytes. A record of 4 GiB or more does not exist.
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

    /// The first record of this type.
    pub fn record(&self, kind: u32) -> Option<&[u8]> {
        self.records
            .iter()
            .find(|(k, _)| *k == kind)
            .map(|(_, value)| value.as_slice())
    }

    /// Puts a record in the place of all others of its type.
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
        }
    }

    #[test]
    fn what_is_encoded_is_parsed_unknown_records_and_flags_included() {
        let bytes = record().encode();
        assert_eq!(bytes.len(), 528 + 3 * 8 + 5);
        assert_eq!(SealRecord::parse(&bytes).unwrap(), record());
        assert_eq!(record().record(1), Some(&b"me"[..]));
    }

    #[test]
    fn cut_attachments_are_broken() {
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
