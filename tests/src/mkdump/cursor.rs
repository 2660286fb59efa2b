//! Parser of one line of a recipe.
//!
//! A line consists of words, numbers, quoted strings and single symbols, separated by blanks; `#`
//! outside a string starts a comment. Numbers are decimal or `0x`, with `_` allowed between digits
//! and the suffixes K, M, G and T (powers of 1024). Every number can be an expression with
//! `+ - * /`, parentheses and names.

use std::collections::BTreeMap;

use super::error::{BuildError, Result};

/// Values of names in expressions.
pub(crate) type Names = BTreeMap<String, u64>;

/// How deep parentheses may nest.
const MAX_DEPTH: usize = 32;

/// An expression, evaluated when the names in it have values.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Expr {
    Number(u64),
    Name(String),
    Pair(Box<Expr>, char, Box<Expr>),
}

impl Expr {
    /// The value, with every name looked up in `names`.
    pub(crate) fn value(&self, line: usize, names: &Names) -> Result<u64> {
        let value = self.wide(line, names)?;
        u64::try_from(value).map_err(|_| BuildError::Arithmetic { line })
    }

    fn wide(&self, line: usize, names: &Names) -> Result<i128> {
        let overflow = BuildError::Arithmetic { line };
        match self {
            Expr::Number(n) => Ok(i128::from(*n)),
            Expr::Name(name) => {
                names
                    .get(name)
                    .map(|n| i128::from(*n))
                    .ok_or_else(|| BuildError::UnknownName {
                        line,
                        kind: "constant",
                        name: name.clone(),
                    })
            }
            Expr::Pair(left, op, right) => {
                let (left, right) = (left.wide(line, names)?, right.wide(line, names)?);
                match op {
                    '+' => left.checked_add(right),
                    '-' => left.checked_sub(right),
                    '*' => left.checked_mul(right),
                    _ => left.checked_div(right),
                }
                .ok_or(overflow)
            }
        }
    }
}

/// What is left of one line.
#[derive(Debug)]
pub(crate) struct Cursor<'a> {
    /// The line's number, for errors.
    pub(crate) line: usize,
    rest: &'a str,
    names: &'a Names,
    depth: usize,
}

impl<'a> Cursor<'a> {
    /// A cursor at the start of `text`. `names` are the constants defined so far.
    pub(crate) fn new(line: usize, text: &'a str, names: &'a Names) -> Self {
        let mut quoted = false;
        let mut escaped = false;
        let mut end = text.len();
        for (at, c) in text.char_indices() {
            match c {
                _ if escaped => escaped = false,
                '\\' if quoted => escaped = true,
                '"' => quoted = !quoted,
                '#' if !quoted => {
                    end = at;
                    break;
                }
                _ => {}
            }
        }
        Cursor {
            line,
            rest: text[..end].trim(),
            names,
            depth: 0,
        }
    }

    /// The error "expected `expected`, found" and the rest of the line.
    pub(crate) fn expected(&self, expected: &'static str) -> BuildError {
        let found = if self.rest.is_empty() {
            "the end of the line"
        } else {
            self.rest
        };
        BuildError::Syntax {
            line: self.line,
            expected,
            found: found.to_owned(),
        }
    }

    /// Whether nothing is left.
    pub(crate) fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// Checks that the line has ended.
    pub(crate) fn end(&self) -> Result<()> {
        if self.is_empty() {
            Ok(())
        } else {
            Err(self.expected("the end of the line"))
        }
    }

