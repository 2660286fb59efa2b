//! Single compressed streams: restart points are kept between runs.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use crate::harness::{MESSAGES, Run, livecore, run};

const MACHINE: &str = "seed = 5\n[memory]\nsize = \"256 MiB\"\n[content]\nkernel = \"72 MiB\"\n";

#[test]
fn restart_points_of_a_stream_are_kept_and_cleared() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    fs::write(path("m.toml"), MACHINE).unwrap();
    run(["synth", "-q", "-o", &path("machine"), &path("m.toml")]).expect(0);
    let (image, kernel) = (path("machine"), path("machine/kernel"));
    let take = ["take", "-q", "--image", &image, "-k", &kernel, "-o"];
    for (name, codec) in [("vmcore.0.zst", "-Z"), ("vmcore.1.gz", "-z")] {
        let dump = path(name);
        let stream = [codec, "-1", "--container", "saved"];
        run(take.iter().chain(&[&*dump]).chain(&stream)).expect(0);
        let threads = |options: &[&str]| {
            let mut command = livecore();
            command
                .args(["threads", "-k", &kernel, &dump])
                .args(MESSAGES)
                .args(options);
            command.env("XDG_CACHE_HOME", dir.path());
            Run::of(command.output().unwrap()).expect(0)
        };
        let kept = || {
            let entries = fs::read_dir(Path::new(&path("livecore")))
                .into_iter()
                .flatten();
            let found = entries.map(|entry| entry.unwrap().metadata().unwrap());
            found
                .map(|found| found.permissions().mode() & 0o777)
                .collect::<Vec<_>>()
        };
        let note = "decompressing";
        let without = threads(&["--no-cache"]);
        assert_eq!(without.count(note), 1, "{}", without.err);
        assert_eq!(kept(), [0; 0], "{name}");
        let first = threads(&[]);
        assert_eq!(first.count(note), 1, "{}", first.err);
        assert_eq!(kept(), [0o600], "{name}");
        let second = threads(&[]);
        assert_eq!(second.err, "", "{name}");
        assert_eq!(second.text(), first.text());
        assert_eq!(second.text(), without.text());
        let mut clear = livecore();
        clear
            .args(["cache", "clear"])
            .env("XDG_CACHE_HOME", dir.path());
        let cleared = Run::of(clear.output().unwrap()).expect(0);
        assert!(
            cleared.text().contains("removed 1 file,"),
            "{}",
            cleared.text()
        );
        assert_eq!(kept(), [0; 0]);
    }
}

/// Without restart points, the length of the content is unknown before its end.
#[test]
fn content_after_the_dump_is_reported_in_the_first_run_as_in_later_ones() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    fs::write(path("m.toml"), MACHINE).unwrap();
    run(["synth", "-q", "-o", &path("machine"), &path("m.toml")]).expect(0);
    let (image, kernel, raw) = (path("machine"), path("machine/kernel"), path("raw"));
    let take = ["take", "-q", "--image", &image, "-k", &kernel, "-o", &raw];
    run(take.iter().chain(&["--none", "--container", "raw"])).expect(0);
    let mut content = fs::read(&raw).unwrap();
    content.extend([0xa5; 512]);
    let dump = path("vmcore.0.zst");
    fs::write(&dump, zstd::encode_all(&content[..], 1).unwrap()).unwrap();
    for verb in ["threads", "ps"] {
        let mut texts = BTreeSet::new();
        for _ in 0..2 {
            let mut command = livecore();
            command.args([verb, "-k", &kernel, &dump]).args(MESSAGES);
            command.env("XDG_CACHE_HOME", path(verb));
            let run = Run::of(command.output().unwrap()).expect(3);
            assert_eq!(run.count("trailing-bytes"), 1, "{}", run.err);
            texts.insert(run.out);
        }
        assert_eq!(texts.len(), 1, "{verb}");
    }
}
