//! Hostile names of directories, modules and sections in commands for debuggers.
//!
//! The debuggers are scripts that record their arguments.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use crate::debuggers::module_file;
use crate::harness::{MESSAGES, Run, golden, livecore};
use crate::served::{Server, debug};

/// Creates a debugger with this name, and the file to which it writes its arguments, one on a line.
/// It supports FreeBSD's ABI, and `with` if `new`.
fn fake(dir: &Path, name: &str, new: bool) -> (PathBuf, PathBuf) {
    let (path, words) = (dir.join(name), dir.join("words"));
    let with = if new { "echo 'with confirm'" } else { ":" };
    let text = format!(
        "#!/bin/sh\ncase \"$*\" in *complete*) echo 'set osabi FreeBSD'; {with};;\n\
         *) printf '%s\\n' \"$@\" > '{}';; esac\n",
        words.display()
    );
    fs::write(&path, text).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    (path, words)
}

/// Creates a directory with a dump, its kernel and a module file that has a section named
/// `section`.
fn place(dir: &Path, name: &str, section: &str) -> PathBuf {
    let place = dir.join(name);
    fs::create_dir(&place).unwrap();
    fs::copy(&debug().dump, place.join("livecore.0.zst")).unwrap();
    fs::copy(&debug().kernel, place.join("kernel")).unwrap();
    module_file(debug(), &place.join("synth.ko"), section);
    place
}

fn start(program: &Path, dump: &Path, more: &[&str]) -> Run {
    let mut command = livecore();
    command.args(MESSAGES).args(["gdb", "--debugger"]);
    command.arg(program).arg(dump);
    Run::of(command.args(more).output().unwrap())
}

#[test]
fn modules_are_added_without_confirmation_from_any_directory() {
    let dir = tempfile::tempdir().unwrap();
    let place = place(dir.path(), "two words", "");
    let dump = place.join("livecore.0.zst");
    let file = place.canonicalize().unwrap().join("synth.ko");
    let add = format!("add-symbol-file \"{}\" 0x", file.display());
    for (new, expected) in [
        (
            true,
            vec!["-ex".to_owned(), format!("with confirm off -- {add}")],
        ),
        (false, vec!["set confirm off".into(), "-ex".into(), add]),
    ] {
        let (gdb, words) = fake(dir.path(), "gdb", new);
        start(&gdb, &dump, &[]).expect(0);
        let words = fs::read_to_string(words).unwrap();
        let words: Vec<_> = words.lines().collect();
        let last = expected.last().unwrap();
        let at = words.iter().position(|w| w.starts_with(last)).unwrap();
        let before = &words[at + 1 - expected.len()..at];
        assert_eq!(before, &expected[..expected.len() - 1], "{words:?}");
        assert_eq!(words.contains(&"set confirm on"), !new, "{words:?}");
    }
    let (lldb, words) = fake(dir.path(), "lldb", true);
    start(&lldb, &dump, &[]).expect(0);
    let words = fs::read_to_string(words).unwrap();
    let kernel = file.with_file_name("kernel");
    for line in [
        format!("target create \"{}\"\n", kernel.display()),
        format!("target modules load --file \"{}\" .text 0x", file.display()),
    ] {
        assert!(words.contains(&line), "{words}");
    }
}

#[test]
fn module_with_a_hostile_section_name_is_ignored_with_a_message() {
    let dir = tempfile::tempdir().unwrap();
    for (number, section) in ["x 0 -s y $(z)", "a;b", "-s"].iter().enumerate() {
        let place = place(dir.path(), &number.to_string(), section);
        let dump = place.join("livecore.0.zst");
        for name in ["gdb", "lldb"] {
            let (program, words) = fake(dir.path(), name, true);
            let run = start(&program, &dump, &[]).expect(0);
            let skipped = run.count("unsafe-section");
            assert_eq!(skipped, 1, "{name} {section}: {}", run.err);
            assert!(
                run.err.contains("synth.ko"),
                "{name} {section}: {}",
                run.err
            );
            let words = fs::read_to_string(words).unwrap();
            assert!(!words.contains("synth.ko"), "{name} {section}: {words}");
        }
    }
}

#[test]
fn kernel_in_a_directory_with_a_hostile_name_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let dump = dir.path().join("livecore.0.zst");
    fs::copy(&debug().dump, &dump).unwrap();
    let mut said = String::new();
    for name in [
        "a\nplatform shell true\nb",
        "a\"b",
        "a`platform shell true`b",
    ] {
        let inner = dir.path().join(name);
        fs::create_dir(&inner).unwrap();
        let kernel = inner.join("kernel");
        fs::copy(&debug().kernel, &kernel).unwrap();
        for debugger in ["lldb", "gdb", "kgdb"] {
            let (program, words) = fake(dir.path(), debugger, true);
            said += &start(&program, &dump, &[]).expect(1).err;
            assert!(!words.exists(), "{debugger} {name:?}");
        }
        // A link in the dump's directory does not change the path.
        let link = dir.path().join("kernel");
        std::os::unix::fs::symlink(&kernel, &link).unwrap();
        let (program, words) = fake(dir.path(), "lldb", true);
        said += &start(&program, &dump, &[]).expect(1).err;
        // Neither does naming it.
        let named = ["--kernel", kernel.to_str().unwrap()];
        said += &start(&program, &dump, &named).expect(1).err;
        assert!(!words.exists(), "{name:?}");
        fs::remove_file(link).unwrap();
        fs::remove_dir_all(inner).unwrap();
    }
    let said = said.replace(dir.path().to_str().unwrap(), "DIR");
    golden("messages/kernel-in-unsafe-path.txt", &said);
}

#[test]
fn module_in_a_directory_with_a_hostile_name_is_ignored() {
    let dir = tempfile::tempdir().unwrap();
    let place = place(dir.path(), "a`b", "");
    let dump = place.join("livecore.0.zst");
    let kernel = debug().kernel.to_str().unwrap();
    let (lldb, words) = fake(dir.path(), "lldb", true);
    let run = start(&lldb, &dump, &["--kernel", kernel]).expect(0);
    assert_eq!(run.count("unsafe-path"), 1, "{}", run.err);
    assert!(run.err.contains("synth.ko: "), "{}", run.err);
    let words = fs::read_to_string(words).unwrap();
    assert!(!words.contains("synth.ko"), "{words}");
    // The commands for users omit it too.
    let server = Server::start([dump.to_str().unwrap(), "--kernel", kernel]);
    let printed = crate::served::Client::to(&server).console("kld");
    assert!(!printed.contains("add-symbol-file"), "{printed}");
}
