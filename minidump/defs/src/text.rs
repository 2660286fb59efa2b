//! Escaping of untrusted text and bytes.

/// Whether `c` controls a terminal instead of being printed: a control character, a line separator or
/// a character that changes the text direction.
#[must_use]
pub fn is_terminal_control(c: char) -> bool {
    let reorders = matches!(
        c,
        '\u{61c}'
            | '\u{200e}'
            | '\u{200f}'
            | '\u{2028}'
            | '\u{2029}'
            | '\u{202a}'..='\u{202e}'
            | '\u{2066}'..='\u{2069}'
    );
    reorders || c.is_control()
}

/// `text` with every [terminal control](is_terminal_control) escaped, so that a host name cannot move
/// the cursor and a line stays one line.
#[must_use]
pub fn printable(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        if is_terminal_control(c) {
            shown.extend(c.escape_default());
        } else {
            shown.push(c);
        }
    }
    shown
}

/// A JSON document with every [terminal control](is_terminal_control) except newline escaped. Other
/// controls occur only in strings, where JSON allows the escape.
#[must_use]
pub fn escaped_json(document: &str) -> String {
    let mut escaped = String::with_capacity(document.len());
    for c in document.chars() {
        if is_terminal_control(c) && c != '\n' {
            let mut units = [0; 2];
            for unit in c.encode_utf16(&mut units) {
                escaped += &format!("\\u{unit:04x}");
            }
        } else {
            escaped.push(c);
        }
    }
    escaped
}

/// At most `limit` bytes in quotes, with escapes as in Rust, without a final NUL.
#[must_use]
pub fn escaped(bytes: &[u8], limit: usize) -> String {
    let head = &bytes[..bytes.len().min(limit)];
    let head = head.strip_suffix(&[0]).unwrap_or(head);
    format!("\"{}\"", head.escape_ascii())
}

/// Two hexadecimal digits for each byte.
#[must_use]
pub fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digit = |value: u8| char::from(DIGITS[usize::from(value & 15)]);
    bytes
        .iter()
        .flat_map(|byte| [digit(byte >> 4), digit(*byte)])
        .collect()
}

/// The bytes of pairs of hexadecimal digits. `None` if there is another character, or a digit is left.
#[must_use]
pub fn unhex(digits: &[u8]) -> Option<Vec<u8>> {
    let (pairs, rest) = digits.as_chunks::<2>();
    let digit = |digit: u8| char::from(digit).to_digit(16);
    // Two digits of four bits.
    let byte = |[high, low]: &[u8; 2]| Some((digit(*high)? << 4 | digit(*low)?) as u8);
    let bytes: Option<Vec<_>> = pairs.iter().map(byte).collect();
    bytes.filter(|_| rest.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_pairs_of_digits_are_bytes() {
        assert_eq!(unhex(b"00fFa5"), Some(vec![0, 255, 0xa5]));
        assert_eq!(unhex(b""), Some(vec![]));
        for other in [&b"0"[..], b"xx", b"0 ", b"+1", b"000"] {
            assert_eq!(unhex(other), None);
        }
    }

    #[test]
    fn untrusted_text_cannot_control_the_terminal() {
        assert_eq!(printable("a\x1b[2Jb\nc\u{9b}"), "a\\u{1b}[2Jb\\nc\\u{9b}");
        assert_eq!(printable("a\u{202e}b"), "a\\u{202e}b");
        assert_eq!(printable("größe"), "größe");
    }

    #[test]
    fn bytes_are_pairs_of_digits() {
        assert_eq!(hex(&[0, 0x9f, 0xff]), "009fff");
    }
}
