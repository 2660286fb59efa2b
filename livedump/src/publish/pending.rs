//! A dump that is being written and has no name yet.

use std::fs::File;
use std::io::{self, Write};
use std::num::NonZeroU32;
use std::os::fd::AsFd;
use std::os::unix::fs::{FileExt, FileTypeExt};
use std::path::{Path, PathBuf};

use livecore_compress::Codec;

use super::cleanup::publishing;
use super::directory::Directory;
use super::free::FreeSpace;
use super::numbers::{Number, Numbers, bounds_after};
use super::temporary::Temporary;
use super::{Destination, PublishError, links, sparse};
use crate::sys::pipe;

/// How a dump is placed.
#[derive(Debug, Clone)]
pub struct Options {
    /// How the bytes are stored: the suffix of the name in a directory.
    pub codec: Codec,
    /// A file that exists may be replaced. A directory's numbers are not concerned.
    pub force: bool,
    /// savecore(8)'s `-m`: numbers below this one are used in turn, our own dumps replaced.
    pub max: Option<NonZeroU32>,
    /// Blocks of zeros become holes. For uncompressed dumps.
    pub sparse: bool,
    /// Bytes that the dump takes, if known beforehand, for the check of free space; 0 if not.
    pub needed: u64,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            codec: Codec::None,
            force: false,
            max: None,
            sparse: false,
            needed: 0,
        }
    }
}

impl Options {
    /// For a dump of `len` bytes, if that is known beforehand, stored with `codec`: uncompressed, it
    /// becomes sparse and needs that much space. How far a codec gets is known only afterwards.
    pub fn of_dump(codec: Codec, len: Option<u64>) -> Self {
        let uncompressed = codec == Codec::None;
        Self {
            codec,
            sparse: uncompressed,
            needed: len.filter(|_| uncompressed).unwrap_or(0),
            ..Self::default()
        }
    }
}

/// A dump that is being written. Dropped before [`Pending::publish`], it leaves nothing behind.
#[derive(Debug)]
pub struct Pending {
    target: Target,
    options: Options,
    written: u64,
    notes: Vec<String>,
}

#[derive(Debug)]
enum Target {
    Numbered {
        directory: Directory,
        temporary: Temporary,
        space: FreeSpace,
    },
    Named {
        directory: Directory,
        name: String,
        temporary: Temporary,
    },
    /// Standard output, a pipe or a character device: bytes are gone once written.
    Stream { file: File, path: PathBuf },
}

/// A dump under its name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Published {
    /// The file; `-` for standard output.
    pub path: PathBuf,
    /// Its number, in a directory.
    pub number: Option<u32>,
    /// Bytes in it.
    pub len: u64,
    /// What a person should hear: numbers passed over, links that stayed.
    pub notes: Vec<String>,
}

impl Destination {
    /// Prepares to write: finds the directory, checks names and space, creates the temporary file.
    pub fn begin(&self, options: &Options) -> Result<Pending, PublishError> {
        let mut notes = Vec::new();
        let target = match self {
            Self::Stdout => stdout()?,
            Self::Directory(path) => {
                let directory = Directory::open(path)?;
                // Whether there is a number at all is known before the work, not after it.
                Numbers::read(&directory)?.next(options.max, &directory)?;
                let space = FreeSpace::check(&directory, options.needed, &mut notes)?;
                let temporary = Temporary::create(&directory, 0o600)?;
                Target::Numbered {
                    directory,
                    temporary,
                    space,
                }
            }
            Self::File(path) => file(path, options, &mut notes)?,
        };
        Ok(Pending {
            target,
            options: options.clone(),
            written: 0,
            notes,
        })
    }
}

fn stdout() -> Result<Target, PublishError> {
    let path = PathBuf::from("-");
    let fd = io::stdout()
        .as_fd()
        .try_clone_to_owned()
        .map_err(|e| PublishError::from_io("open", &path, e))?;
    pipe::widen(&fd);
    Ok(Target::Stream {
        file: File::from(fd),
        path,
    })
}

