//! Text dumps: a tar archive of text files.
//!
//! FreeBSD `sys/ddb/db_textdump.c`.

/// Size of the blocks of the archive and of the dump device.
pub const BLOCK: u64 = 512;

/// The magic of a member header.
pub const USTAR: &[u8] = b"ustar";
/// Its offset in the header.
pub const USTAR_OFFSET: usize = 257;

/// Captured output of ddb(4).
pub const DDB: &str = "ddb.txt";
/// The kernel configuration.
pub const CONFIG: &str = "config.txt";
/// The message buffer, without NULs.
pub const MSGBUF: &str = "msgbuf.txt";
/// The panic message.
pub const PANIC: &str = "panic.txt";
/// The kernel version.
pub const VERSION: &str = "version.txt";

/// All members, in the order of a kernel.
pub const MEMBERS: [&str; 5] = [DDB, CONFIG, MSGBUF, PANIC, VERSION];

/// Maximum size of `panic.txt` and `version.txt`.
pub const SHORT_MAX: u64 = 512;
