//! The kernel's message buffer, as the dump's second section holds it.

use livecore_defs::msgbuf::{ILP32, LP64, MSG_MAGIC};
use livecore_kernel::Kernel;
use livecore_kernel::locate::LocateError;
use livecore_minidump::{ByteOrder, VirtAddr};

/// A ring larger than this (`kern.msgbufsize`) is taken for a sign of a wrong pointer.
const LIMIT: u64 = 64 << 20;
/// Bytes that are read at once.
const PIECE: usize = 1 << 20;

/// The section's bytes.
#[derive(Debug, Default)]
pub(in crate::take) struct Ring {
    /// `msg_size`
    pub(in crate::take) size: u32,
    /// The ring and what stands behind it, up to the page boundary: `struct msgbuf` itself, as a
    /// rule.
    pub(in crate::take) bytes: Vec<u8>,
}

/// Reads it. A kernel without one (too early in its life) has an empty section, and `notes` say so. So
/// has one whose ring is not there, if the memory `is_partial`.
pub(super) fn read(
    kernel: &Kernel<'_>,
    page_size: u64,
    is_partial: bool,
    notes: &mut Vec<String>,
) -> Result<Ring, LocateError> {
    let Ok(pointer) = kernel.address("msgbufp") else {
        notes.push("no msgbufp: the dump has no message buffer".into());
        return Ok(Ring::default());
    };
    let at = kernel.pointer_at("msgbufp", pointer)?;
    let mut head = [0; 40];
    if at == 0 || kernel.bytes_at("struct msgbuf", at, &mut head).is_err() {
        notes.push(format!(
            "msgbufp points to {at:#x}, where nothing is: the dump has no message buffer"
        ));
        return Ok(Ring::default());
    }
    let fields = if kernel.elf().is_64() { LP64 } else { ILP32 };
    // The three fields are in the first 40 bytes.
    let field = |field| ByteOrder::Little.field(&head, field).unwrap_or(0);
    let (ring, magic, size) = (
        field(fields.msg_ptr),
        field(fields.msg_magic),
        field(fields.msg_size),
    );
    if magic != u64::from(MSG_MAGIC) || size > LIMIT {
        notes.push(format!(
            "no message buffer at {at:#x} (magic {magic:#x}, {size:#x} bytes)"
        ));
        return Ok(Ring::default());
    }
    // Grown as it proves to be there: the size is only what the machine says.
    let mut bytes = Vec::new();
    while (bytes.len() as u64) < size {
        let done = bytes.len();
        bytes.resize(done + (size as usize - done).min(PIECE), 0);
        let at = ring.saturating_add(done as u64);
        let read = kernel.bytes_at("message buffer", at, &mut bytes[done..]);
        if is_partial && read.is_err() {
            notes.push("the message buffer is not in this memory: the dump has none".into());
            return Ok(Ring::default());
        }
        read?;
    }
    // Behind the ring, as far as the page goes; it may not be mapped if it does not belong.
    let mut tail = vec![0; (size.next_multiple_of(page_size) - size) as usize];
    let behind = VirtAddr(ring.saturating_add(size));
    if kernel.memory().read_virt(behind, &mut tail).is_ok() {
        bytes.extend(tail);
    }
    Ok(Ring {
        size: size as u32,
        bytes,
    })
}
