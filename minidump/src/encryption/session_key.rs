//! The one-time key of a dump.

use std::fmt;

use livecore_defs::kerneldump::IV_SIZE;
use zeroize::Zeroizing;

use super::block::Cipher;

/// Size of the cipher key in bytes, for both ciphers: the first bytes of the one-time key.
pub(super) const KEY_LEN: usize = 32;

/// Size of an AES block in bytes.
pub(super) const AES_BLOCK: usize = 16;

/// The one-time key of a dump, with the cipher and the initialization vector. Wiped when dropped.
#[cfg_attr(
    not(feature = "encryption"),
    expect(dead_code, reason = "only ciphers read the key")
)]
pub(super) struct SessionKey {
    pub(super) cipher: Cipher,
    pub(super) key: Zeroizing<[u8; KEY_LEN]>,
    pub(super) iv: [u8; IV_SIZE],
}

impl fmt::Debug for SessionKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SessionKey")
            .field("cipher", &self.cipher)
            .finish_non_exhaustive()
    }
}
