//! Finds the encrypted data and the key block of a dump.

use std::ops::Range;

use livecore_compress::Codec;
use livecore_compress::seal::format::*;
use livecore_defs::kerneldump::{ENCRYPTED_KEY_MAX, KEY_ENCRYPTEDKEY_OFFSET};
use xxhash_rust::xxh64::xxh64;

use super::KeyBytes;
use crate::container::{device_payload, leading_header, trailing_header};
use crate::full::Full;
use crate::header::resembles_payload;
use crate::input::{Input, number};
use crate::kdh::{Kdh, resembles_magic};
use crate::report::Stop;

/// Maximum size of a key block without padding.
const KEY_MAX: usize = KEY_ENCRYPTEDKEY_OFFSET + ENCRYPTED_KEY_MAX;

/// An encrypted dump.
pub(crate) struct Encrypted {
    /// The encrypted bytes of the file. For a sealed file, the check of its seal sets them.
    pub(crate) data: Range<u64>,
    /// The header, of a dump device.
    pub(crate) header: Option<Kdh>,
    pub(crate) place: KeyLocation,
}

/// Where the key block is.
pub(crate) enum KeyLocation {
    /// On a dump device, or in a key file.
    Here(KeyBytes),
    /// In the parts of the seal that begins at this offset.
    Seal(u64),
}

/// Finds the encrypted data; `None` if the dump is not encrypted. `key_file` is the content of the
/// dump's key file.
pub(crate) fn find(input: &Input, key_file: Option<&[u8]>) -> Result<Option<Encrypted>, Stop> {
    let size = input.size();
    if let Some(trailing) = trailing_header(input)? {
        return on_device(input, trailing);
    }
    if let Some(start) = encrypted_seal(input)? {
        return Ok(Some(Encrypted {
            data: 0..0,
            header: None,
            place: KeyLocation::Seal(start),
        }));
    }
    let head = input.up_to(0, 32)?;
    let plain =
        Codec::sniff(&head) != Codec::None || resembles_payload(&head) || Full::probe(&head);
    Ok(key_file
        .filter(|_| !plain && size > 0)
        .map(|bytes| Encrypted {
            data: 0..size,
            header: None,
            place: KeyLocation::Here(KeyBytes::new(bytes.to_vec(), "key file", 0)),
        }))
}

fn on_device(input: &Input, trailing: Kdh) -> Result<Option<Encrypted>, Stop> {
    let key_len = trailing.dumpkeysize();
    if key_len == 0 || trailing.parity() != [0; 4] || trailing.is_text_dump() {
        return Ok(None);
    }
    let Some((start, end, _)) = device_payload(&trailing, input.size()) else {
        return Ok(None);
    };
    let leading = leading_header(input, &trailing)?;
    if !leading.is_some_and(|leading| resembles_magic(&leading.bytes)) {
        return Ok(None);
    }
    // `device_payload` has checked that the key is in the file. A key block may be larger than the
    // largest key; the rest is padding.
    let at = start - key_len;
    let len = usize::try_from(key_len).unwrap_or(usize::MAX).min(KEY_MAX);
    let key = KeyBytes {
        reserved: Some(key_len),
        blocksize: Some(trailing.blocksize()).filter(|unit| *unit > 0),
        ..KeyBytes::new(input.up_to(at, len)?, "key block", at)
    };
    Ok(Some(Encrypted {
        data: start..end,
        header: Some(trailing),
        place: KeyLocation::Here(key),
    }))
}

/// Start of the seal of an encrypted file, if its footer and its header are valid.
fn encrypted_seal(input: &Input) -> Result<Option<u64>, Stop> {
    let Some(at) = input.size().checked_sub(FOOTER_LEN as u64) else {
        return Ok(None);
    };
    let footer = input.up_to(at, FOOTER_LEN)?;
    let valid = footer.starts_with(&FOOTER_MAGIC)
        && footer.ends_with(&END_MAGIC)
        && xxh64(&footer[..FOOTER_DIGESTED], 0) == number(&footer, FOOTER_DIGESTED, 8);
    let start = input.size().checked_sub(number(&footer, 8, 8));
    let Some(start) = start.filter(|_| valid) else {
        return Ok(None);
    };
    let header = input.up_to(start, HEADER_LEN)?;
    let digest = header.get(..HEADER_DIGESTED_2).map(|bytes| xxh64(bytes, 0));
    let encrypted = header.starts_with(&MAGIC)
        && digest == Some(number(&header, HEADER_DIGESTED_2, 8))
        && number(&header, 8, 2) == u64::from(VERSION)
        && header[10] == CODEC_NONE
        && header[11] != CIPHER_NONE;
    Ok(encrypted.then_some(start))
}
