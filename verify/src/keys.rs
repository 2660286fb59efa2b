//! The interface to the user's private key, which the caller implements.

/// Size of the key of a dump's cipher: the beginning of the one-time key.
pub(crate) const KEY_LEN: usize = 32;

/// Decrypts one-time keys with the user's private key.
pub trait OneTimeKeys: Send + Sync {
    /// The first 32 bytes of the one-time key that a key block contains in encrypted form.
    ///
    /// # Errors
    ///
    /// Why the private key does not decrypt it, in one line.
    fn decrypt(&self, encrypted: &[u8]) -> Result<[u8; KEY_LEN], String>;
}
