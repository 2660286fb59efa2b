//! RSA, AES and ChaCha20, with the crates of RustCrypto.

use std::fmt;
use std::io;

use aes::Aes256;
use aes::cipher::{BlockModeDecrypt, BlockModeEncrypt, KeyIvInit};
use chacha20::ChaCha20Legacy;
use chacha20::cipher::{StreamCipher, StreamCipherSeek};
use rsa::pkcs1::{DecodeRsaPrivateKey, DecodeRsaPublicKey};
use rsa::pkcs8::{DecodePrivateKey, DecodePublicKey};
use rsa::traits::PublicKeyParts;
use sha1::Sha1;
use zeroize::Zeroizing;

use super::block::{Cipher, KeyBlock};
use super::session_key::{AES_BLOCK, KEY_LEN, SessionKey};
use crate::Error;

/// Size of the one-time key that dumpon(8) makes. The ciphers use its first [`KEY_LEN`] bytes.
const ONE_TIME_KEY: usize = 64;

/// Minimum size of a modulus, in bytes: dumpon(8) refuses smaller keys.
const MODULUS_MIN: usize = 256;

/// The private key of encrypted dumps. Wiped when dropped.
pub struct PrivateKey(rsa::PrivateKey);

impl fmt::Debug for PrivateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PrivateKey")
    }
}

impl PrivateKey {
    /// Parses a PEM file: `RSA PRIVATE KEY` or `PRIVATE KEY`, of at most 8192 bits.
    ///
    /// # Errors
    ///
    /// [`Error::KeyFile`] if it is not such a key, or if a passphrase protects it.
    pub fn from_pem(pem: &str) -> Result<Self, Error> {
        let refuse = |what: &str| Err(Error::KeyFile { what: what.into() });
        if pem.contains("ENCRYPTED") {
            return refuse(
                "a passphrase protects it; remove the passphrase from a copy with `openssl rsa`",
            );
        }
        if pem.contains("PUBLIC KEY") {
            return refuse("found a public key; use the private key, which decrypts");
        }
        let key = match pem.contains("BEGIN RSA PRIVATE KEY") {
            true => rsa::PrivateKey::from_pkcs1_pem(pem).ok(),
            false => rsa::PrivateKey::from_pkcs8_pem(pem).ok(),
        };
        match key {
            Some(key) => Ok(Self(key)),
            None => refuse("expected an RSA private key in PEM, of at most 8192 bits"),
        }
    }

    /// Decrypts a one-time key: RSA-OAEP with SHA-1, or else PKCS#1 v1.5, which dumpon(8) of FreeBSD 12
    /// uses. Returns the bytes that are the key of the cipher.
    ///
    /// # Errors
    ///
    /// [`Error::WrongKey`] if it was encrypted with another public key, or is damaged.
    pub fn one_time_key(&self, sealed: &[u8]) -> Result<Zeroizing<[u8; KEY_LEN]>, Error> {
        let wrong = |why: String| Err(Error::WrongKey { why });
        let (modulus, len) = (self.0.size(), sealed.len());
        if modulus != len {
            return wrong(format!(
                "the key has {} bits, but the dump needs one of {} bits",
                modulus * 8,
                len * 8
            ));
        }
        let plain = self.0.oaep_decrypt::<Sha1>(sealed);
        let plain = match plain {
            Ok(plain) => Some(plain),
            // With a wrong key, the result is random bytes of any length.
            Err(_) => self
                .0
                .pkcs1v15_decrypt(sealed)
                .ok()
                .filter(|plain| [ONE_TIME_KEY, KEY_LEN].contains(&plain.len())),
        };
        let plain = plain.map(Zeroizing::new);
        let mut key = Zeroizing::new([0; KEY_LEN]);
        let used = plain.as_ref().and_then(|plain| plain.get(..KEY_LEN));
        match used.map(|used| key.copy_from_slice(used)) {
            Some(()) => Ok(key),
            None => wrong("the key does not decrypt the dump's one-time key".into()),
        }
    }
}

