//! The 512-byte kerneldumpheader: parsed from any version, encoded as version 4.

use byteorder::{BigEndian, ByteOrder as _};
use livecore_compress::Codec;

use crate::{Architecture, Error, MinidumpHeader};
use livecore_defs::Field;
use livecore_defs::kerneldump as defs;

/// Which of the three magic strings a header has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Magic {
    /// A kernel dump.
    #[default]
    Kernel,
    /// A text dump.
    Text,
    /// A kernel dump that savecore(8) has saved and marked. Its parity is wrong by that.
    Cleared,
}

impl Magic {
    /// The string, NUL padded.
    pub fn bytes(self) -> &'static [u8; 20] {
        match self {
            Self::Kernel => &defs::KERNELDUMPMAGIC,
            Self::Text => &defs::TEXTDUMPMAGIC,
            Self::Cleared => &defs::KERNELDUMPMAGIC_CLEARED,
        }
    }

    /// The magic that `block` begins with.
    pub fn probe(block: &[u8]) -> Option<Self> {
        [Self::Kernel, Self::Text, Self::Cleared]
            .into_iter()
            .find(|magic| block.starts_with(magic.bytes()))
    }

    /// The string without its padding.
    pub fn text(self) -> &'static str {
        match self {
            Self::Kernel => "FreeBSD Kernel Dump",
            Self::Text => "FreeBSD Text Dump",
            Self::Cleared => "Cleared Kernel Dump",
        }
    }
}

/// `struct kerneldumpheader`. Strings are without their NUL, and hold whatever bytes the kernel had.
///
/// A field that the header's version does not have: `dumpkeysize` is 0, `compression` is 0,
/// `dumpextent` is `dumplength`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct KernelDumpHeader {
    /// The magic.
    pub magic: Magic,
    /// The header's own version, 1 to 4. Always encoded as 4.
    pub version: u32,
    /// `MACHINE_ARCH`.
    pub architecture: Vec<u8>,
    /// A number of the port's own.
    pub architectureversion: u32,
    /// Bytes of data as stored.
    pub dumplength: u64,
    /// Bytes reserved for the data; as a rule their length before compression.
    pub dumpextent: u64,
    /// Seconds since 1970 UTC.
    pub dumptime: u64,
    /// Bytes reserved for the key block; 0 is "not encrypted".
    pub dumpkeysize: u32,
    /// The dumper's block size.
    pub blocksize: u32,
    /// Host name.
    pub hostname: Vec<u8>,
    /// The kernel's version string, its newline included.
    pub versionstring: Vec<u8>,
    /// The panic message; empty if there was none.
    pub panicstring: Vec<u8>,
    /// The compression byte.
    pub compression: u8,
    /// The parity bytes as they were found.
    pub parity: [u8; 4],
    /// Whether the parity is right.
    pub parity_ok: bool,
}

impl KernelDumpHeader {
    /// Parses the 512 bytes at `offset` of the file; `None` if there is no magic. A version that is
    /// not known is [`Error::Unsupported`]; parity and magic are for the caller to judge.
    ///
    /// # Errors
    ///
    /// [`Error::Unsupported`] for a version that is not known, [`Error::Broken`] if a field is not valid.
    pub fn parse(block: &[u8; defs::SIZE], offset: u64) -> Result<Option<Self>, Error> {
        let Some(magic) = Magic::probe(block) else {
            return Ok(None);
        };
        let number = |field: Field| BigEndian::read_uint(bytes(block, field), field.len);
        // A field of 4 bytes fits.
        let word = |field: Field| number(field) as u32;
        let version = word(defs::VERSION);
        let Some(fields) = defs::VERSIONS.iter().find(|f| f.version == version) else {
            return Err(Error::Unsupported {
                what: format!(
                    "kerneldumpheader of version {version} at offset {offset:#x}, known are 1 to 4"
                ),
            });
        };
        let dumplength = number(defs::DUMPLENGTH);
        let mut parity = [0; 4];
        parity.copy_from_slice(bytes(block, defs::PARITY));
        Ok(Some(Self {
            magic,
            version,
            architecture: text(block, defs::ARCHITECTURE),
            architectureversion: word(defs::ARCHITECTUREVERSION),
            dumplength,
            dumpextent: fields.dumpextent.map_or(dumplength, number),
            dumptime: number(fields.dumptime),
            dumpkeysize: fields.dumpkeysize.map_or(0, word),
            blocksize: word(fields.blocksize),
            hostname: text(block, fields.hostname),
            versionstring: text(block, fields.versionstring),
            panicstring: text(block, fields.panicstring),
            compression: fields.compression.map_or(0, |f| bytes(block, f)[0]),
            parity,
            parity_ok: xor_of_words(block) == [0; 4],
        }))
    }

