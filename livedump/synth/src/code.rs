//! Machine code that looks like a compiler's: enough for a disassembler and for the return
//! addresses of call chains.

/// The instructions of one architecture that functions are made of.
#[derive(Debug)]
pub(crate) struct Code {
    /// Sets up a frame.
    pub(crate) prologue: &'static [u8],
    /// Takes it down and returns.
    pub(crate) epilogue: &'static [u8],
    /// What stands between calls.
    pub(crate) filler: &'static [&'static [u8]],
    /// What fills up to the next function.
    pub(crate) pad: u8,
    /// Bytes of a call, and of the smallest step between instructions.
    pub(crate) call_len: usize,
    pub(crate) step: usize,
    /// A call at the first address of a function at the second one.
    pub(crate) call: fn(u64, u64) -> [u8; 5],
}

impl Code {
    /// The bytes of a call.
    pub(crate) fn call(&self, at: u64, target: u64) -> Vec<u8> {
        (self.call)(at, target)[..self.call_len].to_vec()
    }
}

fn word(insn: u32) -> [u8; 5] {
    let [a, b, c, d] = insn.to_le_bytes();
    [a, b, c, d, 0]
}

/// x86-64.
pub(crate) static AMD64: Code = Code {
    prologue: &[0x55, 0x48, 0x89, 0xe5],
    epilogue: &[0x5d, 0xc3],
    filler: &[
        &[0x48, 0x89, 0xfb],
        &[0x49, 0x89, 0xf6],
        &[0x48, 0x8b, 0x45, 0xf0],
        &[0x48, 0x89, 0x45, 0xe0],
        &[0x31, 0xc0],
        &[0x48, 0x85, 0xc0],
        &[0x41, 0x83, 0xfe, 0x01],
        &[0x4c, 0x89, 0xf7],
        &[0x48, 0x8b, 0x7b, 0x18],
        &[0x0f, 0x1f, 0x40, 0x00],
        &[0x48, 0x01, 0xd8],
        &[0x0f, 0xb6, 0xc0],
    ],
    pad: 0xcc,
    call_len: 5,
    step: 1,
    call: |at, target| {
        let [a, b, c, d] = (target.wrapping_sub(at + 5) as u32).to_le_bytes();
        [0xe8, a, b, c, d]
    },
};

/// 32-bit x86.
pub(crate) static I386: Code = Code {
    prologue: &[0x55, 0x89, 0xe5],
    epilogue: &[0x5d, 0xc3],
    filler: &[
        &[0x8b, 0x45, 0x08],
        &[0x89, 0x45, 0xf0],
        &[0x31, 0xc0],
        &[0x85, 0xc0],
        &[0x83, 0xfe, 0x01],
        &[0x01, 0xd8],
        &[0x0f, 0xb6, 0xc0],
    ],
    pad: 0xcc,
    call_len: 5,
    step: 1,
    call: |at, target| {
        let [a, b, c, d] = (target.wrapping_sub(at + 5) as u32).to_le_bytes();
        [0xe8, a, b, c, d]
    },
};

/// AArch64: `stp x29, x30, [sp, #-16]!; mov x29, sp`, `bl`, `ldp x29, x30, [sp], #16; ret`.
pub(crate) static ARM64: Code = Code {
    prologue: &[0xfd, 0x7b, 0xbf, 0xa9, 0xfd, 0x03, 0x00, 0x91],
    epilogue: &[0xfd, 0x7b, 0xc1, 0xa8, 0xc0, 0x03, 0x5f, 0xd6],
    filler: &[
        &[0xe0, 0x03, 0x01, 0xaa], // mov x0, x1
        &[0x00, 0x04, 0x00, 0x91], // add x0, x0, #1
        &[0x20, 0x00, 0x40, 0xf9], // ldr x0, [x1]
        &[0x20, 0x00, 0x00, 0xf9], // str x0, [x1]
        &[0x1f, 0x00, 0x00, 0xf1], // cmp x0, #0
        &[0x1f, 0x20, 0x03, 0xd5], // nop
    ],
    pad: 0,
    call_len: 4,
    step: 4,
    call: |at, target| word(0x9400_0000 | (target.wrapping_sub(at) >> 2) as u32 & 0x03ff_ffff),
};

/// RISC-V without compressed instructions: a frame of 32 bytes with ra and s0 at its top.
pub(crate) static RISCV: Code = Code {
    prologue: &[
        0x13, 0x01, 0x01, 0xfe, // addi sp, sp, -32
        0x23, 0x3c, 0x11, 0x00, // sd ra, 24(sp)
        0x23, 0x38, 0x81, 0x00, // sd s0, 16(sp)
        0x13, 0x04, 0x01, 0x02, // addi s0, sp, 32
    ],
    epilogue: &[
        0x83, 0x30, 0x81, 0x01, // ld ra, 24(sp)
        0x03, 0x34, 0x01, 0x01, // ld s0, 16(sp)
        0x13, 0x01, 0x01, 0x02, // addi sp, sp, 32
        0x67, 0x80, 0x00, 0x00, // ret
    ],
    filler: &[
        &[0x13, 0x05, 0x15, 0x00], // addi a0, a0, 1
        &[0x93, 0x05, 0x05, 0x00], // mv a1, a0
        &[0x13, 0x00, 0x00, 0x00], // nop
        &[0x03, 0x35, 0x84, 0xfe], // ld a0, -24(s0)
        &[0x33, 0x05, 0xb5, 0x00], // add a0, a0, a1
    ],
    pad: 0,
    call_len: 4,
    step: 4,
    call: |at, target| {
        // jal ra: imm[20|10:1|11|19:12].
        let d = target.wrapping_sub(at) as u32;
        let imm =
            (d >> 20 & 1) << 31 | (d >> 1 & 0x3ff) << 21 | (d >> 11 & 1) << 20 | (d & 0xf_f000);
        word(imm | 1 << 7 | 0x6f)
    },
};
