//! `livecore pack`, and verbs on packs.
//!
//! tar(1), zstd(1) and objcopy(1) provide the expected contents.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, OnceLock};

use livecore_compress::{Codec, Encoding, NoProgress, OpenOptions, ReadAt};
use livecore_minidump::pack::{self, Archive, Contents, Kind, Manifest, Pack};
use serde_json::Value;
use tempfile::TempDir;

use crate::debuggers::{GDB, have, module_file};
use crate::harness::{MESSAGES, Run, livecore, machine, names, run, run_json, tool};
use crate::real::say;
use crate::schema;
use crate::served::{debug, tiny};

/// A dump with its info file, kernel, debug file and a module in one directory, and the pack of them in
/// another.
struct Made {
    from: TempDir,
    to: TempDir,
}

impl Made {
    fn dump(&self) -> PathBuf {
        self.from.path().join("livecore.0.zst")
    }

    fn pack(&self) -> PathBuf {
        self.to.path().join("crash.tar.zst")
    }
}

/// Splits `kernel` in the directory `to` into a kernel without debug information and its debug file.
pub(crate) fn split(kernel: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    fs::copy(kernel, to.join("full")).unwrap();
    for args in [
        &["--only-keep-debug", "full", "kernel.debug"][..],
        &[
            "--strip-debug",
            "--add-gnu-debuglink=kernel.debug",
            "full",
            "kernel",
        ],
    ] {
        let made = Command::new("objcopy").args(args).current_dir(to).status();
        assert!(made.unwrap().success(), "objcopy {args:?}");
    }
    fs::remove_file(to.join("full")).unwrap();
}

fn made() -> &'static Made {
    static MADE: OnceLock<Made> = OnceLock::new();
    MADE.get_or_init(|| {
        let made = Made {
            from: tempfile::tempdir().unwrap(),
            to: tempfile::tempdir().unwrap(),
        };
        let at = |name: &str| made.from.path().join(name);
        split(&debug().kernel, made.from.path());
        module_file(debug(), &at("synth.ko"), "");
        fs::copy(&debug().dump, at("livecore.0.zst")).unwrap();
        let dump = debug().dump.to_str().unwrap();
        let out = tempfile::tempdir().unwrap();
        run(["export", "-q", dump, out.path().to_str().unwrap()]).expect(0);
        fs::copy(out.path().join("info.0"), at("info.0")).unwrap();
        run(packing(&made.dump(), &made.pack(), &[])).expect(0);
        made
    })
}

fn packing<'a>(dump: &'a Path, to: &'a Path, more: &[&'a str]) -> Vec<&'a str> {
    let paths = [dump.to_str().unwrap(), to.to_str().unwrap()];
    let args = ["pack", "-q"].into_iter().chain(paths);
    args.chain(more.iter().copied()).collect()
}

/// Kind, name and build-id of each member.
fn listed(manifest: &Manifest) -> Vec<(&'static str, &str, Option<&str>)> {
    let members = manifest.members.iter();
    members
        .map(|m| (m.kind.name(), m.name.as_str(), m.build_id.as_deref()))
        .collect()
}

fn opened(path: &Path) -> Pack {
    let file = Arc::new(fs::File::open(path).unwrap());
    let pack = Pack::from_source(file, &OpenOptions::new()).unwrap();
    pack.expect("a pack")
}

/// The build-id that readelf(1) prints.
fn build_id(path: &Path) -> String {
    let text = tool("readelf", &["-n"], path);
    let text = String::from_utf8(text).unwrap();
    let (_, rest) = text.split_once("Build ID: ").expect("a build-id");
    rest.lines().next().unwrap().to_owned()
}

