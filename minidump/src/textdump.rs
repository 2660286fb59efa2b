//! Text dumps: what ddb(4) captured, as a tar archive instead of memory.
//!
//! FreeBSD `sys/ddb/db_textdump.c`. A kernel writes the blocks of the archive backwards, from the end
//! of the dump device downward: block `i` is at `M - 512 * (i + 2)` of a device of `M` bytes, and the
//! header is in the last block. A copy of the header follows the last block of the archive.
//! savecore(8) saves the archive as `textdump.tar.N`, or `textdump.tar.N.gz` with `-z`.
//!
//! The archive has no end-of-archive blocks, and its members are:
//!
//! | member        | contents                                                       |
//! |---------------|----------------------------------------------------------------|
//! | `ddb.txt`     | captured output of ddb(4), if there is any                     |
//! | `config.txt`  | the kernel configuration, if the kernel contains it            |
//! | `msgbuf.txt`  | the message buffer                                             |
//! | `panic.txt`   | the panic message, after a panic                               |
//! | `version.txt` | the kernel version                                             |
//!
//! `textdump_writeblock` and the tunables `debug.ddb.textdump.do_*` of FreeBSD 12.1 and 15.

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::Path;
use std::sync::Arc;

use livecore_compress::{Codec, ReadAt, Stream};
use livecore_defs::textdump::{BLOCK, MEMBERS, USTAR, USTAR_OFFSET};

use crate::container::{Container, trailing_header};
use crate::kerneldump::Magic;
use crate::tar_block::TarBlock;
use crate::{Error, KernelDumpHeader};

/// Maximum size of an archive, in bytes. A kernel's capture and message buffers have a few MiB.
const ARCHIVE_MAX: u64 = 1 << 30;

/// Maximum number of members. A kernel writes five.
const MEMBERS_MAX: usize = 64;

/// A text dump.
pub struct TextDump {
    container: Container,
    codec: Codec,
    header: Option<KernelDumpHeader>,
    archive: Arc<dyn ReadAt>,
    members: Vec<Member>,
    damage: Option<Error>,
}

/// A member of a text dump.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// The name: `panic.txt`.
    pub name: String,
    /// Offset of the contents in the archive.
    pub offset: u64,
    /// Size of the contents in bytes.
    pub len: u64,
}

impl TextDump {
    /// Opens the text dump at `path`; `None` if the file is not a text dump. A compressed file is one only
    /// if its name begins with `textdump.`.
    ///
    /// # Errors
    ///
    /// Those of [`TextDump::from_source`], and [`Error::Io`] if the file cannot be opened.
    pub fn open(
        path: impl AsRef<Path>,
        options: &livecore_compress::OpenOptions,
    ) -> Result<Option<Self>, Error> {
        let path = path.as_ref();
        let file = File::open(path).map_err(|e| Error::io(path.display().to_string(), e))?;
        // Decompressing the beginning of every dump would be slow, and few of them are text dumps.
        let name = path.file_name().map(|name| name.to_string_lossy());
        let is_named = name.is_some_and(|name| name.starts_with("textdump."));
        let mut head = [0; 8];
        let got = file.read_full_at(&mut head, 0)?;
        if Codec::sniff(&head[..got]) != Codec::None && !is_named {
            return Ok(None);
        }
        Self::from_source(Arc::new(file), options)
    }

    /// Opens the text dump in `source`: the image of a dump device, or an archive, also compressed with
    /// gzip or zstd. `None` if it is not a text dump.
    ///
    /// An archive that ends early, or has a damaged member, has the members before it and
    /// [`TextDump::damage`].
    ///
    /// # Errors
    ///
    /// [`Error::Io`] if the source cannot be read, [`Error::Broken`] if the header does not fit the
    /// device.
    pub fn from_source(
        source: Arc<dyn ReadAt>,
        options: &livecore_compress::OpenOptions,
    ) -> Result<Option<Self>, Error> {
        let size = source.size()?;
        if let Some((header, at)) = trailing_header(&*source, size)? {
            if header.magic != Magic::Text {
                return Ok(None);
            }
            return Self::on_device(source, header, at).map(Some);
        }
        let mut head = [0; 8];
        let got = source.read_full_at(&mut head, 0)?;
        let codec = Codec::sniff(&head[..got]);
        let archive = match codec {
            Codec::None => source,
            _ => Stream::from_source(source, options)?.content(),
        };
        if !is_archive(&*archive) {
            return Ok(None);
        }
        let len = archive.size().unwrap_or(0);
        Ok(Some(Self::parse(
            archive,
            Container::Saved,
            codec,
            None,
            len,
        )))
    }

    fn on_device(
        source: Arc<dyn ReadAt>,
        header: KernelDumpHeader,
        at: u64,
    ) -> Result<Self, Error> {
        let len = header.dumplength;
        let most = at.saturating_sub(BLOCK);
        if !len.is_multiple_of(BLOCK) || len > most {
            return Err(Error::broken(
                "kerneldumpheader, dumplength",
                at + 40,
                format!("{len:#x}"),
                format!("a multiple of {BLOCK}, at most {most:#x}"),
            ));
        }
        let archive = Arc::new(Backwards {
            source,
            end: at,
            len,
        });
        Ok(Self::parse(
            archive,
            Container::Device,
            Codec::None,
            Some(header),
            len,
        ))
    }

    fn parse(
        archive: Arc<dyn ReadAt>,
        container: Container,
        codec: Codec,
        header: Option<KernelDumpHeader>,
        len: u64,
    ) -> Self {
        let mut dump = Self {
            container,
            codec,
            header,
            members: Vec::new(),
            damage: None,
            archive,
        };
        dump.damage = dump.find_members(len).err();
        dump
    }

