//! Selects the pages to exclude from a dump and the memory to redact.

use std::fmt;
use std::ops::Range;
use std::str::FromStr;
use std::sync::Arc;

use livecore_kernel::{Kernel, KernelError, Pair, free_pages};
use livecore_minidump::reduced::{Reduced, physical};
use livecore_minidump::{Dump, Error};

/// A class of pages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Class {
    /// Free pages.
    Free,
}

impl FromStr for Class {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        match name {
            "free" => Ok(Self::Free),
            _ => Err(format!("found {name}, expected free")),
        }
    }
}

impl fmt::Display for Class {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Free => f.write_str("free"),
        }
    }
}

/// Kernel memory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// A variable of the kernel, with its size.
    Symbol(String),
    /// Addresses of the kernel.
    Addresses(Range<u64>),
}

impl FromStr for Place {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if !text.starts_with("0x") {
            return match text.is_empty() {
                true => Err("expected a symbol, or START-END".into()),
                false => Ok(Self::Symbol(text.into())),
            };
        }
        let address = |text: &str| u64::from_str_radix(text.strip_prefix("0x")?, 16).ok();
        let range = text.split_once('-');
        let range = range.and_then(|(start, end)| Some(address(start)?..address(end)?));
        match range {
            Some(range) if range.start < range.end => Ok(Self::Addresses(range)),
            Some(_) => Err("expected START below END".into()),
            None => Err("expected START-END with hexadecimal addresses".into()),
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Symbol(name) => f.write_str(name),
            Self::Addresses(range) => write!(f, "{:#x}-{:#x}", range.start, range.end),
        }
    }
}

/// Why a dump cannot be reduced.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReductionError {
    /// The kernel does not describe what is requested.
    #[error(transparent)]
    Kernel(#[from] KernelError),
    /// The size of a symbol is unknown.
    #[error("symbol {0} has no size; use START-END")]
    NoSize(String),
    /// The memory is in another section of the dump too.
    #[error("cannot redact {0}: the dump has a copy of the message buffer")]
    MessageBuffer(String),
    /// The dump cannot be read or reduced.
    #[error(transparent)]
    Minidump(#[from] Error),
}

/// The maximum size of memory to redact, in bytes.
const REDACTED_MAX: u64 = 1 << 30;

/// Reduces `dump`, which `pair` has with its kernel.
///
/// # Errors
///
/// [`ReductionError`] if a class or place cannot be found, or cannot be left out.
pub fn reduce(
    dump: &Arc<Dump>,
    pair: &Pair,
    exclude: &[Class],
    redact: &[Place],
) -> Result<Reduced, ReductionError> {
    let kernel = pair.kernel().detailed_with(&["vm_page"]);
    let mut classes = Vec::new();
    for class in exclude {
        let frames = match class {
            Class::Free => free_pages(&kernel, &**dump)?,
        };
        classes.push((class.to_string(), frames));
    }
    let mut redacted = Vec::new();
    for place in redact {
        redacted.extend(physical(
            dump,
            addresses(place, &kernel)?,
            &place.to_string(),
        )?);
    }
    if !redacted.is_empty() {
        let section = message_buffer(dump, &kernel)?;
        let inside = redacted.iter().find(|redacted| {
            redacted.range.start < section.end && section.start < redacted.range.end
        });
        if let Some(inside) = inside {
            return Err(ReductionError::MessageBuffer(inside.name.clone()));
        }
    }
    Ok(Reduced::new(dump, &classes, &redacted)?)
}

fn addresses(place: &Place, kernel: &Kernel<'_>) -> Result<Range<u64>, ReductionError> {
    let range = match place {
        Place::Addresses(range) => range.clone(),
        Place::Symbol(name) => {
            let start = kernel.address(name)?;
            let size = kernel.elf().symbol(name).map_or(0, |symbol| symbol.size);
            let end = start.0.checked_add(size).filter(|end| *end > start.0);
            start.0..end.ok_or_else(|| ReductionError::NoSize(name.clone()))?
        }
    };
    if range.end - range.start > REDACTED_MAX {
        let what = format!("cannot redact {place}: expected at most {REDACTED_MAX} bytes");
        return Err(Error::Options(what).into());
    }
    Ok(range)
}

/// The physical addresses of the message buffer's section: the buffer, which is contiguous, up to the end of
/// a page.
fn message_buffer(dump: &Dump, kernel: &Kernel<'_>) -> Result<Range<u64>, ReductionError> {
    let at = kernel.pointer_at("msgbufp", kernel.pointer("msgbufp")?)?;
    let start = kernel.memory().translate(at).map_err(|source| {
        let what = "msgbufp".into();
        KernelError::Unreadable { what, at, source }
    })?;
    let len = u64::from(dump.header().msgbufsize).next_multiple_of(dump.layout().page_size());
    Ok(start.0..start.0.saturating_add(len))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_symbols_or_addresses() {
        assert_eq!("secret".parse(), Ok(Place::Symbol("secret".into())));
        let range = "0xffffffff81000000-0xffffffff81000010".parse::<Place>();
        assert_eq!(
            range.clone(),
            Ok(Place::Addresses(
                0xffff_ffff_8100_0000..0xffff_ffff_8100_0010
            ))
        );
        assert_eq!(
            range.unwrap().to_string(),
            "0xffffffff81000000-0xffffffff81000010"
        );
        for wrong in [
            "",
            "0x10",
            "0x10-0x10",
            "0x10-20",
            "0x-0x1",
            "0x10-0x20-0x30",
        ] {
            assert!(wrong.parse::<Place>().is_err(), "{wrong}");
        }
        assert_eq!("free".parse(), Ok(Class::Free));
        assert!("used".parse::<Class>().is_err());
    }
}
