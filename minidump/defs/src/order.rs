//! The byte order of a dump, and reading and writing of integers in it.

use byteorder::{BigEndian, ByteOrder as _, LittleEndian};

use crate::Field;

/// The byte order of the kernel that was dumped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum ByteOrder {
    /// Least significant byte first.
    #[default]
    Little,
    /// Most significant byte first.
    Big,
}

impl ByteOrder {
    /// `little` or `big`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Little => "little",
            Self::Big => "big",
        }
    }

    /// The unsigned integer in `bytes`, of 1, 2, 4 or 8 bytes; `None` for any other size.
    pub fn uint(self, bytes: &[u8]) -> Option<u64> {
        Some(match (bytes.len(), self) {
            (1, _) => bytes[0].into(),
            (2, Self::Little) => LittleEndian::read_u16(bytes).into(),
            (2, Self::Big) => BigEndian::read_u16(bytes).into(),
            (4, Self::Little) => LittleEndian::read_u32(bytes).into(),
            (4, Self::Big) => BigEndian::read_u32(bytes).into(),
            (8, Self::Little) => LittleEndian::read_u64(bytes),
            (8, Self::Big) => BigEndian::read_u64(bytes),
            _ => return None,
        })
    }

    /// The integer of `len` bytes at `offset`; `None` if `bytes` is too short.
    pub fn uint_at(self, bytes: &[u8], offset: usize, len: usize) -> Option<u64> {
        self.uint(bytes.get(offset..offset.checked_add(len)?)?)
    }

    /// The integer in `field` of the structure `bytes`; `None` if `bytes` is too short.
    pub fn field(self, bytes: &[u8], field: Field) -> Option<u64> {
        self.uint_at(bytes, field.offset, field.len)
    }

    /// Fills `bytes`, of 1, 2, 4 or 8 bytes, with the low bytes of `value`.
    pub fn put(self, bytes: &mut [u8], value: u64) {
        let len = bytes.len();
        for (i, byte) in bytes.iter_mut().enumerate() {
            let index = match self {
                Self::Little => i,
                Self::Big => len - 1 - i,
            };
            *byte = value.checked_shr(8 * index as u32).unwrap_or(0) as u8;
        }
    }

    /// Writes `value` into `field` of the structure `bytes`, which must be long enough.
    pub fn put_field(self, bytes: &mut [u8], field: Field, value: u64) {
        self.put(&mut bytes[field.offset..field.offset + field.len], value);
    }
}

#[cfg(test)]
mod tests {
    use crate::*;

    #[test]
    fn integers_are_written_and_read_in_the_byte_order() {
        for len in [1, 2, 4, 8] {
            let value = 0x8182_8384_8586_8788_u64 & (u64::MAX >> (64 - 8 * len));
            let mut little = vec![0; len];
            ByteOrder::Little.put(&mut little, value);
            let mut big = vec![0; len];
            ByteOrder::Big.put(&mut big, value);
            assert_eq!(little[0], 0x88);
            assert_eq!(big[len - 1], 0x88);
            assert_eq!(ByteOrder::Little.uint(&little), Some(value));
            assert_eq!(ByteOrder::Big.uint(&big), Some(value));
        }
        assert_eq!(ByteOrder::Big.uint(&[1, 2, 3]), None);
        assert_eq!(ByteOrder::Big.uint_at(&[1, 2], usize::MAX, 2), None);
    }
}
