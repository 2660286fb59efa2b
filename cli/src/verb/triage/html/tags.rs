//! Builds HTML text. All strings of a dump pass through [`escaped`].

use std::fmt::Write;

use livecore_defs::text::printable;
use sha2::{Digest, Sha256};

/// Text for an element or a quoted attribute. Control characters and characters that change the text
/// direction become visible escapes.
pub(super) fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in printable(text).chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            c => out.push(c),
        }
    }
    out
}

/// Appends formatted HTML. The arguments are numbers, constants or [`escaped`] text.
macro_rules! put {
    ($page:expr, $($args:tt)*) => {{
        // Writing to a string does not fail.
        let _ = std::fmt::Write::write_fmt(&mut $page, format_args!($($args)*));
    }};
}
pub(super) use put;

/// A section with at most `limit` bytes of items, so that a dump cannot make the page grow without
/// bound.
pub(super) struct Bounded {
    pub(super) html: String,
    limit: usize,
    /// Items that did not fit.
    pub(super) omitted: usize,
}

impl Bounded {
    pub(super) fn new(limit: usize) -> Self {
        Self {
            html: String::new(),
            limit,
            omitted: 0,
        }
    }

    /// Whether another item may fit. After the first that does not, none does.
    pub(super) fn has_space(&self) -> bool {
        self.omitted == 0
    }

    /// Adds an item that counts `count`, or counts it as omitted.
    pub(super) fn add(&mut self, item: &str, count: usize) {
        if self.omitted == 0 && self.html.len() + item.len() <= self.limit {
            self.html.push_str(item);
        } else {
            self.omitted += count;
        }
    }

    /// A paragraph about what was omitted.
    pub(super) fn note(&self, what: &str) -> String {
        match self.omitted {
            0 => String::new(),
            n => format!("<p class=\"dim\">{n} more {what} are not on this page.</p>\n"),
        }
    }
}

/// The source of a content security policy that permits exactly `text`.
pub(super) fn source(text: &str) -> String {
    format!("'sha256-{}'", base64(&Sha256::digest(text)))
}

fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::new();
    for chunk in bytes.chunks(3) {
        let byte = |i: usize| u32::from(chunk.get(i).copied().unwrap_or(0));
        let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
        for digit in 0..4 {
            match digit <= chunk.len() {
                true => out.push(char::from(DIGITS[(bits >> (18 - 6 * digit) & 63) as usize])),
                false => out.push('='),
            }
        }
    }
    out
}

/// A table with a caption, column headings and rows of HTML. The first cell of a row is its heading.
/// Columns of numbers are aligned right.
pub(super) fn table(caption: &str, columns: &[(&str, bool)], rows: &str) -> String {
    let mut out = format!(
        "<div class=\"scroll\" role=\"region\" tabindex=\"0\" aria-label=\"{caption}\"><table>\
         <caption>{caption}</caption><thead><tr>"
    );
    for (title, is_number) in columns {
        let class = if *is_number { " class=\"n\"" } else { "" };
        let _ = write!(out, "<th scope=\"col\"{class}>{title}</th>");
    }
    out + "</tr></thead><tbody>\n" + rows + "</tbody></table></div>\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_of_a_dump_cannot_leave_its_element() {
        let hostile = "</script><img onerror='x' src=\"y\">&\u{202e}\u{9b}\0\n";
        assert_eq!(
            escaped(hostile),
            "&lt;/script&gt;&lt;img onerror=&#39;x&#39; src=&quot;y&quot;&gt;&amp;\
             \\u{202e}\\u{9b}\\u{0}\\n"
        );
    }

    /// RFC 4648, section 10.
    #[test]
    fn base64_is_that_of_the_rfc() {
        let pairs = [
            ("", ""),
            ("f", "Zg=="),
            ("fo", "Zm8="),
            ("foo", "Zm9v"),
            ("foob", "Zm9vYg=="),
        ];
        for (text, expected) in pairs {
            assert_eq!(base64(text.as_bytes()), expected);
        }
    }

    #[test]
    fn items_beyond_the_limit_are_counted() {
        let mut list = Bounded::new(5);
        for (item, count) in [("ab", 1), ("cdef", 2), ("g", 3)] {
            list.add(item, count);
        }
        assert_eq!((&*list.html, list.omitted), ("ab", 5));
    }
}
