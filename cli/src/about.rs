//! What `livecore --version -v` prints after the version.

use std::ffi::OsString;
use std::fmt::Write as _;

use crate::env::Env;
use crate::sandbox;
use crate::verb::gdb::{DEBUGGERS, installed};

/// Codecs, features, installed debuggers and the state of the sandbox, each on a line.
///
/// Enters the strictest sandbox, so that nothing can be opened afterwards.
pub(crate) fn report(args: &[OsString], env: &Env) -> String {
    let probe = if cfg!(feature = "sandbox-probe") {
        ", sandbox-probe"
    } else {
        ""
    };
    let mount = match cfg!(feature = "mount") {
        true => ", mount",
        false => "",
    };
    let mut text = format!("codecs: gzip, zstd\nfeatures: encryption{mount}{probe}\n");
    for name in DEBUGGERS {
        // Writing to a string does not fail.
        let _ = match installed(name) {
            Some(path) => writeln!(text, "debugger: {name}: {}", path.display()),
            None => writeln!(text, "debugger: {name}: not installed"),
        };
    }
    text + &sandbox::report(args, env)
}
