//! An emulated machine through the whole program: synth, take, convert, read.

use livecore_minidump::PhysAddr;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use livecore_synth::Machine;
use serde_json::Value;

use crate::harness::{machine, names, run, run_json, tool};
use crate::schema;

const CODECS: [(&str, &str); 3] = [("--none", ""), ("--gzip", ".gz"), ("--zstd", ".zst")];
const CONTAINERS: [&str; 3] = ["sealed", "saved", "raw"];

/// The payload of the tiny machine: the output of `take` without compression and container.
fn payload() -> &'static [u8] {
    static PAYLOAD: OnceLock<Vec<u8>> = OnceLock::new();
    PAYLOAD.get_or_init(|| {
        let taken = run([
            "take".as_ref(),
            "--machine".as_ref(),
            machine("tiny").as_os_str(),
            "--none".as_ref(),
            "--container".as_ref(),
            "saved".as_ref(),
            "-o".as_ref(),
            "-".as_ref(),
        ]);
        taken.expect(0).out
    })
}

/// The builder's data of the tiny machine.
fn tiny() -> &'static Machine {
    static TINY: OnceLock<Machine> = OnceLock::new();
    TINY.get_or_init(|| {
        let text = fs::read_to_string(machine("tiny")).unwrap();
        Machine::parse(&text).unwrap()
    })
}

fn take(dir: &Path, args: &[&str]) -> crate::harness::Run {
    let tiny = machine("tiny");
    let mut all = vec!["take", "--machine", tiny.to_str().unwrap(), "-o"];
    let dir = format!("{}/", dir.display());
    all.push(&dir);
    all.extend(args);
    run(all)
}

/// Takes a dump of the tiny machine as `name` in `dir`.
fn dump(dir: &Path, name: &str, codec: &str, container: &str) -> PathBuf {
    let path = dir.join(name);
    let tiny = machine("tiny");
    run([
        "take",
        "--machine",
        tiny.to_str().unwrap(),
        codec,
        "--container",
        container,
        "-q",
        "-o",
        path.to_str().unwrap(),
    ])
    .expect(0);
    path
}

/// The payload of a file, decompressed by the codec's own tool. For an uncompressed raw file, the
/// part before padding and header.
#[track_caller]
fn payload_of(path: &Path, suffix: &str, container: &str) -> Vec<u8> {
    let stored = fs::read(path).unwrap();
    match (suffix, container) {
        ("", _) => stored[..payload().len()].to_vec(),
        // The data after the stream in a raw file is not a member or frame.
        (_, "raw") => {
            let header = &stored[stored.len() - 512..];
            assert!(header.starts_with(b"FreeBSD Kernel Dump\0"));
            // `dumplength`, bytes 40 to 48, big-endian: FreeBSD sys/sys/kerneldump.h.
            let len = u64::from_be_bytes(header[40..48].try_into().unwrap());
            let cut = path.with_extension("cut");
            fs::write(&cut, &stored[..len as usize]).unwrap();
            let out = decompress(&cut, suffix);
            fs::remove_file(cut).unwrap();
            out
        }
        _ => decompress(path, suffix),
    }
}

#[track_caller]
fn decompress(path: &Path, suffix: &str) -> Vec<u8> {
    match suffix {
        ".gz" => {
            // gzip needs the suffix, or standard input.
            let input = fs::File::open(path).unwrap();
            let output = std::process::Command::new("gzip")
                .arg("-dc")
                .stdin(input)
                .output()
                .unwrap();
            assert!(output.status.success() && output.stderr.is_empty());
            output.stdout
        }
        _ => {
            tool("zstd", &["-tq"], path);
            tool("zstd", &["-dcq"], path)
        }
    }
}

#[test]
fn payload_does_not_depend_on_codec_and_container() {
    let dir = tempfile::tempdir().unwrap();
    for (codec, suffix) in CODECS {
        for container in CONTAINERS {
            let name = format!("{container}{suffix}");
            let path = dump(dir.path(), &name, codec, container);
            let got = payload_of(&path, suffix, container);
            assert!(got == payload(), "{name}");
        }
    }
}

#[test]
fn conversion_between_all_containers_and_codecs_keeps_the_payload() {
    let dir = tempfile::tempdir().unwrap();
    for (from_codec, from_suffix) in CODECS {
        for from in CONTAINERS {
            let source = dump(
                dir.path(),
                &format!("{from}{from_suffix}"),
                from_codec,
                from,
            );
            for (codec, suffix) in CODECS {
                for to in CONTAINERS {
                    let name = format!("{from}{from_suffix}-to-{to}{suffix}");
                    let path = dir.path().join(&name);
                    let args = ["convert", "-q", codec, "--container", to].map(AsRef::as_ref);
                    let files = [source.as_os_str(), path.as_os_str()];
                    run(args.into_iter().chain(files)).expect(0);
                    assert!(payload_of(&path, suffix, to) == payload(), "{name}");
                    fs::remove_file(path).unwrap();
                }
            }
        }
    }
}

