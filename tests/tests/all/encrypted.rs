//! Encrypted dumps of the independent builder, and of Livecore, opened by Livecore and by openssl.

use std::io::Write as _;
use std::process::{Command, Stdio};
use std::sync::Arc;

use livecore_compress::{Codec, Encoding, NoProgress, ReadAt};
use livecore_minidump::convert::{self, Target};
use livecore_minidump::encryption::{Cipher, KeyFile, PrivateKey, PublicKey, Sealer, locate};
use livecore_minidump::{AnyDump, Container, Error, OpenOptions};
use livecore_tests::mkdump::{self, Built};
use livecore_tests::random::Random;
use livecore_verify::{OneTimeKeys, Options, Report, Verdict, verify};

/// The memory of the dumps: a few pages, enough for several frames of the smallest size.
const MEMORY: &str = "minidump amd64 3
    kernbase 0xffffffff80000000
    kernend 0xffffffffc0000000
    avail 0x1000 0x40000
    msgbuf text \"---<<BOOT>>---\\n\"
    pages 0x2000 50 seed 1
    map 0xffffffff80200000 0x200000 2M rx
";

fn build(rest: &str) -> Built {
    mkdump::build_all(&format!("{MEMORY}{rest}")).unwrap()
}

fn pem(name: &str) -> String {
    let path = format!("{}/../testdata/keys/{name}.pem", env!("CARGO_MANIFEST_DIR"));
    std::fs::read_to_string(path).unwrap()
}

fn private(bits: u32) -> Arc<PrivateKey> {
    Arc::new(PrivateKey::from_pem(&pem(&format!("rsa{bits}"))).unwrap())
}

fn public(bits: u32) -> PublicKey {
    PublicKey::from_pem(&pem(&format!("rsa{bits}.pub"))).unwrap()
}

/// The private key, as the program gives it to the verifier.
struct Keys(Arc<PrivateKey>);

impl OneTimeKeys for Keys {
    fn decrypt(&self, encrypted: &[u8]) -> Result<[u8; 32], String> {
        let key = self.0.one_time_key(encrypted);
        key.map(|key| *key).map_err(|e| e.to_string())
    }
}

fn open(
    bytes: &[u8],
    key: Option<&Arc<PrivateKey>>,
    file: Option<&[u8]>,
) -> Result<AnyDump, Error> {
    let file = file.map(|bytes| KeyFile {
        bytes: bytes.to_vec(),
        certain: true,
        gzip: false,
    });
    let options = OpenOptions::new().key(key.cloned()).key_file(file);
    AnyDump::from_source(Arc::new(bytes.to_vec()), &options)
}

fn report(bytes: &[u8], key: Option<&Arc<PrivateKey>>, file: Option<&[u8]>) -> Report {
    let keys = key.map(|key| Keys(Arc::clone(key)));
    let options = Options::default()
        .keys(keys.as_ref().map(|keys| keys as &dyn OneTimeKeys))
        .key_file(file);
    verify(Arc::new(bytes.to_vec()), &options, &NoProgress)
}

/// Rules that the report breaks.
fn broken(report: &Report) -> Vec<&'static str> {
    report
        .findings
        .iter()
        .map(|finding| finding.rule.id)
        .collect()
}

fn content(dump: &AnyDump) -> Vec<u8> {
    let payload = dump.payload();
    let mut bytes = vec![0; usize::try_from(payload.size().unwrap()).unwrap()];
    payload.read_exact_at(&mut bytes, 0).unwrap();
    bytes
}

/// The kinds of encryption that kernels write: cipher, size of the key in bits, key statement, codec.
const KINDS: [(Cipher, u32, &str, &str); 7] = [
    (Cipher::Aes256Cbc, 2048, "key aes 256", "none"),
    (Cipher::Aes256Cbc, 2048, "key aes 256 pkcs1", "none"),
    (Cipher::Aes256Cbc, 4096, "key aes 512", "none"),
    (Cipher::ChaCha20, 2048, "key chacha20 256", "none"),
    (Cipher::ChaCha20, 2048, "key chacha20 256", "gzip"),
    (Cipher::ChaCha20, 4096, "key chacha20 512", "zstd"),
    (
        Cipher::ChaCha20,
        4096,
        "key chacha20 512",
        "zstd frames 0x4000",
    ),
];