fn file(path: &Path, options: &Options, notes: &mut Vec<String>) -> Result<Target, PublishError> {
    let name = path.file_name().and_then(|name| name.to_str());
    let Some(name) = name else {
        return Err(PublishError::Io {
            doing: "create",
            path: path.into(),
            source: io::Error::new(io::ErrorKind::InvalidFilename, "not a file name in UTF-8"),
        });
    };
    if let Ok(there) = std::fs::metadata(path) {
        let kind = there.file_type();
        if kind.is_char_device() || kind.is_fifo() {
            let opened = File::options().write(true).open(path);
            let file = opened.map_err(|e| PublishError::from_io("open", path, e))?;
            pipe::widen(&file);
            return Ok(Target::Stream {
                file,
                path: path.into(),
            });
        }
        // A disk is never what is meant by a file to replace.
        if !options.force || !kind.is_file() {
            return Err(PublishError::Exists { path: path.into() });
        }
    }
    let directory = Directory::open(path.parent().unwrap_or(Path::new("")))?;
    if directory.has(name) && !options.force {
        return Err(PublishError::Exists { path: path.into() });
    }
    FreeSpace::check(&directory, options.needed, notes)?;
    Ok(Target::Named {
        temporary: Temporary::create(&directory, 0o600)?,
        name: name.into(),
        directory,
    })
}

impl Pending {
    /// The temporary file, for somebody else to write into (a kernel); `None` for a stream.
    /// What is written so does not count in [`Published::len`] until [`Pending::set_len`].
    pub fn file(&self) -> Option<&File> {
        self.temporary().map(Temporary::file)
    }

    /// The temporary file and its name; `None` for a stream.
    pub(crate) fn temporary(&self) -> Option<&Temporary> {
        match &self.target {
            Target::Numbered { temporary, .. } | Target::Named { temporary, .. } => Some(temporary),
            Target::Stream { .. } => None,
        }
    }

    /// Where the bytes go now, for messages.
    pub fn path(&self) -> PathBuf {
        match &self.target {
            Target::Numbered { temporary, .. } | Target::Named { temporary, .. } => {
                temporary.path()
            }
            Target::Stream { path, .. } => path.clone(),
        }
    }

    /// Checks that a dump of `len` bytes fits, for a destination that was begun before its length
    /// was known. A stream takes anything.
    pub fn reserve(&mut self, len: u64) -> Result<(), PublishError> {
        match &self.target {
            Target::Numbered { space, .. } => space.fits(len),
            Target::Named { directory, .. } => {
                // What is wrong with `minfree` was said at the beginning.
                FreeSpace::check(directory, len, &mut Vec::new()).map(|_| ())
            }
            Target::Stream { .. } => Ok(()),
        }
    }

    /// Bytes written so far.
    pub fn written(&self) -> u64 {
        self.written
    }

    /// Cuts or extends the file, and goes on writing behind that. Not for a stream.
    pub fn set_len(&mut self, len: u64) -> Result<(), PublishError> {
        if let Some(file) = self.file() {
            file.set_len(len)
                .map_err(|e| PublishError::from_io("truncate", self.path(), e))?;
            self.written = len;
        }
        Ok(())
    }

    /// Gives the dump its name. `info` makes the text of `info.N` for a number; it is asked only
    /// in a directory, and again if another process takes the number meanwhile.
    ///
    /// Everything is durable when this returns. If it fails, the names in the directory are as
    /// before, except that a dump which `max` allowed to be replaced may be gone.
    pub fn publish(self, info: &dyn Fn(u32) -> Vec<u8>) -> Result<Published, PublishError> {
        if let (true, Some(file)) = (self.options.sparse, self.file()) {
            file.set_len(self.written)
                .map_err(|e| PublishError::from_io("truncate", self.path(), e))?;
        }
        let Self {
            target,
            options,
            written,
            mut notes,
        } = self;
        let (path, number) = match target {
            Target::Stream { path, .. } => (path, None),
            Target::Named {
                directory,
                name,
                mut temporary,
            } => {
                temporary.sync()?;
                let _names_change = publishing();
                let path = directory.path.join(&name);
                if options.force {
                    temporary.rename(&name)?;
                } else if !temporary.link(&name)? {
                    return Err(PublishError::Exists { path });
                }
                directory.sync()?;
                (path, None)
            }
            Target::Numbered {
                directory,
                temporary,
                ..
            } => {
                temporary.sync()?;
                let (path, number) = number(&directory, temporary, &options, info, &mut notes)?;
                (path, Some(number))
            }
        };
        Ok(Published {
            path,
            number,
            len: written,
            notes,
        })
    }
}