#[test]
fn dumps_of_the_machine_and_of_its_image_are_identical() {
    let dir = tempfile::tempdir().unwrap();
    let to = |name: &str| dir.path().join(name).to_str().unwrap().to_string();
    let tiny = machine("tiny");
    run(["synth", tiny.to_str().unwrap(), "--out", &to("machine")]).expect(0);
    run([
        "take",
        "--machine",
        tiny.to_str().unwrap(),
        "-o",
        &to("a.zst"),
    ])
    .expect(0);
    run([
        "take",
        "--image",
        &to("machine/ram"),
        "--kernel",
        &to("machine/kernel"),
        "-o",
        &to("b.zst"),
    ])
    .expect(0);
    assert!(fs::read(to("a.zst")).unwrap() == fs::read(to("b.zst")).unwrap());
}

#[test]
fn output_does_not_depend_on_the_number_of_threads() {
    let dir = tempfile::tempdir().unwrap();
    let tiny = machine("tiny");
    for suffix in ["", ".gz", ".zst"] {
        let mut files = Vec::new();
        for threads in ["1", "2", "5"] {
            let path = dir.path().join(format!("{threads}{suffix}"));
            let out = path.to_str().unwrap();
            let tiny = tiny.to_str().unwrap();
            run(["take", "--machine", tiny, "-q", "-j", threads, "-o", out]).expect(0);
            files.push(fs::read(path).unwrap());
        }
        assert!(files.windows(2).all(|pair| pair[0] == pair[1]), "{suffix}");
    }
}

/// The file names of savecore(8), in a directory that it uses.
#[test]
fn directory_gets_numbered_dumps_with_info_bounds_and_links() {
    let dir = tempfile::tempdir().unwrap();
    let first = take(dir.path(), &["--json"]).expect(0);
    let report: Value = serde_json::from_slice(&first.out).unwrap();
    schema::check("written", &report);
    assert_eq!(report["number"], 0);
    assert_eq!(report["payload_size"], payload().len());
    take(dir.path(), &["-z"]).expect(0);
    assert_eq!(
        names(dir.path()),
        [
            "bounds",
            "info.0",
            "info.1",
            "info.last",
            "livecore.0.zst",
            "livecore.1.gz",
            "livecore.last.gz"
        ]
    );
    assert_eq!(
        fs::read_to_string(dir.path().join("bounds")).unwrap(),
        "2\n"
    );
    let info = fs::read_to_string(dir.path().join("info.0")).unwrap();
    assert!(info.starts_with("Dump header from device: /dev/mem\n  Architecture: amd64\n"));
    assert!(info.ends_with("  Bounds: 0\n  Dump Status: good\n"));
    assert!(info.contains("  Hostname: tiny.example.org\n"));
}

#[test]
fn existing_file_is_replaced_only_with_force() {
    let dir = tempfile::tempdir().unwrap();
    let source = dump(dir.path(), "in.zst", "--zstd", "sealed");
    let out = dir.path().join("out");
    fs::write(&out, "precious").unwrap();
    let args = ["convert".as_ref(), source.as_os_str(), out.as_os_str()];
    let refused = run_json(args).expect(1).error("exists");
    assert!(
        refused["advice"].as_str().unwrap().contains("--force"),
        "{refused:#}"
    );
    assert_eq!(fs::read(&out).unwrap(), b"precious");
    run(args.into_iter().chain(["--force".as_ref()])).expect(0);
    assert!(fs::read(&out).unwrap().len() >= payload().len());
}

#[test]
fn suffix_selects_the_codec_unless_an_option_does() {
    let dir = tempfile::tempdir().unwrap();
    let source = dump(dir.path(), "in", "--none", "saved");
    for (name, flags, magic) in [
        ("a.gz", &[][..], &[0x1f, 0x8b][..]),
        ("a.zst", &[], &[0x28, 0xb5, 0x2f, 0xfd]),
        ("a", &[], b"minidump"),
        ("b.gz", &["-Z"], &[0x28, 0xb5, 0x2f, 0xfd]),
        ("b.zst", &["--none"], b"minidump"),
    ] {
        let out = dir.path().join(name);
        let args = ["convert".as_ref(), source.as_os_str(), out.as_os_str()];
        let flags = flags.iter().map(AsRef::as_ref);
        run(args.into_iter().chain(flags)).expect(0);
        assert!(fs::read(&out).unwrap().starts_with(magic), "{name}");
    }
}

