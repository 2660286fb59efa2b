//! Walking gzip members by the lengths that their writers put into the extra field.

use super::{Found, FoundKind};
use crate::decode::input::cut;
use crate::gzip_format::{BGZIP, EMPTY_DEFLATE, Header, NoHeader, TRAILER_LEN};
use crate::seal::format::{GZIP_DATA, GZIP_DATA_LEN, GZIP_FOOTER, GZIP_SEAL};
use crate::{Error, ReadAt};

/// Bytes of a header that are read first; ours and bgzip's are shorter, pieces of a seal aside.
const HEADER_USUAL: usize = 64;
/// The longest header with an extra field and no texts, and what follows in an empty member.
const HEADER_LONG: usize = 12 + 65535 + 64;

/// The members of a stream in order, as long as they say where they end. Ends after the first
/// error, of which a member that does not say is one.
pub struct GzipMembers<'a> {
    source: &'a dyn ReadAt,
    at: u64,
    end: u64,
    number: u64,
    failed: bool,
}

impl<'a> GzipMembers<'a> {
    /// Walks `source` up to `end`, or its own end.
    pub fn new(source: &'a dyn ReadAt, end: u64) -> Self {
        Self::starting(source, 0, end)
    }

    /// Walks from `at`, where one begins, up to `end`.
    pub fn starting(source: &'a dyn ReadAt, at: u64, end: u64) -> Self {
        Self {
            source,
            at,
            end,
            number: 0,
            failed: false,
        }
    }

    /// Where the next member would begin.
    pub fn position(&self) -> u64 {
        self.at
    }

    fn read(&self, buf: &mut [u8], at: u64) -> Result<usize, Error> {
        let left = usize::try_from(self.end.saturating_sub(at)).unwrap_or(usize::MAX);
        let len = buf.len().min(left);
        self.source
            .read_full_at(&mut buf[..len], at)
            .map_err(Error::Read)
    }

    fn region(&self) -> String {
        format!("gzip member {}", self.number)
    }

    fn step(&mut self) -> Result<Option<Found>, Error> {
        let mut bytes = vec![0; HEADER_USUAL];
        loop {
            let got = self.read(&mut bytes, self.at)?;
            if got == 0 {
                return Ok(None);
            }
            match Header::parse(&bytes[..got]) {
                Ok(header) => return self.member(&header).map(Some),
                Err(NoHeader::Short) if got == bytes.len() && got < HEADER_LONG => {
                    bytes.resize(HEADER_LONG, 0);
                }
                Err(NoHeader::Short) => {
                    let end = self.at + got as u64;
                    return Err(cut(self.region(), self.at, end, "the rest of the header"));
                }
                Err(NoHeader::Wrong) => {
                    return Err(Error::Broken {
                        region: self.region(),
                        offset: self.at,
                        found: format!("{:02x?}", &bytes[..got.min(10)]),
                        expected: "a gzip header".into(),
                    });
                }
            }
        }
    }

    fn member(&self, header: &Header<'_>) -> Result<Found, Error> {
        let (kind, stored_len, content_len) = if let Some(lens) = header
            .subfield(GZIP_DATA)
            .and_then(|f| <[u8; GZIP_DATA_LEN]>::try_from(f).ok())
        {
            let [a, b, c, d, e, f, g, h] = lens;
            let stored = u32::from_le_bytes([a, b, c, d]);
            let content = u32::from_le_bytes([e, f, g, h]);
            (FoundKind::Data, u64::from(stored), u64::from(content))
        } else if let Some(id) = [GZIP_SEAL, GZIP_FOOTER]
            .into_iter()
            .find(|id| header.subfield(*id).is_some())
        {
            let len = header.len + EMPTY_DEFLATE.len() + TRAILER_LEN;
            (FoundKind::Seal(id), len as u64, 0)
        } else if let Some(len) = header
            .subfield(BGZIP)
            .and_then(|f| <[u8; 2]>::try_from(f).ok())
        {
            let stored = u64::from(u16::from_le_bytes(len)) + 1;
            (FoundKind::Data, stored, u64::MAX)
        } else {
            return Err(Error::Broken {
                region: self.region(),
                offset: self.at,
                found: "no subfield that says how long it is".into(),
                expected: "one of ours or of bgzip".into(),
            });
        };
        let least = (header.len + EMPTY_DEFLATE.len() + TRAILER_LEN) as u64;
        if stored_len < least {
            return Err(Error::Broken {
                region: self.region(),
                offset: self.at,
                found: format!("a stated length of {stored_len}"),
                expected: format!("{least} bytes at least"),
            });
        }
        let mut trailer = [0; TRAILER_LEN];
        let trailer_at = self.at + stored_len - TRAILER_LEN as u64;
        let got = self.read(&mut trailer, trailer_at)?;
        if got < TRAILER_LEN {
            let end = self.end.min(self.source.size().map_err(Error::Read)?);
            return Err(cut(self.region(), self.at, end, "the rest of the member"));
        }
        let [a, b, c, d, e, f, g, h] = trailer;
        let isize = u32::from_le_bytes([e, f, g, h]);
        // bgzip says nothing of the content, which has 64 KiB at most; the trailer does.
        let content_len = if content_len == u64::MAX {
            u64::from(isize)
        } else {
            content_len
        };
        if content_len != u64::from(isize) {
            return Err(Error::Broken {
                region: self.region(),
                offset: self.at,
                found: format!("a content length of {isize} in the trailer"),
                expected: format!("{content_len} as in the header"),
            });
        }
        Ok(Found {
            kind,
            offset: self.at,
            stored_len,
            content_len: Some(content_len),
            content_check: Some(u32::from_le_bytes([a, b, c, d])),
        })
    }
}

impl Iterator for GzipMembers<'_> {
    type Item = Result<Found, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.failed {
            return None;
        }
        let found = self.step().transpose()?;
        match &found {
            Ok(found) => {
                self.at += found.stored_len;
                self.number += 1;
            }
            Err(_) => self.failed = true,
        }
        Some(found)
    }
}
