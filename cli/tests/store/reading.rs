//! Dumps on servers give the same answers as files, or one error.

use crate::made::{done, fails, livecore, made, text, with_kernel};
use crate::server::{Act, Server};

/// The verbs that read a dump print the same as for the file.
#[test]
fn every_verb_reads_an_object_like_a_file() {
    let made = made();
    let server = Server::start(&made.bytes, |_| Act::Right);
    let url = server.url();
    let file = made.dump.display().to_string();
    for verb in ["dmesg", "ps", "threads", "triage"] {
        let expected = text(&mut with_kernel(verb, &made.dump));
        assert!(expected.len() > 100, "{verb}");
        assert_eq!(
            text(&mut with_kernel(verb, &url)).replace(&url, &file),
            expected,
            "{verb}"
        );
    }
    let verified = text(&mut livecore(&["verify", "-v", &url]));
    assert!(verified.contains("sound"), "{verified}");
    // An object has no blocks on a disk.
    let info = |dump: &str| {
        let text = text(&mut livecore(&["info", "--json", dump]));
        let lines = text.lines().filter(|line| !line.contains("disk_size"));
        lines.collect::<Vec<_>>().join(
            "
",
        )
    };
    assert_eq!(info(&url).replace(&url, &file), info(&file));
    assert_eq!(
        done(&mut livecore(&["compare", &url, &file])).status.code(),
        Some(0)
    );
    let grouped = text(livecore(&["group", &url, "--kernel-path"]).arg(&made.kernel));
    assert!(
        grouped.contains("lcs1:") || grouped.contains(&url),
        "{grouped}"
    );
    let read = ["read", "--phys", "0x200000", &url];
    assert_eq!(
        livecore(&read).output().unwrap().status.code(),
        livecore(&[read[0], read[1], read[2], &file])
            .output()
            .unwrap()
            .status
            .code()
    );
    let dir = tempfile::tempdir().unwrap();
    for (verb, name) in [
        ("convert", "a.gz"),
        ("export", "vmcore"),
        ("salvage", "b.zst"),
    ] {
        let [from_url, from_file] = ["url", "file"].map(|from| dir.path().join(from).join(name));
        for (from, to) in [(&url, &from_url), (&file, &from_file)] {
            std::fs::create_dir_all(to.parent().unwrap()).unwrap();
            done(livecore(&[verb, from]).arg(to));
        }
        let [a, b] = [from_url, from_file].map(|path| std::fs::read(path).unwrap());
        assert!(a == b, "{verb}");
    }
}

/// A backtrace reads the index and the frames that it needs.
#[test]
fn backtrace_reads_a_small_part_of_the_object() {
    let made = made();
    let server = Server::start(&made.bytes, |_| Act::Right);
    let mut threads = with_kernel("threads", server.url());
    let output = done(threads.args(["--crashed", "-v"]));
    let err = String::from_utf8(output.stderr).unwrap();
    let requests = server.requests();
    let received: u64 = requests
        .iter()
        .filter_map(|r| r.range())
        .map(|(a, b)| b.min(made.bytes.len() as u64) - a)
        .sum();
    assert!(
        received * 3 < made.bytes.len() as u64,
        "{received} of {}",
        made.bytes.len()
    );
    let count = format!("in {} requests", requests.len());
    assert!(err.contains("received ") && err.contains(&count), "{err}");
    // No byte is requested twice.
    let mut ranges: Vec<_> = requests.iter().filter_map(|r| r.range()).collect();
    ranges.sort_unstable();
    assert!(
        ranges.windows(2).all(|pair| pair[0].1 <= pair[1].0),
        "{ranges:?}"
    );
}

/// A complete read sends large requests, and none twice.
#[test]
fn sequential_reading_is_done_in_large_requests() {
    let made = made();
    let server = Server::start(&made.bytes, |_| Act::Right);
    done(&mut livecore(&["verify", "-T", "1", &server.url()]));
    let requests = server.requests();
    let received: u64 = requests
        .iter()
        .filter_map(|r| r.range())
        .map(|(a, b)| b.min(made.bytes.len() as u64) - a)
        .sum();
    assert!(received < made.bytes.len() as u64 * 11 / 10, "{received}");
    let most = made.bytes.len() / (256 << 10);
    assert!(
        requests.len() < most,
        "{} requests, {most} frames",
        requests.len()
    );
}

