//! Machine code that resembles a compiler's, as far as a disassembler and the return addresses of
//! call chains need it.

/// The instructions of one architecture from which functions are made.
#[derive(Debug)]
pub(crate) struct Code {
    /// Sets up a frame.
    pub(crate) prologue: &'static [u8],
    /// Removes the frame and returns.
    pub(crate) epilogue: &'static [u8],
    /// The instructions between calls.
    pub(crate) filler: &'static [&'static [u8]],
    /// The byte that pads to the next function.
    pub(crate) pad: u8,
    /// Bytes of a call, and of the smallest step between instructions.
    pub(crate) call_len: usize,
    pub(crate) step: usize,
    /// Encodes a call at the first address of the function at the second one.
    pub(crate) call: fn(u64, u64) -> [u8; 5],
}

impl Code {
    /// Returns the bytes of a call.
    pub(crate) fn call(&self, at: u64, target: u64) -> Vec<u8> {
        (self.call)(at, target)[..self.call_len].to_vec()
    }
}

/// Returns a call that is one instruction of four bytes.
pub(crate) fn word(insn: u32) -> [u8; 5] {
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
