use std::sync::Arc;

use livecore_compress::{Codec, Encoding, NoProgress, ReadAt};

use super::*;
use crate::Error;

/// A member with the digest of its contents.
fn member(name: &str, kind: Kind, contents: &[u8]) -> Member {
    let (size, sha256) = digest(&contents, &NoProgress).unwrap();
    Member {
        name: name.into(),
        kind,
        size,
        sha256,
        build_id: None,
    }
}

fn manifest(members: Vec<Member>) -> Manifest {
    Manifest {
        schema: 1,
        pack: VERSION,
        livecore: "0".into(),
        architecture: "amd64".into(),
        members,
        ..Manifest::default()
    }
}

const INFO: &[u8] = b"Dump header from device: /dev/ada0p2\n";
const DUMP: &[u8] = &[7; 3000];

fn usual() -> (Manifest, Contents) {
    let members = vec![
        member("info.0", Kind::Info, INFO),
        member("vmcore.0", Kind::Dump, DUMP),
    ];
    let contents: Contents = vec![Arc::new(INFO.to_vec()), Arc::new(DUMP.to_vec())];
    (manifest(members), contents)
}

fn stored(manifest: &Manifest, contents: &Contents, threads: usize) -> Vec<u8> {
    let archive = Archive::new(manifest, contents).unwrap();
    let mut out = Vec::new();
    let encoding = Encoding::new(Codec::Zstd).threads(threads.try_into().unwrap());
    let len = write(&archive, &encoding, &mut out, &NoProgress).unwrap();
    assert_eq!(len, out.len() as u64);
    out
}

/// A tar archive made by hand: type and name, stated size, contents of each member.
fn tar_of(members: &[(u8, &str, u64, &[u8])]) -> Vec<u8> {
    let mut archive = Vec::new();
    for (kind, name, size, contents) in members {
        let mut header = [0; 512];
        header[..name.len()].copy_from_slice(name.as_bytes());
        header[100..108].copy_from_slice(b"0000600\0");
        header[124..136].copy_from_slice(format!("{size:011o}\0").as_bytes());
        header[136..148].copy_from_slice(b"00000000000\0");
        header[156] = *kind;
        header[257..265].copy_from_slice(b"ustar\x0000");
        header[148..156].fill(b' ');
        let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
        header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        archive.extend(header);
        archive.extend(*contents);
        archive.resize(archive.len().next_multiple_of(512), 0);
    }
    archive.resize(archive.len() + 1024, 0);
    archive
}

/// A tar archive of `manifest`, and of `members` after it.
fn with_manifest(manifest: &Manifest, members: &[(u8, &str, u64, &[u8])]) -> Vec<u8> {
    let json = serde_json::to_vec(manifest).unwrap();
    let first = (b'0', MANIFEST, json.len() as u64, &json[..]);
    let all: Vec<_> = [first].into_iter().chain(members.iter().copied()).collect();
    tar_of(&all)
}

#[track_caller]
fn refused(archive: Vec<u8>) -> String {
    let error = Pack::open(Arc::new(archive)).map(drop).unwrap_err();
    assert!(matches!(error, Error::Broken { .. }), "{error}");
    let line = error.to_string();
    assert!(line.lines().count() == 1 && line.len() < 300, "{line}");
    line
}

#[test]
fn pack_is_the_same_for_any_number_of_threads_and_reads_back() {
    let (manifest, contents) = usual();
    let bytes = stored(&manifest, &contents, 1);
    assert_eq!(bytes, stored(&manifest, &contents, 3));
    let options = livecore_compress::OpenOptions::new();
    let pack = Pack::from_source(Arc::new(bytes), &options)
        .unwrap()
        .unwrap();
    assert_eq!(*pack.manifest(), manifest);
    assert_eq!(pack.info().unwrap().as_bytes(), INFO);
    let mut dump = vec![0; DUMP.len() + 1];
    assert_eq!(pack.dump().read_full_at(&mut dump, 0).unwrap(), DUMP.len());
    assert_eq!(dump[..DUMP.len()], *DUMP);
    assert!(pack.kernel().is_none());
    pack.check(true, &NoProgress).unwrap();
}