#[test]
fn plain_dump_with_the_name_of_an_encrypted_one_opens_as_the_verifier_reads_it() {
    let key_file = build("container saved\nkey chacha20 256\n").key.unwrap();
    for codec in ["none", "gzip", "zstd"] {
        let plain = build(&format!("container saved\ncompress {codec}\n")).bytes;
        let opened = open(&plain, Some(&private(2048)), Some(&key_file)).unwrap();
        assert_eq!(
            content(&opened),
            build("container saved\n").bytes,
            "{codec}"
        );
        let named = report(&plain, Some(&private(2048)), Some(&key_file));
        assert_eq!(
            broken(&named),
            broken(&report(&plain, None, None)),
            "{codec}"
        );
        assert_eq!(named.verdict.exit_code(), 3, "{codec}");
    }
}

#[test]
fn devices_of_every_cipher_codec_and_sector_size_contain_the_builders_payload() {
    for (cipher, bits, key, codec) in KINDS {
        for sector in [512, 4096] {
            let what = format!("{key}, {codec}, sectors of {sector}");
            let text = format!("container device\nsector {sector}\ncompress {codec}\n{key}");
            let built = build(&text);
            let private = private(bits);
            let dump =
                open(&built.bytes, Some(&private), None).unwrap_or_else(|e| panic!("{what}: {e}"));
            assert!(content(&dump) == built.payload, "{what}");
            assert_eq!(dump.envelope().encryption(), Some(cipher), "{what}");
            assert_eq!(dump.envelope().container(), Container::Device, "{what}");
            let report = report(&built.bytes, Some(&private), None);
            let only = ["BM-EIGHTH", "MD-KERNBASE-LAYOUT"];
            let found = broken(&report);
            assert!(
                found.iter().all(|rule| only.contains(rule)),
                "{what}: {found:?}"
            );
            assert!(
                report.verdict.exit_code().is_multiple_of(3),
                "{what}: {:?}",
                report.verdict
            );
        }
    }
}

#[test]
fn saved_files_are_read_with_their_key_files() {
    for (_, bits, key, codec) in KINDS {
        let built = build(&format!("compress {codec}\n{key}"));
        let (private, file) = (private(bits), built.key.as_deref());
        let dump = open(&built.bytes, Some(&private), file).unwrap();
        assert!(content(&dump) == built.payload, "{key}, {codec}");
        let report = report(&built.bytes, Some(&private), file);
        assert!(
            matches!(report.verdict, Verdict::Sound | Verdict::Warnings),
            "{key}: {report:?}"
        );
        // Without the key file, the bytes are noise.
        assert!(matches!(
            open(&built.bytes, Some(&private), None),
            Err(Error::NotADump { .. })
        ));
    }
}

#[test]
fn reads_at_random_offsets_return_the_same_bytes() {
    let mut random = Random::new(21);
    for (_, bits, key, codec) in KINDS {
        let built = build(&format!("compress {codec}\n{key}\ncontainer device"));
        let dump = open(&built.bytes, Some(&private(bits)), None).unwrap();
        let payload = dump.payload();
        for _ in 0..200 {
            let at = random.below(built.payload.len() as u64);
            let len = random.below(9000).min(built.payload.len() as u64 - at);
            let mut found = vec![0; len as usize];
            payload.read_exact_at(&mut found, at).unwrap();
            let expected = &built.payload[at as usize..(at + len) as usize];
            assert!(found == expected, "{key}, {codec}: {len} bytes at {at:#x}");
        }
    }
}

