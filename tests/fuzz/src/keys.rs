//! Encrypted dumps, opened with the key of the tests.

use std::sync::{Arc, LazyLock};

use livecore_compress::{NoProgress, ReadAt};
use livecore_minidump::encryption::{Cipher, KeyBlock, KeyFile, PrivateKey, locate};
use livecore_minidump::textdump::TextDump;
use livecore_minidump::{AnyDump, Container, OpenOptions};
use livecore_verify::{Depth, OneTimeKeys, Options};

/// The private key of the tests.
static KEY: LazyLock<Arc<PrivateKey>> = LazyLock::new(|| {
    let pem = include_str!("../../../testdata/keys/rsa2048.pem");
    Arc::new(PrivateKey::from_pem(pem).expect("a private key"))
});

/// The one-time key of all test dumps, encrypted by openssl with the public key.
static ONE_TIME: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let hex = include_str!("../../../testdata/keys/rsa2048.oaep.hex");
    let digits: Vec<u8> = hex.bytes().filter(u8::is_ascii_hexdigit).collect();
    let digits = digits.chunks(2).map(|pair| std::str::from_utf8(pair));
    let digits = digits.map(|pair| pair.map(|pair| u8::from_str_radix(pair, 16)));
    digits
        .map(|byte| byte.expect("text").expect("a number"))
        .collect()
});

struct Keys;

impl OneTimeKeys for Keys {
    fn decrypt(&self, encrypted: &[u8]) -> Result<[u8; 32], String> {
        KEY.one_time_key(encrypted)
            .map(|key| *key)
            .map_err(|e| e.to_string())
    }
}

/// Checks `bytes`. The first byte selects what the rest is: a file, a key file, or the data of a dump.
pub fn keys(bytes: &[u8]) {
    let Some((mode, rest)) = bytes.split_first() else {
        return;
    };
    match mode % 4 {
        0 => file(rest.to_vec(), None),
        1 => key_block(rest),
        2 => data(rest, Cipher::ChaCha20),
        _ => data(rest, Cipher::Aes256Cbc),
    }
}

/// Opens and verifies a file that may be an encrypted dump, with or without a key file.
fn file(bytes: Vec<u8>, key_file: Option<KeyFile>) {
    let source: Arc<dyn ReadAt> = Arc::new(bytes);
    let options = OpenOptions::new()
        .stream(crate::options())
        .key(Arc::clone(&KEY))
        .key_file(key_file.clone());
    let checks = Options::default()
        .depth(Depth::Deep)
        .memory(32 << 20)
        .keys(Some(&Keys))
        .key_file(key_file.as_ref().map(|key| &key.bytes[..]));
    let report = livecore_verify::verify(Arc::clone(&source), &checks, &NoProgress);
    if let Ok(Some(found)) = locate(&source, key_file.as_ref(), &options.stream)
        && let Ok(plain) = found.decrypt(Some(&KEY))
    {
        same_in_pieces(&*plain);
    }
    let opened = AnyDump::from_source(Arc::clone(&source), &options);
    let text = TextDump::from_source(source, &options.stream);
    let is_text = matches!(text, Ok(Some(_)));
    if report.verdict.exit_code() == 0 && !is_text {
        assert!(
            opened.is_ok(),
            "verified dump cannot be opened: {:?}",
            opened.err()
        );
    }
}

/// Reads at any offset return the bytes of one large read.
fn same_in_pieces(plain: &dyn ReadAt) {
    let mut whole = vec![0; 70_000];
    let Ok(len) = plain.read_full_at(&mut whole, 0) else {
        return;
    };
    for (at, size) in [
        (0, 1),
        (1, 15),
        (15, 17),
        (4095, 66),
        (len / 2, 100),
        (len.saturating_sub(9), 9),
    ] {
        let mut piece = vec![0; size];
        let got = plain
            .read_full_at(&mut piece, at as u64)
            .expect("a part of what was read");
        let end = (at + got).min(len);
        assert_eq!(
            piece[..end.saturating_sub(at)],
            whole[at.min(end)..end],
            "{size} bytes at {at}"
        );
    }
}

/// A key block is the same after it was written and parsed. As a key file, it is read without a panic.
fn key_block(bytes: &[u8]) {
    if let Ok(block) = KeyBlock::parse(bytes, 0) {
        for size in [1, 512, 4096] {
            let again = KeyBlock::parse(&block.encode(size), 0);
            assert_eq!(again.expect("a key block"), block);
        }
    }
    for certain in [false, true] {
        let key_file = KeyFile {
            bytes: bytes.to_vec(),
            certain,
            gzip: bytes.len() % 2 == 1,
        };
        file(vec![0x5a; 5000], Some(key_file));
    }
}

/// Encrypts `bytes`: the result opens as the same dump. For AES, `bytes` are the encrypted data.
fn data(bytes: &[u8], cipher: Cipher) {
    let block = KeyBlock {
        cipher,
        iv: std::array::from_fn(|n| n as u8),
        encrypted_key: ONE_TIME.clone(),
    };
    let key_file = KeyFile {
        bytes: block.encode(512),
        certain: true,
        gzip: false,
    };
    if cipher == Cipher::Aes256Cbc {
        return file(bytes.to_vec(), Some(key_file));
    }
    // The cipher is a stream cipher: decrypting data that is not a dump gives the key stream.
    let filler: Arc<dyn ReadAt> = Arc::new(vec![0x5a; bytes.len()]);
    let found = locate(&filler, Some(&key_file), &crate::options()).expect("a key block");
    let found = found.expect("data that does not begin like a dump");
    let stream = found.decrypt(Some(&KEY)).expect("the key of the block");
    let mut encrypted = vec![0; bytes.len()];
    stream
        .read_exact_at(&mut encrypted, 0)
        .expect("bytes in memory");
    for (byte, plain) in encrypted.iter_mut().zip(bytes) {
        *byte ^= 0x5a ^ plain;
    }
    let sealed: Arc<dyn ReadAt> = Arc::new(encrypted.clone());
    let plain_options = OpenOptions::new().stream(crate::options());
    let options = plain_options
        .clone()
        .key(Arc::clone(&KEY))
        .key_file(key_file.clone());
    let plain = AnyDump::from_source(Arc::new(bytes.to_vec()), &plain_options);
    // A header outside of the data is not encrypted on a dump device.
    let inside = |dump: &AnyDump| {
        let container = dump.envelope().container();
        container == Container::Saved || container == Container::Sealed
    };
    if let Ok(plain) = plain
        && inside(&plain)
        && let Ok(Some(found)) = locate(&sealed, Some(&key_file), &crate::options())
        && found.container == Container::Saved
    {
        let opened = AnyDump::from_source(sealed, &options).expect("the dump that was encrypted");
        let facts = |dump: &AnyDump| {
            let full = matches!(dump, AnyDump::Full(_));
            (full, dump.envelope().known_len())
        };
        assert_eq!(
            facts(&plain),
            facts(&opened),
            "an encrypted dump opens as the dump that was encrypted"
        );
    }
    file(encrypted, Some(key_file));
}
