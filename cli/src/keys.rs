//! The keys of encrypted dumps, from PEM files.

use std::path::Path;
use std::sync::Arc;

use livecore_minidump::convert::Target;
use livecore_minidump::encryption::{Cipher, PrivateKey, PublicKey, Sealer, read_pem};
use zeroize::Zeroizing;

use crate::args::{CipherArg, EncryptArgs};
use crate::env::Env;
use crate::exit::Exit;
use crate::failure::Failure;

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
    let path = path.to_owned();
    let pem = pem(&path)?;
    let key = PrivateKey::from_pem(&pem).map_err(|e| Failure::from(e).about(&path))?;
    env.key = Some(Arc::new(key));
    env.key_path = Some(path);
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
    let key = PublicKey::from_pem(&pem(path)?).map_err(|e| Failure::from(e).about(path))?;
    Ok(Some((key, cipher)))
}

fn pem(path: &Path) -> Result<Zeroizing<String>, Failure> {
    read_pem(path).map_err(|e| Failure::from(e).about(path))
}
