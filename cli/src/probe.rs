//! Tries operations that the sandbox must refuse. Compiled only with the feature `sandbox-probe`, which
//! the test `cli/tests/sandbox.rs` enables; released programs do not contain this module.

use std::fs;
use std::io::{self, Write};
use std::net::TcpStream;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::io::Errno;
use rustix::process::{chroot, pivot_root};
use rustix::time::{ClockId, Timespec, clock_settime};

/// The environment variable with a directory outside the sandbox.
const VARIABLE: &str = "LIVECORE_SANDBOX_PROBE";

/// If [`VARIABLE`] is set, tries every operation on this thread, on a thread of rayon's pool and on a
/// new thread. Prints a line for each: `probe: THREAD: OPERATION: refused`, or the other outcome.
pub(crate) fn run() {
    let Some(outside) = std::env::var_os(VARIABLE).map(PathBuf::from) else {
        return;
    };
    let mut lines = tried("main", &outside);
    lines += &rayon::scope(|_| tried("pool", &outside));
    let thread = std::thread::scope(|scope| {
        let new = scope.spawn(|| tried("new", &outside));
        new.join().unwrap_or_default()
    });
    lines += &thread;
    let _ = io::stderr().write_all(lines.as_bytes());
}

fn tried(thread: &str, outside: &Path) -> String {
    let secret = outside.join("secret");
    let made = |name: &str| outside.join(format!("{thread}-{name}"));
    let mut lines = String::new();
    let mut note = |what: &str, done: io::Result<()>| {
        let outcome = match done {
            Ok(()) => "ALLOWED".into(),
            Err(e) => match Errno::from_io_error(&e) {
                Some(Errno::PERM | Errno::ACCESS) => "refused".into(),
                _ => format!("NOT REFUSED: {e}"),
            },
        };
        lines += &format!("probe: {thread}: {what}: {outcome}\n");
    };
    note("read", fs::read(&secret).map(drop));
    note("list", fs::read_dir(outside).map(drop));
    note(
        "write",
        fs::OpenOptions::new().append(true).open(&secret).map(drop),
    );
    note(
        "truncate",
        fs::OpenOptions::new()
            .write(true)
            .truncate(true)
            .open(&secret)
            .map(drop),
    );
    note("create", fs::write(made("file"), "x"));
    note("make a directory", fs::create_dir(made("directory")));
    note("link", symlink("x", made("link")));
    note("rename", fs::rename(&secret, made("renamed")));
    note(
        "remove",
        fs::remove_file(outside.join(format!("{thread}.victim"))),
    );
    note(
        "chmod",
        fs::set_permissions(&secret, fs::Permissions::from_mode(0o666)),
    );
    note(
        "connect to a Unix socket",
        UnixStream::connect(outside.join("socket")).map(drop),
    );
    note(
        "connect to TCP",
        TcpStream::connect("127.0.0.1:9").map(drop),
    );
    note(
        "listen",
        std::net::TcpListener::bind("127.0.0.1:0").map(drop),
    );
    note("run", Command::new("/bin/true").status().map(drop));
    // The arguments are invalid, so that a permitted call changes nothing.
    let nowhere = made("nowhere");
    note("change the root", chroot(&nowhere).map_err(io::Error::from));
    let replaced = pivot_root(&nowhere, &nowhere);
    note("replace the root", replaced.map_err(io::Error::from));
    let invalid = Timespec {
        tv_sec: 0,
        tv_nsec: -1,
    };
    let set = clock_settime(ClockId::Realtime, invalid);
    note("set the clock", set.map_err(io::Error::from));
    lines
}
