//! Emulated MEM_KERNELDUMP: writes the raw live file as the kernel's vnode dumper does.
//!
//! ```text
//!  0               C        R = C rounded up to a page   R + 512
//!  │ data as stored │ zeros │ kerneldumpheader           │
//! ```
//!
//! Data is written from the file's start, whatever its position. The file is not truncated: a
//! longer one keeps the bytes after the header (FreeBSD `sys/kern/kern_vnodedumper.c`).

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;

use livecore_compress::{Codec, ReadAt};
use livecore_defs::kerneldump::{
    COMPRESSION_GZIP, COMPRESSION_NONE, COMPRESSION_ZSTD, LIVE_BLOCKSIZE,
};
use livecore_minidump::KernelDumpHeader;
use rustix::fs::{FileType, OFlags};

use super::kernel_stream::Stream;
use crate::mem4::{DumpRequest, MemError};
use crate::publish::is_full;
use crate::sys::descriptor;
use crate::take::Taken;

/// The file of a dump.
pub(super) struct Target {
    file: File,
    /// A device, to which the kernel writes nothing: the vnode of a device has no write operation
    /// (`devfs_specops`), and the dump fails with EIO at its first block.
    is_device: bool,
    /// The descriptor has O_APPEND again when the dump ends.
    _append: Option<Append>,
}

/// Restores O_APPEND, which belongs to the open file and not to the descriptor.
struct Append(File);

impl Drop for Append {
    fn drop(&mut self) {
        if let Ok(flags) = rustix::fs::fcntl_getfl(&self.0) {
            let _ = rustix::fs::fcntl_setfl(&self.0, flags | OFlags::APPEND);
        }
    }
}

/// Checks a request in the kernel's order, after the privilege check.
///
/// A FIFO is refused like a pipe. A kernel accepts it, and panics at the first write (15.0:
/// `fifo_specops` and the `vop_vector` of FIFOs of each file system have `VOP_PANIC`).
pub(super) fn check(request: &DumpRequest) -> Result<(Target, Codec), MemError> {
    let fd = request.fd;
    if request.flags != 0 {
        return Err(MemError::BadFlags {
            flags: request.flags,
        });
    }
    let file = File::from(descriptor::duplicate(fd).map_err(|_| MemError::BadDescriptor { fd })?);
    let stat = rustix::fs::fstat(&file).map_err(|e| MemError::Io {
        doing: "check the file",
        source: e.into(),
    })?;
    let is_device = match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile | FileType::Directory => false,
        FileType::CharacterDevice | FileType::BlockDevice => true,
        _ => return Err(MemError::NotAFile { fd }),
    };
    let flags = rustix::fs::fcntl_getfl(&file).map_err(|e| MemError::Io {
        doing: "check the file descriptor",
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
    let (file, append) = match flags.contains(OFlags::APPEND) {
        true => without_append(file, flags)?,
        false => (file, None),
    };
    let target = Target {
        file,
        is_device,
        _append: append,
    };
    Ok((target, codec))
}

/// `file` without O_APPEND: pwrite(2) appends to such a file, unlike writes by a kernel. It is opened
/// once more if the system can do that. Otherwise the caller's descriptor lacks the flag during the
/// dump.
fn without_append(file: File, flags: OFlags) -> Result<(File, Option<Append>), MemError> {
    let path = format!("/proc/self/fd/{}", file.as_raw_fd());
    if let Ok(again) = File::options().write(true).open(path) {
        return Ok((again, None));
    }
    let failed = |source| MemError::Io {
        doing: "check the file descriptor",
        source,
    };
    let append = Append(file.try_clone().map_err(failed)?);
    let cleared = rustix::fs::fcntl_setfl(&file, flags.difference(OFlags::APPEND));
    cleared.map_err(|e| failed(e.into()))?;
    Ok((file, Some(append)))
}

/// `machdep.dump_retry_count`: the number of attempts on a full file system.
const TRIES: u32 = 5;

/// Writes the raw live file to `target`.
pub(super) fn write(taken: &Taken, codec: Codec, target: &Target) -> Result<(), MemError> {
    let mut write_at = |bytes: &[u8], offset| match target.is_device {
        true => Err(io::Error::from_raw_os_error(libc::EIO)),
        false => target.file.write_at(bytes, offset),
    };
    write_to(&taken.payload(), taken.header(), codec, &mut write_at)
}

/// Writes bytes at an offset, and returns how many.
type WriteAt<'a> = &'a mut dyn FnMut(&[u8], u64) -> io::Result<usize>;

/// The driver's loop: after ENOSPC, and no other error, the kernel starts the dump again at offset
/// 0. It neither truncates the file nor resets the compressor.
fn write_to(
    payload: &dyn ReadAt,
    header: KernelDumpHeader,
    codec: Codec,
    write_at: WriteAt<'_>,
) -> Result<(), MemError> {
    let failed = |source: io::Error| {
        if is_full(&source) {
            MemError::NoSpace(source)
        } else if codec != Codec::None && source.raw_os_error() == Some(libc::EIO) {
            MemError::CompressorFailed
        } else {
            MemError::Io {
                doing: "write the dump",
                source,
            }
        }
    };
    let mut stream = Stream::new(codec).map_err(failed)?;
    let mut tries = 0;
    loop {
        tries += 1;
        let mut out = FromStart {
            write_at,
            offset: 0,
        };
        match once(payload, &header, codec, &mut stream, &mut out) {
            Err(e) if e.kind() == io::ErrorKind::StorageFull && tries < TRIES => {}
            result => return result.map_err(failed),
        }
    }
}

fn once(
    payload: &dyn ReadAt,
    header: &KernelDumpHeader,
    codec: Codec,
    stream: &mut Stream,
    out: &mut FromStart<'_>,
) -> io::Result<()> {
    let stored = stream.write(payload, out)?;
    let padded = stored.next_multiple_of(LIVE_BLOCKSIZE.into());
    let zeros = vec![0; (padded - stored) as usize];
    out.write_all(&zeros)?;
    let header = KernelDumpHeader {
        dumplength: stored,
        compression: KernelDumpHeader::compression_of(codec),
        ..header.clone()
    };
    out.write_all(&header.encode())
}

/// Writes to a file from offset 0, whatever its position.
struct FromStart<'a> {
    write_at: WriteAt<'a>,
    offset: u64,
}

