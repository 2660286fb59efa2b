//! Answers GDB remote packets about a dump on standard input and output, for `target remote |
//! packets DUMP KERNEL` in gdb.

use std::error::Error;
use std::io::{self, Read, Write};
use std::path::Path;

use livecore_kernel::Pair;
use livecore_minidump::{AnyDump, OpenOptions};
use livecore_serve::{Flow, Served, Session};

fn main() -> Result<(), Box<dyn Error>> {
    let mut args = std::env::args_os().skip(1);
    let (Some(dump), Some(kernel)) = (args.next(), args.next()) else {
        return Err("usage: packets DUMP KERNEL".into());
    };
    let (mut stdin, mut stdout) = (io::stdin().lock(), io::stdout().lock());
    serve(dump, kernel, &mut stdin, &mut stdout)
}

/// Answers the packets of `input` about a dump and its kernel, until the end or a packet that closes
/// the session.
pub(crate) fn serve(
    dump: impl AsRef<Path>,
    kernel: impl AsRef<Path>,
    input: &mut dyn Read,
    output: &mut dyn Write,
) -> Result<(), Box<dyn Error>> {
    let opened = AnyDump::open(&dump, &OpenOptions::default())?;
    let pair = Pair::open(&opened, kernel)?.agreed()?;
    let served = Served::new(pair, dump, &[])?;
    let mut session = Session::new(&served);
    let mut piece = [0; 4096];
    loop {
        let got = input.read(&mut piece)?;
        // A read returns at most the length of the buffer.
        let flow = session.receive(&piece[..got], &mut *output)?;
        output.flush()?;
        if got == 0 || flow == Flow::Closed {
            return Ok(());
        }
    }
}
