//! Appending numbers and padding to a buffer.

/// Appends little-endian numbers of `width` bytes.
pub(super) fn put(out: &mut Vec<u8>, width: usize, values: &[u64]) {
    for value in values {
        out.extend(&value.to_le_bytes()[..width]);
    }
}

/// Zeros up to a multiple of `align`.
pub(super) fn pad(out: &mut Vec<u8>, align: usize) {
    out.resize(out.len().next_multiple_of(align), 0);
}