    /// The header as a kernel of today writes it: version 4, right parity. Strings that do not fit
    /// are cut as the kernel cuts them: the version string keeps its newline.
    pub fn encode(&self) -> [u8; defs::SIZE] {
        let mut block = [0; defs::SIZE];
        let mut put = |field: Field, value: &[u8]| {
            let n = value.len().min(field.len);
            block[field.offset..field.offset + n].copy_from_slice(&value[..n]);
        };
        // One byte less than the field, for the NUL.
        let cut = |value: &'_ [u8], field: Field| value[..value.len().min(field.len - 1)].to_vec();
        let v4 = defs::V4;
        put(defs::MAGIC, self.magic.bytes());
        put(
            defs::ARCHITECTURE,
            &cut(&self.architecture, defs::ARCHITECTURE),
        );
        put(defs::VERSION, &defs::KERNELDUMPVERSION.to_be_bytes());
        put(
            defs::ARCHITECTUREVERSION,
            &self.architectureversion.to_be_bytes(),
        );
        put(defs::DUMPLENGTH, &self.dumplength.to_be_bytes());
        put(v4.dumptime, &self.dumptime.to_be_bytes());
        put(v4.blocksize, &self.blocksize.to_be_bytes());
        put(v4.hostname, &cut(&self.hostname, v4.hostname));
        let mut version = cut(&self.versionstring, v4.versionstring);
        if version.len() < self.versionstring.len()
            && let Some(last) = version.last_mut()
        {
            *last = b'\n';
        }
        put(v4.versionstring, &version);
        put(v4.panicstring, &cut(&self.panicstring, v4.panicstring));
        for (field, value) in [
            (v4.dumpkeysize, &self.dumpkeysize.to_be_bytes()[..]),
            (v4.compression, &[self.compression]),
            (v4.dumpextent, &self.dumpextent.to_be_bytes()),
        ] {
            if let Some(field) = field {
                put(field, value);
            }
        }
        let parity = xor_of_words(&block);
        block[defs::PARITY.offset..].copy_from_slice(&parity);
        block
    }

    /// The codec that the compression byte names; `None` if it names none.
    pub fn codec(&self) -> Option<Codec> {
        match self.compression {
            defs::COMPRESSION_NONE => Some(Codec::None),
            defs::COMPRESSION_GZIP => Some(Codec::Gzip),
            defs::COMPRESSION_ZSTD => Some(Codec::Zstd),
            _ => None,
        }
    }

    /// The compression byte of `codec`.
    pub fn compression_of(codec: Codec) -> u8 {
        match codec {
            Codec::None => defs::COMPRESSION_NONE,
            Codec::Gzip => defs::COMPRESSION_GZIP,
            Codec::Zstd => defs::COMPRESSION_ZSTD,
        }
    }

    /// The header of a dump that has lost its own: what the minidump itself tells, empty strings,
    /// time 0. Lengths are 0 and filled in by whoever writes the dump.
    pub fn from_payload(header: &MinidumpHeader) -> Self {
        Self {
            architecture: header.machine_arch().into(),
            ..Self::of_port(header.arch, header.order, header.page_size())
        }
        .with_parity()
    }

    /// The header of a dump of this port of which no more is known than its page size.
    pub fn of_port(arch: &Architecture, order: crate::ByteOrder, page_size: u64) -> Self {
        Self {
            version: defs::KERNELDUMPVERSION,
            architecture: arch.machine_arch(order, arch.words[0]).into(),
            architectureversion: arch.architectureversion,
            // A page is far below 4 GiB.
            blocksize: page_size as u32,
            ..Self::default()
        }
        .with_parity()
    }

    /// The same with the parity that [`KernelDumpHeader::encode`] gives it.
    pub fn with_parity(mut self) -> Self {
        self.version = defs::KERNELDUMPVERSION;
        let block = self.encode();
        self.parity
            .copy_from_slice(&block[defs::PARITY.offset..defs::SIZE]);
        self.parity_ok = true;
        self
    }
}

fn bytes(block: &[u8; defs::SIZE], field: Field) -> &[u8] {
    // Every field of the definitions ends within the header.
    &block[field.offset..field.offset + field.len]
}

