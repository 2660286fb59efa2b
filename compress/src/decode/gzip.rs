//! gzip members from the front of a stream.

use std::sync::Arc;

use flate2::{Decompress, FlushDecompress, Status};

use super::input::{Input, cut};
use crate::gzip_format::{HEADER_MAX, Header, MAGIC, NoHeader, TRAILER_LEN};
use crate::{Error, ReadAt};

/// Bytes of a header that are looked at first.
const HEADER_USUAL: usize = 512;

/// Decodes a stream of gzip members with padding behind or not.
pub(crate) struct GzipPass {
    input: Input,
    engine: Decompress,
    /// Members begun.
    members: u64,
    /// Where the member that is being decoded began.
    member_at: Option<u64>,
    /// Where the first member ended.
    first_end: Option<u64>,
    sum: crc32fast::Hasher,
    len: u32,
}

/// Where the first member in `stored` ends.
pub(crate) fn first_member(stored: &[u8]) -> Result<u64, Error> {
    GzipPass::new(Arc::new(stored.to_vec())).skip_first()
}

impl GzipPass {
    pub(crate) fn new(source: Arc<dyn ReadAt>) -> Self {
        Self {
            input: Input::new(source),
            engine: Decompress::new(false),
            members: 0,
            member_at: None,
            first_end: None,
            sum: crc32fast::Hasher::new(),
            len: 0,
        }
    }

    pub(crate) fn position(&self) -> u64 {
        self.input.position()
    }

    pub(crate) fn read(&mut self, out: &mut [u8]) -> Result<usize, Error> {
        if out.is_empty() {
            return Ok(0);
        }
        loop {
            let Some(member_at) = self.member_at else {
                if self.begin()? {
                    continue;
                }
                return Ok(0);
            };
            let stored = self.input.ensure(1)?;
            let ended = stored.is_empty();
            let (in_before, out_before) = (self.engine.total_in(), self.engine.total_out());
            let result = self.engine.decompress(stored, out, FlushDecompress::None);
            let used = (self.engine.total_in() - in_before) as usize;
            let made = (self.engine.total_out() - out_before) as usize;
            self.input.consume(used);
            self.sum.update(&out[..made]);
            // ISIZE is modulo 2^32.
            self.len = self.len.wrapping_add(made as u32);
            match result {
                Ok(Status::StreamEnd) => self.end(member_at)?,
                Ok(_) if ended && made == 0 => {
                    let (region, end) = (self.region(), self.position());
                    return Err(cut(region, member_at, end, "the rest of the member"));
                }
                Ok(_) => {}
                Err(error) => {
                    return Err(Error::Broken {
                        region: self.region(),
                        offset: member_at,
                        found: error.to_string(),
                        expected: "a member that inflates".into(),
                    });
                }
            }
            if made > 0 {
                return Ok(made);
            }
        }
    }

    /// Decodes the first member, for nothing but its end.
    fn skip_first(&mut self) -> Result<u64, Error> {
        let mut out = vec![0; 64 << 10];
        loop {
            let read = self.read(&mut out);
            match (self.first_end, read) {
                // What is wrong behind it is no matter of this member.
                (Some(end), _) => return Ok(end),
                (None, Ok(_)) => {}
                (None, Err(error)) => return Err(error),
            }
        }
    }

    fn region(&self) -> String {
        format!("gzip member {}", self.members.saturating_sub(1))
    }

    /// Looks at what comes next: a member, or the end.
    fn begin(&mut self) -> Result<bool, Error> {
        let at = self.input.position();
        let mut want = HEADER_USUAL;
        let len = loop {
            let head = self.input.ensure(want)?;
            if head.is_empty() {
                return Ok(false);
            }
            match Header::parse(head) {
                Ok(header) => break header.len,
                Err(NoHeader::Short) if head.len() >= want && want < HEADER_MAX => {
                    want = HEADER_MAX;
                }
                Err(NoHeader::Short) => {
                    let end = at + head.len() as u64;
                    let region = format!("gzip member {}", self.members);
                    return Err(cut(region, at, end, "the rest of the header"));
                }
                Err(NoHeader::Wrong) => {
                    if head.starts_with(&MAGIC) {
                        return Err(Error::Broken {
                            region: format!("gzip member {}", self.members),
                            offset: at,
                            found: format!("header {:02x?}", &head[..head.len().min(10)]),
                            expected: "no reserved flags, and the header's own CRC".into(),
                        });
                    }
                    if self.input.is_padding()? {
                        return Ok(false);
                    }
                    return Err(self.input.trailing());
                }
            }
        };
        self.input.consume(len);
        self.engine.reset(false);
        self.sum = crc32fast::Hasher::new();
        self.len = 0;
        self.members += 1;
        self.member_at = Some(at);
        Ok(true)
    }

    /// Checks the trailer of the member that ended.
    fn end(&mut self, member_at: u64) -> Result<(), Error> {
        let trailer = self.input.ensure(TRAILER_LEN)?.first_chunk().copied();
        let Some(trailer) = trailer else {
            let end = self.position() + self.input.bytes().len() as u64;
            return Err(cut(self.region(), member_at, end, "the member's trailer"));
        };
        let [a, b, c, d, e, f, g, h]: [u8; TRAILER_LEN] = trailer;
        let stated = (
            u32::from_le_bytes([a, b, c, d]),
            u32::from_le_bytes([e, f, g, h]),
        );
        let sum = std::mem::take(&mut self.sum).finalize();
        if stated != (sum, self.len) {
            return Err(Error::Broken {
                region: format!("{} trailer", self.region()),
                offset: self.position(),
                found: format!("CRC-32 {:#010x}, length {:#x}", stated.0, stated.1),
                expected: format!("CRC-32 {sum:#010x}, length {:#x}", self.len),
            });
        }
        self.input.consume(TRAILER_LEN);
        self.member_at = None;
        self.first_end.get_or_insert(self.input.position());
        Ok(())
    }
}
