//! Content that is all alike: zeros, and one page again and again.

/// The distance at which content is looked at for repetition.
pub(crate) const PERIOD: usize = 4096;

/// Whether every byte is 0. Ends at the first that is not; of no bytes, it is true.
///
/// For a sink of [`crate::Stream::decode`] that would rather leave a hole than write zeros.
pub fn is_zero(bytes: &[u8]) -> bool {
    // Comparing a slice with itself, one byte further, is a memcmp at the machine's full speed.
    match bytes {
        [] => true,
        [first, rest @ ..] => *first == 0 && bytes[..rest.len()] == *rest,
    }
}

/// The first [`PERIOD`] bytes, if all of `bytes` is made of them.
pub(crate) fn repeated(bytes: &[u8]) -> Option<&[u8]> {
    let (first, rest) = bytes.split_at_checked(PERIOD)?;
    (bytes[..rest.len()] == *rest).then_some(first)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_byte_anywhere_is_not_zero() {
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
    fn repetition_ends_with_one_other_byte() {
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
