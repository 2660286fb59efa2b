//! `save` and `clear`: savecore(8)'s options, and headers that contradict each other.

use std::fs;
use std::path::Path;

use livecore_tests::{corpus, mkdump};

use crate::harness::{livecore, names, run, run_json};
use crate::save::{MINIDUMP, Place, TEXT, content};

#[test]
fn options_c_exits_with_0_for_a_dump_and_1_without() {
    let place = Place::new(MINIDUMP);
    let image = place.image();
    let image = image.to_str().unwrap();
    let there = run(["save", "-C", image]).expect(0);
    assert_eq!(there.text(), format!("A dump exists on {image}\n"));
    place.is_untouched();
    run(["clear", image]).expect(0);
    place.is_cleared(512);
    assert_eq!(run(["save", "-C", image]).expect(1).text(), "");
    // A later device counts.
    let other = Place::new(TEXT);
    let other = other.image();
    run(["save", "-C", "/nonexistent", image, other.to_str().unwrap()]).expect(0);
    run(["save", "-C", "/nonexistent"]).expect(1);
}

#[test]
fn clear_ignores_what_is_wrong_with_the_header_as_savecore_does() {
    for recipe in [MINIDUMP, TEXT] {
        let place = Place::new(recipe);
        let image = place.image();
        run([Path::new("save"), Path::new("-c"), &image]).expect(0);
        place.is_cleared(512);
        let before = fs::read(&image).unwrap();
        run([Path::new("clear"), &image]).expect(0);
        assert!(fs::read(&image).unwrap() == before);
    }
    let place = Place::new(&format!("{MINIDUMP}set trailing.parity = 7\n"));
    run([Path::new("clear"), &place.image()]).expect(0);
    place.is_cleared(512);
}

#[test]
fn option_k_keeps_the_dump_and_needs_no_write_access() {
    let place = Place::new(MINIDUMP);
    place.save(&["-k"]).expect(0);
    place.is_untouched();
    place.save(&["-k"]).expect(0);
    assert!(place.saved("vmcore.1.zst").exists());
    assert_eq!(fs::read_to_string(place.saved("bounds")).unwrap(), "2\n");
}

#[test]
fn option_f_saves_a_cleared_dump_of_every_kind() {
    for (recipe, name) in [(MINIDUMP, "vmcore.0.zst"), (TEXT, "textdump.tar.0")] {
        let place = Place::new(recipe);
        run([Path::new("clear"), &place.image()]).expect(0);
        let none = place.save(&[]).expect(0);
        assert_eq!(none.count("already-saved"), 1);
        assert_eq!(names(&place.crash()), [""; 0]);
        place.save(&["-f"]).expect(0);
        assert_eq!(content(&place.saved(name)), place.built.payload);
    }
}

#[test]
fn headers_that_lie_leave_device_and_directory_untouched_without_f() {
    for edit in [
        "set trailing.parity = 7",
        "set leading.hostname = \"other\"",
        "set kdh.dumpextent = 0x100000000",
        "set kdh.dumplength = 0x100000000",
        "set kdh.dumplength = 4096",
        "set kdh.dumpkeysize = 0x100000",
        "set kdh.compression = 7",
        "set kdh.compression = 2\npatch file stream.start = hex 1f 8b 08",
        "set kdh.blocksize = 4096",
    ] {
        let place = Place::new(&format!("{MINIDUMP}{edit}\n"));
        let run = place.save(&[]);
        assert_eq!(run.code, 2, "{edit}: {}", run.err);
        assert_eq!(run.count("device-kept"), 1, "{edit}");
        place.is_untouched();
        assert_eq!(names(&place.crash()), [""; 0], "{edit}");
        run_json([Path::new("save"), Path::new("-C"), &place.image()]).expect(1);
    }
}

#[test]
fn option_f_saves_what_the_last_header_describes() {
    for edit in [
        "set trailing.parity = 7",
        "set leading.hostname = \"other\"",
    ] {
        let place = Place::new(&format!("{MINIDUMP}{edit}\n"));
        let run = place.save(&["-f"]);
        assert!(matches!(run.code, 2 | 3), "{edit}: {}", run.err);
        assert!(content(&place.saved("vmcore.0.zst")) == place.built.payload);
        let info = fs::read_to_string(place.saved("info.0")).unwrap();
        assert!(info.contains("Dump Status: bad\n"), "{info}");
    }
    // The extent leads outside the device: salvage finds the dump by its first header.
    let place = Place::new(&format!(
        "{MINIDUMP}set trailing.dumpextent = 0x100000000\n"
    ));
    let run = place.save(&["-f"]).expect(2);
    assert_eq!(run.count("device-kept"), 1);
    assert!(content(&place.saved("vmcore.0.zst")) == place.built.payload);
    place.is_untouched();
}

#[test]
fn option_m_rotates_numbers_and_replaces_all_files_of_a_number() {
    let place = Place::new(MINIDUMP);
    for name in [
        "vmcore_encrypted.0",
        "key.0",
        "info.0",
        "core.txt.0",
        "livecore.0.gz",
    ] {
        fs::write(place.saved(name), "old").unwrap();
    }
    fs::write(place.saved("bounds"), "1\n").unwrap();
    place.save(&["-k", "-m", "1"]).expect(0);
    let expected = [
        "bounds",
        "info.0",
        "info.last",
        "vmcore.0.zst",
        "vmcore.last.zst",
    ];
    assert_eq!(names(&place.crash()), expected);
    // Without -m, no number is used twice.
    fs::write(place.saved("bounds"), "0\n").unwrap();
    let run = place.save(&["-k"]).expect(0);
    assert_eq!(run.count("number-skipped"), 1);
    assert!(place.saved("vmcore.1.zst").exists());
    let last = fs::read_link(place.saved("vmcore.last.zst")).unwrap();
    assert_eq!(last, Path::new("vmcore.1.zst"));
}