#[test]
fn archive_made_by_hand_is_the_same_as_the_written_one() {
    let (manifest, contents) = usual();
    let archive = Archive::new(&manifest, &contents).unwrap();
    let mut written = vec![0; archive.size().unwrap() as usize];
    archive.read_exact_at(&mut written, 0).unwrap();
    let mut json = serde_json::to_vec_pretty(&manifest).unwrap();
    json.push(b'\n');
    let expected = tar_of(&[
        (b'0', MANIFEST, json.len() as u64, &json),
        (b'0', "info.0", INFO.len() as u64, INFO),
        (b'0', "vmcore.0", DUMP.len() as u64, DUMP),
    ]);
    assert_eq!(written.len(), expected.len());
    // The writer sets more fields: user, group and device.
    for (block, (found, expected)) in written.chunks(512).zip(expected.chunks(512)).enumerate() {
        if !expected[257..].starts_with(b"ustar") {
            assert!(found == expected, "block {block}");
        }
    }
    let pack = Pack::open(Arc::new(expected)).unwrap();
    pack.check(true, &NoProgress).unwrap();
}

#[test]
fn other_archives_and_streams_are_not_packs() {
    let options = livecore_compress::OpenOptions::new();
    let other = tar_of(&[(b'0', "panic.txt", 1, b"x")]);
    let zstd = zstd_of(&other);
    for bytes in [
        Vec::new(),
        vec![0; 600],
        other,
        zstd,
        b"\x28\xb5\x2f\xfdxx".to_vec(),
    ] {
        assert!(
            Pack::from_source(Arc::new(bytes), &options)
                .unwrap()
                .is_none()
        );
    }
    // Compressed by another program, without an index.
    let (manifest, contents) = usual();
    let archive = Archive::new(&manifest, &contents).unwrap();
    let mut plain = vec![0; archive.size().unwrap() as usize];
    archive.read_exact_at(&mut plain, 0).unwrap();
    for bytes in [zstd_of(&plain), plain] {
        let pack = Pack::from_source(Arc::new(bytes), &options)
            .unwrap()
            .unwrap();
        pack.check(true, &NoProgress).unwrap();
    }
}

/// A stream without an index and without the size of its content.
fn zstd_of(content: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let encoding = Encoding::new(Codec::Zstd);
    let shape = livecore_compress::Shape::Single;
    let mut content = content;
    livecore_compress::encode_read(&mut content, &encoding, shape, &mut out, &NoProgress).unwrap();
    out
}

#[test]
fn names_that_leave_the_directory_are_refused() {
    for name in [
        "../vmcore.0",
        "/etc/vmcore.0",
        "a/../../vmcore.0",
        "vm\ncore",
        "",
    ] {
        let manifest = manifest(vec![member(name, Kind::Dump, DUMP)]);
        let line = refused(with_manifest(&manifest, &[(b'0', "vmcore.0", 3000, DUMP)]));
        assert!(line.contains("found the name"), "{line}");
    }
    // The manifest is honest, the archive is not.
    let manifest = manifest(vec![member("vmcore.0", Kind::Dump, DUMP)]);
    let line = refused(with_manifest(
        &manifest,
        &[(b'0', "../vmcore.0", 3000, DUMP)],
    ));
    assert!(line.contains("found member \"../vmcore.0\""), "{line}");
}

#[test]
fn links_and_directories_are_refused() {
    let manifest = manifest(vec![member("vmcore.0", Kind::Dump, DUMP)]);
    for kind in *b"123456xgLKS" {
        let line = refused(with_manifest(&manifest, &[(kind, "vmcore.0", 3000, DUMP)]));
        assert!(line.contains("expected a regular file"), "{kind}: {line}");
    }
}

#[test]
fn sizes_beyond_the_file_are_refused() {
    let mut listed = member("vmcore.0", Kind::Dump, DUMP);
    for size in [3000 + 2048, 1 << 30, 0o77777777777] {
        listed.size = size;
        let manifest = manifest(vec![listed.clone()]);
        let line = refused(with_manifest(&manifest, &[(b'0', "vmcore.0", size, DUMP)]));
        assert!(line.contains("expected an end within the pack"), "{line}");
    }
    listed.size = 2999;
    let manifest = manifest(vec![listed]);
    let line = refused(with_manifest(&manifest, &[(b'0', "vmcore.0", 3000, DUMP)]));
    assert!(line.contains("expected 2999, by the manifest"), "{line}");
    // A manifest of 8 GiB in a small file.
    let line = refused(tar_of(&[(b'0', MANIFEST, 0o77777777777, b"{}")]));
    assert!(line.contains("at most 1048576"), "{line}");
    let line = refused(tar_of(&[(b'0', MANIFEST, MANIFEST_MAX, b"{}")]));
    assert!(line.contains("end of the pack after"), "{line}");
}

