//! The start and the end of a dump from a pipe, which is all that `info` reads.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

use livecore_compress::ReadAt;
use livecore_compress::{spool, spool_error};
use livecore_minidump::{Layout, MinidumpHeader};

use crate::env::{Env, is_seekable};

/// Bytes of a minidump's header page.
const HEAD: usize = 4096;

/// Maximum size of the data after the payload of a sealed file, without the copy of the sections.
const SEAL: u64 = 16 << 20;

/// Maximum size of a frame. A frame is read completely, to verify its checksum.
const FRAME: u64 = 64 << 20;

/// A dump without the pages in the middle.
struct Ends {
    /// The first bytes.
    head: File,
    head_len: u64,
    /// The last bytes: the byte at offset N is at N modulo `ring_len`.
    ring: File,
    ring_len: u64,
    len: u64,
}

/// Standard input if it is seekable, else its start and its end.
pub(crate) fn of_stdin(env: &mut Env) -> io::Result<Arc<dyn ReadAt>> {
    let mut stdin = env.take_stdin()?;
    match is_seekable(&mut stdin) {
        true => Ok(Arc::new(stdin)),
        false => of(stdin, env),
    }
}

/// Copies `stream` to temporary files: of an uncompressed minidump the sections before the pages, and
/// the end; of other data everything.
fn of(mut stream: File, env: &Env) -> io::Result<Arc<dyn ReadAt>> {
    let mut start = Vec::new();
    stream.by_ref().take(HEAD as u64).read_to_end(&mut start)?;
    let kept = MinidumpHeader::parse(&start).map(|header| Layout::new(&header, 0).data_offset());
    let Some(head_len) = kept.ok().filter(|len| *len <= env.memory) else {
        return Ok(Arc::new(env.spool_after(&start, stream)?));
    };
    let directory = Some(&*env.spool_dir);
    let mut ends = Ends {
        head: spool(directory)?,
        head_len: head_len.saturating_add(FRAME),
        ring: spool(directory)?,
        ring_len: head_len.saturating_add(SEAL),
        len: 0,
    };
    ends.put(&start, directory)?;
    env.each_piece(stream, &mut |piece| ends.put(piece, directory))?;
    Ok(Arc::new(ends))
}

impl Ends {
    fn put(&mut self, bytes: &[u8], directory: Option<&Path>) -> io::Result<()> {
        self.try_put(bytes).map_err(|e| spool_error(directory, e))
    }

    fn try_put(&mut self, bytes: &[u8]) -> io::Result<()> {
        let first = self
            .head_len
            .saturating_sub(self.len)
            .min(bytes.len() as u64);
        // At most the length of `bytes`.
        let (head, mut rest) = bytes.split_at(first as usize);
        self.head.write_all_at(head, self.len)?;
        self.len += first;
        while !rest.is_empty() {
            let at = self.len % self.ring_len;
            // At most the length of `rest`.
            let n = (self.ring_len - at).min(rest.len() as u64) as usize;
            self.ring.write_all_at(&rest[..n], at)?;
            self.len += n as u64;
            rest = &rest[n..];
        }
        Ok(())
    }
}

impl ReadAt for Ends {
    fn size(&self) -> io::Result<u64> {
        Ok(self.len)
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        let left = self.len.saturating_sub(offset);
        let most = left.min(buf.len() as u64);
        if offset < self.head_len {
            // At most the length of `buf`.
            let n = most.min(self.head_len - offset) as usize;
            return FileExt::read_at(&self.head, &mut buf[..n], offset);
        }
        if left > self.ring_len {
            let what = "the middle of standard input was not kept; save it to a file";
            return Err(io::Error::other(what));
        }
        let at = offset % self.ring_len;
        let n = most.min(self.ring_len - at) as usize;
        FileExt::read_at(&self.ring, &mut buf[..n], at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_ends_are_there_and_the_middle_is_an_error() {
        let mut ends = Ends {
            head: tempfile::tempfile().unwrap(),
            head_len: 100,
            ring: tempfile::tempfile().unwrap(),
            ring_len: 64,
            len: 0,
        };
        let bytes: Vec<u8> = (0..1000_u32).map(|n| n as u8 ^ (n >> 8) as u8).collect();
        for piece in bytes.chunks(37) {
            ends.put(piece, None).unwrap();
        }
        assert_eq!(ends.size().unwrap(), 1000);
        for range in [0..100, 10..90, 936..1000, 950..1000, 999..1000] {
            let mut found = vec![0; range.len()];
            ends.read_exact_at(&mut found, range.start as u64).unwrap();
            assert_eq!(found, bytes[range]);
        }
        assert_eq!(ends.read_at(&mut [0; 4], 1000).unwrap(), 0);
        for middle in [100, 500, 935] {
            let error = ends.read_at(&mut [0], middle).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::Other, "{error}");
        }
    }
}
