//! Encrypted dumps: `--key` with every verb, `LIVECORE_KEY`, `decrypt`, and errors of keys.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use livecore_tests::mkdump::{self, Built};
use tempfile::TempDir;

use crate::harness::{Run, livecore, run};

const MEMORY: &str = "minidump amd64 3
    kernbase 0xffffffff80000000
    kernend 0xffffffffc0000000
    avail 0x1000 0x40000
    msgbuf text \"---<<BOOT>>---\\n\"
    pages 0x2000 50 seed 1
";

fn key(name: &str) -> String {
    format!("{}/../testdata/keys/{name}", env!("CARGO_MANIFEST_DIR"))
}

/// A directory as savecore(8) leaves it: `vmcore_encrypted.0`, `key.0`, `info.0`; and a device.
struct Saved {
    dir: TempDir,
    built: Built,
}

/// Writes an encrypted dump as savecore(8) leaves it, and its dump device under the name `device`.
pub(crate) fn save(dir: &Path, device: &str) -> Built {
    let text = format!(
        "{MEMORY}key chacha20 256\ncompress zstd\ninfo \"/dev/da0p2\" bounds 0 status good\n"
    );
    let built = mkdump::build_all(&text).unwrap();
    let image = mkdump::build(&format!("{text}container device\n")).unwrap();
    for (name, bytes) in [
        ("vmcore_encrypted.0", &built.bytes[..]),
        ("key.0", built.key.as_ref().unwrap()),
        ("info.0", built.info.as_ref().unwrap().as_bytes()),
        (device, &image),
    ] {
        fs::write(dir.join(name), bytes).unwrap();
    }
    built
}

impl Saved {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let built = save(dir.path(), "device");
        Self { dir, built }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }
}