#[test]
fn links_to_older_dumps_of_other_kinds_are_removed() {
    let place = Place::new(MINIDUMP);
    for (target, link) in [
        ("textdump.tar.7", "textdump.tar.last"),
        ("key.7", "key.last"),
        ("vmcore.7", "vmcore.last"),
        ("livecore.7.zst", "livecore.last.zst"),
    ] {
        std::os::unix::fs::symlink(target, place.saved(link)).unwrap();
    }
    place.save(&[]).expect(0);
    let expected = [
        "bounds",
        "info.0",
        "info.last",
        "vmcore.0.zst",
        "vmcore.last.zst",
    ];
    assert_eq!(names(&place.crash()), expected);
}

#[test]
fn full_directory_states_the_missing_bytes_and_leaves_the_device_untouched() {
    for options in [&["-u"][..], &["-Z"], &["-z"]] {
        let place = Place::new(MINIDUMP);
        // More than any file system has.
        fs::write(place.saved("minfree"), "9007199254740991\n").unwrap();
        let error = place.save(options).expect(1).error("no-space");
        let text = error["message"].as_str().unwrap();
        assert!(text.contains("bytes missing"), "{text}");
        assert_eq!(names(&place.crash()), ["minfree"]);
        place.is_untouched();
    }
}

#[test]
fn structure_that_cannot_be_parsed_is_saved_and_compared() {
    for codec in ["none", "zstd"] {
        let recipe = format!("{MINIDUMP}compress {codec}\npatch payload 24 = hex ff ff ff ff\n");
        let place = Place::new(&recipe);
        let run = place.save(&[]).expect(3);
        assert_eq!(run.warnings(&["unsupported"]).len(), 1);
        assert!(content(&place.saved("vmcore.0.zst")) == place.built.payload);
        place.is_cleared(512);
    }
}

#[test]
fn dump_that_does_not_verify_is_saved_and_kept_on_the_device() {
    let recipe = corpus::recipes().unwrap();
    let recipe = recipe
        .iter()
        .find(|r| r.name == "device-architecture-differs");
    let place = Place::new(&recipe.unwrap().text);
    let run = place.save(&[]).expect(2);
    assert_eq!(run.count("device-kept"), 1);
    assert!(content(&place.saved("vmcore.0.zst")) == place.built.payload);
    place.is_untouched();
}

#[test]
fn damaged_compressed_dump_is_salvaged_and_kept_on_the_device() {
    for codec in ["gzip", "zstd"] {
        let recipe = format!("{MINIDUMP}compress {codec}\nflip file stream.start + 4000 bit 3\n");
        let place = Place::new(&recipe);
        let run = place.save(&[]);
        assert!(matches!(run.code, 2 | 3), "{codec}: {}", run.err);
        if run.code == 2 {
            assert_eq!(run.count("device-kept"), 1, "{codec}");
            place.is_untouched();
        }
    }
}

#[test]
fn truncated_text_dumps_name_their_complete_members() {
    let place = Place::new(&format!(
        "{TEXT}patch payload payload.size - 1000 = hex ff ff\n"
    ));
    let run = place.save(&[]).expect(3);
    let warnings = run.warnings(&["broken"]);
    let text = warnings[0]["message"].as_str().unwrap();
    assert!(text.contains("complete members: msgbuf.txt"), "{text}");
    assert_eq!(
        fs::read(place.saved("textdump.tar.0")).unwrap(),
        place.built.payload
    );
}

#[test]
fn without_a_device_other_systems_print_the_usage() {
    if std::env::consts::OS == "freebsd" {
        return;
    }
    run_json(["save"]).expect(64).error("missing-argument");
    run_json(["save", "-C"])
        .expect(64)
        .error("missing-argument");
    let dir = tempfile::tempdir().unwrap();
    run_json([Path::new("save"), dir.path()]).expect(64);
    // The first argument is the directory.
    let place = Place::new(MINIDUMP);
    let image = place.image();
    run_json([Path::new("save"), &image, &image]).expect(1);
    place.is_untouched();
}

#[test]
fn default_directory_is_the_current_one() {
    let place = Place::new(MINIDUMP);
    let run = livecore()
        .args(["save", ".", "../device"])
        .current_dir(place.crash())
        .output()
        .unwrap();
    assert!(run.status.success(), "{run:?}");
    assert!(place.saved("vmcore.0.zst").exists());
}

#[test]
fn verbose_prints_the_header() {
    let place = Place::new(&format!("{MINIDUMP}set kdh.hostname = \"host.example\"\n"));
    let run = place.save(&["-k", "-v", "-v"]).expect(0);
    assert!(run.count("info-line") > 10, "{}", run.err);
    assert!(run.err.contains("Hostname: host.example"), "{}", run.err);
}

#[test]
fn built_images_are_found_at_any_size_of_the_device() {
    let recipe = format!("{MINIDUMP}device_size 0x200000\nstale 5\n");
    let built = mkdump::build_all(&recipe).unwrap();
    let place = Place::new(&recipe);
    place.save(&[]).expect(0);
    assert!(content(&place.saved("vmcore.0.zst")) == built.payload);
}
