//! Made-up registers: every one of every processor has a value of its own.

/// Registers that have a name of their own.
pub const NAMES: [&str; 18] = [
    "rax", "rbx", "rcx", "rdx", "rsi", "rdi", "rsp", "rbp", "r8", "r9", "r10", "r11", "r12", "r13",
    "r14", "r15", "rip", "rflags",
];

/// The value of a register.
#[must_use]
pub fn register(cpu: u32, name: &str) -> u64 {
    let mut value = 0xcbf2_9ce4_8422_2325_u64 ^ u64::from(cpu);
    for byte in name.bytes() {
        value = (value ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    }
    value
}

/// The value of control register CR0, CR2, CR3 or CR4.
#[must_use]
pub fn control(cpu: u32, number: u32) -> u64 {
    register(cpu, &format!("cr{number}"))
}

/// The base of a segment.
#[must_use]
pub fn segment_base(cpu: u32, name: &str) -> u64 {
    register(cpu, &format!("{name}.base"))
}

/// The selector of a segment.
pub(super) fn selector(cpu: u32, name: &str) -> u64 {
    register(cpu, name) & 0xffff
}
