//! Layouts of pcbs and trap frames, and GDB's register names, for each architecture.

use super::builder::Port;

/// Names and offsets of the registers in a pcb. The first is the program counter or return address.
pub(crate) fn pcb(port: Port, old: bool) -> Vec<(&'static str, u64)> {
    let row = |names: &[&'static str], from: u64| -> Vec<(&'static str, u64)> {
        let at = (0..).map(|i| from + i * port.word);
        names.iter().copied().zip(at).collect()
    };
    const X19: [&str; 11] = [
        "x19", "x20", "x21", "x22", "x23", "x24", "x25", "x26", "x27", "x28", "x29",
    ];
    const S: [&str; 12] = [
        "fp", "s1", "s2", "s3", "s4", "s5", "s6", "s7", "s8", "s9", "s10", "s11",
    ];
    match (port.name, old) {
        ("amd64", _) => vec![
            ("rip", 56),
            ("r15", 0),
            ("r14", 8),
            ("r13", 16),
            ("r12", 24),
            ("rbp", 32),
            ("rsp", 40),
            ("rbx", 48),
        ],
        ("i386" | "i386pae", _) => vec![
            ("eip", 20),
            ("edi", 0),
            ("esi", 4),
            ("ebp", 8),
            ("esp", 12),
            ("ebx", 16),
        ],
        ("arm64", false) => [vec![("x30", 88), ("sp", 96)], row(&X19, 0)].concat(),
        ("arm64", true) => [vec![("x30", 240), ("sp", 256)], row(&X19, 152)].concat(),
        ("riscv64", false) => [row(&["ra", "sp", "gp", "tp"], 0), row(&S, 32)].concat(),
        ("riscv64", true) => [row(&["ra", "sp", "gp", "tp"], 0), row(&S, 88)].concat(),
        ("arm", _) => {
            let r = [
                "r4", "r5", "r6", "r7", "r8", "r9", "r10", "r11", "r12", "sp",
            ];
            [vec![("lr", 40)], row(&r, 0)].concat()
        }
        _ => {
            let r = [
                "r14", "r15", "r16", "r17", "r18", "r19", "r20", "r21", "r22", "r23", "r24", "r25",
                "r26", "r27", "r28", "r29", "r30", "r31", "cr", "r1", "r2",
            ];
            [vec![("lr", 184), ("r12", 0)], row(&r, 16)].concat()
        }
    }
}

/// GDB's names of program counter, stack pointer and frame pointer.
pub(crate) fn roles(port: Port) -> [&'static str; 3] {
    match port.name {
        "amd64" => ["rip", "rsp", "rbp"],
        "i386" | "i386pae" => ["eip", "esp", "ebp"],
        "arm64" => ["pc", "sp", "x29"],
        "riscv64" => ["pc", "sp", "fp"],
        "arm" => ["pc", "sp", "r11"],
        _ => ["pc", "r1", "r1"],
    }
}

/// A trap frame: its size, and offset and size of its members.
pub(crate) struct TrapFrame {
    pub(crate) len: u64,
    pub(crate) pc: (u64, u64),
    pub(crate) sp: (u64, u64),
    pub(crate) fp: (u64, u64),
    /// Offset, size, value in the kernel, value in user mode.
    pub(crate) mode: (u64, u64, u64, u64),
    pub(crate) number: (u64, u64),
}

pub(crate) fn trap_frame(port: Port, old: bool) -> TrapFrame {
    match (port.name, old) {
        ("amd64", _) => TrapFrame {
            len: 192,
            pc: (152, 8),
            sp: (176, 8),
            fp: (64, 8),
            mode: (160, 8, 0x20, 0x43),
            number: (120, 4),
        },
        ("i386" | "i386pae", _) => TrapFrame {
            len: 72,
            pc: (52, 4),
            sp: (64, 4),
            fp: (20, 4),
            mode: (56, 4, 0x20, 0x33),
            number: (44, 4),
        },
        // The word before x0 is tf_far, which older kernels lack.
        ("arm64", _) => {
            let x = if old { 32 } else { 48 };
            TrapFrame {
                len: x + 240,
                pc: (16, 8),
                sp: (0, 8),
                fp: (x + 8 * 29, 8),
                mode: (24, 4, 0x6000_0005, 0x6000_0000),
                number: if old { (28, 4) } else { (32, 8) },
            }
        }
        ("riscv64", _) => TrapFrame {
            len: 280,
            pc: (248, 8),
            sp: (8, 8),
            fp: (88, 8),
            mode: (256, 8, 0x120, 0x20),
            number: (272, 8),
        },
        ("arm", _) => TrapFrame {
            len: 80,
            pc: (72, 4),
            sp: (64, 4),
            fp: (4 + 4 * 11, 4),
            mode: (0, 4, 0x6000_0013, 0x6000_0010),
            // tf_pad, which must not be read as a trap number: arm has none.
            number: (76, 4),
        },
        _ => TrapFrame {
            len: 336,
            pc: (288, 8),
            sp: (8, 8),
            fp: (8, 8),
            mode: (296, 8, 0x9032, 0xd032),
            number: (304, 8),
        },
    }
}
