//! Counters, interrupts, devices and files: what the programs that crashinfo(8) runs read.

/// The first `__FreeBSD_version` in which the members of `struct vmmeter` before `v_page_size` point to
/// a counter(9) (`sys/sys/vmmeter.h`).
pub const VMMETER_COUNTERS: u32 = 1_200_000;

/// The first `__FreeBSD_version` in which amd64 stores per-CPU pointers relative to `__pcpu`
/// (`sys/amd64/include/pcpu.h`).
pub const AMD64_RELATIVE_PCPU: u32 = 1_300_000;

/// The largest plausible length of a name in `intrnames`. `INTRNAME_LEN` is 20 on x86 and powerpc
/// (`sys/x86/x86/intr_machdep.c`) and 39 on the others (`sys/kern/subr_intr.c`).
pub const INTRNAME_MAX: u64 = 256;

/// `DEVSTAT_READ`: the index of reads in the arrays of `struct devstat` (`sys/sys/devicestat.h`).
pub const DEVSTAT_READ: u64 = 1;
/// `DEVSTAT_WRITE`
pub const DEVSTAT_WRITE: u64 = 2;

/// `DDB_CAPTURE_MAXBUFSIZE`: the largest capture buffer of ddb(4) in bytes (`sys/ddb/db_capture.c`).
pub const DDB_CAPTURE_MAXBUFSIZE: u64 = 5 << 20;

/// Names of the values of `f_type` in `struct file`, `DTYPE_NONE` to `DTYPE_JAILDESC`
/// (`sys/sys/file.h`).
pub const FILE_TYPES: [&str; 17] = [
    "none", "vnode", "socket", "pipe", "fifo", "kqueue", "crypto", "mqueue", "shm", "sem", "pts",
    "dev", "procdesc", "eventfd", "timerfd", "inotify", "jaildesc",
];