/// Sealed and raw containers keep the header; the header of a saved file is rebuilt, and the seal
/// says so.
#[test]
fn missing_header_is_rebuilt_and_recorded() {
    let dir = tempfile::tempdir().unwrap();
    let header = |name: &str| {
        let path = dir.path().join(name);
        let answer = run(["info".as_ref(), path.as_os_str(), "--json".as_ref()]).expect(0);
        let answer: Value = serde_json::from_slice(&answer.out).unwrap();
        schema::check("info", &answer);
        (
            answer["header_origin"].as_str().unwrap().to_string(),
            answer["header"]["hostname"]
                .as_str()
                .unwrap_or("none")
                .to_string(),
        )
    };
    let convert = |from: &str, to: &str, container: &str| {
        let [from, to] = [from, to].map(|name| dir.path().join(name));
        let args = ["convert".as_ref(), from.as_os_str(), to.as_os_str()];
        let container = ["--container".as_ref(), container.as_ref()];
        run(args.into_iter().chain(container)).expect(0);
    };
    dump(dir.path(), "sealed.zst", "--zstd", "sealed");
    let host = "tiny.example.org".to_string();
    assert_eq!(header("sealed.zst"), ("seal".into(), host.clone()));
    convert("sealed.zst", "raw", "raw");
    assert_eq!(header("raw"), ("file".into(), host.clone()));
    convert("raw", "again.gz", "sealed");
    assert_eq!(header("again.gz"), ("seal".into(), host));
    convert("raw", "saved", "saved");
    assert_eq!(header("saved"), ("absent".into(), "none".into()));
    convert("saved", "rebuilt", "sealed");
    assert_eq!(
        header("rebuilt"),
        ("seal-from-payload".into(), String::new())
    );
}

#[test]
fn read_prints_the_machines_memory() {
    let dir = tempfile::tempdir().unwrap();
    let path = dump(dir.path(), "d.zst", "--zstd", "sealed");
    let kernel = dir.path().join("kernel");
    fs::write(&kernel, tiny().kernel()).unwrap();
    let read = |args: &[&str]| {
        let mut all = vec!["read", path.to_str().unwrap()];
        all.extend(args);
        run(all)
    };
    let truth = tiny().truth();
    let version = read(&[
        "version",
        &truth.version.len().to_string(),
        "--raw",
        "--kernel",
        kernel.to_str().unwrap(),
    ]);
    assert_eq!(version.expect(0).text(), truth.version);

    // A kernel page by its virtual, its direct-map and its physical address.
    let at = truth.symbol("version").unwrap() & !0xfff;
    let json = |args: &[&str]| {
        let answer = read(args).expect(0);
        let answer: Value = serde_json::from_slice(&answer.out).unwrap();
        schema::check("read", &answer);
        answer
    };
    let by_map = json(&[&format!("{at:#x}"), "4K", "--json"]);
    let phys = by_map["physical"].as_str().unwrap().to_string();
    let number = u64::from_str_radix(&phys[2..], 16).unwrap();
    let mut expected = vec![0; 4096];
    tiny()
        .memory()
        .read(PhysAddr(number), &mut expected)
        .unwrap();
    let expected = expected
        .iter()
        .map(|b| format!("{b:02x}"))
        .collect::<String>();
    assert_eq!(by_map["bytes"], expected);
    let dmap = format!("{:#x}", truth.dmap.start.0 + number);
    assert_eq!(json(&[&dmap, "0x1000", "--json"])["bytes"], expected);
    assert_eq!(
        json(&[&phys, "4096", "--phys", "--json"])["bytes"],
        expected
    );
}

#[test]
fn addresses_that_are_not_in_the_dump_are_errors() {
    let dir = tempfile::tempdir().unwrap();
    let path = dump(dir.path(), "d.zst", "--zstd", "sealed");
    let path = path.to_str().unwrap();
    // Above all memory; a user address; the last address.
    for (args, id) in [
        (&["0x2000000", "16", "--phys"][..], "not-in-dump"),
        (&["0x1000", "16"], "not-mapped"),
        (&["0xffffffffffffffff", "16"], "not-mapped"),
    ] {
        let mut all = vec!["read", path];
        all.extend(args);
        let run = run_json(all).expect(1);
        assert!(run.out.is_empty(), "{args:?}");
        assert_eq!(run.error(id)["address"], args[0]);
    }
    let unknown = run(["read", path, "hz", "4"]).expect(1);
    assert!(unknown.err.contains("--kernel"), "{}", unknown.err);
}

