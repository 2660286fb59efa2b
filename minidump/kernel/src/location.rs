//! Parses locations in memory: an address or a kernel symbol.

use std::str::FromStr;

use livecore_minidump::{KernelElf, PhysAddr, VirtAddr};

/// A location in memory. It has no address space: an address may be virtual or physical.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Location {
    /// A number, which has no address space: only a caller knows whether it is a physical address.
    /// [`Location::address`] takes it as virtual.
    Address(u64),
    /// An offset from a symbol.
    Symbol {
        /// The name of the symbol.
        name: String,
        /// The offset in bytes.
        offset: u64,
    },
}

/// An error of parsing or resolving a location.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LocationError {
    /// The text is neither an address nor the name of a symbol.
    #[error("not an address or a symbol")]
    Neither,
    /// The text starts with a digit but is not a number.
    #[error("`{0}` is not a number")]
    NotANumber(String),
    /// The number does not fit in 64 bits.
    #[error("{0} does not fit in 64 bits")]
    TooLarge(String),
    /// The kernel has no such symbol.
    #[error("no symbol {0}")]
    NoSymbol(String),
    /// The symbol's value is not an address (`SHN_ABS`).
    #[error("{name} is the constant {value:#x}, not an address")]
    NotAnAddress {
        /// The symbol.
        name: String,
        /// Its value.
        value: u64,
    },
    /// The sum of symbol and offset does not fit in 64 bits.
    #[error("{name}+{offset:#x} does not fit in 64 bits")]
    Beyond {
        /// The symbol.
        name: String,
        /// The offset.
        offset: u64,
    },
}

impl FromStr for Location {
    type Err = LocationError;

    /// Parses a location such as `0x200000`, `2097152`, `ffffffff80200000`, `hz` or `allproc+8`.
    ///
    /// # Errors
    ///
    /// Returns [`LocationError::Neither`], [`LocationError::NotANumber`] or
    /// [`LocationError::TooLarge`].
    fn from_str(text: &str) -> Result<Self, LocationError> {
        if is_bare_address(text) {
            return number(text, 16).map(Self::Address);
        }
        if text.starts_with(|c: char| c.is_ascii_digit()) {
            return parse_number(text).map(Self::Address);
        }
        let (name, offset) = match text.split_once('+') {
            Some((name, offset)) => (name, parse_number(offset)?),
            None => (text, 0),
        };
        if name.is_empty() || name.starts_with('-') {
            return Err(LocationError::Neither);
        }
        Ok(Self::Symbol {
            name: name.into(),
            offset,
        })
    }
}

impl Location {
    /// Resolves the location with the symbols of `elf`. A symbol has its linked virtual address.
    ///
    /// # Errors
    ///
    /// Returns [`LocationError::NoSymbol`], [`LocationError::NotAnAddress`] or
    /// [`LocationError::Beyond`].
    pub fn address(&self, elf: &KernelElf) -> Result<VirtAddr, LocationError> {
        let (name, offset) = match self {
            Self::Address(at) => return Ok(VirtAddr(*at)),
            Self::Symbol { name, offset } => (name, *offset),
        };
        let symbol = elf
            .symbol(name)
            .ok_or_else(|| LocationError::NoSymbol(name.clone()))?;
        if symbol.absolute {
            return Err(LocationError::NotAnAddress {
                name: name.clone(),
                value: symbol.value,
            });
        }
        symbol
            .value
            .checked_add(offset)
            .map(VirtAddr)
            .ok_or_else(|| LocationError::Beyond {
                name: name.clone(),
                offset,
            })
    }

    /// The name of the symbol, if the location has one.
    #[must_use]
    pub fn symbol(&self) -> Option<&str> {
        match self {
            Self::Symbol { name, .. } => Some(name),
            Self::Address(_) => None,
        }
    }

    /// Returns the number of bytes from the location to the end of its symbol in `elf`. Returns
    /// `None` for an address, a symbol without a size, and an offset beyond the symbol's end.
    pub fn size(&self, elf: &KernelElf) -> Option<u64> {
        let Self::Symbol { name, offset } = self else {
            return None;
        };
        let size = elf.symbol(name)?.size;
        size.checked_sub(*offset).filter(|left| *left > 0)
    }
}