/// The public key of encrypted dumps.
#[derive(Debug, Clone)]
pub struct PublicKey(rsa::PublicKey);

impl PublicKey {
    /// Parses a PEM file: `PUBLIC KEY` or `RSA PUBLIC KEY`, of 2048 to 8192 bits.
    ///
    /// # Errors
    ///
    /// [`Error::KeyFile`] if it is not such a key.
    pub fn from_pem(pem: &str) -> Result<Self, Error> {
        let refuse = |what: &str| Err(Error::KeyFile { what: what.into() });
        if pem.contains("PRIVATE KEY") {
            return refuse(
                "it is a private key; make the public key with `openssl rsa -pubout`, and keep the \
                 private key away from the machine that is dumped",
            );
        }
        let key = match pem.contains("BEGIN RSA PUBLIC KEY") {
            true => rsa::PublicKey::from_pkcs1_pem(pem).ok(),
            false => rsa::PublicKey::from_public_key_pem(pem).ok(),
        };
        match key {
            Some(key) if key.size() >= MODULUS_MIN => Ok(Self(key)),
            Some(_) => refuse("it has less than 2048 bits"),
            None => refuse("expected an RSA public key in PEM, of at most 8192 bits"),
        }
    }

    /// Makes a one-time key and its key block. Each dump must have its own.
    pub(super) fn new_session(&self, cipher: Cipher) -> Result<(SessionKey, KeyBlock), Error> {
        let failed = |what: String| Error::Options(format!("cannot make a one-time key: {what}"));
        let mut plain = Zeroizing::new([0; ONE_TIME_KEY]);
        let mut block = KeyBlock {
            cipher,
            iv: [0; 32],
            encrypted_key: Vec::new(),
        };
        for bytes in [&mut plain[..], &mut block.iv[..]] {
            getrandom::fill(bytes).map_err(|e| failed(e.to_string()))?;
        }
        block.encrypted_key = self
            .0
            .oaep_encrypt::<Sha1>(&plain[..])
            .map_err(|e| failed(e.to_string()))?;
        let mut key = Zeroizing::new([0; KEY_LEN]);
        key.copy_from_slice(&plain[..KEY_LEN]);
        let session = SessionKey {
            cipher,
            key,
            iv: block.iv,
        };
        Ok((session, block))
    }
}

/// Decrypts complete blocks in place; `iv` is the block before them.
pub(super) fn decrypt_cbc(key: &SessionKey, iv: &[u8], data: &mut [u8]) {
    let Ok(mut cipher) = cbc::Decryptor::<Aes256>::new_from_slices(&key.key[..], iv) else {
        unreachable!("key and block have the sizes of the cipher");
    };
    cipher.decrypt_blocks(as_blocks(data));
}

/// Encrypts complete blocks in place. `last` is the block before them, and then their last one.
pub(super) fn encrypt_cbc(key: &SessionKey, last: &mut [u8; AES_BLOCK], data: &mut [u8]) {
    let Ok(mut cipher) = cbc::Encryptor::<Aes256>::new_from_slices(&key.key[..], last) else {
        unreachable!("key and block have the sizes of the cipher");
    };
    cipher.encrypt_blocks(as_blocks(data));
    if let Some(end) = data.last_chunk() {
        *last = *end;
    }
}

fn as_blocks(data: &mut [u8]) -> &mut [aes::Block] {
    aes::Block::slice_as_chunks_mut(data).0
}

/// Encrypts or decrypts bytes at `offset` of the data in place.
pub(super) fn chacha20(key: &SessionKey, data: &mut [u8], offset: u64) -> io::Result<()> {
    let Ok(mut cipher) = ChaCha20Legacy::new_from_slices(&key.key[..], &key.iv[..8]) else {
        unreachable!("key and nonce have the sizes of the cipher");
    };
    let too_far = |_| {
        io::Error::other(format!(
            "offset {offset:#x} is after the end of ChaCha20's stream"
        ))
    };
    cipher.try_seek(offset).map_err(too_far)?;
    cipher.try_apply_keystream(data).map_err(too_far)
}
