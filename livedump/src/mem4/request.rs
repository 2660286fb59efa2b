//! The argument of MEM_KERNELDUMP.

use std::os::fd::RawFd;

/// `struct mem_livedump_arg`: the argument of MEM_KERNELDUMP.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct DumpRequest {
    /// The descriptor of the dump's file, open for writing in this process.
    pub fd: RawFd,
    /// Must be 0.
    pub flags: i32,
    /// 0 none, 1 gzip, 2 zstd.
    pub compression: u8,
}
