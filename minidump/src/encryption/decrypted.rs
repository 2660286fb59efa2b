//! Encrypted data, read at any offset as plain data.

use std::io;
use std::sync::Arc;
use std::time::SystemTime;

use livecore_compress::ReadAt;

use super::block::Cipher;
use super::primitives;
use super::session_key::{AES_BLOCK, SessionKey};

/// Maximum number of bytes to decrypt for one read. The caller reads again for the rest.
const PIECE: usize = 1 << 20;

/// The plain data of an encrypted source. A read decrypts only the bytes that it returns, and with
/// AES-256-CBC the rest of their blocks.
pub(super) struct Decrypted {
    source: Arc<dyn ReadAt>,
    key: SessionKey,
}

impl Decrypted {
    pub(super) fn new(source: Arc<dyn ReadAt>, key: SessionKey) -> Self {
        Self { source, key }
    }

    fn read_cbc(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        let skip = (offset % AES_BLOCK as u64) as usize;
        let first = offset - skip as u64;
        let want = (skip + buf.len().min(PIECE)).next_multiple_of(AES_BLOCK);
        // The block before the first one is its initialization vector.
        let before = first.checked_sub(AES_BLOCK as u64);
        let mut bytes = vec![0; AES_BLOCK + want];
        let got = match before {
            Some(before) => self.source.read_full_at(&mut bytes, before)?,
            None => {
                bytes[..AES_BLOCK].copy_from_slice(&self.key.iv[..AES_BLOCK]);
                AES_BLOCK + self.source.read_full_at(&mut bytes[AES_BLOCK..], first)?
            }
        };
        // The end of a truncated block cannot be decrypted.
        bytes.truncate(got / AES_BLOCK * AES_BLOCK);
        if bytes.len() <= AES_BLOCK {
            return Ok(0);
        }
        let (iv, data) = bytes.split_at_mut(AES_BLOCK);
        primitives::decrypt_cbc(&self.key, iv, data);
        let plain = data.get(skip..).unwrap_or_default();
        let n = plain.len().min(buf.len());
        buf[..n].copy_from_slice(&plain[..n]);
        Ok(n)
    }
}

impl ReadAt for Decrypted {
    fn size(&self) -> io::Result<u64> {
        let size = self.source.size()?;
        Ok(match self.key.cipher {
            Cipher::Aes256Cbc => size / AES_BLOCK as u64 * AES_BLOCK as u64,
            Cipher::ChaCha20 => size,
        })
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        if buf.is_empty() {
            return Ok(0);
        }
        match self.key.cipher {
            Cipher::Aes256Cbc => self.read_cbc(buf, offset),
            Cipher::ChaCha20 => {
                let n = self.source.read_at(buf, offset)?;
                primitives::chacha20(&self.key, &mut buf[..n], offset)?;
                Ok(n)
            }
        }
    }

    fn modified(&self) -> Option<SystemTime> {
        self.source.modified()
    }
}
