//! The contents of pages that the builder did not write: a function of seed, frame number and kind.
//!
//! Each kind compresses about as well as the memory that it represents. Making a page takes about a
//! microsecond and no memory except tables of a few kilobytes, which are made once.

use std::sync::LazyLock;

use super::rng::{Rng, STEP, mix};

/// Unit in which memory is made and stored, in bytes, independent of the machine's page size.
pub(crate) const PAGE: usize = 4096;

/// One page.
pub(crate) type Page = [u8; PAGE];

/// The kind of bytes in a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Zeros.
    Zero,
    /// Machine code: a few hundred instruction shapes with varying operands.
    Code,
    /// A kernel heap: pointers, small integers, flags, zeros, short strings.
    Heap,
    /// Log lines and configuration text.
    Text,
    /// Random bytes: encrypted or compressed data.
    Noise,
}

/// The words of text pages. A word that ends in a newline may end a line.
const WORDS: [&str; 64] = [
    "kernel: ",
    "sshd",
    "cron",
    "[",
    "]: ",
    "error",
    "failed ",
    "connection ",
    "from ",
    "port ",
    "for ",
    "the ",
    "interface ",
    "link ",
    "state ",
    "changed ",
    "to ",
    "UP\n",
    "DOWN\n",
    "nov ",
    "mount ",
    "/usr/",
    "/var/log",
    "/boot/",
    ".conf\n",
    "daemon",
    "=\"YES\"\n",
    "_enable",
    "ifconfig",
    "device ",
    "driver ",
    "bytes ",
    "packet ",
    "10.0.",
    "192.168.",
    "timeout ",
    "retry ",
    "ok\n",
    "closed\n",
    "session ",
    "opened\n",
    "user ",
    "root ",
    "by ",
    "(uid=0)\n",
    "pam_unix",
    "accepted ",
    "key ",
    "signal ",
    "process ",
    "exited ",
    "on ",
    "memory ",
    "page ",
    "in ",
    "system ",
    "time ",
    "is ",
    "return ",
    "static ",
    "int ",
    "struct ",
    ";\n",
    "    ",
];

/// Up to eight bytes, of which `len` are used. The bits of `mask` vary.
#[derive(Clone, Copy)]
struct Shape {
    bytes: [u64; 2],
    mask: u64,
    len: usize,
}

static TEXT: LazyLock<[Shape; 256]> = LazyLock::new(|| {
    let mut rng = Rng::new(0, "text");
    std::array::from_fn(|i| {
        // A quarter of the pieces are numbers.
        let (piece, mask): (&[u8], u64) = if i % 4 == 3 {
            (b"0000 ", 0x0007_0707_0707)
        } else {
            (rng.pick(&WORDS).as_bytes(), 0)
        };
        let mut bytes = [0u8; 16];
        bytes[..piece.len()].copy_from_slice(piece);
        Shape::new(bytes, mask & 0x0707_0707, piece.len())
    })
});

static CODE: LazyLock<[Shape; 256]> = LazyLock::new(|| {
    /// amd64 instructions as a compiler emits them, with the number of leading bytes that are
    /// fixed. The others are operands.
    const INSNS: [(&[u8], usize); 24] = [
        (&[0x48, 0x89, 0xe5], 3),
        (&[0x55], 1),
        (&[0x5d, 0xc3], 2),
        (&[0x48, 0x8b, 0x45, 0xf8], 3),
        (&[0x48, 0x89, 0x45, 0xf0], 3),
        (&[0xe8, 0x00, 0x00, 0x00, 0xff], 1),
        (&[0x48, 0x85, 0xc0], 3),
        (&[0x74, 0x10], 1),
        (&[0x75, 0x20], 1),
        (&[0x0f, 0x84, 0x00, 0x01, 0x00, 0x00], 2),
        (&[0x48, 0x8b, 0x7b, 0x10], 3),
        (&[0x4c, 0x89, 0xf7], 3),
        (&[0x41, 0x57, 0x41, 0x56], 4),
        (&[0x41, 0x55, 0x41, 0x54, 0x53], 5),
        (&[0x48, 0x83, 0xec, 0x28], 3),
        (&[0x48, 0x83, 0xc4, 0x28], 3),
        (&[0x31, 0xc0], 2),
        (&[0x48, 0xc7, 0xc7, 0x00, 0x00, 0x00, 0x81], 3),
        (&[0x65, 0x48, 0x8b, 0x04, 0x25, 0x00], 6),
        (&[0x83, 0xf8, 0x01], 2),
        (&[0xff, 0xd0], 2),
        (&[0x66, 0x90], 2),
        (&[0xeb, 0x0c], 1),
        (&[0x4c, 0x8d, 0x65, 0xd0], 3),
    ];
    let mut rng = Rng::new(0, "code");
    std::array::from_fn(|i| {
        let (insn, fixed) = INSNS[i % INSNS.len()];
        let mut bytes = [0u8; 16];
        bytes[..insn.len()].copy_from_slice(insn);
        // Half of the operands vary, in a few bits only, because compiled code is repetitive.
        let mut mask = 0u64;
        if rng.below(2) == 0 {
            for k in fixed..insn.len().min(fixed + 2) {
                mask |= 0x78 << (8 * k);
            }
        }
        Shape::new(bytes, mask, insn.len())
    })
});