#[test]
fn another_kernel_is_refused_without_force() {
    let dir = tempfile::tempdir().unwrap();
    let path = dump(dir.path(), "d.zst", "--zstd", "sealed");
    let text = fs::read_to_string(machine("tiny")).unwrap();
    let other = text.replace("release = \"14.0\"", "release = \"15.0\"");
    assert_ne!(text, other);
    let other = Machine::parse(&other).unwrap();
    let kernel = dir.path().join("kernel");
    fs::write(&kernel, other.kernel()).unwrap();
    let args = ["read", path.to_str().unwrap(), "0xfffff80000000000", "1"];
    let kernel = ["--kernel", kernel.to_str().unwrap()];
    let refused = run(args.into_iter().chain(kernel)).expect(2);
    assert!(refused.err.contains("14.0-RELEASE"), "{}", refused.err);
    assert!(refused.err.contains("15.0-RELEASE"), "{}", refused.err);
    run(args.into_iter().chain(kernel).chain(["--force-kernel"])).expect(3);
    let old = run(args.into_iter().chain(kernel).chain(["--force"])).expect(3);
    assert!(old.err.contains("--force-kernel"), "{}", old.err);
    let no_elf = ["--kernel", path.to_str().unwrap()];
    let refused = run(args.into_iter().chain(no_elf));
    assert!([2, 63].contains(&refused.code), "{}", refused.code);
}

#[test]
fn invalid_machine_description_is_refused_with_its_position() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("m.toml");
    for (text, why) in [
        ("memory = 1\n", "line 1, column 10"),
        ("[memory]\nsize = \"1 KiB\"\n", "memory.size"),
        (
            "[memory]\nsize = \"32 MiB\"\n[kernel]\nrelease = \"9.9\"\n",
            "release",
        ),
        ("nonsense", "line 1"),
    ] {
        fs::write(&file, text).unwrap();
        let out = dir.path().join("out");
        let args = ["synth".as_ref(), file.as_os_str()];
        let refused = run(args.into_iter().chain(["--out".as_ref(), out.as_os_str()])).expect(2);
        assert!(refused.err.contains(why), "{text}: {}", refused.err);
        assert!(!out.exists());
    }
}

#[test]
fn json_report_with_a_dump_on_standard_output_is_refused() {
    let tiny = machine("tiny");
    let tiny = tiny.to_str().unwrap();
    run(["take", "--machine", tiny, "-o", "-", "--json"]).expect(64);
}

/// Only one dump of a machine runs at a time, as with a kernel.
#[test]
fn second_dump_of_an_image_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let to = |name: &str| dir.path().join(name).to_str().unwrap().to_string();
    let tiny = machine("tiny");
    run(["synth", "-q", tiny.to_str().unwrap(), "--out", &to("m")]).expect(0);
    let (ram, kernel, out) = (to("m/ram"), to("m/kernel"), to("out"));
    let args = ["take", "--image", &ram, "--kernel", &kernel, "-o", &out];
    let lock = fs::File::open(&ram).unwrap();
    lock.lock().unwrap();
    run_json(args).expect(1).error("another-dump-running");
    assert!(!Path::new(&out).exists());
    lock.unlock().unwrap();
    run(args).expect(0);
}

/// dmesg prints the kernel's messages, with and without a kernel file.
#[test]
fn dmesg_is_the_machines_message_buffer() {
    let dir = tempfile::tempdir().unwrap();
    let path = dump(dir.path(), "d.zst", "--zstd", "sealed");
    let kernel = dir.path().join("kernel");
    fs::write(&kernel, tiny().kernel()).unwrap();
    let args = ["dmesg".as_ref(), path.as_os_str()];
    let alone = run(args).expect(0);
    let with = run(args
        .into_iter()
        .chain(["--kernel".as_ref(), kernel.as_os_str()]))
    .expect(0);
    assert_eq!(alone.text(), with.text());
    let panic = tiny().truth().panic.clone().unwrap();
    assert!(alone.text().contains(&panic), "{}", alone.text());
}

#[test]
fn several_dumps_are_reported_in_order_with_the_worst_exit_code() {
    let dir = tempfile::tempdir().unwrap();
    let sound = dump(dir.path(), "sound", "--zstd", "sealed");
    let broken = dir.path().join("broken.zst");
    let mut bytes = fs::read(&sound).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&broken, bytes).unwrap();
    let dumps = [&sound, &broken, &dir.path().join("absent"), &sound, &sound];
    for jobs in ["1", "2", "4"] {
        let run = run([
            "verify".as_ref(),
            "--json".as_ref(),
            "-j".as_ref(),
            jobs.as_ref(),
        ]
        .into_iter()
        .chain(dumps.iter().map(|path| path.as_os_str())))
        .expect(1);
        let verdicts: Value = serde_json::from_slice(&run.out).unwrap();
        let verdicts: Vec<_> = verdicts["reports"]
            .as_array()
            .unwrap()
            .iter()
            .map(|report| report["verdict"].as_str().unwrap().to_owned())
            .collect();
        assert_eq!(verdicts, ["sound", "broken", "failed", "sound", "sound"]);
    }
}
