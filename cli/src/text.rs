//! Numbers and foreign text as people read them.

use std::fmt;

use livecore_verify::steers;

/// Text from a file as it may be shown on a terminal: what a terminal would obey is escaped, so that
/// a host name cannot move the cursor and a line stays one line.
pub fn printable(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        if steers(c) {
            shown.extend(c.escape_default());
        } else {
            shown.push(c);
        }
    }
    shown
}

/// A number of bytes: the exact number, and a rounded one where that is easier to read.
#[derive(Debug, Clone, Copy)]
pub struct Bytes(pub u64);

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)?;
        if self.0 >= 1024 {
            write!(f, " ({})", Short(self.0))?;
        }
        Ok(())
    }
}

/// A number of bytes in three or four digits: `1.5 GiB`.
#[derive(Debug, Clone, Copy)]
pub struct Short(pub u64);

impl fmt::Display for Short {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const UNITS: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
        if self.0 < 1024 {
            return write!(f, "{} B", self.0);
        }
        let mut value = self.0 as f64 / 1024.0;
        let mut unit = 0;
        while value >= 1023.5 && unit + 1 < UNITS.len() {
            value /= 1024.0;
            unit += 1;
        }
        let digits = if value < 9.95 { 1 } else { 0 };
        write!(f, "{value:.digits$} {}", UNITS[unit])
    }
}

/// Reads a number as people write it: decimal, `0x` hexadecimal, with `K`, `M`, `G` or `T` for
/// powers of 1024.
pub fn parse_size(text: &str) -> Result<u64, String> {
    let (digits, shift) = match text.char_indices().next_back() {
        Some((at, 'k' | 'K')) => (&text[..at], 10),
        Some((at, 'm' | 'M')) => (&text[..at], 20),
        Some((at, 'g' | 'G')) => (&text[..at], 30),
        Some((at, 't' | 'T')) => (&text[..at], 40),
        _ => (text, 0),
    };
    parse_number(digits)?
        .checked_mul(1 << shift)
        .ok_or_else(|| format!("{text} does not fit 64 bits"))
}

/// Reads a decimal or `0x` hexadecimal number.
pub fn parse_number(text: &str) -> Result<u64, String> {
    let hex = text.strip_prefix("0x").or_else(|| text.strip_prefix("0X"));
    let (digits, radix) = hex.map_or((text, 10), |h| (h, 16));
    if digits.is_empty() || !digits.chars().all(|c| c.is_digit(radix)) {
        return Err(format!("`{text}` is not a number"));
    }
    u64::from_str_radix(digits, radix).map_err(|_| format!("{text} does not fit 64 bits"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn foreign_text_cannot_control_the_terminal() {
        assert_eq!(printable("a\x1b[2Jb\nc\u{9b}"), "a\\u{1b}[2Jb\\nc\\u{9b}");
        assert_eq!(printable("a\u{202e}b"), "a\\u{202e}b");
        assert_eq!(printable("größe"), "größe");
    }

    #[test]
    fn sizes_are_exact_and_rounded() {
        assert_eq!(Bytes(512).to_string(), "512");
        assert_eq!(Bytes(101_685_248).to_string(), "101685248 (97 MiB)");
        assert_eq!(Short(1024).to_string(), "1.0 KiB");
        assert_eq!(Short(u64::MAX).to_string(), "16 EiB");
        assert_eq!(Short((1 << 20) - 1).to_string(), "1.0 MiB");
    }

    #[test]
    fn numbers_are_decimal_hexadecimal_or_scaled() {
        assert_eq!(parse_size("0x10"), Ok(16));
        assert_eq!(parse_size("4k"), Ok(4096));
        assert_eq!(parse_size("2M"), Ok(2 << 20));
        assert_eq!(parse_number("0xffffffffffffffff"), Ok(u64::MAX));
        for bad in ["", "k", "0x", "-1", "+1", "1.5", "16777216T", "1_000"] {
            assert!(parse_size(bad).is_err(), "{bad}");
        }
    }
}