/// The bytes of a string field before its NUL.
fn text(block: &[u8; defs::SIZE], field: Field) -> Vec<u8> {
    bytes(block, field)
        .split(|b| *b == 0)
        .next()
        .unwrap_or_default()
        .to_vec()
}

/// Byte `k` is the exclusive or of all bytes `k` of the 128 words.
fn xor_of_words(block: &[u8; defs::SIZE]) -> [u8; 4] {
    let mut xor = [0; 4];
    for word in block.chunks_exact(4) {
        for (sum, byte) in xor.iter_mut().zip(word) {
            *sum ^= byte;
        }
    }
    xor
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vector() -> KernelDumpHeader {
        KernelDumpHeader {
            architecture: b"amd64".to_vec(),
            architectureversion: 2,
            dumplength: 0x1234_5678,
            dumptime: 1_700_000_000,
            blocksize: 4096,
            hostname: b"host.example".to_vec(),
            versionstring: b"FreeBSD 14.1-RELEASE GENERIC\n".to_vec(),
            compression: 1,
            dumpextent: 0x2000_0000,
            ..KernelDumpHeader::default()
        }
    }

    /// Parity bytes of the test vector in the format notes, computed there by another program.
    #[test]
    fn parity_is_that_of_the_test_vector() {
        let block = vector().encode();
        assert_eq!(block[508..], [0x44, 0x26, 0xa2, 0x26]);
        let header = KernelDumpHeader::parse(&block, 0).unwrap().unwrap();
        assert!(header.parity_ok);
        assert_eq!(header, vector().with_parity());
    }

    #[test]
    fn a_cleared_magic_and_any_flipped_bit_show_in_the_parity() {
        let good = vector().encode();
        for at in 0..512 {
            for bit in 0..8 {
                let mut block = good;
                block[at] ^= 1 << bit;
                if let Ok(Some(header)) = KernelDumpHeader::parse(&block, 0) {
                    assert!(!header.parity_ok, "byte {at}");
                }
            }
        }
        let mut block = good;
        block[..20].copy_from_slice(b"Cleared Kernel Dump\0");
        let header = KernelDumpHeader::parse(&block, 0).unwrap().unwrap();
        assert_eq!((header.magic, header.parity_ok), (Magic::Cleared, false));
    }

    /// Offsets of each version as the format notes have them from `kerneldump_compat.h`.
    #[test]
    fn fields_are_where_each_version_has_them() {
        for (version, time, block, host, panic) in [
            (1, 48, 56, 60, 316),
            (2, 48, 60, 64, 320),
            (3, 56, 68, 73, 329),
        ] {
            let mut bytes = [0; 512];
            bytes[..20].copy_from_slice(b"FreeBSD Kernel Dump\0");
            bytes[35] = version;
            bytes[47] = 99;
            bytes[time + 7] = 5;
            bytes[block + 2] = 2;
            bytes[host] = b'h';
            bytes[panic] = b'p';
            let header = KernelDumpHeader::parse(&bytes, 0).unwrap().unwrap();
            assert_eq!(header.version, u32::from(version));
            assert_eq!(header.dumplength, 99);
            assert_eq!((header.dumptime, header.blocksize), (5, 512));
            assert_eq!(
                (&header.hostname[..], &header.panicstring[..]),
                (&b"h"[..], &b"p"[..])
            );
            assert_eq!(header.dumpextent, if version == 3 { 0 } else { 99 });
        }
    }

    #[test]
    fn strings_are_cut_as_the_kernel_cuts_them() {
        let header = KernelDumpHeader {
            hostname: vec![b'h'; 100],
            versionstring: vec![b'v'; 300],
            panicstring: vec![b'p'; 300],
            ..vector()
        };
        let block = header.encode();
        assert_eq!((block[126], block[127]), (b'h', 0));
        assert_eq!((block[128 + 190], block[128 + 191]), (b'\n', 0));
        assert_eq!((block[320 + 173], block[320 + 174]), (b'p', 0));
        assert_eq!(block[495], 1);
    }

    #[test]
    fn an_unknown_version_is_unsupported_and_no_magic_is_no_header() {
        let mut block = vector().encode();
        block[35] = 9;
        assert!(matches!(
            KernelDumpHeader::parse(&block, 0),
            Err(Error::Unsupported { .. })
        ));
        block[0] = b'X';
        assert_eq!(KernelDumpHeader::parse(&block, 0).unwrap(), None);
    }
}
