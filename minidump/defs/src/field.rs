//! Where fields lie.

/// Where a field lies in its structure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Field {
    /// Bytes from the start of the structure.
    pub offset: usize,
    /// Bytes.
    pub len: usize,
}

pub(crate) const fn at(offset: usize, len: usize) -> Field {
    Field { offset, len }
}
