//! Encrypted dumps: the key block and the encrypted stream.
//!
//! FreeBSD `sys/sys/kerneldump.h`, `struct kerneldumpkey`; `sys/kern/kern_shutdown.c`.

use aes::cipher::{BlockModeEncrypt as _, KeyIvInit as _, StreamCipher as _};

use super::content::noise;
use super::recipe::Key;

/// AES-256-CBC in a key block.
pub(crate) const AES: u8 = 1;
/// ChaCha20 in a key block.
pub(crate) const CHACHA20: u8 = 2;

/// The one-time key of all dumps that the builder encrypts; `testdata/keys/README.md`.
fn one_time_key() -> [u8; 64] {
    std::array::from_fn(|i| 0xc0 + i as u8)
}

fn iv() -> [u8; 32] {
    let mut iv = [0; 32];
    for (i, word) in iv.chunks_mut(8).enumerate() {
        word.copy_from_slice(&noise(0x6976, i as u64).to_le_bytes());
    }
    iv
}

/// Encrypts the stored dump in place. Of AES-256-CBC, an incomplete last block stays as it is.
pub(crate) fn encrypt(key: Key, bytes: &mut [u8]) {
    let (secret, iv) = (one_time_key(), iv());
    match key.algorithm {
        AES => {
            let made = cbc::Encryptor::<aes::Aes256>::new_from_slices(&secret[..32], &iv[..16]);
            if let Ok(mut cipher) = made {
                cipher.encrypt_blocks(aes::Block::slice_as_chunks_mut(bytes).0);
            }
        }
        _ => {
            let made = chacha20::ChaCha20Legacy::new_from_slices(&secret[..32], &iv[..8]);
            if let Ok(mut cipher) = made {
                cipher.apply_keystream(bytes);
            }
        }
    }
}

/// The one-time key, encrypted with a key of `testdata/keys` of that many bytes. Noise for other sizes.
fn wrapped(key: Key) -> Vec<u8> {
    let text = match (key.wrapped, key.pkcs1) {
        (256, false) => include_str!("../../../testdata/keys/rsa2048.oaep.hex"),
        (256, true) => include_str!("../../../testdata/keys/rsa2048.pkcs1.hex"),
        (512, false) => include_str!("../../../testdata/keys/rsa4096.oaep.hex"),
        (len, _) => {
            let words = (0..len.div_ceil(8)).flat_map(|i| noise(0x6b, i).to_le_bytes());
            return words.take(len as usize).collect();
        }
    };
    let digits: Vec<u8> = text.bytes().filter(u8::is_ascii_hexdigit).collect();
    let value = |digit: u8| (digit as char).to_digit(16).unwrap_or(0) as u8;
    digits
        .chunks(2)
        .map(|pair| value(pair[0]) << 4 | value(pair[1]))
        .collect()
}

/// The key block: algorithm, initialization vector, wrapped key, zeros up to `size` bytes.
pub(crate) fn key_block(key: Key, size: u64) -> Vec<u8> {
    let mut out = vec![key.algorithm];
    out.extend(iv());
    out.extend_from_slice(&(key.wrapped as u32).to_be_bytes());
    out.extend(wrapped(key));
    out.resize(size as usize, 0);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn key_block_layout_is_packed() {
        let key = Key {
            algorithm: AES,
            wrapped: 256,
            pkcs1: false,
        };
        let block = key_block(key, 512);
        assert_eq!(block.len(), 512);
        assert_eq!((block[0], &block[33..37]), (1, &[0, 0, 1, 0][..]));
        assert!(block[37 + 256..].iter().all(|byte| *byte == 0));
        assert_ne!(block[37..37 + 256], [0; 256]);
    }

    #[test]
    fn wrapped_keys_are_as_long_as_the_modulus() {
        for (len, pkcs1) in [(256, false), (256, true), (512, false), (37, false)] {
            let key = Key {
                algorithm: CHACHA20,
                wrapped: len,
                pkcs1,
            };
            assert_eq!(wrapped(key).len() as u64, len);
        }
    }
}
