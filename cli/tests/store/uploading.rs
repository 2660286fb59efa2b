//! Uploads exist when they are complete, and leave no parts when they fail.

use std::io::Read;
use std::process::{Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};

use crate::made::{done, fails, livecore, made};
use crate::server::{Act, Request, Server};

/// `convert` of the uncompressed dump to an object of `server`.
fn convert(server: &Server) -> Command {
    let mut command = livecore(&["convert"]);
    command
        .arg(&made().plain)
        .arg("s3://crash/web/vmcore.1")
        .env("AWS_ENDPOINT_URL", &server.address);
    command
}

/// The bytes of the parts, in their order.
fn parts(requests: &[Request]) -> Vec<u8> {
    let mut parts: Vec<_> = requests
        .iter()
        .filter_map(|r| Some((r.part()?, &r.body)))
        .collect();
    parts.sort();
    parts
        .into_iter()
        .flat_map(|(_, body)| body.clone())
        .collect()
}

#[test]
fn parts_of_a_complete_upload_are_the_file() {
    let server = Server::start(b"", |_| Act::Right);
    done(&mut convert(&server));
    let requests = server.requests();
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("vmcore.1");
    done(livecore(&["convert"]).arg(&made().plain).arg(&file));
    let expected = std::fs::read(file).unwrap();
    assert!(parts(&requests) == expected);
    let sizes = requests
        .iter()
        .filter_map(|r| r.part().map(|_| r.body.len()));
    assert!(
        sizes.clone().count() >= 3,
        "{:?}",
        sizes.collect::<Vec<_>>()
    );
    assert_eq!(requests.iter().filter(|r| r.is_complete()).count(), 1);
    assert!(!requests.iter().any(Request::is_abort));
    assert!(
        requests
            .iter()
            .all(|r| r.target.starts_with("/crash/web/vmcore.1"))
    );
}

/// Whether a fault hits a request.
type Hit = dyn Fn(&Request) -> bool + Send + Sync;

#[test]
fn failed_uploads_are_aborted() {
    let is_part = |n: u32| move |r: &Request| r.part() == Some(n);
    let faults: [(&str, Box<Hit>, Act); 6] = [
        ("a denied part", Box::new(is_part(2)), Act::Status(403)),
        ("a part that fails", Box::new(is_part(2)), Act::Status(503)),
        ("silence for a part", Box::new(is_part(1)), Act::Silence),
        (
            "the end of the connection",
            Box::new(is_part(3)),
            Act::Closed,
        ),
        (
            "a denied completion",
            Box::new(Request::is_complete),
            Act::Status(403),
        ),
        ("noise", Box::new(is_part(2)), Act::Noise),
    ];
    for (name, hit, act) in faults {
        let server = Server::start(
            b"",
            move |request| if hit(request) { act } else { Act::Right },
        );
        let err = fails(&mut convert(&server), 1);
        assert!(err.contains("s3://crash/web/vmcore.1"), "{name}: {err}");
        assert!(!err.contains('\x1b') && err.len() < 600, "{err}");
        let requests = server.requests();
        assert_eq!(
            requests.iter().filter(|r| r.is_abort()).count(),
            1,
            "{name}: {err}"
        );
        let completed = requests.iter().filter(|r| r.is_complete()).count();
        assert_eq!(completed > 0, name == "a denied completion", "{name}");
    }
}

#[test]
fn parts_are_repeated_after_faults_that_pass() {
    for act in [Act::Status(503), Act::Silence, Act::Closed] {
        let server = Server::start(b"", move |request| match request.number {
            3 | 5 if request.part().is_some() => act,
            _ => Act::Right,
        });
        done(&mut convert(&server));
        let requests = server.requests();
        let first = requests.iter().find(|r| r.part() == Some(1)).unwrap();
        assert_eq!(first.body.len(), 8 << 20);
        assert!(!requests.iter().any(Request::is_abort), "{act:?}");
    }
}

/// A signal removes the parts, and the program exits as by the signal.
#[test]
fn interrupted_uploads_are_aborted() {
    let server = Server::start(b"", |request| match request.part() {
        Some(2) => Act::Silence,
        _ => Act::Right,
    });
    let mut command = Command::new("env");
    command.args(["--default-signal", env!("CARGO_BIN_EXE_livecore")]);
    let convert = convert(&server);
    command.args(convert.get_args());
    command.envs(
        convert
            .get_envs()
            .filter_map(|(name, value)| Some((name, value?))),
    );
    command.env("LIVECORE_STORE_TIMEOUT", "600");
    command.stdin(Stdio::null()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    server.wait_for("second part", |request| request.part() == Some(2));
    let pid = Pid::from_child(&child);
    kill_process(pid, Signal::TERM).unwrap();
    let status = child.wait().unwrap();
    let mut err = String::new();
    child.stderr.unwrap().read_to_string(&mut err).unwrap();
    assert_eq!(status.code(), Some(143), "{err}");
    let requests = server.requests();
    assert_eq!(requests.iter().filter(|r| r.is_abort()).count(), 1, "{err}");
    assert!(!requests.iter().any(Request::is_complete));
}

#[test]
fn other_outputs_are_refused() {
    let dump = made().plain.to_str().unwrap();
    for (out, message) in [
        ("https://localhost/x", "only s3:// can be written"),
        ("s3://crash", "found a prefix"),
    ] {
        let err = fails(&mut livecore(&["convert", dump, out]), 64);
        assert!(err.contains(message), "{err}");
    }
}
