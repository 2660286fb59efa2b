//! Files that are not kernel dumps, recognized by their first bytes, with advice.

/// A kind of file that is not a kernel dump.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Foreign {
    /// Offset of the magic.
    pub offset: usize,
    /// The magic.
    pub mark: &'static [u8],
    /// The kind of file, with an article.
    pub what: &'static str,
    /// What to do to get a dump or memory.
    pub instead: &'static str,
    /// Whether the file is a memory image, from which livecore can make a dump.
    pub is_image: bool,
}

/// Number of bytes that [`Foreign::of`] needs.
pub const HEAD: usize = 512;

const MIGRATION: &str =
    "`virsh dump --memory-only` and QEMU's dump-guest-memory write memory that can be read";
const IMAGE: &str = "`livecore take --image FILE --kernel ELF` makes a dump of it";
const DISK: &str = "a disk holds no memory: if a dump device or a file in it is meant, attach it with \
                    qemu-nbd, or write it out with `qemu-img convert -O raw`";

const fn archive(mark: &'static [u8], what: &'static str, instead: &'static str) -> Foreign {
    Foreign {
        offset: 0,
        mark,
        what,
        instead,
        is_image: false,
    }
}

const fn image(mark: &'static [u8], what: &'static str) -> Foreign {
    Foreign {
        offset: 0,
        mark,
        what,
        instead: IMAGE,
        is_image: true,
    }
}

/// All kinds. A longer magic precedes its prefixes.
pub const FOREIGN: &[Foreign] = &[
    Foreign {
        offset: 257,
        mark: b"ustar",
        what: "a text dump (a tar archive)",
        instead: "`tar xf FILE` unpacks it: ddb.txt, msgbuf.txt, panic.txt, version.txt",
        is_image: false,
    },
    archive(
        b"\xfd7zXZ\0",
        "a file compressed with xz",
        "unpack it with `xz -d`",
    ),
    archive(
        b"BZh",
        "a file compressed with bzip2",
        "unpack it with `bzip2 -d`",
    ),
    archive(
        b"\x04\x22\x4d\x18",
        "a file compressed with lz4",
        "unpack it with `lz4 -d`",
    ),
    archive(
        b"\x02\x21\x4c\x18",
        "a file compressed with lz4",
        "unpack it with `lz4 -d`",
    ),
    archive(
        b"LZIP",
        "a file compressed with lzip",
        "unpack it with `lzip -d`",
    ),
    archive(
        b"\x89LZO\0\r\n\x1a\n",
        "a file compressed with lzop",
        "unpack it with `lzop -d`",
    ),
    archive(
        b"\x1f\x9d",
        "a file compressed with compress(1)",
        "unpack it with `uncompress`",
    ),
    archive(b"PK\x03\x04", "a zip archive", "unpack it with `unzip`"),
    archive(
        b"7z\xbc\xaf\x27\x1c",
        "a 7z archive",
        "unpack it with `7z x`",
    ),
    archive(b"Rar!\x1a\x07", "a rar archive", "unpack it with `unrar x`"),
    archive(b"QFI\xfb", "a qcow2 disk image", DISK),
    archive(b"vhdxfile", "a VHDX disk image", DISK),
    archive(b"conectix", "a VHD disk image", DISK),
    archive(b"KDMV", "a VMDK disk image", DISK),
    archive(b"COWD", "a VMDK disk image", DISK),
    archive(
        b"# Disk DescriptorFile",
        "the description of a VMDK disk image",
        DISK,
    ),
    archive(
        b"<<< Oracle VM VirtualBox Disk Image",
        "a VirtualBox disk image",
        DISK,
    ),
    archive(
        b"EVF\x09\x0d\x0a\xff\x00",
        "an EWF (EnCase) image",
        "write it out as a raw image with `ewfexport -f raw`",
    ),
    archive(
        b"EVF2\x0d\x0a\x81\x00",
        "an EWF (EnCase) image",
        "write it out as a raw image with `ewfexport -f raw`",
    ),
    archive(
        b"AFF10\x0d\x0a\x00",
        "an AFF image",
        "write it out as a raw image with `affconvert -r`",
    ),
    archive(
        b"QEVM",
        "a QEMU migration stream, as `virsh dump` writes it",
        MIGRATION,
    ),
    archive(
        b"LibvirtQemudSave",
        "a guest saved by `virsh save`, a migration stream",
        "start it with `virsh restore`; `virsh dump --memory-only` writes memory that can be read",
    ),
    archive(
        b"LibvirtQemudPart",
        "a guest that `virsh save` has not finished saving",
        MIGRATION,
    ),
    archive(
        b"Xen saved domain, xl format",
        "a domain saved by `xl save`, a migration stream",
        "start it with `xl restore`; `xl dump-core` writes memory that can be read",
    ),
    archive(
        b"\x7fVirtualBox SavedState",
        "a VirtualBox saved state",
        "start the machine; `VBoxManage debugvm NAME dumpvmcore` writes memory that can be read",
    ),
    archive(
        b"PAGEDU64",
        "a Windows crash dump",
        "livecore reads dumps of FreeBSD kernels; WinDbg reads this one",
    ),
    archive(
        b"PAGEDUMP",
        "a Windows crash dump",
        "livecore reads dumps of FreeBSD kernels; WinDbg reads this one",
    ),
    archive(
        b"MDMP",
        "a Windows minidump",
        "livecore reads dumps of FreeBSD kernels; WinDbg and rust-minidump read this one",
    ),
    image(b"EMiL", "a LiME memory image"),
    image(b"AVML", "an AVML memory image"),
    image(b"KDUMP   ", "a kdump file of QEMU or makedumpfile"),
    image(b"makedumpfile", "a flattened kdump file"),
    image(b"\xd0\xbe\xd2\xbe", "a VMware suspended state"),
    image(b"\xd1\xba\xd1\xba", "a VMware suspended state"),
    image(b"\xd2\xbe\xd2\xbe", "a VMware suspended state"),
    image(b"\xd3\xbe\xd3\xbe", "a VMware suspended state"),
];

impl Foreign {
    /// The kind of a file that begins with `head`, if it is one of [`FOREIGN`].
    #[must_use]
    pub fn of(head: &[u8]) -> Option<&'static Self> {
        FOREIGN.iter().find(|foreign| {
            let rest = head.get(foreign.offset..);
            rest.is_some_and(|rest| rest.starts_with(foreign.mark))
        })
    }

    /// The kind and the advice in one line.
    #[must_use]
    pub fn sentence(&self) -> String {
        format!("{}; {}", self.what, self.instead)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_is_recognized_by_its_magic() {
        for foreign in FOREIGN {
            let mut head = vec![0; HEAD];
            head[foreign.offset..][..foreign.mark.len()].copy_from_slice(foreign.mark);
            assert_eq!(Foreign::of(&head), Some(foreign));
        }
        assert_eq!(Foreign::of(b"minidump FreeBSD/amd64"), None);
        assert_eq!(Foreign::of(b""), None);
    }
}
