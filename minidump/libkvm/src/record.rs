//! A structure of the kernel in memory, read with the kernel's type information.

use livecore_kernel::{Kernel, Structure};
use livecore_minidump::{Address, VirtAddr};

/// The maximum size of a structure.
const LARGEST: u64 = 1 << 20;

/// A structure that was read. Members that the kernel does not have, or whose memory cannot be read,
/// are `None`.
pub(crate) struct Record<'a> {
    kernel: &'a Kernel<'a>,
    structure: &'a Structure,
    bytes: Vec<u8>,
}

impl<'a> Record<'a> {
    /// Reads the structure `name` at `at`. Returns `None` for a null pointer, without type information
    /// and without memory.
    pub(crate) fn read(kernel: &'a Kernel<'a>, name: &str, at: u64) -> Option<Self> {
        let structure = kernel.types()?.structure(name)?;
        if at == 0 || structure.size > LARGEST {
            return None;
        }
        let mut bytes = vec![0; structure.size as usize];
        let memory = kernel.memory();
        let (got, _) = memory.read_part(Address::Virt(VirtAddr(at)), &mut bytes);
        bytes.truncate(got);
        (got > 0).then_some(Self {
            kernel,
            structure,
            bytes,
        })
    }

    /// Reads the structure `name` that `member` points to.
    pub(crate) fn follow(&self, member: &str, name: &str) -> Option<Self> {
        Self::read(self.kernel, name, self.uint(member)?)
    }

    /// The bytes of a member.
    pub(crate) fn bytes(&self, member: &str) -> Option<&[u8]> {
        let member = self.structure.member(member)?;
        let start = usize::try_from(member.offset).ok()?;
        let size = usize::try_from(member.size).ok().filter(|size| *size > 0)?;
        self.bytes.get(start..start.checked_add(size)?)
    }

    /// A member that is an integer or a pointer, without its sign.
    pub(crate) fn uint(&self, member: &str) -> Option<u64> {
        self.kernel.elf().order().uint(self.bytes(member)?)
    }

    /// A member that is a signed integer.
    pub(crate) fn int(&self, member: &str) -> Option<i64> {
        let bits = self.bytes(member)?.len() as u32 * 8;
        let value = self.uint(member)? as i64;
        let unused = 64_u32.checked_sub(bits)?;
        Some(value << unused >> unused)
    }

    /// A member that is a string in the structure, without its zero byte.
    pub(crate) fn text(&self, member: &str) -> Option<&[u8]> {
        self.bytes(member).map(until_zero)
    }

    /// The string of at most `limit` bytes that a member points to.
    pub(crate) fn string(&self, member: &str, limit: usize) -> Option<Vec<u8>> {
        let at = self.uint(member).filter(|at| *at != 0)?;
        let mut bytes = vec![0; limit];
        let memory = self.kernel.memory();
        let (got, _) = memory.read_part(Address::Virt(VirtAddr(at)), &mut bytes);
        Some(until_zero(&bytes[..got]).to_vec())
    }

    /// The first `count` 32-bit integers of the array that a member points to, up to one that cannot be
    /// read.
    pub(crate) fn words(&self, member: &str, count: usize) -> Vec<u32> {
        let Some(at) = self.uint(member).filter(|at| *at != 0) else {
            return Vec::new();
        };
        let mut bytes = vec![0; 4 * count];
        let memory = self.kernel.memory();
        let (got, _) = memory.read_part(Address::Virt(VirtAddr(at)), &mut bytes);
        let order = self.kernel.elf().order();
        let words = bytes[..got].chunks_exact(4);
        words
            .map_while(|word| order.uint(word).map(|value| value as u32))
            .collect()
    }

    /// Whether the kernel's structure has the member.
    pub(crate) fn has(&self, member: &str) -> bool {
        self.structure.member(member).is_some()
    }
}

/// The bytes before the first zero.
fn until_zero(bytes: &[u8]) -> &[u8] {
    bytes.split(|byte| *byte == 0).next().unwrap_or_default()
}
