//! Descriptions of bytes in a recipe.
//!
//! | words                         | bytes                                                  |
//! |-------------------------------|--------------------------------------------------------|
//! | `zero`                        | zeros                                                  |
//! | `fill B`                      | the byte `B` repeated                                  |
//! | `word V`                      | the 64-bit number `V` repeated                         |
//! | `own`                         | every 8 bytes contain their own address                |
//! | `seed S`                      | pseudo-random bytes from seed `S`                      |
//! | `text "..."`                  | the string                                             |
//! | `hex 00 11`                   | the bytes                                              |
//! | `u8` `u16` `u32` `u64 V, V`   | numbers in the dump's byte order                       |
//! | `be16` `be32` `be64` `V, V`   | numbers, most significant byte first                   |
//!
//! `text`, `hex` and numbers can be repeated with `times N`. Contents without a length of their own
//! need `len N`, except where they fill a page.

use super::cursor::{Cursor, Expr, Names};
use super::error::{BuildError, Result};

/// A description of bytes. Its expressions may use names that are defined during layout.
#[derive(Debug, Clone)]
pub(crate) struct Content {
    kind: Kind,
    len: Option<u64>,
    line: usize,
}

#[derive(Debug, Clone)]
enum Kind {
    Fill(u8),
    Word(u64),
    Own,
    Seed(u64),
    Bytes(Vec<u8>, u64),
    Numbers {
        width: usize,
        big: Option<bool>,
        values: Vec<Expr>,
        times: u64,
    },
}

/// The longest content in bytes.
const MAX_LEN: u64 = 1 << 30;

impl Content {
    /// Parses a content.
    pub(crate) fn parse(cursor: &mut Cursor<'_>) -> Result<Content> {
        let line = cursor.line;
        let kind = match cursor.word("a content")? {
            "zero" => Kind::Fill(0),
            "fill" => {
                let byte = cursor.number()?;
                let byte = u8::try_from(byte).map_err(|_| BuildError::Value {
                    line,
                    what: "fill byte",
                    found: byte,
                    expected: "at most 0xff".to_owned(),
                })?;
                Kind::Fill(byte)
            }
            "word" => Kind::Word(cursor.number()?),
            "own" => Kind::Own,
            "seed" => Kind::Seed(cursor.number()?),
            "text" => Kind::Bytes(cursor.string()?, times(cursor)?),
            "hex" => Kind::Bytes(cursor.hex()?, times(cursor)?),
            "u8" => numbers(cursor, 1, None)?,
            "u16" => numbers(cursor, 2, None)?,
            "u32" => numbers(cursor, 4, None)?,
            "u64" => numbers(cursor, 8, None)?,
            "be16" => numbers(cursor, 2, Some(true))?,
            "be32" => numbers(cursor, 4, Some(true))?,
            "be64" => numbers(cursor, 8, Some(true))?,
            _ => return Err(cursor.expected("zero, fill, word, own, seed, text, hex or u8...u64")),
        };
        let len = if cursor.eat("len") {
            Some(cursor.number()?)
        } else {
            None
        };
        if let Some(found) = len.filter(|len| *len > MAX_LEN) {
            let expected = format!("at most {MAX_LEN:#x}");
            return Err(BuildError::Value {
                line,
                what: "length",
                found,
                expected,
            });
        }
        Ok(Content { kind, len, line })
    }

    /// The content as exactly `len` bytes at `address`, padded with zeros.
    pub(crate) fn page(&self, len: usize, address: u64, big: bool) -> Result<Vec<u8>> {
        let len = self.len.map_or(len, |stated| {
            usize::try_from(stated).map_or(len, |stated| stated.min(len))
        });
        self.render(Some(len), address, big, &Names::new())
            .map(|mut bytes| {
                bytes.truncate(len);
                bytes
            })
    }

    /// The content at its own length.
    pub(crate) fn bytes(&self, address: u64, big: bool, names: &Names) -> Result<Vec<u8>> {
        let len = self.len.and_then(|len| usize::try_from(len).ok());
        self.render(len, address, big, names)
    }

    /// The same content with `step` added to its seed, for the next page of a run.
    pub(crate) fn next(&self, step: u64) -> Content {
        let mut next = self.clone();
        if let Kind::Seed(seed) = &mut next.kind {
            *seed = seed.wrapping_add(step);
        }
        next
    }

