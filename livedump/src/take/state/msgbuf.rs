//! The kernel's message buffer, the second section of a dump.

use livecore_defs::msgbuf::{ILP32, LP64, MSG_MAGIC};
use livecore_kernel::Kernel;
use livecore_kernel::locate::LocateError;
use livecore_minidump::{ByteOrder, VirtAddr};

use crate::take::note::Note;

/// The largest ring (`kern.msgbufsize`) that is accepted; a larger size means a wrong pointer.
const LIMIT: u64 = 64 << 20;
/// Bytes for one read.
const PIECE: usize = 1 << 20;

/// The bytes of the section.
#[derive(Debug, Default)]
pub(in crate::take) struct Ring {
    /// `msg_size`
    pub(in crate::take) size: u32,
    /// The ring and the bytes after it up to the page boundary, usually `struct msgbuf` itself.
    pub(in crate::take) bytes: Vec<u8>,
}

/// Reads the message buffer. The section is empty, with a note, if the kernel has no buffer yet
/// (early in its boot), or if the ring is missing in memory that `is_partial`.
pub(super) fn read(
    kernel: &Kernel<'_>,
    page_size: u64,
    is_partial: bool,
    notes: &mut Vec<Note>,
) -> Result<Ring, LocateError> {
    let Ok(pointer) = kernel.address("msgbufp") else {
        notes.push(Note::NoMsgbuf);
        return Ok(Ring::default());
    };
    let at = kernel.pointer_at("msgbufp", pointer)?;
    let mut head = [0; 40];
    if at == VirtAddr(0) || kernel.bytes_at("struct msgbuf", at, &mut head).is_err() {
        notes.push(Note::MsgbufUnreadable { at });
        return Ok(Ring::default());
    }
    let fields = if kernel.elf().is_64() { LP64 } else { ILP32 };
    // The three fields are in the first 40 bytes.
    let field = |field| ByteOrder::Little.field(&head, field).unwrap_or(0);
    let (ring, magic, size) = (
        VirtAddr(field(fields.msg_ptr)),
        field(fields.msg_magic),
        field(fields.msg_size),
    );
    if magic != u64::from(MSG_MAGIC) || size > LIMIT {
        notes.push(Note::MsgbufInvalid { at, magic, size });
        return Ok(Ring::default());
    }
    // Grow with what can be read, since the size is not trusted.
    let mut bytes = Vec::new();
    while (bytes.len() as u64) < size {
        let done = bytes.len();
        bytes.resize(done + (size as usize - done).min(PIECE), 0);
        let at = ring.saturating_add(done as u64);
        let read = kernel.bytes_at("message buffer", at, &mut bytes[done..]);
        if is_partial && read.is_err() {
            notes.push(Note::MsgbufMissing);
            return Ok(Ring::default());
        }
        read?;
    }
    // The rest of the last page, which may not be mapped.
    let mut tail = vec![0; (size.next_multiple_of(page_size) - size) as usize];
    let behind = ring.saturating_add(size);
    if kernel.memory().read_virt(behind, &mut tail).is_ok() {
        bytes.extend(tail);
    }
    Ok(Ring {
        size: size as u32,
        bytes,
    })
}
