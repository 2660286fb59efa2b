//! The interface of `primitives` in a crate without ciphers: keys cannot be made.

use std::convert::Infallible;
use std::io;

use super::block::{Cipher, KeyBlock};
use super::not_built;
use super::session_key::{AES_BLOCK, KEY_LEN, SessionKey};
use crate::Error;
use zeroize::Zeroizing;

/// The private key of encrypted dumps. This crate was built without the feature `encryption`.
#[derive(Debug)]
pub struct PrivateKey(Infallible);

impl PrivateKey {
    /// Parses a PEM file.
    ///
    /// # Errors
    ///
    /// Always [`Error::Unsupported`].
    pub fn from_pem(_: &str) -> Result<Self, Error> {
        Err(not_built())
    }

    /// Decrypts a one-time key.
    ///
    /// # Errors
    ///
    /// None: without the feature there is no key.
    pub fn one_time_key(&self, _: &[u8]) -> Result<Zeroizing<[u8; KEY_LEN]>, Error> {
        match self.0 {}
    }
}

/// The public key of encrypted dumps. This crate was built without the feature `encryption`.
#[derive(Debug, Clone)]
pub struct PublicKey(Infallible);

impl PublicKey {
    /// Parses a PEM file.
    ///
    /// # Errors
    ///
    /// Always [`Error::Unsupported`].
    pub fn from_pem(_: &str) -> Result<Self, Error> {
        Err(not_built())
    }

    pub(super) fn new_session(&self, _: Cipher) -> Result<(SessionKey, KeyBlock), Error> {
        match self.0 {}
    }
}

pub(super) fn decrypt_cbc(_: &SessionKey, _: &[u8], _: &mut [u8]) {
    unreachable!("no key can be made");
}

pub(super) fn encrypt_cbc(_: &SessionKey, _: &mut [u8; AES_BLOCK], _: &mut [u8]) {
    unreachable!("no key can be made");
}

pub(super) fn chacha20(_: &SessionKey, _: &mut [u8], _: u64) -> io::Result<()> {
    unreachable!("no key can be made");
}
