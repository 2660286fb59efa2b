//! MEM_KERNELDUMP, emulated: the raw live file, as the kernel's vnode dumper leaves it.
//!
//! ```text
//!  0               C        R = C rounded up to a page   R + 512
//!  │ data as stored │ zeros │ kerneldumpheader           │
//! ```
//!
//! Data goes to the file's start whatever its position, and nothing is cut off: a longer file
//! keeps what stands behind the header (FreeBSD `sys/kern/kern_vnodedumper.c`).

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::RawFd;
use std::os::unix::fs::FileExt;

use compress::Codec;
use minidump::KernelDumpHeader;
use minidump::defs::kerneldump::{
    COMPRESSION_GZIP, COMPRESSION_NONE, COMPRESSION_ZSTD, LIVE_BLOCKSIZE,
};
use rustix::fs::{FileType, OFlags};

use super::{MemError, kernel_stream};
use crate::place::error::is_full;
use crate::sys::descriptor;
use crate::take::Taken;

/// `struct mem_livedump_arg`: the argument of MEM_KERNELDUMP.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct DumpRequest {
    /// Where the dump goes: a descriptor of this process, open for writing, of a file.
    pub fd: RawFd,
    /// Must be 0.
    pub flags: i32,
    /// 0 none, 1 gzip, 2 zstd.
    pub compression: u8,
}

/// Checks a request as the kernel does, in its order, after the privilege; the file is a
/// descriptor of our own.
pub(super) fn check(request: &DumpRequest) -> Result<(File, Codec), MemError> {
    let fd = request.fd;
    if request.flags != 0 {
        return Err(MemError::BadFlags {
            flags: request.flags,
        });
    }
    let file = File::from(descriptor::duplicate(fd).map_err(|_| MemError::BadDescriptor { fd })?);
    let stat = rustix::fs::fstat(&file).map_err(|e| MemError::Io {
        doing: "fstat",
        source: e.into(),
    })?;
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile
        | FileType::Directory
        | FileType::CharacterDevice
        | FileType::BlockDevice => {}
        _ => return Err(MemError::NotAFile { fd }),
    }
    let flags = rustix::fs::fcntl_getfl(&file).map_err(|e| MemError::Io {
        doing: "fcntl",
        source: e.into(),
    })?;
    if !flags.intersects(OFlags::WRONLY | OFlags::RDWR) {
        return Err(MemError::BadDescriptor { fd });
    }
    let codec = match request.compression {
        COMPRESSION_NONE => Codec::None,
        COMPRESSION_GZIP => Codec::Gzip,
        COMPRESSION_ZSTD => Codec::Zstd,
        compression => return Err(MemError::BadCompression { compression }),
    };
    // pwrite(2) appends on some systems where a kernel's own writes do not.
    if flags.contains(OFlags::APPEND) {
        rustix::fs::fcntl_setfl(&file, flags.difference(OFlags::APPEND)).map_err(|e| {
            MemError::Io {
                doing: "fcntl",
                source: e.into(),
            }
        })?;
    }
    Ok((file, codec))
}

/// Writes the raw live file.
pub(super) fn write(taken: &Taken, codec: Codec, file: &File) -> Result<(), MemError> {
    let failed = |source: io::Error| {
        if is_full(&source) {
            MemError::NoSpace(source)
        } else {
            MemError::Io {
                doing: "write the dump",
                source,
            }
        }
    };
    let mut out = FromStart { file, offset: 0 };
    let stored = kernel_stream::write(&taken.payload(), codec, &mut out).map_err(failed)?;
    let padded = stored.next_multiple_of(LIVE_BLOCKSIZE.into());
    let zeros = vec![0; (padded - stored) as usize];
    out.write_all(&zeros).map_err(failed)?;
    let header = KernelDumpHeader {
        dumplength: stored,
        compression: KernelDumpHeader::compression_of(codec),
        ..taken.header()
    };
    out.write_all(&header.encode()).map_err(failed)
}

/// A file from offset 0 on, whatever its position.
struct FromStart<'a> {
    file: &'a File,
    offset: u64,
}

impl Write for FromStart<'_> {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        let n = self.file.write_at(buf, self.offset)?;
        self.offset += n as u64;
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
