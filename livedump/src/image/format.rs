//! The formats by name.

/// A format of memory images.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Format {
    /// RAM and nothing else.
    Raw,
    /// RAM with a `machine.json` beside it.
    Machine,
    /// An ELF core with physical addresses: QEMU's `dump-guest-memory`, libvirt's `virsh dump
    /// --memory-only`.
    Elf,
    /// makedumpfile's compressed format, also QEMU's.
    Kdump,
    /// The same, as it is written to a pipe.
    KdumpFlattened,
    /// LiME.
    Lime,
    /// AVML, compressed.
    Avml,
    /// VirtualBox's core.
    VirtualBox,
    /// VMware's `.vmem`, `.vmss`, `.vmsn`.
    Vmware,
    /// bhyve's checkpoint.
    Bhyve,
    /// Xen's core.
    Xen,
    /// A full dump that a FreeBSD kernel wrote.
    FreeBsdFull,
}

impl Format {
    /// A word for it.
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