    fn take(&mut self, len: usize) -> &'a str {
        let (head, tail) = self.rest.split_at(len);
        self.rest = tail.trim_start();
        head
    }

    fn word_len(&self) -> usize {
        let part = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '.';
        self.rest.find(|c| !part(c)).unwrap_or(self.rest.len())
    }

    /// The next word, without consuming it; empty if there is none.
    pub(crate) fn peek(&self) -> &'a str {
        &self.rest[..self.word_len()]
    }

    /// Takes a word of letters, digits, `_` and `.`.
    pub(crate) fn word(&mut self, expected: &'static str) -> Result<&'a str> {
        match self.word_len() {
            0 => Err(self.expected(expected)),
            len => Ok(self.take(len)),
        }
    }

    /// Takes `word` if it is next.
    pub(crate) fn eat(&mut self, word: &str) -> bool {
        let next = self.peek() == word;
        if next {
            self.take(word.len());
        }
        next
    }

    /// Takes `symbol` if it is next.
    pub(crate) fn eat_symbol(&mut self, symbol: char) -> bool {
        let next = self.rest.starts_with(symbol);
        if next {
            self.take(symbol.len_utf8());
        }
        next
    }

    /// Takes `symbol`, or fails if it is not next.
    pub(crate) fn symbol(&mut self, symbol: char, expected: &'static str) -> Result<()> {
        if self.eat_symbol(symbol) {
            Ok(())
        } else {
            Err(self.expected(expected))
        }
    }

    /// Whether a string is next.
    pub(crate) fn at_string(&self) -> bool {
        self.rest.starts_with('"')
    }

    /// Takes a quoted string with the escapes `\n`, `\t`, `\\`, `\"`, `\0` and `\xNN`.
    pub(crate) fn string(&mut self) -> Result<Vec<u8>> {
        if !self.at_string() {
            return Err(self.expected("a string"));
        }
        let bytes = self.rest.as_bytes();
        let mut out = Vec::new();
        let mut at = 1;
        loop {
            match bytes.get(at) {
                None => return Err(self.expected("a closing quote")),
                Some(b'"') => break,
                Some(b'\\') => {
                    at += 1;
                    match bytes.get(at) {
                        Some(b'n') => out.push(b'\n'),
                        Some(b't') => out.push(b'\t'),
                        Some(b'0') => out.push(0),
                        Some(b'x') => {
                            let digits = self.rest.get(at + 1..at + 3);
                            let byte = digits.and_then(|d| u8::from_str_radix(d, 16).ok());
                            out.push(byte.ok_or_else(|| self.expected("\\x and two digits"))?);
                            at += 2;
                        }
                        Some(c @ (b'\\' | b'"')) => out.push(*c),
                        _ => return Err(self.expected("an escape")),
                    }
                }
                Some(c) => out.push(*c),
            }
            at += 1;
        }
        self.take(at + 1);
        Ok(out)
    }

    /// Takes hexadecimal bytes, two digits each, up to the first other word.
    pub(crate) fn hex(&mut self) -> Result<Vec<u8>> {
        let mut out = Vec::new();
        while !self.peek().is_empty() {
            let word = self.peek();
            if !word.len().is_multiple_of(2) || !word.bytes().all(|c| c.is_ascii_hexdigit()) {
                break;
            }
            for pair in word.as_bytes().chunks(2) {
                let digit = |c: u8| (c as char).to_digit(16).unwrap_or(0) as u8;
                out.push(digit(pair[0]) << 4 | digit(pair[1]));
            }
            self.take(word.len());
        }
        if out.is_empty() {
            Err(self.expected("bytes in hexadecimal"))
        } else {
            Ok(out)
        }
    }

    /// Takes an expression of constants and evaluates it.
    pub(crate) fn number(&mut self) -> Result<u64> {
        let expr = self.expr()?;
        expr.value(self.line, self.names)
    }

    /// Takes an expression. Constants are replaced by their values; other names remain.
    pub(crate) fn expr(&mut self) -> Result<Expr> {
        let mut left = self.product()?;
        while let Some(op @ ('+' | '-')) = self.rest.chars().next() {
            self.take(1);
            left = Expr::Pair(Box::new(left), op, Box::new(self.product()?));
        }
        Ok(left)
    }

    fn product(&mut self) -> Result<Expr> {
        let mut left = self.atom()?;
        while let Some(op @ ('*' | '/')) = self.rest.chars().next() {
            self.take(1);
            left = Expr::Pair(Box::new(left), op, Box::new(self.atom()?));
        }
        Ok(left)
    }

    fn atom(&mut self) -> Result<Expr> {
        if self.rest.starts_with('(') {
            self.depth += 1;
            if self.depth > MAX_DEPTH {
                return Err(self.expected("fewer nested parentheses"));
            }
            self.take(1);
            let inner = self.expr()?;
            self.symbol(')', "a closing parenthesis")?;
            self.depth -= 1;
            return Ok(inner);
        }
        let word = self.peek();
        match word.chars().next() {
            Some(c) if c.is_ascii_digit() => {
                let value = parse_number(word).ok_or_else(|| self.expected("a number"))?;
                self.take(word.len());
                Ok(Expr::Number(value))
            }
            Some(_) => {
                self.take(word.len());
                Ok(match self.names.get(word) {
                    Some(value) => Expr::Number(*value),
                    None => Expr::Name(word.to_owned()),
                })
            }
            None => Err(self.expected("a number")),
        }
    }
}

fn parse_number(word: &str) -> Option<u64> {
    let digits = word.replace('_', "");
    if let Some(hex) = digits.strip_prefix("0x") {
        return u64::from_str_radix(hex, 16).ok();
    }
    let (digits, shift) = match digits.char_indices().next_back()? {
        (at, 'K') => (&digits[..at], 10),
        (at, 'M') => (&digits[..at], 20),
        (at, 'G') => (&digits[..at], 30),
        (at, 'T') => (&digits[..at], 40),
        _ => (&digits[..], 0),
    };
    digits.parse::<u64>().ok()?.checked_mul(1 << shift)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn number(text: &str) -> Result<u64> {
        let names = Names::from([("base".to_owned(), 0x1000)]);
        let mut cursor = Cursor::new(7, text, &names);
        let value = cursor.number()?;
        cursor.end()?;
        Ok(value)
    }

    #[test]
    fn expressions_follow_operator_precedence() {
        assert_eq!(number("2 + 3 * 4"), Ok(14));
        assert_eq!(number("(2 + 3) * 4 - 1"), Ok(19));
        assert_eq!(number("base+2K/2 # comment"), Ok(0x1400));
    }

    #[test]
    fn results_outside_64_bits_are_errors() {
        assert_eq!(number("1 - 2"), Err(BuildError::Arithmetic { line: 7 }));
        assert_eq!(
            number("0xffffffffffffffff + 1"),
            Err(BuildError::Arithmetic { line: 7 })
        );
        assert_eq!(number("0xffffffffffffffff + 1 - 1"), Ok(u64::MAX));
        assert_eq!(number("1 / 0"), Err(BuildError::Arithmetic { line: 7 }));
        assert!(number(&"(".repeat(100_000)).is_err());
    }

    #[test]
    fn hash_in_a_string_does_not_start_a_comment() {
        let names = Names::new();
        let mut cursor = Cursor::new(1, r##""a#\"\x41\n" # end"##, &names);
        assert_eq!(cursor.string(), Ok(b"a#\"A\n".to_vec()));
        assert!(cursor.is_empty());
    }

    #[test]
    fn hex_ends_at_the_first_other_word() {
        let names = Names::new();
        let mut cursor = Cursor::new(1, "00 11 ff a0b1 x 3", &names);
        assert_eq!(cursor.hex(), Ok(vec![0, 0x11, 0xff, 0xa0, 0xb1]));
        assert_eq!(cursor.peek(), "x");
    }
}
