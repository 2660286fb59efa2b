//! A dump that is being written and is not published yet.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use livecore_compress::{Output, WriteAt};
use rustix::fs::FileType;

use super::cleanup::publishing;
use super::directory::Directory;
use super::free::FreeSpace;
use super::numbers::{Numbers, bounds_after};
use super::options::Options;
use super::temporary::{Temporary, sweep};
use super::{Destination, Notice, PublishError, Stem, links, sparse, special};
use crate::sys::pipe;

/// A dump that is being written. If it is dropped before [`Pending::publish`], its file is removed.
#[derive(Debug)]
pub struct Pending {
    target: Target,
    options: Options,
    written: u64,
    /// The file already contains the first bytes that will be written, up to this offset.
    stored: u64,
    notes: Vec<Notice>,
}

#[derive(Debug)]
enum Target {
    Numbered {
        temporary: Temporary,
        space: FreeSpace,
    },
    Named {
        temporary: Temporary,
    },
    /// Standard output, a pipe or a character device, whose output cannot be changed.
    Stream {
        file: File,
        path: PathBuf,
    },
}

/// A published dump.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Published {
    /// The path; `-` for standard output.
    pub path: PathBuf,
    /// The number in a directory.
    pub number: Option<u32>,
    /// The size in bytes.
    pub len: u64,
    /// Notes for the user: skipped numbers, links that were not changed.
    pub notes: Vec<Notice>,
}