#[test]
fn pack_contains_all_files_and_tar_unpacks_it() {
    let made = made();
    let pack = opened(&made.pack());
    let id = build_id(&made.from.path().join("kernel"));
    let manifest = pack.manifest();
    let expected = [
        ("info", "info.0", None),
        ("kernel", "kernel/kernel", Some(id.as_str())),
        ("module", "kernel/synth.ko", None),
        ("debug", "kernel/kernel.debug", Some(id.as_str())),
        ("dump", "livecore.0.zst", None),
    ];
    assert_eq!(listed(manifest), expected);
    assert_eq!(manifest.architecture, "amd64");
    assert!(
        manifest
            .kernel_version
            .as_ref()
            .unwrap()
            .starts_with("FreeBSD 14.0")
    );
    assert!(manifest.seal.is_some() && manifest.dropped.is_empty());
    let missing: Vec<_> = manifest.missing.iter().map(|m| m.name.as_str()).collect();
    assert!(missing.contains(&"kernel/synth.ko.debug"), "{missing:?}");
    let mode = fs::metadata(made.pack()).unwrap().permissions().mode();
    assert_eq!(mode & 0o7777, 0o600);

    let dir = tempfile::tempdir().unwrap();
    let dir_path = dir.path().to_str().unwrap();
    tool("tar", &["--zstd", "-C", dir_path, "-xf"], &made.pack());
    for member in &manifest.members {
        let name = Path::new(&member.name).file_name().unwrap();
        let unpacked = fs::read(dir.path().join(&member.name)).unwrap();
        assert!(
            unpacked == fs::read(made.from.path().join(name)).unwrap(),
            "{name:?}"
        );
        let sum = tool("sha256sum", &[], &dir.path().join(&member.name));
        assert!(sum.starts_with(member.sha256.as_bytes()), "{name:?}");
    }
    // The kernel and its debug file are where the search finds them.
    let dump = dir.path().join("livecore.0.zst");
    let found = run_json(["threads", "--json", dump.to_str().unwrap()]).expect(0);
    assert_eq!(found.count("kernel-used"), 1, "{}", found.err);
}

#[test]
fn the_same_files_give_the_same_bytes() {
    let made = made();
    let expected = fs::read(made.pack()).unwrap();
    let dir = tempfile::tempdir().unwrap();
    for threads in ["-j1", "-j3"] {
        let to = dir.path().join(threads);
        run(packing(&made.dump(), &to, &[threads])).expect(0);
        assert!(fs::read(&to).unwrap() == expected, "{threads}");
    }
    let run = run(["pack", "-q", made.dump().to_str().unwrap(), "-"]).expect(0);
    assert!(run.out == expected, "standard output");
}

#[test]
fn json_is_the_manifest_with_the_file() {
    let made = made();
    let dir = tempfile::tempdir().unwrap();
    let to = dir.path().join("p");
    let run = run(packing(&made.dump(), &to, &["--json"])).expect(0);
    let value: Value = serde_json::from_slice(&run.out).unwrap();
    schema::check("pack", &value);
    assert_eq!(value["path"], to.to_str().unwrap());
    assert_eq!(value["file_size"], fs::metadata(&to).unwrap().len());
    let text = tool("tar", &["--zstd", "-O", "-xf"], &to);
    let end = text.windows(3).position(|w| w == b"\n}\n").unwrap();
    let manifest: Value = serde_json::from_slice(&text[..end + 2]).unwrap();
    schema::check("pack", &manifest);
    assert_eq!(manifest["members"], value["members"]);
}

/// Runs a verb on the dump and on its pack, and compares standard output without the names.
#[track_caller]
fn same(args: &[&str]) {
    let made = made();
    let with = |path: PathBuf| {
        let path = path.to_str().unwrap().to_owned();
        let args = args.iter().map(|arg| arg.replace("DUMP", &path));
        let done = run(args).expect(0);
        let name = Path::new(&path).file_name().unwrap().to_str().unwrap();
        let text = String::from_utf8_lossy(&done.out).replace(&path, "DUMP");
        (text.replace(name, "DUMP"), done.err)
    };
    let ((dump, _), (pack, err)) = (with(made.dump()), with(made.pack()));
    assert!(!dump.is_empty(), "{args:?}");
    assert_eq!(pack, dump, "{args:?}\n{err}");
}

#[test]
fn verbs_read_the_dump_in_a_pack_with_its_kernel() {
    for args in [
        &["dmesg", "DUMP"][..],
        &["ps", "--json", "DUMP"],
        &["threads", "--json", "DUMP"],
        &["triage", "--json", "DUMP"],
        &["read", "DUMP", "hz", "4"],
        &["read", "DUMP", "--phys", "0x200000", "64"],
    ] {
        same(args);
    }
    let made = made();
    let (dump, pack) = (made.dump(), made.pack());
    let [dump, pack] = [&dump, &pack].map(|path| path.to_str().unwrap());
    run(["compare", dump, pack]).expect(0);
    run(["compare", pack, pack]).expect(0);
    for args in [
        &["verify", pack][..],
        &["verify", "--deep", pack],
        &["info", pack],
    ] {
        run(args).expect(0);
    }
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    for verb in [
        &["convert", "-q", "-Z"][..],
        &["export", "-q"],
        &["salvage", "-q", "-Z"],
    ] {
        for (input, to) in [(dump, "of-dump"), (pack, "of-pack")] {
            let (to, mut args) = (at(to), verb.to_vec());
            args.extend(["--force", input, &to]);
            run(args).expect(0);
        }
        let [a, b] = ["of-dump", "of-pack"].map(|name| fs::read(at(name)).unwrap());
        assert!(a == b, "{verb:?}");
    }
    let grouped = run(["group", "--json", pack]).expect(0);
    let grouped: Value = serde_json::from_slice(&grouped.out).unwrap();
    assert_eq!(
        grouped["groups"][0]["signature"]["basis"],
        "message-and-frames"
    );
    // Another program compressed the archive.
    let plain = at("plain.tar");
    fs::write(&plain, tool("zstd", &["-dc"], made.pack().as_path())).unwrap();
    run(["verify", "-q", &plain]).expect(0);
    tool("zstd", &["-q", "--no-check"], Path::new(&plain));
    for file in [plain.clone(), format!("{plain}.zst")] {
        let found = run(["threads", "--json", &file]).expect(0);
        assert!(found.text().contains("\"function\""), "{file}");
    }
}

