//! Writes a pack.

use std::io;
use std::sync::Arc;

use livecore_compress::{Encoding, Output, Progress, ReadAt, Shape, encode_at, write_seal};
use livecore_defs::textdump::BLOCK;

use super::MANIFEST;
use super::manifest::Manifest;
use super::name::is_usable;
use crate::Error;

/// The contents of the members of a manifest, in its order.
pub type Contents = Vec<Arc<dyn ReadAt>>;

/// The bytes of the tar archive of a pack. They depend only on the manifest and the contents: owners,
/// times and modes are constants.
pub struct Archive {
    /// Offset and bytes of each part, ascending and without gaps. A part of zeros follows a member.
    parts: Vec<(u64, Part)>,
    len: u64,
}

enum Part {
    Bytes(Vec<u8>),
    Contents(Arc<dyn ReadAt>, u64),
}

impl Part {
    fn len(&self) -> u64 {
        match self {
            Self::Bytes(bytes) => bytes.len() as u64,
            Self::Contents(_, len) => *len,
        }
    }
}

impl Archive {
    /// The archive of `manifest` and the contents of its members.
    ///
    /// # Errors
    ///
    /// [`Error::Options`] if a member has an unusable name, or the number of members is not that of
    /// `contents`.
    pub fn new(manifest: &Manifest, contents: &Contents) -> Result<Self, Error> {
        if contents.len() != manifest.members.len() {
            let (found, expected) = (contents.len(), manifest.members.len());
            return Err(Error::Options(format!(
                "contents of {found} of {expected} members"
            )));
        }
        let json = serde_json::to_string_pretty(manifest);
        let mut json = json
            .map_err(|e| Error::Options(e.to_string()))?
            .into_bytes();
        json.push(b'\n');
        let mut archive = Self {
            parts: Vec::new(),
            len: 0,
        };
        archive.member(MANIFEST, Part::Bytes(json))?;
        for (member, contents) in manifest.members.iter().zip(contents) {
            let part = Part::Contents(Arc::clone(contents), member.size);
            archive.member(&member.name, part)?;
        }
        archive.push(Part::Bytes(vec![0; 2 * BLOCK as usize]));
        Ok(archive)
    }

    fn member(&mut self, name: &str, contents: Part) -> Result<(), Error> {
        if !is_usable(name) {
            return Err(Error::Options(format!("member name {name:?}")));
        }
        let mut header = tar::Header::new_ustar();
        let set = header.set_path(name);
        set.map_err(|e| Error::Options(format!("member name {name:?}: {e}")))?;
        header.set_size(contents.len());
        header.set_mode(0o600);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(0);
        header.set_entry_type(tar::EntryType::Regular);
        header.set_cksum();
        self.push(Part::Bytes(header.as_bytes().to_vec()));
        let rest = contents.len().wrapping_neg() % BLOCK;
        self.push(contents);
        self.push(Part::Bytes(vec![0; rest as usize]));
        Ok(())
    }

    fn push(&mut self, part: Part) {
        let len = part.len();
        if len > 0 {
            self.parts.push((self.len, part));
            self.len = self.len.saturating_add(len);
        }
    }
}

impl ReadAt for Archive {
    fn size(&self) -> io::Result<u64> {
        Ok(self.len)
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        let after = self.parts.partition_point(|(start, _)| *start <= offset);
        let part = after.checked_sub(1).and_then(|index| self.parts.get(index));
        let Some((start, part)) = part.filter(|_| offset < self.len) else {
            return Ok(0);
        };
        let skip = offset - start;
        let n = (part.len() - skip).min(buf.len() as u64) as usize;
        match part {
            Part::Bytes(bytes) => bytes.read_at(&mut buf[..n], skip),
            Part::Contents(contents, _) => match contents.read_at(&mut buf[..n], skip)? {
                0 if n > 0 => Err(io::Error::new(
                    io::ErrorKind::UnexpectedEof,
                    "a member became shorter while it was packed",
                )),
                got => Ok(got),
            },
        }
    }

    fn known_zero(&self, offset: u64, len: u64) -> bool {
        let after = self.parts.partition_point(|(start, _)| *start <= offset);
        let part = after.checked_sub(1).and_then(|index| self.parts.get(index));
        match part {
            Some((start, Part::Contents(contents, size))) => {
                let skip = offset - start;
                skip.checked_add(len).is_some_and(|end| end <= *size)
                    && contents.known_zero(skip, len)
            }
            _ => false,
        }
    }
}

/// Writes `archive` to `out` as frames with an index. Returns the number of bytes.
///
/// The output is the same for any number of threads.
///
/// # Errors
///
/// [`Error::Io`] if a member cannot be read or `out` cannot be written, [`Error::Cancelled`].
pub fn write(
    archive: &Archive,
    encoding: &Encoding,
    out: &mut dyn Output,
    progress: &dyn Progress,
) -> Result<u64, Error> {
    let stored = encode_at(archive, encoding, Shape::Frames, out, progress)?;
    let seal = write_seal(&stored, MANIFEST.as_bytes(), out)?;
    Ok(stored.stored_len + seal)
}
