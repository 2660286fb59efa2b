//! Bytes as numbers of one, two, four or eight bytes.

use std::io::{self, Write};

use clap::ValueEnum;
use livecore_defs::ByteOrder;

/// Bytes of a line.
const LINE: usize = 16;

/// Bytes of a word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Width {
    /// One byte.
    #[value(name = "1")]
    One,
    /// Two.
    #[value(name = "2")]
    Two,
    /// Four.
    #[value(name = "4")]
    Four,
    /// Eight.
    #[value(name = "8")]
    Eight,
}

impl Width {
    /// How many bytes.
    pub fn bytes(self) -> usize {
        match self {
            Self::One => 1,
            Self::Two => 2,
            Self::Four => 4,
            Self::Eight => 8,
        }
    }
}

/// Which end of a number comes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Order {
    /// The low end: every architecture of FreeBSD's but powerpc.
    Little,
    /// The high end.
    Big,
}

impl Order {
    /// That of a machine.
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

    /// The number that at most eight bytes are.
    pub fn number(self, bytes: &[u8]) -> u64 {
        let append = |number: u64, byte: &u8| number << 8 | u64::from(*byte);
        match self {
            Self::Little => bytes.iter().rev().fold(0, append),
            Self::Big => bytes.iter().fold(0, append),
        }
    }

    /// The `width` bytes that a number is; `None` if it does not fit.
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

/// Writes lines of words, as many as sixteen bytes hold, behind the first one's address.
pub struct Words<W> {
    out: W,
    at: u64,
    digits: usize,
    width: Width,
    order: Order,
    held: Vec<u8>,
}

impl<W: Write> Words<W> {
    /// The first word is at address `at`; addresses have `digits` digits.
    pub fn new(out: W, at: u64, digits: usize, width: Width, order: Order) -> Self {
        Self {
            out,
            at,
            digits,
            width,
            order,
            held: Vec::with_capacity(LINE),
        }
    }

    /// The next bytes, however many.
    pub fn push(&mut self, bytes: &[u8]) -> io::Result<()> {
        let mut left = bytes;
        while !left.is_empty() {
            let n = left.len().min(LINE - self.held.len());
            let (now, rest) = left.split_at(n);
            self.held.extend_from_slice(now);
            left = rest;
            if self.held.len() == LINE {
                self.line()?;
            }
        }
        Ok(())
    }

    /// The last, shorter line. Bytes that are no whole word are not shown.
    pub fn finish(mut self) -> io::Result<()> {
        if self.held.len() >= self.width.bytes() {
            self.line()?;
        }
        Ok(())
    }

    fn line(&mut self) -> io::Result<()> {
        let width = self.width.bytes();
        let mut text = format!("{:0digits$x} ", self.at, digits = self.digits);
        for word in self.held.chunks_exact(width) {
            let number = self.order.number(word);
            text.push_str(&format!(" {number:0digits$x}", digits = 2 * width));
        }
        text.push('\n');
        self.held.clear();
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

    /// The numbers are what coreutils' `od -A x -t x4` (and `--endian=big`) prints.
    #[test]
    fn words_are_numbers_in_the_order_that_was_chosen() {
        let bytes = (1..=21).collect::<Vec<u8>>();
        for step in [1, 5, 16, 21] {
            assert_eq!(
                words(&bytes, step, Width::Four, Order::Little),
                "00001000  04030201 08070605 0c0b0a09 100f0e0d\n00001010  14131211\n"
            );
            assert_eq!(
                words(&bytes, step, Width::Four, Order::Big),
                "00001000  01020304 05060708 090a0b0c 0d0e0f10\n00001010  11121314\n"
            );
        }
        assert_eq!(
            words(&bytes[..8], 8, Width::Eight, Order::Little),
            "00001000  0807060504030201\n"
        );
        assert_eq!(
            words(&bytes[..3], 3, Width::Two, Order::Big),
            "00001000  0102\n"
        );
        assert_eq!(words(&bytes[..3], 3, Width::Eight, Order::Big), "");
    }

    #[test]
    fn numbers_that_fit_a_word_are_its_bytes() {
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