#[test]
fn missing_and_wrong_keys_are_distinct_errors() {
    for (_, bits, key, codec) in KINDS {
        let built = build(&format!("compress {codec}\n{key}\ncontainer device"));
        let error = open(&built.bytes, None, None).unwrap_err();
        assert!(matches!(error, Error::Encrypted { .. }), "{error}");
        let other = private(if bits == 2048 { 4096 } else { 2048 });
        let error = open(&built.bytes, Some(&other), None).unwrap_err();
        assert!(matches!(error, Error::WrongKey { .. }), "{error}");
        let without = report(&built.bytes, None, None);
        assert_eq!(broken(&without), ["KEY-UNREAD"]);
        assert_eq!(without.verdict, Verdict::Warnings);
        let wrong = report(&built.bytes, Some(&other), None);
        assert!(
            matches!(wrong.verdict, Verdict::Failed(_)),
            "{:?}",
            wrong.verdict
        );
    }
}

#[test]
fn key_of_another_pair_with_the_same_size_does_not_decrypt() {
    let mut built = build("key chacha20 256\ncontainer device");
    let key_at = built.bytes.len() - 512 - built.payload.len() - 512;
    // A one-time key that was encrypted with another public key looks like any other.
    built.bytes[key_at + 100] ^= 1;
    let error = open(&built.bytes, Some(&private(2048)), None).unwrap_err();
    assert!(matches!(error, Error::WrongKey { .. }), "{error}");
}

#[test]
fn wrong_initialization_vectors_make_broken_dumps() {
    for key in ["key aes 256", "key chacha20 256"] {
        let mut built = build(&format!("{key}\ncontainer device"));
        let key_at = built.bytes.len() - 512 - built.payload.len() - 512;
        built.bytes[key_at + 3] ^= 0x80;
        let error = open(&built.bytes, Some(&private(2048)), None).unwrap_err();
        assert!(matches!(error, Error::Broken { .. }), "{key}: {error}");
        let report = report(&built.bytes, Some(&private(2048)), None);
        assert_eq!(report.verdict, Verdict::Broken, "{key}: {report:?}");
    }
}

fn sealed(dump: &AnyDump, cipher: Cipher, codec: Codec, bits: u32) -> Vec<u8> {
    let mut encoding = Encoding::new(codec);
    encoding.frame_size = 16 << 10;
    let target = Target {
        container: Container::Sealed,
        encoding,
    };
    let inner = Sealer::inner_target(cipher, &target).unwrap();
    let sealer = Sealer::new(&public(bits), cipher).unwrap();
    let mut out = Vec::new();
    let written = sealer
        .write(&mut out, |out| {
            convert::convert_any(dump, &inner, out, &NoProgress)
        })
        .unwrap();
    assert_eq!(written.file_len, out.len() as u64);
    assert_eq!(written.payload_len, dump.payload().size().unwrap());
    out
}

const MADE: [(Cipher, Codec, u32); 4] = [
    (Cipher::Aes256Cbc, Codec::None, 2048),
    (Cipher::ChaCha20, Codec::None, 4096),
    (Cipher::ChaCha20, Codec::Gzip, 2048),
    (Cipher::ChaCha20, Codec::Zstd, 2048),
];

#[test]
fn encrypted_sealed_dumps_are_read_in_place_and_verified() {
    let built = build("container device");
    let plain = open(&built.bytes, None, None).unwrap();
    for (cipher, codec, bits) in MADE {
        let what = format!("{cipher}, {codec}");
        let bytes = sealed(&plain, cipher, codec, bits);
        let key = private(bits);
        let dump = open(&bytes, Some(&key), None).unwrap_or_else(|e| panic!("{what}: {e}"));
        assert!(content(&dump) == built.payload, "{what}");
        assert_eq!(dump.envelope().container(), Container::Sealed);
        assert_eq!(dump.envelope().encryption(), Some(cipher));
        let header = dump.envelope().kerneldumpheader().unwrap();
        assert_eq!(header.hostname, b"host.example");
        let report_of = report(&bytes, Some(&key), None);
        let found = broken(&report_of);
        assert!(
            found
                .iter()
                .all(|rule| ["BM-EIGHTH", "MD-KERNBASE-LAYOUT"].contains(rule)),
            "{what}: {report_of:?}"
        );
        assert_eq!(
            broken(&report(&bytes, None, None)),
            ["KEY-UNREAD"],
            "{what}"
        );
    }
}