/// Parses a virtual address in the syntax of [`Location`].
///
/// # Errors
///
/// Returns [`LocationError::NotANumber`] or [`LocationError::TooLarge`].
pub fn parse_address(text: &str) -> Result<VirtAddr, LocationError> {
    address(text).map(VirtAddr)
}

/// Parses a physical address in the syntax of [`Location`].
///
/// # Errors
///
/// Returns [`LocationError::NotANumber`] or [`LocationError::TooLarge`].
pub fn parse_phys(text: &str) -> Result<PhysAddr, LocationError> {
    address(text).map(PhysAddr)
}

fn address(text: &str) -> Result<u64, LocationError> {
    match text.parse() {
        Ok(Location::Address(at)) => Ok(at),
        Err(error @ LocationError::TooLarge(_)) => Err(error),
        _ => Err(LocationError::NotANumber(text.into())),
    }
}

/// Parses a decimal number, or a hexadecimal number with `0x`.
///
/// # Errors
///
/// Returns [`LocationError::NotANumber`] or [`LocationError::TooLarge`].
pub fn parse_number(text: &str) -> Result<u64, LocationError> {
    match text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        Some(digits) => number(digits, 16),
        None => number(text, 10),
    }
    .map_err(|error| match error {
        LocationError::NotANumber(_) => LocationError::NotANumber(text.into()),
        _ => LocationError::TooLarge(text.into()),
    })
}

fn number(digits: &str, radix: u32) -> Result<u64, LocationError> {
    if digits.is_empty() || !digits.chars().all(|c| c.is_digit(radix)) {
        return Err(LocationError::NotANumber(digits.into()));
    }
    u64::from_str_radix(digits, radix).map_err(|_| LocationError::TooLarge(digits.into()))
}

/// Whether `text` is a hexadecimal address without `0x`: it has all digits of a word, as debuggers and
/// kernels print it, or it starts with a digit and contains a letter. Eight decimal digits that do not
/// start with 0 are a decimal number.
fn is_bare_address(text: &str) -> bool {
    let is_hexadecimal = text.bytes().all(|b| b.is_ascii_hexdigit());
    let is_decimal = text.bytes().all(|b| b.is_ascii_digit());
    match text.len() {
        16 => is_hexadecimal,
        8 => is_hexadecimal && (!is_decimal || text.starts_with('0')),
        _ => is_hexadecimal && !is_decimal && text.starts_with(|c: char| c.is_ascii_digit()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn locations_are_addresses_or_symbols() {
        let symbol = |name: &str, offset| Location::Symbol {
            name: name.into(),
            offset,
        };
        for (text, location) in [
            ("0x10", Location::Address(16)),
            ("10", Location::Address(10)),
            ("hz", symbol("hz", 0)),
            ("allproc+0x8", symbol("allproc", 8)),
        ] {
            assert_eq!(text.parse(), Ok(location));
        }
        for bad in ["0xg", "10x", "", "+8", "hz+", "hz+-1", "9fg00"] {
            assert!(bad.parse::<Location>().is_err(), "{bad}");
        }
    }

    #[test]
    fn unambiguous_hexadecimal_digits_are_addresses_without_0x() {
        for (text, at) in [
            ("ffffffff802003a2", 0xffff_ffff_8020_03a2),
            ("0000000000100000", 0x10_0000),
            ("c0100000", 0xc010_0000),
            ("00100000", 0x10_0000),
            ("10000000", 10_000_000),
            ("9fc00", 0x9_fc00),
            ("1000", 1000),
        ] {
            assert_eq!(text.parse(), Ok(Location::Address(at)), "{text}");
        }
    }

    #[test]
    fn numbers_are_decimal_or_hexadecimal() {
        assert_eq!(parse_number("0xffffffffffffffff"), Ok(u64::MAX));
        for bad in ["", "0x", "-1", "+1", "1.5", "1_000", "0x10000000000000000"] {
            assert!(parse_number(bad).is_err(), "{bad}");
        }
    }
}
