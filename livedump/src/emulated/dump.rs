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

/// Checks a request in the kernel's order, after the privilege check. Returns a duplicate of the
/// descriptor.
pub(super) fn check(request: &DumpRequest) -> Result<(File, Codec), MemError> {
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
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile
        | FileType::Directory
        | FileType::CharacterDevice
        | FileType::BlockDevice => {}
        _ => return Err(MemError::NotAFile { fd }),
    }
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
    // On some systems pwrite(2) appends to such a file, unlike writes by a kernel.
    if flags.contains(OFlags::APPEND) {
        rustix::fs::fcntl_setfl(&file, flags.difference(OFlags::APPEND)).map_err(|e| {
            MemError::Io {
                doing: "check the file descriptor",
                source: e.into(),
            }
        })?;
    }
    Ok((file, codec))
}

/// `machdep.dump_retry_count`: the number of attempts on a full file system.
const TRIES: u32 = 5;

/// Writes the raw live file to `file`.
pub(super) fn write(taken: &Taken, codec: Codec, file: &File) -> Result<(), MemError> {
    let mut write_at = |bytes: &[u8], offset| file.write_at(bytes, offset);
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
