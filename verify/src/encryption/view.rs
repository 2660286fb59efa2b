//! A file whose encrypted data is decrypted where it is read.

use std::io;
use std::ops::Range;
use std::sync::Arc;

use aes::Aes256;
use aes::cipher::{BlockModeDecrypt, KeyIvInit};
use chacha20::ChaCha20Legacy;
use chacha20::cipher::{StreamCipher, StreamCipherSeek};
use livecore_compress::ReadAt;
use zeroize::Zeroizing;

use super::{Cipher, KeyBlock};
use crate::keys::KEY_LEN;

/// Size of an AES block.
const BLOCK: u64 = 16;

/// Number of bytes to decrypt at once.
const PIECE: u64 = 1 << 20;

/// A file, decrypted in the range `data`.
pub(crate) struct View {
    source: Arc<dyn ReadAt>,
    data: Range<u64>,
    /// Offset at which the view ends.
    end: u64,
    block: KeyBlock,
    key: Zeroizing<[u8; KEY_LEN]>,
}

impl View {
    /// The file up to `end`.
    pub(crate) fn new(
        source: Arc<dyn ReadAt>,
        data: Range<u64>,
        end: u64,
        block: KeyBlock,
        key: [u8; KEY_LEN],
    ) -> Self {
        Self {
            source,
            data,
            end,
            block,
            key: Zeroizing::new(key),
        }
    }

    /// Reads at `offset`, which is in the encrypted data, at most to the end of the data.
    fn decrypt(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        let (start, failed) = (self.data.start, |_| io::Error::other("cannot decrypt"));
        let at = offset - start;
        match self.block.cipher {
            Cipher::ChaCha => {
                let got = self.source.read_at(buf, offset)?;
                let nonce = &self.block.iv[..8];
                let mut cipher = ChaCha20Legacy::new_from_slices(&self.key[..], nonce)
                    .map_err(io::Error::other)?;
                cipher.try_seek(at).map_err(failed)?;
                cipher
                    .try_apply_keystream(&mut buf[..got])
                    .map_err(failed)?;
                Ok(got)
            }
            Cipher::Aes => {
                let from = at - at % BLOCK;
                let len = (at % BLOCK + (buf.len() as u64).min(PIECE)).next_multiple_of(BLOCK);
                let len = len.min(self.data.end - start - from) as usize; // at most PIECE and 2 blocks
                let mut bytes = vec![0; len];
                let got = self.source.read_full_at(&mut bytes, start + from)?;
                let mut iv = [0; BLOCK as usize];
                match from.checked_sub(BLOCK) {
                    Some(before) => self.source.read_exact_at(&mut iv, start + before)?,
                    None => iv.copy_from_slice(&self.block.iv[..BLOCK as usize]),
                }
                let mut cipher = cbc::Decryptor::<Aes256>::new_from_slices(&self.key[..], &iv)
                    .map_err(io::Error::other)?;
                // The rest of an incomplete block stays as it is; a rule reports it.
                cipher.decrypt_blocks(aes::Block::slice_as_chunks_mut(&mut bytes[..got]).0);
                let skip = (at - from) as usize;
                let plain = bytes[..got].get(skip..).unwrap_or_default();
                let n = plain.len().min(buf.len());
                buf[..n].copy_from_slice(&plain[..n]);
                Ok(n)
            }
        }
    }
}

impl ReadAt for View {
    fn size(&self) -> io::Result<u64> {
        Ok(self.end)
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        let until = match offset {
            _ if offset < self.data.start => self.data.start.min(self.end),
            _ if offset < self.data.end => self.data.end.min(self.end),
            _ => self.end,
        };
        let left = usize::try_from(until.saturating_sub(offset)).unwrap_or(usize::MAX);
        let n = buf.len().min(left);
        let buf = &mut buf[..n];
        match self.data.contains(&offset) && n > 0 {
            true => self.decrypt(buf, offset),
            false => self.source.read_at(buf, offset),
        }
    }
}
