//! Symbols that a kernel lacks.

use std::fmt;

/// A symbol that is used where it is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Missing {
    /// Its name.
    pub symbol: &'static str,
    /// What is not known without it.
    pub without: &'static str,
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "no symbol {}: {}", self.symbol, self.without)
    }
}
