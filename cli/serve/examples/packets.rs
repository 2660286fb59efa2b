//! Answers GDB remote packets about a dump on standard input and output, for `target remote |
//! packets DUMP KERNEL` in gdb.

use std::error::Error;
use std::io::{self, Read, Write};

use livecore_kernel::Pair;
use livecore_minidump::{AnyDump, OpenOptions};
use livecore_serve::{Flow, Served, Session};

fn main() -> Result<(), Box<dyn Error>> {
    let mut args = std::env::args_os().skip(1);
    let (Some(dump), Some(kernel)) = (args.next(), args.next()) else {
        return Err("usage: packets DUMP KERNEL".into());
    };
    let opened = AnyDump::open(&dump, &OpenOptions::default())?;
    let pair = Pair::open(&opened, &kernel)?.agreed()?;
    let served = Served::new(pair, &dump, &[])?;
    let mut session = Session::new(&served);
    let (mut stdin, mut stdout) = (io::stdin().lock(), io::stdout().lock());
    let mut piece = [0; 4096];
    loop {
        let got = stdin.read(&mut piece)?;
        // A read returns at most the length of the buffer.
        let flow = session.receive(&piece[..got], &mut stdout)?;
        stdout.flush()?;
        if got == 0 || flow == Flow::Closed {
            return Ok(());
        }
    }
}