/// A request that fails is repeated; the output is the same.
#[test]
fn faults_that_pass_are_repeated() {
    let made = made();
    let expected = text(&mut with_kernel("dmesg", &made.dump));
    let faults = [
        Act::Status(500),
        Act::Status(503),
        Act::Status(429),
        Act::Half,
        Act::HalfInChunks,
        Act::Silence,
        Act::HalfAndSilence,
        Act::Closed,
    ];
    for fault in faults {
        for first in [0, 1, 3] {
            let server = Server::start(&made.bytes, move |request| match request.number {
                number if number == first || number == first + 1 => fault,
                _ => Act::Right,
            });
            let output = done(&mut with_kernel("dmesg", server.url()));
            assert_eq!(
                String::from_utf8(output.stdout).unwrap(),
                expected,
                "{fault:?} {first}"
            );
        }
    }
}

/// A server that answers wrongly, or does not answer, is one error, and never a damaged or complete dump.
#[test]
fn wrong_answers_are_one_error() {
    let made = made();
    let faults: [(Act, &str); 14] = [
        (Act::Status(404), "no such object"),
        (Act::Status(403), "access denied"),
        (Act::Status(500), "HTTP status 500"),
        (Act::Whole, "server does not support range requests"),
        (Act::OtherRange, "got"),
        (Act::Overflow, "Content-Range"),
        (Act::Half, ""),
        (Act::HalfInChunks, "expected"),
        (Act::Endless, "expected"),
        (Act::EndlessError, ""),
        (Act::Silence, ""),
        (Act::HalfAndSilence, ""),
        (Act::Closed, ""),
        (Act::Noise, ""),
    ];
    for (fault, message) in faults {
        for first in [0, 1, 4] {
            let server = Server::start(&made.bytes, move |request| match request.number {
                number if number >= first => fault,
                _ => Act::Right,
            });
            let err = fails(&mut livecore(&["verify", &server.url()]), 1);
            assert!(err.contains(message), "{fault:?} {first}: {err}");
            assert!(err.contains(&server.address) && err.len() < 600, "{err}");
            assert!(!err.contains('\x1b'), "{err}");
            let most = first + 3 * 8;
            assert!(
                server.requests().len() <= most,
                "{fault:?}: {:?}",
                server.requests().len()
            );
        }
    }
}

/// An object that is replaced while it is read is an error.
#[test]
fn change_of_the_object_is_an_error() {
    let made = made();
    for (fault, message) in [
        (Act::OtherTag, "object changed while it was read"),
        (Act::NoTag, "object changed while it was read"),
        (Act::OtherSize, "object changed while it was read"),
        (Act::Status(412), "object changed while it was read"),
    ] {
        let server = Server::start(&made.bytes, move |request| match request.number {
            0..2 => Act::Right,
            _ => fault,
        });
        let err = fails(&mut livecore(&["verify", &server.url()]), 1);
        assert!(err.contains(message), "{fault:?}: {err}");
        let second = &server.requests()[1];
        assert_eq!(second.headers["if-match"], "\"one\"");
    }
}

/// A server without entity tags is read; the time and the size must stay the same.
#[test]
fn servers_without_entity_tags_are_read() {
    let made = made();
    let server = Server::start(&made.bytes, |_| Act::NoTag);
    let expected = text(&mut with_kernel("dmesg", &made.dump));
    assert_eq!(text(&mut with_kernel("dmesg", server.url())), expected);
}

#[test]
fn urls_are_checked_before_a_request_is_sent() {
    for (url, message) in [
        (
            "http://example.org/vmcore.0",
            "only for the loopback interface",
        ),
        ("s3:///vmcore.0", "found no bucket name"),
        ("https:///vmcore.0", "found no host"),
        ("s3://crash/a//b", "empty"),
    ] {
        let err = fails(&mut livecore(&["info", url]), 64);
        assert!(err.contains(message), "{err}");
    }
    let mut limited = livecore(&["info", "http://127.0.0.1:1/x"]);
    let err = fails(limited.env("LIVECORE_STORE_TIMEOUT", "0"), 64);
    assert!(err.contains("expected a number from 1 to 3600"), "{err}");
}