#[test]
fn stdin_can_be_a_pack() {
    let made = made();
    let run = |stdin: fs::File| {
        let output = livecore().args(["verify", "-"]).stdin(stdin).output();
        Run::of(output.unwrap()).expect(0)
    };
    run(fs::File::open(made.pack()).unwrap());
    let output = livecore()
        .args(["triage", "-q", "--json", "-"])
        .stdin(fs::File::open(made.pack()).unwrap())
        .output();
    let value: Value = serde_json::from_slice(&Run::of(output.unwrap()).expect(0).out).unwrap();
    // The frames need the kernel of the pack.
    assert_eq!(value["signature"]["basis"], "message-and-frames");
}

#[test]
fn gdb_uses_the_kernel_and_the_modules_of_the_pack() {
    if !have(GDB) {
        return;
    }
    let made = made();
    let spool = tempfile::tempdir().unwrap();
    let mut command = livecore();
    command.env("TMPDIR", spool.path());
    command
        .args(MESSAGES)
        .args(["gdb", "--debugger", GDB])
        .arg(made.pack());
    command.args(["--", "-batch", "-nx", "-ex", "p hz", "-ex", "info files"]);
    let run = Run::of(command.output().unwrap()).expect(0);
    assert!(
        run.text().contains("$1 = 1000"),
        "{}\n{}",
        run.text(),
        run.err
    );
    assert!(run.text().contains("/kernel/kernel"), "{}", run.text());
    assert_eq!(run.count("other-module"), 0, "{}", run.err);
    assert_eq!(names(spool.path()), Vec::<String>::new());
}

/// Writes a pack of `made` with changes.
fn changed(to: &Path, change: impl FnOnce(&mut Manifest, &mut Contents)) {
    let from = opened(&made().pack());
    let mut manifest = from.manifest().clone();
    let members = manifest.members.iter();
    let mut contents: Contents = members.map(|m| from.member(&m.name).unwrap()).collect();
    change(&mut manifest, &mut contents);
    let archive = Archive::new(&manifest, &contents).unwrap();
    let mut out = Vec::new();
    pack::write(&archive, &Encoding::new(Codec::Zstd), &mut out, &NoProgress).unwrap();
    fs::write(to, out).unwrap();
}

/// Replaces the contents of the member `name`. `honest`: also its entry in the manifest.
fn replace(
    manifest: &mut Manifest,
    contents: &mut Contents,
    name: &str,
    bytes: Vec<u8>,
    honest: bool,
) {
    let index = manifest
        .members
        .iter()
        .position(|m| m.name == name)
        .unwrap();
    let member = &mut manifest.members[index];
    member.size = bytes.len() as u64;
    if honest {
        member.sha256 = pack::digest(&bytes, &NoProgress).unwrap().1;
    }
    contents[index] = Arc::new(bytes);
}