    fn render(&self, len: Option<usize>, at: u64, big: bool, names: &Names) -> Result<Vec<u8>> {
        let repeated = |word: &dyn Fn(u64) -> [u8; 8]| {
            let len = len.ok_or(BuildError::Syntax {
                line: self.line,
                expected: "a length",
                found: "a content without one".to_owned(),
            })?;
            let mut out: Vec<u8> = (0..len.div_ceil(8) as u64).flat_map(word).collect();
            out.truncate(len);
            Ok(out)
        };
        let order = |v: u64| {
            if big {
                v.to_be_bytes()
            } else {
                v.to_le_bytes()
            }
        };
        let mut out = match &self.kind {
            Kind::Fill(byte) => repeated(&|_| [*byte; 8])?,
            Kind::Word(word) => repeated(&|_| order(*word))?,
            Kind::Own => repeated(&|i| order(at.wrapping_add(8 * i)))?,
            Kind::Seed(seed) => repeated(&|i| noise(*seed, i).to_le_bytes())?,
            Kind::Bytes(bytes, times) => {
                let times = self.repeats(bytes.len(), *times)?;
                bytes.repeat(times)
            }
            Kind::Numbers {
                width,
                big: order,
                values,
                times,
            } => {
                let mut run = Vec::new();
                for value in values {
                    let value = value.value(self.line, names)?;
                    put_number(&mut run, value, *width, order.unwrap_or(big), self.line)?;
                }
                let times = self.repeats(run.len(), *times)?;
                run.repeat(times)
            }
        };
        if let Some(len) = len.filter(|len| *len > out.len()) {
            out.resize(len, 0);
        }
        Ok(out)
    }

    fn repeats(&self, len: usize, times: u64) -> Result<usize> {
        let whole = (len as u64).checked_mul(times).filter(|n| *n <= MAX_LEN);
        whole
            .and_then(|_| usize::try_from(times).ok())
            .ok_or(BuildError::Value {
                line: self.line,
                what: "repetition",
                found: times,
                expected: format!("at most {MAX_LEN:#x} bytes in all"),
            })
    }
}

fn times(cursor: &mut Cursor<'_>) -> Result<u64> {
    if cursor.eat("times") {
        cursor.number()
    } else {
        Ok(1)
    }
}

fn numbers(cursor: &mut Cursor<'_>, width: usize, big: Option<bool>) -> Result<Kind> {
    let mut values = vec![cursor.expr()?];
    while cursor.eat_symbol(',') {
        values.push(cursor.expr()?);
    }
    Ok(Kind::Numbers {
        width,
        big,
        values,
        times: times(cursor)?,
    })
}

/// Appends `value` as `width` bytes, or fails if it does not fit.
pub(crate) fn put_number(
    out: &mut Vec<u8>,
    value: u64,
    width: usize,
    big: bool,
    line: usize,
) -> Result<()> {
    if width < 8 && value >> (8 * width) != 0 {
        let expected = format!("a number of {width} bytes");
        return Err(BuildError::Value {
            line,
            what: "value",
            found: value,
            expected,
        });
    }
    if big {
        out.extend_from_slice(&value.to_be_bytes()[8 - width..]);
    } else {
        out.extend_from_slice(&value.to_le_bytes()[..width]);
    }
    Ok(())
}

/// Word `index` of the pseudo-random stream of `seed` (splitmix64, public domain).
pub(crate) fn noise(seed: u64, index: u64) -> u64 {
    let step = index.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let z = seed.wrapping_mul(0xd134_2543_de82_ef95).wrapping_add(step);
    let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(text: &str, big: bool) -> Result<Vec<u8>> {
        let none = Names::new();
        let mut cursor = Cursor::new(1, text, &none);
        let content = Content::parse(&mut cursor)?;
        cursor.end()?;
        content.bytes(0x8000, big, &Names::from([("bits".to_owned(), 0x1234)]))
    }

    #[test]
    fn numbers_follow_the_byte_order_of_the_dump() {
        assert_eq!(
            bytes("u32 bits, 1", false).unwrap(),
            [0x34, 0x12, 0, 0, 1, 0, 0, 0]
        );
        assert_eq!(
            bytes("u16 bits times 2", true).unwrap(),
            [0x12, 0x34, 0x12, 0x34]
        );
        assert_eq!(bytes("be32 bits", false).unwrap(), [0, 0, 0x12, 0x34]);
        assert!(bytes("u8 bits", false).is_err());
    }

    #[test]
    fn content_without_a_length_requires_len() {
        assert!(bytes("fill 0x55", false).is_err());
        assert_eq!(bytes("fill 0x55 len 3", false).unwrap(), [0x55; 3]);
        assert_eq!(
            bytes("own len 16", false).unwrap()[8..],
            0x8008u64.to_le_bytes()
        );
        assert!(bytes("fill 0 len 0xffffffffff", false).is_err());
        assert!(bytes("hex 00 times 0xffffffffffff", false).is_err());
    }

    #[test]
    fn bytes_depend_on_the_seed() {
        let one = bytes("seed 1 len 64", false).unwrap();
        assert_eq!(one, bytes("seed 1 len 64", false).unwrap());
        assert_ne!(one, bytes("seed 2 len 64", false).unwrap());
    }
}
