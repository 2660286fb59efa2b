//! The names and registers of processors in debuggers.
//!
//! GDB manual, appendix "Target Descriptions", "Standard Target Features". DWARF register numbers
//! are those of each processor's ELF ABI.

/// The names and registers of a processor in debuggers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Debuggers {
    /// GDB's name.
    pub gdb: &'static str,
    /// LLVM's triple.
    pub triple: &'static str,
    /// The registers, in the order of GDB's features.
    pub features: &'static [Feature],
    /// The registers with DWARF numbers from 0 on, in this order, separated by spaces.
    pub dwarf: &'static str,
    /// Registers with a role: name, lldb's generic name, type.
    pub roles: &'static [(&'static str, &'static str, &'static str)],
}

/// The registers of one feature and one size.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Feature {
    /// The name of the feature.
    pub name: &'static str,
    /// Size of each register in bits.
    pub bits: u32,
    /// The names, separated by spaces.
    pub registers: &'static str,
}

/// The feature of x86's general and floating-point registers.
pub const X86_CORE: &str = "org.gnu.gdb.i386.core";

/// The data registers of the x87.
pub const X87: Feature = Feature {
    name: X86_CORE,
    bits: 80,
    registers: "st0 st1 st2 st3 st4 st5 st6 st7",
};

/// The control registers of the x87.
pub const X87_CONTROL: Feature = Feature {
    name: X86_CORE,
    bits: 32,
    registers: "fctrl fstat ftag fiseg fioff foseg fooff fop",
};
