//! The contents of a member.

use std::io;
use std::sync::{Arc, OnceLock};
use std::time::SystemTime;

use livecore_compress::{NoProgress, Progress, ReadAt, Window};
use livecore_defs::text::hex;
use sha2::{Digest, Sha256};

use super::manifest::Member;
use crate::Error;
use crate::elf::sections::Sections;

/// Computes the size of `source` in bytes and its SHA-256 in hexadecimal.
///
/// # Errors
///
/// [`Error::Io`] if it cannot be read, [`Error::Cancelled`].
pub fn digest(source: &dyn ReadAt, progress: &dyn Progress) -> Result<(u64, String), Error> {
    let mut hasher = Sha256::new();
    let mut piece = vec![0; 1 << 20];
    let mut at = 0;
    loop {
        if progress.cancelled() {
            return Err(Error::Cancelled);
        }
        match source.read_full_at(&mut piece, at)? {
            0 => return Ok((at, hex(&hasher.finalize()))),
            got => {
                hasher.update(&piece[..got]);
                at += got as u64;
                progress.advance(got as u64, 0);
            }
        }
    }
}

/// The contents of a member, compared with the manifest before the first read.
pub(super) struct Checked {
    contents: Window<Arc<dyn ReadAt>>,
    member: Member,
    offset: u64,
    /// The difference that was found.
    result: OnceLock<Option<(String, String)>>,
}

impl Checked {
    /// The contents of `member` at `offset` of the archive `content`.
    pub(super) fn new(content: Arc<dyn ReadAt>, offset: u64, member: Member) -> Self {
        Self {
            contents: Window::new(content, offset, member.size),
            member,
            offset,
            result: OnceLock::new(),
        }
    }

    /// Compares digest and build-id with the manifest, once.
    pub(super) fn check(&self) -> io::Result<()> {
        if self.result.get().is_none() {
            let found = differs(&self.contents, &self.member, &NoProgress);
            let found = found.map_err(into_io)?;
            let _ = self.result.set(found);
        }
        match self.result.get() {
            Some(Some((found, expected))) => Err(livecore_compress::Error::Broken {
                region: format!("pack, {}", self.member.name),
                offset: self.offset,
                found: found.clone(),
                expected: expected.clone(),
            }
            .into()),
            _ => Ok(()),
        }
    }
}

/// Compares the contents of `member` with the manifest. Returns what was found and what was expected if
/// they differ.
pub(super) fn differs(
    contents: &dyn ReadAt,
    member: &Member,
    progress: &dyn Progress,
) -> Result<Option<(String, String)>, Error> {
    let (_, found) = digest(contents, progress)?;
    if found != member.sha256 {
        let expected = format!("{}, by the manifest", member.sha256);
        return Ok(Some((format!("SHA-256 {found}"), expected)));
    }
    let Some(expected) = &member.build_id else {
        return Ok(None);
    };
    let sections = Sections::read(contents).ok();
    let found = sections.and_then(|sections| sections.build_id(contents));
    let found = found.map(|(id, _)| hex(&id));
    if found.as_ref() == Some(expected) {
        return Ok(None);
    }
    let found = found.map_or("no build-id".into(), |id| format!("build-id {id}"));
    Ok(Some((found, format!("{expected}, by the manifest"))))
}

fn into_io(error: Error) -> io::Error {
    match error {
        Error::Io { source, .. } => source,
        Error::Broken {
            region,
            offset,
            found,
            expected,
        } => livecore_compress::Error::Broken {
            region,
            offset,
            found,
            expected,
        }
        .into(),
        other => io::Error::other(other.to_string()),
    }
}

impl ReadAt for Checked {
    fn size(&self) -> io::Result<u64> {
        self.contents.size()
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        self.check()?;
        self.contents.read_at(buf, offset)
    }

    fn modified(&self) -> Option<SystemTime> {
        self.contents.modified()
    }
}