/// The content of a dump has 16 equal pages, which plain data or digests would show.
#[test]
fn encrypted_sealed_dumps_contain_no_plain_data_and_no_repeated_blocks() {
    let built = build("page 0x3f000 text \"the secret of this page\"\ncontainer device");
    let plain = open(&built.bytes, None, None).unwrap();
    for (cipher, codec, bits) in MADE {
        let bytes = sealed(&plain, cipher, codec, bits);
        for text in [
            &b"the secret of this page"[..],
            b"---<<BOOT>>---",
            b"minidump FreeBSD",
        ] {
            assert!(
                !bytes.windows(text.len()).any(|found| found == text),
                "{cipher}, {codec}"
            );
        }
        // The same dump is encrypted differently each time.
        assert_ne!(bytes, sealed(&plain, cipher, codec, bits));
    }
}

#[test]
fn every_changed_bit_of_an_encrypted_sealed_dump_is_found_without_the_key() {
    let built = build("container device");
    let plain = open(&built.bytes, None, None).unwrap();
    let mut random = Random::new(22);
    for (cipher, codec, bits) in MADE {
        let bytes = sealed(&plain, cipher, codec, bits);
        for _ in 0..60 {
            let (at, bit) = (random.below(bytes.len() as u64) as usize, random.below(8));
            let mut changed = bytes.clone();
            changed[at] ^= 1 << bit;
            let verdict = report(&changed, None, None).verdict;
            let ok = matches!(verdict, Verdict::Broken | Verdict::NotADump(_));
            assert!(ok, "{cipher}, {codec}: bit {bit} at {at:#x}: {verdict:?}");
        }
    }
}

#[test]
fn truncated_data_reads_up_to_the_last_complete_block() {
    let built = build("key aes 256");
    let file = built.key.as_deref();
    let cut = built.bytes.len() - 4096 - 7;
    let dump = open(&built.bytes[..cut], Some(&private(2048)), file).unwrap();
    let payload = dump.payload();
    assert_eq!(payload.size().unwrap(), cut as u64 / 16 * 16);
    let mut last = [0; 16];
    let at = cut as u64 / 16 * 16 - 16;
    payload.read_exact_at(&mut last, at).unwrap();
    assert_eq!(last[..], built.payload[at as usize..at as usize + 16]);
    assert!(!dump.envelope().warnings().is_empty());
}

#[test]
fn aes_encrypts_only_uncompressed_sealed_targets() {
    let target = |container, codec| Target {
        container,
        encoding: Encoding::new(codec),
    };
    for codec in [Codec::Gzip, Codec::Zstd] {
        let target = target(Container::Sealed, codec);
        assert!(Sealer::inner_target(Cipher::Aes256Cbc, &target).is_err());
        assert!(Sealer::inner_target(Cipher::ChaCha20, &target).is_ok());
    }
    for container in [Container::Saved, Container::Raw] {
        let target = target(container, Codec::None);
        assert!(Sealer::inner_target(Cipher::ChaCha20, &target).is_err());
    }
}

#[test]
fn key_files_in_other_forms_are_explained() {
    for (pem, why) in [
        (pem("rsa2048.pub"), "public key"),
        ("-----BEGIN ENCRYPTED PRIVATE KEY-----".into(), "passphrase"),
        ("x".into(), "PEM"),
    ] {
        let error = PrivateKey::from_pem(&pem).unwrap_err().to_string();
        assert!(error.contains(why), "{error}");
    }
    let error = PublicKey::from_pem(&pem("rsa2048"))
        .unwrap_err()
        .to_string();
    assert!(error.contains("private key"), "{error}");
    // PKCS#1 and PKCS#8 are both accepted: one of the test keys has each form.
    assert!(pem("rsa2048").contains("RSA PRIVATE KEY"));
    assert!(!pem("rsa4096").contains("RSA PRIVATE KEY"));
}