/// Finds the number and changes the names, alone in the directory among processes of ours.
fn number(
    directory: &Directory,
    mut core: Temporary,
    options: &Options,
    info: &dyn Fn(u32) -> Vec<u8>,
    notes: &mut Vec<String>,
) -> Result<(PathBuf, u32), PublishError> {
    // Released when `directory` is closed. File systems that cannot lock are used without: a
    // number is claimed by link(2) in any case.
    let _ = rustix::fs::flock(&*directory.fd, rustix::fs::FlockOperation::LockExclusive);
    loop {
        let numbers = Numbers::read(directory)?;
        let (number, passed) = numbers.next(options.max, directory)?;
        let text = Temporary::create(directory, 0o600)?;
        fill(&text, &info(number))?;
        let bounds = Temporary::create(directory, 0o644)?;
        fill(&bounds, bounds_after(number).as_bytes())?;

        // Nothing is written from here on; only names change.
        let guard = publishing();
        let name = format!("livecore.{number}{}", options.codec.suffix());
        let old = numbers.at(number);
        if old.livecores.contains(&name) {
            core.rename(&name)?;
        } else if !core.link(&name)? {
            drop(guard);
            continue;
        }
        if let Err(error) = commit(directory, text, bounds, number, &name, &old) {
            // Not without its info.N and bounds.
            let _ = directory.remove(&name);
            if !old.info {
                let _ = directory.remove(&format!("info.{number}"));
            }
            return Err(error);
        }
        notes.extend(passed);
        notes.extend(links::update(directory, number, options.codec.suffix()));
        directory.sync()?;
        return Ok((directory.path.join(name), number));
    }
}

fn commit(
    directory: &Directory,
    info: Temporary,
    bounds: Temporary,
    number: u32,
    name: &str,
    old: &Number,
) -> Result<(), PublishError> {
    info.rename(&format!("info.{number}"))?;
    for stale in old.livecores.iter().filter(|stale| *stale != name) {
        directory
            .remove(stale)
            .map_err(|e| PublishError::from_io("remove", directory.path.join(stale), e))?;
    }
    directory.sync()?;
    bounds.rename("bounds")
}

fn fill(temporary: &Temporary, bytes: &[u8]) -> Result<(), PublishError> {
    temporary
        .file()
        .write_all_at(bytes, 0)
        .map_err(|e| PublishError::from_io("write", temporary.path(), e))?;
    temporary.sync()
}

impl Write for Pending {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        match &mut self.target {
            Target::Stream { file, .. } => {
                let n = file.write(buf)?;
                self.written += n as u64;
                return Ok(n);
            }
            Target::Numbered {
                temporary, space, ..
            } => {
                put(temporary.file(), buf, self.written, self.options.sparse)?;
                space
                    .wrote(buf.len() as u64)
                    .map_err(|e| io::Error::new(io::ErrorKind::StorageFull, e))?;
            }
            Target::Named { temporary, .. } => {
                put(temporary.file(), buf, self.written, self.options.sparse)?;
            }
        }
        self.written += buf.len() as u64;
        Ok(buf.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn put(file: &File, bytes: &[u8], offset: u64, holes: bool) -> io::Result<()> {
    if holes {
        sparse::write_at(file, bytes, offset)
    } else {
        file.write_all_at(bytes, offset)
    }
}
