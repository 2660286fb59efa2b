//! Finds the encrypted data and the key block of a dump.

use std::sync::Arc;

use livecore_compress::seal::format::{CIPHER_NONE, PART_KEYS};
use livecore_compress::{Codec, OpenOptions, ReadAt, Stream, StreamKind, Window, seal};

use super::block::{Cipher, KeyBlock};
use super::decrypted::Decrypted;
use super::key_file::KeyFile;
use super::primitives::PrivateKey;
use super::session_key::SessionKey;
use crate::container::{self, Container};
use crate::{Error, KernelDumpHeader, SealRecord};

/// An encrypted dump.
pub struct Encrypted {
    /// The encrypted data. Decrypted, it is the stored payload of a dump device or of a saved file,
    /// or a complete sealed file.
    pub data: Arc<dyn ReadAt>,
    /// The key block.
    pub block: KeyBlock,
    /// The size of the key block with its padding, in bytes.
    pub key_len: u64,
    /// How the dump is stored.
    pub container: Container,
    /// The header and its offset, for a dump device and for a sealed file (offset 0).
    pub header: Option<(KernelDumpHeader, u64)>,
    /// The attachment of a sealed file.
    pub record: Option<SealRecord>,
}

impl std::fmt::Debug for Encrypted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Encrypted")
            .field("block", &self.block)
            .field("container", &self.container)
            .finish_non_exhaustive()
    }
}

impl Encrypted {
    /// The cipher.
    pub fn cipher(&self) -> Cipher {
        self.block.cipher
    }

    /// The plain data, which is decrypted where it is read.
    ///
    /// # Errors
    ///
    /// [`Error::Encrypted`] without a key, [`Error::WrongKey`] if `key` does not decrypt the one-time
    /// key. This function does not recognize a wrong key whose result has the right form. The plain
    /// data is then not a dump.
    pub fn decrypt(&self, key: Option<&PrivateKey>) -> Result<Arc<dyn ReadAt>, Error> {
        let Some(key) = key else {
            return Err(Error::Encrypted {
                cipher: self.cipher().name(),
            });
        };
        let key = SessionKey {
            cipher: self.cipher(),
            key: key.one_time_key(&self.block.encrypted_key)?,
            iv: self.block.iv,
        };
        Ok(Arc::new(Decrypted::new(Arc::clone(&self.data), key)))
    }
}

/// Finds the encrypted data and the key block of the dump in `source`; `None` if it is not encrypted.
/// `key_file` is the dump's key file, if it has one.
///
/// # Errors
///
/// [`Error::Io`] if the source cannot be read, [`Error::Broken`] if headers, seal or key block are
/// inconsistent.
pub fn locate(
    source: &Arc<dyn ReadAt>,
    key_file: Option<&KeyFile>,
    options: &OpenOptions,
) -> Result<Option<Encrypted>, Error> {
    let size = source.size()?;
    if let Some((header, at)) = container::trailing_header(&**source, size)? {
        return match header.dumpkeysize {
            0 => Ok(None),
            _ => on_device(source, size, header, at).map(Some),
        };
    }
    if seal::cipher(&**source)? != CIPHER_NONE {
        return in_seal(source, options).map(Some);
    }
    let Some(key) = key_file else {
        return Ok(None);
    };
    let data = without_gzip(source, key, options)?;
    match begins_plain(&*data)? {
        true => Ok(None),
        false => in_file(data, key).map(Some),
    }
}

/// Returns `source` with its data decrypted, if it is a saved file with a key file. For a verifier,
/// which finds the key blocks of other encrypted dumps and reports damage.
///
/// # Errors
///
/// Those of [`Encrypted::decrypt`].
pub fn saved_plain(
    source: Arc<dyn ReadAt>,
    key_file: Option<&KeyFile>,
    key: Option<&PrivateKey>,
    options: &OpenOptions,
) -> Result<Arc<dyn ReadAt>, Error> {
    if key_file.is_none() {
        return Ok(source);
    }
    match locate(&source, key_file, options) {
        Ok(Some(found)) if found.container == Container::Saved => found.decrypt(key),
        _ => Ok(source),
    }
}

