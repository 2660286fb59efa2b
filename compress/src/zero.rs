//! Detection of zeros and of a repeated page.

/// The size of a repeated page.
pub(crate) const PERIOD: usize = 4096;

/// Whether all bytes are 0; true for no bytes.
///
/// A sink of [`crate::Stream::decode`] can use it to write holes instead of zeros.
pub fn is_zero(bytes: &[u8]) -> bool {
    // Comparing the slice with itself, shifted by one byte, compiles to a memcmp.
    match bytes {
        [] => true,
        [first, rest @ ..] => *first == 0 && bytes[..rest.len()] == *rest,
    }
}

/// The first [`PERIOD`] bytes, if `bytes` is a repetition of them.
pub(crate) fn repeated(bytes: &[u8]) -> Option<&[u8]> {
    let (first, rest) = bytes.split_at_checked(PERIOD)?;
    (bytes[..rest.len()] == *rest).then_some(first)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_nonzero_byte_at_any_offset_is_found() {
        assert!(is_zero(&[]));
        for len in [1, 7, 8, 9, 64, 4097] {
            let mut bytes = vec![0; len];
            assert!(is_zero(&bytes));
            for at in [0, len / 2, len - 1] {
                bytes[at] = 1;
                assert!(!is_zero(&bytes));
                bytes[at] = 0;
            }
        }
    }

    #[test]
    fn one_different_byte_ends_a_repetition() {
        let page: Vec<u8> = (0..PERIOD).map(|i| (i * 7) as u8).collect();
        let mut bytes = page.repeat(5);
        bytes.truncate(4 * PERIOD + 100);
        assert_eq!(repeated(&bytes), Some(page.as_slice()));
        *bytes.last_mut().unwrap() ^= 1;
        assert_eq!(repeated(&bytes), None);
        assert_eq!(repeated(&bytes[..PERIOD - 1]), None);
        assert_eq!(repeated(&page), Some(page.as_slice()));
    }
}
