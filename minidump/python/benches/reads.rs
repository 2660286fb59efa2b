//! The speed of the library for the reads of `reads.py`.
//!
//! `cargo bench -p livecore-python --bench reads -- DUMP ADDRESS LENGTH` reads the virtual memory
//! `ADDRESS..ADDRESS+LENGTH` (decimal) in pieces of 1 MiB, then 8 bytes at `ADDRESS`, and prints bytes a
//! second and seconds a read.

use std::hint::black_box;
use std::io::{self, Write};
use std::time::Instant;

use livecore_minidump::{AnyDump, KernelMemory, OpenOptions, VirtAddr};

const PIECE: usize = 1 << 20;
const SMALL: u32 = 200_000;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let args: Vec<String> = std::env::args().filter(|arg| arg != "--bench").collect();
    // Cargo also runs benchmarks as tests, without arguments.
    let [_, dump, address, length] = &args[..] else {
        return Ok(());
    };
    let (address, length): (u64, u64) = (address.parse()?, length.parse()?);
    let dump = AnyDump::open(dump, &OpenOptions::default())?;
    let memory = dump.memory();
    let start = Instant::now();
    for at in (address..address + length).step_by(PIECE) {
        // A caller in Python gets new bytes, too.
        let mut buf = vec![0; PIECE];
        memory.read_virt(VirtAddr(at), &mut buf)?;
        black_box(buf);
    }
    let rate = length as f64 / start.elapsed().as_secs_f64();
    let start = Instant::now();
    for _ in 0..SMALL {
        let mut buf = [0; 8];
        memory.read_virt(VirtAddr(address), &mut buf)?;
        black_box(buf);
    }
    let small = start.elapsed().as_secs_f64() / f64::from(SMALL);
    writeln!(io::stdout(), "{rate} {small}")?;
    Ok(())
}
