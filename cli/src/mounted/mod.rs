//! A dump as a read-only file system.
//!
//! | file | contents |
//! |---|---|
//! | `vmcore` | the uncompressed payload |
//! | `elf` | the core of `livecore convert --to elf` |
//! | `physmem` | physical memory by address; pages that are not in the dump are holes |
//! | `dmesg` | the message buffer |
//! | `info.json` | the document of `livecore info --json` |
//! | `threads/TID/registers`, `stack` | the registers and the backtrace of a thread |
//! | `proc/PID/status`, `threads` | the properties and the thread ids of a process |
//!
//! No file is stored: a read computes its bytes. The texts of threads and processes are computed when
//! they are opened, and their size is 0 before that, as in procfs(5).

mod contents;
mod event;
mod node;

use std::collections::HashMap;
use std::ffi::OsStr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::SyncSender;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, SystemTime};

use fuser::{
    Errno, FileAttr, FileHandle, FileType, Filesystem, FopenFlags, Generation, INodeNo, LockOwner,
    OpenAccMode, OpenFlags, ReplyAttr, ReplyData, ReplyDirectory, ReplyEmpty, ReplyEntry,
    ReplyLseek, ReplyOpen, Request,
};

pub(crate) use contents::{Contents, inside};
pub(crate) use event::Event;
use node::Node;

/// The time for which the kernel may keep names and attributes, which do not change.
const KEEP: Duration = Duration::from_secs(3600);

/// The number of open files with a computed text.
const TEXTS: usize = 4096;

/// SEEK_DATA and SEEK_HOLE, on Linux and FreeBSD.
const SEEK_DATA: i32 = 3;
const SEEK_HOLE: i32 = 4;

/// The file system. It is empty until its contents are set: a search for the kernel may look into it.
pub(crate) struct Files {
    contents: Arc<OnceLock<Contents>>,
    owner: (u32, u32),
    time: SystemTime,
    /// The texts of open files.
    texts: Mutex<HashMap<u64, Arc<Vec<u8>>>>,
    next: AtomicU64,
    events: SyncSender<Event>,
}

impl Files {
    /// A file system of the calling user, whose files have the modification time `time`. `events`
    /// receives its end.
    pub(crate) fn new(
        contents: Arc<OnceLock<Contents>>,
        time: SystemTime,
        events: SyncSender<Event>,
    ) -> Self {
        let (user, group) = (rustix::process::geteuid(), rustix::process::getegid());
        Self {
            contents,
            owner: (user.as_raw(), group.as_raw()),
            time,
            texts: Mutex::default(),
            next: AtomicU64::new(1),
            events,
        }
    }

    /// The contents; until they are known, the file system has only its empty root directory.
    fn contents(&self) -> Result<&Contents, Errno> {
        self.contents.get().ok_or(Errno::ENOENT)
    }

    fn attributes(&self, node: Node) -> Result<FileAttr, Errno> {
        let (size, stored) = match node {
            Node::Root => (0, 0),
            Node::Physmem => {
                let contents = self.contents()?;
                (contents.memory_end(), contents.memory_bytes())
            }
            _ => {
                let size = node.size(self.contents()?).ok_or(Errno::EIO)?;
                (size, size)
            }
        };
        let directory = node.is_directory();
        Ok(FileAttr {
            ino: INodeNo(node.number()),
            size,
            blocks: stored.div_ceil(512),
            atime: self.time,
            mtime: self.time,
            ctime: self.time,
            crtime: self.time,
            kind: kind(node),
            perm: if directory { 0o500 } else { 0o400 },
            nlink: if directory { 2 } else { 1 },
            uid: self.owner.0,
            gid: self.owner.1,
            rdev: 0,
            blksize: 1 << 16,
            flags: 0,
        })
    }

    fn node(&self, ino: INodeNo) -> Result<Node, Errno> {
        match ino {
            INodeNo::ROOT => Ok(Node::Root),
            _ => Node::of_number(ino.0, self.contents()?).ok_or(Errno::ENOENT),
        }
    }

    fn found(&self, parent: INodeNo, name: &OsStr) -> Result<FileAttr, Errno> {
        let parent = self.node(parent)?;
        let name = name.to_str().ok_or(Errno::ENOENT)?;
        let child = parent.child(name, self.contents()?);
        self.attributes(child.ok_or(Errno::ENOENT)?)
    }

    fn opened(&self, ino: INodeNo, flags: OpenFlags) -> Result<(FileHandle, FopenFlags), Errno> {
        let node = self.node(ino)?;
        if flags.acc_mode() != OpenAccMode::O_RDONLY {
            return Err(Errno::EROFS);
        }
        if !node.is_computed() {
            return Ok((FileHandle(0), FopenFlags::FOPEN_KEEP_CACHE));
        }
        let text = node.text(self.contents()?).ok_or(Errno::EIO)?;
        let mut texts = self.texts.lock().unwrap_or_else(PoisonError::into_inner);
        if texts.len() >= TEXTS {
            return Err(Errno::ENFILE);
        }
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        texts.insert(number, Arc::new(text));
        Ok((FileHandle(number), FopenFlags::FOPEN_DIRECT_IO))
    }

