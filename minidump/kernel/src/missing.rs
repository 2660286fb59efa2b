//! Missing kernel symbols.

use std::fmt;

/// An optional symbol that the kernel does not have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Missing {
    /// Its name.
    pub symbol: &'static str,
    /// Another symbol that could replace it and is missing too.
    pub alternative: Option<&'static str>,
    /// The consequence.
    pub consequence: &'static str,
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            symbol,
            alternative,
            consequence,
        } = self;
        match alternative {
            None => write!(f, "{consequence}: the kernel has no symbol `{symbol}`"),
            Some(other) => write!(
                f,
                "{consequence}: the kernel has neither `{symbol}` nor `{other}`"
            ),
        }
    }
}
