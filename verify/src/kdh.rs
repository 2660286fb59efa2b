//! The verifier's own reader of `struct kerneldumpheader`.
//!
//! It uses only the definitions of [`livecore_defs::kerneldump`].

use livecore_compress::Codec;
use livecore_defs::Architecture;
use livecore_defs::kerneldump::{
    ARCHITECTURE, ARCHITECTUREVERSION, COMPRESSION_GZIP, COMPRESSION_NONE, COMPRESSION_ZSTD,
    DUMPLENGTH, HeaderFields, KERNELDUMPMAGIC, KERNELDUMPMAGIC_CLEARED, MAGIC, PARITY, SIZE,
    TEXTDUMPMAGIC, V4_UNUSED, VERSION, VERSIONS,
};

use crate::facts::Container;
use crate::finding::{Location, Sink};
use crate::input::{big, field, hex, quoted};
use crate::rules;

/// A header and its offset.
#[derive(Debug, Clone)]
pub(crate) struct Kdh {
    /// The header's 512 bytes.
    pub(crate) bytes: [u8; SIZE],
    /// Offset in the file.
    pub(crate) offset: u64,
    /// The region's name in findings.
    pub(crate) region: &'static str,
}

/// Whether `bytes` begin with one of the three magics, of which up to four bytes may be damaged.
pub(crate) fn resembles_magic(bytes: &[u8]) -> bool {
    let Some(found) = field(bytes, MAGIC) else {
        return false;
    };
    [KERNELDUMPMAGIC, TEXTDUMPMAGIC, KERNELDUMPMAGIC_CLEARED]
        .iter()
        .any(|magic| magic.iter().zip(found).filter(|(a, b)| a == b).count() >= MAGIC.len - 4)
}

/// Whether a kernel whose `MACHINE_ARCH` is `name` writes minidumps of `architecture`.
pub(crate) fn port_matches(name: &[u8], architecture: &str) -> bool {
    let Some(row) = Architecture::named(architecture) else {
        return name == architecture.as_bytes();
    };
    match row.machine_arch_prefix {
        Some(prefix) => name.starts_with(prefix.as_bytes()),
        None => row
            .machine_archs
            .iter()
            .any(|arch| arch.name.as_bytes() == name),
    }
}

impl Kdh {
    pub(crate) fn new(bytes: [u8; SIZE], offset: u64, region: &'static str) -> Self {
        Self {
            bytes,
            offset,
            region,
        }
    }

