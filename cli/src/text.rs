//! Formats and parses numbers.

use std::fmt;

use livecore_kernel::parse_number;

/// Escapes a line that the runner of a CI job would execute as a command (`::error::`, `##[error]`,
/// `##vso[…]`): the command's first character becomes octal, as vis(3) writes it.
pub(crate) fn without_command(line: &str) -> String {
    let start = line.len() - line.trim_start().len();
    let (blank, rest) = line.split_at(start);
    let rest = match rest.strip_prefix("::") {
        Some(rest) => format!("\\072:{rest}"),
        None => rest.into(),
    };
    format!("{blank}{rest}")
        .replace("##[", "\\043#[")
        .replace("##vso[", "\\043#vso[")
}

/// A number of bytes, exact and, from 1024 on, rounded too.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bytes(pub u64);

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)?;
        if self.0 >= 1024 {
            write!(f, " ({})", Short(self.0))?;
        }
        Ok(())
    }
}

/// A number of bytes, rounded: `1.5 GiB`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Short(pub u64);

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

/// Parses a number of bytes: decimal, or hexadecimal after `0x`, with an optional suffix `K`, `M`,
/// `G` or `T` for powers of 1024.
pub(crate) fn parse_size(text: &str) -> Result<u64, String> {
    let (digits, shift) = match text.char_indices().next_back() {
        Some((at, 'k' | 'K')) => (&text[..at], 10),
        Some((at, 'm' | 'M')) => (&text[..at], 20),
        Some((at, 'g' | 'G')) => (&text[..at], 30),
        Some((at, 't' | 'T')) => (&text[..at], 40),
        _ => (text, 0),
    };
    parse_number(digits)
        .map_err(|e| e.to_string())?
        .checked_mul(1 << shift)
        .ok_or_else(|| format!("{text} exceeds 64 bits"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_line_is_a_command_of_a_ci_runner() {
        for (line, shown) in [
            ("::error::x", "\\072:error::x"),
            ("  ::warning::x", "  \\072:warning::x"),
            ("a ##[error]x", "a \\043#[error]x"),
            ("##vso[task.complete]", "\\043#vso[task.complete]"),
            ("a::b", "a::b"),
        ] {
            assert_eq!(without_command(line), shown);
        }
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
        for bad in ["", "k", "0x", "-1", "+1", "1.5", "16777216T", "1_000"] {
            assert!(parse_size(bad).is_err(), "{bad}");
        }
    }
}