    /// Reads the headers of all members.
    fn find_members(&mut self, len: u64) -> Result<(), Error> {
        let limit = len.min(ARCHIVE_MAX);
        let mut at = 0;
        while at < limit {
            let mut bytes = [0; BLOCK as usize];
            let got = self.archive.read_full_at(&mut bytes, at)?;
            let broken = |found: String, expected: &str| {
                Error::broken("text dump, member", at, found, expected)
            };
            // Other archives end with blocks of zeros; the last may be truncated.
            if bytes == [0; BLOCK as usize] {
                return Ok(());
            }
            if got < bytes.len() {
                return Err(broken(format!("{got} bytes"), "a header of 512 bytes"));
            }
            let header =
                TarBlock::parse(&bytes).map_err(|(found, expected)| broken(found, &expected))?;
            let size = header.size;
            let offset = at + BLOCK;
            let end = offset.checked_add(size).filter(|end| *end <= limit);
            if end.is_none() {
                let found = format!("a size of {size} bytes");
                return Err(broken(found, &format!("an end of at most {limit:#x}")));
            }
            if self.members.len() == MEMBERS_MAX {
                let expected = format!("at most {MEMBERS_MAX} members");
                return Err(broken("another member".into(), &expected));
            }
            self.members.push(Member {
                name: String::from_utf8_lossy(&header.name).into_owned(),
                offset,
                len: size,
            });
            // Within the archive.
            at = offset + size.next_multiple_of(BLOCK);
        }
        Ok(())
    }

    /// How the dump is stored: [`Container::Device`] or [`Container::Saved`].
    pub fn container(&self) -> Container {
        self.container
    }

    /// The codec of a saved archive.
    pub fn codec(&self) -> Codec {
        self.codec
    }

    /// The kerneldumpheader, of a dump device.
    pub fn header(&self) -> Option<&KernelDumpHeader> {
        self.header.as_ref()
    }

    /// The members in file order.
    pub fn members(&self) -> &[Member] {
        &self.members
    }

    /// Why the archive could not be read to its end.
    pub fn damage(&self) -> Option<&Error> {
        self.damage.as_ref()
    }

    /// The archive as savecore(8) saves it, without compression.
    pub fn archive(&self) -> Arc<dyn ReadAt> {
        Arc::clone(&self.archive)
    }

    /// The contents of the member `name`, as text; `None` if there is no such member.
    ///
    /// # Errors
    ///
    /// [`Error::Io`] if the archive cannot be read, [`Error::Options`] if the member is larger than
    /// `limit` bytes.
    pub fn text(&self, name: &str, limit: u64) -> Result<Option<String>, Error> {
        let Some(member) = self.members.iter().find(|member| member.name == name) else {
            return Ok(None);
        };
        if member.len > limit {
            let what = format!("{name} has {} bytes; limit {limit}", member.len);
            return Err(Error::Options(what));
        }
        let mut bytes = vec![0; member.len as usize]; // at most `limit`
        self.archive.read_exact_at(&mut bytes, member.offset)?;
        Ok(Some(String::from_utf8_lossy(&bytes).into_owned()))
    }

    /// Writes the dump as a complete archive: with a header of today's ustar format for each member, and
    /// the end-of-archive blocks.
    ///
    /// # Errors
    ///
    /// [`Error::Io`] if the archive cannot be read or `out` cannot be written.
    pub fn write_tar(&self, out: &mut dyn Write) -> Result<(), Error> {
        let mut builder = tar::Builder::new(out);
        for member in &self.members {
            let mut header = tar::Header::new_ustar();
            header.set_size(member.len);
            header.set_mode(0o600);
            header.set_uid(0);
            header.set_gid(0);
            header.set_mtime(self.header.as_ref().map_or(0, |header| header.dumptime));
            let contents = Contents {
                archive: &*self.archive,
                at: member.offset,
                left: member.len,
            };
            builder
                .append_data(&mut header, &member.name, contents)
                .map_err(|e| Error::io("write", e))?;
        }
        builder.finish().map_err(|e| Error::io("write", e))
    }
}

/// Whether an archive of a kernel or of tar(1) begins with the name of a text dump's member.
fn is_archive(archive: &dyn ReadAt) -> bool {
    let mut head = [0; BLOCK as usize];
    let got = archive.read_full_at(&mut head, 0).unwrap_or(0);
    let magic = head[USTAR_OFFSET..].starts_with(USTAR);
    let named = MEMBERS.iter().any(|name| {
        let rest = head.strip_prefix(name.as_bytes());
        rest.is_some_and(|rest| rest.starts_with(b"\0"))
    });
    got == head.len() && magic && named
}

/// The contents of a member.
struct Contents<'a> {
    archive: &'a dyn ReadAt,
    at: u64,
    left: u64,
}

impl Read for Contents<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let n = self.left.min(buf.len() as u64) as usize;
        let got = self.archive.read_at(&mut buf[..n], self.at)?;
        if got == 0 && n > 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.at += got as u64;
        self.left -= got as u64;
        Ok(got)
    }
}

/// The blocks before `end` of a device, in reverse order.
struct Backwards {
    source: Arc<dyn ReadAt>,
    end: u64,
    len: u64,
}

impl ReadAt for Backwards {
    fn size(&self) -> io::Result<u64> {
        Ok(self.len)
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut done = 0;
        while done < buf.len() {
            let at = offset.saturating_add(done as u64);
            if at >= self.len {
                break;
            }
            let (block, within) = (at / BLOCK, at % BLOCK);
            let n = ((BLOCK - within) as usize).min(buf.len() - done);
            // `len` bytes precede `end`.
            let place = self.end - (block + 1) * BLOCK + within;
            self.source.read_exact_at(&mut buf[done..done + n], place)?;
            done += n;
        }
        Ok(done)
    }
}