    /// The layout of the header's version; of an unknown version that of version 4.
    fn fields(&self) -> &'static HeaderFields {
        let version = self.version();
        VERSIONS
            .iter()
            .find(|f| u64::from(f.version) == version)
            .unwrap_or(&VERSIONS[3])
    }

    fn magic(&self) -> &[u8] {
        field(&self.bytes, MAGIC).unwrap_or_default()
    }

    pub(crate) fn is_text_dump(&self) -> bool {
        self.magic() == TEXTDUMPMAGIC
    }

    /// Whether the header is intact and has an unknown version.
    pub(crate) fn has_unknown_version(&self) -> bool {
        let known = VERSIONS
            .iter()
            .any(|f| u64::from(f.version) == self.version());
        !known && self.parity() == [0; 4]
    }

    pub(crate) fn version(&self) -> u64 {
        big(&self.bytes, VERSION)
    }

    pub(crate) fn architecture(&self) -> &[u8] {
        text(field(&self.bytes, ARCHITECTURE).unwrap_or_default())
    }

    pub(crate) fn architecture_version(&self) -> u64 {
        big(&self.bytes, ARCHITECTUREVERSION)
    }

    pub(crate) fn dumplength(&self) -> u64 {
        big(&self.bytes, DUMPLENGTH)
    }

    /// `dumpextent`; `dumplength` in versions without it.
    pub(crate) fn dumpextent(&self) -> u64 {
        match self.fields().dumpextent {
            Some(at) => big(&self.bytes, at),
            None => self.dumplength(),
        }
    }

    /// Whether the header's version has a `dumpextent` field.
    pub(crate) fn has_dumpextent(&self) -> bool {
        self.fields().dumpextent.is_some()
    }

    pub(crate) fn dumptime(&self) -> u64 {
        big(&self.bytes, self.fields().dumptime)
    }

    pub(crate) fn dumpkeysize(&self) -> u64 {
        self.fields()
            .dumpkeysize
            .map_or(0, |at| big(&self.bytes, at))
    }

    pub(crate) fn blocksize(&self) -> u64 {
        big(&self.bytes, self.fields().blocksize)
    }

    pub(crate) fn hostname(&self) -> &[u8] {
        text(field(&self.bytes, self.fields().hostname).unwrap_or_default())
    }

    pub(crate) fn versionstring(&self) -> &[u8] {
        text(field(&self.bytes, self.fields().versionstring).unwrap_or_default())
    }

    pub(crate) fn panicstring(&self) -> &[u8] {
        text(field(&self.bytes, self.fields().panicstring).unwrap_or_default())
    }

    pub(crate) fn compression(&self) -> u8 {
        match self.fields().compression {
            Some(at) => field(&self.bytes, at).map_or(COMPRESSION_NONE, |b| b[0]),
            None => COMPRESSION_NONE,
        }
    }

    /// The codec; `None` if the compression number is unknown.
    pub(crate) fn codec(&self) -> Option<Codec> {
        match self.compression() {
            COMPRESSION_NONE => Some(Codec::None),
            COMPRESSION_GZIP => Some(Codec::Gzip),
            COMPRESSION_ZSTD => Some(Codec::Zstd),
            _ => None,
        }
    }

    /// The exclusive or of all words, byte by byte: independent of the byte order.
    pub(crate) fn parity(&self) -> [u8; 4] {
        self.bytes.chunks_exact(4).fold([0; 4], |mut sum, word| {
            sum.iter_mut().zip(word).for_each(|(s, b)| *s ^= b);
            sum
        })
    }

    /// The bytes of the parity field.
    pub(crate) fn parity_field(&self) -> [u8; 4] {
        let mut bytes = [0; 4];
        bytes.copy_from_slice(&self.bytes[PARITY.offset..PARITY.offset + PARITY.len]);
        bytes
    }

    /// The location of byte `offset` of this header.
    pub(crate) fn at(&self, offset: usize) -> Location<'static> {
        Location::file(self.region, self.offset + offset as u64)
    }

    /// The location of `dumpextent`.
    pub(crate) fn at_dumpextent(&self) -> Location<'static> {
        self.at(self.fields().dumpextent.unwrap_or(DUMPLENGTH).offset)
    }

    /// The location of the version string.
    pub(crate) fn at_versionstring(&self) -> Location<'static> {
        self.at(self.fields().versionstring.offset)
    }

    /// The location of the compression byte.
    pub(crate) fn at_compression(&self) -> Location<'static> {
        self.at(self.fields().compression.map_or(0, |f| f.offset))
    }

    /// Applies the rules that depend only on the header.
    pub(crate) fn check(&self, container: Container, sink: &mut Sink) {
        self.check_in(container, false, sink);
    }

    /// [`Self::check`] for the header in a seal, of an encrypted file or not.
    pub(crate) fn check_sealed(&self, is_encrypted: bool, sink: &mut Sink) {
        self.check_in(Container::Sealed, is_encrypted, sink);
    }

    fn check_in(&self, container: Container, is_encrypted: bool, sink: &mut Sink) {
        let magic = self.magic();
        let cleared = magic == KERNELDUMPMAGIC_CLEARED;
        sink.check(&rules::KDH_CLEARED, !cleared, &self.at(MAGIC.offset), |f| {
            f.found(quoted(magic))
                .expected(quoted(&KERNELDUMPMAGIC))
                .bytes(self.offset, magic)
        });
        let known = cleared || magic == KERNELDUMPMAGIC || magic == TEXTDUMPMAGIC;
        sink.check(&rules::KDH_MAGIC, known, &self.at(MAGIC.offset), |f| {
            f.found(quoted(magic))
                .expected(quoted(&KERNELDUMPMAGIC))
                .bytes(self.offset, magic)
        });
        let version = self.version();
        let known = VERSIONS.iter().any(|f| u64::from(f.version) == version);
        sink.check(&rules::KDH_VERSION, known, &self.at(VERSION.offset), |f| {
            f.found(version.to_string()).expected("1 to 4")
        });
        // savecore(8) clears the magic and does not update the parity.
        let mut whole = self.clone();
        if cleared {
            whole.bytes[..KERNELDUMPMAGIC.len()].copy_from_slice(&KERNELDUMPMAGIC);
        }
        let parity = whole.parity();
        sink.check(
            &rules::KDH_PARITY,
            parity == [0; 4],
            &self.at(PARITY.offset),
            |f| {
                f.found(format!("exclusive or {}", hex(&parity)))
                    .expected("exclusive or 00 00 00 00")
                    .bytes(self.offset + PARITY.offset as u64, &self.parity_field())
            },
        );
        self.check_strings(sink);
        let (compression, at) = (self.compression(), self.fields().compression);
        let place = self.at(at.map_or(0, |f| f.offset));
        sink.check(
            &rules::KDH_COMPRESSION,
            self.codec().is_some(),
            &place,
            |f| {
                f.found(compression.to_string())
                    .expected("0 (none), 1 (gzip) or 2 (zstd)")
            },
        );
        self.check_sizes(container, is_encrypted, sink);
        if version == 4 {
            let unused = field(&self.bytes, V4_UNUSED).unwrap_or_default();
            let zero = unused.iter().all(|b| *b == 0);
            sink.check(&rules::KDH_UNUSED, zero, &self.at(V4_UNUSED.offset), |f| {
                f.found(hex(unused)).expected("zeros")
            });
        }
    }

    fn check_strings(&self, sink: &mut Sink) {
        let fields = self.fields();
        for (name, at) in [
            ("architecture", ARCHITECTURE),
            ("hostname", fields.hostname),
            ("versionstring", fields.versionstring),
            ("panicstring", fields.panicstring),
        ] {
            let bytes = field(&self.bytes, at).unwrap_or_default();
            let place = self.at(at.offset);
            let nul = bytes.iter().position(|b| *b == 0);
            sink.check(&rules::KDH_STRINGS, nul.is_some(), &place, |f| {
                f.found(format!("no NUL in the {} bytes of {name}", at.len))
                    .expected(format!("a NUL within {} bytes", at.len))
                    .bytes(self.offset + at.offset as u64, bytes)
            });
            let tail = nul.map_or(&[][..], |n| &bytes[n..]);
            let stray = tail.iter().position(|b| *b != 0);
            sink.check(&rules::KDH_STRING_TAIL, stray.is_none(), &place, |f| {
                let stray = nul.unwrap_or(0) + stray.unwrap_or(0);
                f.found(format!("{name} has nonzero bytes after its NUL"))
                    .expected("zeros to the end of the field")
                    .bytes(self.offset + (at.offset + stray) as u64, &bytes[stray..])
            });
        }
        let architecture = self.architecture();
        let name = std::str::from_utf8(architecture).ok();
        let known = name.and_then(|name| Some((name, Architecture::architectureversion(name)?)));
        let place = self.at(ARCHITECTURE.offset);
        sink.check(&rules::KDH_ARCHITECTURE, known.is_some(), &place, |f| {
            f.found(quoted(architecture))
                .expected("the name of a FreeBSD port")
        });
        if let Some((name, expected)) = known
            && !self.is_text_dump()
        {
            let found = self.architecture_version();
            let place = self.at(ARCHITECTUREVERSION.offset);
            let right = found == u64::from(expected);
            sink.check(&rules::KDH_ARCHITECTUREVERSION, right, &place, |f| {
                f.found(found.to_string())
                    .expected(format!("{expected}, the version of {name}"))
            });
        }
    }

    fn check_sizes(&self, container: Container, is_encrypted: bool, sink: &mut Sink) {
        let fields = self.fields();
        let blocksize = self.blocksize();
        let place = self.at(fields.blocksize.offset);
        let right = match container {
            Container::Raw => matches!(blocksize, 4096 | 16384),
            _ => blocksize.is_power_of_two() && blocksize >= 512,
        };
        sink.check(&rules::KDH_BLOCKSIZE, right, &place, |f| {
            f.found(blocksize.to_string()).expected(match container {
                Container::Raw => "the page size, 4096 or 16384",
                _ => "a power of two, at least 512",
            })
        });
        let keysize = self.dumpkeysize();
        let place = self.at(fields.dumpkeysize.map_or(0, |f| f.offset));
        let right = match container {
            Container::DumpDevice => keysize == 0 || keysize.checked_rem(blocksize) == Some(0),
            Container::Sealed if is_encrypted => keysize.checked_rem(blocksize) == Some(0),
            _ => keysize == 0,
        };
        sink.check(&rules::KDH_KEYSIZE, right, &place, |f| {
            f.found(keysize.to_string()).expected(match container {
                Container::DumpDevice => "a multiple of the block size",
                Container::Sealed if is_encrypted => "a multiple of the block size",
                _ => "0: live dumps are not encrypted, and the seal states no cipher",
            })
        });
    }
}

/// The bytes before the first NUL.
fn text(bytes: &[u8]) -> &[u8] {
    let end = bytes.iter().position(|b| *b == 0).unwrap_or(bytes.len());
    &bytes[..end]
}
