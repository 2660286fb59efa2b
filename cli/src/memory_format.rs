//! The forms in which `read` and `mem read` print memory.

use std::io::{self, Write};

use serde::Serialize;

use crate::failure::Failure;
use crate::hexdump::Hexdump;
use crate::json::Hex;
use crate::words::{Order, Width, Words};

/// Most bytes that one JSON answer holds.
const JSON_LIMIT: u64 = 16 << 20;

/// In which form memory is printed.
#[derive(Debug, Clone, Copy, clap::Args)]
pub struct FormatArgs {
    /// The bytes themselves instead of a hexdump
    #[arg(long, conflicts_with_all = ["json", "words"])]
    pub raw: bool,
    /// Numbers of so many bytes, in hexadecimal, instead of a hexdump
    #[arg(long, value_enum, value_name = "BYTES")]
    pub words: Option<Width>,
    /// The bytes' order in a word [default: the machine's]
    #[arg(long, value_enum, value_name = "ORDER", requires = "words")]
    pub endian: Option<Order>,
}

/// Takes bytes in order, however many at a time.
pub type Sink<'a> = dyn FnMut(&[u8]) -> io::Result<()> + 'a;

/// Bytes as numbers, for JSON.
#[derive(Debug, Serialize)]
pub struct Numbers {
    size: u64,
    order: &'static str,
    values: Vec<Hex>,
}

impl FormatArgs {
    /// Refuses a length that the form cannot print.
    ///
    /// # Errors
    ///
    /// A failure of the command line.
    pub fn check(&self, len: u64, json: bool) -> Result<(), Failure> {
        if json && len > JSON_LIMIT {
            let limit = format_args!("--json answers at most {JSON_LIMIT} bytes");
            return Err(Failure::usage(limit).next("--raw has no limit"));
        }
        match self.words.map(Width::bytes) {
            Some(width) if !len.is_multiple_of(width as u64) => Err(Failure::usage(format_args!(
                "{len} bytes are not whole words of {width}"
            ))),
            _ => Ok(()),
        }
    }

    /// Prints to `out` what `serve` gives to its sink: up to `len` bytes from address `at` on, of a
    /// machine with the byte order `order`.
    ///
    /// # Errors
    ///
    /// Those of `serve`, and of writing.
    pub fn print<T, E: From<io::Error>>(
        &self,
        out: &mut dyn Write,
        (at, len): (u64, u64),
        order: Order,
        serve: impl FnOnce(&mut Sink<'_>) -> Result<T, E>,
    ) -> Result<T, E> {
        if self.raw {
            return serve(&mut |piece| out.write_all(piece));
        }
        // Where the addresses that are printed end.
        let wide = at.checked_add(len).is_none_or(|end| end > 1 << 32);
        let digits = if wide { 16 } else { 8 };
        if let Some(width) = self.words {
            let mut words = Words::new(out, at, digits, width, self.endian.unwrap_or(order));
            let served = serve(&mut |piece| words.push(piece))?;
            words.finish()?;
            return Ok(served);
        }
        let mut hexdump = Hexdump::new(out, at, digits);
        let mut any = len == 0;
        let served = serve(&mut |piece| {
            any |= !piece.is_empty();
            hexdump.push(piece)
        })?;
        if any {
            hexdump.finish()?;
        }
        Ok(served)
    }

    /// `bytes` as numbers, if words are asked for.
    pub fn numbers(&self, bytes: &[u8], order: Order) -> Option<Numbers> {
        let order = self.endian.unwrap_or(order);
        self.words.map(|width| Numbers {
            size: width.bytes() as u64,
            order: order.name(),
            values: bytes
                .chunks_exact(width.bytes())
                .map(|word| Hex(order.number(word)))
                .collect(),
        })
    }
}