impl Write for FromStart<'_> {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        let n = (self.write_at)(buf, self.offset)?;
        self.offset += n as u64;
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEN: usize = 300_000;

    #[test]
    fn o_append_is_restored_where_the_file_cannot_be_opened_again() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("dump");
        let open = |path| File::options().append(true).create(true).open(path);
        let caller = open(&path).unwrap();
        let flags = || rustix::fs::fcntl_getfl(&caller).unwrap();
        let append = Append(caller.try_clone().unwrap());
        rustix::fs::fcntl_setfl(&caller, flags().difference(OFlags::APPEND)).unwrap();
        drop(append);
        assert!(flags().contains(OFlags::APPEND));
    }

    fn payload() -> Vec<u8> {
        // Data that does not compress well.
        let mut x = 1_u64;
        std::iter::repeat_with(|| {
            x = x.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (x >> 58) as u8
        })
        .take(LEN)
        .collect()
    }

    /// Runs a dump onto a disk that is full after `limit` bytes during the first `full` attempts.
    /// Returns the result, the number of attempts, and the file.
    fn dump(codec: Codec, limit: u64, full: u32) -> (Result<(), MemError>, u32, Vec<u8>) {
        let mut file = Vec::<u8>::new();
        let mut tries = 0;
        let mut write_at = |bytes: &[u8], offset: u64| {
            tries += u32::from(offset == 0);
            if tries <= full && offset + bytes.len() as u64 > limit {
                return Err(io::Error::from_raw_os_error(libc::ENOSPC));
            }
            let (start, end) = (offset as usize, offset as usize + bytes.len());
            file.resize(file.len().max(end), 0);
            file[start..end].copy_from_slice(bytes);
            Ok(bytes.len())
        };
        let header = KernelDumpHeader::default();
        let result = write_to(&payload(), header, codec, &mut write_at);
        (result, tries, file)
    }

    #[test]
    fn dump_is_attempted_five_times_on_enospc() {
        for codec in [Codec::None, Codec::Zstd] {
            let (result, tries, _) = dump(codec, 70_000, u32::MAX);
            let error = result.unwrap_err();
            assert!(matches!(error, MemError::NoSpace(_)), "{error}");
            assert_eq!(error.errno(), libc::ENOSPC);
            assert_eq!(tries, 5, "{codec}");
        }
    }

    /// As FreeBSD 15.0 does.
    #[test]
    fn gzip_on_a_full_file_system_is_eio_at_the_second_try() {
        for full in [1, u32::MAX] {
            let (result, tries, _) = dump(Codec::Gzip, 70_000, full);
            let error = result.unwrap_err();
            assert!(matches!(error, MemError::CompressorFailed), "{error}");
            assert_eq!(error.errno(), libc::EIO);
            assert_eq!(tries, 1, "the second try fails before it writes");
        }
    }

    #[test]
    fn fifth_attempt_succeeds_for_an_uncompressed_dump_only() {
        let (result, tries, file) = dump(Codec::None, 70_000, 4);
        result.unwrap();
        assert_eq!(tries, 5);
        assert!(file[..LEN] == payload());
        assert_eq!(&file[file.len() - 512..][..19], b"FreeBSD Kernel Dump");

        // The compressor continues where it was, at offset 0 of the file.
        let (result, tries, file) = dump(Codec::Zstd, 70_000, 1);
        result.unwrap();
        assert_eq!(tries, 2);
        assert!(!zstd::decode_all(&*file).is_ok_and(|back| back == payload()));
    }

    #[test]
    fn errors_other_than_enospc_end_the_dump() {
        let mut tries = 0;
        let mut write_at = |_: &[u8], _| {
            tries += 1;
            Err(io::Error::from_raw_os_error(libc::EDQUOT))
        };
        let header = KernelDumpHeader::default();
        let error = write_to(&payload(), header, Codec::None, &mut write_at).unwrap_err();
        assert_eq!(error.errno(), libc::EDQUOT);
        assert_eq!(tries, 1);
    }
}
