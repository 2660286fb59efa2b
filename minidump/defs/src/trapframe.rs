//! Registers of an interrupted context: `struct trapframe`, and the entry code that creates it.
//!
//! FreeBSD `sys/*/include/frame.h`; the entry code is in `exception.S`, `apic_vector.S` and
//! `trap_subr.S`, and ddb's handling of it in `db_trace.c`. Register names are those of
//! [`registers`](crate::registers).

/// The position of a trap frame, relative to the frame of the function that the entry code called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FramePosition {
    /// This many bytes above the called function's frame pointer.
    Above(u64),
    /// After the arguments that the entry code pushed (i386): none, the frame's address, an interrupt
    /// number and the frame's address, or a thread's first function with its argument and the frame's
    /// address.
    AfterArguments,
    /// Ends at the entry code's frame record (arm64).
    BelowRecord,
    /// This many bytes above the entry code's stack frame, whose back chain is the interrupted stack
    /// pointer (powerpc64, both ABIs).
    AboveFrame(u64),
    /// This many bytes above the entry code's stack pointer (mips).
    AboveStack(u64),
}

/// The indication of user mode in a trap frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mode {
    /// Offset of a word.
    pub at: u64,
    /// Mask of its bits.
    pub mask: u64,
    /// Whether user mode has any of them set; otherwise it has all clear.
    pub user_has_one: bool,
}

/// A `struct trapframe`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TrapFields {
    /// The first `__FreeBSD_version` that may have this layout.
    pub since: u32,
    /// Size of a register in bytes.
    pub word: usize,
    /// Size of the frame in bytes.
    pub size: u64,
    /// Position on the stack.
    pub position: FramePosition,
    /// Name, offset and size of each register.
    pub registers: &'static [(&'static str, u64, usize)],
    /// Offset of the interrupted link register, if there is one. Its return address confirms
    /// [`FramePosition`].
    pub link: Option<u64>,
    /// The interrupted mode.
    pub mode: Mode,
    /// Offset and size of the trap's number or cause, if the frame has it. amd64 and i386 set it only
    /// for traps.
    pub number: Option<(u64, usize)>,
    /// Offset of the fault address, if the frame has it.
    pub address: Option<u64>,
    /// A second word that indicates user mode if any of these bits is set: offset and mask (virtual
    /// 8086 mode of i386).
    pub also_user: Option<(u64, u64)>,
    /// Name and offset of registers that are valid only if user mode was interrupted.
    pub user: &'static [(&'static str, u64)],
    /// A register whose value is the frame's address plus this number if the kernel was interrupted
    /// (the stack pointer of i386, which the CPU does not push in that case).
    pub end: Option<(&'static str, u64)>,
    /// Bits of [`Mode`]'s word of which a valid frame has any set; 0 for no check.
    pub valid: u64,
}

impl TrapFields {
    /// Defaults of the optional fields.
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

/// The reason for entering the kernel, or for a trap in the kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// A fault or an exception.
    Trap,
    /// An interrupt.
    Interrupt,
    /// A system call.
    Syscall,
}

/// A function of entry code, by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry {
    /// The name, or a prefix of it.
    pub name: &'static str,
    /// Whether `name` is a prefix.
    pub prefix: bool,
    /// The reason for entering it.
    pub cause: Cause,
    /// The offset of the processor's event information in the trap frame, which states the reason:
    /// FRED of amd64 (`TF_FRED_EVINFO2`).
    pub event: Option<u64>,
}

/// Bits of the event information: the type, and the types of an interrupt and of a system call.
pub const FRED_TYPE: u64 = 0xf_0000;
/// `TF_FRED_EVINFO2_TYPE_EXTINT`
pub const FRED_TYPE_EXTINT: u64 = 0;
/// `TF_FRED_EVINFO2_TYPE_SYSCALL`
pub const FRED_TYPE_SYSCALL: u64 = 0x7_0000;

pub(crate) const fn entry(name: &'static str, cause: Cause) -> Entry {
    Entry {
        name,
        prefix: false,
        cause,
        event: None,
    }
}

pub(crate) const fn entries(name: &'static str, cause: Cause) -> Entry {
    Entry {
        name,
        prefix: true,
        cause,
        event: None,
    }
}

/// A label at which entry code continues after a call. The symbol table has it as a function of its
/// own, not as a part of the calling function.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Label {
    /// The label's name.
    pub name: &'static str,
    /// Maximum distance of a return address before the label: powerpc64 has an instruction there that
    /// reloads the TOC.
    pub slot: u64,
}

/// The meaning of the number in a trap frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Codes {
    /// Whether the number determines the cause, regardless of the entry code.
    pub decides: bool,
    /// Lowest bit of the code in the number.
    pub shift: u32,
    /// Mask of the code, after the shift.
    pub mask: u64,
    /// Bits of the number that indicate an interrupt.
    pub interrupt_bits: u64,
    /// Codes of interrupts.
    pub interrupts: &'static [u64],
    /// Code of a system call.
    pub syscall: Option<u64>,
    /// Whether that code is a system call only if user mode was interrupted.
    pub syscall_from_user: bool,
    /// Codes of faults with a fault address; `None` if all may have one.
    pub addressed: Option<&'static [u64]>,
    /// Whether interrupts and system calls set the number; otherwise only traps do.
    pub always: bool,
}

impl Codes {
    /// The number does not indicate the cause.
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

/// The format of a number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NumberFormat {
    /// Hexadecimal with `0x`.
    Hex,
    /// Hexadecimal with `0x`, except that zero is `0`.
    HexOrZero,
    /// Decimal.
    Decimal,
}

/// The line that ddb prints for a trap frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Line {
    /// Text before the trap number.
    pub trap: &'static str,
    /// Format of the trap number, if it is printed.
    pub number: Option<NumberFormat>,
    /// Text before the fault address, if it is printed.
    pub address: Option<&'static str>,
    /// Whether the number of an interrupt is printed, without [`Codes::interrupt_bits`].
    pub interrupt_number: bool,
}

impl Line {
    /// The line of amd64, i386 and powerpc64.
    pub(crate) const TRAP: Self = Self {
        trap: "trap ",
        number: Some(NumberFormat::HexOrZero),
        address: None,
        interrupt_number: false,
    };
}

/// The trap frames and entry code of an architecture.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Traps {
    /// Layouts, newest first for each word size.
    pub frames: &'static [&'static TrapFields],
    /// Entry code. The first match of a name applies.
    pub entries: &'static [Entry],
    /// Labels of entry code.
    pub labels: &'static [Label],
    /// Functions that entry code calls for interrupts, if one label serves all exceptions.
    pub interrupt_handlers: &'static [&'static str],
    /// The meaning of the trap number.
    pub codes: Codes,
    /// The line that ddb prints.
    pub line: Line,
}

/// Functions at which the kernel's part of a stack ends, on all architectures: a thread's first code,
/// and amd64's system call entry.
pub const STACK_ENDS: [&str; 6] = [
    "fork_trampoline",
    "fork_trampoline_kthread",
    "fast_syscall_common",
    "user_fred_syscall",
    "Xfast_syscall",
    "Xfast_syscall_pti",
];

/// Functions at which the kernel's part of a stack ends on mips: the startup code of a CPU.
pub const MIPS_STARTS: [&str; 3] = ["_start", "_locore", "mpentry"];
