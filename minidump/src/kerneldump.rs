//! Parses the 512-byte kerneldumpheader of any version and encodes version 4.

use byteorder::{BigEndian, ByteOrder as _};
use livecore_compress::Codec;

use crate::{Architecture, Error, MinidumpHeader};
use livecore_defs::Field;
use livecore_defs::kerneldump as defs;

/// The magic string of a header.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Magic {
    /// A kernel dump.
    #[default]
    Kernel,
    /// A text dump.
    Text,
    /// A kernel dump that savecore(8) has saved and marked. The mark invalidates its parity.
    Cleared,
}

impl Magic {
    /// The string, padded with NUL.
    pub fn bytes(self) -> &'static [u8; 20] {
        match self {
            Self::Kernel => &defs::KERNELDUMPMAGIC,
            Self::Text => &defs::TEXTDUMPMAGIC,
            Self::Cleared => &defs::KERNELDUMPMAGIC_CLEARED,
        }
    }

    /// Returns the magic at the start of `block`.
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

/// `struct kerneldumpheader`. Strings do not have the NUL and can have any other bytes.
///
/// In versions without the fields, `dumpkeysize` and `compression` are 0, and `dumpextent` is
/// `dumplength`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct KernelDumpHeader {
    /// The magic.
    pub magic: Magic,
    /// The version of the header, 1 to 4. It is always encoded as 4.
    pub version: u32,
    /// `MACHINE_ARCH`.
    pub architecture: Vec<u8>,
    /// A version number of the port.
    pub architectureversion: u32,
    /// The length of the stored data.
    pub dumplength: u64,
    /// The space reserved for the data, usually its length before compression.
    pub dumpextent: u64,
    /// Seconds since 1970 UTC.
    pub dumptime: u64,
    /// The length of the key block; 0 if the dump is not encrypted.
    pub dumpkeysize: u32,
    /// The dumper's block size.
    pub blocksize: u32,
    /// The host name.
    pub hostname: Vec<u8>,
    /// The kernel's version string, including its newline.
    pub versionstring: Vec<u8>,
    /// The panic message; empty without a panic.
    pub panicstring: Vec<u8>,
    /// The compression byte.
    pub compression: u8,
    /// The stored parity bytes.
    pub parity: [u8; 4],
    /// Whether the parity is valid.
    pub parity_ok: bool,
    /// Whether the unused bytes of version 4 have a byte that is not zero.
    pub has_stray_bytes: bool,
}

impl KernelDumpHeader {
    /// Parses the 512 bytes at `offset` of the file. Returns `None` if they have no magic.
    ///
    /// An unknown version is [`Error::Unsupported`]. The caller checks the parity and the magic.
    ///
    /// # Errors
    ///
    /// Returns [`Error::Unsupported`] for an unknown version, [`Error::Broken`] if a field is invalid.
    pub fn parse(block: &[u8; defs::SIZE], offset: u64) -> Result<Option<Self>, Error> {
        let Some(magic) = Magic::probe(block) else {
            return Ok(None);
        };
        let number = |field: Field| BigEndian::read_uint(bytes(block, field), field.len);
        // `word` is called for fields of 4 bytes.
        let word = |field: Field| number(field) as u32;
        let version = word(defs::VERSION);
        let Some(fields) = defs::VERSIONS.iter().find(|f| f.version == version) else {
            return Err(Error::Unsupported {
                what: format!(
                    "kerneldumpheader version {version} at offset {offset:#x} (supported: 1 to 4)"
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
            has_stray_bytes: version == defs::V4.version
                && bytes(block, defs::V4_UNUSED).iter().any(|b| *b != 0),
        }))
    }

    /// Encodes the header as current kernels do: version 4, with valid parity. Strings that do not
    /// fit are truncated as the kernel truncates them: the version string keeps its newline.
    pub fn encode(&self) -> [u8; defs::SIZE] {
        let mut block = [0; defs::SIZE];
        let mut put = |field: Field, value: &[u8]| {
            let n = value.len().min(field.len);
            block[field.offset..field.offset + n].copy_from_slice(&value[..n]);
        };
        // The last byte of a field is NUL.
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

    /// The codec of the compression byte; `None` if it is unknown.
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

    /// Returns a header for a dump without one. Its fields come from the minidump header; strings are
    /// empty, and the time and the lengths are 0.
    pub fn from_payload(header: &MinidumpHeader) -> Self {
        Self {
            architecture: header.machine_arch().into(),
            ..Self::of_port(header.arch, header.order, header.page_size())
        }
        .with_parity()
    }

    /// Returns a header for a dump of a port with this page size. Strings are empty, and the time and
    /// the lengths are 0.
    pub fn of_port(arch: &Architecture, order: crate::ByteOrder, page_size: u64) -> Self {
        Self {
            version: defs::KERNELDUMPVERSION,
            architecture: arch.machine_arch(order, arch.words[0]).into(),
            architectureversion: arch.architectureversion,
            // Page sizes are at most 16 KiB.
            blocksize: page_size as u32,
            ..Self::default()
        }
        .with_parity()
    }

    /// Sets version 4 and the parity that [`KernelDumpHeader::encode`] calculates.
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
    // Every defined field is within the header.
    &block[field.offset..field.offset + field.len]
}

/// Returns the bytes of a string field before its NUL.
fn text(block: &[u8; defs::SIZE], field: Field) -> Vec<u8> {
    bytes(block, field)
        .split(|b| *b == 0)
        .next()
        .unwrap_or_default()
        .to_vec()
}

/// Calculates the exclusive or of the 128 words.
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

    /// The test vector in the format documentation, computed by another program.
    #[test]
    fn parity_is_that_of_the_test_vector() {
        let block = vector().encode();
        assert_eq!(block[508..], [0x44, 0x26, 0xa2, 0x26]);
        let header = KernelDumpHeader::parse(&block, 0).unwrap().unwrap();
        assert!(header.parity_ok);
        assert_eq!(header, vector().with_parity());
    }

    #[test]
    fn a_cleared_magic_or_a_flipped_bit_invalidates_the_parity() {
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

    /// The offsets of each version are from `kerneldump_compat.h`.
    #[test]
    fn fields_of_each_version_are_parsed_at_their_offsets() {
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
    fn strings_are_truncated_as_by_the_kernel() {
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
    fn an_unknown_version_is_unsupported_and_a_block_without_magic_is_none() {
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
