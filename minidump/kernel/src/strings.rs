//! Strings in a kernel's memory.

use livecore_defs::pcb::COMM_LEN;
use livecore_minidump::{Address, VirtAddr};

use crate::error::KernelError;
use crate::kernel::Kernel;

/// The most bytes of a name.
const NAME_LIMIT: usize = 1024;

impl Kernel<'_> {
    /// The bytes at `at` up to their NUL, at most `limit`; what cannot be read of them is left out.
    pub fn c_string_at(&self, at: u64, limit: usize) -> Vec<u8> {
        let mut text = vec![0; limit];
        let (got, _) = self
            .memory()
            .read_part(Address::Virt(VirtAddr(at)), &mut text);
        let end = text[..got].iter().position(|b| *b == 0);
        text.truncate(end.unwrap_or(got));
        text
    }

    /// The string at `at` up to its NUL; what cannot be read of it is left out.
    pub fn string_at(&self, at: u64) -> String {
        match at {
            0 => String::new(),
            at => String::from_utf8_lossy(&self.c_string_at(at, NAME_LIMIT)).into_owned(),
        }
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
