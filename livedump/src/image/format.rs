//! The image formats.

/// A format of memory images.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Format {
    /// Raw memory.
    Raw,
    /// Raw memory with a `machine.json` in the same directory.
    Machine,
    /// An ELF core with physical addresses: QEMU's `dump-guest-memory`, libvirt's `virsh dump
    /// --memory-only`.
    Elf,
    /// makedumpfile's compressed format, also written by QEMU.
    Kdump,
    /// The same format as written to a pipe.
    KdumpFlattened,
    /// LiME.
    Lime,
    /// AVML, compressed.
    Avml,
    /// A core by VirtualBox.
    VirtualBox,
    /// VMware's `.vmem`, `.vmss` and `.vmsn`.
    Vmware,
    /// A bhyve checkpoint.
    Bhyve,
    /// A core by Xen.
    Xen,
    /// A full dump by a FreeBSD kernel.
    FreeBsdFull,
}

impl Format {
    /// The short name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Raw => "raw",
            Self::Machine => "machine",
            Self::Elf => "elf",
            Self::Kdump => "kdump",
            Self::KdumpFlattened => "kdump-flattened",
            Self::Lime => "lime",
            Self::Avml => "avml",
            Self::VirtualBox => "virtualbox",
            Self::Vmware => "vmware",
            Self::Bhyve => "bhyve",
            Self::Xen => "xen",
            Self::FreeBsdFull => "freebsd-full",
        }
    }
}

/// The message for a file that is something else.
pub(super) fn not_an_image(what: &str) -> String {
    format!("not a memory image, but {what}")
}
