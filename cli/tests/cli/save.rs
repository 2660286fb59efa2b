//! `save`: dumps of every kind on devices and in images of disks, made by the independent builder.

use std::fs;
use std::path::{Path, PathBuf};

use livecore_tests::corpus;
use livecore_tests::mkdump::{self, Built};
use livecore_tests::mkimage::disk::{bsd, gpt, mbr};
use serde_json::Value;

pub(crate) use livecore_tests::corpus::MINIDUMP;

use crate::harness::{names, run, run_json, testdata, tool};
use crate::schema;

const FULL: &str = "fulldump amd64
    avail 0x1000 0x9000
    avail 0x200000 0x20a000
    page 0x1000 own
    pages 0x200000 4 seed 1
    container device
";

pub(crate) const TEXT: &str = "textdump amd64
    member \"msgbuf.txt\" text \"booting\\n\" times 100
    member \"panic.txt\" text \"page fault\"
    member \"version.txt\" text \"FreeBSD 14.1-RELEASE\"
    container device
";

/// A directory with the image of a device, and an empty one for its dump.
pub(crate) struct Place {
    pub(crate) dir: tempfile::TempDir,
    pub(crate) built: Built,
}

impl Place {
    pub(crate) fn new(recipe: &str) -> Self {
        let built = mkdump::build_all(recipe).unwrap_or_else(|e| panic!("{e}:\n{recipe}"));
        let place = Self {
            dir: tempfile::tempdir().unwrap(),
            built,
        };
        fs::write(place.image(), &place.built.bytes).unwrap();
        fs::create_dir(place.crash()).unwrap();
        place
    }

    pub(crate) fn image(&self) -> PathBuf {
        self.dir.path().join("device")
    }

    pub(crate) fn crash(&self) -> PathBuf {
        self.dir.path().join("crash")
    }

    pub(crate) fn saved(&self, name: &str) -> PathBuf {
        self.crash().join(name)
    }

    /// Runs `save` with `options`.
    pub(crate) fn save(&self, options: &[&str]) -> crate::harness::Run {
        let (crash, image) = (self.crash(), self.image());
        let args = ["save"].iter().copied().chain(options.iter().copied());
        run_json(args.chain([crash.to_str().unwrap(), image.to_str().unwrap()]))
    }

    /// Asserts that the image has not changed.
    #[track_caller]
    pub(crate) fn is_untouched(&self) {
        assert!(fs::read(self.image()).unwrap() == self.built.bytes);
    }

    /// Asserts that only the magic of the last header has changed, to that of savecore(8).
    #[track_caller]
    pub(crate) fn is_cleared(&self, sector: usize) {
        let after = fs::read(self.image()).unwrap();
        let at = after.len() - sector;
        let mut expected = self.built.bytes.clone();
        expected[at..at + 20].copy_from_slice(b"Cleared Kernel Dump\0");
        assert!(after == expected, "{:?}", &after[at..at + 20]);
    }
}

/// The decompressed content of a file, by another program.
pub(crate) fn content(path: &Path) -> Vec<u8> {
    match path.extension().and_then(|suffix| suffix.to_str()) {
        Some("zst") => tool("zstd", &["-qdc"], path),
        Some("gz") => tool("gzip", &["-dc"], path),
        _ => fs::read(path).unwrap(),
    }
}

#[test]
fn saved_dumps_have_the_payload_of_the_device() {
    for kind in [MINIDUMP, FULL] {
        for codec in ["none", "gzip", "zstd"] {
            for sector in [512, 4096] {
                for (options, name) in [
                    (&[][..], "vmcore.0.zst"),
                    (&["-z"], "vmcore.0.gz"),
                    (&["-Z"], "vmcore.0.zst"),
                    (&["-u"], "vmcore.0"),
                ] {
                    let recipe = format!("{kind}compress {codec}\nsector {sector}\n");
                    let place = Place::new(&recipe);
                    let run = place.save(options).expect(0);
                    run.warnings(&[]);
                    let path = place.saved(name);
                    let found = content(&path);
                    let payload = &place.built.payload;
                    assert!(found.starts_with(payload), "{recipe}{options:?}");
                    // Without compression, the seal follows the payload.
                    assert!(name == "vmcore.0" || found.len() == payload.len());
                    place.is_cleared(sector);
                    run_json([Path::new("verify"), &path]).expect(0);
                }
            }
        }
    }
}

