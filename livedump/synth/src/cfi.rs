//! Writes `.eh_frame` of amd64's entry code: DWARF 5, 6.4, and the System V ABI of x86-64.
//!
//! FreeBSD `sys/amd64/include/trap_cfi.h` (after 15.0): the frame of entry code is a `struct trapframe` at
//! the stack pointer, and the caller is the interrupted context.

use super::chains::State;

/// Registers by DWARF number, and their offsets in `struct trapframe`, in words.
const SAVED: [(u8, u8); 20] = [
    (5, 0),   // rdi
    (4, 1),   // rsi
    (1, 2),   // rdx
    (2, 3),   // rcx
    (8, 4),   // r8
    (9, 5),   // r9
    (0, 6),   // rax
    (3, 7),   // rbx
    (6, 8),   // rbp
    (10, 9),  // r10
    (11, 10), // r11
    (12, 11), // r12
    (13, 12), // r13
    (14, 13), // r14
    (15, 14), // r15
    (16, 19), // rip
    (51, 20), // cs
    (49, 21), // rflags
    (7, 22),  // rsp
    (52, 23), // ss
];
const RSP: u8 = 7;
const RIP: u8 = 16;
/// Words of a `struct trapframe`.
const WORDS: u8 = 24;
const DW_CFA_UNDEFINED: u8 = 0x07;
const DW_CFA_DEF_CFA: u8 = 0x0c;
const DW_CFA_OFFSET: u8 = 0x80;
const DW_CFA_OFFSET_EXTENDED: u8 = 0x05;

/// Appends an entry: its length, what `entry` is, and padding.
fn append(section: &mut Vec<u8>, mut entry: Vec<u8>) {
    entry.resize((entry.len() + 4).next_multiple_of(8) - 4, 0);
    section.extend((entry.len() as u32).to_le_bytes());
    section.extend(entry);
}

/// Returns the section for those of `functions` (name, address, size) that `wanted` names, if there are
/// any.
pub(crate) fn section<'a>(
    wanted: &[(&'static str, State)],
    functions: impl Iterator<Item = (&'a str, u64, u64)>,
) -> Option<Vec<u8>> {
    let mut section = Vec::new();
    // The CIE: `S` is for entries whose caller was interrupted.
    let mut cie = vec![0, 0, 0, 0, 1];
    cie.extend(b"zRS\0");
    // Alignment of code 1, of data -8, the column of the return address, and addresses as they are.
    cie.extend([1, 0x78, RIP, 1, 0]);
    append(&mut section, cie);
    let empty = section.len();
    for (name, at, size) in functions {
        let Some((_, state)) = wanted.iter().find(|(wanted, _)| *wanted == name) else {
            continue;
        };
        // The distance to the CIE, from here.
        let mut entry = (section.len() as u32 + 4).to_le_bytes().to_vec();
        entry.extend(at.to_le_bytes());
        entry.extend(size.to_le_bytes());
        // The size of 192 has two bytes in LEB128.
        entry.extend([0, DW_CFA_DEF_CFA, RSP, 0xc0, 0x01]);
        match state {
            State::Outermost => entry.extend([DW_CFA_UNDEFINED, RIP]),
            State::TrapFrame => {
                for (register, word) in SAVED {
                    match register {
                        0..0x40 => {
                            entry.extend([DW_CFA_OFFSET | register, WORDS - word]);
                        }
                        _ => entry.extend([DW_CFA_OFFSET_EXTENDED, register, WORDS - word]),
                    }
                }
            }
        }
        append(&mut section, entry);
    }
    if section.len() == empty {
        return None;
    }
    section.extend([0; 4]);
    Some(section)
}
