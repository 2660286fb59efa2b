//! Files that are not kernel dumps, recognized by their first bytes, with advice.

use crate::elf::ET_CORE;

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
const DISK: &str = "`qemu-img convert -O raw FILE OUT` extracts its contents; take a dump device or a \
                    memory image from those";
const VMDK: &str = "`qemu-img convert -O raw FILE OUT` extracts its contents; the memory of a VMware guest is \
                    in its .vmem, .vmss or .vmsn";
const WINDOWS: &str = "livecore reads dumps of FreeBSD kernels; WinDbg reads this one";
const ZLIB: &str = "a zlib stream, as LiME writes with compress=1";

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

/// An ELF file that is not a core dump.
pub const ELF_FILE: &str =
    "an ELF file that is not a core dump; a kernel file is the value of --kernel, not a dump";
/// An ELF core that is neither a full dump nor one of `convert --to elf`.
pub const ELF_CORE: &str = "an ELF core that no FreeBSD kernel wrote; if it is a memory image, make a dump with \
                            `livecore take --image FILE --kernel ELF`";

/// What a file that begins with `head` is, and what to do with it: one of [`FOREIGN`], or an ELF
/// file.
#[must_use]
pub fn sentence(head: &[u8]) -> Option<String> {
    if let Some(foreign) = Foreign::of(head) {
        return Some(foreign.sentence());
    }
    let (ident, elf_type) = (head.get(..16)?, head.get(16..18)?);
    let elf_type = match ident.starts_with(b"\x7fELF").then_some(ident[5])? {
        2 => u16::from_be_bytes([elf_type[0], elf_type[1]]),
        _ => u16::from_le_bytes([elf_type[0], elf_type[1]]),
    };
    let what = if elf_type == ET_CORE {
        ELF_CORE
    } else {
        ELF_FILE
    };
    Some(what.into())
}

/// The second byte of zlib's magic depends on the level.
const fn zlib(mark: &'static [u8]) -> Foreign {
    archive(
        mark,
        ZLIB,
        "unpack it with `zlib-flate -uncompress` or `pigz -dz`",
    )
}

/// All kinds. A longer magic precedes its prefixes.
pub const FOREIGN: &[Foreign] = &[
    Foreign {
        offset: 257,
        mark: b"ustar",
        what: "a tar archive",
        instead: "unpack it with `tar xf FILE`; a text dump contains ddb.txt, msgbuf.txt, panic.txt and version.txt",
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
    archive(
        b"PK\x03\x04",
        "a zip archive",
        "unpack it with `unzip`; if it is an AFF4 volume, `aff4imager --export` extracts the image",
    ),
    archive(
        b"7z\xbc\xaf\x27\x1c",
        "a 7z archive",
        "unpack it with `7z x`",
    ),
    archive(b"Rar!\x1a\x07", "a rar archive", "unpack it with `unrar x`"),
    archive(b"QFI\xfb", "a qcow2 disk image", DISK),
    archive(b"vhdxfile", "a VHDX disk image", DISK),
    archive(b"conectix", "a VHD disk image", DISK),
    archive(b"KDMV", "a VMDK disk image", VMDK),
    archive(b"COWD", "a VMDK disk image", VMDK),
    archive(
        b"# Disk DescriptorFile",
        "the description of a VMDK disk image",
        VMDK,
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
    archive(b"PAGEDU64", "a Windows crash dump", WINDOWS),
    archive(b"PAGEDUMP", "a Windows crash dump", WINDOWS),
    archive(
        b"MDMP",
        "a Windows minidump",
        "livecore reads dumps of FreeBSD kernels; WinDbg and rust-minidump read this one",
    ),
    zlib(b"\x78\x01"),
    zlib(b"\x78\x5e"),
    zlib(b"\x78\x9c"),
    zlib(b"\x78\xda"),
    image(b"EMiL", "a LiME memory image"),
    image(b"AVML", "an AVML memory image"),
    image(b"KDUMP   ", "a kdump file of QEMU or makedumpfile"),
    image(b"makedumpfile", "a flattened kdump file"),
    image(b"\xd0\xbe\xd0\xbe", "a VMware suspended state"),
    image(b"\xd0\xbe\xd2\xbe", "a VMware suspended state"),
    image(b"\xd1\xba\xd1\xba", "a VMware suspended state"),
    image(b"\xd2\xba\xd2\xba", "a VMware suspended state"),
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

    /// Whether it is the image of a disk in a format other than raw.
    #[must_use]
    pub fn is_disk_image(&self) -> bool {
        self.instead == DISK || self.instead == VMDK
    }

    /// Whether the magic, of two bytes, could also be memory.
    #[must_use]
    pub fn is_doubtful(&self) -> bool {
        self.mark.len() < 3
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

    #[test]
    fn an_elf_file_is_a_core_by_its_type() {
        let elf = |order: u8, kind: [u8; 2]| {
            let mut head = *b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0\0\0";
            head[5] = order;
            head[16..].copy_from_slice(&kind);
            sentence(&head)
        };
        assert_eq!(elf(1, [4, 0]).as_deref(), Some(ELF_CORE));
        assert_eq!(elf(2, [0, 4]).as_deref(), Some(ELF_CORE));
        assert_eq!(elf(1, [2, 0]).as_deref(), Some(ELF_FILE));
        assert_eq!(sentence(b"\x7fELF"), None);
        assert!(sentence(b"BZh9").unwrap().contains("bzip2 -d"));
    }
}
