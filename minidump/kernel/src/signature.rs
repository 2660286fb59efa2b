//! Signatures of crashes: equal for crashes in the same place, on any machine.
//!
//! docs/signatures.md specifies the canonical text, so that other programs can compute the digest.

mod frames;
mod message;

use std::fmt;

use livecore_defs::text::hex;
use livecore_minidump::VirtAddr;
use sha2::{Digest, Sha256};

use crate::error::KernelError;
use crate::kernel::Kernel;
use crate::thread::Context;

/// Length of the digest in bytes: the start of a SHA-256 digest.
const DIGEST: usize = 16;

/// What a signature consists of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Basis {
    /// The panic message and frames.
    MessageAndFrames,
    /// The panic message: no kernel file, or no frame with a name.
    Message,
    /// Frames: the dumped machine has not panicked, or its message is empty or cannot be read.
    Frames,
}

impl Basis {
    /// The name of the basis.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::MessageAndFrames => "message-and-frames",
            Self::Message => "message",
            Self::Frames => "frames",
        }
    }
}

/// The signature of a crash: its normalized panic message and the names of its top frames.
///
/// Formats as `1:` and 32 hexadecimal digits. Crashes with the same signature have the same
/// [`text`](Self::text).
///
/// # Examples
///
/// ```
/// use livecore_kernel::Signature;
///
/// let of = |message: &str, frames: &[&'static str]| {
///     Signature::new(Some(message.as_bytes()), frames.iter().map(|name| Some(*name)))
/// };
/// let one = of("page fault at 0x28", &["vpanic", "panic", "trap_fatal", "calltrap", "em_intr"]);
/// let two = of("page fault at 0xf00", &["vpanic", "panic", "em_intr.cold"]);
/// assert_eq!(one, two);
/// let text = "livecore-signature 1\npanic page fault at N\nframe em_intr\n";
/// assert_eq!(one.unwrap().text(), text);
/// ```
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Signature {
    message: Option<String>,
    frames: Vec<String>,
}

impl Signature {
    /// The version of the normalization. Signatures of different versions cannot be compared.
    pub const VERSION: u32 = 1;
    /// The maximum number of frames.
    pub const FRAMES: usize = frames::FRAMES;

    /// Creates the signature of a crash from its panic message and the functions of its backtrace,
    /// innermost first; `None` is a frame without a name. Returns `None` if neither has content.
    ///
    /// The functions are those of the symbol table, without offsets, inlined functions and frames of
    /// tail calls: these need debug information, which must not change the signature.
    pub fn new<'a>(
        message: Option<&[u8]>,
        functions: impl IntoIterator<Item = Option<&'a str>>,
    ) -> Option<Self> {
        let signature = Self {
            message: message.map(message::normalised).filter(|m| !m.is_empty()),
            frames: frames::normalised(functions),
        };
        (signature.message.is_some() || !signature.frames.is_empty()).then_some(signature)
    }

    /// The normalized panic message.
    pub fn message(&self) -> Option<&str> {
        self.message.as_deref()
    }

    /// The normalized frames, innermost first.
    pub fn frames(&self) -> &[String] {
        &self.frames
    }

    /// What the signature consists of.
    pub fn basis(&self) -> Basis {
        match (&self.message, &self.frames[..]) {
            (Some(_), []) => Basis::Message,
            (Some(_), _) => Basis::MessageAndFrames,
            (None, _) => Basis::Frames,
        }
    }

    /// The canonical text, whose digest is the signature: lines of printable ASCII characters, each
    /// with a newline.
    pub fn text(&self) -> String {
        let mut text = format!("livecore-signature {}\n", Self::VERSION);
        let message = self.message.iter().map(|message| ("panic", message));
        let frames = self.frames.iter().map(|frame| ("frame", frame));
        for (name, value) in message.chain(frames) {
            text.extend([name, " ", value, "\n"]);
        }
        text
    }
}

