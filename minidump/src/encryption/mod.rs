//! Encrypted dumps: key blocks, keys, and reading and writing encrypted data.
//!
//! FreeBSD calls them EKCD, encrypted kernel crash dumps. dumpon(8) makes a one-time key, encrypts it
//! with an RSA public key, and passes both to the kernel. The kernel encrypts the dump's data, after
//! compression, and writes the encrypted one-time key in a *key block* ([`KeyBlock`]). Headers are not
//! encrypted, and nothing is authenticated.
//!
//! | dump               | key block                                          | encrypted data          |
//! |--------------------|----------------------------------------------------|-------------------------|
//! | dump device        | between the first header and the data              | the data                |
//! | saved file         | `key.N` in the same directory                      | the file                |
//! | sealed file        | in the seal ([`PART_KEYS`](livecore_compress::seal::format::PART_KEYS)) | the content: a complete dump file |
//!
//! [`locate`] finds data and key block, and [`Encrypted::decrypt`] returns the plain data, which can be
//! read at any offset. [`Sealer`] writes encrypted dumps.
//!
//! Sources: `sys/sys/kerneldump.h`, `sys/kern/kern_shutdown.c`, `sbin/decryptcore/decryptcore.c` and
//! `sbin/dumpon/dumpon.c` of FreeBSD 12.1 and 15. The feature `encryption` of this crate contains the
//! ciphers; without it, encrypted dumps are recognized, and reading them is [`Error::Unsupported`].

mod block;
mod decrypted;
mod key_file;
mod locate;
#[cfg(feature = "encryption")]
mod primitives;
#[cfg(not(feature = "encryption"))]
#[path = "no_primitives.rs"]
mod primitives;
mod sealer;
mod session_key;

pub use block::{Cipher, KeyBlock};
pub use key_file::{KeyFile, key_file, read_pem};
pub use locate::{Encrypted, locate, saved_plain};
pub use primitives::{PrivateKey, PublicKey};
pub use sealer::Sealer;

use crate::Error;

/// The error for data that needs a feature that was not compiled in.
#[cfg_attr(
    feature = "encryption",
    expect(dead_code, reason = "only without ciphers")
)]
fn not_built() -> Error {
    Error::Unsupported {
        what: "encryption: this program was built without it".into(),
    }
}
