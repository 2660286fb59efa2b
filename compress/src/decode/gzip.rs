//! Sequential decoding of gzip members.

use flate2::{Decompress, FlushDecompress, Status};

use super::decoded::Decoded;
use super::input::{Input, cut};
use super::{Boundary, Engine, Next};
use crate::gzip_format::{HEADER_MAX, MAGIC, MemberHeader, NoHeader, TRAILER_LEN};
use crate::restart::deflate::{Inflater, WINDOW};
use crate::{Codec, Error};

/// Number of bytes of a header to read first.
const HEADER_USUAL: usize = 512;

/// Number of bytes to inflate at a time.
const AT_ONCE: usize = 16 << 10;

/// Inflates members, and checks their trailers.
pub(super) struct Inflate {
    engine: Decompress,
    /// CRC-32 of the member's content.
    sum: crc32fast::Hasher,
    len: u32,
    /// A decoder that stops between blocks. It is slower, and used only to find and use restart points.
    tracked: Option<Inflater>,
    /// Whether the member was resumed, so that its trailer cannot be checked.
    resumed: bool,
}

impl Inflate {
    pub(super) fn new() -> Self {
        Self {
            engine: Decompress::new(false),
            sum: crc32fast::Hasher::new(),
            len: 0,
            tracked: None,
            resumed: false,
        }
    }
}

impl Engine for Inflate {
    fn begin(&mut self, input: &mut Input, number: u64) -> Result<Next, Error> {
        let at = input.position();
        let region = || Codec::Gzip.region(number);
        let mut want = HEADER_USUAL;
        let len = loop {
            let head = input.ensure(want)?;
            if head.is_empty() {
                return Ok(Next::Other);
            }
            match MemberHeader::parse(head) {
                Ok(header) => break header.len,
                Err(NoHeader::Short) if head.len() >= want && want < HEADER_MAX => {
                    want = HEADER_MAX;
                }
                Err(NoHeader::Short) => {
                    let end = at + head.len() as u64;
                    return Err(cut(region(), at, end, "the rest of the header"));
                }
                Err(NoHeader::Wrong) if head.starts_with(&MAGIC) => {
                    return Err(Error::Broken {
                        region: region(),
                        offset: at,
                        found: format!("header {:02x?}", &head[..head.len().min(10)]),
                        expected: "no reserved flags, and a matching header CRC".into(),
                    });
                }
                Err(NoHeader::Wrong) => return Ok(Next::Other),
            }
        };
        input.consume(len);
        self.engine.reset(false);
        self.sum = crc32fast::Hasher::new();
        self.len = 0;
        self.resumed = false;
        if let Some(tracked) = &mut self.tracked {
            *tracked = Inflater::new();
        }
        Ok(Next::Frame)
    }

    fn decode(&mut self, stored: &[u8], out: &mut [u8]) -> Decoded {
        if let Some(tracked) = &mut self.tracked {
            let decoded = tracked.decode(stored, out);
            if !self.resumed {
                self.sum.update(&out[..decoded.made]);
                self.len = self.len.wrapping_add(decoded.made as u32);
            }
            return decoded;
        }
        // The decoder drops its output when it finds damage: limit the loss.
        let len = out.len().min(AT_ONCE);
        let out = &mut out[..len];
        let (in_before, out_before) = (self.engine.total_in(), self.engine.total_out());
        let result = self.engine.decompress(stored, out, FlushDecompress::None);
        let used = (self.engine.total_in() - in_before) as usize;
        let made = (self.engine.total_out() - out_before) as usize;
        self.sum.update(&out[..made]);
        // ISIZE is modulo 2^32.
        self.len = self.len.wrapping_add(made as u32);
        Decoded {
            used,
            made,
            ended: match result {
                Ok(status) => Ok(status == Status::StreamEnd),
                Err(error) => Err(format!("invalid data ({error})")),
            },
        }
    }

    fn expected(&self) -> &'static str {
        "valid deflate data"
    }

    fn trailer_len(&self) -> usize {
        TRAILER_LEN
    }

    fn check(&mut self, trailer: &[u8], number: u64, at: u64) -> Result<(), Error> {
        if self.resumed {
            return Ok(());
        }
        let word = |at: usize| {
            let bytes = trailer.get(at..).and_then(|bytes| bytes.first_chunk());
            bytes.map_or(0, |bytes| u32::from_le_bytes(*bytes))
        };
        let stated = (word(0), word(4));
        let sum = std::mem::take(&mut self.sum).finalize();
        if stated != (sum, self.len) {
            return Err(Error::Broken {
                region: format!("{} trailer", Codec::Gzip.region(number)),
                offset: at,
                found: format!("CRC-32 {:#010x}, length {:#x}", stated.0, stated.1),
                expected: format!("CRC-32 {sum:#010x}, length {:#x}", self.len),
            });
        }
        Ok(())
    }

    fn track(&mut self) {
        self.tracked.get_or_insert_default();
    }

    fn boundary(&self) -> Option<Boundary> {
        self.tracked.as_ref().filter(|t| t.at_boundary())?;
        Some(Boundary {
            consumed: 0,
            window: WINDOW as u64,
        })
    }

    fn state(&self, window: &[&[u8]], out: &mut Vec<u8>) -> Option<()> {
        out.extend(self.tracked.as_ref()?.state(&window.concat())?);
        Some(())
    }

    fn resume(&mut self, state: &[u8]) -> Option<()> {
        self.tracked = Some(Inflater::resume(state)?);
        self.resumed = true;
        Some(())
    }
}