fn on_device(
    source: &Arc<dyn ReadAt>,
    size: u64,
    header: KernelDumpHeader,
    at: u64,
) -> Result<Encrypted, Error> {
    let start = container::start_on_device(&**source, size, &header, at)?;
    let key_len = u64::from(header.dumpkeysize);
    // Checked by `start_on_device`.
    let key_at = start.saturating_sub(key_len);
    let mut bytes = vec![0; key_len.min(KeyBlock::SIZE_MAX as u64) as usize];
    source.read_exact_at(&mut bytes, key_at)?;
    Ok(Encrypted {
        block: KeyBlock::parse(&bytes, key_at)?,
        key_len,
        data: Arc::new(Window::new(Arc::clone(source), start, header.dumplength)),
        container: Container::Device,
        header: Some((header, at)),
        record: None,
    })
}

fn in_seal(source: &Arc<dyn ReadAt>, options: &OpenOptions) -> Result<Encrypted, Error> {
    let stream = Stream::from_source(Arc::clone(source), options)?;
    let data_len = stream.data_len().unwrap_or(0);
    let broken = |found: &str| Error::broken("seal, key block", data_len, found, "a key block");
    let bytes = stream.list(PART_KEYS)?.ok_or_else(|| broken("no part"))?;
    let block = KeyBlock::parse(&bytes, data_len)?;
    if block.cipher.number() != stream.cipher() {
        let found = format!("{} in the seal's header", stream.cipher());
        let expected = format!("{}, the cipher of the key block", block.cipher.number());
        return Err(Error::broken(
            "seal header, cipher",
            data_len,
            found,
            expected,
        ));
    }
    let record = match stream.attachment() {
        Some(attachment) => Some(SealRecord::parse(attachment)?),
        None => None,
    };
    Ok(Encrypted {
        data: stream.content(),
        key_len: bytes.len() as u64,
        block,
        container: Container::Sealed,
        header: record.as_ref().map(|record| (record.header.clone(), 0)),
        record,
    })
}

/// The data of a saved file: of the file's own bytes, or what `savecore -z` compressed.
fn without_gzip(
    source: &Arc<dyn ReadAt>,
    key: &KeyFile,
    options: &OpenOptions,
) -> Result<Arc<dyn ReadAt>, Error> {
    let mut head = [0; 64];
    let got = source.read_full_at(&mut head, 0)?;
    if !key.certain || !key.gzip || Codec::sniff(&head[..got]) != Codec::Gzip {
        return Ok(Arc::clone(source));
    }
    let stream = Stream::from_source(Arc::clone(source), options)?;
    Ok(match stream.kind() {
        StreamKind::Foreign => stream.content(),
        _ => Arc::clone(source),
    })
}

fn in_file(data: Arc<dyn ReadAt>, key: &KeyFile) -> Result<Encrypted, Error> {
    let block = KeyBlock::parse(&key.bytes, 0).map_err(|error| match error {
        Error::Broken {
            region,
            offset,
            found,
            expected,
        } => Error::broken(format!("key file, {region}"), offset, found, expected),
        error => error,
    })?;
    Ok(Encrypted {
        block,
        key_len: key.bytes.len() as u64,
        data,
        container: Container::Saved,
        header: None,
        record: None,
    })
}

/// Whether the source begins like a dump that is not encrypted.
fn begins_plain(source: &dyn ReadAt) -> Result<bool, Error> {
    let mut head = [0; 64];
    let got = source.read_full_at(&mut head, 0)?;
    let head = &head[..got];
    Ok(container::is_uncompressed(head) || Codec::sniff(head) != Codec::None)
}
