//! `struct kerneldumpkey`: the cipher, the initialization vector and the encrypted one-time key.

use livecore_defs::kerneldump::{
    ENCRYPTED_KEY_MAX, ENCRYPTION_AES_256_CBC, ENCRYPTION_CHACHA20, IV_SIZE,
    KEY_ENCRYPTEDKEY_OFFSET, KEY_ENCRYPTEDKEYSIZE, KEY_ENCRYPTION, KEY_IV,
};

use crate::Error;

/// The cipher of an encrypted dump.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Cipher {
    /// AES-256 in CBC mode, for uncompressed dumps. One chain over all data, without padding. The first
    /// 16 bytes of the initialization vector are used.
    Aes256Cbc,
    /// ChaCha20 in its original form: a 64-bit block counter, which starts at 0, and a 64-bit nonce, the
    /// first 8 bytes of the initialization vector.
    ChaCha20,
}

impl Cipher {
    /// The name: `AES-256-CBC` or `ChaCha20`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Aes256Cbc => "AES-256-CBC",
            Self::ChaCha20 => "ChaCha20",
        }
    }

    /// The number in key blocks and in seals.
    pub fn number(self) -> u8 {
        match self {
            Self::Aes256Cbc => ENCRYPTION_AES_256_CBC,
            Self::ChaCha20 => ENCRYPTION_CHACHA20,
        }
    }

    fn of_number(number: u8) -> Option<Self> {
        [Self::Aes256Cbc, Self::ChaCha20]
            .into_iter()
            .find(|cipher| cipher.number() == number)
    }
}

impl std::fmt::Display for Cipher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

/// A key block, `struct kerneldumpkey`. It contains no secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyBlock {
    /// The cipher of the data.
    pub cipher: Cipher,
    /// The initialization vector.
    pub iv: [u8; IV_SIZE],
    /// The one-time key, encrypted with RSA. As long as the modulus.
    pub encrypted_key: Vec<u8>,
}

impl KeyBlock {
    /// Maximum size of a key block without padding, in bytes.
    pub const SIZE_MAX: usize = KEY_ENCRYPTEDKEY_OFFSET + ENCRYPTED_KEY_MAX;

    /// Parses a key block at the beginning of `bytes`, which are at offset `at` of their file. Padding
    /// may follow.
    ///
    /// # Errors
    ///
    /// [`Error::Broken`] if the cipher is unknown or the encrypted key is empty, longer than a kernel
    /// permits, or truncated.
    pub fn parse(bytes: &[u8], at: u64) -> Result<Self, Error> {
        let broken = |field: &str, offset: usize, found: String, expected: String| {
            Error::broken(
                format!("key block, {field}"),
                at + offset as u64,
                found,
                expected,
            )
        };
        let Some((head, rest)) = bytes.split_first_chunk::<KEY_ENCRYPTEDKEY_OFFSET>() else {
            let found = format!("{} bytes", bytes.len());
            let expected = format!("at least {KEY_ENCRYPTEDKEY_OFFSET} bytes");
            return Err(broken("kdk_encryption", 0, found, expected));
        };
        let number = head[KEY_ENCRYPTION.offset];
        let cipher = Cipher::of_number(number).ok_or_else(|| {
            let expected = "1 (AES-256-CBC) or 2 (ChaCha20)".into();
            broken(
                "kdk_encryption",
                KEY_ENCRYPTION.offset,
                number.to_string(),
                expected,
            )
        })?;
        let size = &head[KEY_ENCRYPTEDKEYSIZE.offset..];
        let size = u32::from_be_bytes([size[0], size[1], size[2], size[3]]);
        let encrypted_key = usize::try_from(size)
            .ok()
            .filter(|size| (1..=ENCRYPTED_KEY_MAX).contains(size))
            .and_then(|size| rest.get(..size));
        let Some(encrypted_key) = encrypted_key else {
            let most = rest.len().min(ENCRYPTED_KEY_MAX);
            return Err(broken(
                "kdk_encryptedkeysize",
                KEY_ENCRYPTEDKEYSIZE.offset,
                size.to_string(),
                format!("1 to {most}"),
            ));
        };
        let mut iv = [0; IV_SIZE];
        iv.copy_from_slice(&head[KEY_IV.offset..KEY_IV.offset + IV_SIZE]);
        Ok(Self {
            cipher,
            iv,
            encrypted_key: encrypted_key.to_vec(),
        })
    }

    /// The key block, padded with zeros to a multiple of `blocksize` bytes, as on a dump device and in
    /// `key.N`.
    pub fn encode(&self, blocksize: u32) -> Vec<u8> {
        let mut bytes = vec![self.cipher.number()];
        bytes.extend(self.iv);
        bytes.extend((self.encrypted_key.len() as u32).to_be_bytes()); // at most SIZE_MAX
        bytes.extend(&self.encrypted_key);
        bytes.resize(bytes.len().next_multiple_of(blocksize.max(1) as usize), 0);
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn block() -> KeyBlock {
        KeyBlock {
            cipher: Cipher::ChaCha20,
            iv: std::array::from_fn(|i| i as u8),
            encrypted_key: vec![0xaa; 256],
        }
    }

    #[test]
    fn encoded_blocks_have_the_layout_of_the_kernel() {
        let bytes = block().encode(512);
        assert_eq!(bytes.len(), 512);
        assert_eq!((bytes[0], bytes[1], bytes[32]), (2, 0, 31));
        assert_eq!(bytes[33..37], [0, 0, 1, 0]);
        assert_eq!((bytes[37], bytes[292], bytes[293]), (0xaa, 0xaa, 0));
        assert_eq!(KeyBlock::parse(&bytes, 0).unwrap(), block());
    }

    #[test]
    fn every_truncated_block_is_broken() {
        let bytes = block().encode(1);
        for len in 0..bytes.len() {
            assert!(KeyBlock::parse(&bytes[..len], 0).is_err(), "{len} bytes");
        }
    }

    #[test]
    fn ciphers_and_sizes_that_no_kernel_writes_are_broken() {
        for (at, value) in [(0, 0), (0, 3), (33, 1), (34, 0xff)] {
            let mut bytes = block().encode(4096);
            bytes[at] = value;
            assert!(matches!(
                KeyBlock::parse(&bytes, 100),
                Err(Error::Broken { offset: 100.., .. })
            ));
        }
        let mut bytes = block().encode(4096);
        bytes[33..37].fill(0);
        assert!(KeyBlock::parse(&bytes, 0).is_err());
    }
}
