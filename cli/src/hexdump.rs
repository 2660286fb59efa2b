//! Prints bytes like hexdump(1) `-C`, with addresses after `0x` instead of offsets.

use std::io::{self, Write};

const LINE: usize = 16;

/// Prints sixteen bytes on a line. Replaces repeated lines with one `*`.
pub(crate) struct Hexdump<W> {
    out: W,
    at: u64,
    digits: usize,
    pending: Vec<u8>,
    last: Option<[u8; LINE]>,
    starred: bool,
}

impl<W: Write> Hexdump<W> {
    /// The first byte is at address `at`; addresses have `digits` digits.
    pub(crate) fn new(out: W, at: u64, digits: usize) -> Self {
        Self {
            out,
            at,
            digits,
            pending: Vec::with_capacity(LINE),
            last: None,
            starred: false,
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
            if let Ok(line) = <[u8; LINE]>::try_from(self.pending.as_slice()) {
                self.whole_line(line)?;
                self.pending.clear();
            }
        }
        Ok(())
    }

    /// Prints the last, shorter line and the end address.
    pub(crate) fn finish(mut self) -> io::Result<()> {
        let rest = std::mem::take(&mut self.pending);
        if !rest.is_empty() {
            self.line(&rest)?;
            self.at = self.at.wrapping_add(rest.len() as u64);
        }
        let width = self.digits + 2;
        writeln!(self.out, "{:#0width$x}", self.at)
    }

    fn whole_line(&mut self, line: [u8; LINE]) -> io::Result<()> {
        if self.last == Some(line) {
            if !self.starred {
                writeln!(self.out, "*")?;
                self.starred = true;
            }
        } else {
            self.line(&line)?;
            self.last = Some(line);
            self.starred = false;
        }
        self.at = self.at.wrapping_add(LINE as u64);
        Ok(())
    }

    fn line(&mut self, bytes: &[u8]) -> io::Result<()> {
        let width = self.digits + 2;
        let mut text = format!("{:#0width$x} ", self.at);
        for i in 0..LINE {
            if i % 8 == 0 {
                text.push(' ');
            }
            match bytes.get(i) {
                Some(byte) => text.push_str(&format!("{byte:02x} ")),
                None => text.push_str("   "),
            }
        }
        text.push_str(" |");
        text.extend(bytes.iter().map(|&b| match b {
            0x20..=0x7e => char::from(b),
            _ => '.',
        }));
        text.push_str("|\n");
        self.out.write_all(text.as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dump(at: u64, bytes: &[u8], step: usize) -> String {
        let mut out = Vec::new();
        let mut hexdump = Hexdump::new(&mut out, at, 8);
        for piece in bytes.chunks(step) {
            hexdump.push(piece).unwrap();
        }
        hexdump.finish().unwrap();
        String::from_utf8(out).unwrap()
    }

    /// The expected text is what util-linux's `hexdump -C` prints for the same bytes, with `0x` before
    /// each offset.
    #[test]
    fn lines_are_those_of_hexdump_c() {
        let mut bytes = b"FreeBSD 14.1\n\0\x7f\xff".to_vec();
        bytes.extend([0; 48]);
        bytes.extend(b"end");
        let expected = "\
0x00000000  46 72 65 65 42 53 44 20  31 34 2e 31 0a 00 7f ff  |FreeBSD 14.1....|
0x00000010  00 00 00 00 00 00 00 00  00 00 00 00 00 00 00 00  |................|
*
0x00000040  65 6e 64                                          |end|
0x00000043
";
        for step in [1, 7, 16, 100] {
            assert_eq!(dump(0, &bytes, step), expected);
        }
    }

    #[test]
    fn addresses_start_at_the_given_address() {
        assert!(dump(0x1003, b"x", 1).starts_with("0x00001003  78 "));
        assert_eq!(dump(5, b"", 1), "0x00000005\n");
    }
}