#[test]
fn saved_text_dumps_are_the_archive_of_the_device() {
    for (options, name) in [
        (&[][..], "textdump.tar.0"),
        (&["-z"], "textdump.tar.0.gz"),
        // Other programs expect no other codec.
        (&["-Z"], "textdump.tar.0"),
    ] {
        let place = Place::new(TEXT);
        place.save(options).expect(0).warnings(&[]);
        assert_eq!(content(&place.saved(name)), place.built.payload, "{name}");
        place.is_cleared(512);
        run([Path::new("verify"), &place.saved(name)]).expect(0);
        let link = fs::read_link(place.saved(&name.replace(".0", ".last"))).unwrap();
        assert_eq!(link, Path::new(name));
    }
}

#[test]
fn encrypted_dumps_are_saved_with_their_key_as_decryptcore_reads_them() {
    for (cipher, codec) in [
        ("chacha20", "none"),
        ("chacha20", "zstd"),
        ("chacha20", "gzip"),
        ("aes", "none"),
    ] {
        for (kind, sector) in [(MINIDUMP, 512), (MINIDUMP, 4096), (FULL, 512), (FULL, 4096)] {
            let place = Place::new(&format!(
                "{kind}key {cipher} 256\ncompress {codec}\nsector {sector}\n"
            ));
            place.save(&[]).expect(0).warnings(&[]);
            let key = fs::read(place.saved("key.0")).unwrap();
            assert_eq!(Some(&key), place.built.key.as_ref());
            assert_eq!(
                names(&place.crash()),
                [
                    "bounds",
                    "info.0",
                    "info.last",
                    "key.0",
                    "key.last",
                    "vmcore_encrypted.0",
                    "vmcore_encrypted.last"
                ]
            );
            place.is_cleared(sector);
            let plain = decrypted(&place, &key, cipher);
            match codec {
                "none" => assert!(plain == place.built.payload),
                _ => {
                    let suffix = if codec == "zstd" { "zst" } else { "gz" };
                    let path = place.dir.path().join(format!("plain.{suffix}"));
                    fs::write(&path, plain).unwrap();
                    assert!(content(&path) == place.built.payload);
                }
            }
        }
    }
}

/// The data of `vmcore_encrypted.0`, decrypted by openssl with the private key of the tests.
fn decrypted(place: &Place, key: &[u8], cipher: &str) -> Vec<u8> {
    let keys = testdata().join("keys/rsa2048.pem");
    let wrapped = place.dir.path().join("wrapped");
    fs::write(&wrapped, &key[37..37 + 256]).unwrap();
    let one_time = tool(
        "openssl",
        &[
            "pkeyutl",
            "-decrypt",
            "-inkey",
            keys.to_str().unwrap(),
            "-pkeyopt",
            "rsa_padding_mode:oaep",
            "-in",
        ],
        &wrapped,
    );
    let hex = |bytes: &[u8]| bytes.iter().map(|b| format!("{b:02x}")).collect::<String>();
    let (name, iv) = match cipher {
        "aes" => ("-aes-256-cbc", hex(&key[1..17])),
        _ => ("-chacha20", format!("{}{}", hex(&[0; 8]), hex(&key[1..9]))),
    };
    tool(
        "openssl",
        &[
            "enc",
            "-d",
            name,
            "-nopad",
            "-K",
            &hex(&one_time[..32]),
            "-iv",
            &iv,
            "-in",
        ],
        &place.saved("vmcore_encrypted.0"),
    )
}

