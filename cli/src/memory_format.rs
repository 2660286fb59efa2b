//! The output formats of `read` and `mem read`.

use std::io::{self, Write};

use serde::Serialize;

use crate::failure::Failure;
use crate::hexdump::Hexdump;
use crate::id::Id;
use crate::json::Hex;
use crate::words::{Order, Width, Words};

/// The most bytes in a JSON document, or in an answer of a batch.
pub(crate) const JSON_LIMIT: u64 = 16 << 20;

/// The output format.
#[derive(Debug, Clone, Copy, clap::Args)]
pub struct FormatArgs {
    /// Print the bytes unchanged instead of a hexdump
    #[arg(long, conflicts_with_all = ["json", "words"])]
    pub raw: bool,
    /// Print hexadecimal numbers of BYTES bytes each
    #[arg(long, value_enum, value_name = "BYTES")]
    pub words: Option<Width>,
    /// Byte order of the numbers [default: the machine's]
    #[arg(long, value_enum, value_name = "ORDER", requires = "words")]
    pub endian: Option<Order>,
}

/// Receives bytes in order, in pieces of any size.
pub(crate) type Sink<'a> = dyn FnMut(&[u8]) -> io::Result<()> + 'a;

/// Bytes as numbers, for JSON.
#[derive(Debug, Serialize)]
pub struct Numbers {
    size: u64,
    order: &'static str,
    values: Vec<Hex>,
}

impl FormatArgs {
    /// Checks that the format can print `len` bytes.
    ///
    /// # Errors
    ///
    /// A failure of the command line.
    pub fn check(&self, len: u64, json: bool) -> Result<(), Failure> {
        if json && len > JSON_LIMIT {
            let limit = format_args!("--json prints at most {JSON_LIMIT} bytes");
            return Err(Failure::usage(limit)
                .id_is(Id::InvalidValue)
                .next("use --raw, which has no limit"));
        }
        match self.words.map(Width::bytes) {
            Some(width) if !len.is_multiple_of(width as u64) => Err(Failure::usage(format_args!(
                "length {len} is not a multiple of the word size {width}"
            ))
            .id_is(Id::InvalidValue)),
            _ => Ok(()),
        }
    }

    /// Prints to `out` what `copy` passes to its sink: up to `len` bytes from address `at` on, of a
    /// machine with the byte order `order`.
    ///
    /// # Errors
    ///
    /// Errors of `copy` and of writing.
    pub fn print<T, E: From<io::Error>>(
        &self,
        out: &mut dyn Write,
        (at, len): (u64, u64),
        order: Order,
        copy: impl FnOnce(&mut Sink<'_>) -> Result<T, E>,
    ) -> Result<T, E> {
        if self.raw {
            return copy(&mut |piece| out.write_all(piece));
        }
        // The end of the printed addresses.
        let wide = at.checked_add(len).is_none_or(|end| end > 1 << 32);
        let digits = if wide { 16 } else { 8 };
        if let Some(width) = self.words {
            let mut words = Words::new(out, at, digits, width, self.endian.unwrap_or(order));
            let copied = copy(&mut |piece| words.push(piece))?;
            words.finish()?;
            return Ok(copied);
        }
        let mut hexdump = Hexdump::new(out, at, digits);
        let mut any = len == 0;
        let copied = copy(&mut |piece| {
            any |= !piece.is_empty();
            hexdump.push(piece)
        })?;
        if any {
            hexdump.finish()?;
        }
        Ok(copied)
    }

    /// `bytes` as numbers, with `--words`.
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
