//! Stable ids of errors, warnings and notes, for programs.
//!
//! The comment of an id is its meaning in docs/json.md; a test compares both.

use clap::ValueEnum;
use serde::Serialize;

/// The id of a message, in lower case with hyphens. An id keeps its meaning in later versions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Id {
    // An exit code without a closer reason.
    /// An operation failed for a reason without its own id
    Failed,
    /// Input contradicts its format or itself; has region, found and expected
    Broken,
    /// This kind or version of input is not supported
    Unsupported,
    /// The command line is wrong for a reason without its own id
    Usage,

    // The command line.
    /// An option or verb does not exist
    UnknownArgument,
    /// A value of an option or argument is invalid
    InvalidValue,
    /// A required option or argument is missing
    MissingArgument,
    /// Options or arguments exclude each other
    ConflictingArguments,
    /// The output is a directory, and must be a file
    OutputIsDirectory,
    /// Standard output is a terminal, and the output is a binary dump
    BinaryToTerminal,
    /// The file name has the suffix of a compression that livecore cannot write
    UnknownSuffix,
    /// Memory is modified only with --write
    Unconfirmed,
    /// No verifier rule has this id
    NoRule,

    // The system.
    /// A file, directory or socket does not exist
    NotFound,
    /// The system denied access
    PermissionDenied,
    /// The output exists already
    Exists,
    /// The file system is full, or a quota or file size limit is reached
    NoSpace,
    /// An operation of the system failed for another reason
    Io,
    /// The memory limit would be exceeded; raise it with --memory
    Memory,
    /// A limit of the format would be exceeded
    Limit,
    /// Bytes received from object stores; only with --verbose
    StoreTraffic,
    /// The work was cancelled
    Cancelled,
    /// The reader of standard output or a pipe exited
    ReaderGone,
    /// Standard input or standard output is closed
    StreamClosed,
    /// The sandbox is required and not available
    NoSandbox,
    /// A program that livecore started failed
    ProgramFailed,
    /// A path contains characters that a debugger would interpret
    UnsafePath,
    /// A program that livecore needs is not installed
    ProgramMissing,

    // Output files.
    /// The dump is complete, and a later step failed
    LaterStepFailed,
    /// An existing file may have been planted by another user
    UntrustedFile,
    /// Other dumps use all numbers that --rotate allows
    NumbersTaken,

    // Dumps and their memory.
    /// The input is not a kernel dump
    NotADump,
    /// The dump is encrypted, and its key is missing
    Encrypted,
    /// The private key does not decrypt the key of the dump
    WrongKey,
    /// A file is not a usable key
    KeyFile,
    /// The kernel does not map the virtual address
    NotMapped,
    /// The page is not in the dump
    NotInDump,
    /// The page was left out of the dump by --exclude
    Excluded,
    /// The page is in the bitmap, and the file ends before it
    BeyondEnd,
    /// The page tables of a virtual address cannot be read
    TablesUnreadable,
    /// The range extends beyond the end of the address space
    BeyondAddressSpace,
    /// Salvage recovered no sound dump
    NotRecovered,
    /// The directory has no dump, or several dumps, with this number
    NoSuchDump,

    // Kernels.
    /// No file that was searched is the kernel of the dump
    KernelNotFound,
    /// The file is the kernel of another dump
    OtherKernel,
    /// The kernel is required and was not given
    NoKernelFile,
    /// The kernel of the file is not in memory
    KernelNotInMemory,
    /// The kernel is in memory at other addresses than the image states
    KernelMisplaced,
    /// The kernel has no such symbol
    NoSymbol,
    /// A symbol has no size, or its value is not an address
    UnusableSymbol,
    /// An address or number is invalid
    InvalidAddress,
    /// The dump has no such thread
    NoThread,
    /// The process does not exist
    NoProcess,

    // QEMU guests.
    /// The image or guest has no such CPU
    NoCpu,
    /// The registers of a running guest are not a consistent snapshot; use --pause
    RunningCpu,
    /// QEMU has not started the guest
    GuestNotStarted,
    /// The memory of the running guest cannot be read; use --pause
    MustPause,
    /// No program listens at the QMP socket
    QmpConnect,
    /// QEMU closed the connection
    QmpGone,
    /// QEMU did not answer in time
    QmpTimeout,
    /// QEMU answered a command with an error
    QmpRefused,
    /// An answer violates QMP; has region, found and expected
    QmpProtocol,
    /// No gdb stub listens at the address
    GdbConnect,
    /// The gdb stub closed the connection
    GdbGone,
    /// The gdb stub did not answer in time
    GdbTimeout,
    /// The gdb stub answered a packet with an error
    GdbRefused,
    /// An answer violates the protocol of gdb; has region, found and expected
    GdbProtocol,

    // mem(4).
    /// A file descriptor is not open for the operation
    BadDescriptor,
    /// The kernel writes a live dump only to a regular file
    NotAFile,
    /// The kernel rejects an argument of the operation
    BadRequest,
    /// Another live dump is running
    AnotherDumpRunning,
    /// The kernel does not support live dumps; use --walk
    KernelCannotLiveDump,
    /// The live dump was cancelled at the system console
    CancelledAtConsole,
    /// The kernel's compressor failed
    CompressorFailed,
    /// There is no memory device
    NoDevice,
    /// The kernel cannot translate addresses
    NoExtract,
    /// No memory can be accessed at the address
    BadAddress,
    /// The machine or its firmware has no memory ranges
    NoRanges,
    /// The hardware cannot represent the memory range
    BadRange,
    /// The memory range has another owner
    RangeBusy,
    /// All memory ranges are in use
    NoFreeRange,
    /// There is no such memory range
    NoSuchRange,
    /// The memory range has an unknown type
    UnknownRangeType,
    /// The memory range cannot be removed
    FixedRange,
    /// mem(4) needs FreeBSD
    NeedsFreebsd,
    /// The machine keeps no changes
    Unchangeable,

    // Emulated machines.
    /// The machine description is not valid TOML, or has an unknown key
    DescriptionSyntax,
    /// A value in the machine description is invalid
    DescriptionValue,
    /// The contents do not fit into the described memory
    DescriptionTooLarge,
    /// The kernel cannot be compiled
    CompilerFailed,

    // Warnings, and notes without effect on the exit code.
    /// Pages at the end of a minidump are missing
    PagesMissing,
    /// Memory at the end of a full dump or memory image is missing
    MemoryMissing,
    /// The compressed stream ends early
    StreamEndsEarly,
    /// Missing pages are read as zeros, as requested
    ZeroTail,
    /// Pages were missing when the dump was sealed, and are zeros
    FilledTail,
    /// There are bytes after the end of the data
    TrailingBytes,
    /// Bits of the bitmap have no pages
    StrayBits,
    /// savecore(8) has already saved the dump
    AlreadySaved,
    /// The dump was not cleared, and is still on its device
    DeviceKept,
    /// The dump on a device was cleared
    DeviceCleared,
    /// The device or the image contains no dump
    NoDumpOnDevice,
    /// An option has no effect on this dump
    OptionUnused,
    /// The parity of the kerneldumpheader is wrong
    Parity,
    /// Header and payload have different architectures
    ArchitectureDiffers,
    /// The info file is invalid or describes another dump
    InfoFile,
    /// The minidump in the full dump is not used
    EmbeddedMinidump,
    /// Salvaged parts of the dump have no valid checksum
    Unproven,
    /// The seal is damaged
    SealDamaged,
    /// A field of a header, or a section, has a value that no kernel writes
    WrongField,
    /// The memory image or full dump contradicts itself
    ImageContradiction,
    /// The memory image lacks pages that the kernel dumps
    PagesNotInImage,
    /// Kernel and dump have no property to compare
    KernelNotCompared,
    /// A kernel structure is inconsistent or cannot be read
    KernelData,
    /// The start of the oldest line in the message buffer is unknown
    MsgbufOrder,
    /// The message buffer is empty
    MsgbufEmpty,
    /// A warning without its own id
    Warning,
    /// Other users can connect to the server
    OpenServer,
    /// A single compressed stream is decoded once, from its start
    Decompressing,
    /// The ELF core contains no minidump and cannot be converted back
    CoreOnly,
    /// The ELF core lacks threads, or pages whose page tables are not in the dump
    CoreIncomplete,
    /// The pack lacks a file that was not found, or that --limit excludes
    PackIncomplete,
    /// The new file cannot state what --exclude and --redact left out
    ReceiptLost,
    /// No server in DEBUGINFOD_URLS provides the kernel or its debug file
    NotDownloaded,
    /// The search found this kernel file, and livecore uses it
    KernelUsed,
    /// The search found kernel files that are not the kernel of the dump
    KernelsRejected,
    /// An option is deprecated; the text names its replacement
    Deprecated,
    /// The panic message of the dumped kernel
    Panic,
    /// The version of the dumped kernel
    KernelVersion,
    /// syslogd(8) had not read messages of the dumped kernel
    UnreadMessages,
    /// A line about the dump for the user of a debugger
    Greeting,
    /// A module file is not given to the debugger for a reason without its own id
    ModuleSkipped,
    /// A file has the name of a loaded module and is not that module
    OtherModule,
    /// The name of a module's section contains characters that a debugger would interpret
    UnsafeSection,
    /// The directory contains no dumps
    NoDumps,
    /// livecore reads this dump of the directory
    DumpSelected,
    /// A dump was not removed, because it is not verified
    NotVerified,
    /// The dumps that may not be removed need more space than --max-size
    TooLarge,
    /// Files of the directory are not named like dumps
    FilesSkipped,
    /// The suffix of the output does not match its compression
    SuffixDiffers,
    /// A compression level is given for a dump that is not compressed
    LevelUnused,
    /// A signal stopped the work
    Stopped,
    /// A dump, `info.N`, a machine or memory was written
    Written,
    /// A line of `info.N`
    InfoLine,
    /// A line of a report that is not printed to standard output
    Report,
    /// A finding of the verifier; the text names its rule
    Finding,
    /// The dump was verified, and is sound
    Verified,
    /// A guest runs while its memory is read
    GuestRuns,
    /// A guest was paused; the text has the length
    GuestPaused,
    /// The running kernel writes its dump and cannot be interrupted
    KernelDumps,
    /// The dump was not compared with the pages that the kernel has marked
    NotCompared,
    /// Pages that the kernel has marked are not in the dump
    PagesNotDumped,
    /// How livecore reads the memory image, and which registers it does not read
    Image,
    /// The emulated kernel has no debug information
    NoDebugInformation,
    /// The progress of the work, printed on a signal
    Progress,
    /// A CPU does not run the kernel, and the dump does not have its registers
    CpuLeftKernel,
    /// Registers of a CPU cannot be added to the dump
    RegistersNotAdded,
    /// A CPU is in the kernel debugger
    CpuInDebugger,
    /// The kernel has stopped a CPU and saved its registers, and the dump has those
    CpuStopped,
    /// Which pages the kernel omits from its dumps is unknown, and the dump has them
    NodumpUnknown,
    /// The dump has no message buffer
    NoMsgbuf,
    /// The header lacks the host name or the time
    HeaderIncomplete,
    /// A number was skipped, because another dump uses it
    NumberSkipped,
    /// The temporary file of a killed run was removed
    LeftoverRemoved,
    /// A file or a link to another program's dump was not replaced by a link to this dump
    LinkKept,
    /// A link to the newest dump was not created or removed
    LinkFailed,
    /// The file `minfree` is invalid or unreadable, and no space is reserved
    MinfreeIgnored,
    /// The dump may need more space than the directory has
    MayNotFit,
    /// Another process locked the directory, and the number was selected without a lock
    NotLocked,
    /// A client has begun to send a dump
    DumpBegan,
    /// livecore refuses a dump of a client: it cannot create the file, or the quota is used up
    DumpRefused,
    /// The dump of a client is complete and sound
    DumpReceived,
    /// A dump of a client is incomplete or not sound; the message states what livecore kept
    DumpIncomplete,
    /// The directory that a client requests does not exist; livecore uses the default directory
    PathNotGranted,
    /// The receive buffer is smaller than all clients together may need
    SmallBuffer,
    /// The command of --hook failed, or an outcome was not passed to it
    HookFailed,
    /// The file of --metrics cannot be written
    CountersNotWritten,
    /// A note without its own id
    Note,
}

impl Id {
    /// The id in lower case with hyphens.
    pub fn name(self) -> String {
        self.to_possible_value()
            .map_or_else(String::new, |value| value.get_name().to_owned())
    }

    /// The id that has this name.
    pub fn named(name: &str) -> Option<Self> {
        Self::from_str(name, false).ok()
    }

    /// What the id means, as a phrase.
    pub fn meaning(self) -> String {
        self.to_possible_value()
            .and_then(|value| value.get_help().map(ToString::to_string))
            .unwrap_or_default()
    }
}