#[test]
fn files_that_differ_from_the_manifest_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("p");
    let path = path.to_str().unwrap();
    let kernel = fs::read(made().from.path().join("kernel")).unwrap();
    let mut patched = kernel.clone();
    *patched.last_mut().unwrap() ^= 1;
    changed(path.as_ref(), |m, c| {
        replace(m, c, pack::KERNEL, patched, false)
    });
    for args in [["triage", path], ["threads", path], ["verify", path]] {
        let error = run_json(args).expect(2).error("broken");
        assert_eq!(error["region"], "pack, kernel/kernel", "{error:#}");
        assert!(
            error["found"].as_str().unwrap().starts_with("SHA-256 "),
            "{error:#}"
        );
    }
    // The dump is compared by `verify` only.
    let mut dump = fs::read(made().dump()).unwrap();
    dump.extend([0; 3]);
    changed(path.as_ref(), |m, c| {
        replace(m, c, "livecore.0.zst", dump, false)
    });
    run_json(["verify", path]).expect(2).error("broken");
    // Its seal is compared by every verb.
    changed(path.as_ref(), |m, _| m.seal = Some("00".repeat(32)));
    let error = run_json(["info", path]).expect(2).error("broken");
    assert_eq!(error["region"], "pack, livecore.0.zst, seal", "{error:#}");
    // The named kernel replaces the one of the pack.
    let named = made().from.path().join("kernel");
    changed(path.as_ref(), |m, c| {
        replace(m, c, pack::KERNEL, vec![0; 9], false)
    });
    run(["ps", "-q", "--kernel", named.to_str().unwrap(), path]).expect(0);
}

#[test]
fn kernel_of_another_dump_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("p");
    let path = path.to_str().unwrap();
    let other = fs::read(&tiny().kernel).unwrap();
    // The manifest still has the build-id of the first kernel.
    changed(path.as_ref(), |m, c| {
        replace(m, c, pack::KERNEL, other.clone(), true)
    });
    let error = run_json(["triage", path]).expect(2).error("broken");
    assert_eq!(error["found"], "no build-id", "{error:#}");
    changed(path.as_ref(), |m, c| {
        m.members
            .iter_mut()
            .for_each(|member| member.build_id = None);
        replace(m, c, pack::KERNEL, other, true);
    });
    run_json(["triage", path]).expect(2).error("other-kernel");
    // When the pack is written, too.
    let dump = made().dump();
    let kernel = tiny().kernel.to_str().unwrap();
    let to = dir.path().join("q");
    let mut args = packing(&dump, &to, &["--kernel", kernel, "--force"]);
    args.remove(1);
    run_json(args).expect(2).error("other-kernel");
    assert!(!to.exists());
}

#[test]
fn damaged_and_hostile_packs_give_one_error() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("p");
    let name = path.to_str().unwrap();
    let good = fs::read(made().pack()).unwrap();
    let archive = tool("zstd", &["-dc"], &made().pack());
    let cut = |len: usize| archive[..len].to_vec();
    let mut twice = archive.clone();
    twice.truncate(archive.len() - 1024);
    twice.extend(&archive);
    for (bytes, code) in [
        (cut(600), 2),
        (cut(archive.len() / 2), 2),
        (twice, 2),
        (good[..good.len() / 2].to_vec(), 2),
    ] {
        fs::write(&path, bytes).unwrap();
        for verb in ["info", "triage", "verify", "salvage"] {
            let args = [verb, "--messages=json", name];
            let out = dir.path().join("out");
            let out = (verb == "salvage").then(|| out.to_str().unwrap());
            let done = run(args.into_iter().chain(out)).expect(code);
            let errors = done.messages();
            let errors = errors.iter().filter(|m| m["level"] == "error").count();
            assert_eq!(errors, 1, "{verb}: {}", done.err);
        }
    }
}

#[test]
fn verify_reports_every_damaged_byte_of_the_seal_of_a_pack() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("p.tar.zst");
    let good = fs::read(made().pack()).unwrap();
    for back in (1..=400).step_by(9) {
        let mut bytes = good.clone();
        let at = bytes.len() - back;
        bytes[at] ^= 1;
        fs::write(&path, bytes).unwrap();
        let done = run(["verify", "-q", path.to_str().unwrap()]);
        assert_eq!(done.code, 2, "{back} bytes before the end: {}", done.text());
        let done = run(["verify", "-q", "--quick", path.to_str().unwrap()]);
        let is_reported = done.code == 2 || back > 200;
        assert!(is_reported, "--quick, {back} bytes before the end");
        let done = run(["info", path.to_str().unwrap()]);
        let is_warned = done.err.contains("warning: ") && done.err.contains("the pack: ");
        assert!(is_warned || back > 200, "{back}: {}", done.err);
    }
}

#[test]
fn full_disk_names_the_output() {
    let made = made();
    let done = run(packing(&made.dump(), Path::new("/dev/full"), &[])).expect(1);
    assert!(done.err.contains("/dev/full: "), "{}", done.err);
}

