//! Strings in a kernel's memory.

use livecore_defs::pcb::COMM_LEN;
use livecore_minidump::VirtAddr;

use crate::error::KernelError;
use crate::kernel::Kernel;

/// The most bytes of a name.
const NAME_LIMIT: usize = 1024;

impl Kernel<'_> {
    /// The string at `at` up to its NUL; what cannot be read of it is left out.
    pub fn string_at(&self, at: u64) -> String {
        let mut text = Vec::new();
        let mut piece = [0; 64];
        while at != 0 && text.len() < NAME_LIMIT {
            let here = VirtAddr(at.wrapping_add(text.len() as u64));
            // Pieces end where pages may.
            let len = 64 - here.offset_in(64) as usize;
            if self.memory().read_virt(here, &mut piece[..len]).is_err() {
                break;
            }
            let end = piece[..len].iter().position(|b| *b == 0);
            text.extend_from_slice(&piece[..end.unwrap_or(len)]);
            if end.is_some() {
                break;
            }
        }
        String::from_utf8_lossy(&text).into_owned()
    }

    /// The NUL-terminated text of at most `len` bytes at `at`.
    pub(crate) fn text(&self, what: &str, at: u64, len: usize) -> Result<String, KernelError> {
        let mut bytes = [0; COMM_LEN];
        let len = len.min(COMM_LEN);
        self.bytes_at(what, at, &mut bytes[..len])?;
        let text = bytes[..len].split(|b| *b == 0).next().unwrap_or_default();
        Ok(String::from_utf8_lossy(text).into_owned())
    }

    /// The C string at `at`, as far as it can be read, of at most 40 bytes: a wait message.
    pub(crate) fn message(&self, at: u64) -> Option<String> {
        const LONGEST: u64 = 40;
        let mut text = Vec::new();
        for i in 0..LONGEST {
            let byte = self.uint_at("message", at.checked_add(i)?, 1).ok()? as u8;
            if byte == 0 {
                break;
            }
            text.push(byte);
        }
        (!text.is_empty()).then(|| String::from_utf8_lossy(&text).into_owned())
    }
}