/// 64-bit words of a heap: fixed bits and free bits.
static HEAP: LazyLock<[(u64, u64); 256]> = LazyLock::new(|| {
    let mut rng = Rng::new(0, "heap");
    std::array::from_fn(|i| match i {
        0..100 => (0, 0),
        100..132 => (0xffff_f800_0000_0000 | rng.next() & 0x3fff_0000, 0xffc0),
        132..152 => (0xffff_fe00_0000_0000 | rng.next() & 0x0fff_0000, 0xfff8),
        152..176 => (0xffff_ffff_8020_0000 | rng.next() & 0xf_fff0, 0),
        176..200 => (0, 0xff),
        200..216 => (0, 0x0000_000f_0000_00ff),
        216..224 => (1 << rng.below(32), 0),
        224..230 => (u64::MAX, 0),
        230..246 => (0x6060_6060_6060_6060, 0x0f0f_0f0f_0f0f_0f0f),
        _ => (0, u64::MAX >> 16),
    })
});

impl Shape {
    fn new(bytes: [u8; 16], mask: u64, len: usize) -> Self {
        let value = u128::from_le_bytes(bytes);
        Self {
            bytes: [value as u64, (value >> 64) as u64],
            mask,
            len,
        }
    }
}

/// Makes the page of frame `frame`.
pub(crate) fn fill(kind: Kind, seed: u64, frame: u64, out: &mut Page) {
    let mut state = mix(seed ^ frame.wrapping_mul(STEP));
    match kind {
        Kind::Zero => out.fill(0),
        Kind::Code => shapes(&CODE, state, out),
        Kind::Text => shapes(&TEXT, state, out),
        Kind::Heap => {
            let table = &*HEAP;
            for word in out.chunks_exact_mut(8) {
                state = state.wrapping_add(STEP);
                let r = mix(state);
                let (fixed, free) = table[(r >> 56) as usize];
                word.copy_from_slice(&(fixed | r & free).to_le_bytes());
            }
        }
        Kind::Noise => {
            for word in out.chunks_exact_mut(8) {
                state = state.wrapping_add(STEP);
                word.copy_from_slice(&mix(state).to_le_bytes());
            }
        }
    }
}

/// Fills a page with pieces of `table`, end to end. The end of the page cuts the last one.
fn shapes(table: &[Shape; 256], mut state: u64, out: &mut Page) {
    let mut at = 0;
    while at < PAGE {
        state = state.wrapping_add(STEP);
        let r = mix(state);
        let shape = &table[(r >> 56) as usize];
        let low = shape.bytes[0] | r & shape.mask;
        if at + 16 <= PAGE {
            out[at..at + 8].copy_from_slice(&low.to_le_bytes());
            out[at + 8..at + 16].copy_from_slice(&shape.bytes[1].to_le_bytes());
        } else {
            let n = (PAGE - at).min(8);
            out[at..at + n].copy_from_slice(&low.to_le_bytes()[..n]);
            if at + 8 < PAGE {
                let m = PAGE - at - 8;
                out[at + 8..].copy_from_slice(&shape.bytes[1].to_le_bytes()[..m]);
            }
        }
        at += shape.len;
    }
}