impl fmt::Display for Signature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digest = Sha256::digest(self.text());
        write!(f, "{}:{}", Self::VERSION, hex(&digest[..DIGEST]))
    }
}

impl Kernel<'_> {
    /// Reads the panic message (`panicstr`), without its NUL, up to the length that a signature
    /// uses. Returns `None` if the kernel has not panicked.
    ///
    /// # Errors
    ///
    /// Returns an error if the kernel file has no `panicstr` or the memory cannot be read.
    pub fn panic_message(&self) -> Result<Option<Vec<u8>>, KernelError> {
        let at = self.pointer("panicstr")?;
        if at == VirtAddr(0) {
            return Ok(None);
        }
        let mut message = Vec::new();
        while message.len() < message::LENGTH {
            let mut byte = [0];
            // An address after the end wraps to one that is not mapped.
            let here = at.wrapping_add(message.len() as u64);
            match self.bytes_at("panic message", here, &mut byte) {
                Ok(()) if byte == [0] => break,
                Ok(()) => message.extend(byte),
                Err(error) if message.is_empty() => return Err(error),
                Err(_) => break,
            }
        }
        Ok(Some(message))
    }

    /// Returns the signature of the crash: the panic message and the backtrace of the thread that
    /// wrote the dump. Returns `None` for a running machine.
    ///
    /// `message` is the panic message in the dump's header. It is used if that of the kernel cannot
    /// be read.
    pub fn signature(&self, message: Option<&[u8]>) -> Option<Signature> {
        let own = match self.panic_message() {
            Ok(own) => own,
            Err(_) => message.map(<[u8]>::to_vec),
        };
        let processes = self.processes().unwrap_or_default();
        let crashed = processes
            .threads()
            .find(|thread| thread.context == Context::Crashed);
        // Without inlined functions and tail calls.
        let registers = crashed.and_then(|thread| self.registers(thread).ok());
        let stack = registers.map_or_else(Vec::new, |r| self.physical(&r));
        // What follows omitted frames depends on their number.
        let top = stack.iter().take_while(|frame| frame.omitted == 0);
        let names = top.map(|frame| frame.function.as_ref().map(|(name, _)| name.as_str()));
        Signature::new(own.as_deref(), names)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn signature(message: Option<&str>, frames: &[Option<&str>]) -> Option<Signature> {
        Signature::new(message.map(str::as_bytes), frames.iter().copied())
    }

    /// The digest is from `sha256sum`.
    #[test]
    fn digest_is_the_start_of_the_sha256_of_the_text() {
        let found = signature(Some("page fault"), &[Some("em_intr"), None]).unwrap();
        let text = "livecore-signature 1\npanic page fault\nframe em_intr\nframe ?\n";
        assert_eq!(found.text(), text);
        assert_eq!(found.to_string(), "1:718d5bf79f3a064c3e4657f9a17653f3");
    }

    #[test]
    fn nothing_known_is_no_signature() {
        assert_eq!(signature(None, &[]), None);
        assert_eq!(signature(Some(" \n"), &[None, None]), None);
        let basis = |message, frames: &[_]| signature(message, frames).map(|s| s.basis());
        assert_eq!(basis(Some("a"), &[None]), Some(Basis::Message));
        assert_eq!(basis(None, &[Some("f")]), Some(Basis::Frames));
        assert_eq!(
            basis(Some("a"), &[Some("f")]),
            Some(Basis::MessageAndFrames)
        );
    }

    /// A message or a name cannot add a line to the text.
    #[test]
    fn different_crashes_have_different_texts() {
        let message = signature(Some("a\nframe f"), &[]).unwrap();
        assert_eq!(message.text(), "livecore-signature 1\npanic a frame f\n");
        let frame = signature(None, &[Some("f\nframe g\u{202e}")]).unwrap();
        assert_eq!(frame.text(), "livecore-signature 1\nframe f?frame?g???\n");
    }
}
