//! Prints the backtraces of all threads of a dump, and a kernel variable.
//!
//! ```text
//! cargo run -p livecore-kernel --example backtraces -- /var/crash/vmcore.0.zst
//! cargo run -p livecore-kernel --example backtraces -- vmcore.0.zst /boot/kernel.old/kernel
//! ```
//!
//! If no kernel is given, the program searches the dump's directory and `/boot`.

use std::error::Error;
use std::io::{self, Write};
use std::path::Path;

use livecore_kernel::Dump;

/// Prints the backtraces and the variable.
pub(crate) fn print(
    dump: &Path,
    kernel: Option<&Path>,
    out: &mut dyn Write,
) -> Result<(), Box<dyn Error>> {
    let dump = Dump::open(dump)?;
    let kernel = match kernel {
        Some(path) => dump.kernel(path)?,
        None => dump.find_kernel()?,
    };
    for thread in kernel.threads()? {
        writeln!(out, "{} {}", thread.tid, thread.name)?;
        for frame in kernel.backtrace(&thread)? {
            writeln!(out, "  {frame}")?;
        }
    }
    let hz: i32 = kernel.read_value("hz")?;
    writeln!(out, "hz {hz}")?;
    Ok(())
}

fn main() -> Result<(), Box<dyn Error>> {
    let args: Vec<_> = std::env::args_os().skip(1).collect();
    match args.as_slice() {
        [dump] => print(dump.as_ref(), None, &mut io::stdout()),
        [dump, kernel] => print(dump.as_ref(), Some(kernel.as_ref()), &mut io::stdout()),
        _ => Err("usage: backtraces DUMP [KERNEL]".into()),
    }
}
