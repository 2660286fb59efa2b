//! Finds the minidump in an exported ELF core.

use std::ops::ControlFlow;
use std::sync::Arc;

use livecore_compress::{ReadAt, Window};

use super::envelope::Carried;
use crate::elf::core::ElfCore;
use crate::{Error, KernelDumpHeader};
use livecore_defs::elf::{NOTE_KERNELDUMPHEADER, NOTE_NAME, NOTE_PAYLOAD, NOTE_PAYLOAD_VERSION};
use livecore_defs::kerneldump;

/// The location of a minidump in an ELF core, and its header.
pub(crate) struct CarriedRange {
    pub(crate) offset: u64,
    pub(crate) len: u64,
    pub(crate) header: Option<KernelDumpHeader>,
}

impl CarriedRange {
    /// Returns the minidump in `content`, the core.
    pub(crate) fn carried(self, content: &Arc<dyn ReadAt>) -> Carried {
        Carried {
            content: Arc::new(Window::new(Arc::clone(content), self.offset, self.len)),
            header: self.header,
        }
    }
}

/// Finds the minidump in `core` with the notes of livecore, if any.
pub(crate) fn find(core: &ElfCore) -> Result<Option<CarriedRange>, Error> {
    let order = core.head().order;
    let (mut range, mut header) = (None, None);
    let mut broken = None;
    core.notes(&mut |note| {
        if note.name != NOTE_NAME {
            return ControlFlow::Continue(());
        }
        match note.kind {
            // Only the first note is used.
            NOTE_PAYLOAD if range.is_none() => {
                let word = |at, len| order.uint_at(&note.description, at, len);
                match (word(0, 4), word(8, 8), word(16, 8)) {
                    (Some(NOTE_PAYLOAD_VERSION), Some(offset), Some(len)) => {
                        range = Some((offset, len));
                    }
                    (version, ..) => broken = Some((note.offset, version)),
                }
            }
            NOTE_KERNELDUMPHEADER => {
                if let Some(block) = note.description.first_chunk::<{ kerneldump::SIZE }>() {
                    header = Some((*block, note.offset));
                }
            }
            _ => {}
        }
        ControlFlow::Continue(())
    })?;
    if let Some((offset, version)) = broken {
        return Err(Error::broken(
            "ELF core, note of the payload",
            offset,
            version.map_or("fewer than 24 bytes".into(), |v| format!("version {v}")),
            format!("version {NOTE_PAYLOAD_VERSION}, offset and length"),
        ));
    }
    let Some((offset, len)) = range else {
        return Ok(None);
    };
    let header = match header {
        Some((block, at)) => KernelDumpHeader::parse(&block, at)?,
        None => None,
    };
    Ok(Some(CarriedRange {
        offset,
        len,
        header,
    }))
}