#[test]
fn two_members_of_one_name_are_refused() {
    let one = member("vmcore.0", Kind::Dump, DUMP);
    let other = member("vmcore.0", Kind::Module, DUMP);
    let both = manifest(vec![one.clone(), other]);
    let twice = [(b'0', "vmcore.0", 3000, DUMP); 2];
    let line = refused(with_manifest(&both, &twice));
    assert!(line.contains("found two members vmcore.0"), "{line}");
    // The manifest lists one of them.
    let line = refused(with_manifest(&manifest(vec![one.clone()]), &twice));
    assert!(line.contains("found another member"), "{line}");
    let dumps = manifest(vec![one.clone(), member("vmcore.1", Kind::Dump, DUMP)]);
    let line = refused(with_manifest(&dumps, &twice));
    assert!(line.contains("found 2 members of kind dump"), "{line}");
    let line = refused(with_manifest(&manifest(Vec::new()), &[]));
    assert!(line.contains("found 0 members of kind dump"), "{line}");
    let line = refused(with_manifest(&manifest(vec![one]), &[]));
    assert!(line.contains("found the end of the archive"), "{line}");
}

#[test]
fn manifests_with_too_many_members_or_another_version_are_refused() {
    let mut many: Vec<_> = (0..=MEMBERS_MAX)
        .map(|i| member(&format!("kernel/{i}.ko"), Kind::Module, b""))
        .collect();
    many[0] = member("vmcore.0", Kind::Dump, DUMP);
    for member in &mut many {
        member.sha256.clear();
    }
    let line = refused(with_manifest(&manifest(many), &[]));
    assert!(line.contains("found 2049 members"), "{line}");
    for json in ["", "[]", "{}", "{\"pack\": 1}", "{\"pack\": -1}", "\0"] {
        let line = refused(tar_of(&[(
            b'0',
            MANIFEST,
            json.len() as u64,
            json.as_bytes(),
        )]));
        assert!(line.contains("expected a manifest"), "{line}");
    }
    let json = b"{\"pack\": 2, \"members\": 7}";
    let archive = tar_of(&[(b'0', MANIFEST, json.len() as u64, json)]);
    let error = Pack::open(Arc::new(archive)).map(drop).unwrap_err();
    assert_eq!(
        error.to_string(),
        "not supported: pack version 2 (supported: 1)"
    );
}

#[test]
fn debug_file_of_another_build_is_refused() {
    let mut kernel = member(KERNEL, Kind::Kernel, b"k");
    let mut debug = member("kernel/kernel.debug", Kind::Debug, b"d");
    kernel.build_id = Some("0102".into());
    debug.build_id = Some("0103".into());
    let manifest = manifest(vec![kernel, debug, member("vmcore.0", Kind::Dump, DUMP)]);
    let line = refused(with_manifest(&manifest, &[]));
    let expected =
        "found build-id 0103 of kernel/kernel.debug, expected 0102, that of kernel/kernel";
    assert!(line.contains(expected), "{line}");
}

#[test]
fn contents_that_differ_from_the_manifest_cannot_be_read() {
    let (mut manifest, contents) = usual();
    let other = digest(&&b"other"[..], &NoProgress).unwrap().1;
    manifest.members[0].sha256 = other;
    let pack = Pack::open(Arc::new({
        let archive = Archive::new(&manifest, &contents).unwrap();
        let mut bytes = vec![0; archive.size().unwrap() as usize];
        archive.read_exact_at(&mut bytes, 0).unwrap();
        bytes
    }))
    .unwrap();
    let file = pack.member("info.0").unwrap();
    for _ in 0..2 {
        let error = file.read_at(&mut [0], 3).unwrap_err();
        let error = livecore_compress::Error::in_io(&error).unwrap().to_string();
        assert!(error.starts_with("pack, info.0 at offset 0x"), "{error}");
        assert!(
            error.contains("found SHA-256") && error.contains("by the manifest"),
            "{error}"
        );
    }
    assert_eq!(pack.info(), None);
    assert!(matches!(
        pack.check(false, &NoProgress),
        Err(Error::Broken { .. })
    ));
}

#[test]
fn files_larger_than_the_limit_are_refused_before_their_digest_is_computed() {
    for kind in [Kind::Kernel, Kind::Module, Kind::Debug] {
        let mut large = member(KERNEL, kind, DUMP);
        large.size = FILE_MAX + 1;
        let manifest = manifest(vec![large, member("vmcore.0", Kind::Dump, DUMP)]);
        let line = refused(with_manifest(&manifest, &[(b'0', KERNEL, 0, b"")]));
        assert!(line.contains("expected at most 1073741824 bytes"), "{line}");
    }
}