/// Runs openssl with `input`, and returns its output; `None` if it is not installed.
#[expect(clippy::print_stderr, reason = "a skipped test says so")]
fn openssl(args: &[&str], input: &[u8]) -> Option<Vec<u8>> {
    let child = Command::new("openssl")
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let Ok(mut child) = child else {
        eprintln!("skipped: openssl is not installed");
        return None;
    };
    let mut stdin = child.stdin.take().unwrap();
    let output = std::thread::scope(|scope| {
        scope.spawn(move || stdin.write_all(input).unwrap());
        child.wait_with_output().unwrap()
    });
    let err = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "openssl {args:?}: {err}");
    Some(output.stdout)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// openssl decrypts the key and the data of a dump that Livecore encrypted, as decryptcore(8) does.
#[test]
fn openssl_decrypts_the_key_and_the_data_of_encrypted_dumps() {
    let built = build("container device");
    let plain = open(&built.bytes, None, None).unwrap();
    for (cipher, codec, bits) in MADE {
        let bytes: Arc<dyn ReadAt> = Arc::new(sealed(&plain, cipher, codec, bits));
        let found = locate(&bytes, None, &livecore_compress::OpenOptions::new());
        let found = found.unwrap().unwrap();
        let path = format!(
            "{}/../testdata/keys/rsa{bits}.pem",
            env!("CARGO_MANIFEST_DIR")
        );
        let unwrap = [
            "pkeyutl",
            "-decrypt",
            "-inkey",
            &path,
            "-pkeyopt",
            "rsa_padding_mode:oaep",
        ];
        let Some(key) = openssl(&unwrap, &found.block.encrypted_key) else {
            return;
        };
        assert_eq!(key.len(), 64, "decryptcore(8) requires exactly 64 bytes");
        let mut data = vec![0; found.data.size().unwrap() as usize];
        found.data.read_exact_at(&mut data, 0).unwrap();
        let iv = match cipher {
            Cipher::Aes256Cbc => hex(&found.block.iv[..16]),
            Cipher::ChaCha20 => format!("{:016x}{}", 0, hex(&found.block.iv[..8])),
        };
        let name = match cipher {
            Cipher::Aes256Cbc => "-aes-256-cbc",
            Cipher::ChaCha20 => "-chacha20",
        };
        let key = hex(&key[..32]);
        let decrypt = ["enc", "-d", name, "-K", &key, "-iv", &iv, "-nopad"];
        let expected = openssl(&decrypt, &data).unwrap();
        let ours = found.decrypt(Some(&private(bits))).unwrap();
        let mut plain = vec![0; ours.size().unwrap() as usize];
        ours.read_exact_at(&mut plain, 0).unwrap();
        assert!(plain == expected, "{cipher}, {codec}");
        // The plain data is a complete dump.
        assert!(content(&open(&plain, None, None).unwrap()) == built.payload);
    }
}

/// openssl decrypts what the builder encrypted, which proves the builder as well.
#[test]
fn openssl_decrypts_the_builders_dumps() {
    for (key, name) in [
        ("key aes 256", "-aes-256-cbc"),
        ("key chacha20 256", "-chacha20"),
    ] {
        let built = build(key);
        let block = built.key.unwrap();
        let path = format!(
            "{}/../testdata/keys/rsa2048.pem",
            env!("CARGO_MANIFEST_DIR")
        );
        let unwrap = [
            "pkeyutl",
            "-decrypt",
            "-inkey",
            &path,
            "-pkeyopt",
            "rsa_padding_mode:oaep",
        ];
        let Some(one_time) = openssl(&unwrap, &block[37..37 + 256]) else {
            return;
        };
        let iv = match name {
            "-aes-256-cbc" => hex(&block[1..17]),
            _ => format!("{:016x}{}", 0, hex(&block[1..9])),
        };
        let secret = hex(&one_time[..32]);
        let args = ["enc", "-d", name, "-K", &secret, "-iv", &iv, "-nopad"];
        assert!(
            openssl(&args, &built.bytes).unwrap() == built.payload,
            "{key}"
        );
    }
}
