//! Prints bytes as numbers of one, two, four or eight bytes.

use std::io::{self, Write};

use clap::ValueEnum;
use livecore_defs::ByteOrder;

/// Bytes on a line.
const LINE: usize = 16;

/// The size of a number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Width {
    /// One byte
    #[value(name = "1")]
    One,
    /// Two bytes
    #[value(name = "2")]
    Two,
    /// Four bytes
    #[value(name = "4")]
    Four,
    /// Eight bytes
    #[value(name = "8")]
    Eight,
}

impl Width {
    /// The size in bytes.
    pub fn bytes(self) -> usize {
        match self {
            Self::One => 1,
            Self::Two => 2,
            Self::Four => 4,
            Self::Eight => 8,
        }
    }
}

/// A byte order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Order {
    /// Low byte first: all architectures except powerpc
    Little,
    /// High byte first
    Big,
}

impl Order {
    /// The order of a machine.
    pub fn of(order: ByteOrder) -> Self {
        match order {
            ByteOrder::Little => Self::Little,
            ByteOrder::Big => Self::Big,
        }
    }

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Little => "little",
            Self::Big => "big",
        }
    }

    /// The number that up to eight bytes encode.
    pub fn number(self, bytes: &[u8]) -> u64 {
        let append = |number: u64, byte: &u8| number << 8 | u64::from(*byte);
        match self {
            Self::Little => bytes.iter().rev().fold(0, append),
            Self::Big => bytes.iter().fold(0, append),
        }
    }

    /// The encoding of a number in `width` bytes; `None` if it does not fit.
    pub fn bytes(self, number: u64, width: Width) -> Option<Vec<u8>> {
        let all = number.to_le_bytes();
        let (low, high) = all.split_at(width.bytes());
        if high.iter().any(|byte| *byte != 0) {
            return None;
        }
        let mut bytes = low.to_vec();
        if self == Self::Big {
            bytes.reverse();
        }
        Some(bytes)
    }
}

/// Prints sixteen bytes of numbers on a line, after their address.
pub(crate) struct Words<W> {
    out: W,
    at: u64,
    digits: usize,
    width: Width,
    order: Order,
    pending: Vec<u8>,
}

impl<W: Write> Words<W> {
    /// The first word is at address `at`; addresses have `digits` digits.
    pub(crate) fn new(out: W, at: u64, digits: usize, width: Width, order: Order) -> Self {
        Self {
            out,
            at,
            digits,
            width,
            order,
            pending: Vec::with_capacity(LINE),
        }
    }

    /// Adds bytes.
    pub(crate) fn push(&mut self, bytes: &[u8]) -> io::Result<()> {
        let mut left = bytes;
        while !left.is_empty() {
            let n = left.len().min(LINE - self.pending.len());
            let (now, rest) = left.split_at(n);
            self.pending.extend_from_slice(now);
            left = rest;
            if self.pending.len() == LINE {
                self.line()?;
            }
        }
        Ok(())
    }

    /// Prints the last, shorter line. Bytes of an incomplete number are not printed.
    pub(crate) fn finish(mut self) -> io::Result<()> {
        if self.pending.len() >= self.width.bytes() {
            self.line()?;
        }
        Ok(())
    }

    fn line(&mut self) -> io::Result<()> {
        let width = self.width.bytes();
        let mut text = format!("{:#0width$x} ", self.at, width = self.digits + 2);
        for word in self.pending.chunks_exact(width) {
            let number = self.order.number(word);
            text.push_str(&format!(" {number:0digits$x}", digits = 2 * width));
        }
        text.push('\n');
        self.pending.clear();
        self.at = self.at.wrapping_add(LINE as u64);
        self.out.write_all(text.as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(bytes: &[u8], step: usize, width: Width, order: Order) -> String {
        let mut out = Vec::new();
        let mut words = Words::new(&mut out, 0x1000, 8, width, order);
        for piece in bytes.chunks(step) {
            words.push(piece).unwrap();
        }
        words.finish().unwrap();
        String::from_utf8(out).unwrap()
    }

    /// Expected values are the output of coreutils' `od -A x -t x4` (and `--endian=big`), with
    /// `0x` before each offset.
    #[test]
    fn words_are_numbers_in_the_selected_byte_order() {
        let bytes = (1..=21).collect::<Vec<u8>>();
        for step in [1, 5, 16, 21] {
            assert_eq!(
                words(&bytes, step, Width::Four, Order::Little),
                "0x00001000  04030201 08070605 0c0b0a09 100f0e0d\n0x00001010  14131211\n"
            );
            assert_eq!(
                words(&bytes, step, Width::Four, Order::Big),
                "0x00001000  01020304 05060708 090a0b0c 0d0e0f10\n0x00001010  11121314\n"
            );
        }
        assert_eq!(
            words(&bytes[..8], 8, Width::Eight, Order::Little),
            "0x00001000  0807060504030201\n"
        );
        assert_eq!(
            words(&bytes[..3], 3, Width::Two, Order::Big),
            "0x00001000  0102\n"
        );
        assert_eq!(words(&bytes[..3], 3, Width::Eight, Order::Big), "");
    }

    #[test]
    fn only_numbers_that_fit_are_encoded() {
        assert_eq!(
            Order::Little.bytes(0x1234, Width::Two),
            Some(vec![0x34, 0x12])
        );
        assert_eq!(
            Order::Big.bytes(0x1234, Width::Four),
            Some(vec![0, 0, 0x12, 0x34])
        );
        assert_eq!(
            Order::Big.bytes(u64::MAX, Width::Eight),
            Some(vec![0xff; 8])
        );
        assert_eq!(Order::Little.bytes(0x100, Width::One), None);
        assert_eq!(Order::Big.bytes(1 << 32, Width::Four), None);
    }
}