    fn bytes(&self, ino: INodeNo, fh: FileHandle, at: u64, size: u32) -> Result<Vec<u8>, Errno> {
        let (node, contents) = (self.node(ino)?, self.contents()?);
        let text = {
            let texts = self.texts.lock().unwrap_or_else(PoisonError::into_inner);
            texts.get(&fh.0).cloned()
        };
        let of = |text: &[u8]| {
            let start = usize::try_from(at).map_or(text.len(), |at| at.min(text.len()));
            let end = text.len().min(start.saturating_add(size as usize));
            text[start..end].to_vec()
        };
        if let Some(text) = text {
            return Ok(of(&text));
        }
        let end = node.size(contents).ok_or(Errno::EIO)?;
        let len = u64::from(size).min(end.saturating_sub(at));
        let mut buf = vec![0; len as usize]; // at most `size`
        let got = match node {
            Node::Vmcore => contents.read_payload(&mut buf, at),
            Node::Elf => contents.read_elf(&mut buf, at),
            Node::Physmem => contents.read_memory(&mut buf, at),
            _ => return Ok(of(node.stored(contents).ok_or(Errno::EISDIR)?)),
        };
        buf.truncate(got.map_err(|_| Errno::EIO)?);
        Ok(buf)
    }

    fn sought(&self, ino: INodeNo, at: i64, whence: i32) -> Result<i64, Errno> {
        let (node, contents) = (self.node(ino)?, self.contents()?);
        let end = node.size(contents).ok_or(Errno::EIO)?;
        let start = u64::try_from(at)
            .ok()
            .filter(|at| *at < end)
            .ok_or(Errno::ENXIO)?;
        let found = match (node, whence) {
            (Node::Physmem, SEEK_DATA) => {
                contents.next_run(start, true, end).ok_or(Errno::ENXIO)?
            }
            (Node::Physmem, SEEK_HOLE) => contents.next_run(start, false, end).unwrap_or(end),
            (_, SEEK_DATA) => start,
            (_, SEEK_HOLE) => end,
            _ => return Err(Errno::EINVAL),
        };
        Ok(i64::try_from(found.min(end)).unwrap_or(i64::MAX))
    }
}

fn kind(node: Node) -> FileType {
    match node.is_directory() {
        true => FileType::Directory,
        false => FileType::RegularFile,
    }
}

impl Filesystem for Files {
    fn destroy(&mut self) {
        // The main thread may have ended.
        let _ = self.events.send(Event::Ended);
    }

    fn lookup(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        match self.found(parent, name) {
            Ok(attributes) => reply.entry(&KEEP, &attributes, Generation(0)),
            Err(error) => reply.error(error),
        }
    }

    fn getattr(&self, _: &Request, ino: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        match self.node(ino).and_then(|node| self.attributes(node)) {
            Ok(attributes) => reply.attr(&KEEP, &attributes),
            Err(error) => reply.error(error),
        }
    }

    fn open(&self, _: &Request, ino: INodeNo, flags: OpenFlags, reply: ReplyOpen) {
        match self.opened(ino, flags) {
            Ok((handle, flags)) => reply.opened(handle, flags),
            Err(error) => reply.error(error),
        }
    }

    fn read(
        &self,
        _: &Request,
        ino: INodeNo,
        fh: FileHandle,
        offset: u64,
        size: u32,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyData,
    ) {
        match self.bytes(ino, fh, offset, size) {
            Ok(bytes) => reply.data(&bytes),
            Err(error) => reply.error(error),
        }
    }

    fn release(
        &self,
        _: &Request,
        _: INodeNo,
        fh: FileHandle,
        _: OpenFlags,
        _: Option<LockOwner>,
        _: bool,
        reply: ReplyEmpty,
    ) {
        let mut texts = self.texts.lock().unwrap_or_else(PoisonError::into_inner);
        texts.remove(&fh.0);
        reply.ok();
    }

    fn readdir(
        &self,
        _: &Request,
        ino: INodeNo,
        _: FileHandle,
        offset: u64,
        mut reply: ReplyDirectory,
    ) {
        let listed = self.node(ino).and_then(|node| {
            if !node.is_directory() {
                return Err(Errno::ENOTDIR);
            }
            let start = usize::try_from(offset).unwrap_or(usize::MAX);
            let parent = node.parent();
            let dots = [(".".to_owned(), node), ("..".to_owned(), parent)];
            let children = self.contents.get().map(|contents| node.children(contents));
            let entries = dots.into_iter().chain(children.into_iter().flatten());
            for (number, (name, child)) in entries.enumerate().skip(start) {
                let next = number as u64 + 1;
                if reply.add(INodeNo(child.number()), next, kind(child), name) {
                    break;
                }
            }
            Ok(())
        });
        match listed {
            Ok(()) => reply.ok(),
            Err(error) => reply.error(error),
        }
    }

    fn lseek(
        &self,
        _: &Request,
        ino: INodeNo,
        _: FileHandle,
        offset: i64,
        whence: i32,
        reply: ReplyLseek,
    ) {
        match self.sought(ino, offset, whence) {
            Ok(offset) => reply.offset(offset),
            Err(error) => reply.error(error),
        }
    }
}
