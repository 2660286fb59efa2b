//! Saved registers of a thread that is not running: `struct pcb`.
//!
//! FreeBSD `sys/*/include/pcb.h`; FreeBSD keeps the layouts stable for debuggers. Register names are
//! those of [`registers`](crate::registers).

/// Offsets of the registers in `struct pcb`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PcbFields {
    /// The first `__FreeBSD_version` with this layout.
    pub since: u32,
    /// The first `__FreeBSD_version` known to have another layout.
    pub until: u32,
    /// `pcb_size`, if it is the same in all kernels with this layout; otherwise 0.
    pub size: u64,
    /// Size of a register in bytes.
    pub word: usize,
    /// Name and offset of each register.
    pub registers: &'static [(&'static str, usize)],
    /// The register with the address at which the thread continues: the link register if the pcb has
    /// no valid program counter.
    pub pc: &'static str,
    /// Additional registers in the pcb of a trap, if there are any.
    pub trapped: Option<&'static Trapped>,
}

/// Fields of `struct pcb` that `makectx` sets in the debugger's `kdb_pcb`, and a context switch does
/// not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Trapped {
    /// Offset of the program counter. [`PcbFields::pc`] is then the return address of the interrupted
    /// function.
    pub pc: usize,
    /// Name and offset of each caller-saved register.
    pub registers: &'static [(&'static str, usize)],
}

pub(crate) const ALWAYS: u32 = u32::MAX;

/// `MAXCOMLEN + 1`: size of `p_comm` and `td_name`.
pub const COMM_LEN: usize = 20;
/// `NOCPU` in `td_oncpu`, if that is an int.
pub const NOCPU: i64 = -1;
/// The first `__FreeBSD_version` known to have an int `td_oncpu`.
pub const ONCPU_INT_SINCE: u32 = 1_100_000;
/// `MAXCPU` of the largest kernels: an upper bound of CPU numbers.
pub const MAXCPU: u32 = 4096;
/// `NOCPU` of 10.x, where `td_oncpu` is one byte.
pub const NOCPU_BYTE: u8 = 255;
/// The first `__FreeBSD_version` whose `stoppcbs` is a pointer; before, it is an array.
pub const STOPPCBS_POINTER_SINCE: u32 = 1_400_089;
