//! The keys of encrypted dumps: PEM files, and the private key for the verifier.

use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::sync::Arc;

use livecore_minidump::convert::Target;
use livecore_minidump::encryption::{Cipher, PrivateKey, PublicKey, Sealer};
use livecore_verify::OneTimeKeys;
use zeroize::Zeroizing;

use crate::args::{CipherArg, EncryptArgs};
use crate::env::Env;
use crate::exit::Exit;
use crate::failure::Failure;

/// Maximum size of a PEM file. A key of 8192 bits needs 7 KiB.
const PEM_MAX: u64 = 64 << 10;

/// Reads the private key from the file `asked`, or else, for a verb that reads dumps, from the one that
/// the environment names. Call it before the sandbox denies the file.
///
/// # Errors
///
/// The file cannot be read, or is not a private key.
pub(crate) fn load(asked: Option<&Path>, reads_dumps: bool, env: &mut Env) -> Result<(), Failure> {
    let of_env = env.key_path.as_deref().filter(|_| reads_dumps);
    let Some(path) = asked.or(of_env) else {
        return Ok(());
    };
    let pem = read(path)?;
    let key = PrivateKey::from_pem(&pem).map_err(|e| Failure::from(e).about(path))?;
    env.key = Some(Arc::new(key));
    Ok(())
}

/// The public key and the cipher that `args` select. `None` without `--encrypt`.
///
/// # Errors
///
/// The file cannot be read or is not a public key, or the cipher does not support `target`.
pub(crate) fn encryption(
    args: &EncryptArgs,
    target: &Target,
) -> Result<Option<(PublicKey, Cipher)>, Failure> {
    let Some(path) = &args.encrypt else {
        return Ok(None);
    };
    let cipher = match args.cipher {
        Some(CipherArg::Aes256Cbc) => Cipher::Aes256Cbc,
        Some(CipherArg::Chacha20) | None => Cipher::ChaCha20,
    };
    Sealer::inner_target(cipher, target).map_err(|e| Failure::of(Exit::USAGE, &e))?;
    let key = PublicKey::from_pem(&read(path)?).map_err(|e| Failure::from(e).about(path))?;
    Ok(Some((key, cipher)))
}

fn read(path: &Path) -> Result<Zeroizing<String>, Failure> {
    // The size is fixed, because growing would leave copies that are not wiped.
    let mut pem = Zeroizing::new(String::with_capacity(PEM_MAX as usize + 1));
    File::open(path)
        .and_then(|file| file.take(PEM_MAX).read_to_string(&mut pem))
        .map_err(|e| Failure::from(e).about(path))?;
    Ok(pem)
}

/// The private key, as the verifier uses it.
pub(crate) struct Keys(pub Arc<PrivateKey>);

impl OneTimeKeys for Keys {
    fn decrypt(&self, encrypted: &[u8]) -> Result<[u8; 32], String> {
        use livecore_minidump::Error;
        match self.0.one_time_key(encrypted) {
            Ok(key) => Ok(*key),
            Err(Error::WrongKey { why }) => Err(why),
            Err(error) => Err(error.to_string()),
        }
    }
}