#[test]
fn new_encryption_is_opened_by_the_private_key_only_and_exported_for_decryptcore() {
    let keys = testdata().join("keys");
    let public = keys.join("rsa2048.pub.pem");
    for codec in [&["-Z"][..], &["-u"], &["-u", "--cipher", "aes256-cbc"]] {
        let place = Place::new(MINIDUMP);
        let mut options = vec!["--encrypt", public.to_str().unwrap()];
        options.extend(codec);
        place.save(&options).expect(0);
        place.is_cleared(512);
        let path = place.saved("vmcore_encrypted.0");
        let stored = fs::read(&path).unwrap();
        let is_dense = |bytes: &&[u8]| bytes.iter().filter(|byte| **byte == 0).count() < 8;
        let plain = place.built.payload.chunks(64).rfind(is_dense).unwrap();
        assert!(!stored.windows(64).any(|bytes| bytes == plain));
        let path = path.to_str().unwrap();
        run_json(["info", path]).expect(1).error("encrypted");
        let private = keys.join("rsa2048.pem");
        let private = private.to_str().unwrap();
        run(["verify", "--key", private, path]).expect(0);
        // The layout of savecore(8), whose data openssl decrypts to a dump file.
        let out = format!("{}/", place.dir.path().display());
        run(["export", "--encrypted", path, &out]).expect(0);
        let exported = Place {
            dir: tempfile::tempdir().unwrap(),
            built: mkdump::build_all(MINIDUMP).unwrap(),
        };
        fs::create_dir(exported.crash()).unwrap();
        for name in ["key.0", "vmcore_encrypted.0"] {
            fs::copy(place.dir.path().join(name), exported.saved(name)).unwrap();
        }
        let key = fs::read(exported.saved("key.0")).unwrap();
        let cipher = if codec.len() > 1 { "aes" } else { "chacha20" };
        let plain = decrypted(&exported, &key, cipher);
        let name = if codec == ["-Z"] {
            "plain.zst"
        } else {
            "plain"
        };
        let file = place.dir.path().join(name);
        fs::write(&file, plain).unwrap();
        assert!(
            content(&file).starts_with(&place.built.payload),
            "{codec:?}"
        );
    }
}

#[test]
fn dumps_in_partitions_of_every_scheme_are_found_saved_and_cleared() {
    let other = vec![0x5a; 40960];
    for sector in [512, 4096] {
        let dump = mkdump::build_all(&format!("{MINIDUMP}sector {sector}\n")).unwrap();
        let dump = (dump.bytes, dump.payload);
        let swap = ("freebsd-swap", &dump.0[..]);
        let slice = |base| bsd(sector, base, &[("ufs", &other), ("swap", &dump.0)]);
        let (relative, absolute) = (slice(0), slice(64));
        let disks = [
            (gpt(sector, &[("efi", &other), swap, ("zfs", &other)]), "p2"),
            (gpt(sector, &[("freebsd-zfs", &dump.0)]), "p1"),
            (
                gpt(sector, &[("efi", &other), ("freebsd", &relative)]),
                "p2b",
            ),
            (mbr(sector, &[("83", &other), ("82", &dump.0)]), "s2"),
            (mbr(sector, &[("freebsd", &relative)]), "s1b"),
            (mbr(sector, &[("freebsd", &absolute)]), "s1b"),
            (relative.clone(), "b"),
        ];
        for (disk, partition) in disks {
            let place = Place::new(MINIDUMP);
            fs::write(place.image(), &disk).unwrap();
            let run = place.save(&["--json"]).expect(0);
            let report: Value = serde_json::from_slice(&run.out).unwrap();
            schema::check("save", &report);
            let saved = &report["dumps"][0];
            assert_eq!(saved["partition"], partition, "{report:#}");
            assert_eq!(
                (&saved["cleared"], &saved["check"]),
                (&true.into(), &"sound".into())
            );
            assert_eq!(report["dumps"].as_array().unwrap().len(), 1);
            assert!(
                content(&place.saved("vmcore.0.zst")) == dump.1,
                "{partition}"
            );
            // Only the magic in the partition's last sector has changed.
            let at = disk.windows(dump.0.len()).position(|bytes| bytes == dump.0);
            let last = at.unwrap() + dump.0.len() - sector;
            let mut expected = disk;
            expected[last..last + 20].copy_from_slice(b"Cleared Kernel Dump\0");
            assert!(fs::read(place.image()).unwrap() == expected, "{partition}");
            let again = place.save(&[]).expect(0);
            assert_eq!(again.count("already-saved"), 1);
        }
    }
}

