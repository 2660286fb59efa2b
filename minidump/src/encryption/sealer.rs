//! Writes an encrypted dump: a complete dump file, encrypted, in a sealed file.
//!
//! ```text
//!  the dump file ─── encrypt ─── ciphertext in uncompressed frames ┐
//!    (with its own seal and index)                                 ├─ sealed file
//!                                 key block, kerneldumpheader ─────┘
//! ```
//!
//! The seal contains digests of the ciphertext only. The index and the digests of the dump are inside
//! it, encrypted.

use std::io::{self, Write};

use livecore_compress::{Codec, FrameWriter, Output, write_seal};

use super::block::{Cipher, KeyBlock};
use super::primitives::{self, PublicKey};
use super::session_key::{AES_BLOCK, SessionKey};
use crate::container::Container;
use crate::convert::{Target, Written};
use crate::{Error, SealRecord};

/// Size of the frames of ciphertext.
const FRAME: u32 = 1 << 20;

/// Bytes that are encrypted at once.
const PIECE: usize = 64 << 10;

/// Block sizes that dumpers use.
const BLOCKS: std::ops::RangeInclusive<u32> = 512..=16384;

/// Encrypts one dump with a one-time key.
#[derive(Debug)]
pub struct Sealer {
    session: SessionKey,
    block: KeyBlock,
}

impl Sealer {
    /// Makes a one-time key and encrypts it with `public`.
    ///
    /// # Errors
    ///
    /// [`Error::Options`] if the system has no random numbers.
    pub fn new(public: &PublicKey, cipher: Cipher) -> Result<Self, Error> {
        let (session, block) = public.new_session(cipher)?;
        Ok(Self { session, block })
    }

    /// The target of the inner dump, which is then encrypted, if `target` is that of the result.
    ///
    /// # Errors
    ///
    /// [`Error::Options`] if the container is not sealed, or if `cipher` is AES-256-CBC and the dump is
    /// compressed: as in kernels, because the length of compressed data is not a multiple of a block.
    pub fn inner_target(cipher: Cipher, target: &Target) -> Result<Target, Error> {
        let refuse = |what: &str| Err(Error::Options(what.into()));
        if target.container != Container::Sealed {
            return refuse("an encrypted dump is a sealed file: use the container sealed");
        }
        match (cipher, target.encoding.codec) {
            (Cipher::Aes256Cbc, Codec::None) => Ok(Target {
                // The length of a seal is not a multiple of a block.
                container: Container::Saved,
                ..*target
            }),
            (Cipher::Aes256Cbc, _) => refuse(
                "AES-256-CBC encrypts only uncompressed dumps: use ChaCha20, or do not compress",
            ),
            (Cipher::ChaCha20, _) => Ok(*target),
        }
    }

    /// Encrypts what `write` writes, with the target of [`Self::inner_target`], and seals it in `out`.
    ///
    /// # Errors
    ///
    /// The error of `write`, or of writing to `out`.
    pub fn write<E: From<Error>>(
        self,
        out: &mut dyn Write,
        write: impl FnOnce(&mut dyn Output) -> Result<Written, E>,
    ) -> Result<Written, E> {
        let failed = |e: livecore_compress::Error| E::from(Error::from(e));
        let mut encrypting = Encrypting {
            last: std::array::from_fn(|i| self.session.iv[i]),
            session: self.session,
            frames: FrameWriter::new(&mut *out, FRAME).map_err(failed)?,
            at: 0,
            open: Vec::new(),
        };
        let written = write(&mut encrypting)?;
        let mut stored = encrypting.finish().map_err(E::from)?;
        let mut header = written.header.clone();
        // The header of the source can state any number.
        if !header.blocksize.is_power_of_two() || !BLOCKS.contains(&header.blocksize) {
            header.blocksize = *BLOCKS.start();
        }
        let key = self.block.encode(header.blocksize);
        header.dumpkeysize = key.len() as u32; // less than two blocks of the header
        header.dumplength = stored.stored_len;
        let record = SealRecord {
            header: header.with_parity(),
            flags: written.flags,
            records: written.provenance.records(),
            ..SealRecord::default()
        };
        stored.encrypted(self.block.cipher.number(), &key);
        let added = write_seal(&stored, &record.encode(), out).map_err(failed)?;
        Ok(Written {
            stored_len: stored.stored_len,
            file_len: stored.stored_len + added,
            header: record.header,
            ..written
        })
    }
}

/// Encrypts a stream of bytes.
struct Encrypting<'a> {
    session: SessionKey,
    frames: FrameWriter<'a>,
    /// Offset of the next byte.
    at: u64,
    /// The last encrypted block, for AES-256-CBC.
    last: [u8; AES_BLOCK],
    /// Plain bytes of a block that is not complete, for AES-256-CBC.
    open: Vec<u8>,
}

impl Encrypting<'_> {
    fn finish(self) -> Result<livecore_compress::Stored, Error> {
        if !self.open.is_empty() {
            return Err(Error::Options(format!(
                "the dump has {:#x} bytes, and AES-256-CBC encrypts only whole blocks of {AES_BLOCK}: \
                 use ChaCha20",
                self.at + self.open.len() as u64
            )));
        }
        Ok(self.frames.finish()?)
    }

    /// Encrypts and writes `piece`.
    fn put(&mut self, mut piece: Vec<u8>) -> io::Result<()> {
        match self.session.cipher {
            Cipher::ChaCha20 => primitives::chacha20(&self.session, &mut piece, self.at)?,
            Cipher::Aes256Cbc => {
                primitives::encrypt_cbc(&self.session, &mut self.last, &mut piece);
            }
        }
        self.frames.write_all(&piece)?;
        self.at += piece.len() as u64;
        Ok(())
    }
}

/// In order only: each byte is encrypted at its offset.
impl Output for Encrypting<'_> {}

impl Write for Encrypting<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let bytes = &bytes[..bytes.len().min(PIECE)];
        let mut piece = std::mem::take(&mut self.open);
        piece.extend_from_slice(bytes);
        if self.session.cipher == Cipher::Aes256Cbc {
            let whole = piece.len() / AES_BLOCK * AES_BLOCK;
            self.open = piece.split_off(whole);
        }
        self.put(piece)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.frames.flush()
    }
}