#[test]
fn limit_leaves_out_what_is_needed_least() {
    let made = made();
    let dump = made.dump();
    let dir = tempfile::tempdir().unwrap();
    let to = dir.path().join("p");
    let all = fs::metadata(made.pack()).unwrap().len();
    let order = ["kernel/synth.ko", "kernel/kernel.debug", "kernel/kernel"];
    let mut size = all;
    let mut count = 0;
    while count < order.len() {
        let limit = (size - 1).to_string();
        let mut args = packing(&dump, &to, &["--force", "--limit", &limit]);
        args.remove(1);
        let done = run_json(args).expect(0);
        size = fs::metadata(&to).unwrap().len();
        assert!(size <= limit.parse().unwrap(), "{size} of {limit}");
        let pack = opened(&to);
        let dropped: Vec<_> = pack.manifest().dropped.iter().collect();
        let found: Vec<_> = dropped.iter().map(|d| d.name.as_str()).collect();
        // The estimate of the size can leave out a small file more.
        assert!(found.len() > count, "{limit}: {found:?}");
        count = found.len();
        assert_eq!(found, order[..count], "{limit}");
        let said = done.messages();
        let said = said.iter().filter(|m| {
            let text = m["message"].as_str();
            text.is_some_and(|text| text.starts_with("left out for --limit: "))
        });
        assert_eq!(said.count(), count, "{}", done.err);
        run(["verify", "-q", to.to_str().unwrap()]).expect(0);
    }
    let limit = (size / 2).to_string();
    let mut args = packing(&dump, &to, &["--force", "--limit", &limit]);
    args.remove(1);
    run_json(args).expect(1).error("too-large");
    assert_eq!(fs::metadata(&to).unwrap().len(), size);
    let args = ["pack", "--limit", "1M", dump.to_str().unwrap(), "-"];
    run_json(args).expect(64).error("conflicting-arguments");
}

#[test]
fn pack_without_a_kernel_warns() {
    let dir = tempfile::tempdir().unwrap();
    let dump = dir.path().join("vmcore.7");
    let args = ["take", "-q", "--machine"].map(AsRef::as_ref);
    let tiny = machine("tiny");
    run(args
        .into_iter()
        .chain([tiny.as_os_str(), "-o".as_ref(), dump.as_os_str()]))
    .expect(0);
    let mut command = livecore();
    command
        .args(MESSAGES)
        .arg("pack")
        .arg(&dump)
        .current_dir(dir.path());
    let done = Run::of(command.output().unwrap()).expect(3);
    done.warnings(&["pack-incomplete"]);
    // The default name is in the working directory.
    let path = dir.path().join("vmcore.7.tar.zst");
    let pack = opened(&path);
    assert_eq!(listed(pack.manifest()), [("dump", "vmcore.7", None)]);
    assert_eq!(pack.manifest().missing[0].kind, Kind::Kernel);
    let mut bytes = vec![0; fs::metadata(&dump).unwrap().len() as usize];
    pack.dump().read_exact_at(&mut bytes, 0).unwrap();
    assert!(bytes == fs::read(&dump).unwrap());
    run(["dmesg", "-q", path.to_str().unwrap()]).expect(0);
    let mut command = livecore();
    command
        .args(MESSAGES)
        .arg("pack")
        .arg(&dump)
        .current_dir(dir.path());
    Run::of(command.output().unwrap()).expect(1).error("exists");
}

#[test]
fn inputs_that_are_not_dump_files_are_refused() {
    let pack = made().pack();
    let dir = tempfile::tempdir().unwrap();
    let to = dir.path().join("p");
    let to = to.to_str().unwrap();
    let error = run_json(["pack", pack.to_str().unwrap(), to])
        .expect(63)
        .error("unsupported");
    assert!(
        error["message"]
            .as_str()
            .unwrap()
            .contains("already a pack"),
        "{error:#}"
    );
    run_json(["pack", "-", to])
        .expect(64)
        .error("invalid-value");
    run_json(["pack", "/dev/null", to])
        .expect(64)
        .error("invalid-value");
    run_json(["pack", "/no/such", to])
        .expect(1)
        .error("not-found");
    let text = dir.path().join("textdump.tar.0");
    fs::write(dir.path().join("panic.txt"), "x").unwrap();
    let made = Command::new("tar")
        .args(["-C", dir.path().to_str().unwrap(), "-cf"])
        .arg(&text)
        .arg("panic.txt")
        .status();
    if !made.is_ok_and(|status| status.success()) {
        say("skipped: tar is not installed");
        return;
    }
    run_json(["pack", text.to_str().unwrap(), to])
        .expect(63)
        .error("unsupported");
}