fn with_key(args: &[&str]) -> Run {
    let key = key("rsa2048.pem");
    let all = ["--messages", "json", "--key", &key];
    run(all.iter().chain(args))
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

#[test]
fn every_verb_that_reads_a_dump_reads_encrypted_ones() {
    let saved = Saved::new();
    for name in ["vmcore_encrypted.0", "device"] {
        let path = saved.path(name);
        let dump = text(&path);
        for args in [
            &["info", dump][..],
            &["dmesg", dump],
            &["read", "--phys", dump, "0x2000", "16"],
        ] {
            with_key(args).expect(0);
        }
        // A dump with only 50 pages.
        with_key(&["verify", dump]).expect(3);
        let out = saved.path(&format!("{name}.out"));
        with_key(&["convert", "--container", "saved", dump, text(&out)]).expect(0);
        assert!(fs::read(&out).unwrap() == saved.built.payload);
        let out = saved.path(&format!("{name}.exported"));
        with_key(&["export", dump, text(&out)]).expect(0);
        assert!(fs::read(&out).unwrap() == saved.built.payload);
        let out = saved.path(&format!("{name}.salvaged.zst"));
        with_key(&["salvage", dump, text(&out)]).expect(0);
        with_key(&["compare", dump, text(&out)]).expect(0);
    }
}

#[test]
fn info_names_the_cipher() {
    let saved = Saved::new();
    let device = saved.path("device");
    let run = with_key(&["info", "--json", text(&device)]).expect(0);
    let value: serde_json::Value = serde_json::from_str(run.text()).unwrap();
    assert_eq!(value["encryption"], "ChaCha20", "{value:#}");
    let run = with_key(&["info", text(&device)]).expect(0);
    assert!(run.text().contains("ChaCha20"), "{}", run.text());
}

#[test]
fn environment_names_the_key() {
    let saved = Saved::new();
    let device = saved.path("device");
    for (name, code) in [("rsa2048.pem", 0), ("rsa4096.pem", 1), ("none", 1)] {
        let output = livecore()
            .args(["info", text(&device)])
            .env("LIVECORE_KEY", key(name))
            .output();
        Run::of(output.unwrap()).expect(code);
    }
    // Verbs without a dump do not read the key.
    let output = livecore()
        .args(["man"])
        .env("LIVECORE_KEY", "/no/such/key")
        .output();
    Run::of(output.unwrap()).expect(0);
}

#[test]
fn missing_wrong_and_unusable_keys_are_named() {
    let saved = Saved::new();
    for name in ["vmcore_encrypted.0", "device"] {
        let path = saved.path(name);
        let dump = text(&path);
        let out = saved.path("out");
        let out = text(&out);
        for verb in [
            &["info", dump][..],
            &["convert", dump, out],
            &["decrypt", dump, out],
            &["salvage", dump, out],
        ] {
            let json = ["--messages", "json"];
            let error = run(json.iter().chain(verb)).expect(1).error("encrypted");
            assert!(
                error["advice"].as_str().unwrap().contains("--key"),
                "{error}"
            );
            let wrong = key("rsa4096.pem");
            let args = ["--messages", "json", "--key", &wrong];
            run(args.iter().chain(verb)).expect(1).error("wrong-key");
            let public = key("rsa2048.pub.pem");
            let args = ["--messages", "json", "--key", &public];
            run(args.iter().chain(verb)).expect(1).error("key-file");
        }
        assert!(!Path::new(out).exists());
    }
}

#[test]
fn key_of_another_pair_of_the_same_size_is_wrong() {
    let saved = Saved::new();
    let other = saved.path("other.pem");
    let made = std::process::Command::new("openssl")
        .args(["genrsa", "-out", text(&other), "2048"])
        .output();
    if !made.is_ok_and(|made| made.status.success()) {
        return;
    }
    let device = saved.path("device");
    let args = [
        "--messages",
        "json",
        "--key",
        text(&other),
        "info",
        text(&device),
    ];
    let run = run(args);
    // If the RSA padding is valid by chance, the decrypted data is not a dump.
    assert!(matches!(run.code, 1 | 2), "{}", run.err);
    assert_eq!(
        run.messages()
            .iter()
            .filter(|m| m["level"] == "error")
            .count(),
        1
    );
}

#[test]
fn verify_without_a_key_checks_what_is_not_encrypted() {
    let saved = Saved::new();
    let device = saved.path("device");
    let report = run(["verify", "--json", text(&device)]).expect(3);
    assert!(report.text().contains("KEY-UNREAD"), "{}", report.text());
    let mut bytes = fs::read(&device).unwrap();
    let header = bytes.len() - 512;
    bytes[header + 100] ^= 1;
    fs::write(&device, bytes).unwrap();
    run(["verify", text(&device)]).expect(2);
}

#[test]
fn decrypt_writes_the_stored_payload() {
    let saved = Saved::new();
    for name in ["vmcore_encrypted.0", "device"] {
        let path = saved.path(name);
        let out = saved.path(&format!("{name}.zst"));
        let run = with_key(&["decrypt", "--json", text(&path), text(&out)]).expect(0);
        let value: serde_json::Value = serde_json::from_str(run.text()).unwrap();
        crate::schema::check("decrypt", &value);
        let plain = zstd::decode_all(&fs::read(&out).unwrap()[..]).unwrap();
        assert!(plain == saved.built.payload, "{name}");
        with_key(&["decrypt", text(&path), text(&out)])
            .expect(1)
            .error("exists");
        let run = with_key(&["decrypt", text(&path), "-"]).expect(0);
        assert!(run.out == fs::read(&out).unwrap());
    }
    // Not an encrypted dump.
    let plain = saved.path("device.zst");
    let out = saved.path("again");
    with_key(&["decrypt", text(&plain), text(&out)]).expect(63);
}

#[test]
fn nothing_decrypted_is_cached() {
    let saved = Saved::new();
    let cache = tempfile::tempdir().unwrap();
    let device = saved.path("device");
    let key = key("rsa2048.pem");
    let output = livecore()
        .args([
            "--key",
            &key,
            "read",
            "--phys",
            text(&device),
            "0x2000",
            "16",
        ])
        .env("XDG_CACHE_HOME", cache.path())
        .output()
        .unwrap();
    Run::of(output).expect(0);
    let files = |dir: &Path| fs::read_dir(dir).into_iter().flatten().count();
    assert_eq!(files(&cache.path().join("livecore")), 0);
}

/// `savecore -z` compresses an encrypted dump that the kernel did not compress.
#[test]
fn encrypted_dump_that_savecore_compressed_is_read_and_the_verifier_names_gunzip() {
    let saved = Saved::new();
    let mut gz = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    gz.write_all(&saved.built.bytes).unwrap();
    let path = saved.path("vmcore_encrypted.0.gz");
    fs::write(&path, gz.finish().unwrap()).unwrap();
    let plain = saved.path("plain");
    let args = ["convert", "--container", "saved", "--none"];
    with_key(&[&args[..], &[text(&path), text(&plain)]].concat()).expect(0);
    assert!(fs::read(&plain).unwrap() == saved.built.payload);
    with_key(&["info", text(&path)]).expect(0);
    let verified = with_key(&["verify", text(&path)]);
    let text = String::from_utf8_lossy(&verified.out).into_owned();
    assert!(text.contains("gunzip(1)"), "{text}");
    verified.expect(63);
}

/// An exported dump has the files and the layout that decryptcore(8) reads: 37 bytes and the encrypted
/// key in `key.N`, and the data alone in `vmcore_encrypted.N`.
#[test]
fn converted_dumps_are_encrypted_and_exported_for_decryptcore() {
    let saved = Saved::new();
    let device = saved.path("device");
    let public = key("rsa4096.pub.pem");
    let private = key("rsa4096.pem");
    for (codec, cipher, suffix) in [
        ("-Z", "chacha20", ".zst"),
        ("-z", "chacha20", ".gz"),
        ("--none", "chacha20", ""),
        ("--none", "aes256-cbc", ""),
    ] {
        let out = saved.path(&format!("vmcore.7{suffix}.{cipher}"));
        let args = [
            "convert",
            codec,
            "--cipher",
            cipher,
            "--encrypt",
            &public,
            text(&device),
            text(&out),
        ];
        with_key(&args).expect(0);
        let dir = tempfile::tempdir().unwrap();
        let named = dir.path().join("vmcore.7");
        fs::rename(&out, &named).unwrap();
        // Without the private key.
        run([
            "export",
            "--encrypted",
            text(&named),
            &format!("{}/", text(dir.path())),
        ])
        .expect(0);
        let block = fs::read(dir.path().join("key.7")).unwrap();
        assert_eq!(block[0], if cipher == "chacha20" { 2 } else { 1 });
        assert_eq!(block[33..37], [0, 0, 2, 0]);
        assert!(block.len().is_multiple_of(512));
        let info = fs::read_to_string(dir.path().join("info.7")).unwrap();
        let encrypted = dir.path().join("vmcore_encrypted.7");
        let len = fs::metadata(&encrypted).unwrap().len();
        assert!(info.contains(&format!("Dump Length: {len}\n")), "{info}");
        for path in [&named, &encrypted] {
            let args = ["--key", &private, "verify", text(path)];
            run(args).expect(3);
            let plain = dir.path().join("plain");
            let args = [
                "--key",
                &private,
                "convert",
                "-f",
                "--container",
                "saved",
                text(path),
                text(&plain),
            ];
            run(args).expect(0);
            assert!(
                fs::read(&plain).unwrap() == saved.built.payload,
                "{codec} {cipher}"
            );
        }
        run(["verify", text(&named)]).expect(3);
    }
}

#[test]
fn encryption_that_no_kernel_supports_is_a_usage_error() {
    let saved = Saved::new();
    let device = saved.path("device");
    let out = saved.path("out");
    let public = key("rsa2048.pub.pem");
    for args in [
        &["--cipher", "aes256-cbc", "-Z", "--encrypt", &public][..],
        &["--container", "raw", "--encrypt", &public],
        &["--cipher", "chacha20"],
    ] {
        let all: Vec<_> = ["convert", text(&device), text(&out)]
            .into_iter()
            .chain(args.iter().copied())
            .collect();
        with_key(&all).expect(64);
    }
    let private = key("rsa2048.pem");
    with_key(&["convert", "--encrypt", &private, text(&device), text(&out)])
        .expect(1)
        .error("key-file");
    assert!(!out.exists());
}

#[test]
fn taken_dumps_are_encrypted() {
    let dir = tempfile::tempdir().unwrap();
    let machine = dir.path().join("m.toml");
    fs::write(&machine, "seed = 1\n[memory]\nsize = \"16 MiB\"\n").unwrap();
    let take = |encrypt: bool| {
        let public = key("rsa2048.pub.pem");
        let out = text(dir.path()).to_owned();
        let mut args = vec!["take", "-Z", "--machine", text(&machine), "-o", &out];
        if encrypt {
            args.extend(["--encrypt", &public]);
        }
        run(args).expect(0);
    };
    take(true);
    take(false);
    let encrypted = dir.path().join("livecore.0");
    let plain = dir.path().join("livecore.1.zst");
    // An encrypted dump has no suffix: zstd(1) cannot decompress it.
    run(["info", text(&encrypted)]).expect(1);
    with_key(&["compare", text(&encrypted), text(&plain)]).expect(0);
    with_key(&["verify", text(&encrypted)]).expect(0);
    with_key(&["info", text(&encrypted)]).expect(0);
    let info = fs::read_to_string(dir.path().join("info.0")).unwrap();
    assert!(info.contains("Compression: zstd"), "{info}");
    // With --key, LIVECORE_KEY and a sandbox, all verbs of the program work.
    let private = key("rsa2048.pem");
    let output = livecore()
        .args(["read", "--phys", text(&encrypted), "0x1000", "16"])
        .env("LIVECORE_KEY", &private)
        .env("LIVECORE_SANDBOX", "try")
        .output()
        .unwrap();
    assert!(Run::of(output).code <= 1);
}
