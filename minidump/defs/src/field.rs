//! Offset and size of fields.

/// Offset and size of a field in its structure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Field {
    /// Offset from the start of the structure, in bytes.
    pub offset: usize,
    /// Size in bytes.
    pub len: usize,
}

pub(crate) const fn at(offset: usize, len: usize) -> Field {
    Field { offset, len }
}
