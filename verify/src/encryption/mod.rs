//! Encrypted dumps: the key block, and the file as it is after decryption.
//!
//! FreeBSD `sys/sys/kerneldump.h`, `struct kerneldumpkey`, and `sys/kern/kern_shutdown.c`. Headers and
//! seals are not encrypted, so the verifier checks the file as it is, except for the encrypted data,
//! which it decrypts while it reads. The caller decrypts the one-time key ([`OneTimeKeys`]).

mod find;
mod view;

use livecore_defs::kerneldump::{
    ENCRYPTED_KEY_MAX, ENCRYPTION_AES_256_CBC, ENCRYPTION_CHACHA20, IV_SIZE,
    KEY_ENCRYPTEDKEY_OFFSET, KEY_ENCRYPTEDKEYSIZE, KEY_ENCRYPTION, KEY_IV,
};

use crate::codec::Content;
use crate::finding::{Location, Sink};
use crate::input::{big, count, field};
use crate::kdh::Kdh;
use crate::keys::{KEY_LEN, OneTimeKeys};
use crate::report::Stop;
use crate::rules;

pub(crate) use find::{Encrypted, KeyLocation, find};
pub(crate) use view::View;

/// The ciphers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cipher {
    Aes,
    ChaCha,
}

impl Cipher {
    pub(crate) fn of_number(number: u8) -> Option<Self> {
        match number {
            ENCRYPTION_AES_256_CBC => Some(Self::Aes),
            ENCRYPTION_CHACHA20 => Some(Self::ChaCha),
            _ => None,
        }
    }
}

/// A valid key block.
pub(crate) struct KeyBlock {
    pub(crate) cipher: Cipher,
    pub(crate) iv: [u8; IV_SIZE],
    pub(crate) encrypted: Vec<u8>,
}

/// The bytes of a key block, and where they are.
pub(crate) struct KeyBytes {
    pub(crate) bytes: Vec<u8>,
    pub(crate) place: Location<'static>,
    /// Size of the block by the header, if there is a header.
    pub(crate) reserved: Option<u64>,
    /// The block size of the dumper, of which the key block is a multiple.
    pub(crate) blocksize: Option<u64>,
}

impl KeyBytes {
    /// Key bytes of a file or at an offset of a file.
    pub(crate) fn new(bytes: Vec<u8>, region: &'static str, at: u64) -> Self {
        Self {
            bytes,
            place: Location::file(region, at),
            reserved: None,
            blocksize: None,
        }
    }

    /// Applies the rules about the key block. `None` if it is invalid.
    pub(crate) fn check(&self, sink: &mut Sink) -> Option<KeyBlock> {
        let bytes = &self.bytes;
        let number = field(bytes, KEY_ENCRYPTION).map_or(0, |bytes| bytes[0]);
        let cipher = Cipher::of_number(number);
        sink.check(&rules::KEY_CIPHER, cipher.is_some(), &self.place, |f| {
            f.found(format!("cipher {number}"))
                .expected("1 (AES-256-CBC) or 2 (ChaCha20)")
        });
        let len = big(bytes, KEY_ENCRYPTEDKEYSIZE);
        // Less than 2^32.
        let end = KEY_ENCRYPTEDKEY_OFFSET + len as usize;
        let fits = (1..=ENCRYPTED_KEY_MAX as u64).contains(&len) && end <= bytes.len();
        sink.check(&rules::KEY_LENGTH, fits, &self.place, |f| {
            f.found(format!("an encrypted key of {}", count(len, "byte")))
                .expected(format!(
                    "1 to {ENCRYPTED_KEY_MAX} bytes, within a block of {}",
                    count(bytes.len() as u64, "byte")
                ))
        });
        if !fits {
            return None;
        }
        if let (Some(reserved), Some(unit)) = (self.reserved, self.blocksize) {
            let expected = (end as u64).checked_next_multiple_of(unit);
            let right = expected == Some(reserved);
            sink.check(&rules::KEY_SIZE, right, &self.place, |f| {
                f.found(format!("dumpkeysize {reserved}")).expected(format!(
                    "{}: {end} bytes, rounded up to blocks of {unit}",
                    expected.unwrap_or(0)
                ))
            });
        }
        let stray = bytes[end..].iter().position(|byte| *byte != 0);
        sink.check(&rules::KEY_PADDING, stray.is_none(), &self.place, |f| {
            f.found("a nonzero byte after the encrypted key")
                .expected(format!("zeros from byte {end} of the key block"))
        });
        let mut iv = [0; IV_SIZE];
        iv.copy_from_slice(field(bytes, KEY_IV)?);
        Some(KeyBlock {
            cipher: cipher?,
            iv,
            encrypted: bytes[KEY_ENCRYPTEDKEY_OFFSET..end].to_vec(),
        })
    }
}

/// Applies the rule about the cipher of data of `len` bytes, which `header` describes.
pub(crate) fn check_data(
    block: &KeyBlock,
    header: Option<&Kdh>,
    len: u64,
    place: &Location<'_>,
    sink: &mut Sink,
) {
    let whole = len.is_multiple_of(16);
    let plain = header.is_none_or(|header| header.codec() == Some(livecore_compress::Codec::None));
    let right = block.cipher == Cipher::ChaCha || whole && plain;
    sink.check(&rules::KEY_DATA, right, place, |f| {
        f.found(match plain {
            false => "compressed data with AES-256-CBC".into(),
            true => format!("{} with AES-256-CBC", count(len, "byte")),
        })
        .expected("ChaCha20, or uncompressed data of whole blocks of 16 bytes")
    });
}

/// The one-time key. Without a private key, reports that the data was not checked.
pub(crate) fn one_time_key(
    block: &KeyBlock,
    keys: Option<&dyn OneTimeKeys>,
    place: &Location<'_>,
    sink: &mut Sink,
) -> Result<[u8; KEY_LEN], Stop> {
    sink.check(&rules::KEY_UNREAD, keys.is_some(), place, |f| {
        f.found("no private key")
            .expected("the private key, to check the data")
    });
    let Some(keys) = keys else {
        return Err(Stop::Encrypted);
    };
    let key = keys.decrypt(&block.encrypted);
    key.map_err(|why| Stop::Failed(format!("wrong private key, or damaged key block: {why}")))
}

/// Receives encrypted content, which has no structure.
pub(crate) struct Opaque;

impl Content for Opaque {
    fn expect_len(&mut self, _: u64) {}

    fn expect_exactly(&mut self, _: u64) {}

    fn formula(&self) -> Option<u64> {
        None
    }

    fn wants(&self) -> Option<u64> {
        None
    }

    fn skip_to(&mut self, _: u64) {}

    fn stretch(&self) -> usize {
        0
    }

    fn has_sections(&self) -> bool {
        true
    }

    fn push(&mut self, _: &[u8], _: &mut Sink) -> Result<(), Stop> {
        Ok(())
    }

    fn gap(&mut self, _: Option<u64>, _: &mut Sink) {}
}
