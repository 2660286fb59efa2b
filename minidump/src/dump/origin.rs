//! Where the kerneldumpheader of a dump comes from.

use std::path::PathBuf;

/// The source of a dump's kerneldumpheader.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HeaderOrigin {
    /// The file.
    File {
        /// The offset of the header.
        offset: u64,
    },
    /// The seal. The header is that of the kernel or another producer.
    Seal,
    /// The seal. The header was created from an info file when the dump was converted.
    SealFromInfo,
    /// The seal. The header was created from the payload when the dump was converted.
    SealFromPayload,
    /// A note of the ELF core.
    ElfNote,
    /// The info file of the dump, from which the header was created.
    Info(PathBuf),
    /// There is no header.
    Absent,
}
