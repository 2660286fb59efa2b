//! Generated register values, different for every register and processor.

/// General registers, instruction pointer and flags.
pub const NAMES: [&str; 18] = [
    "rax", "rbx", "rcx", "rdx", "rsi", "rdi", "rsp", "rbp", "r8", "r9", "r10", "r11", "r12", "r13",
    "r14", "r15", "rip", "rflags",
];

/// General registers in the order in which `struct pt_regs` and `struct cpu_user_regs` have them.
pub(super) const PUSHED: [&str; 15] = [
    "r15", "r14", "r13", "r12", "rbp", "rbx", "r11", "r10", "r9", "r8", "rax", "rcx", "rdx", "rsi",
    "rdi",
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

/// CR0 to CR4, with 0 for CR1.
pub(super) fn controls(cpu: u32) -> [u64; 5] {
    [0, 1, 2, 3, 4].map(|number| if number == 1 { 0 } else { control(cpu, number) })
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