impl Destination {
    /// Opens the directory, checks names and space, and creates the temporary file.
    ///
    /// # Errors
    ///
    /// [`PublishError`] if there is not enough space, or the temporary file cannot be created.
    pub fn begin(&self, options: &Options) -> Result<Pending, PublishError> {
        let mut notes = Vec::new();
        let target = match self {
            Self::Stdout => stdout()?,
            Self::Directory(path) => {
                let directory = Directory::open(path)?;
                // Check before the work that there is a free number.
                Numbers::read(&directory)?.next(options.max, options.stem, &directory)?;
                notes.extend(sweep(&directory));
                let space = FreeSpace::check(&directory, options.needed, &mut notes)?;
                let temporary = options.temporary(&directory, directory.path.clone())?;
                Target::Numbered { temporary, space }
            }
            Self::File(path) => file(path, options, &mut notes)?,
        };
        Ok(Pending {
            target,
            options: options.clone(),
            written: 0,
            stored: 0,
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

fn file(path: &Path, options: &Options, notes: &mut Vec<Notice>) -> Result<Target, PublishError> {
    let Some(name) = path.file_name() else {
        return Err(PublishError::Io {
            doing: "create",
            path: path.into(),
            source: io::Error::new(io::ErrorKind::InvalidFilename, "not a file name"),
        });
    };
    let directory = Directory::open(path.parent().unwrap_or(Path::new("")))?;
    match special::kind(&directory, name) {
        Some(FileType::Fifo | FileType::CharacterDevice) => {
            let file = special::open(&directory, name, path)?;
            pipe::widen(&file);
            return Ok(Target::Stream {
                file,
                path: path.into(),
            });
        }
        // A disk is never meant when a file is to be replaced.
        Some(kind) if !options.force || kind != FileType::RegularFile => {
            return Err(PublishError::Exists { path: path.into() });
        }
        _ => {}
    }
    if directory.has(name) && !options.force {
        return Err(PublishError::Exists { path: path.into() });
    }
    notes.extend(sweep(&directory));
    FreeSpace::check(&directory, options.needed, notes)?;
    Ok(Target::Named {
        temporary: options.temporary(&directory, path.to_owned())?,
    })
}

impl Pending {
    /// The temporary file, for another writer such as the kernel; `None` for a stream.
    /// [`Published::len`] does not count what is written to it until [`Pending::set_len`].
    pub fn file(&self) -> Option<&File> {
        self.temporary().map(Temporary::file)
    }

    /// The temporary file, for a reader or a writer that outlives this value; `None` for a stream.
    pub fn shared(&self) -> Option<Arc<File>> {
        self.temporary().map(Temporary::shared)
    }

    /// Publishes the file under another name in the same directory. Has no effect on a stream, nor on
    /// a dump with a number.
    pub fn set_name(&mut self, name: &str) {
        if let Target::Named { temporary } = &mut self.target {
            temporary.set_name(name);
        }
    }

    /// The temporary file with its name; `None` for a stream.
    pub(crate) fn temporary(&self) -> Option<&Temporary> {
        match &self.target {
            Target::Numbered { temporary, .. } | Target::Named { temporary, .. } => Some(temporary),
            Target::Stream { .. } => None,
        }
    }

    /// What is to be written, for messages: a directory before the number is known.
    pub fn path(&self) -> PathBuf {
        match &self.target {
            Target::Numbered { temporary, .. } | Target::Named { temporary, .. } => {
                temporary.target().to_owned()
            }
            Target::Stream { path, .. } => path.clone(),
        }
    }

    /// Checks that a dump of `len` bytes fits, if its size was unknown before. Bytes that the file
    /// already contains need no space. A stream has no limit.
    ///
    /// # Errors
    ///
    /// [`PublishError`] if the file system has no space for them.
    pub fn reserve(&mut self, len: u64) -> Result<(), PublishError> {
        let len = len.saturating_sub(self.stored);
        match &self.target {
            Target::Numbered { space, .. } => space.fits(len),
            Target::Named { temporary } => {
                // A note about `minfree` was added at the start.
                FreeSpace::check(temporary.directory(), len, &mut Vec::new()).map(|_| ())
            }
            Target::Stream { .. } => Ok(()),
        }
    }

    /// States that the file already contains the first `len` bytes of the dump, because another
    /// writer such as the kernel has stored them. Writes to this part only advance; what follows it
    /// is replaced or removed. Has no effect on a stream.
    pub fn keep(&mut self, len: u64) {
        if self.temporary().is_some() {
            self.stored = len;
        }
    }

    /// Bytes written so far.
    pub fn written(&self) -> u64 {
        self.written
    }

    /// Truncates or extends the file; the next write is at its end. Not for a stream.
    ///
    /// # Errors
    ///
    /// [`PublishError`] if the file's length cannot be set.
    pub fn set_len(&mut self, len: u64) -> Result<(), PublishError> {
        if let Some(file) = self.file() {
            file.set_len(len)
                .map_err(|e| PublishError::from_io("truncate", self.path(), e))?;
            self.written = len;
        }
        Ok(())
    }

    /// Publishes the dump. In a directory, `info` formats `info.N` for a number; it is called again
    /// if another process takes the number meanwhile.
    ///
    /// All files are synced when this returns.
    ///
    /// # Errors
    ///
    /// [`PublishError::Complete`] if the dump was published and a later step failed; an old dump
    /// that `max` replaces may be removed then, and the new one is kept. After any other error the
    /// directory is unchanged.
    pub fn publish(self, info: &dyn Fn(u32) -> Vec<u8>) -> Result<Published, PublishError> {
        self.publish_with_key(info, None)
    }

    /// Like [`Pending::publish`], with the key block of an encrypted dump, which becomes `key.N` in a
    /// directory.
    ///
    /// # Errors
    ///
    /// Those of [`Pending::publish`].
    pub fn publish_with_key(
        self,
        info: &dyn Fn(u32) -> Vec<u8>,
        key: Option<&[u8]>,
    ) -> Result<Published, PublishError> {
        let longer = self.options.sparse || self.stored > 0;
        if let (true, Some(file)) = (longer, self.file()) {
            file.set_len(self.written)
                .map_err(|e| PublishError::from_io("truncate", self.path(), e))?;
        }
        let Self {
            target,
            options,
            written,
            stored: _,
            mut notes,
        } = self;
        let (path, number) = match target {
            Target::Stream { path, .. } => (path, None),
            Target::Named { mut temporary } => {
                temporary.sync()?;
                let directory = temporary.directory().clone();
                let _names_change = publishing();
                let path = temporary.target().to_owned();
                // It was made for a file's name.
                let name = path.file_name().unwrap_or_default();
                if options.force {
                    temporary.rename(name)?;
                } else if !temporary.link(name)? {
                    return Err(PublishError::Exists { path });
                }
                directory.sync().map_err(|e| e.after_naming(&path))?;
                (path, None)
            }
            Target::Numbered { temporary, .. } => {
                temporary.sync()?;
                let directory = temporary.directory().clone();
                let (path, number) =
                    number(&directory, temporary, &options, (info, key), &mut notes)?;
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

/// Selects the number and renames the files, while other livecore processes are locked out.
fn number(
    directory: &Directory,
    mut core: Temporary,
    options: &Options,
    (info, key_block): (&dyn Fn(u32) -> Vec<u8>, Option<&[u8]>),
    notes: &mut Vec<Notice>,
) -> Result<(PathBuf, u32), PublishError> {
    // Closing `directory` releases the lock. Other users can lock a readable directory, and link(2)
    // claims the number in any case, so the wait is limited.
    if !directory.lock(options.lock_wait) {
        notes.push(Notice::NotLocked {
            path: directory.path.clone(),
            seconds: options.lock_wait.as_secs(),
        });
    }
    loop {
        let numbers = Numbers::read(directory)?;
        let (number, passed) = numbers.next(options.max, options.stem, directory)?;
        let create = |name: &str, mode, bytes: &[u8]| {
            let file = Temporary::create(directory, mode, directory.path.join(name))?;
            fill(&file, bytes)?;
            Ok::<_, PublishError>(file)
        };
        let text = create(&format!("info.{number}"), 0o600, &info(number))?;
        let key_name = format!("key.{number}");
        let key = key_block
            .map(|key| create(&key_name, 0o600, key))
            .transpose()?;
        let bounds = create("bounds", 0o644, bounds_after(number).as_bytes())?;

        // From here on only names change.
        let guard = publishing();
        let suffix = options.codec.suffix();
        let name = format!("{}.{number}{suffix}", options.stem.name());
        let old = numbers.at(number);
        let replaced = old.replaced_by(options.stem);
        if replaced.contains(&name) {
            core.rename(&name)?;
        } else if !core.link(&name)? {
            drop(guard);
            continue;
        }
        let path = directory.path.join(&name);
        let keeps = |file: &&String| **file != name && (key.is_none() || **file != key_name);
        let stale: Vec<_> = replaced.iter().filter(keeps).collect();
        let has_key = key.is_some();
        let new = Companions {
            info: text,
            key,
            bounds,
        };
        if let Err(error) = new.commit(directory, number, &stale) {
            if !replaced.is_empty() {
                // The old dump may be removed, so keep the new one, which is complete.
                return Err(error.after_naming(&path));
            }
            // Do not leave the dump without its info.N and bounds.
            let _ = directory.remove(&name);
            if has_key {
                let _ = directory.remove(&key_name);
            }
            if !old.info {
                let _ = directory.remove(format!("info.{number}"));
            }
            return Err(error);
        }
        notes.extend(passed);
        notes.extend(match options.stem {
            Stem::Livecore => links::update(directory, number, suffix),
            stem => links::replace(directory, number, (stem, suffix), has_key),
        });
        directory.sync().map_err(|e| e.after_naming(&path))?;
        return Ok((path, number));
    }
}

/// The files that accompany a dump in a directory.
struct Companions {
    info: Temporary,
    key: Option<Temporary>,
    bounds: Temporary,
}

impl Companions {
    /// Names the files, and removes the `stale` ones of the number.
    fn commit(
        self,
        directory: &Directory,
        number: u32,
        stale: &[&String],
    ) -> Result<(), PublishError> {
        if let Some(key) = self.key {
            key.rename(format!("key.{number}"))?;
        }
        self.info.rename(format!("info.{number}"))?;
        for stale in stale {
            directory
                .remove(stale)
                .map_err(|e| PublishError::from_io("remove", directory.path.join(stale), e))?;
        }
        directory.sync()?;
        self.bounds.rename("bounds")
    }
}

fn fill(temporary: &Temporary, bytes: &[u8]) -> Result<(), PublishError> {
    temporary
        .file()
        .write_all_at(bytes, 0)
        .map_err(|e| PublishError::from_io("write", temporary.target(), e))?;
    temporary.sync()
}

impl Write for Pending {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        let kept = self.stored.saturating_sub(self.written);
        if kept > 0 {
            let n = buf.len().min(usize::try_from(kept).unwrap_or(usize::MAX));
            self.written += n as u64;
            return Ok(n);
        }
        let n = match &mut self.target {
            Target::Stream { file, .. } => file.write(buf)?,
            Target::Numbered { .. } | Target::Named { .. } => {
                self.write_at(buf, 0)?;
                buf.len()
            }
        };
        self.written += n as u64;
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Output for Pending {
    fn at(&self) -> Option<&dyn WriteAt> {
        (self.temporary().is_some() && self.stored == 0).then_some(self)
    }

    fn skip(&mut self, len: u64) {
        self.written += len;
    }
}

/// Offsets are from the end of what was written.
impl WriteAt for Pending {
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let offset = self.written.saturating_add(offset);
        let (temporary, space) = match &self.target {
            Target::Numbered { temporary, space } => (temporary, Some(space)),
            Target::Named { temporary } => (temporary, None),
            Target::Stream { .. } => return Err(io::ErrorKind::Unsupported.into()),
        };
        put(temporary.file(), bytes, offset, self.options.sparse)?;
        match space.map(|space| space.wrote(bytes.len() as u64)) {
            Some(Err(error)) => Err(io::Error::new(io::ErrorKind::StorageFull, error)),
            _ => Ok(()),
        }
    }
}

fn put(file: &File, bytes: &[u8], offset: u64, holes: bool) -> io::Result<()> {
    if holes {
        sparse::write_at(file, bytes, offset)
    } else {
        file.write_all_at(bytes, offset)
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;
    use std::time::Duration;

    use super::*;
    use crate::publish::directory::fault;
    use std::fs;

    fn publish(to: &Path, max: Option<u32>) -> Result<Published, PublishError> {
        let options = Options::default().max(max.and_then(NonZeroU32::new));
        let mut pending = Destination::parse(to).begin(&options)?;
        pending.write_all(b"new").unwrap();
        pending.publish(&|_| b"info".to_vec())
    }

    /// The dump that the error calls complete, and its contents.
    fn complete(result: Result<Published, PublishError>) -> (PathBuf, Vec<u8>) {
        match result {
            Err(PublishError::Complete { path, .. }) => {
                let content = fs::read(&path).unwrap();
                (path, content)
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn error_of_the_last_sync_names_the_complete_dump() {
        let dir = tempfile::tempdir().unwrap();
        // The first sync of the directory precedes `bounds`, the second is the last step.
        fault::fail_sync_after(1);
        let (path, content) = complete(publish(dir.path(), None));
        assert_eq!(
            (path, &*content),
            (dir.path().join("livecore.0"), &b"new"[..])
        );
        fault::fail_sync_after(0);
        let file = dir.path().join("file");
        let (path, content) = complete(publish(&file, None));
        assert_eq!((path, &*content), (file, &b"new"[..]));
    }

    #[test]
    fn error_after_a_replaced_dump_keeps_the_new_one() {
        for (step, old) in [
            ("sync 0", "livecore.0"),
            ("sync 1", "livecore.0"),
            ("info.0", "livecore.0"),
            ("bounds", "livecore.0"),
            ("livecore.0.gz", "livecore.0.gz"),
            ("info.0", "livecore.0.zst"),
            ("bounds", "livecore.0.zst"),
        ] {
            let dir = tempfile::tempdir().unwrap();
            let at = |name: &str| dir.path().join(name);
            fs::write(at(old), "old").unwrap();
            match step.strip_prefix("sync ") {
                Some(good) => fault::fail_sync_after(good.parse().unwrap()),
                None => {
                    // A directory with a file in it can be neither replaced nor removed.
                    let _ = fs::remove_file(at(step));
                    fs::create_dir_all(at(step).join("x")).unwrap();
                }
            }
            let (path, content) = complete(publish(dir.path(), Some(1)));
            assert_eq!(path, at("livecore.0"), "{step}, {old}");
            assert_eq!(content, b"new", "{step}, {old}");
        }
    }

    #[test]
    fn error_without_an_old_dump_leaves_no_files() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("bounds").join("x")).unwrap();
        let error = publish(dir.path(), None).unwrap_err();
        assert!(matches!(error, PublishError::Io { .. }), "{error}");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn stored_part_is_kept_and_what_follows_is_replaced() {
        let dir = tempfile::tempdir().unwrap();
        for (name, kept, expected) in [
            ("some", 6, "kernelTAIL"),
            ("none", 0, "KERNELTAIL"),
            ("all", 10, "kernel pad"),
        ] {
            let path = dir.path().join(name);
            let mut pending = Destination::parse(&path)
                .begin(&Options::default())
                .unwrap();
            let file = pending.file().unwrap();
            file.write_all_at(b"kernel padding and header", 0).unwrap();
            if kept == 0 {
                file.set_len(0).unwrap();
            }
            pending.keep(kept);
            pending.write_all(b"KERNEL").unwrap();
            pending.write_all(b"TAIL").unwrap();
            let published = pending.publish(&|_| Vec::new()).unwrap();
            assert_eq!(published.len, 10, "{name}");
            assert_eq!(fs::read_to_string(&path).unwrap(), expected, "{name}");
        }
    }

    #[test]
    fn stored_part_needs_no_space() {
        let dir = tempfile::tempdir().unwrap();
        let mut pending = Destination::parse(dir.path())
            .begin(&Options::default())
            .unwrap();
        assert!(pending.reserve(1 << 60).is_err());
        pending.keep(1 << 60);
        pending.reserve(1 << 60).unwrap();
    }

    #[test]
    fn wait_for_the_lock_is_limited() {
        let dir = tempfile::tempdir().unwrap();
        let other = Directory::open(dir.path()).unwrap();
        assert!(other.lock(Duration::ZERO));
        let options = Options::default().lock_wait(Duration::ZERO);
        let pending = Destination::parse(dir.path()).begin(&options).unwrap();
        let published = pending.publish(&|_| Vec::new()).unwrap();
        assert_eq!(published.number, Some(0));
        let not_locked = Notice::NotLocked {
            path: dir.path().to_owned(),
            seconds: 0,
        };
        assert_eq!(published.notes, [not_locked]);
    }
}
