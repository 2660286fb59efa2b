//! Reads strings from a kernel's memory.

use livecore_defs::pcb::COMM_LEN;
use livecore_minidump::{Address, VirtAddr};

use crate::error::KernelError;
use crate::kernel::Kernel;

/// The maximum length of a string.
const NAME_LIMIT: usize = 1024;

impl Kernel<'_> {
    /// Returns the NUL-terminated bytes at `at`, without the NUL and at most `limit`. They are
    /// truncated where memory cannot be read.
    pub fn c_string_at(&self, at: VirtAddr, limit: usize) -> Vec<u8> {
        let mut text = vec![0; limit];
        let (got, _) = self.memory().read_part(Address::Virt(at), &mut text);
        let end = text[..got].iter().position(|b| *b == 0);
        text.truncate(end.unwrap_or(got));
        text
    }

    /// Returns the NUL-terminated string at `at`, truncated where it cannot be read.
    pub fn string_at(&self, at: VirtAddr) -> String {
        match at {
            VirtAddr(0) => String::new(),
            at => String::from_utf8_lossy(&self.c_string_at(at, NAME_LIMIT)).into_owned(),
        }
    }

    /// Returns the NUL-terminated text of at most `len` bytes at `at`.
    pub(crate) fn text(&self, what: &str, at: VirtAddr, len: usize) -> Result<String, KernelError> {
        let mut bytes = [0; COMM_LEN];
        let len = len.min(COMM_LEN);
        self.bytes_at(what, at, &mut bytes[..len])?;
        let text = bytes[..len].split(|b| *b == 0).next().unwrap_or_default();
        Ok(String::from_utf8_lossy(text).into_owned())
    }

    /// Returns the wait message at `at`, a NUL-terminated string of at most 40 bytes.
    pub(crate) fn message(&self, at: VirtAddr) -> Option<String> {
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
