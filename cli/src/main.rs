//! The `livecore` program.

use std::process::ExitCode;

fn main() -> ExitCode {
    let mut out = livecore::standard_output();
    let mut err = std::io::stderr();
    livecore::run(
        std::env::args_os(),
        &mut out,
        &mut err,
        livecore::Env::of_process(),
    )
    .into()
}
