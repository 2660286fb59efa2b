//! Saved registers of a thread that does not run: `struct pcb`.
//!
//! FreeBSD `sys/*/include/pcb.h`; the layouts are promised to debuggers. Register names are those
//! of [`registers`](crate::registers).

/// Where the registers of a `struct pcb` are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PcbFields {
    /// The first `__FreeBSD_version` that has it.
    pub since: u32,
    /// The first `__FreeBSD_version` that is known not to have it any more.
    pub until: u32,
    /// `pcb_size` if it is known to be the same wherever this layout is, else 0.
    pub size: u64,
    /// Bytes of a register.
    pub word: usize,
    /// Name and offset of each.
    pub registers: &'static [(&'static str, usize)],
    /// The register that says where the thread goes on: the link register where a pcb has no
    /// program counter that means anything.
    pub pc: &'static str,
    /// What a trap's pcb has beside, if it has more.
    pub trapped: Option<&'static Trapped>,
}

/// What `makectx` fills in of a `struct pcb`, as the debugger's `kdb_pcb`, and a switch does not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Trapped {
    /// Offset of the program counter. [`PcbFields::pc`] is the interrupted function's own return
    /// address then.
    pub pc: usize,
    /// Name and offset of each register that a call does not keep.
    pub registers: &'static [(&'static str, usize)],
}

pub(crate) const ALWAYS: u32 = u32::MAX;

/// `MAXCOMLEN + 1`: bytes of `p_comm` and `td_name`.
pub const COMM_LEN: usize = 20;
/// `NOCPU` of `td_oncpu` where that is an int.
pub const NOCPU: i64 = -1;
/// The first `__FreeBSD_version` whose `td_oncpu` is surely an int.
pub const ONCPU_INT_SINCE: u32 = 1_100_000;
/// `MAXCPU` of the largest kernels: no CPU has a higher number.
pub const MAXCPU: u32 = 4096;
/// `NOCPU` of 10.x, where `td_oncpu` is one byte.
pub const NOCPU_BYTE: u8 = 255;
/// From this `__FreeBSD_version` on, `stoppcbs` is a pointer and no array.
pub const STOPPCBS_POINTER_SINCE: u32 = 1_400_089;