#[test]
fn damaged_gpt_is_read_from_its_copy_and_a_disk_without_tables_has_no_dump() {
    let dump = mkdump::build_all(MINIDUMP).unwrap();
    let disk = gpt(512, &[("freebsd-swap", &dump.bytes)]);
    let place = Place::new(MINIDUMP);
    for (damaged, found) in [
        (&[512][..], true),
        (&[1024], true),
        (&[512, disk.len() - 512], false),
    ] {
        let mut bytes = disk.clone();
        for at in damaged {
            bytes[at + 60] ^= 1;
        }
        fs::write(place.image(), bytes).unwrap();
        let run = place.save(&["-k", "-m", "1"]).expect(0);
        assert_eq!(
            run.count("no-dump-on-device"),
            usize::from(!found),
            "{damaged:?}"
        );
    }
}

/// The law of `save`: a dump is cleared only if the file has all of its bytes.
#[test]
fn every_device_of_the_corpus_is_saved_or_stays_as_it_is() {
    let (mut saved, mut kept) = (0, 0);
    let all = corpus::recipes().unwrap();
    for recipe in all.iter().filter(|r| r.text.contains("\ncontainer device")) {
        let name = &recipe.name;
        let place = Place::new(&recipe.text);
        let run = place.save(&[]);
        let files = names(&place.crash());
        let is_dump = |file: &&String| {
            file.contains(".0") && !file.starts_with("info") && !file.starts_with("key")
        };
        let dump = files.iter().find(is_dump);
        let has_all = dump.is_some_and(|dump| {
            let found = content(&place.saved(dump));
            let device = &place.built.bytes;
            // A text dump is backwards on the device.
            let backwards: Vec<u8> = found.chunks(512).rev().flatten().copied().collect();
            let is_there = |part: &[u8]| device.windows(part.len()).any(|bytes| bytes == part);
            found.starts_with(&place.built.payload) || is_there(&found) || is_there(&backwards)
        });
        let is_kept = fs::read(place.image()).unwrap() == place.built.bytes;
        match run.code {
            0 if dump.is_none() => assert!(is_kept, "{name}"),
            0 | 3 => assert!(has_all && !is_kept, "{name}: {}", run.err),
            2 => assert!(is_kept, "{name}: {}", run.err),
            code => panic!("{name}: {code}: {}", run.err),
        }
        match is_kept {
            true => kept += 1,
            false => saved += 1,
        }
    }
    assert!(saved > 15 && kept > 8, "{saved} saved, {kept} kept");
}

#[test]
fn several_dumps_of_a_disk_are_saved_with_swap_first() {
    let [first, second] = ["one", "two"].map(|name| {
        let recipe = format!("{MINIDUMP}set kdh.hostname = \"{name}\"\n");
        mkdump::build_all(&recipe).unwrap().bytes
    });
    let place = Place::new(MINIDUMP);
    let disk = gpt(512, &[("freebsd-zfs", &first), ("freebsd-swap", &second)]);
    fs::write(place.image(), disk).unwrap();
    place.save(&[]).expect(0);
    for (number, host) in [(0, "two"), (1, "one")] {
        let info = fs::read_to_string(place.saved(&format!("info.{number}"))).unwrap();
        assert!(info.contains(&format!("Hostname: {host}\n")), "{info}");
    }
}

#[test]
fn images_in_other_formats_name_the_program_that_converts_them() {
    let place = Place::new(MINIDUMP);
    for (magic, what) in [
        (&b"QFI\xfb"[..], "qcow2"),
        (b"KDMV", "VMDK"),
        (b"COWD", "VMDK"),
    ] {
        let mut image = place.built.bytes.clone();
        image[..magic.len()].copy_from_slice(magic);
        fs::write(place.image(), image).unwrap();
        let error = place.save(&[]).expect(63).error("unsupported");
        let text = error.to_string();
        assert!(
            text.contains(what) && text.contains("qemu-img convert"),
            "{text}"
        );
    }
}
