//! Registers of an interrupted context: `struct trapframe`, and the entry code that makes one.
//!
//! FreeBSD `sys/*/include/frame.h`; the entries are in `exception.S`, `apic_vector.S` and
//! `trap_subr.S`, and what ddb makes of them in `db_trace.c`. Register names are those of
//! [`registers`](crate::registers).

/// Where a trap frame lies, seen from the frame of the function that the entry code called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FramePosition {
    /// This many bytes above the called function's frame pointer.
    Above(u64),
    /// Behind the arguments that the entry pushed: none, the frame's address, an interrupt's number
    /// and the frame's address, or what a thread begins with and the frame's address (i386).
    AfterArguments,
    /// It ends where the entry's own frame record begins (arm64).
    BelowRecord,
    /// This many bytes above the entry's stack frame, whose back chain is the interrupted stack
    /// pointer (powerpc64, either ABI).
    AboveFrame(u64),
    /// This many bytes above the entry's stack pointer (mips).
    AboveStack(u64),
}

/// How a trap frame tells user mode.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mode {
    /// Offset of a word.
    pub at: u64,
    /// Its bits.
    pub mask: u64,
    /// Whether user mode has one of them set, or none.
    pub user_has_one: bool,
}

/// A `struct trapframe`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TrapFields {
    /// No `__FreeBSD_version` before this one has it.
    pub since: u32,
    /// Bytes of a register.
    pub word: usize,
    /// Bytes of it.
    pub size: u64,
    /// Where it is.
    pub position: FramePosition,
    /// Name, offset and bytes of each register.
    pub registers: &'static [(&'static str, u64, usize)],
    /// The register that [`FramePosition`] is checked with: the return address that was in the link
    /// register when the trap came, if there is one.
    pub link: Option<u64>,
    /// Whose mode it was.
    pub mode: Mode,
    /// The trap's number or cause, and its bytes, if the frame has it. amd64 and i386 set it only for
    /// traps.
    pub number: Option<(u64, usize)>,
    /// The address that a fault was about, if the frame has it.
    pub address: Option<u64>,
    /// Another word that tells user mode: its offset, and bits of which one is set then (i386, a
    /// virtual 8086).
    pub also_user: Option<(u64, u64)>,
    /// Name and offset of the registers of a program, which are there only if user mode was
    /// interrupted.
    pub user: &'static [(&'static str, u64)],
    /// The register that, if the kernel was interrupted, is the frame's address and this much more
    /// (i386's stack pointer, which no processor pushes then).
    pub end: Option<(&'static str, u64)>,
    /// Bits of [`Mode`]'s word of which every frame has one set; 0 where that tells nothing.
    pub valid: u64,
}

impl TrapFields {
    /// What most frames have none of.
    pub(crate) const PLAIN: Self = Self {
        since: 0,
        word: 8,
        size: 0,
        position: FramePosition::Above(0),
        registers: &[],
        link: None,
        mode: Mode {
            at: 0,
            mask: 0,
            user_has_one: true,
        },
        number: None,
        address: None,
        also_user: None,
        user: &[],
        end: None,
        valid: 0,
    };
}

/// What brought a context into the kernel, or into a trap in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// A fault or an exception.
    Trap,
    /// An interrupt.
    Interrupt,
    /// A system call.
    Syscall,
}

/// Entry code, known by its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry {
    /// Its name, or how its name begins.
    pub name: &'static str,
    /// Whether `name` is only the beginning.
    pub prefix: bool,
    /// What it is entered for.
    pub cause: Cause,
}

pub(crate) const fn entry(name: &'static str, cause: Cause) -> Entry {
    Entry {
        name,
        prefix: false,
        cause,
    }
}

pub(crate) const fn entries(name: &'static str, cause: Cause) -> Entry {
    Entry {
        name,
        prefix: true,
        cause,
    }
}

/// A label at which entry code goes on, in a function of its own: calls return to it, though it is no
/// part of the function that calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Label {
    /// Its name.
    pub name: &'static str,
    /// How far in front of it a call may return to: powerpc64 has a slot there that reloads the TOC.
    pub slot: u64,
}

/// What the number of a trap frame says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Codes {
    /// Whether it tells the cause whatever the entry code is for.
    pub decides: bool,
    /// Lowest bit of the code in the number.
    pub shift: u32,
    /// The code's bits, shifted down.
    pub mask: u64,
    /// Bits of the number that say interrupt.
    pub interrupt_bits: u64,
    /// Codes of interrupts.
    pub interrupts: &'static [u64],
    /// The code of a system call.
    pub syscall: Option<u64>,
    /// Whether it is one only if user mode was interrupted.
    pub syscall_from_user: bool,
    /// Codes of faults that are about an address; `None` where all may be.
    pub addressed: Option<&'static [u64]>,
    /// Whether interrupts and system calls have a number, too: other entry code leaves it as it was
    /// for all but traps.
    pub always: bool,
}

impl Codes {
    /// The number says nothing of the cause.
    pub(crate) const NONE: Self = Self {
        decides: false,
        shift: 0,
        mask: u64::MAX,
        interrupt_bits: 0,
        interrupts: &[],
        syscall: None,
        syscall_from_user: true,
        addressed: None,
        always: false,
    };
}

/// How a number is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shown {
    /// Hexadecimal with `0x`.
    Hex,
    /// Hexadecimal with `0x`, but zero is a digit.
    HexOrZero,
    /// Decimal.
    Decimal,
}

/// The line that ddb prints for a trap frame of this processor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Line {
    /// What comes before the number of a trap.
    pub trap: &'static str,
    /// How the number is printed, if it is.
    pub number: Option<Shown>,
    /// What comes before the address, if that is printed.
    pub address: Option<&'static str>,
    /// Whether an interrupt's number is printed, without [`Codes::interrupt_bits`].
    pub interrupt_number: bool,
}

impl Line {
    /// amd64's, i386's and powerpc64's.
    pub(crate) const TRAP: Self = Self {
        trap: "trap ",
        number: Some(Shown::HexOrZero),
        address: None,
        interrupt_number: false,
    };
}

/// The trap frames of an architecture, and the code that makes them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Traps {
    /// Of one word size the newest first.
    pub frames: &'static [&'static TrapFields],
    /// Entry code. The first that matches a name counts.
    pub entries: &'static [Entry],
    /// Labels of entry code.
    pub labels: &'static [Label],
    /// What entry code calls for interrupts, where it returns to one label for all exceptions.
    pub interrupt_handlers: &'static [&'static str],
    /// What the number says.
    pub codes: Codes,
    /// ddb's line.
    pub line: Line,
}

/// Where the kernel's part of a stack ends, on every processor: a thread's first code, and amd64's
/// way into a system call.
pub const STACK_ENDS: [&str; 5] = [
    "fork_trampoline",
    "fork_trampoline_kthread",
    "fast_syscall_common",
    "Xfast_syscall",
    "Xfast_syscall_pti",
];

/// Where the kernel's part of a stack begins on mips: the code that starts a CPU.
pub const MIPS_STARTS: [&str; 3] = ["_start", "_locore", "mpentry"];
